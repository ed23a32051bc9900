//! Threads that take batches to the engine and results back to the cameras.

use std::collections::{HashMap, HashSet};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::pool::{Lease, Pool};
use super::waiting::{CameraId, Due, WaitingRoom};
use crate::engine::{
    self, Engine, EngineError, EngineInfo, EngineKind, Lane, Output, Progress, ProgressSink, Slot,
};
use crate::preprocess::InputSize;
use crate::tensorrt::Precision;

/// How frames are batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Largest batch, at least 1.
    pub batch_size: usize,
    /// How long a frame waits for a batch to fill; zero lets a free engine take what is there.
    pub timeout: Duration,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The engine counted.
    Counted {
        /// What it left: the density map, or its sums where the slot came with weights.
        output: &'a Output,
        /// How long the engine worked on the batch.
        inference_time: Duration,
    },
    /// A newer frame of the same camera took its place.
    Dropped,
    /// The engine failed.
    Failed(&'a EngineError),
}

type Report = Arc<dyn Fn(u64, Outcome<'_>) + Send + Sync>;

struct WaitingFrame {
    ticket: u64,
    lease: Lease,
    report: Report,
}

struct State {
    room: WaitingRoom<WaitingFrame>,
    batches: u64,
    frames: u64,
    stopping: bool,
}

struct Shared {
    engine: Arc<dyn Engine>,
    pool: Arc<Pool>,
    state: Mutex<State>,
    wake: Condvar,
    epoch: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// One engine at work for all cameras that joined it.
pub struct Dispatcher {
    shared: Arc<Shared>,
    settings: BatchSettings,
    threads: Vec<JoinHandle<()>>,
}

/// What elements must have in common to share a [`Dispatcher`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedKey {
    /// The user's name for the engine.
    pub engine_id: String,
    /// The engine asked for.
    pub kind: EngineKind,
    /// The model's folder and name, or its file.
    pub model: PathBuf,
    /// The input size asked for.
    pub input: Option<InputSize>,
    /// Index of the GPU.
    pub gpu: u32,
    /// The precision asked for.
    pub precision: Precision,
    /// Handle of the CUDA context asked for; 0: the primary one.
    pub context: usize,
}

/// The dispatchers that are shared, and those that are being opened.
#[derive(Default)]
struct Dispatchers {
    open: HashMap<SharedKey, Weak<Dispatcher>>,
    opening: HashSet<SharedKey>,
}

static SHARED: LazyLock<Mutex<Dispatchers>> = LazyLock::new(Mutex::default);

/// An engine was opened, or its opening given up.
static SETTLED: Condvar = Condvar::new();

/// How often a caller that waits for another's opening asks whether to go on.
const PATIENCE: Duration = Duration::from_millis(100);

/// A dispatcher is being opened for this key; no more when this is dropped.
struct KeyGuard(SharedKey);

impl Drop for KeyGuard {
    fn drop(&mut self) {
        SHARED.lock().opening.remove(&self.0);
        SETTLED.notify_all();
    }
}

impl Dispatcher {
    /// Opens the engine's lanes and starts a thread for each.
    pub fn start(
        engine: Arc<dyn Engine>,
        settings: BatchSettings,
    ) -> Result<Arc<Self>, EngineError> {
        let lanes: Vec<_> =
            (0..engine.info().lanes.max(1)).map(|_| engine.lane()).collect::<Result<_, _>>()?;
        let state = State {
            room: WaitingRoom::new(settings.batch_size, settings.timeout),
            batches: 0,
            frames: 0,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            pool: Pool::new(engine.clone()),
            engine,
            state: Mutex::new(state),
            wake: Condvar::new(),
            epoch: Instant::now(),
        });
        let mut dispatcher = Self { shared, settings, threads: Vec::new() };
        for (index, lane) in lanes.into_iter().enumerate() {
            let shared = dispatcher.shared.clone();
            let thread = thread::Builder::new()
                .name(format!("vehicles-{index}"))
                .spawn(move || work(&shared, lane));
            // Dropping the dispatcher ends the threads that did start.
            dispatcher.threads.push(thread.map_err(|error| EngineError::Infer {
                kind: dispatcher.info().kind,
                reason: format!("cannot start a thread: {error}"),
            })?);
        }
        Ok(Arc::new(dispatcher))
    }

    /// The dispatcher that others in this process already use for `key`, or the one that `start`
    /// makes. An engine is opened once: others who want it wait meanwhile, and `watch` is asked
    /// whether to go on. The flag says whether it was there before.
    pub fn shared(
        key: SharedKey,
        watch: &ProgressSink,
        start: impl FnOnce() -> Result<Arc<Self>, EngineError>,
    ) -> Result<(Arc<Self>, bool), EngineError> {
        let mut shared = SHARED.lock();
        while !shared.opening.insert(key.clone()) {
            // The lock is free while `watch` is asked.
            SETTLED.wait_for(&mut shared, PATIENCE);
            if !shared.opening.contains(&key) {
                continue;
            }
            drop(shared);
            if !watch.tell(Progress::Waiting) {
                return Err(EngineError::Ended);
            }
            shared = SHARED.lock();
        }
        let found = shared.open.get(&key).and_then(Weak::upgrade);
        shared.open.retain(|_, dispatcher| dispatcher.strong_count() > 0);
        drop(shared);
        // From here on the key is this caller's, until `guard` is dropped.
        let guard = KeyGuard(key);
        if let Some(dispatcher) = found {
            return Ok((dispatcher, true));
        }
        let dispatcher = start()?;
        let mut shared = SHARED.lock();
        shared.open.insert(guard.0.clone(), Arc::downgrade(&dispatcher));
        drop(shared);
        Ok((dispatcher, false))
    }

    /// What the engine says of itself.
    pub fn info(&self) -> &EngineInfo {
        self.shared.engine.info()
    }

    /// The engine.
    pub fn engine(&self) -> &dyn Engine {
        &*self.shared.engine
    }

    /// How frames are batched.
    pub fn settings(&self) -> BatchSettings {
        self.settings
    }

    /// Batches and frames that the engine has counted so far.
    pub fn totals(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.batches, state.frames)
    }

    /// Slots that exist, in use or spare: memory follows the number of cameras and what they need.
    pub fn slots(&self) -> usize {
        self.shared.pool.total()
    }

    /// A seat for a new camera. `report` hears of every frame that it submits, exactly once, unless
    /// the frame is cancelled or the seat dropped before. It is called with no lock held, on a
    /// lane's thread, or on the submitting one for a frame that is dropped.
    pub fn join(
        self: &Arc<Self>,
        report: impl Fn(u64, Outcome<'_>) + Send + Sync + 'static,
    ) -> Seat {
        let id = self.shared.lock().room.join();
        Seat { dispatcher: self.clone(), id, report: Arc::new(report) }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A report may hold the last handle: a thread cannot wait for itself, and ends by
            // itself then.
            if thread.thread().id() != thread::current().id() {
                // Its panics are contained; one that was not has been printed.
                let _ = thread.join();
            }
        }
    }
}

