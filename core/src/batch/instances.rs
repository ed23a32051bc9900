//! The input sizes at which one engine is open: each is opened when a camera first needs it.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::instance::Instance;
use super::openings::Openings;
use crate::engine::{Engine, EngineError, ProgressSink};
use crate::preprocess::{self, InputScale, InputShapes, InputSize};

/// Opens the engine once more, at another input size.
pub type Reopen =
    Box<dyn Fn(InputSize, &ProgressSink) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>;

/// See the module.
pub(super) struct Instances {
    shapes: InputShapes,
    reopen: Option<Reopen>,
    /// Threads of the dispatcher, each of which needs a lane.
    threads: usize,
    first: Arc<Instance>,
    state: Mutex<State>,
    openings: Openings<InputSize>,
}

struct State {
    open: Vec<Arc<Instance>>,
    /// Sizes that do not open. They are not tried again.
    refused: HashSet<InputSize>,
    /// Instances that were made, or are being made.
    count: usize,
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
        let state = State { open: vec![first.clone()], refused: HashSet::new(), count: 1 };
        Ok(Self {
            shapes,
            reopen,
            threads,
            first,
            state: Mutex::new(state),
            openings: Openings::default(),
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

    /// Whether there is no other size than the first.
    pub fn is_fixed(&self) -> bool {
        self.reopen.is_none()
    }

    /// The one for pictures of `width` x `height` at `scale`; `None` where it must be opened first.
    /// Where its size does not open, it is the best of the others.
    pub fn fitting(&self, scale: InputScale, width: usize, height: usize) -> Option<Arc<Instance>> {
        if self.is_fixed() {
            return Some(self.first.clone());
        }
        let size = self.shapes.at(scale).fit(width, height);
        let state = self.state.lock();
        let at = |size: InputSize| {
            state.open.iter().find(|instance| instance.info().input == size).cloned()
        };
        let best = || {
            let sizes = state.open.iter().map(|instance| &instance.info().input);
            preprocess::fit(sizes, width, height).and_then(at)
        };
        at(size).or_else(|| state.refused.contains(&size).then(best).flatten())
    }

    /// As [`fitting`](Self::fitting), and opens it where it is not open. The flag says whether that
    /// was done by this call. Others that want the same size wait meanwhile.
    pub fn open(
        &self,
        scale: InputScale,
        width: usize,
        height: usize,
        watch: &ProgressSink,
    ) -> Result<(Arc<Instance>, bool), EngineError> {
        let Some(reopen) = &self.reopen else { return Ok((self.first.clone(), false)) };
        if let Some(instance) = self.fitting(scale, width, height) {
            return Ok((instance, false));
        }
        let size = self.shapes.at(scale).fit(width, height);
        let claim = self.openings.claim(size, watch)?;
        // It may have been opened since it was looked for.
        if let Some(instance) = self.fitting(scale, width, height) {
            return Ok((instance, false));
        }
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
        drop(claim);
        made.map(|instance| (instance, true))
    }
}
