//! What is known at the moment, of every camera and of the engine: what the HTTP interface shows.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use vehiclecount_core::event::Event;
use vehiclecount_core::report::FrameReport;

use super::sinks::status::SinkStatus;
use crate::config;

/// How a camera is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was not reached yet.
    Connecting,
    /// Pictures come.
    Live,
    /// It is connected, and no pictures come.
    Stalled,
    /// It failed and is tried again later.
    Waiting,
    /// As [`State::Waiting`], for a reason that does not pass by itself.
    Refused,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Connecting, Self::Live, Self::Stalled, Self::Waiting, Self::Refused];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// What is known of one camera.
#[derive(Clone, Debug)]
pub struct Status {
    /// How it is.
    pub state: State,
    /// Why, where it is not live.
    pub reason: Option<String>,
    /// Since when it is so, seconds since 1970.
    pub since: f64,
    /// Pictures received.
    pub received: u64,
    /// Pictures that were counted themselves.
    pub counted: u64,
    /// Pictures whose count was stale.
    pub stale: u64,
    /// Connections that failed or broke.
    pub failures: u64,
    /// When the last picture came.
    pub heard: Option<Instant>,
    /// The last report with a count, and when it came.
    pub last: Option<(Instant, f64, FrameReport)>,
}

/// One camera: what is set for it, and what is known of it.
#[derive(Debug)]
pub struct Camera {
    /// What is set.
    pub settings: config::Camera,
    /// How long a count says something about the moment.
    pub hold: Duration,
    status: Mutex<Status>,
}

impl Camera {
    fn new(settings: config::Camera) -> Self {
        let hold = Duration::from_secs_f64((2.5 / settings.rate).max(2.0));
        let status = Status {
            state: State::Connecting,
            reason: None,
            since: unix_time(),
            received: 0,
            counted: 0,
            stale: 0,
            failures: 0,
            heard: None,
            last: None,
        };
        Self { settings, hold, status: Mutex::new(status) }
    }

    /// What is known of it.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock()
    }

    /// The last report, if it still says something about the moment.
    pub fn current(&self) -> Option<(f64, FrameReport)> {
        let status = self.status();
        let (instant, time, report) = status.last.as_ref()?;
        (instant.elapsed() <= self.hold).then(|| (*time, report.clone()))
    }
}

/// The engine that runs.
#[derive(Clone, Debug, Serialize)]
pub struct Engine {
    /// Its name: "openvino".
    pub engine: String,
    /// Its version.
    pub version: String,
    /// What it runs on.
    pub device: String,
    /// The model's name.
    pub model: String,
    /// In what precision it runs.
    pub precision: String,
}

/// Events that are remembered.
pub const REMEMBERED: usize = 500;

/// All that is known at the moment.
#[derive(Debug)]
pub struct Board {
    /// The cameras.
    pub cameras: Vec<Camera>,
    /// The file of what was counted.
    pub history: Option<PathBuf>,
    /// The sinks, in the order of the configuration.
    pub sinks: Vec<Arc<SinkStatus>>,
    engine: Mutex<Option<Engine>>,
    events: Mutex<VecDeque<Event>>,
    /// When the recorder was last seen at work.
    beat: Mutex<Instant>,
    lost: AtomicU64,
}

impl Board {
    /// Nothing is known yet.
    pub fn new(service: &config::Service) -> Self {
        Self {
            cameras: service.cameras.iter().cloned().map(Camera::new).collect(),
            history: service.history.as_ref().map(|history| history.path.clone()),
            sinks: service.sinks.iter().map(|sink| Arc::new(SinkStatus::new(sink))).collect(),
            engine: Mutex::default(),
            events: Mutex::default(),
            beat: Mutex::new(Instant::now()),
            lost: AtomicU64::new(0),
        }
    }

    /// The camera of that name.
    pub fn camera(&self, name: &str) -> Option<&Camera> {
        self.cameras.iter().find(|camera| camera.settings.name == name)
    }

    /// The engine, once it is open.
    pub fn engine(&self) -> Option<Engine> {
        self.engine.lock().clone()
    }

    /// The engine is open.
    pub fn set_engine(&self, engine: Engine) {
        *self.engine.lock() = Some(engine);
    }

    /// The last events, the newest first.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().iter().rev().cloned().collect()
    }

    /// Something happened.
    pub fn add_event(&self, event: Event) {
        let mut events = self.events.lock();
        if events.len() == REMEMBERED {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The recorder is at work.
    pub fn beat(&self) {
        *self.beat.lock() = Instant::now();
    }

    /// How long the recorder was not seen at work.
    pub fn silence(&self) -> Duration {
        self.beat.lock().elapsed()
    }

    /// A report found no room on its way to the recorder.
    pub fn lose_report(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Reports that found no room on their way to the recorder.
    pub fn lost_reports(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Seconds since 1970 (UTC).
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
