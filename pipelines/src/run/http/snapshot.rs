//! Pictures of cameras, made only while they are asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error;
use super::show::unknown;
use crate::run::board::{Board, State as CameraState};
use crate::run::snapshot::{self, View};

/// How long the next counted picture may be away: of a camera whose pictures were not decoded, the
/// next key frame.
const PATIENCE: Duration = Duration::from_secs(8);

/// Pictures that are made at once: counting goes first.
const ROOM: usize = 2;

/// Addresses that are tried at once.
const TRIALS: usize = 4;

/// Where pictures are made.
pub struct Studio {
    room: Semaphore,
    trials: Arc<Semaphore>,
}

impl Default for Studio {
    fn default() -> Self {
        Self { room: Semaphore::new(ROOM), trials: Arc::new(Semaphore::new(TRIALS)) }
    }
}

impl Studio {
    /// The picture as a JPEG, when it is its turn.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn jpeg(&self, sample: gst::Sample, view: View) -> anyhow::Result<Vec<u8>> {
        let _turn = self.room.acquire().await?;
        tokio::task::spawn_blocking(move || snapshot::jpeg(&sample, view)).await?
    }

    /// A place for the trial of an address, where there is one.
    pub fn trial(&self) -> Option<OwnedSemaphorePermit> {
        self.trials.clone().try_acquire_owned().ok()
    }
}

/// What may be asked of a picture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotQuery {
    #[serde(default)]
    annotated: bool,
    width: Option<u32>,
}

/// The next counted picture of a camera.
pub async fn snapshot(
    State(board): State<Arc<Board>>,
    State(studio): State<Arc<Studio>>,
    Path(name): Path<String>,
    query: Result<Query<SnapshotQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(SnapshotQuery { annotated, width })) = query else {
        return error(
            StatusCode::BAD_REQUEST,
            "annotated is true or false, width a number of pixels",
        );
    };
    let width = width.unwrap_or(4096);
    if !(64..=4096).contains(&width) {
        return error(StatusCode::BAD_REQUEST, "width is from 64 to 4096");
    }
    let Some(camera) = board.camera(&name) else {
        return unknown();
    };
    if matches!(camera.status().state, CameraState::Waiting | CameraState::Refused) {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the camera is away, and sends no picture");
    }
    let Ok(Ok(sample)) = tokio::time::timeout(PATIENCE, camera.view()).await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the camera sends no picture");
    };
    match studio.jpeg(sample, View { annotated, width }).await {
        Ok(jpeg) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        Err(error) => self::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}
