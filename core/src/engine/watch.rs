//! Who is told what takes long while an engine opens.

use std::fmt;
use std::sync::Arc;

use crate::tensorrt::Progress;

type Function = dyn Fn(Progress<'_>) -> bool + Send + Sync;

/// Is told of what takes long while an engine opens, by any thread, and may end it. The default one hears nothing and ends nothing.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<Function>>);

impl Watch {
    /// Calls `tell`, which ends the opening by returning false.
    pub fn new(tell: impl Fn(Progress<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Tells of `progress`; whether the opening is to go on.
    pub fn tell(&self, progress: Progress<'_>) -> bool {
        self.0.as_ref().is_none_or(|tell| tell(progress))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watch(..)" } else { "Watch(nobody)" })
    }
}
