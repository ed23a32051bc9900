//! Texts without secrets: user information and passwords in the URLs of a text are masked.
//!
//! The rules mask too much rather than too little: a path that holds an `@` loses its host.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Keys, in lower case, of parameters in a query whose values are shown: what cameras take there
/// that is no secret. There is no end of names for passwords and tokens.
const SHOWN: [&str; 38] = [
    "action",
    "bitrate",
    "camera",
    "cameraid",
    "channel",
    "chan",
    "ch",
    "codec",
    "compression",
    "fps",
    "format",
    "framerate",
    "from",
    "height",
    "id",
    "line",
    "live",
    "media",
    "mode",
    "name",
    "profile",
    "proto",
    "quality",
    "rate",
    "res",
    "resolution",
    "rotation",
    "size",
    "snapshot",
    "stream",
    "streamtype",
    "subtype",
    "transportmode",
    "type",
    "unicast",
    "videocodec",
    "view",
    "width",
];

/// Parts of keys, in lower case, of parameters in a path whose values are secrets.
const SECRETS: [&str; 10] =
    ["pas", "pwd", "psw", "token", "secret", "auth", "key", "sig", "jwt", "credential"];

/// The forms of `://` and of `@`: plain, and percent-encoded inside another URL.
const AUTHORITY: [&str; 2] = ["://", "%3a%2f%2f"];
const AT: [&str; 2] = ["@", "%40"];
const QUERY: [&str; 2] = ["?", "%3f"];

/// `text` with the user information and the secret parameters of every URL masked. A URL ends at
/// white space.
pub fn text(text: &str) -> Cow<'_, str> {
    // ASCII letters alone change: positions are those in `text`.
    let lower = text.to_ascii_lowercase();
    let Some((mut start, mut length)) = first(&lower, &AUTHORITY) else {
        return Cow::Borrowed(text);
    };
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    loop {
        let begin = start + length;
        masked.push_str(&text[done..begin]);
        let blank =
            text[begin..].find(char::is_whitespace).map_or(text.len(), |length| begin + length);
        let next =
            first(&lower[begin..blank], &AUTHORITY).map(|(place, length)| (begin + place, length));
        done = next.map_or(blank, |(place, _)| place);
        mask(&text[begin..done], &lower[begin..done], &mut masked);
        let further =
            || first(&lower[done..], &AUTHORITY).map(|(place, length)| (done + place, length));
        match next.or_else(further) {
            Some(found) => (start, length) = found,
            None => break,
        }
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}

/// `text` as one URL to its end, white space included: what was given in the place of a URL.
pub fn url(whole: &str) -> String {
    match (whole.find("://"), whole.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            text(&format!("{}://{MASK}{}", &whole[..scheme], &whole[at..])).into_owned()
        }
        _ => text(whole).into_owned(),
    }
}

/// Masks what follows `://`.
fn mask(rest: &str, lower: &str, masked: &mut String) {
    let at = AT.iter().filter_map(|at| lower.rfind(at)).max();
    let path = at.unwrap_or(0);
    if at.is_some() {
        masked.push_str(MASK);
    }
    let query = QUERY.iter().filter_map(|mark| lower[path..].find(mark)).min();
    let query = query.map_or(rest.len(), |length| path + length);
    let (mut done, mut place) = (path, path);
    while let Some(found) = lower[place..].find('=') {
        let equals = place + found;
        place = equals + 1;
        let is_secret = if equals > query {
            let key = lower[done..equals].rsplit(['?', '&', ';']).next().unwrap_or_default();
            !SHOWN.contains(&key)
        } else {
            let head = &lower[done..equals];
            let word = |letter: char| letter.is_ascii_alphanumeric();
            let key = head.rsplit(|letter| !word(letter)).next().unwrap_or_default();
            SECRETS.iter().any(|part| key.contains(part))
        };
        let end = rest[place..].find(['&', ';']).map_or(rest.len(), |length| place + length);
        if is_secret && end > place {
            masked.push_str(&rest[done..place]);
            masked.push_str(MASK);
            (done, place) = (end, end);
        }
    }
    masked.push_str(&rest[done..]);
}

