//! An HTTP server on loopback that answers what a test says, with passwords and certificates: a
//! stand-in for cameras, and for what takes webhooks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glib::ChecksumType;
use gst::prelude::*;
use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rumqttc::tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its first line.
    pub line: String,
    /// Path and query.
    pub path: String,
    /// Its headers, each with its line break.
    pub headers: String,
}

impl Request {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map_or("", |(_, value)| value.trim())
    }

    /// A parameter of the header `Authorization`.
    fn parameter(&self, name: &str) -> String {
        let header = self.header("authorization");
        let value = header.split_once(&format!(" {name}=")).map_or("", |(_, value)| value);
        match value.strip_prefix('"') {
            Some(value) => value.split('"').next().unwrap_or_default().to_owned(),
            None => value.split(',').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether it carries this user name and password as *Basic* has it.
    pub fn has_basic(&self, user: &str, password: &str) -> bool {
        let login = glib::base64_encode(format!("{user}:{password}").as_bytes());
        self.header("authorization") == format!("Basic {login}")
    }

    /// Whether it carries this user name and password as *Digest* has it, for that nonce and the
    /// realm `camera`. The sums are GLib's.
    pub fn has_digest(&self, kind: ChecksumType, nonce: &str, login: (&str, &str)) -> bool {
        let sum = |text: String| {
            let sum = glib::compute_checksum_for_string(kind, &text);
            sum.expect("the kind is known").to_string()
        };
        let secret = sum(format!("{}:camera:{}", login.0, login.1));
        let request = sum(format!("GET:{}", self.path));
        let (count, cnonce) = (self.parameter("nc"), self.parameter("cnonce"));
        let response = sum(format!("{secret}:{nonce}:{count}:{cnonce}:auth:{request}"));
        self.header("authorization").starts_with("Digest ")
            && self.parameter("uri") == self.path
            && self.parameter("username") == login.0
            && self.parameter("response") == response
    }
}

/// What an answer is written to.
pub trait Peer: Read + Write {}

impl<T: Read + Write> Peer for T {}

/// Answers a request.
pub type Handler = dyn Fn(&Request, &mut dyn Peer) -> io::Result<()> + Send + Sync;

/// The server. It ends when it is dropped, and breaks all connections.
pub struct WebServer {
    /// Its port.
    pub port: u16,
    scheme: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    is_over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
}

impl WebServer {
    /// Answers at a port; 0: one that is free.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(
        port: u16,
        handler: impl Fn(&Request, &mut dyn Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(port, Box::new(handler), None)
    }

    /// Answers with TLS, with a certificate and a key in a file (PEM).
    ///
    /// # Panics
    /// When the file holds something else.
    pub fn secure(
        pem: &Path,
        handler: impl Fn(&Request, &mut dyn Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(pem).expect("a file of certificates");
        let chain = chain.map(|one| one.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(pem).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        Self::listen(0, Box::new(handler), Some(Arc::new(config)))
    }

    fn listen(port: u16, handler: Box<Handler>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (is_over, streams) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { is_over, streams, handler, tls });
        let all = shared.clone();
        let thread = thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if all.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let copy = stream.try_clone().expect("a connection can be held twice");
                all.streams.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
                let shared = all.clone();
                threads.push(thread::spawn(move || shared.serve(stream)));
            }
            for stream in all.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            // A handler that panics fails the test by its answer.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        Self { port, scheme, shared, thread: Some(thread) }
    }

    /// Where `path` is; `login` is what stands before the host, with its `@`.
    pub fn url(&self, login: &str, path: &str) -> String {
        format!("{}://{login}127.0.0.1:{}/{path}", self.scheme, self.port)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Answers the requests of a connection until it breaks, or until an answer has said that it
    /// ends with the connection.
    fn serve(&self, stream: TcpStream) {
        let copy = stream.try_clone().expect("a connection can be held twice");
        match self.tls.clone() {
            None => self.answer(BufReader::new(stream)),
            Some(config) => {
                let connection = ServerConnection::new(config).expect("the settings hold");
                self.answer(BufReader::new(StreamOwned::new(connection, stream)));
            }
        }
        // Copies hold it open, as that of the server does. It may be closed already.
        let _ = copy.shutdown(Shutdown::Both);
    }

    fn answer(&self, mut stream: BufReader<impl Peer>) {
        // A client that speaks TLS to a server that does not.
        if self.tls.is_none() && stream.fill_buf().is_ok_and(|first| first.first() == Some(&22)) {
            // It may be gone.
            let _ = stream.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            return;
        }
        while let Some(request) = request(&mut stream) {
            if (self.handler)(&request, stream.get_mut()).is_err() {
                return;
            }
        }
    }
}

/// The next request of a connection, whose body is passed over.
fn request(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = String::new();
    loop {
        let length = stream.read_line(&mut headers).ok()?;
        if headers.ends_with("\r\n\r\n") || length == 2 {
            break;
        }
        if length == 0 {
            return None;
        }
    }
    let request = Request { line, path, headers };
    let length: usize = request.header("content-length").parse().unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some(request)
}

/// The answer to a request with TLS for which the certificate in `pem` vouches; or why there is
/// none.
///
/// # Errors
/// The server is not there, or has another certificate.
///
/// # Panics
/// When `pem` holds no certificate.
pub fn ask_securely(port: u16, pem: &Path, path: &str, headers: &str) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(pem).expect("a certificate");
    roots.add(trusted).expect("it can be trusted");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("it is an address");
    let connection = ClientConnection::new(Arc::new(config), name).expect("the settings hold");
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(crate::BOUND))?;
    let mut stream = StreamOwned::new(connection, stream);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    // A server may close the connection without saying so before.
    let read = stream.read_to_end(&mut answer);
    match read {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// Writes a whole answer. `headers` are further ones, each with its line break.
///
/// # Errors
/// The connection is broken.
pub fn reply(
    peer: &mut dyn Peer,
    status: &str,
    kind: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    peer.write_all(&[head.as_bytes(), body].concat())?;
    peer.flush()
}

/// Asks for a user name and a password.
///
/// # Errors
/// The connection is broken.
pub fn ask(peer: &mut dyn Peer, challenge: &str) -> io::Result<()> {
    let header = format!("WWW-Authenticate: {challenge}\r\n");
    reply(peer, "401 Unauthorized", "text/html", &header, b"<html>no</html>")
}

/// Begins an answer of many pictures. It ends with the connection.
///
/// # Errors
/// The connection is broken.
pub fn begin_parts(peer: &mut dyn Peer) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";
    peer.write_all(head.as_bytes())
}

/// A picture of it, and the time until the next one.
///
/// # Errors
/// The connection is broken.
pub fn part(peer: &mut dyn Peer, picture: &[u8]) -> io::Result<()> {
    let length = picture.len();
    let head = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
    peer.write_all(&[head.as_bytes(), picture, b"\r\n"].concat())?;
    peer.flush()?;
    // A camera's own pace.
    thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// A red picture of that size as JPEG.
///
/// # Panics
/// When GStreamer cannot make it.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let line = format!(
        "videotestsrc num-buffers=1 pattern=red ! \
         video/x-raw,format=I420,width={width},height={height} ! jpegenc ! appsink name=end sync=false"
    );
    let pipeline = gst::parse::launch(&line).expect("its elements are there");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("it is a pipeline");
    let end = pipeline.by_name("end").expect("it has an end");
    let end = end.downcast::<gst_app::AppSink>().expect("that is an appsink");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let sample = end.pull_sample().expect("a picture comes");
    let buffer = sample.buffer().expect("a sample has a buffer");
    let jpeg = buffer.map_readable().expect("it can be read").to_vec();
    pipeline.set_state(gst::State::Null).expect("it stops");
    jpeg
}
