//! How a sink is, for the log, the API and metrics.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::Sink;
use crate::run::board::unix_time;
use crate::run::log;

/// How a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkState {
    /// It was not reached yet.
    Connecting,
    /// It takes records.
    Live,
    /// It failed and is tried again later.
    Waiting,
}

/// What is known of a sink at the moment: as JSON, an entry of `/api/v1/sinks`.
#[derive(Clone, Debug, Serialize)]
pub struct SinkFigures {
    /// Its name.
    pub name: String,
    /// Where it is, without secrets.
    pub url: String,
    /// How it is.
    pub state: SinkState,
    /// Why, where it is not live.
    pub reason: Option<String>,
    /// Since when it is so, seconds since 1970.
    pub since: f64,
    /// Records that it has taken since the service started.
    pub delivered: u64,
    /// Records that wait for it.
    pub waiting: u64,
    /// Records that it never got, since the service started: there was no room for them, or they
    /// became too old.
    pub dropped: u64,
}

/// A sink's figures, which its worker and the outbox keep.
#[derive(Debug)]
pub struct SinkStatus(Mutex<(SinkFigures, Told)>);

/// What the log was told of records that were dropped.
#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    dropped: u64,
}

/// At most so often the log is told of records that were dropped.
const PAUSE: Duration = Duration::from_secs(60);

impl SinkStatus {
    /// A sink that was not reached yet.
    pub fn new(sink: &Sink) -> Self {
        Self::with(&sink.name, sink.place.to_string(), SinkState::Connecting)
    }

    /// What the service itself keeps on a disk, such as the history: it is there.
    pub fn of_store(name: &str, url: String) -> Self {
        Self::with(name, url, SinkState::Live)
    }

    fn with(name: &str, url: String, state: SinkState) -> Self {
        let figures = SinkFigures {
            name: name.to_owned(),
            url,
            state,
            reason: None,
            since: unix_time(),
            delivered: 0,
            waiting: 0,
            dropped: 0,
        };
        Self(Mutex::new((figures, Told::default())))
    }

    /// What is known.
    pub fn figures(&self) -> SinkFigures {
        self.0.lock().0.clone()
    }

    /// The sink is another one of that name now, which was not reached yet.
    pub fn change(&self, sink: &Sink) {
        let figures = &mut self.0.lock().0;
        figures.url = sink.place.to_string();
        (figures.state, figures.reason) = (SinkState::Connecting, None);
        figures.since = unix_time();
    }

    /// It is in that state now. The log is told where that is another one.
    pub fn tell(&self, state: SinkState, reason: Option<String>) {
        let mut status = self.0.lock();
        let figures = &mut status.0;
        if figures.state == state && figures.reason == reason {
            return;
        }
        if figures.state != state {
            figures.since = unix_time();
        }
        (figures.state, figures.reason) = (state, reason);
        let what = match (&figures.reason, state) {
            (Some(reason), _) => format!("waiting: {reason}"),
            (None, SinkState::Live) => "live".to_owned(),
            (None, _) => "connecting".to_owned(),
        };
        log(&format!("sink {}: {what}", figures.name));
    }

    /// The sink is removed. The log is told what is dropped with it.
    pub fn leave(&self) {
        let figures = &mut self.0.lock().0;
        let dropped = std::mem::take(&mut figures.waiting);
        figures.dropped += dropped;
        let name = &figures.name;
        match dropped {
            0 => log(&format!("sink {name}: removed")),
            _ => log(&format!(
                "sink {name}: removed; {dropped} records that waited for it are dropped"
            )),
        }
    }

    /// So many records more wait.
    pub fn add(&self, count: u64) {
        self.0.lock().0.waiting += count;
    }

    /// So many of those that waited were delivered.
    pub fn deliver(&self, count: u64) {
        let figures = &mut self.0.lock().0;
        figures.waiting = figures.waiting.saturating_sub(count);
        figures.delivered += count;
    }

    /// So many wait now, and so many more were delivered and dropped.
    pub fn set(&self, waiting: u64, delivered: u64, dropped: u64) {
        let figures = &mut self.0.lock().0;
        figures.waiting = waiting;
        figures.delivered += delivered;
        figures.dropped += dropped;
    }

    /// So many of those that waited are dropped, because `why`. The log is told, though not each
    /// time.
    pub fn discard(&self, count: u64, why: &str) {
        if count == 0 {
            return;
        }
        let mut status = self.0.lock();
        let (figures, told) = &mut *status;
        figures.waiting = figures.waiting.saturating_sub(count);
        figures.dropped += count;
        if told.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            let count = figures.dropped - told.dropped;
            *told = Told { last: Some(Instant::now()), dropped: figures.dropped };
            log(&format!("sink {}: {count} records are dropped: {why}", figures.name));
        }
    }

    /// Records were lost before they could wait.
    pub fn lose(&self, count: u64, why: &str) {
        self.add(count);
        self.discard(count, why);
    }
}
