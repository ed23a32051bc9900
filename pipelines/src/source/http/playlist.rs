//! Playlists of HTTP Live Streaming, RFC 8216.

use m3u8_rs::{ByteRange, KeyMethod, MasterPlaylist, MediaPlaylist, MediaSegment, Playlist};

use super::cipher::BLOCK;
use crate::source::{Address, Reason};

/// Pictures wider than this are not asked for where there are others.
const WIDTH: u64 = 1920;

/// Segments behind the newest one at which a live stream begins, RFC 8216, 6.3.3.
const BEHIND: usize = 3;

/// A place in a stream, and the bytes of it that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is.
    pub address: Address,
    /// The first and the last byte, where it is a part of that.
    pub range: Option<(u64, u64)>,
    /// How it is encrypted, where it is.
    pub lock: Option<Lock>,
}

/// Encryption with AES-128, RFC 8216, 4.3.2.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Where the key is.
    pub key: Address,
    /// The initialization vector.
    pub vector: [u8; BLOCK],
}

/// A segment of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub piece: Piece,
    /// What comes before the first segment that is read.
    pub header: Option<Piece>,
    /// It does not go on where the one before ends.
    pub is_new: bool,
}

/// What a playlist says.
#[derive(Debug, PartialEq, Eq)]
pub enum Listing {
    /// The stream is listed elsewhere.
    Elsewhere(Address),
    /// The stream.
    Stream(Stream),
}

/// A stream, as far as it is listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its segments.
    pub segments: Vec<Segment>,
    /// No other will follow.
    pub is_over: bool,
    /// Seconds of the longest segment.
    pub longest: u64,
}

/// Whether this is the beginning of a playlist.
pub fn is_playlist(text: &[u8]) -> bool {
    without_mark(text).starts_with(b"#EXTM3U")
}

