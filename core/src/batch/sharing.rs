//! Dispatchers that elements of one process share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::dispatcher::Dispatcher;
use super::openings::Openings;
use crate::engine::{EngineError, EngineKind, ProgressSink};
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

/// The dispatchers that are shared.
static SHARED: LazyLock<Mutex<HashMap<SharedKey, Weak<Dispatcher>>>> =
    LazyLock::new(Mutex::default);

static OPENINGS: LazyLock<Openings<SharedKey>> = LazyLock::new(Openings::default);

impl Dispatcher {
    /// The dispatcher that others in this process already use for `key`, or the one that `start`
    /// makes. An engine is opened once: others who want it wait meanwhile, and `watch` is asked
    /// whether to go on. The flag says whether it was there before.
    pub fn shared(
        key: SharedKey,
        watch: &ProgressSink,
        start: impl FnOnce() -> Result<Arc<Self>, EngineError>,
    ) -> Result<(Arc<Self>, bool), EngineError> {
        // From here on the key is this caller's.
        let claim = OPENINGS.claim(key, watch)?;
        let mut shared = SHARED.lock();
        let found = shared.get(&claim.key).and_then(Weak::upgrade);
        shared.retain(|_, dispatcher| dispatcher.strong_count() > 0);
        drop(shared);
        if let Some(dispatcher) = found {
            return Ok((dispatcher, true));
        }
        let dispatcher = start()?;
        SHARED.lock().insert(claim.key.clone(), Arc::downgrade(&dispatcher));
        Ok((dispatcher, false))
    }
}
