//! What becomes of the counts: windows and events, on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vehiclecount_core::count::Counts;
use vehiclecount_core::event::{Event, EventKind, Events};
use vehiclecount_core::window::{WindowRecord, Windows};

use super::board::{Board, Camera, State, unix_time};
use super::log;

/// Counts that may be on their way to the recorder. What finds no room is lost, and counted.
const ROOM: usize = 4096;

/// How long a change lasts before it is told as an event, seconds.
const SETTLE: f64 = 10.0;

/// How often windows are ended and cameras looked at.
const TICK: Duration = Duration::from_millis(500);

/// What was counted in one picture.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The camera.
    pub camera: Arc<Camera>,
    /// When it came, seconds since 1970.
    pub time: f64,
    /// The frame, and its regions in their order.
    pub counts: Counts,
    /// Whether the count is an old one.
    pub stale: bool,
}

/// One camera's account.
struct Account {
    camera: Arc<Camera>,
    windows: Windows,
    events: Events,
}

/// Where records and events go.
pub trait Store: Send {
    /// Takes in what has come to its end.
    fn store(&mut self, records: &[WindowRecord], events: &[Event]);

    /// To be called again and again, with the time in seconds since 1970.
    fn tick(&mut self, time: f64);
}

/// Makes records and events of counts.
pub struct Recorder {
    board: Arc<Board>,
    accounts: Vec<Account>,
    stores: Vec<Box<dyn Store>>,
}

impl Account {
    fn new(camera: Arc<Camera>) -> Self {
        let settings = &camera.settings;
        let regions: Vec<_> =
            settings.regions.regions.iter().map(|region| region.name.clone()).collect();
        let windows = Windows::new(&settings.name, &regions, camera.hold.as_secs_f64());
        let events = Events::new(&settings.name, &regions, SETTLE);
        Self { camera, windows, events }
    }
}

impl Recorder {
    /// A recorder that has seen nothing yet.
    pub fn new(board: Arc<Board>, stores: Vec<Box<dyn Store>>) -> Self {
        Self { board, accounts: Vec::new(), stores }
    }

    /// Takes in a count.
    pub fn count(&mut self, sample: &Sample) {
        let is_its = |account: &Account| Arc::ptr_eq(&account.camera, &sample.camera);
        let known = self.accounts.iter().position(is_its).or_else(|| {
            self.follow(sample.time);
            self.accounts.iter().position(is_its)
        });
        // A camera that was removed or changed meanwhile is counted no more.
        let Some(account) = known.and_then(|known| self.accounts.get_mut(known)) else { return };
        let records = account.windows.count(sample.time, &sample.counts, sample.stale);
        let events = account.events.count(sample.time, &sample.counts);
        self.keep(&records, events);
    }

    /// Ends the accounts of cameras that are gone, and begins those of new ones.
    fn follow(&mut self, time: f64) {
        let cameras = self.board.cameras();
        let is_there = |account: &mut Account| {
            cameras.iter().any(|camera| Arc::ptr_eq(camera, &account.camera))
        };
        let mut gone: Vec<_> = self.accounts.extract_if(.., |account| !is_there(account)).collect();
        let records: Vec<_> =
            gone.iter_mut().flat_map(|account| account.windows.finish(time)).collect();
        for camera in &cameras {
            if !self.accounts.iter().any(|account| Arc::ptr_eq(&account.camera, camera)) {
                self.accounts.push(Account::new(camera.clone()));
            }
        }
        self.keep(&records, Vec::new());
    }

    /// Ends windows, and looks whether cameras are there, at `time`.
    pub fn tick(&mut self, time: f64) {
        self.follow(time);
        let (mut records, mut events) = (Vec::new(), Vec::new());
        for account in &mut self.accounts {
            records.extend(account.windows.advance(time));
            let status = account.camera.status();
            let lost =
                (status.state != State::Live).then(|| status.reason.clone().unwrap_or_default());
            drop(status);
            events.extend(account.events.presence(time, lost.as_deref()));
        }
        self.keep(&records, events);
        self.stores.iter_mut().for_each(|store| store.tick(time));
        self.board.beat();
    }

    /// Ends all windows where they are.
    pub fn finish(&mut self, time: f64) {
        let records: Vec<_> =
            self.accounts.iter_mut().flat_map(|account| account.windows.finish(time)).collect();
        self.keep(&records, Vec::new());
    }

    fn keep(&mut self, records: &[WindowRecord], events: Vec<Event>) {
        if !records.is_empty() || !events.is_empty() {
            self.stores.iter_mut().for_each(|store| store.store(records, &events));
        }
        for event in events {
            log(&told(&event));
            self.board.add_event(event);
        }
    }

    fn work(mut self, samples: &Receiver<Sample>) {
        let mut ticked = Instant::now();
        loop {
            match samples.recv_timeout(TICK) {
                Ok(sample) => self.count(&sample),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(unix_time()),
            }
            if ticked.elapsed() >= TICK {
                self.tick(unix_time());
                ticked = Instant::now();
            }
        }
    }
}

/// The recorder at work. It ends when all that may send to it are gone.
pub struct RecorderThread(Option<JoinHandle<()>>);

impl RecorderThread {
    /// Begins the work.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(recorder: Recorder) -> Result<(Self, SyncSender<Sample>)> {
        let (send, samples) = sync_channel(ROOM);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || recorder.work(&samples));
        Ok((Self(Some(thread.context("no thread for the recorder")?)), send))
    }
}

impl Drop for RecorderThread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// An event as a line of the log.
fn told(event: &Event) -> String {
    match &event.kind {
        EventKind::LevelChanged { region, from, to } => {
            let region = region.as_ref().map(|region| format!(", {region}")).unwrap_or_default();
            format!("{}{region}: {} after {}", event.camera, to.name(), from.name())
        }
        EventKind::CameraLost { reason } if reason.is_empty() => format!("{}: lost", event.camera),
        EventKind::CameraLost { reason } => format!("{}: lost: {reason}", event.camera),
        EventKind::CameraBack => format!("{}: back", event.camera),
    }
}