/// One camera's place at the engine. Dropping it takes its waiting frames back, and frees the slots
/// that it needed.
pub struct Seat {
    dispatcher: Arc<Dispatcher>,
    id: CameraId,
    report: Report,
}

impl Seat {
    /// The dispatcher that it joined.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// A slot to write a frame into: one that was used before, if there is one. Dropping it gives
    /// it back.
    pub fn slot(&self) -> Lease {
        self.dispatcher.shared.pool.lease(self.id)
    }

    /// Hands a frame to the engine. `ticket` comes back with its outcome. At most `keep` of this
    /// camera's frames wait, the newest.
    pub fn submit(&self, ticket: u64, lease: Lease, keep: usize) {
        let shared = &self.dispatcher.shared;
        let waiting = WaitingFrame { ticket, lease, report: self.report.clone() };
        let mut state = shared.lock();
        let dropped = state.room.push(self.id, waiting, keep, shared.now());
        drop(state);
        shared.wake.notify_one();
        if let Some(WaitingFrame { ticket, lease, .. }) = dropped {
            drop(lease);
            (self.report)(ticket, Outcome::Dropped);
        }
    }

    /// Takes back what waits. What the engine already works on is still reported.
    pub fn cancel(&self) {
        let waiting = self.dispatcher.shared.lock().room.clear(self.id);
        drop(waiting);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let waiting = self.dispatcher.shared.lock().room.leave(self.id);
        drop(waiting);
        self.dispatcher.shared.pool.leave(self.id);
    }
}

