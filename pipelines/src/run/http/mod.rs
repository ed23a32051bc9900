//! The HTTP interface: health, cameras, counts, events, metrics, and the page.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use vehiclecount_core::report::{FrameCount, FrameReport};
use vehiclecount_core::window::WINDOWS;

use super::board::{Board, Camera, unix_time};
use super::history::{self, Question};
use super::log;
use super::metrics;
use crate::config::Place;

/// The recorder is taken for dead after this long.
const DEAD: Duration = Duration::from_secs(30);

/// How long requests may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// The server at work. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    finished: mpsc::Receiver<()>,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(listen: SocketAddr, board: Arc<Board>) -> Result<Self> {
        let remedy = "choose another one with [http] listen; port 0 takes any that is free";
        let listener = TcpListener::bind(listen)
            .with_context(|| format!("cannot listen on {listen}: {remedy}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (finish, finished) = mpsc::channel();
        let app = router(board, address.ip().is_loopback());
        let work = move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let stopped = async move { drop(stopped.await) };
                axum::serve(listener, app).with_graceful_shutdown(stopped).await
            });
            if let Err(error) = served {
                log(&format!("the HTTP interface has stopped: {error}"));
            }
            // Nothing waits for it any more where the time was over.
            let _ = finish.send(());
        };
        thread::Builder::new().name("http".to_owned()).spawn(work).context("no thread for HTTP")?;
        Ok(Self { address, stop: Some(stop), finished })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the page for a person at this machine.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback: std::net::IpAddr = match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        format!("http://{address}/")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.finished.recv_timeout(FINISH);
    }
}

fn router(board: Arc<Board>, loopback: bool) -> Router {
    let api = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/startup", get(startup))
        .route("/cameras", get(cameras))
        .route("/cameras/{name}", get(camera))
        .route("/counts", get(counts))
        .route("/events", get(events))
        .route("/sinks", get(sinks))
        .route("/history", get(history));
    let app =
        Router::new().route("/", get(page)).route("/metrics", get(scrape)).nest("/api/v1", api);
    let app =
        app.fallback(|| async { error(StatusCode::NOT_FOUND, "there is nothing of this path") });
    let app = app.layer(middleware::from_fn(headers));
    let app = if loopback { app.layer(middleware::from_fn(known_host)) } else { app };
    app.with_state(board)
}

fn error(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}

/// A page of elsewhere that resolves its own name to the loopback address is not to read this one.
async fn known_host(request: Request, next: Next) -> Response {
    let host =
        request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    if name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok() {
        return next.run(request).await;
    }
    error(StatusCode::FORBIDDEN, "this interface is reached by localhost or by its address alone")
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn page() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("page.html"))
        .into_response()
}

async fn scrape(Shared(board): Shared<Arc<Board>>) -> Response {
    match metrics::text(board) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
    }
}

/// A check of health, which is right or names what is not.
fn health(wrong: Option<String>) -> Response {
    match wrong {
        None => Json(json!({ "status": "ok" })).into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "status": "unavailable", "reason": reason })),
        )
            .into_response(),
    }
}

fn dead(board: &Board) -> Option<String> {
    let silence = board.silence();
    let started = board.engine().is_some();
    (started && silence > DEAD)
        .then(|| format!("counts were not recorded for {} s", silence.as_secs()))
}

async fn live(Shared(board): Shared<Arc<Board>>) -> Response {
    health(dead(&board))
}

async fn startup(Shared(board): Shared<Arc<Board>>) -> Response {
    health(board.engine().is_none().then(|| "the engine is being opened".to_owned()))
}

/// A camera that fails does not make the service unavailable.
async fn ready(Shared(board): Shared<Arc<Board>>) -> Response {
    let opening = board.engine().is_none().then(|| "the engine is being opened".to_owned());
    health(opening.or_else(|| dead(&board)))
}

async fn cameras(Shared(board): Shared<Arc<Board>>) -> Json<Value> {
    let cameras: Vec<_> = board.cameras.iter().map(describe).collect();
    Json(json!({ "engine": board.engine(), "cameras": cameras }))
}

