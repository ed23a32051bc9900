//! The thread of a destination.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::settings::PATIENCE;
use super::shared::{Event, OpenState, Shared, State, WORKERS};
use super::sink::{Destination, Log, Report, Sink, SinkError};
use super::trouble::Cause;

/// Pauses between two tries to open a sink: the first one, which doubles, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Most reports, and bytes of JSON, that go to a sink at once.
const BATCH: (usize, usize) = (256, 1 << 20);

/// What the thread has.
pub struct Worker<'a> {
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
    /// Runs until the last publisher has left.
    pub fn run(shared: &'a Arc<Shared>) {
        block_signals();
        let own = shared.clone();
        let log: Log = Arc::new(move |remark| {
            own.state.lock().events.push_back(Event::Remark(remark));
            own.announce();
        });
        let retry = (Instant::now(), PAUSES.0);
        let mut worker = Self {
            shared,
            log,
            destination: None,
            sink: None,
            batch: Vec::new(),
            generation: 0,
            retry,
        };
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
            let wake = if matches!(state.opening, OpenState::Refused(_)) {
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
                state.opening = OpenState::Open;
            }
            Err(error) => {
                let first = matches!(state.opening, OpenState::Pending);
                if first && error.permanent {
                    state.opening = OpenState::Refused(error);
                } else {
                    if first {
                        state.opening = OpenState::Open;
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
            // These reports are no longer asked for.
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
    panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        Err(SinkError::temporary("the sink panicked; standard error has the reason"))
    })
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
