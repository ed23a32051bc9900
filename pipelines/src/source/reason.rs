//! Why a source failed, in words for the person who can do something about it.
//!
//! GStreamer's own messages are translated, and often general ("Internal data stream error."). What
//! is told apart here is told apart by codes, details and debug texts, which are neither.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::address::Address;
use super::redact;

/// Why a source failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server answered a request with this status.
    Status(u32, String),
    /// It asks for a user name and a password that are right.
    Unauthorized,
    /// It asks for a user name and a password, and none is given; the scheme of its address.
    NoLogin(&'static str),
    /// No connection, or one that broke before the server answered.
    Connection(String),
    /// As [`Reason::Connection`], in words.
    Unreached(String),
    /// The certificate of the server is not trusted, because of this.
    Certificate(String),
    /// What comes is nothing that can be read.
    Content(String),
    /// An element that would read or decode the stream is missing.
    Missing(String),
    /// The stream itself was not told of; this is what the element that lost it says.
    Flow(String),
    /// Anything else, in the words of the element.
    Other(String),
}

impl Reason {
    /// The reason that an error message gives. It holds no secret.
    pub fn of(error: &gst::message::Error) -> Self {
        let debug = error.debug();
        let detail = detail(debug.as_deref().unwrap_or_default());
        let details = error.details();
        let error = error.error();
        let words = || {
            let said = error.message().trim_end_matches(['.', '\n']);
            let text =
                if detail.is_empty() { said.to_owned() } else { format!("{said}: {detail}") };
            redact::text(&text).into_owned()
        };
        if let Some(code) = details.and_then(|details| details.get::<u32>("rtsp-status-code").ok())
        {
            let text = details.and_then(|details| details.get::<String>("rtsp-status-reason").ok());
            return match code {
                401 => Self::Unauthorized,
                code => Self::Status(code, redact::text(&text.unwrap_or_default()).into_owned()),
            };
        }
        if error.matches(gst::ResourceError::NotAuthorized) {
            return Self::Unauthorized;
        }
        if error.matches(gst::CoreError::MissingPlugin)
            || error.matches(gst::StreamError::CodecNotFound)
        {
            return Self::Missing(words());
        }
        // rtspsrc: the result of a connection, a request or an answer, in brackets.
        let result = detail.strip_suffix(')').and_then(|detail| detail.rsplit_once('('));
        if let Some((what, result)) = result {
            let known =
                ["Failed to connect.", "Could not send message.", "Could not receive message."];
            if known.contains(&what.trim()) {
                return Self::Connection(result.to_owned());
            }
        }
        // GST_ELEMENT_FLOW_ERROR.
        if let Some(flow) = detail.strip_prefix("streaming stopped, reason ") {
            return Self::Flow(flow.split(" (").next().unwrap_or(flow).to_owned());
        }
        Self::Other(words())
    }
}

impl Reason {
    /// Whether it does not pass by itself.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Unauthorized
            | Self::NoLogin(_)
            | Self::Missing(_)
            | Self::Certificate(_)
            | Self::Content(_) => true,
            // It took too long; it was asked too often.
            Self::Status(code, _) => (400..500).contains(code) && ![408, 429].contains(code),
            _ => false,
        }
    }

    /// Whether the camera may lock out those who try too often.
    pub fn is_login(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::NoLogin(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthorized => f.write_str("it refuses the user name or the password (401)"),
            Self::NoLogin(scheme) => write!(
                f,
                "it asks for a user name and a password: {scheme}://USER:PASSWORD@... (401)"
            ),
            Self::Certificate(what) => write!(f, "its certificate is not trusted: {what}"),
            Self::Status(404, _) => f.write_str("it has no stream of that path (404)"),
            Self::Status(code, text) if text.is_empty() => {
                write!(f, "it answers with status {code}")
            }
            Self::Status(code, text) => write!(f, "it answers {code} {text}"),
            Self::Connection(result) if result == "Received end-of-file" => f.write_str(CLOSED),
            Self::Connection(result) if result == "Parse error" => {
                f.write_str("what answers does not speak RTSP")
            }
            Self::Connection(result) => write!(f, "the connection failed: {result}"),
            Self::Missing(what) => write!(f, "no installed GStreamer element decodes it: {what}"),
            Self::Flow(flow) => write!(f, "the stream stopped: {flow}"),
            Self::Unreached(text) | Self::Content(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

/// What an element adds for developers, without the place in its source.
fn detail(debug: &str) -> &str {
    debug.split_once('\n').map_or("", |(_, detail)| detail).trim()
}

/// A server has closed the connection.
pub const CLOSED: &str = "it closed the connection";

/// How long a connection is tried for the reason of its failure.
pub const PROBE: Duration = Duration::from_secs(4);

/// Finds out, on a thread of its own, why no connection to `address` comes about: rtspsrc does not
/// tell. The reason comes out of the channel; nothing does if the connection comes about.
pub fn probe(address: &Address) -> mpsc::Receiver<String> {
    let (send, reason) = mpsc::channel();
    let (host, port) = (address.host().to_owned(), address.port());
    let work = move || {
        if let Some(reason) = unreachable(&host, port) {
            // The source may be gone by now.
            let _ = send.send(reason);
        }
    };
    // Without a thread the reason stays general.
    let _ = thread::Builder::new().name("source-probe".to_owned()).spawn(work);
    reason
}

/// Why `host` cannot be reached on `port`, if so.
fn unreachable(host: &str, port: u16) -> Option<String> {
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Some(unknown(host, &error)),
    };
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, PROBE) {
            Ok(_) => return None,
            Err(error) => last = Some(error),
        }
    }
    Some(unreached(host, port, last))
}

