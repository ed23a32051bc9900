//! What becomes of the counts: windows and events, on a thread of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vehiclecount_core::count::Counts;
use vehiclecount_core::event::{Event, EventKind, Events, Told};
use vehiclecount_core::window::{Changes, WindowRecord, Windows};

use super::board::{Board, Camera, State, unix_time};
use super::log;
use super::progress::CameraProgress;

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
    /// What was told of it when its progress was kept last.
    kept: Told,
}

/// Where records and events go.
pub trait Store: Send {
    /// Takes in what has come to its end, and how far the recorder is with that.
    fn store(&mut self, records: &[WindowRecord], events: &[Event], progress: &[CameraProgress]);

    /// To be called again and again, with the time in seconds since 1970.
    fn tick(&mut self, time: f64);
}

/// All of them.
pub type Stores = Vec<Box<dyn Store>>;

/// Makes records and events of counts.
pub struct Recorder {
    board: Arc<Board>,
    accounts: Vec<Account>,
    stores: Stores,
    /// Cameras that are not there, and those that were there before a restart.
    earlier: BTreeMap<String, CameraProgress>,
    is_begun: bool,
}

/// What is to be stored.
#[derive(Default)]
struct Parcel {
    records: Vec<WindowRecord>,
    events: Vec<Event>,
    progress: Vec<CameraProgress>,
}

fn regions(camera: &Camera) -> Vec<String> {
    camera.settings.regions.regions.iter().map(|region| region.name.clone()).collect()
}

impl Account {
    /// Begins, or goes on with what is known of an earlier camera of that name, at `time`.
    fn new(
        camera: Arc<Camera>,
        earlier: Option<CameraProgress>,
        time: f64,
    ) -> (Self, Vec<WindowRecord>) {
        let (name, regions) = (&camera.settings.name, regions(&camera));
        let hold = camera.hold.as_secs_f64();
        let Some(CameraProgress { time: then, told, changes, .. }) = earlier else {
            let windows = Windows::new(name, &regions, hold);
            let events = Events::new(name, &regions, SETTLE);
            return (Self { camera, windows, events, kept: Told::default() }, Vec::new());
        };
        let mut windows = Windows::resume(name, then, &changes.pieces);
        let records = windows.change(time, &regions, hold);
        let events = Events::resume(name, &regions, SETTLE, &told);
        (Self { camera, windows, events, kept: told }, records)
    }

    /// The camera was changed: its windows go on, and what was told of it holds.
    fn change(&mut self, camera: Arc<Camera>, time: f64) -> Vec<WindowRecord> {
        let regions = regions(&camera);
        let records = self.windows.change(time, &regions, camera.hold.as_secs_f64());
        let told = self.events.told();
        self.events = Events::resume(&camera.settings.name, &regions, SETTLE, &told);
        self.camera = camera;
        records
    }

    /// How far it is, at `time` where nothing was counted.
    fn progress(&mut self, time: f64) -> CameraProgress {
        self.kept = self.events.told();
        CameraProgress {
            camera: self.camera.settings.name.clone(),
            time: self.windows.now().unwrap_or(time),
            told: self.kept.clone(),
            changes: self.windows.take_changes(),
        }
    }
}

impl Recorder {
    /// A recorder that goes on from what was kept, the earlier progress of cameras.
    pub fn new(board: Arc<Board>, stores: Stores, earlier: Vec<CameraProgress>) -> Self {
        let earlier = earlier.into_iter().map(|progress| (progress.camera.clone(), progress));
        Self { board, accounts: Vec::new(), stores, earlier: earlier.collect(), is_begun: false }
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
        if !records.is_empty() || !events.is_empty() {
            let progress = vec![account.progress(sample.time)];
            self.keep(Parcel { records, events, progress });
        }
    }

    /// Ends the accounts of cameras that are gone, and begins those of new ones. Those of cameras
    /// that were changed go on.
    fn follow(&mut self, time: f64) {
        let cameras = self.board.cameras();
        let is_there = |account: &mut Account| {
            cameras.iter().any(|camera| Arc::ptr_eq(camera, &account.camera))
        };
        let mut gone: Vec<_> = self.accounts.extract_if(.., |account| !is_there(account)).collect();
        let mut parcel = Parcel::default();
        for camera in &cameras {
            if self.accounts.iter().any(|account| Arc::ptr_eq(&account.camera, camera)) {
                continue;
            }
            let name = &camera.settings.name;
            let changed = gone.iter().position(|account| account.camera.settings.name == *name);
            let (mut account, records) = match changed.map(|index| gone.swap_remove(index)) {
                Some(mut account) => {
                    let records = account.change(camera.clone(), time);
                    (account, records)
                }
                None => Account::new(camera.clone(), self.earlier.remove(name), time),
            };
            parcel.records.extend(records);
            parcel.progress.push(account.progress(time));
            self.accounts.push(account);
        }
        for mut account in gone {
            parcel.records.extend(account.windows.finish(time));
            let progress = account.progress(time);
            parcel.progress.push(progress.clone());
            let left = CameraProgress { changes: Changes::default(), ..progress };
            self.earlier.insert(left.camera.clone(), left);
        }
        if !std::mem::replace(&mut self.is_begun, true) {
            // Cameras that are not in the configuration any more.
            for left in self.earlier.values_mut().filter(|left| !left.changes.pieces.is_empty()) {
                let pieces = std::mem::take(&mut left.changes.pieces);
                let mut windows = Windows::resume(&left.camera, left.time, &pieces);
                parcel.records.extend(windows.finish(left.time));
                parcel
                    .progress
                    .push(CameraProgress { changes: windows.take_changes(), ..left.clone() });
            }
        }
        self.keep(parcel);
    }

    /// Ends windows, and looks whether cameras are there, at `time`.
    pub fn tick(&mut self, time: f64) {
        self.follow(time);
        let mut parcel = Parcel::default();
        for account in &mut self.accounts {
            let records = account.windows.advance(time);
            let status = account.camera.status();
            let lost =
                (status.state != State::Live).then(|| status.reason.clone().unwrap_or_default());
            drop(status);
            let event = account.events.presence(time, lost.as_deref());
            if !records.is_empty() || event.is_some() || account.events.told() != account.kept {
                parcel.progress.push(account.progress(time));
            }
            parcel.records.extend(records);
            parcel.events.extend(event);
        }
        self.keep(parcel);
        self.stores.iter_mut().for_each(|store| store.tick(time));
        self.board.beat();
    }

    /// Goes on to the end at `time`. Windows that are open are kept for the next start.
    pub fn finish(&mut self, time: f64) {
        self.follow(time);
        let mut parcel = Parcel::default();
        for account in &mut self.accounts {
            parcel.records.extend(account.windows.lose(time));
            let mut progress = account.progress(time);
            progress.changes.pieces.extend(account.windows.open_pieces());
            parcel.progress.push(progress);
        }
        self.keep(parcel);
    }

    fn keep(&mut self, Parcel { records, events, progress }: Parcel) {
        if !records.is_empty() || !events.is_empty() || !progress.is_empty() {
            self.stores.iter_mut().for_each(|store| store.store(&records, &events, &progress));
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

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
