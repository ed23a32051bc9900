//! Cameras and counts as they are shown: without secrets.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vehiclecount_core::preprocess::InputScale;
use vehiclecount_core::region::{Detail, Level, Levels, Polygon, Region};
use vehiclecount_core::report::{FrameCount, FrameReport};

use super::error;
use crate::config::{Decoder, Place, Transport};
use crate::run::board::{Board, Camera, State};
use crate::run::cameras::Refusal;
use crate::run::engine::word;

/// A camera: how it is, and what it counts.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    name: String,
    url: String,
    state: State,
    reason: Option<String>,
    since: f64,
    decoder: Option<String>,
    received: u64,
    counted: u64,
    confirmed_frames: u64,
    stale_frames: u64,
    dropped: u64,
    failed_frames: u64,
    fps: f64,
    failures: u64,
    #[serde(flatten)]
    now: Now,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
}

/// What is set for a camera, as far as it can be changed.
#[derive(Serialize)]
struct Settings {
    insecure: bool,
    transport: Transport,
    decoder: Decoder,
    timeout: f64,
    rate: f64,
    scale: f64,
    #[serde(rename = "input-scale", skip_serializing_if = "InputScale::is_normal")]
    input_scale: InputScale,
    smoothing: f64,
    #[serde(rename = "skip-unchanged")]
    skip_unchanged: bool,
    levels: Levels,
    regions: Vec<RegionSettings>,
}

/// A region as it is set: without the levels that hold anyway.
#[derive(Serialize)]
struct RegionSettings {
    name: String,
    polygon: Polygon,
    #[serde(skip_serializing_if = "Option::is_none")]
    levels: Option<Levels>,
    #[serde(skip_serializing_if = "Detail::is_off")]
    detail: Detail,
}

impl From<&Region> for RegionSettings {
    fn from(region: &Region) -> Self {
        Self {
            detail: region.detail,
            name: region.name.clone(),
            polygon: region.polygon.clone(),
            levels: Some(region.levels).filter(|levels| *levels != Levels::default()),
        }
    }
}

/// The count of the moment; null where there is none, which is not zero vehicles.
#[derive(Default, Serialize)]
pub struct Now {
    time: Option<f64>,
    #[serde(flatten)]
    count: Count,
    stale: Option<bool>,
    confirmed: Option<bool>,
    age: Option<f64>,
    regions: Vec<RegionNow>,
}

#[derive(Serialize)]
struct RegionNow {
    name: String,
    #[serde(flatten)]
    count: Count,
}

#[derive(Default, Serialize)]
struct Count {
    count: Option<f64>,
    smoothed: Option<f64>,
    level: Option<Level>,
}

/// Figures of three decimals.
fn three(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl From<Option<FrameCount>> for Count {
    fn from(counted: Option<FrameCount>) -> Self {
        Self {
            count: counted.map(|count| three(count.raw)),
            smoothed: counted.map(|count| three(count.smoothed)),
            level: counted.map(|count| count.level),
        }
    }
}

impl From<Option<(f64, FrameReport)>> for Now {
    fn from(current: Option<(f64, FrameReport)>) -> Self {
        let Some((time, report)) = current else { return Self::default() };
        let regions = report.regions.into_iter();
        Self {
            time: Some(three(time)),
            count: report.count.into(),
            stale: Some(report.stale),
            confirmed: Some(report.confirmed),
            age: Some(three(report.age as f64 / 1e9)),
            regions: regions
                .map(|region| RegionNow { name: region.name, count: region.count.into() })
                .collect(),
        }
    }
}

impl Shown {
    /// The camera of this moment.
    pub fn new(camera: &Camera) -> Self {
        let now = camera.current().into();
        let status = camera.status();
        Self {
            name: camera.settings.name.clone(),
            url: match &camera.settings.place {
                Place::Rtsp(address) | Place::Http(address) => address.to_string(),
                Place::File(path) => format!("file:{}", path.display()),
                Place::Device(path) => format!("v4l2:{}", path.display()),
                Place::Simulated(view) => format!("simulated:{}", word(view)),
            },
            state: status.state,
            reason: status.reason.clone(),
            since: status.since,
            decoder: status.decoder.as_ref().map(|decoder| decoder.name.clone()),
            received: status.received,
            counted: status.counted,
            confirmed_frames: status.confirmed,
            stale_frames: status.stale,
            dropped: status.dropped,
            failed_frames: status.failed,
            fps: three(status.fps),
            failures: status.failures,
            now,
            settings: None,
        }
    }

    /// With what is set for it.
    pub fn with_settings(camera: &Camera) -> Self {
        let settings = &camera.settings;
        let settings = Settings {
            insecure: settings.insecure,
            transport: settings.transport,
            decoder: settings.decoder,
            timeout: settings.timeout.as_secs_f64(),
            rate: settings.rate,
            scale: settings.factor(),
            input_scale: settings.regions.input_scale,
            smoothing: settings.smoothing.as_secs_f64(),
            skip_unchanged: settings.skip_unchanged,
            levels: settings.regions.levels,
            regions: settings.regions.regions.iter().map(Into::into).collect(),
        };
        Self { settings: Some(settings), ..Self::new(camera) }
    }
}

/// The camera as it is now, and what is set for it.
pub fn shown(board: &Board, name: &str) -> Response {
    match board.camera(name) {
        Some(camera) => Json(Shown::with_settings(&camera)).into_response(),
        None => unknown(),
    }
}

/// There is no camera of that name.
pub fn unknown() -> Response {
    error(StatusCode::NOT_FOUND, &Refusal::Unknown.to_string())
}