/// The text without a byte order mark before it.
fn without_mark(text: &[u8]) -> &[u8] {
    text.trim_ascii_start().strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Reads a playlist that came from `base`.
///
/// # Errors
/// What is wrong with it.
pub fn read(base: &Address, text: &[u8]) -> Result<Listing, Reason> {
    let wrong = |what: &str| Reason::Content(format!("its HLS playlist {what}"));
    let text = without_mark(text);
    if !is_playlist(text) {
        return Err(wrong("does not begin with #EXTM3U"));
    }
    match m3u8_rs::parse_playlist_res(text) {
        Ok(Playlist::MasterPlaylist(list)) => choose(base, &list).map(Listing::Elsewhere),
        Ok(Playlist::MediaPlaylist(list)) => stream(base, &list).map(Listing::Stream),
        Err(_) => Err(wrong("cannot be read")),
    }
}

fn inside(base: &Address, reference: &str) -> Result<Address, Reason> {
    let address = base.join(reference).ok().filter(Address::is_http);
    let wrong = "its HLS playlist leads to an address that is none of HTTP";
    address.ok_or_else(|| Reason::Content(wrong.to_owned()))
}

/// The variant of the widest pictures that are not needlessly wide, of the highest rate of those.
fn choose(base: &Address, list: &MasterPlaylist) -> Result<Address, Reason> {
    let width = |width: Option<u64>| match width {
        // Too wide: the less, the better.
        Some(width) if width > WIDTH => (1, u64::MAX - width),
        // Not told: better than any that is too wide.
        width => (2, width.unwrap_or_default()),
    };
    let best = list.variants.iter().filter(|variant| !variant.is_i_frame).max_by_key(|variant| {
        (width(variant.resolution.map(|size| size.width)), variant.bandwidth)
    });
    match best {
        Some(variant) => inside(base, &variant.uri),
        None => Err(Reason::Content("its HLS playlist lists no stream".to_owned())),
    }
}

/// The bytes that a piece has, which begins at `next` where it does not say so.
fn range(range: &Option<ByteRange>, next: &mut u64) -> Option<(u64, u64)> {
    let range = range.as_ref().filter(|range| range.length > 0)?;
    let first = range.offset.unwrap_or(*next);
    *next = first.saturating_add(range.length);
    Some((first, *next - 1))
}

fn stream(base: &Address, list: &MediaPlaylist) -> Result<Stream, Reason> {
    let (mut header, mut next) = (None, 0);
    let mut segments = Vec::with_capacity(list.segments.len());
    let mut number = list.media_sequence;
    let mut key: Option<Key> = None;
    for segment in &list.segments {
        // A key holds until the next one.
        if let Some(told) = key_of(base, segment)? {
            key = told;
        }
        let lock = key.as_ref().map(|key| key.lock(number));
        if let Some(map) = &segment.map {
            let range = range(&map.byte_range, &mut 0);
            let lock = lock.clone();
            header = Some(Piece { address: inside(base, &map.uri)?, range, lock });
        }
        segments.push(Segment {
            number,
            piece: Piece {
                address: inside(base, &segment.uri)?,
                range: range(&segment.byte_range, &mut next),
                lock,
            },
            header: header.clone(),
            is_new: segment.discontinuity,
        });
        number = number.saturating_add(1);
    }
    Ok(Stream { segments, is_over: list.end_list, longest: list.target_duration })
}

/// A key of a playlist, which holds for several segments.
struct Key {
    address: Address,
    vector: Option<[u8; BLOCK]>,
}

impl Key {
    /// How the segment of that number is encrypted: its number is the vector where none is given.
    fn lock(&self, number: u64) -> Lock {
        let vector = self.vector.unwrap_or_else(|| u128::from(number).to_be_bytes());
        Lock { key: self.address.clone(), vector }
    }
}

/// The key that a playlist names before this segment; `Some(None)`: none from here on.
#[expect(clippy::option_option, reason = "whether one is named, and which")]
fn key_of(base: &Address, segment: &MediaSegment) -> Result<Option<Option<Key>>, Reason> {
    let wrong = |what: &str| Reason::Content(format!("its HLS stream is encrypted {what}"));
    let Some(key) = &segment.key else {
        // The crate takes `METHOD=NONE` for an unknown tag.
        let mut unknown = segment.unknown_tags.iter().filter(|tag| tag.tag == "X-KEY");
        return match unknown.next_back() {
            None => Ok(None),
            Some(tag) if tag.rest.as_deref().is_some_and(|rest| rest.contains("METHOD=NONE")) => {
                Ok(Some(None))
            }
            Some(_) => Err(wrong("in a way that cannot be read")),
        };
    };
    match &key.method {
        KeyMethod::None => return Ok(Some(None)),
        KeyMethod::AES128 if key.keyformat.as_deref().is_none_or(|form| form == "identity") => {}
        _ => return Err(wrong("in another way than AES-128, which is not read")),
    }
    let uri = key.uri.as_deref().ok_or_else(|| wrong("with a key that has no address"))?;
    let vector = match key.iv.as_deref() {
        Some(text) => {
            Some(vector(text).ok_or_else(|| wrong("with a vector that is none of 128 bits"))?)
        }
        None => None,
    };
    Ok(Some(Some(Key { address: inside(base, uri)?, vector })))
}

/// A number of 128 bits as RFC 8216 writes it, such as `0x1f`.
fn vector(text: &str) -> Option<[u8; BLOCK]> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let number = u128::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    Some(number.to_be_bytes())
}

impl Stream {
    /// The number of the segment to begin with: the first of what is over, one near the end of what
    /// is live.
    pub fn begin(&self) -> u64 {
        let place = if self.is_over { 0 } else { self.segments.len().saturating_sub(BEHIND) };
        self.segments.get(place).map_or(0, |segment| segment.number)
    }

