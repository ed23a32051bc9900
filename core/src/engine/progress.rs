//! Where progress goes that is made while an engine opens.

use std::fmt;
use std::sync::Arc;

use crate::tensorrt::Progress;

type Function = dyn Fn(Progress<'_>) -> bool + Send + Sync;

/// Receives the progress of an opening that takes long, from any thread, and may end the opening.
/// The default one ignores it.
#[derive(Clone, Default)]
pub struct ProgressSink(Option<Arc<Function>>);

impl ProgressSink {
    /// Calls `tell`, which ends the opening by returning false.
    pub fn new(tell: impl Fn(Progress<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Passes `progress` on. Returns whether the opening is to go on.
    pub fn tell(&self, progress: Progress<'_>) -> bool {
        self.0.as_ref().is_none_or(|tell| tell(progress))
    }
}

impl fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ProgressSink(..)" } else { "ProgressSink(none)" })
    }
}
