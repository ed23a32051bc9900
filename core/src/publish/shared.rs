//! What publishers of one destination share with its worker.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::queue::Queue;
use super::settings::{GRACE, PATIENCE, PublishSettings};
use super::sink::{Destination, SinkError, SinkSettings};
use super::trouble::{Cause, Trouble, TroubleEnd};

/// What a destination has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A decision of the sink, for a log.
    Remark(String),
    /// Reports are not delivered. Said once, until [`Event::TroubleEnd`].
    Trouble {
        /// Where they should go.
        place: String,
        /// Why they do not.
        cause: Cause,
        /// How many wait at most; then the oldest is dropped.
        limit: usize,
    },
    /// The trouble is over.
    TroubleEnd {
        /// Where reports go.
        place: String,
        /// How it ended.
        end: TroubleEnd,
    },
}

/// Whom a publisher tells of events. Events come from any thread, one after the other.
#[derive(Clone)]
pub struct Listener {
    /// Publishers with the same group are told once.
    pub group: usize,
    /// Called with no lock held.
    pub call: Arc<dyn Fn(&Event) + Send + Sync>,
}

/// What changes, under one lock.
pub struct State {
    pub queue: Queue,
    pub publishers: Vec<(u64, Listener)>,
    pub next_publisher: u64,
    pub settings: SinkSettings,
    /// To be opened in place of what is open.
    pub destination: Option<Destination>,
    pub opening: OpenState,
    /// Since when the worker waits for the operating system.
    pub busy_since: Option<Instant>,
    /// When the sink took a report last, or the queue had none for it.
    pub progress: Instant,
    /// The pause before the next try is cut short.
    pub hurried: bool,
    pub trouble: Trouble,
    pub events: VecDeque<Event>,
    /// A thread is calling listeners.
    pub announcing: bool,
    /// The worker has ended.
    pub ended: bool,
}

/// How far the sink has been opened.
pub enum OpenState {
    /// The sink has never been open.
    Pending,
    /// It is open, or has failed in a way that may pass.
    Open,
    /// The location is wrong.
    Refused(SinkError),
}

/// A destination that has a worker.
pub struct Shared {
    pub key: String,
    pub place: String,
    pub state: Mutex<State>,
    pub changed: Condvar,
}

/// The destinations that have a worker, by key. Locked before a destination's state.
pub static WORKERS: LazyLock<Mutex<HashMap<String, Arc<Shared>>>> = LazyLock::new(Mutex::default);

impl State {
    /// Until when the sink is waited for.
    pub fn deadline(&self, now: Instant) -> Instant {
        match self.busy_since {
            // It will not return just now.
            Some(since) if since + PATIENCE <= now => now,
            since => (since.unwrap_or(now).min(self.progress) + PATIENCE)
                .clamp(now + GRACE, now + PATIENCE),
        }
    }

    /// Tells of a fault, unless a trouble has begun already.
    pub fn fail(&mut self, place: &str, now: Instant, dropped_before: u64, cause: Cause) {
        if self.trouble.begin(now, dropped_before) {
            let limit = self.queue.limit();
            self.events.push_back(Event::Trouble { place: place.to_owned(), cause, limit });
        }
    }

    /// Ends a trouble: everything has been delivered.
    pub fn recover(&mut self, place: &str, now: Instant) {
        self.end(place, now, true);
    }

    /// Ends a trouble, if there is one.
    pub fn end(&mut self, place: &str, now: Instant, recovered: bool) {
        if let Some(end) = self.trouble.end(now, self.queue.dropped(), recovered) {
            self.events.push_back(Event::TroubleEnd { place: place.to_owned(), end });
        }
    }
}

impl Shared {
    /// A destination that has not been opened.
    pub fn new(destination: &Destination, settings: &PublishSettings, now: Instant) -> Self {
        let state = State {
            queue: Queue::new(settings.queue_size),
            publishers: Vec::new(),
            next_publisher: 0,
            settings: settings.sink.clone(),
            destination: None,
            opening: OpenState::Pending,
            busy_since: None,
            progress: now,
            hurried: false,
            trouble: Trouble::default(),
            events: VecDeque::new(),
            announcing: false,
            ended: false,
        };
        Self {
            key: destination.key.clone(),
            place: destination.place.clone(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Tells the listeners what has happened, in order. Returns at once where another thread does.
    pub fn announce(&self) {
        let mut state = self.state.lock();
        if state.announcing {
            return;
        }
        while let Some(event) = state.events.pop_front() {
            let mut listeners: Vec<Listener> = Vec::new();
            for (_, listener) in &state.publishers {
                if listeners.iter().all(|other| other.group != listener.group) {
                    listeners.push(listener.clone());
                }
            }
            state.announcing = true;
            MutexGuard::unlocked(&mut state, || {
                listeners.iter().for_each(|listener| (listener.call)(&event))
            });
            state.announcing = false;
            self.changed.notify_all();
        }
    }
}
