//! An HTTP server that takes the records of a webhook.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc::tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::oneshot;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// What it was answered.
    pub status: u16,
}

impl Request {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The records in it.
    ///
    /// # Panics
    /// When it holds none.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("the body is JSON");
        body["records"].as_array().expect("it has records").clone()
    }
}

#[derive(Clone)]
struct Shared {
    requests: Sender<Request>,
    /// What the next requests are answered; afterwards 204.
    answers: Arc<Mutex<VecDeque<u16>>>,
    /// Largest body that is taken.
    room: usize,
}

/// The server. It ends when this is dropped.
pub struct Receiving {
    /// Its port.
    pub port: u16,
    /// What came.
    pub requests: Receiver<Request>,
    stop: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl Receiving {
    /// Listens at a port; 0: one that is free. It gives `answers` first, and then takes every body
    /// of up to `room` bytes.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(port: u16, answers: &[u16], room: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        listener.set_nonblocking(true).expect("it can be polled");
        let port = listener.local_addr().expect("it has an address").port();
        let (send, requests) = mpsc::channel();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        let shared = Shared { requests: send, answers, room };
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let app = Router::new().route("/hook/{*rest}", post(take)).with_state(shared);
                let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => drop(served),
                    _ = stopped => {}
                }
            });
            // The test may be over.
            let _ = end.send(());
        });
        Self { port, requests, stop: Some(stop), ended }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.ended.recv_timeout(crate::BOUND);
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    let next = shared.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let status = next.unwrap_or(if body.len() > shared.room { 413 } else { 204 });
    // The test may be over.
    let _ = shared.requests.send(Request { headers, body, status });
    StatusCode::from_u16(status).expect("a status of the test")
}

/// An HTTPS server with that certificate and key (PEM) that takes every request. Gives its port,
/// and the requests with their headers as they came.
///
/// # Panics
/// When it cannot listen, or the files are none.
pub fn secure(certificate: &Path, key: &Path) -> (u16, Receiver<String>) {
    let chain = CertificateDer::pem_file_iter(certificate).expect("a file of certificates");
    let chain = chain.map(|one| one.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is the certificate's");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let (send, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(config.clone()).expect("the settings hold");
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            let send = send.clone();
            thread::spawn(move || {
                while let Ok(request) = request(&mut stream) {
                    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                    if stream.get_mut().write_all(answer).is_err() || send.send(request).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, requests)
}

/// The next request of a connection, with its body.
fn request(stream: &mut impl BufRead) -> io::Result<String> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        head += &line;
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}
