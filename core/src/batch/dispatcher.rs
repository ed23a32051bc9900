//! Threads that take batches to the engine and results back to the cameras.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::instance::{Instance, Lease};
use super::instances::{Instances, Reopen};
use super::lanes::Lanes;
use super::looks::Looks;
use super::waiting::{CameraId, Due, WaitingRoom};
use crate::detail::Blend;
use crate::engine::{self, Engine, EngineError, EngineInfo, EngineKind, Output, ProgressSink};
use crate::preprocess::{InputScale, InputShapes};

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

/// A frame that waits, or a look of one.
struct WaitingFrame {
    ticket: u64,
    lease: Lease,
    report: Report,
    /// The frame's looks, and which of them this is.
    look: Option<(Arc<Looks>, usize)>,
}

struct State {
    room: WaitingRoom<WaitingFrame>,
    batches: u64,
    frames: u64,
    sizes: [u64; BATCH_SIZES.len() + 1],
    busy: Duration,
    stopping: bool,
}

/// The most inputs of the batches that [`Totals::sizes`] counts together.
pub const BATCH_SIZES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// What an engine has done since it was opened, and what it has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Batches that were counted.
    pub batches: u64,
    /// Inputs in them: frames, or the looks of frames that have several.
    pub frames: u64,
    /// Batches by size: those of up to the first of [`BATCH_SIZES`] inputs, of more and up to the
    /// second, and so on; the last are larger than all of them.
    pub sizes: [u64; BATCH_SIZES.len() + 1],
    /// How long the lanes worked on them, all lanes together.
    pub busy: Duration,
    /// Lanes, which work side by side.
    pub lanes: usize,
    /// Inputs that wait for a lane at the moment.
    pub waiting: usize,
}

struct Shared {
    instances: Instances,
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

impl Dispatcher {
    /// Opens the lanes of `engine`, which takes every picture at its one input size, and starts a
    /// thread for each.
    pub fn start(
        engine: Arc<dyn Engine>,
        settings: BatchSettings,
    ) -> Result<Arc<Self>, EngineError> {
        let shapes = InputShapes::fixed(engine.info().input);
        Self::start_with(Instances::new(engine, shapes, None)?, settings)
    }

    /// As [`start`](Self::start), of an engine that takes pictures at several input sizes. `engine`
    /// is open at the first of `shapes`; `reopen` opens it at another one when a camera needs that.
    pub fn start_shapes(
        engine: Arc<dyn Engine>,
        shapes: InputShapes,
        reopen: Reopen,
        settings: BatchSettings,
    ) -> Result<Arc<Self>, EngineError> {
        Self::start_with(Instances::new(engine, shapes, Some(reopen))?, settings)
    }

    fn start_with(instances: Instances, settings: BatchSettings) -> Result<Arc<Self>, EngineError> {
        let state = State {
            room: WaitingRoom::new(settings.batch_size, settings.timeout),
            batches: 0,
            sizes: Default::default(),
            frames: 0,
            busy: Duration::ZERO,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            instances,
            state: Mutex::new(state),
            wake: Condvar::new(),
            epoch: Instant::now(),
        });
        let mut dispatcher = Self { shared, settings, threads: Vec::new() };
        for index in 0..dispatcher.shared.instances.threads() {
            let shared = dispatcher.shared.clone();
            let thread = thread::Builder::new()
                .name(format!("vehicles-{index}"))
                .spawn(move || work(&shared));
            // Dropping the dispatcher ends the threads that did start.
            dispatcher.threads.push(thread.map_err(|error| EngineError::Infer {
                kind: dispatcher.info().kind,
                reason: format!("cannot start a thread: {error}"),
            })?);
        }
        Ok(Arc::new(dispatcher))
    }

    /// What the engine says of itself, at the input size that was opened first.
    pub fn info(&self) -> &EngineInfo {
        self.shared.instances.first().info()
    }

