//! What changes cameras and sinks: as the page does it, and as DeepStream's REST server does.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failed;
use super::show::shown;
use super::snapshot::Studio;
use crate::config::edit::Section;
use crate::run::board::Board;
use crate::run::cameras::{Cameras, Keys, Refusal};
use crate::run::snapshot::View;
use crate::run::trial;

/// How wide the picture of a camera that is tried is.
const WIDTH: u32 = 640;

type Body<T> = Result<Json<T>, JsonRejection>;

/// The body of a request. What is wrong with it is told without a word of it.
fn read<T>(body: Body<T>) -> Result<T, Failed> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(JsonRejection::MissingJsonContentType(_)) => Err(Failed::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is JSON: Content-Type: application/json",
        )),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        Err(_) => Err(Failed::new(
            StatusCode::BAD_REQUEST,
            "the body is not the JSON that is expected here: /api/v1/openapi.json",
        )),
    }
}

fn refused(refusal: &Refusal) -> Failed {
    let status = match refusal {
        Refusal::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Unknown => StatusCode::NOT_FOUND,
        Refusal::Exists => StatusCode::CONFLICT,
        Refusal::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::File(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failed::new(status, &refusal.to_string())
}

/// Does what takes its time: the camera's pipeline is taken down, the file is written.
async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|refusal| refused(&refusal)),
        Err(_) => Err(Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "the change has failed")),
    }
}

/// Adds what has the name and the keys of a body. Gives the name, and the header that tells where
/// it is found.
async fn added(
    cameras: Arc<Cameras>,
    section: Section,
    body: Body<Keys>,
) -> Result<(String, [(HeaderName, String); 1]), Failed> {
    let mut keys = read(body)?;
    let Some(Value::String(name)) = keys.remove("name") else {
        let what = match section {
            Section::Cameras => "the camera has no name",
            Section::Sinks => "the sink has no name",
        };
        return Err(Failed::new(StatusCode::UNPROCESSABLE_ENTITY, what));
    };
    let named = name.clone();
    wait(move || cameras.add(section, &named, &keys)).await?;
    let encoded = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let place = format!("/api/v1/{}/{encoded}", section.key());
    Ok((name, [(header::LOCATION, place)]))
}

/// Adds a camera: its name, and its keys as in the file.
pub async fn add(
    State(board): State<Arc<Board>>,
    State(cameras): State<Arc<Cameras>>,
    body: Body<Keys>,
) -> Result<Response, Failed> {
    let (name, place) = added(cameras, Section::Cameras, body).await?;
    Ok((StatusCode::CREATED, place, shown(&board, &name)).into_response())
}

/// Changes the keys of a camera that are given; null takes one out.
pub async fn change(
    State(board): State<Arc<Board>>,
    State(cameras): State<Arc<Cameras>>,
    Path(name): Path<String>,
    body: Body<Keys>,
) -> Result<Response, Failed> {
    let keys = read(body)?;
    let named = name.clone();
    wait(move || cameras.change(Section::Cameras, &named, &keys)).await?;
    Ok(shown(&board, &name))
}

/// Removes a camera. What was counted stays in the history.
pub async fn remove(
    State(cameras): State<Arc<Cameras>>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    wait(move || cameras.remove(Section::Cameras, &name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Adds a sink: its name, and its keys as in the file.
pub async fn add_sink(
    State(board): State<Arc<Board>>,
    State(cameras): State<Arc<Cameras>>,
    body: Body<Keys>,
) -> Result<Response, Failed> {
    let (name, place) = added(cameras, Section::Sinks, body).await?;
    let shown = super::read::sink(State(board), Path(name)).await;
    Ok((StatusCode::CREATED, place, shown).into_response())
}

/// Changes the keys of a sink that are given; null takes one out. What waits for it stays.
pub async fn change_sink(
    State(board): State<Arc<Board>>,
    State(cameras): State<Arc<Cameras>>,
    Path(name): Path<String>,
    body: Body<Keys>,
) -> Result<Response, Failed> {
    let keys = read(body)?;
    let named = name.clone();
    wait(move || cameras.change(Section::Sinks, &named, &keys)).await?;
    Ok(super::read::sink(State(board), Path(name)).await)
}

/// Removes a sink. What waits for it is dropped.
pub async fn remove_sink(
    State(cameras): State<Arc<Cameras>>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    wait(move || cameras.remove(Section::Sinks, &name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Tries a camera and saves nothing: the keys of a new one, or, with a `name`, of one that is to be
/// changed.
pub async fn trial(
    State(cameras): State<Arc<Cameras>>,
    State(studio): State<Arc<Studio>>,
    body: Body<Keys>,
) -> Result<Response, Failed> {
    let mut keys = read(body)?;
    let name = keys.remove("name").and_then(|name| name.as_str().map(str::to_owned));
    let Some(place) = studio.trial() else {
        return Err(Failed::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many addresses are tried at once",
        ));
    };
    let tried = wait(move || {
        let _place = place;
        let settings = cameras.draft(name.as_deref(), &keys)?;
        Ok(trial::picture(&settings))
    });
    let failed = |reason: String| Json(json!({ "ok": false, "reason": reason })).into_response();
    let sample = match tried.await? {
        Ok(sample) => sample,
        Err(error) => return Ok(failed(format!("{error:#}"))),
    };
    let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
    let Some(info) = info else { return Ok(failed("it sends no pictures".to_owned())) };
    let (width, height) = (info.width(), info.height());
    match studio.jpeg(sample, View { annotated: false, width: WIDTH }).await {
        Ok(jpeg) => {
            let picture = format!("data:image/jpeg;base64,{}", glib::base64_encode(&jpeg));
            let answer =
                json!({ "ok": true, "width": width, "height": height, "picture": picture });
            Ok(Json(answer).into_response())
        }
        Err(error) => Ok(failed(format!("{error:#}"))),
    }
}

/// The body of DeepStream's `stream/add` and `stream/remove`; what else it has is not needed.
#[derive(Deserialize)]
pub struct Stream {
    value: StreamValue,
}

#[derive(Deserialize)]
struct StreamValue {
    camera_id: String,
    #[serde(default)]
    camera_url: String,
}

/// Adds a camera as DeepStream's REST server does: `camera_id` is its name.
pub async fn stream_add(State(cameras): State<Arc<Cameras>>, body: Body<Stream>) -> Response {
    let work = async {
        let StreamValue { camera_id, camera_url } = read(body)?.value;
        let keys = Keys::from_iter([("url".to_owned(), Value::String(camera_url))]);
        wait(move || cameras.add(Section::Cameras, &camera_id, &keys)).await
    };
    stream(work.await, "STREAM_ADD")
}

/// Removes a camera as DeepStream's REST server does.
pub async fn stream_remove(State(cameras): State<Arc<Cameras>>, body: Body<Stream>) -> Response {
    let work = async {
        let name = read(body)?.value.camera_id;
        wait(move || cameras.remove(Section::Cameras, &name)).await
    };
    stream(work.await, "STREAM_REMOVE")
}

fn stream(done: Result<(), Failed>, what: &str) -> Response {
    match done {
        Ok(()) => {
            let reason = format!("{what}_SUCCESS");
            Json(json!({ "status": "HTTP/1.1 200 OK", "reason": reason })).into_response()
        }
        Err(failed) => failed.into_response(),
    }
}
