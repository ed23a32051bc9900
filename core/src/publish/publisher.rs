//! The end of a queue into which a stream puts its reports.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use thiserror::Error;

use super::queue::{Account, Statistics};
use super::settings::{GRACE, PATIENCE, PublishSettings};
use super::shared::{Event, Listener, OpenState, Shared, State, WORKERS};
use super::sink::{Destination, LocationError, Report};
use super::trouble::Cause;
use super::worker::Worker;

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
    pub fn open(
        location: &str,
        settings: &PublishSettings,
        listener: Listener,
    ) -> Result<Self, PublishError> {
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
                thread::Builder::new()
                    .name("vehicle-publish".to_owned())
                    .spawn(move || Worker::run(&own))?;
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
            state.opening = OpenState::Pending;
            state.progress = now;
        } else {
            let size = settings.queue_size.max(state.queue.limit());
            state.queue.resize(size);
            if state.settings != settings.sink {
                let remark = format!(
                    "{} is open already: other settings of its first publisher hold",
                    shared.place
                );
                state.events.push_back(Event::Remark(remark));
            }
        }
        state.publishers.push((id, listener));
        shared.changed.notify_all();

        let publisher = Self { shared: shared.clone(), id, account: Account::default() };
        // A worker that has been stuck for long is not waited for again.
        let deadline = state.busy_since.unwrap_or(now).min(now) + PATIENCE;
        while matches!(state.opening, OpenState::Pending) {
            if shared.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let refusal = match &state.opening {
            OpenState::Refused(error) => Some(error.reason.clone()),
            OpenState::Pending | OpenState::Open => None,
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
        let news = !state.events.is_empty();
        drop(state);
        if news {
            self.shared.announce();
        }
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
        let waits = |state: &State| {
            self.statistics().waiting > 0
                || (state.publishers.len() == 1 && !state.queue.is_empty())
        };
        while waits(&state) && !state.ended {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                let (end, dropped) = (Instant::now(), state.queue.dropped());
                let silence = end - state.progress;
                state.fail(&self.shared.place, end, dropped, Cause::Stall(silence));
                break;
            }
        }
        if state.queue.is_empty() && matches!(state.opening, OpenState::Open) {
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
    /// dropped and the sink closed; where it cannot be closed in time, its thread stays behind
    /// until it can. Returns what became of the reports; those that wait are with the other
    /// publishers.
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
            // Another thread may be about to tell it.
            let end = Instant::now() + GRACE;
            while state.announcing && !changed.wait_until(&mut state, end).timed_out() {}
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
