//! What is known at the moment, of every camera and of the engine: what the HTTP interface shows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard, RwLock};
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;
use tokio::sync::oneshot;
use vehiclecount_core::event::Event;
use vehiclecount_core::report::FrameReport;

use super::engine::{self, Engine, Load};
use super::sinks::status::{SinkFigures, SinkStatus};
use crate::config::{self, HistoryPlace};
use crate::source::Decoder;

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

/// Upper bounds of the times that counts take, seconds.
pub const LATENCY: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// What is known of one camera.
#[derive(Debug)]
pub struct Status {
    /// How it is.
    pub state: State,
    /// Why, where it is not live, or its pictures are not counted.
    pub reason: Option<String>,
    /// Since when it is so, seconds since 1970.
    pub since: f64,
    /// Pictures received, those that were skipped among them.
    pub received: u64,
    /// Pictures that were not decoded, because no count needs them.
    pub skipped: u64,
    /// When the last picture was decoded.
    pub decoded: Option<Instant>,
    /// What decodes its pictures, once that is known; nothing where they come raw.
    pub decoder: Option<Decoder>,
    /// Pictures with a count of their own, or a confirmed one.
    pub counted: u64,
    /// Those of them that did not differ from a counted one and kept its count.
    pub confirmed: u64,
    /// Pictures whose count was stale.
    pub stale: u64,
    /// Pictures that were to be counted, and of which the engine had no time for a count.
    pub dropped: u64,
    /// Pictures that the engine failed on.
    pub failed: u64,
    /// When a picture was last counted, or confirmed.
    pub progress: Option<Instant>,
    /// When the first picture was handed to the counter since then.
    pub owed: Option<Instant>,
    /// Pictures that came a second, of late.
    pub fps: f64,
    /// Connections that failed or broke.
    pub failures: u64,
    /// How long counts took, seconds.
    pub latency: Histogram,
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
    /// Requests for the next counted picture.
    viewers: Mutex<Vec<oneshot::Sender<gst::Sample>>>,
    /// When a picture was last asked for.
    viewed: Mutex<Option<Instant>>,
}

/// What is waited for while the engine says nothing of its own.
pub const OPENING: &str = "the engine is being opened";

/// Who asks for a picture will soon ask for the next one.
const LOOK: Duration = Duration::from_secs(3);

impl Camera {
    /// Nothing is known of it yet.
    pub fn new(settings: config::Camera) -> Self {
        let hold = Duration::from_secs_f64((2.5 / settings.rate).max(2.0));
        let status = Status {
            state: State::Connecting,
            reason: None,
            since: unix_time(),
            received: 0,
            skipped: 0,
            decoded: None,
            decoder: None,
            counted: 0,
            confirmed: 0,
            stale: 0,
            dropped: 0,
            failed: 0,
            progress: None,
            owed: None,
            fps: 0.0,
            failures: 0,
            latency: Histogram::new(LATENCY),
            heard: None,
            last: None,
        };
        Self {
            settings,
            hold,
            status: Mutex::new(status),
            viewers: Mutex::default(),
            viewed: Mutex::default(),
        }
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

    /// The next picture that is counted, with its count.
    pub fn view(&self) -> oneshot::Receiver<gst::Sample> {
        let (send, picture) = oneshot::channel();
        *self.viewed.lock() = Some(Instant::now());
        let mut viewers = self.viewers.lock();
        // Where no picture comes, those who gave up do not gather.
        viewers.retain(|viewer| !viewer.is_closed());
        viewers.push(send);
        picture
    }

    /// Whether a picture is asked for, or was of late.
    pub fn is_viewed(&self) -> bool {
        self.viewed.lock().is_some_and(|viewed| viewed.elapsed() < LOOK) || self.is_awaited()
    }

    /// Whether a picture is asked for.
    pub fn is_awaited(&self) -> bool {
        self.viewers.lock().iter().any(|viewer| !viewer.is_closed())
    }

    /// Answers those who ask for a picture.
    pub fn show(&self, picture: &gst::Sample) {
        for viewer in self.viewers.lock().drain(..) {
            // The request may be over.
            let _ = viewer.send(picture.clone());
        }
    }
}

/// The recorder is taken for dead after this long, and the engine where it has counted nothing.
const DEAD: Duration = Duration::from_secs(30);

/// Events that are remembered.
pub const REMEMBERED: usize = 500;

/// All that is known at the moment.
#[derive(Debug)]
pub struct Board {
    /// The cameras, in the order of their names.
    cameras: RwLock<Vec<Arc<Camera>>>,
    /// Where what was counted is kept.
    pub history: Option<HistoryPlace>,
    /// What the service itself keeps on a disk.
    stores: RwLock<Vec<Arc<SinkStatus>>>,
    /// The sinks, in the order of the configuration.
    sinks: RwLock<Vec<Arc<SinkStatus>>>,
    engine: Mutex<Option<(Engine, gst::Element)>>,
    /// What the engine says while it is opened.
    progress: Mutex<String>,
    events: Mutex<VecDeque<Event>>,
    /// When the service was started.
    pub start: Instant,
    /// When the recorder was last seen at work.
    beat: Mutex<Instant>,
    lost: AtomicU64,
}

impl Board {
    /// Nothing is known yet.
    pub fn new(service: &config::Service) -> Self {
        Self {
            cameras: RwLock::default(),
            history: service.history.as_ref().map(|history| history.place.clone()),
            stores: RwLock::default(),
            sinks: RwLock::default(),
            engine: Mutex::default(),
            progress: Mutex::new(OPENING.to_owned()),
            events: Mutex::default(),
            start: Instant::now(),
            beat: Mutex::new(Instant::now()),
            lost: AtomicU64::new(0),
        }
    }

