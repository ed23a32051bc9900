//! Dispatchers that elements of one process share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::{Condvar, Mutex};

use super::dispatcher::Dispatcher;
use super::instances::PATIENCE;
use crate::engine::{EngineError, EngineKind, Progress, ProgressSink};
use crate::preprocess::InputChoice;
use crate::tensorrt::Precision;

/// What elements must have in common to share a [`Dispatcher`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedKey {
    /// The user's name for the engine.
    pub engine_id: String,
    /// The engine asked for.
    pub kind: EngineKind,
    /// The model's folder and name, or its file.
    pub model: PathBuf,
    /// The input sizes asked for.
    pub input: InputChoice,
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

/// A dispatcher is being opened for this key; no more when this is dropped.
struct KeyGuard(SharedKey);

impl Drop for KeyGuard {
    fn drop(&mut self) {
        SHARED.lock().opening.remove(&self.0);
        SETTLED.notify_all();
    }
}

impl Dispatcher {
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
}
