//! An HTTP server that takes the records of a webhook.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
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