    /// The camera of that name.
    pub fn camera(&self, name: &str) -> Option<Arc<Camera>> {
        self.cameras.read().iter().find(|camera| camera.settings.name == name).cloned()
    }

    /// The cameras, in the order of their names.
    pub fn cameras(&self) -> Vec<Arc<Camera>> {
        self.cameras.read().clone()
    }

    /// Takes in a camera, in the place of one of the same name.
    pub fn put(&self, camera: Arc<Camera>) {
        let mut cameras = self.cameras.write();
        let name = &camera.settings.name;
        match cameras.binary_search_by(|other| other.settings.name.cmp(name)) {
            Ok(place) => cameras[place] = camera,
            Err(place) => cameras.insert(place, camera),
        }
    }

    /// Forgets a camera.
    pub fn remove(&self, name: &str) {
        self.cameras.write().retain(|camera| camera.settings.name != name);
    }

    /// How the history's file, the outbox and the sinks are, these in the order of the
    /// configuration.
    pub fn sinks(&self) -> Vec<SinkFigures> {
        let sinks: Vec<_> = self.sinks.read().iter().map(|sink| sink.figures()).collect();
        let mut all: Vec<_> = self.stores.read().iter().map(|store| store.figures()).collect();
        // A sink of the configuration may have that name.
        for store in &mut all {
            if sinks.iter().any(|sink| sink.name == store.name) {
                store.name.push_str(" file");
            }
        }
        all.extend(sinks);
        all
    }

    /// What the service keeps on a disk, with its figures.
    pub fn add_store(&self, store: Arc<SinkStatus>) {
        self.stores.write().push(store);
    }

    /// Why what is counted is not kept on a disk.
    pub fn unkept(&self) -> Option<String> {
        self.stores.read().iter().find_map(|store| store.figures().reason)
    }

    /// The sinks are these.
    pub fn set_sinks(&self, sinks: Vec<Arc<SinkStatus>>) {
        *self.sinks.write() = sinks;
    }

    /// The engine, once it is open.
    pub fn engine(&self) -> Option<Engine> {
        self.engine.lock().as_ref().map(|(engine, _)| engine.clone())
    }

    /// The engine is open, and `counter` uses it.
    pub fn set_engine(&self, engine: Engine, counter: gst::Element) {
        *self.engine.lock() = Some((engine, counter));
    }

    /// What the engine does.
    pub fn load(&self) -> Load {
        let counter = self.engine.lock().as_ref().map(|(_, counter)| counter.clone());
        counter.map(|counter| engine::load(&counter)).unwrap_or_default()
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

    /// What happened before all that is known, the oldest first, as far as there is room.
    pub fn add_earlier_events(&self, earlier: Vec<Event>) {
        let mut events = self.events.lock();
        for event in earlier.into_iter().rev().take(REMEMBERED) {
            if events.len() < REMEMBERED && !events.contains(&event) {
                events.push_front(event);
            }
        }
    }

    /// The recorder is at work.
    pub fn beat(&self) {
        *self.beat.lock() = Instant::now();
    }

    /// Why the service is to be restarted: counts are not recorded, or the engine counts nothing
    /// although pictures come.
    pub fn failure(&self) -> Option<String> {
        self.engine.lock().as_ref()?;
        let silence = self.beat.lock().elapsed();
        if silence > DEAD {
            return Some(format!("counts were not recorded for {} s", silence.as_secs()));
        }
        self.uncounted(Instant::now())
    }

    /// Why nothing was counted for too long of what was to be counted. A camera of which no picture
    /// comes, or is not due yet, is no reason.
    fn uncounted(&self, now: Instant) -> Option<String> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let mut longest: Option<(Duration, Option<String>)> = None;
        for camera in self.cameras.read().iter() {
            let status = camera.status();
            if status.progress.is_some_and(|progress| since(progress) <= DEAD) {
                return None;
            }
            // One that is stalled may be held by the engine.
            let is_there = matches!(status.state, State::Live | State::Stalled);
            let Some(owed) = status.owed.filter(|_| is_there) else { continue };
            let waiting = since(owed);
            let is_longer = longest.as_ref().is_none_or(|(longest, _)| waiting > *longest);
            if waiting > DEAD.max(camera.hold) && is_longer {
                longest = Some((waiting, status.reason.clone()));
            }
        }
        let (waiting, reason) = longest?;
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(format!("no picture was counted for {} s{reason}", waiting.as_secs()))
    }

    /// How far the engine is on its way to be open.
    pub fn progress(&self) -> String {
        self.progress.lock().clone()
    }

    /// What is waited for before cameras are counted, and how far that is.
    pub fn set_progress(&self, said: String) {
        *self.progress.lock() = said;
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

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
