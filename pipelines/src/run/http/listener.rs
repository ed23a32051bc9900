//! Connections: so many at once, each with a bound on how long it may be silent.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::FINISH;
use super::limit::Client;
use super::secure::HANDSHAKE;

/// Connections at once. Further ones wait.
const CONNECTIONS: usize = 256;

/// How long a connection may take to send the head of a request, or stay open without one.
const HEAD: Duration = Duration::from_secs(10);

/// What answers.
#[derive(Clone)]
pub struct Answering {
    /// Answers all that is asked.
    pub app: Router,
    /// What speaks TLS, and what answers those who do not.
    pub secure: Option<(TlsAcceptor, Router)>,
}

/// Serves until `stopped` is told or dropped.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    answering: Answering,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            _ = &mut stopped => break,
        };
        let Ok((stream, client)) = accepted else {
            // Such as too many open files: that passes.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let (answering, watcher) = (answering.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(stream, client.ip(), answering, watcher).await;
            drop(place);
        });
    }
    let _ = timeout(FINISH, graceful.shutdown()).await;
    Ok(())
}

/// A connection, to its end.
async fn connection(stream: TcpStream, client: IpAddr, answering: Answering, watcher: Watcher) {
    let Answering { app, secure } = answering;
    let Some((acceptor, plain)) = secure else { return talk(stream, client, app, watcher).await };
    let mut first = [0];
    match timeout(HEAD, stream.peek(&mut first)).await {
        Ok(Ok(1..)) if first[0] == HANDSHAKE => {
            // Who does not take the certificate says so by going.
            if let Ok(Ok(stream)) = timeout(HEAD, acceptor.accept(stream)).await {
                talk(stream, client, app, watcher).await;
            }
        }
        Ok(Ok(1..)) => talk(stream, client, plain, watcher).await,
        _ => {}
    }
}

/// HTTP on a connection.
async fn talk<S>(stream: S, client: IpAddr, app: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<_>| {
        request.extensions_mut().insert(Client(client));
        app.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A connection that breaks is the client's affair.
    let _ = watcher.watch(connection).await;
}
