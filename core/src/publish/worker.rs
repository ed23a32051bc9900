//! The thread of a destination, and what publishers share with it.

use std::collections::{HashMap, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use nix::sys::signal::{SigSet, Signal};
use parking_lot::{Condvar, Mutex, MutexGuard};
use thiserror::Error;

use super::queue::{Account, Queue, Statistics};
use super::sink::{Destination, LocationError, Log, Report, Sink, SinkError, SinkSettings};
use super::trouble::{Cause, Trouble, TroubleEnd};

/// How long a publisher waits for its sink when it begins, is flushed, or ends.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The same for a sink that has taken nothing for [`PATIENCE`] already.
pub const GRACE: Duration = Duration::from_millis(250);

/// Pauses between two tries to open a sink: the first one, which doubles, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Most reports, and bytes of JSON, that go to a sink at once.
const BATCH: (usize, usize) = (256, 1 << 20);

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

/// What the user chose of a publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishSettings {
    /// Reports that wait at most. Publishers that share a sink share the largest queue.
    pub queue_size: usize,
    /// The sink's own. The first publisher of a location decides.
    pub sink: SinkSettings,
}

/// A publisher that cannot begin.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The location is none.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The location cannot be written to, and time will not change that.
    #[error("{place}: {reason}")]
    Refused {
        /// The location.
        place: String,
        /// Why.
        reason: String,
    },
    /// The system gives no thread.
    #[error("no thread can be started: {0}")]
    Thread(#[from] io::Error),
}

struct State {
    queue: Queue,
    publishers: Vec<(u64, Listener)>,
    next_publisher: u64,
    settings: SinkSettings,
    /// To be opened in place of what is open.
    destination: Option<Destination>,
    opening: Opening,
    /// Since when the worker waits for the operating system.
    busy_since: Option<Instant>,
    /// When the sink took a report last, or the queue had none for it.
    progress: Instant,
    /// The pause before the next try is cut short.
    hurried: bool,
    trouble: Trouble,
    events: VecDeque<Event>,
    /// A thread is calling listeners.
    announcing: bool,
    /// The worker has ended.
    ended: bool,
}

enum Opening {
    /// The sink has never been open.
    Pending,
    /// It is open, or has failed in a way that may pass.
    Open,
    /// The location is wrong.
    Refused(SinkError),
}

struct Shared {
    key: String,
    place: String,
    state: Mutex<State>,
    changed: Condvar,
}

/// The destinations that have a worker, by key. Locked before a destination's state.
static WORKERS: LazyLock<Mutex<HashMap<String, Arc<Shared>>>> = LazyLock::new(Mutex::default);

/// A way to a destination. Dropping it ends it as [`Publisher::close`] does.
pub struct Publisher {
    shared: Arc<Shared>,
    id: u64,
    account: Account,
}

impl Publisher {
    /// A publisher to `location`: see [`Destination::parse`].
    ///
    /// Waits until the sink is open, for [`PATIENCE`] at most. A sink that cannot be opened for a
    /// reason that may pass, such as a full disk or a FIFO without a reader, is tried again and
    /// again; `listener` is told.
    ///
    /// # Errors
    /// No sink can be opened there, whatever happens.
    pub fn open(location: &str, settings: &PublishSettings, listener: Listener) -> Result<Self, PublishError> {
        let destination = Destination::parse(location, &settings.sink)?;
        Self::start(destination, settings, listener)
    }