/// The name of `host` cannot be resolved.
pub fn unknown(host: &str, error: &io::Error) -> String {
    format!("the host {host} is not known: {error}")
}

/// Why the last address of `host`, of which there may be none, was not reached.
pub fn unreached(host: &str, port: u16, last: Option<io::Error>) -> String {
    // As it stands in a URL.
    let place =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match last {
        None => format!("the host {host} has no address"),
        Some(error) => match error.kind() {
            ErrorKind::ConnectionRefused => format!("{place} refuses the connection"),
            ErrorKind::TimedOut => format!("{place} does not answer"),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                format!("no route leads to {place}")
            }
            _ => format!("{place}: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(domain: impl gst::MessageErrorDomain, text: &str, debug: &str) -> Reason {
        gst::init().unwrap();
        let debug = format!("../gst/x.c(12): x_y (): /GstPipeline:p/GstX:x:\n{debug}");
        let message = gst::message::Error::builder(domain, text).debug(&debug).build();
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        Reason::of(error)
    }

    #[test]
    fn general_errors_become_what_happened() {
        use gst::{CoreError, ResourceError, StreamError};
        for (reason, said) in [
            (reason(ResourceError::NotAuthorized, "Unauthorized", ""), "user name or the password"),
            (
                reason(
                    ResourceError::OpenReadWrite,
                    "Could not open.",
                    "Failed to connect. (Generic error)",
                ),
                "connection failed: Generic error",
            ),
            (
                reason(
                    ResourceError::Read,
                    "Nicht lesbar.",
                    "Could not receive message. (Received end-of-file)",
                ),
                "it closed the connection",
            ),
            (
                reason(
                    StreamError::Failed,
                    "Internes Problem.",
                    "streaming stopped, reason not-negotiated (-4)",
                ),
                "the stream stopped: not-negotiated",
            ),
            (
                reason(
                    ResourceError::Read,
                    "Could not read.",
                    "Could not receive message. (Parse error)",
                ),
                "does not speak RTSP",
            ),
            (
                reason(CoreError::MissingPlugin, "Your installation lacks a plug-in.", ""),
                "lacks a plug-in",
            ),
            (
                reason(
                    ResourceError::OpenRead,
                    "Cannot open \"x\".",
                    "system error: Permission denied",
                ),
                "Cannot open \"x\": system error: Permission denied",
            ),
            (
                reason(StreamError::TypeNotFound, "This appears to be a text file", ""),
                "This appears to be a text file",
            ),
        ] {
            let text = reason.to_string();
            assert!(text.contains(said), "{text} lacks {said}");
        }
    }

    #[test]
    fn the_status_of_an_answer_is_told() {
        gst::init().unwrap();
        for (code, text, said) in [
            (401u32, "Unauthorized", "the password (401)"),
            (404, "Not Found", "no stream of that path"),
            (503, "Service Unavailable", "it answers 503 Service Unavailable"),
            (461, "", "it answers with status 461"),
            (400, "see rtsp://me:s3cret@gate/", "it answers 400 see rtsp://***@gate/"),
        ] {
            let details = gst::Structure::builder("details")
                .field("rtsp-status-code", code)
                .field("rtsp-status-reason", text)
                .build();
            let message = gst::message::Error::builder(gst::ResourceError::Read, "Unhandled error");
            let message = message.details(details).build();
            let gst::MessageView::Error(error) = message.view() else { unreachable!() };
            let text = Reason::of(error).to_string();
            assert!(text.contains(said) && !text.contains("Unhandled"), "{text} lacks {said}");
        }
    }

    #[test]
    fn no_error_tells_a_password() {
        let url = "rtsp://me:s3cret@gate/";
        let text =
            reason(gst::ResourceError::NotFound, url, &format!("{url} is {url}")).to_string();
        assert!(!text.contains("s3cret") && text.contains("gate"), "{text}");
    }

    #[test]
    fn what_cannot_be_reached_is_told_by_name() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(unreachable("127.0.0.1", port), None);
        drop(taken);
        assert_eq!(
            unreachable("127.0.0.1", port),
            Some(format!("127.0.0.1:{port} refuses the connection"))
        );
        let unknown = unreachable("no-such-host.invalid", 554).unwrap();
        assert!(unknown.starts_with("the host no-such-host.invalid is not known"), "{unknown}");
        assert!(unreachable("::1", port).unwrap().contains(&format!("[::1]:{port}")));
    }
}
