//! The HTTP interface: health, cameras, counts, snapshots, events, metrics, and the page.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::FromRef;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router, middleware};
use serde_json::json;
use tokio::sync::oneshot;

mod access;
mod change;
mod files;
mod guard;
mod health;
mod limit;
mod listener;
mod read;
mod secure;
mod show;
mod snapshot;

use super::board::Board;
use super::cameras::Cameras;
use super::log;
use crate::config::Http;
use access::Access;
use guard::Guards;
use limit::Limits;
use listener::Answering;
use secure::Shown;
use snapshot::Studio;

/// How long requests may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// What requests are answered from.
#[derive(Clone, FromRef)]
struct App {
    board: Arc<Board>,
    cameras: Arc<Cameras>,
    access: Arc<Access>,
    studio: Arc<Studio>,
}

/// The server at work. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    certificate: Option<Arc<Shown>>,
    stop: Option<oneshot::Sender<()>>,
    finished: mpsc::Receiver<()>,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// The address cannot be listened on, or the certificate cannot be read.
    pub fn start(settings: &Http, board: Arc<Board>, cameras: Arc<Cameras>) -> Result<Self> {
        let listen = settings.listen;
        let certificate = settings.certificate.as_ref().map(Shown::open).transpose()?;
        let acceptor = certificate.as_ref().map(Shown::acceptor).transpose()?;
        let remedy = "choose another one with [http] listen; port 0 takes any that is free";
        let listener = TcpListener::bind(listen)
            .with_context(|| format!("cannot listen on {listen}: {remedy}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (finish, finished) = mpsc::channel();
        let access = Arc::new(Access::new(settings.token.clone(), certificate.is_some())?);
        let app = App { board, cameras, access: access.clone(), studio: Arc::default() };
        let limits = Arc::new(Limits::new(settings.rate_limit));
        // Whoever has the token is no page of elsewhere; a proxy on this machine has its own name.
        let loopback = address.ip().is_loopback() && settings.token.is_none();
        let guards = Guards { loopback, access, limits };
        let secure = acceptor.map(|acceptor| (acceptor, plain(app.clone(), &guards)));
        let answering = Answering { app: router(app, &guards), secure };
        let work = move || {
            if let Err(error) = runtime.block_on(listener::serve(listener, answering, stopped)) {
                log(&format!("the HTTP interface has stopped: {error}"));
            }
            // What blocks is not waited for.
            runtime.shutdown_background();
            // Nothing waits for it any more where the time was over.
            let _ = finish.send(());
        };
        thread::Builder::new().name("http".to_owned()).spawn(work).context("no thread for HTTP")?;
        Ok(Self { address, certificate, stop: Some(stop), finished })
    }

    /// Reads the certificate anew where it has changed.
    pub fn renew_certificate(&self) {
        if let Some(certificate) = &self.certificate {
            certificate.renew();
        }
    }

    /// The address of the page, as a browser on this machine takes it.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback: std::net::IpAddr = match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}/")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.finished.recv_timeout(FINISH);
    }
}

/// All that takes a token where one is set: method and path, as `openapi.json` describes them.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<App>)> {
    vec![
        ("get", "/metrics", get(read::metrics)),
        ("get", "/api/v1/cameras", get(read::cameras)),
        ("post", "/api/v1/cameras", post(change::add)),
        ("get", "/api/v1/cameras/{name}", get(read::camera)),
        ("put", "/api/v1/cameras/{name}", put(change::change)),
        ("delete", "/api/v1/cameras/{name}", delete(change::remove)),
        ("get", "/api/v1/cameras/{name}/snapshot", get(snapshot::snapshot)),
        ("post", "/api/v1/try", post(change::trial)),
        ("get", "/api/v1/engine", get(read::engine)),
        ("get", "/api/v1/counts", get(read::counts)),
        ("get", "/api/v1/events", get(read::events)),
        ("get", "/api/v1/sinks", get(read::sinks)),
        ("post", "/api/v1/sinks", post(change::add_sink)),
        ("get", "/api/v1/sinks/{name}", get(read::sink)),
        ("put", "/api/v1/sinks/{name}", put(change::change_sink)),
        ("delete", "/api/v1/sinks/{name}", delete(change::remove_sink)),
        ("get", "/api/v1/history", get(read::history)),
        ("post", "/api/v1/stream/add", post(change::stream_add)),
        ("post", "/api/v1/stream/remove", post(change::stream_remove)),
    ]
}

/// The checks of health.
fn health_routes() -> Vec<(&'static str, &'static str, MethodRouter<App>)> {
    vec![
        ("get", "/api/v1/health/live", get(health::live)),
        ("get", "/api/v1/health/ready", get(health::ready)),
        ("get", "/api/v1/health/startup", get(health::startup)),
    ]
}

/// What else is open to all who reach the address.
fn open_routes() -> Vec<(&'static str, &'static str, MethodRouter<App>)> {
    vec![
        ("get", "/api/v1/openapi.json", get(files::openapi)),
        ("post", "/api/v1/login", post(access::login)),
        ("post", "/api/v1/logout", post(access::logout)),
    ]
}

fn gather(routes: Vec<(&'static str, &'static str, MethodRouter<App>)>) -> Router<App> {
    routes.into_iter().fold(Router::new(), |router, (_, path, route)| router.route(path, route))
}

/// What answers those who do not speak TLS where it is spoken: health alone, as what asks for it on
/// this machine knows no authority.
fn plain(app: App, guards: &Guards) -> Router {
    let router = gather(health_routes()).fallback(|| async {
        error(StatusCode::BAD_REQUEST, "this port speaks TLS: its address begins with https://")
    });
    guards.put(router).with_state(app)
}

fn router(app: App, guards: &Guards) -> Router {
    let closed = gather(routes())
        .route_layer(middleware::from_fn_with_state(app.access.clone(), access::check));
    let open = gather(health_routes()).merge(gather(open_routes()));
    let router = closed.merge(open).merge(files::routes());
    let router = router
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is nothing of this path") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method")
        });
    guards.put(router).with_state(app)
}

/// What is wrong, for handlers that stop there.
pub struct Failed(StatusCode, String);

impl Failed {
    fn new(status: StatusCode, what: &str) -> Self {
        Self(status, what.to_owned())
    }
}

impl From<QueryRejection> for Failed {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

/// An answer that says what is wrong.
fn error(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_names_every_route_and_no_other() {
        let description: serde_json::Value = serde_json::from_str(files::OPENAPI).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let described: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .filter(|key| *key != "parameters")
                    .map(move |method| (method.clone(), path.clone()))
            })
            .collect();
        let routes = routes().into_iter().chain(health_routes()).chain(open_routes());
        let routes: BTreeSet<_> =
            routes.map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
        assert_eq!(described, routes);
    }
}