    /// The engine, at the input size that was opened first.
    pub fn engine(&self) -> &dyn Engine {
        self.shared.instances.first().engine()
    }

    /// The engine at the input size that was opened first.
    pub fn first(&self) -> &Arc<Instance> {
        self.shared.instances.first()
    }

    /// The engine at the input size for pictures of `width` x `height`; `None` where it must be
    /// opened at that size first ([`open`](Self::open)). Where it does not open at that size, it is
    /// the best of those at which it is open.
    pub fn instance(&self, width: usize, height: usize) -> Option<Arc<Instance>> {
        self.instance_at(InputScale::NORMAL, width, height)
    }

    /// As [`instance`](Self::instance), for a camera of that scale.
    pub fn instance_at(
        &self,
        scale: InputScale,
        width: usize,
        height: usize,
    ) -> Option<Arc<Instance>> {
        self.shared.instances.fitting(scale, width, height)
    }

    /// Whether every picture goes into one input size, whatever its shape and scale.
    pub fn is_fixed(&self) -> bool {
        self.shared.instances.is_fixed()
    }

    /// As [`instance`](Self::instance), and opens it, which may take as long as opening an engine
    /// does: `watch` is told. It is opened once: others that want the same size wait meanwhile. The
    /// flag says whether this call has opened it. A size that did not open is not tried again.
    pub fn open(
        &self,
        width: usize,
        height: usize,
        watch: &ProgressSink,
    ) -> Result<(Arc<Instance>, bool), EngineError> {
        self.open_at(InputScale::NORMAL, width, height, watch)
    }

    /// As [`open`](Self::open), for a camera of that scale.
    pub fn open_at(
        &self,
        scale: InputScale,
        width: usize,
        height: usize,
        watch: &ProgressSink,
    ) -> Result<(Arc<Instance>, bool), EngineError> {
        self.shared.instances.open(scale, width, height, watch)
    }

    /// How frames are batched.
    pub fn settings(&self) -> BatchSettings {
        self.settings
    }

    /// What the engine has done so far.
    pub fn totals(&self) -> Totals {
        let state = self.shared.lock();
        let State { batches, frames, sizes, busy, .. } = *state;
        let waiting = state.room.len();
        Totals { batches, frames, sizes, busy, lanes: self.threads.len(), waiting }
    }

    /// Slots that exist, in use or spare: memory follows the number of cameras and what they need.
    pub fn slots(&self) -> usize {
        self.shared.instances.open_ones().iter().map(|instance| instance.slots()).sum()
    }