async fn camera(Shared(board): Shared<Arc<Board>>, Path(name): Path<String>) -> Response {
    match board.camera(&name) {
        Some(camera) => Json(describe(camera)).into_response(),
        None => error(StatusCode::NOT_FOUND, "there is no camera of that name"),
    }
}

async fn counts(Shared(board): Shared<Arc<Board>>) -> Json<Value> {
    let counts = board.cameras.iter().map(|camera| {
        let mut count = json!({ "camera": camera.settings.name });
        merge(&mut count, &counted(camera.current()));
        count
    });
    Json(json!({ "counts": counts.collect::<Vec<_>>() }))
}

async fn events(Shared(board): Shared<Arc<Board>>) -> Json<Value> {
    Json(json!({ "events": board.events() }))
}

async fn sinks(Shared(board): Shared<Arc<Board>>) -> Json<Value> {
    let figures: Vec<_> = board.sinks.iter().map(|sink| sink.figures()).collect();
    Json(json!({ "sinks": figures }))
}

/// What may be asked of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    camera: String,
    region: Option<String>,
    window: Option<u32>,
    from: Option<i64>,
    to: Option<i64>,
}

async fn history(
    Shared(board): Shared<Arc<Board>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return error(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let window = query.window.unwrap_or(60);
    if !WINDOWS.contains(&window) {
        return error(StatusCode::BAD_REQUEST, "window is 10, 60, 900 or 3600");
    }
    let Some(path) = board.history.clone() else {
        return error(StatusCode::NOT_FOUND, "there is no history: [history] file is empty");
    };
    // A day of windows of 1 min or so, whatever their length.
    let to = query.to.unwrap_or(unix_time() as i64);
    let from = query.from.unwrap_or(to.saturating_sub(1440 * i64::from(window)));
    let question = Question { camera: query.camera, region: query.region, window, from, to };
    let read = tokio::task::spawn_blocking(move || history::read(&path, &question)).await;
    match read {
        Ok(Ok(records)) => Json(json!({ "records": records })).into_response(),
        _ => error(StatusCode::INTERNAL_SERVER_ERROR, "the history cannot be read"),
    }
}

/// A camera as it is shown: without secrets.
fn describe(camera: &Camera) -> Value {
    let settings = &camera.settings;
    let url = match &settings.place {
        Place::Rtsp(address) => address.to_string(),
        Place::File(path) => format!("file:{}", path.display()),
        Place::Simulated(view) => format!("simulated:{}", super::engine::word(view)),
    };
    let current = camera.current();
    let status = camera.status();
    let mut described = json!({
        "name": settings.name,
        "url": url,
        "state": status.state,
        "reason": status.reason,
        "since": status.since,
        "received": status.received,
        "counted": status.counted,
        "stale-frames": status.stale,
        "failures": status.failures,
    });
    drop(status);
    merge(&mut described, &counted(current));
    described
}

/// The count of the moment; null where there is none, which is not zero vehicles.
fn counted(current: Option<(f64, FrameReport)>) -> Value {
    let three = |value: f64| (value * 1e3).round() / 1e3;
    let count = |count: Option<FrameCount>| {
        json!({
            "count": count.map(|count| three(count.raw)),
            "smoothed": count.map(|count| three(count.smoothed)),
            "level": count.map(|count| count.level),
        })
    };
    let Some((time, report)) = current else {
        let mut none = count(None);
        merge(&mut none, &json!({ "time": null, "stale": null, "age": null, "regions": [] }));
        return none;
    };
    let regions = report.regions.iter().map(|region| {
        let mut entry = json!({ "name": region.name });
        merge(&mut entry, &count(region.count));
        entry
    });
    let regions: Vec<_> = regions.collect();
    let mut value = count(report.count);
    let age = report.age as f64 / 1e9;
    merge(
        &mut value,
        &json!({
            "time": three(time), "stale": report.stale, "age": three(age), "regions": regions,
        }),
    );
    value
}

fn merge(value: &mut Value, other: &Value) {
    if let (Some(value), Some(other)) = (value.as_object_mut(), other.as_object()) {
        value.extend(other.clone());
    }
}