/// A lane's life: wait for a batch, infer, report, until the dispatcher goes. A panic of the engine
/// fails its batch, one of a report fails that camera's frame; the thread goes on.
fn work(shared: &Shared, lane: Box<dyn Lane>) {
    let mut lane = Some(lane);
    let (mut batch, mut slots) = (Vec::<WaitingFrame>::new(), Vec::new());
    while next_batch(shared, &mut batch) {
        slots.extend(batch.iter_mut().filter_map(|waiting| waiting.lease.take()));
        let begin = shared.now();
        let result = infer(&*shared.engine, &mut lane, &mut slots);
        let inference_time = shared.now() - begin;
        for (waiting, slot) in batch.iter_mut().zip(slots.drain(..)) {
            waiting.lease.put(slot);
        }
        {
            let mut state = shared.lock();
            state.batches += 1;
            state.frames += batch.len() as u64;
        }
        for WaitingFrame { ticket, lease, report } in batch.drain(..) {
            let outcome = match &result {
                Ok(()) => Outcome::Counted { output: &lease.output, inference_time },
                Err(error) => Outcome::Failed(error),
            };
            tell(shared.engine.info().kind, &report, ticket, outcome);
        }
    }
}

/// Runs a batch on `lane`, which is made anew where there is none.
fn infer(
    engine: &dyn Engine,
    lane: &mut Option<Box<dyn Lane>>,
    slots: &mut [Slot],
) -> Result<(), EngineError> {
    let kind = engine.info().kind;
    let result = engine::contain(kind, "a batch", || {
        let lane = match lane {
            Some(lane) => lane,
            None => lane.insert(engine.lane()?),
        };
        lane.infer(slots)
    });
    if let Err(EngineError::Panicked { .. }) = result {
        // What it left is not known. It goes before its slots are used again: it may have to wait
        // for a device.
        let broken = lane.take();
        let _ = engine::contain(kind, "closing a lane", || {
            drop(broken);
            Ok(())
        });
    }
    result
}

/// Reports an outcome. A report that panics is told that its frame failed; where it panics again,
/// the panics have been printed.
fn tell(kind: EngineKind, report: &Report, ticket: u64, outcome: Outcome<'_>) {
    let told = engine::contain(kind, "what takes its counts", || {
        report(ticket, outcome);
        Ok(())
    });
    if let Err(error) = told {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| report(ticket, Outcome::Failed(&error))));
    }
}

/// Waits until a batch is due and takes it. `false` when the dispatcher goes.
fn next_batch(shared: &Shared, batch: &mut Vec<WaitingFrame>) -> bool {
    let mut state = shared.lock();
    loop {
        if state.stopping {
            return false;
        }
        let now = shared.now();
        match state.room.due(now) {
            Due::Now => {
                state.room.take(batch);
                // More may wait than one lane takes.
                if state.room.due(now) != Due::Never {
                    shared.wake.notify_one();
                }
                return true;
            }
            Due::Never => shared.wake.wait(&mut state),
            Due::At(at) => {
                shared.wake.wait_for(&mut state, at - now);
            }
        }
    }
}
