//! The input sizes at which one engine is open: each is opened when a camera first needs it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::instance::Instance;
use crate::engine::{Engine, EngineError, Progress, ProgressSink};
use crate::preprocess::{self, InputShapes, InputSize};

/// Opens the engine once more, at another input size.
pub type Reopen =
    Box<dyn Fn(InputSize, &ProgressSink) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>;

/// How often a caller that waits for another's opening is asked whether to go on.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Instances {
    shapes: InputShapes,
    reopen: Option<Reopen>,
    /// Threads of the dispatcher, each of which needs a lane.
    threads: usize,
    first: Arc<Instance>,
    state: Mutex<State>,
    /// An opening has ended.
    settled: Condvar,
}

struct State {
    open: Vec<Arc<Instance>>,
    opening: HashSet<InputSize>,
    /// Sizes that do not open. They are not tried again.
    refused: HashSet<InputSize>,
    /// Instances that were made, or are being made.
    count: usize,
}

/// A size is being opened; no more when this is dropped.
struct SizeGuard<'a>(&'a Instances, InputSize);

impl Drop for SizeGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().opening.remove(&self.1);
        self.0.settled.notify_all();
    }
}

impl Instances {
    /// `engine`, open at one of `shapes`, and what opens the others, where there are others.
    pub fn new(
        engine: Arc<dyn Engine>,
        shapes: InputShapes,
        reopen: Option<Reopen>,
    ) -> Result<Self, EngineError> {
        let threads = engine.info().lanes.max(1);
        let first = Instance::new(0, engine, threads)?;
        let state = State {
            open: vec![first.clone()],
            opening: HashSet::new(),
            refused: HashSet::new(),
            count: 1,
        };
        Ok(Self {
            shapes,
            reopen,
            threads,
            first,
            state: Mutex::new(state),
            settled: Condvar::new(),
        })
    }

    /// Threads that the dispatcher needs.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The one that was opened first.
    pub fn first(&self) -> &Arc<Instance> {
        &self.first
    }

    /// Those that are open.
    pub fn open_ones(&self) -> Vec<Arc<Instance>> {
        self.state.lock().open.clone()
    }

    /// The one for pictures of `width` x `height`; `None` where it must be opened first. Where its
    /// size does not open, it is the best of the others.
    pub fn fitting(&self, width: usize, height: usize) -> Option<Arc<Instance>> {
        if self.reopen.is_none() {
            return Some(self.first.clone());
        }
        let size = self.shapes.fit(width, height);
        let state = self.state.lock();
        let at = |size: InputSize| {
            state.open.iter().find(|instance| instance.info().input == size).cloned()
        };
        let best = || {
            let sizes: Vec<_> = state.open.iter().map(|instance| instance.info().input).collect();
            preprocess::fit(&sizes, width, height).and_then(at)
        };
        at(size).or_else(|| state.refused.contains(&size).then(best).flatten())
    }

    /// As [`fitting`](Self::fitting), and opens it where it is not open. The flag says whether that
    /// was done by this call. Others that want the same size wait meanwhile.
    pub fn open(
        &self,
        width: usize,
        height: usize,
        watch: &ProgressSink,
    ) -> Result<(Arc<Instance>, bool), EngineError> {
        let size = self.shapes.fit(width, height);
        let guard = loop {
            if let Some(instance) = self.fitting(width, height) {
                return Ok((instance, false));
            }
            let mut state = self.state.lock();
            if state.opening.insert(size) {
                break SizeGuard(self, size);
            }
            self.settled.wait_for(&mut state, PATIENCE);
            let is_opening = state.opening.contains(&size);
            drop(state);
            if is_opening && !watch.tell(Progress::Waiting) {
                return Err(EngineError::Ended);
            }
        };
        // It may have been opened since it was looked for.
        if let Some(instance) = self.fitting(width, height) {
            return Ok((instance, false));
        }
        let Some(reopen) = &self.reopen else { return Ok((self.first.clone(), false)) };
        let made = reopen(size, watch).and_then(|engine| {
            let index = {
                let mut state = self.state.lock();
                state.count += 1;
                state.count - 1
            };
            Instance::new(index, engine, self.threads)
        });
        let mut state = self.state.lock();
        match &made {
            Ok(instance) => state.open.push(instance.clone()),
            Err(EngineError::Ended) => {}
            Err(_) => {
                state.refused.insert(size);
            }
        }
        drop(state);
        drop(guard);
        made.map(|instance| (instance, true))
    }
}
