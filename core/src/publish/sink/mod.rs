//! Where reports go in the end.

#[cfg(any(feature = "kafka", feature = "mqtt"))]
mod address;
mod file;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "mqtt")]
pub mod mqtt;
mod regular;
mod rotation;
mod stream;
#[cfg(feature = "mqtt")]
pub mod tls;
#[cfg(any(feature = "kafka", feature = "mqtt"))]
mod transit;
#[cfg(feature = "webhook")]
pub mod webhook;

use std::io;
use std::sync::Arc;

use thiserror::Error;

pub use rotation::Rotation;

/// One report as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The camera's id.
    pub camera: String,
    /// The counter's `unique-id`.
    pub unique_id: u32,
    /// The report in JSON, without a line feed.
    pub json: String,
}

/// What a sink has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How many reports, from the first one on, have been delivered.
    pub delivered: usize,
}

/// Delivers reports, one by one and in order.
///
/// A sink lives on the worker thread of its destination. It may wait for what it writes to, but
/// should return within [`TURN`] and say how far it has come, so that the worker can end. After an
/// error it is dropped, and another one is opened.
pub trait Sink: Send {
    /// Delivers `reports`, or the first of them. The next call goes on with the first report that
    /// was not delivered.
    ///
    /// A report is delivered when the other side has it for good: for a file, when the operating
    /// system has taken the whole line; for a broker, when it has acknowledged the message.
    ///
    /// # Errors
    /// The sink cannot go on. [`SinkError::delivered`] reports have been delivered. None of the
    /// others has left a trace in a file; a broker may have got them, and gets them again.
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError>;
}

/// How long one call of [`Sink::send`] waits for room.
pub const TURN: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a sink cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct SinkError {
    /// The reason, and what to do.
    pub reason: String,
    /// How many reports of the call were delivered before.
    pub delivered: usize,
    /// Time does not mend it: the location itself is wrong.
    pub permanent: bool,
}

impl SinkError {
    /// A fault that may pass.
    pub fn temporary(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), delivered: 0, permanent: false }
    }

    /// A wrong location.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), delivered: 0, permanent: true }
    }

    /// After `count` reports have been delivered.
    fn after(mut self, count: usize) -> Self {
        self.delivered += count;
        self
    }
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
            ReadOnlyFilesystem,
        };
        let permanent = matches!(
            error.kind(),
            InvalidFilename
                | InvalidInput
                | IsADirectory
                | NotADirectory
                | NotFound
                | PermissionDenied
                | ReadOnlyFilesystem
        );
        // Rust has no stable name for it.
        let permanent = permanent || error.raw_os_error() == Some(libc::ELOOP);
        Self { reason: error.to_string(), delivered: 0, permanent }
    }
}

/// What the user chose of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkSettings {
    /// A file that exists is continued instead of written anew.
    pub append: bool,
    /// When a file is begun anew.
    pub rotation: Rotation,
}

/// Takes remarks for a log: what a sink decided, in a sentence.
pub type Log = Arc<dyn Fn(String) + Send + Sync>;

/// Opens a sink; called again after each failure.
type Open = Box<dyn FnMut(&Log) -> Result<Box<dyn Sink>, SinkError> + Send>;

/// A location that a sink can be opened for.
pub struct Destination {
    /// Destinations with the same key share a sink.
    pub key: String,
    /// The location as messages name it.
    pub place: String,
    /// Opens the sink.
    pub open: Open,
}

/// A location of which no destination can be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LocationError {
    /// The scheme has no sink.
    #[error(
        "{location}: no reports can be sent to {scheme}:// (this version knows {known}); a path that looks like a \
         scheme is written as ./{location}"
    )]
    Scheme {
        /// The location.
        location: String,
        /// Its scheme.
        scheme: String,
        /// The schemes that have one.
        known: String,
    },
    /// The location is none of its scheme.
    #[error("{location}: {reason}")]
    Malformed {
        /// The location.
        location: String,
        /// What is wrong, and how it should be.
        reason: String,
    },
}

/// Makes a destination of what follows `SCHEME://`.
type Parse = fn(&str, &SinkSettings) -> Result<Destination, LocationError>;

