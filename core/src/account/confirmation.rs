//! Counts that hold for later pictures, which do not differ from the counted one.

use std::time::Duration;

use super::{Account, FrameStamp};

/// How long a count holds for pictures that do not differ: the next one is counted in any case.
/// It is measured as ages are.
pub const CONFIRMED_FOR: Duration = Duration::from_secs(10);

/// The picture that later ones are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    stamp: FrameStamp,
    /// Of the settings that it is counted with.
    generation: u64,
}

impl Account {
    /// The frame is handed to the engine, with settings of that generation: later ones that do not
    /// differ from it may carry its count.
    pub fn hand_over(&mut self, stamp: FrameStamp, generation: u64) {
        self.reference = Some(Reference { stamp, generation });
    }

    /// The number of the frame whose count the frame with `stamp` may carry, if it does not differ
    /// from that. There is none where the settings have changed since, where times have begun anew,
    /// and where that frame is [`CONFIRMED_FOR`] older.
    pub fn confirmable(&self, stamp: FrameStamp) -> Option<u64> {
        let Reference { stamp: reference, generation } = self.reference?;
        let (then, now) = (reference.moment, stamp.moment);
        let holds = generation == self.generation
            && then.epoch == now.epoch
            && now.position.saturating_sub(then.position) < CONFIRMED_FOR;
        holds.then_some(reference.sequence)
    }

    /// The frame with this number was not counted: no other may carry its count.
    pub fn forget_reference(&mut self, sequence: u64) {
        self.reference.take_if(|reference| reference.stamp.sequence == sequence);
    }

    /// Whether the frame with this number has left, and its count may still come.
    pub fn is_late(&self, sequence: u64) -> bool {
        self.late.iter().any(|late| late.stamp.sequence == sequence)
    }

    /// The frame with `stamp`, which leaves, does not differ from that with the number `of`: where
    /// that was counted, its count is taken in once more, at the time of this frame.
    pub(super) fn confirm(&mut self, of: u64, stamp: FrameStamp) -> bool {
        let moment = stamp.moment;
        let is_counted = |latest: &mut super::Latest| {
            latest.stamp.sequence == of && latest.stamp.moment.epoch == moment.epoch
        };
        let Some(mut latest) = self.latest.take_if(is_counted) else { return false };
        latest.counts = self.count(&latest.density, moment);
        latest.holds_for = stamp.sequence;
        self.latest = Some(latest);
        self.statistics.confirmed += 1;
        true
    }
}
