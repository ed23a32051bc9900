//! A client of one HTTP server, which keeps its connection between two requests.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use vehiclecount_core::publish::sink::tls;

use super::digest::Challenge;
use super::trust;
use crate::source::{Address, Reason, reason};

/// How long a connection, or the head of an answer, may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Servers that a request may be sent on to.
const REDIRECTS: usize = 5;

type Connection = SendRequest<Empty<Bytes>>;

/// A client of one HTTP server.
pub struct Client {
    insecure: bool,
    /// An open connection, and where it leads.
    open: Option<(Address, Connection)>,
    /// What the server asked for, and the address of its server.
    challenge: Option<(Address, Challenge)>,
}

/// An answer with status 200 or 206.
pub struct Answer {
    /// Where it came from, after redirections.
    pub address: Address,
    /// `Content-Type` in lower case, without parameters; empty where there is none.
    pub kind: String,
    /// It is the part of a file that was asked for.
    pub is_part: bool,
    /// What follows.
    pub body: Incoming,
}

impl Client {
    /// A client that takes every certificate if it is `insecure`.
    pub fn new(insecure: bool) -> Self {
        Self { insecure, open: None, challenge: None }
    }

    /// Asks for what is at `address`, or for a `range` of its bytes.
    ///
    /// # Errors
    /// No connection, or another answer.
    pub async fn get(
        &mut self,
        address: &Address,
        range: Option<(u64, u64)>,
    ) -> Result<Answer, Reason> {
        let mut address = address.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.answer(&address, range).await?;
            let status = answer.status();
            if !status.is_redirection() {
                return accepted(address, answer);
            }
            let place = text(answer.headers(), header::LOCATION);
            let place = place.and_then(|place| address.join(place).ok());
            let Some(next) = place.filter(Address::is_http) else {
                let words = "it sends its client on to an address that is none".to_owned();
                return Err(Reason::Content(words));
            };
            address = next;
        }
        Err(Reason::Content("it sends its client on and on".to_owned()))
    }

    /// The answer to a request, after the server has been given what it asks for.
    async fn answer(
        &mut self,
        address: &Address,
        range: Option<(u64, u64)>,
    ) -> Result<Response<Incoming>, Reason> {
        let mut was_answered = false;
        loop {
            let answer = self.send(address, range).await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            let asked = answer.headers().get_all(header::WWW_AUTHENTICATE);
            let asked = Challenge::strongest(asked.iter().filter_map(|one| one.to_str().ok()));
            // What it asked for before, such as a nonce, has grown old.
            self.challenge = None;
            match (address.credentials(), asked) {
                (None, _) => return Err(Reason::NoLogin("http")),
                (Some(_), None) => {
                    return Err(Reason::Content(
                        "it asks for a user name and a password in a way that is not known here: \
                     neither Basic nor Digest"
                            .to_owned(),
                    ));
                }
                (Some(_), Some(challenge)) if !was_answered => {
                    was_answered = true;
                    self.challenge = Some((address.clone(), challenge));
                }
                _ => return Err(Reason::Unauthorized),
            }
        }
    }

    /// The answer to one request.
    async fn send(
        &mut self,
        address: &Address,
        range: Option<(u64, u64)>,
    ) -> Result<Response<Incoming>, Reason> {
        let request = self.request(address, range)?;
        let open = self.open.take().filter(|(origin, _)| origin.has_origin_of(address));
        let (mut connection, was_open) = match open {
            // The answer before may not be read to its end.
            Some((_, connection)) if connection.is_ready() => (connection, true),
            _ => (within(connect(address, self.insecure)).await?, false),
        };
        let mut answer = within(ask(&mut connection, request.clone())).await;
        if answer.is_err() && was_open {
            // It was closed between two requests.
            connection = within(connect(address, self.insecure)).await?;
            answer = within(ask(&mut connection, request)).await;
        }
        let answer = answer?;
        self.open = Some((address.clone(), connection));
        Ok(answer)
    }

    fn request(
        &mut self,
        address: &Address,
        range: Option<(u64, u64)>,
    ) -> Result<Request<Empty<Bytes>>, Reason> {
        let other = |error: &dyn std::fmt::Display| Reason::Other(error.to_string());
        let path = address.path();
        let mut request = Request::get(&path)
            .header(header::HOST, address.authority())
            .header(header::USER_AGENT, concat!("vehicle-count/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*");
        if let Some((first, last)) = range {
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        if let (Some((origin, challenge)), Some(login)) =
            (&mut self.challenge, address.credentials())
            && origin.has_origin_of(address)
        {
            let answer = challenge.answer(login, "GET", &path).map_err(|error| other(&error))?;
            request = request.header(header::AUTHORIZATION, answer);
        }
        request.body(Empty::new()).map_err(|error| other(&error))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn accepted(address: Address, answer: Response<Incoming>) -> Result<Answer, Reason> {
    let status = answer.status();
    if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        let words = status.canonical_reason().unwrap_or_default().to_owned();
        return Err(Reason::Status(status.as_u16().into(), words));
    }
    let kind = text(answer.headers(), header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_part = status == StatusCode::PARTIAL_CONTENT;
    Ok(Answer { address, kind, is_part, body: answer.into_body() })
}

async fn within<T>(work: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(Reason::Unreached(format!("no answer for {} s", PATIENCE.as_secs()))),
    }
}

async fn ask(
    connection: &mut Connection,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, Reason> {
    connection.ready().await.map_err(|error| broken(&error))?;
    connection.send_request(request).await.map_err(|error| broken(&error))
}

/// Why a connection broke.
pub fn broken(error: &hyper::Error) -> Reason {
    if error.is_parse() || error.is_parse_too_large() {
        return Reason::Unreached("what answers does not speak HTTP".to_owned());
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Reason::Unreached(reason::CLOSED.to_owned());
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) if is_end(cause) => Reason::Unreached(reason::CLOSED.to_owned()),
        Some(cause) => Reason::Unreached(format!("the connection failed: {cause}")),
        None => Reason::Unreached(format!("the connection failed: {error}")),
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Connects to the server of `address`.
async fn connect(address: &Address, insecure: bool) -> Result<Connection, Reason> {
    let stream = reach(address.host(), address.port()).await.map_err(Reason::Unreached)?;
    let _ = stream.set_nodelay(true);
    if !address.is_tls() {
        return speak(stream).await;
    }
    let name = ServerName::try_from(address.host().to_owned())
        .map_err(|_| Reason::Unreached(format!("no certificate can be for {}", address.host())))?;
    let connector = TlsConnector::from(trusted(insecure)?);
    let stream = connector.connect(name, stream).await.map_err(|error| tls_words(&error))?;
    speak(stream).await
}

/// Begins to speak HTTP.
async fn speak<S>(stream: S) -> Result<Connection, Reason>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, work) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // It ends with the last of its two ends, and tells them why.
    tokio::spawn(work);
    Ok(connection)
}

/// A connection to `host`, or why there is none.
async fn reach(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| reason::unknown(host, &error))?.collect();
    let mut last = None;
    for address in addresses {
        match tokio::time::timeout(reason::PROBE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(reason::unreached(host, port, last))
}

/// Whom a client trusts. The system's authorities are read once.
fn trusted(insecure: bool) -> Result<Arc<ClientConfig>, Reason> {
    static TRUST: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    static ALL: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let config = match insecure {
        true => ALL.get_or_init(trust::everything),
        false => TRUST.get_or_init(|| tls::client(None)),
    };
    config.clone().map_err(|what| Reason::Certificate(format!("none can be checked: {what}")))
}

/// What is wrong with a connection that is to be encrypted.
fn tls_words(error: &io::Error) -> Reason {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(error)) => Reason::Certificate(trust::words(error)),
        Some(rustls::Error::InvalidMessage(_)) => Reason::Content(
            "what answers does not speak TLS; is its address http://...?".to_owned(),
        ),
        Some(error) => Reason::Unreached(format!("the TLS connection failed: {error}")),
        None if is_end(error) => Reason::Unreached(reason::CLOSED.to_owned()),
        None => Reason::Unreached(format!("the connection failed: {error}")),
    }
}