    /// A publisher to `destination`.
    pub fn start(
        destination: Destination,
        settings: &PublishSettings,
        listener: Listener,
    ) -> Result<Self, PublishError> {
        let now = Instant::now();
        let mut workers = WORKERS.lock();
        let shared = match workers.get(&destination.key) {
            Some(shared) => shared.clone(),
            None => {
                let shared = Arc::new(Shared::new(&destination, settings, now));
                let own = shared.clone();
                // Never joined: `State::ended` tells that it is done, and a write may never return.
                thread::Builder::new().name("vehicle-publish".to_owned()).spawn(move || Worker::run(&own))?;
                workers.insert(destination.key.clone(), shared.clone());
                shared
            }
        };
        let mut state = shared.state.lock();
        drop(workers);
        let id = state.next_publisher;
        state.next_publisher += 1;
        if state.publishers.is_empty() {
            // The first one, or the first after all others have left a worker that has not ended.
            state.queue.abandon();
            state.queue.resize(settings.queue_size);
            state.settings = settings.sink.clone();
            state.destination = Some(destination);
            state.opening = Opening::Pending;
            state.progress = now;
        } else {
            let size = settings.queue_size.max(state.queue.limit());
            state.queue.resize(size);
            if state.settings != settings.sink {
                let remark = format!("{} is open already: other settings of its first publisher hold", shared.place);
                state.events.push_back(Event::Remark(remark));
            }
        }
        state.publishers.push((id, listener));
        shared.changed.notify_all();

        let publisher = Self { shared: shared.clone(), id, account: Account::default() };
        // A worker that has been stuck for long is not waited for again.
        let deadline = state.busy_since.unwrap_or(now).min(now) + PATIENCE;
        while matches!(state.opening, Opening::Pending) {
            if shared.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let refusal = match &state.opening {
            Opening::Refused(error) => Some(error.reason.clone()),
            Opening::Pending | Opening::Open => None,
        };
        drop(state);
        if let Some(reason) = refusal {
            return Err(PublishError::Refused { place: shared.place.clone(), reason });
        }
        shared.announce();
        Ok(publisher)
    }

    /// Where the reports go.
    pub fn place(&self) -> &str {
        &self.shared.place
    }

    /// Puts a report into the queue. Returns whether the oldest one was dropped for it.
    pub fn push(&self, report: Report) -> bool {
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        if state.queue.is_empty() {
            state.progress = now;
        }
        let dropped_before = state.queue.dropped();
        let dropped = state.queue.push(report, &self.account);
        let silence = now - state.progress;
        if dropped {
            let limit = state.queue.limit();
            state.fail(&self.shared.place, now, dropped_before, Cause::Overflow(limit));
        } else if silence > PATIENCE {
            state.fail(&self.shared.place, now, dropped_before, Cause::Stall(silence));
        }
        self.shared.changed.notify_all();
        drop(state);
        self.shared.announce();
        dropped
    }

    /// Waits until the sink has taken everything that this publisher has pushed, for [`PATIENCE`]
    /// at most. Where the sink has taken nothing for that long already, it is asked once more, for
    /// [`GRACE`]. Returns how many reports still wait.
    pub fn flush(&self) -> u64 {
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        let deadline = state.deadline(now);
        state.hurried = true;
        self.shared.changed.notify_all();
        // The last publisher waits for what others have left behind, too.
        let waits =
            |state: &State| self.statistics().waiting > 0 || (state.publishers.len() == 1 && !state.queue.is_empty());
        while waits(&state) && !state.ended {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                let (end, dropped) = (Instant::now(), state.queue.dropped());
                let silence = end - state.progress;
                state.fail(&self.shared.place, end, dropped, Cause::Stall(silence));
                break;
            }
        }
        if state.queue.is_empty() && matches!(state.opening, Opening::Open) {
            state.recover(&self.shared.place, Instant::now());
        }
        drop(state);
        self.shared.announce();
        self.statistics().waiting
    }

    /// What became of the reports of this publisher.
    pub fn statistics(&self) -> Statistics {
        *self.account.lock()
    }

    /// The same, as an account that is kept on while reports of this publisher wait, even when it
    /// has ended.
    pub fn account(&self) -> Account {
        self.account.clone()
    }

    /// Flushes, and ends. Where this was the last publisher of its destination, what still waits is
    /// dropped and the sink closed; where it cannot be closed in time, its thread stays behind until
    /// it can. Returns what became of the reports; those that wait are with the other publishers.
    pub fn close(self) -> Statistics {
        let account = self.account.clone();
        drop(self);
        *account.lock()
    }