    /// Whether the segment of that number is there, or is the next one.
    pub fn has(&self, number: u64) -> bool {
        match (self.segments.first(), self.segments.last()) {
            (Some(first), Some(last)) => {
                (first.number..=last.number.saturating_add(1)).contains(&number)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Address {
        "http://me:pw@gate:81/live/list.m3u8".parse().unwrap()
    }

    fn stream(text: &str) -> Stream {
        match read(&base(), text.as_bytes()) {
            Ok(Listing::Stream(stream)) => stream,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn live_stream_begins_near_its_end_and_a_recording_at_its_beginning() {
        let mut text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n\
                        #EXT-X-MEDIA-SEQUENCE:7\n"
            .to_owned();
        for number in 7..12 {
            text += &format!("#EXTINF:2.0,\nsegment{number}.ts\n");
        }
        let live = stream(&text);
        assert_eq!((live.begin(), live.longest, live.is_over), (9, 2, false));
        assert!(live.has(7) && live.has(12) && !live.has(6) && !live.has(13));
        let segment = &live.segments[2];
        assert_eq!(segment.piece.address.location(), "http://gate:81/live/segment9.ts");
        assert_eq!(segment.piece.address.credentials(), Some(("me", "pw")));
        let over = stream(&(text + "#EXT-X-ENDLIST\n"));
        assert_eq!((over.begin(), over.is_over, over.segments.len()), (7, true, 5));
    }

    #[test]
    fn parts_of_files_headers_and_breaks_are_told() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"50@0\"\n\
                    #EXT-X-BYTERANGE:100@50\n#EXTINF:4,\nall.mp4\n\
                    #EXT-X-BYTERANGE:20\n#EXTINF:4,\nall.mp4\n\
                    #EXT-X-DISCONTINUITY\n#EXTINF:4,\n/other.mp4\n";
        let stream = stream(text);
        let ranges: Vec<_> = stream.segments.iter().map(|segment| segment.piece.range).collect();
        assert_eq!(ranges, [Some((50, 149)), Some((150, 169)), None]);
        let header = stream.segments[1].header.clone().unwrap();
        assert_eq!(header.range, Some((0, 49)));
        assert!(stream.segments[2].is_new && !stream.segments[1].is_new);
    }

    #[test]
    fn key_holds_until_the_next_one() {
        let stream = stream(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:258\n\
             #EXTINF:2,\na.ts\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"one.key\"\n#EXTINF:2,\nb.ts\n#EXTINF:2,\nc.ts\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"http://keys/2\",IV=0xA0\n#EXTINF:2,\nd.ts\n\
             #EXT-X-KEY:METHOD=NONE\n#EXTINF:2,\ne.ts\n#EXTINF:2,\nf.ts\n",
        );
        let locks = stream.segments.iter().map(|segment| {
            let Lock { key, vector } = segment.piece.lock.as_ref()?;
            Some((key.location(), u128::from_be_bytes(*vector)))
        });
        let one = "http://gate:81/live/one.key";
        assert_eq!(
            locks.collect::<Vec<_>>(),
            [None, Some((one, 259)), Some((one, 260)), Some(("http://keys/2", 0xa0)), None, None]
        );
    }

    #[test]
    fn widest_stream_that_is_not_needlessly_wide_is_chosen() {
        let list = |variants: &[(&str, &str)]| {
            let mut text = "#EXTM3U\n".to_owned();
            for (size, name) in variants {
                text += &format!("#EXT-X-STREAM-INF:BANDWIDTH=1000{size}\n{name}\n");
            }
            match read(&base(), text.as_bytes()) {
                Ok(Listing::Elsewhere(address)) => address.location().to_owned(),
                other => panic!("{other:?}"),
            }
        };
        let wide = (",RESOLUTION=3840x2160", "wide.m3u8");
        let full = (",RESOLUTION=1920x1080", "full.m3u8");
        let small = (",RESOLUTION=640x360", "small.m3u8");
        assert_eq!(list(&[wide, full, small]), "http://gate:81/live/full.m3u8");
        assert_eq!(list(&[small, wide]), "http://gate:81/live/small.m3u8");
        assert_eq!(list(&[wide, ("", "any.m3u8")]), "http://gate:81/live/any.m3u8");
        assert_eq!(list(&[wide]), "http://gate:81/live/wide.m3u8");
    }

    #[test]
    fn what_is_wrong_with_a_playlist_is_told() {
        for (text, said) in [
            ("", "does not begin with #EXTM3U"),
            ("<html>", "does not begin with #EXTM3U"),
            (
                "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n\
                 #EXTINF:2,\na.ts\n",
                "in another way than AES-128",
            ),
            (
                "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",KEYFORMAT=\"com.apple\"\n\
                 #EXTINF:2,\na.ts\n",
                "in another way than AES-128",
            ),
            ("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\n#EXTINF:2,\na.ts\n", "has no address"),
            (
                "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0xz\n#EXTINF:2,\na.ts\n",
                "none of 128 bits",
            ),
            ("#EXTM3U\n#EXT-X-KEY:URI=\"k\"\n#EXTINF:2,\na.ts\n", "cannot be read"),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n", "none of HTTP"),
            ("#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n", "lists no stream"),
        ] {
            let error = read(&base(), text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(said) && error.is_lasting(), "{text}: {error}");
        }
        // Whatever comes, nothing panics.
        for text in [
            "#EXTM3U",
            "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:1,\na\n#EXTINF:1,\nb\n",
            "#EXTM3U\n#EXT-X-BYTERANGE:18446744073709551615@9\n#EXTINF:1,\na\n",
            "#EXTM3U\n#EXTINF:x\n\u{fffd}\n",
        ] {
            let _ = read(&base(), text.as_bytes());
        }
    }
}