/// The first place of one of `words` in `text`, and the word's length.
fn first(text: &str, words: &[&str]) -> Option<(usize, usize)> {
    words.iter().filter_map(|word| Some((text.find(word)?, word.len()))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_masked_and_all_else_stays() {
        for (given, shown) in [
            ("nothing to hide: a@b, password=x", "nothing to hide: a@b, password=x"),
            ("rtsp://gate/stream", "rtsp://gate/stream"),
            ("rtsp://[::1]:8554/a?channel=c&d=", "rtsp://[::1]:8554/a?channel=c&d="),
            ("rtsp://admin:secret@gate/stream", "rtsp://***@gate/stream"),
            ("RTSPS://admin:secret@gate", "RTSPS://***@gate"),
            ("rtsp://admin@gate/", "rtsp://***@gate/"),
            ("rtsp://admin:p@ss@word@gate/", "rtsp://***@gate/"),
            ("rtsp://admin:p%40ss%3Aword@gate/", "rtsp://***@gate/"),
            ("rtsp://admin:a/b?c#d@gate/", "rtsp://***@gate/"),
            ("rtsp://admin:\"'<>`@gate/", "rtsp://***@gate/"),
            ("rtsp://ädmin:pässwörd@gäte/ü", "rtsp://***@gäte/ü"),
            (
                "Could not open \"rtsp://a:b@c/\" (rtsp://a:b@c/), rtsp://d",
                "Could not open \"rtsp://***@c/\" (rtsp://***@c/), rtsp://d",
            ),
            ("rtsp://one/ or rtsp://a:b@two/", "rtsp://one/ or rtsp://***@two/"),
            ("rtsp://one/,rtsp://a:b@two/", "rtsp://one/,rtsp://***@two/"),
            (
                "rtsp://gate/?user=me&password=secret&channel=1",
                "rtsp://gate/?user=***&password=***&channel=1",
            ),
            (
                "rtsp://gate/user=me_password=se_cret_channel=1.sdp",
                "rtsp://gate/user=me_password=***",
            ),
            ("rtsp://gate/?PWD=a=b;token=t", "rtsp://gate/?PWD=***;token=***"),
            (
                "http://gate/?loginpas=a&userpwd=b&Channel=2",
                "http://gate/?loginpas=***&userpwd=***&Channel=2",
            ),
            (
                "http://gate/?accessToken=a&sig=b;jwt=c",
                "http://gate/?accessToken=***&sig=***;jwt=***",
            ),
            ("http://gate/?width=640&resolution=a=b", "http://gate/?width=640&resolution=a=***"),
            ("rtsp://gate/loginpas=a&channel=1", "rtsp://gate/loginpas=***&channel=1"),
            ("rtsp://gate/my_accessToken=a", "rtsp://gate/my_accessToken=***"),
            ("rtsp://gate/a=b?c=d", "rtsp://gate/a=b?c=***"),
            ("rtsp://a:b@gate/?pass=word", "rtsp://***@gate/?pass=***"),
            ("?to=rtsp%3A%2F%2Fadmin%3Asecret%40gate%2Fx", "?to=rtsp%3A%2F%2F***%40gate%2Fx"),
            ("://", "://"),
            ("://@", "://***@"),
        ] {
            assert_eq!(text(given), shown, "{given}");
        }
    }

    #[test]
    fn what_was_given_as_a_url_is_one_to_its_end() {
        assert_eq!(url("rtsp://admin:my secret@gate/stream"), "rtsp://***@gate/stream");
        assert_eq!(url("http://admin:a://b c@gate"), "http://***@gate");
        assert_eq!(url("admin:secret"), "admin:secret");
        assert_eq!(url("rtsp://gate/?pwd=x"), "rtsp://gate/?pwd=***");
    }
}