    fn leave(&self) {
        let Shared { state, changed, place, .. } = &*self.shared;
        let mut state = state.lock();
        let others = state.publishers.iter().any(|(id, _)| *id != self.id);
        if !others {
            state.queue.abandon();
            state.end(place, Instant::now(), false);
            // The last one hears it.
            drop(state);
            self.shared.announce();
            state = self.shared.state.lock();
        }
        state.publishers.retain(|(id, _)| *id != self.id);
        changed.notify_all();
        let now = Instant::now();
        let deadline = state.deadline(now);
        while state.publishers.is_empty() && !state.ended {
            if changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.flush();
        self.leave();
    }
}

impl State {
    /// Until when the sink is waited for.
    fn deadline(&self, now: Instant) -> Instant {
        match self.busy_since {
            // It will not return just now.
            Some(since) if since + PATIENCE <= now => now,
            since => (since.unwrap_or(now).min(self.progress) + PATIENCE).clamp(now + GRACE, now + PATIENCE),
        }
    }

    fn fail(&mut self, place: &str, now: Instant, dropped_before: u64, cause: Cause) {
        if self.trouble.begin(now, dropped_before) {
            let limit = self.queue.limit();
            self.events.push_back(Event::Trouble { place: place.to_owned(), cause, limit });
        }
    }

    fn recover(&mut self, place: &str, now: Instant) {
        self.end(place, now, true);
    }

    fn end(&mut self, place: &str, now: Instant, recovered: bool) {
        if let Some(end) = self.trouble.end(now, self.queue.dropped(), recovered) {
            self.events.push_back(Event::TroubleEnd { place: place.to_owned(), end });
        }
    }
}

impl Shared {
    fn new(destination: &Destination, settings: &PublishSettings, now: Instant) -> Self {
        let state = State {
            queue: Queue::new(settings.queue_size),
            publishers: Vec::new(),
            next_publisher: 0,
            settings: settings.sink.clone(),
            destination: None,
            opening: Opening::Pending,
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
    fn announce(&self) {
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
            MutexGuard::unlocked(&mut state, || listeners.iter().for_each(|listener| (listener.call)(&event)));
            state.announcing = false;
        }
    }
}

/// What the thread has.
struct Worker<'a> {
    shared: &'a Shared,
    log: Log,
    destination: Option<Destination>,
    sink: Option<Box<dyn Sink>>,
    /// Reports that the sink is working on.
    batch: Vec<Report>,
    /// The queue's generation when they were taken.
    generation: u64,
    /// When the sink is opened next, and the pause after that.
    retry: (Instant, Duration),
}

/// What the worker does next.
enum Step {
    /// Opens another destination.
    Change(Destination),
    Open,
    Send,
    End,
}

impl<'a> Worker<'a> {
    fn run(shared: &'a Arc<Shared>) {
        block_signals();
        let own = shared.clone();
        let log: Log = Arc::new(move |remark| {
            own.state.lock().events.push_back(Event::Remark(remark));
            own.announce();
        });
        let retry = (Instant::now(), PAUSES.0);
        let mut worker = Self { shared, log, destination: None, sink: None, batch: Vec::new(), generation: 0, retry };
        loop {
            let step = worker.next();
            match step {
                Step::Change(destination) => {
                    worker.sink = None;
                    worker.batch.clear();
                    worker.destination = Some(destination);
                    worker.retry = (Instant::now(), PAUSES.0);
                }
                Step::Open => worker.open(),
                Step::Send => worker.send(),
                Step::End => {
                    worker.sink = None;
                    worker.destination = None;
                    worker.batch.clear();
                    if worker.end() {
                        return;
                    }
                }
            }
            shared.announce();
        }
    }

    /// Waits for something to do.
    fn next(&mut self) -> Step {
        let Shared { state, changed, place, .. } = self.shared;
        let mut state = state.lock();
        loop {
            if let Some(destination) = state.destination.take() {
                return Step::Change(destination);
            }
            if state.publishers.is_empty() {
                return Step::End;
            }
            let now = Instant::now();
            let wake = if matches!(state.opening, Opening::Refused(_)) {
                // The publishers leave.
                None
            } else if self.sink.is_none() {
                if std::mem::take(&mut state.hurried) || now >= self.retry.0 {
                    state.busy_since = Some(now);
                    return Step::Open;
                }
                Some(self.retry.0)
            } else {
                if self.batch.is_empty() {
                    self.batch = state.queue.take(BATCH.0, BATCH.1);
                    self.generation = state.queue.generation();
                }
                if !self.batch.is_empty() {
                    state.busy_since = Some(now);
                    return Step::Send;
                }
                // Everything is delivered: a trouble ends when it has been quiet for a while.
                state.hurried = false;
                match state.trouble.quiet_at() {
                    Some(end) if end <= now => {
                        state.recover(place, now);
                        drop(state);
                        self.shared.announce();
                        state = self.shared.state.lock();
                        continue;
                    }
                    end => end,
                }
            };
            match wake {
                Some(wake) => drop(changed.wait_until(&mut state, wake)),
                None => changed.wait(&mut state),
            }
        }
    }

