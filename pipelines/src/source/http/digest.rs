//! Answers to what an HTTP server asks before it gives pictures: *Basic*, RFC 7617, and *Digest*,
//! RFC 7616, with MD5 and SHA-256.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use sha2::Sha256;

/// How a server asks for user name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// They are sent as they are.
    Basic,
    /// They are sent as a digest.
    Digest(DigestChallenge),
}

/// What goes into a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestChallenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// The name as the server gives it, such as `SHA-256-sess`; absent: MD5.
    algorithm: Option<String>,
    /// Whether the server takes `qop=auth`.
    has_qop: bool,
    /// Requests that were answered with this nonce.
    count: u32,
}

impl Challenge {
    /// The strongest of the challenges in the values of `WWW-Authenticate` that is understood.
    pub fn strongest<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut best = None;
        for (scheme, parameters) in headers.flat_map(split) {
            match scheme.to_ascii_lowercase().as_str() {
                "digest" => {
                    let digest = DigestChallenge::new(&parameters);
                    let is_better = match (&best, &digest) {
                        (_, None) => false,
                        (Some(Self::Digest(best)), Some(digest)) => {
                            digest.is_sha256() && !best.is_sha256()
                        }
                        _ => true,
                    };
                    if is_better {
                        best = digest.map(Self::Digest);
                    }
                }
                "basic" => best = best.or(Some(Self::Basic)),
                _ => {}
            }
        }
        best
    }

    /// The value of `Authorization` for a request of `method` and `path`.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn answer(
        &mut self,
        (user, password): (&str, &str),
        method: &str,
        path: &str,
    ) -> Result<String, getrandom::Error> {
        match self {
            Self::Basic => {
                Ok(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::Digest(digest) => {
                let mut random = [0; 8];
                getrandom::fill(&mut random)?;
                Ok(digest.answer((user, password), method, path, &hex(&random)))
            }
        }
    }
}

impl DigestChallenge {
    fn new(parameters: &[(String, String)]) -> Option<Self> {
        let of = |key: &str| {
            parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
        };
        let digest = Self {
            realm: of("realm")?,
            nonce: of("nonce")?,
            opaque: of("opaque"),
            algorithm: of("algorithm"),
            has_qop: false,
            count: 0,
        };
        let qop = of("qop");
        let has_qop =
            qop.as_deref().is_some_and(|qop| qop.split(',').any(|one| one.trim() == "auth"));
        // One that protects bodies alone is none of ours.
        let is_known = ["md5", "sha-256"].contains(&digest.algorithm_base().as_str());
        (is_known && (has_qop || qop.is_none())).then_some(Self { has_qop, ..digest })
    }

    /// The algorithm in lower case, without `-sess`.
    fn algorithm_base(&self) -> String {
        let name = self.algorithm.as_deref().unwrap_or("MD5").to_ascii_lowercase();
        name.strip_suffix("-sess").unwrap_or(&name).to_owned()
    }

    fn is_sha256(&self) -> bool {
        self.algorithm_base() == "sha-256"
    }

    fn hash(&self, text: &str) -> String {
        match self.is_sha256() {
            true => hex(&Sha256::digest(text)),
            false => hex(&Md5::digest(text)),
        }
    }

    /// RFC 7616, 3.4.1.
    fn answer(
        &mut self,
        (user, password): (&str, &str),
        method: &str,
        path: &str,
        cnonce: &str,
    ) -> String {
        self.count += 1;
        let Self { realm, nonce, .. } = &*self;
        let mut secret = self.hash(&format!("{user}:{realm}:{password}"));
        let has_session = self
            .algorithm
            .as_ref()
            .is_some_and(|name| name.to_ascii_lowercase().ends_with("-sess"));
        if has_session {
            secret = self.hash(&format!("{secret}:{nonce}:{cnonce}"));
        }
        let request = self.hash(&format!("{method}:{path}"));
        let count = format!("{:08x}", self.count);
        let response = match self.has_qop {
            true => self.hash(&format!("{secret}:{nonce}:{count}:{cnonce}:auth:{request}")),
            false => self.hash(&format!("{secret}:{nonce}:{request}")),
        };
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut answer = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\"",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            quoted(path)
        );
        if let Some(algorithm) = &self.algorithm {
            let _ = write!(answer, ", algorithm={algorithm}");
        }
        if self.has_qop {
            let _ = write!(answer, ", qop=auth, nc={count}");
        }
        if self.has_qop || has_session {
            let _ = write!(answer, ", cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(answer, ", opaque=\"{}\"", quoted(opaque));
        }
        answer
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A scheme and its parameters, whose names are in lower case.
type Offer = (String, Vec<(String, String)>);

/// The challenges of one header, RFC 9110, 11.6.1: commas stand between parameters and between
/// challenges alike.
fn split(header: &str) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // A sign that stands nowhere in a challenge.
            let mut letters = rest.chars();
            if letters.next().is_none() {
                return offers;
            }
            rest = letters.as_str();
            continue;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = unquote(value.trim_start());
                if let Some((_, parameters)) = offers.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                offers.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// The value at the beginning of `text`, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[place + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(header: &str) -> DigestChallenge {
        match Challenge::strongest([header].into_iter()) {
            Some(Challenge::Digest(digest)) => digest,
            other => panic!("{header}: {other:?}"),
        }
    }

    #[test]
    fn answers_are_those_of_the_standards_examples() {
        // RFC 7616, 3.9.1.
        let parameters = "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                          nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                          opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let mut digest = digest(&format!("Digest algorithm={algorithm}, {parameters}"));
            let answer =
                digest.answer(("Mufasa", "Circle of Life"), "GET", "/dir/index.html", cnonce);
            assert!(answer.contains(&format!("response=\"{response}\"")), "{answer}");
            assert!(answer.contains("qop=auth, nc=00000001"), "{answer}");
            assert!(answer.contains("opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""));
        }
        // RFC 2069, 2.4 with its erratum: no qop.
        let mut old = digest(
            "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        );
        let answer = old.answer(("Mufasa", "CircleOfLife"), "GET", "/dir/index.html", "x");
        assert!(answer.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{answer}");
        assert!(!answer.contains("cnonce"), "{answer}");
    }

    #[test]
    fn strongest_challenge_that_is_understood_is_taken() {
        let of = |headers: &[&str]| Challenge::strongest(headers.iter().copied());
        assert_eq!(of(&["Basic realm=\"a, b=c\""]), Some(Challenge::Basic));
        assert_eq!(of(&["Negotiate", "basic realm=x"]), Some(Challenge::Basic));
        let both = "Basic realm=\"x\", Digest realm=\"y\\\"z\",nonce=\"n\" , qop = \"auth\"";
        let Some(Challenge::Digest(digest)) = of(&[both]) else { panic!("{both}") };
        assert_eq!((digest.realm.as_str(), digest.has_qop), ("y\"z", true));
        let sha = "Digest realm=\"y\", nonce=\"n\", algorithm=SHA-256";
        let md5 = "Digest realm=\"y\", nonce=\"n\", algorithm=MD5";
        for headers in [[sha, md5], [md5, sha]] {
            let Some(Challenge::Digest(digest)) = of(&headers) else { panic!() };
            assert!(digest.is_sha256());
        }
        for none in [
            "",
            "Bearer",
            "Digest realm=\"x\"",
            "Digest realm=\"x\", nonce=\"n\", qop=\"auth-int\"",
            "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256",
            "Digest realm=\"x\", nonce=\"n",
            ",,=,\"",
        ] {
            let taken = of(&[none]);
            // A quotation that does not end is taken as far as it goes.
            assert!(taken.is_none() || none.ends_with('n'), "{none}: {taken:?}");
        }
    }
}
