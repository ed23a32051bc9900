//! The lanes of one thread: a lane that goes on failing is made anew, as its engine may have left
//! it in a state that does not pass.

use std::collections::HashMap;

use super::instance::Instance;
use crate::engine::{self, EngineError, Lane, Slot};

/// A lane is made anew after so many batches in a row that failed. Where that does not help, it is
/// done more rarely each time.
const FAILURES: u32 = 3;

/// Most batches that fail in a row before a lane is made anew once more.
const MOST_FAILURES: u32 = 1024;

/// A thread's lane at one input size.
struct Held {
    /// None: it is made anew for the next batch.
    lane: Option<Box<dyn Lane>>,
    /// Batches that have failed on this lane in a row.
    failed: u32,
    /// How many of them it takes until the lane is made anew.
    patience: u32,
}

impl Default for Held {
    fn default() -> Self {
        Self { lane: None, failed: 0, patience: FAILURES }
    }
}

impl Held {
    /// Takes in how a batch went, and takes the lane out where it is to be made anew.
    fn take_in(&mut self, result: &Result<(), EngineError>) -> Option<Box<dyn Lane>> {
        match result {
            Ok(()) => {
                (self.failed, self.patience) = (0, FAILURES);
                None
            }
            // What it left is not known.
            Err(EngineError::Panicked { .. }) => {
                self.failed = 0;
                self.lane.take()
            }
            Err(_) => {
                self.failed += 1;
                if self.failed < self.patience {
                    return None;
                }
                (self.failed, self.patience) = (0, (self.patience * 2).min(MOST_FAILURES));
                self.lane.take()
            }
        }
    }
}

/// The lanes of a thread, by the index of their input size.
#[derive(Default)]
pub(super) struct Lanes(HashMap<usize, Held>);

impl Lanes {
    /// Runs a batch of `instance` on the thread's lane there, which is made anew where there is
    /// none.
    pub(super) fn infer(
        &mut self,
        instance: &Instance,
        slots: &mut [Slot],
    ) -> Result<(), EngineError> {
        let kind = instance.info().kind;
        let held = self.0.entry(instance.index()).or_default();
        let result = engine::contain(kind, "a batch", || {
            let lane = match &mut held.lane {
                Some(lane) => lane,
                empty => empty.insert(instance.lane()?),
            };
            lane.infer(slots)
        });
        if let Some(broken) = held.take_in(&result) {
            // It goes before its slots are used again: it may have to wait for a device.
            let _ = engine::contain(kind, "closing a lane", || {
                drop(broken);
                Ok(())
            });
        }
        result
    }
}