    fn open(&mut self) {
        let Some(destination) = &mut self.destination else { return };
        let result = guarded(|| (destination.open)(&self.log));
        let mut state = self.shared.state.lock();
        state.busy_since = None;
        match result {
            Ok(sink) => {
                self.sink = Some(sink);
                state.opening = Opening::Open;
            }
            Err(error) => {
                let first = matches!(state.opening, Opening::Pending);
                if first && error.permanent {
                    state.opening = Opening::Refused(error);
                } else {
                    if first {
                        state.opening = Opening::Open;
                    }
                    self.fail(&mut state, error);
                }
            }
        }
        self.shared.changed.notify_all();
    }

    fn send(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        let result = guarded(|| sink.send(&self.batch));
        let mut failed = None;
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        state.busy_since = None;
        let delivered = match &result {
            Ok(sent) => sent.delivered,
            Err(error) => error.delivered,
        };
        if state.queue.generation() == self.generation {
            let delivered = delivered.min(self.batch.len());
            state.queue.deliver(delivered);
            self.batch.drain(..delivered);
            if delivered > 0 {
                state.progress = now;
                self.retry.1 = PAUSES.0;
            }
            match result {
                Ok(_) if now - state.progress > PATIENCE => {
                    let (dropped, silence) = (state.queue.dropped(), now - state.progress);
                    state.fail(&self.shared.place, now, dropped, Cause::Stall(silence));
                }
                Ok(_) => {}
                Err(error) => {
                    self.fail(&mut state, error);
                    state.queue.put_back(std::mem::take(&mut self.batch));
                    failed = self.sink.take();
                }
            }
        } else {
            // Nobody asks for these reports any more.
            self.batch.clear();
            if result.is_err() {
                failed = self.sink.take();
            }
        }
        self.shared.changed.notify_all();
        drop(state);
        // Closing a file may wait.
        drop(failed);
    }

    fn fail(&mut self, state: &mut State, error: SinkError) {
        let now = Instant::now();
        self.retry.0 = now + self.retry.1;
        self.retry.1 = (self.retry.1 * 2).min(PAUSES.1);
        let dropped = state.queue.dropped();
        state.fail(&self.shared.place, now, dropped, Cause::Failure(error.reason));
    }

    /// Ends, unless another publisher has come.
    fn end(&mut self) -> bool {
        let mut workers = WORKERS.lock();
        let mut state = self.shared.state.lock();
        let ends = state.publishers.is_empty();
        if ends {
            workers.remove(&self.shared.key);
            state.ended = true;
            self.shared.changed.notify_all();
        }
        ends
    }
}

/// What a sink does, a panic being a failure like others.
fn guarded<T>(action: impl FnOnce() -> Result<T, SinkError>) -> Result<T, SinkError> {
    panic::catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|_| Err(SinkError::temporary("the sink panicked; standard error has the reason")))
}

/// Blocks signals on this thread, except those that report a fault of the thread itself.
///
/// The kernel sends SIGPIPE (a pipe without a reader) and SIGXFSZ (a file beyond RLIMIT_FSIZE) to
/// the thread that writes. Both end the process by default; blocked, they leave the error that the
/// write returns. The disposition of the process stays as it is.
fn block_signals() {
    const FAULTS: [Signal; 7] = [
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ];
    let mut signals = SigSet::all();
    for fault in FAULTS {
        signals.remove(fault);
    }
    // Cannot fail: the set is valid.
    let _ = signals.thread_block();
}
