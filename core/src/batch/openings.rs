//! What is being opened: each by one caller, for which the others wait.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::{EngineError, Progress, ProgressSink};

/// How often a caller that waits for another's opening asks whether to go on.
const PATIENCE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Openings<K> {
    keys: Mutex<HashSet<K>>,
    /// An opening has ended.
    ended: Condvar,
}

/// The right to open what has this key, until it is dropped.
pub(super) struct Claim<'a, K: Clone + Eq + Hash> {
    openings: &'a Openings<K>,
    pub key: K,
}

impl<K> Default for Openings<K> {
    fn default() -> Self {
        Self { keys: Mutex::default(), ended: Condvar::new() }
    }
}

impl<K: Clone + Eq + Hash> Openings<K> {
    /// Waits until nothing of this key is being opened; `watch` is asked whether to go on.
    pub fn claim(&self, key: K, watch: &ProgressSink) -> Result<Claim<'_, K>, EngineError> {
        let mut keys = self.keys.lock();
        while !keys.insert(key.clone()) {
            self.ended.wait_for(&mut keys, PATIENCE);
            if !keys.contains(&key) {
                continue;
            }
            // The lock is free while `watch` is asked.
            drop(keys);
            if !watch.tell(Progress::Waiting) {
                return Err(EngineError::Ended);
            }
            keys = self.keys.lock();
        }
        drop(keys);
        Ok(Claim { openings: self, key })
    }
}

impl<K: Clone + Eq + Hash> Drop for Claim<'_, K> {
    fn drop(&mut self) {
        self.openings.keys.lock().remove(&self.key);
        self.openings.ended.notify_all();
    }
}