    /// A seat for a new camera. `report` hears of every frame that it submits, exactly once, unless
    /// the frame is cancelled or the seat dropped before. It is called with no lock held, on a
    /// lane's thread, or on the submitting one for a frame that is dropped.
    pub fn join(
        self: &Arc<Self>,
        report: impl Fn(u64, Outcome<'_>) + Send + Sync + 'static,
    ) -> Seat {
        let id = self.shared.lock().room.join();
        let instance = Mutex::new(self.shared.instances.first().clone());
        Seat { dispatcher: self.clone(), id, report: Arc::new(report), instance }
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
    /// Where its slots come from.
    instance: Mutex<Arc<Instance>>,
}

impl Seat {
    /// The dispatcher that it joined.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// The engine at the input size of the camera's pictures: at first the one that was opened
    /// first.
    pub fn instance(&self) -> Arc<Instance> {
        self.instance.lock().clone()
    }

    /// The camera's pictures go to `instance`, one of the dispatcher's, from now on. What waits at
    /// another one is counted there, in its order.
    pub fn move_to(&self, instance: &Arc<Instance>) {
        let mut held = self.instance.lock();
        if Arc::ptr_eq(&held, instance) {
            return;
        }
        let before = std::mem::replace(&mut *held, instance.clone());
        drop(held);
        before.move_away(self.id);
    }

    /// A slot to write a frame into: one that was used before, if there is one. Dropping it gives
    /// it back.
    pub fn slot(&self) -> Lease {
        self.instance().lease(self.id)
    }

    /// Hands a frame to the engine. `ticket` comes back with its outcome. At most `keep` of this
    /// camera's frames wait, the newest.
    pub fn submit(&self, ticket: u64, lease: Lease, keep: usize) {
        let shape = lease.instance().index();
        let waiting = WaitingFrame { ticket, lease, report: self.report.clone(), look: None };
        self.push([(shape, waiting)], keep);
    }

    /// As [`submit`](Self::submit), of a frame of several looks: first the whole picture, then
    /// those of `blend`, in its order. It has one outcome, when all its looks have theirs: their
    /// blended density, or why a look failed.
    ///
    /// # Panics
    /// When there are not as many leases as looks.
    pub fn submit_looks(&self, ticket: u64, leases: Vec<Lease>, blend: &Arc<Blend>, keep: usize) {
        let looks = Arc::new(Looks::new(blend.clone(), leases.len()));
        let waiting = leases.into_iter().enumerate().map(|(index, lease)| {
            let look = Some((looks.clone(), index));
            let shape = lease.instance().index();
            (shape, WaitingFrame { ticket, lease, report: self.report.clone(), look })
        });
        self.push(waiting, keep);
    }

    fn push(&self, looks: impl IntoIterator<Item = (usize, WaitingFrame)>, keep: usize) {
        let shared = &self.dispatcher.shared;
        let mut state = shared.lock();
        let dropped = state.room.push_looks(self.id, looks, keep, shared.now());
        drop(state);
        shared.wake.notify_one();
        // All looks of one frame, which has one outcome.
        if let Some(ticket) = dropped.first().map(|waiting| waiting.ticket) {
            drop(dropped);
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
        for instance in self.dispatcher.shared.instances.open_ones() {
            instance.leave(self.id);
        }
    }
}

/// A thread's life: wait for a batch, infer, report, until the dispatcher goes. A panic of the
/// engine fails its batch, one of a report fails that camera's frame; the thread goes on. It has a
/// lane of its own at each input size.
fn work(shared: &Shared) {
    let mut lanes = Lanes::default();
    let (mut batch, mut slots) = (Vec::<WaitingFrame>::new(), Vec::new());
    while next_batch(shared, &mut batch) {
        let Some(instance) = batch.first().map(|waiting| waiting.lease.instance().clone()) else {
            continue;
        };
        slots.extend(batch.iter_mut().filter_map(|waiting| waiting.lease.take()));
        let begin = shared.now();
        let result = lanes.infer(&instance, &mut slots);
        let inference_time = shared.now() - begin;
        for (waiting, slot) in batch.iter_mut().zip(slots.drain(..)) {
            waiting.lease.put(slot);
        }
        let number = {
            let mut state = shared.lock();
            state.batches += 1;
            state.frames += batch.len() as u64;
            let size = BATCH_SIZES.partition_point(|&most| most < batch.len());
            state.sizes[size] += 1;
            state.busy += inference_time;
            state.batches
        };
        let kind = instance.info().kind;
        for WaitingFrame { ticket, lease, report, look } in batch.drain(..) {
            let Some((looks, index)) = look else {
                let outcome = match &result {
                    Ok(()) => Outcome::Counted { output: &lease.output, inference_time },
                    Err(error) => Outcome::Failed(error),
                };
                tell(kind, &report, ticket, outcome);
                continue;
            };
            let output = result.as_ref().map(|()| &lease.output);
            let Some(finished) = looks.put(index, output, number, inference_time, kind) else {
                continue;
            };
            drop(lease);
            let outcome = match &finished {
                Ok((output, inference_time)) => {
                    Outcome::Counted { output, inference_time: *inference_time }
                }
                Err(error) => Outcome::Failed(error),
            };
            tell(kind, &report, ticket, outcome);
        }
    }
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
                state.room.take(batch, now);
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
