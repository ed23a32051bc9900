//! What is read: cameras, counts, events, history, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vehiclecount_core::window::WINDOWS;

use super::show::{Now, Shown, shown};
use super::{Failed, error};
use crate::config::HistoryPlace;
use crate::run::board::{Board, REMEMBERED, unix_time};
use crate::run::history::{self, MOST, Question};
use crate::run::metrics::{self, CONTENT_TYPE};
use crate::run::past::{self, EventQuestion};
use crate::run::postgres;

/// All metrics.
pub async fn metrics(State(board): State<Arc<Board>>) -> Response {
    match metrics::text(board) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
    }
}

/// All cameras, and the engine, or how far it is on its way.
pub async fn cameras(State(board): State<Arc<Board>>) -> Json<Value> {
    let cameras: Vec<_> = board.cameras().iter().map(|camera| Shown::new(camera)).collect();
    let engine = board.engine();
    let progress = engine.is_none().then(|| board.progress());
    Json(json!({ "engine": engine, "progress": progress, "cameras": cameras }))
}

/// One camera, and what is set for it.
pub async fn camera(State(board): State<Arc<Board>>, Path(name): Path<String>) -> Response {
    shown(&board, &name)
}

/// The engine and its load, since the service was started.
pub async fn engine(State(board): State<Arc<Board>>) -> Json<Value> {
    let (engine, load) = (board.engine(), board.load());
    let progress = engine.is_none().then(|| board.progress());
    let uptime = board.start.elapsed().as_secs();
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "engine": engine, "progress": progress, "load": load, "uptime": uptime, "version": version,
    }))
}

#[derive(Serialize)]
struct CameraNow {
    camera: String,
    #[serde(flatten)]
    now: Now,
}

/// The counts of the moment.
pub async fn counts(State(board): State<Arc<Board>>) -> Json<Value> {
    let counts: Vec<_> = board
        .cameras()
        .iter()
        .map(|camera| CameraNow {
            camera: camera.settings.name.clone(),
            now: camera.current().into(),
        })
        .collect();
    Json(json!({ "counts": counts }))
}

/// What may be asked of the events.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    camera: Option<String>,
    from: Option<f64>,
    to: Option<f64>,
    limit: Option<usize>,
}

/// Events, the last ones or those that are asked for.
pub async fn events(
    State(board): State<Arc<Board>>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let Query(query) = query?;
    let recent = board.events();
    if query == EventsQuery::default() {
        return Ok(Json(json!({ "events": recent })).into_response());
    }
    let EventsQuery { camera, from, to, limit } = query;
    if [from, to].iter().flatten().any(|time| !time.is_finite()) {
        return Err(Failed::new(StatusCode::BAD_REQUEST, "from and to are seconds since 1970"));
    }
    let limit = limit.unwrap_or(REMEMBERED);
    if !(1..=MOST).contains(&limit) {
        return Err(Failed::new(StatusCode::BAD_REQUEST, &format!("limit is from 1 to {MOST}")));
    }
    let (from, to) = (from.unwrap_or(f64::MIN), to.unwrap_or(f64::MAX));
    let question = EventQuestion { camera, from, to, limit };
    let place = board.history.clone();
    let read = move || {
        let mut events = match &place {
            None => Ok(Vec::new()),
            Some(HistoryPlace::File(path)) => past::read(path, &question).map_err(|_| None),
            Some(HistoryPlace::Postgres(database)) => {
                postgres::read_events(database, &question).map_err(Some)
            }
        }?;
        // Those that are not written yet.
        for event in question.choose(recent) {
            if !events.contains(&event) {
                events.push(event);
            }
        }
        Ok(question.choose(events))
    };
    Ok(answer("events", tokio::task::spawn_blocking(read).await))
}

/// The answer of what was read from the history, by that name; or why it cannot be read, where that
/// may be told.
fn answer<T: Serialize>(
    name: &str,
    read: Result<Result<T, Option<String>>, tokio::task::JoinError>,
) -> Response {
    match read {
        Ok(Ok(found)) => Json(json!({ name: found })).into_response(),
        Ok(Err(Some(why))) => {
            error(StatusCode::SERVICE_UNAVAILABLE, &format!("the history cannot be read: {why}"))
        }
        _ => error(StatusCode::INTERNAL_SERVER_ERROR, "the history cannot be read"),
    }
}

/// How sinks are.
pub async fn sinks(State(board): State<Arc<Board>>) -> Json<Value> {
    Json(json!({ "sinks": board.sinks() }))
}

/// How a sink is.
pub async fn sink(State(board): State<Arc<Board>>, Path(name): Path<String>) -> Response {
    match board.sinks().into_iter().find(|sink| sink.name == name) {
        Some(sink) => Json(sink).into_response(),
        None => error(StatusCode::NOT_FOUND, "there is no sink of that name"),
    }
}

/// What may be asked of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    camera: String,
    region: Option<String>,
    window: Option<u32>,
    from: Option<i64>,
    to: Option<i64>,
}

/// Records of windows.
pub async fn history(
    State(board): State<Arc<Board>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let Query(query) = query?;
    let window = query.window.unwrap_or(60);
    if !WINDOWS.contains(&window) {
        return Err(Failed::new(StatusCode::BAD_REQUEST, "window is 10, 60, 900 or 3600"));
    }
    let Some(place) = board.history.clone() else {
        let what = "there is no history: [history] file is empty";
        return Err(Failed::new(StatusCode::NOT_FOUND, what));
    };
    // A day of windows of 1 min or so, whatever their length.
    let to = query.to.unwrap_or(unix_time() as i64);
    let from = query.from.unwrap_or(to.saturating_sub(1440 * i64::from(window)));
    let question = Question { camera: query.camera, region: query.region, window, from, to };
    let read = tokio::task::spawn_blocking(move || match &place {
        HistoryPlace::File(path) => history::read(path, &question).map_err(|_| None),
        HistoryPlace::Postgres(database) => postgres::read(database, &question).map_err(Some),
    });
    Ok(answer("records", read.await))
}