/// The transports. A new one has its file in this folder and its line here.
const SCHEMES: &[(&str, Parse)] = &[
    ("file", file::from_url),
    #[cfg(feature = "webhook")]
    ("http", |rest, _| webhook::from_url(&format!("http://{rest}"))),
    #[cfg(feature = "webhook")]
    ("https", |rest, _| webhook::from_url(&format!("https://{rest}"))),
    #[cfg(feature = "kafka")]
    ("kafka", |rest, _| kafka::from_url(&format!("kafka://{rest}"))),
    #[cfg(feature = "kafka")]
    ("kafkas", |rest, _| kafka::from_url(&format!("kafkas://{rest}"))),
    #[cfg(feature = "mqtt")]
    ("mqtt", |rest, _| mqtt::from_url(&format!("mqtt://{rest}"))),
    #[cfg(feature = "mqtt")]
    ("mqtts", |rest, _| mqtt::from_url(&format!("mqtts://{rest}"))),
];

/// `location` without user name and password.
fn masked(location: &str) -> String {
    match location.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => {
            let rest = rest.rsplit_once('@').map_or("", |(_, rest)| rest);
            format!("{scheme}://***@{rest}")
        }
        _ => location.to_owned(),
    }
}

/// `text` with each `%` and two hexadecimal digits as the byte that they are. None where that is no
/// UTF-8 or holds a NUL.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// What is wrong with a connection, in words with a remedy where that is known.
#[cfg(any(feature = "kafka", feature = "mqtt"))]
pub fn tls_error(error: &str) -> String {
    let remedy = if error.contains("CaUsedAsEndEntity") {
        ": the server's certificate is that of an authority; make one for the server (CA:FALSE)"
    } else if error.contains("UnknownIssuer") {
        ": none of the authorities that are trusted vouches for the server"
    } else {
        ""
    };
    format!("TLS: {error}{remedy}")
}

impl Destination {
    /// The destination that `location` names: `SCHEME://...`, a path, or standard output where it
    /// is empty or `-`. Does no input or output.
    pub fn parse(location: &str, settings: &SinkSettings) -> Result<Self, LocationError> {
        if matches!(location, "" | "-") {
            return Ok(stream::standard(stream::Standard::Output));
        }
        let Some((scheme, rest)) =
            location.split_once("://").filter(|(scheme, _)| is_scheme(scheme))
        else {
            return file::from_path(location, settings);
        };
        match SCHEMES.iter().find(|(name, _)| *name == scheme) {
            Some((_, parse)) => parse(rest, settings),
            None => Err(LocationError::Scheme {
                location: masked(location),
                scheme: scheme.to_owned(),
                known: SCHEMES
                    .iter()
                    .map(|(name, _)| format!("{name}://"))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

/// As in RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(location: &str) -> String {
        let destination = Destination::parse(location, &SinkSettings::default());
        destination.map(|destination| destination.key).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn different_names_of_one_place_are_one_destination() {
        for name in ["-", "", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "file:///dev/stdout"] {
            assert_eq!(key(name), "standard output", "{name:?}");
        }
        let file = key("counts.jsonl");
        assert!(file.ends_with("/counts.jsonl") && file.starts_with('/'), "{file}");
        assert_eq!(key("./counts.jsonl"), file);
        assert_eq!(key(&format!("file://{file}")), file);
        assert_eq!(key("file:///tmp/a%20b%25.jsonl"), "/tmp/a b%.jsonl");
        assert_ne!(key("/dev/stderr"), key("-"));
    }

    #[test]
    fn location_that_has_no_sink_is_refused_by_name() {
        let said = key("ftp://me:s3cret@broker/counts");
        assert!(said.contains("ftp://***@broker/counts") && said.contains("file://"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
        for wrong in ["file://counts.jsonl", "file:///tmp/%zz", "file:///tmp/%00"] {
            assert!(key(wrong).starts_with(wrong), "{wrong}: {}", key(wrong));
        }
        // No scheme: a name that is unusual, and legal.
        assert!(key("1://x").ends_with("/1:/x"), "{}", key("1://x"));
    }
}
