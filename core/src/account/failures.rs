//! When failures of a camera's frames are to be reported: at their beginning and at their end, not
//! for every frame.

/// What has changed with the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureEdge {
    /// Frames have begun to fail.
    Begin,
    /// Frames are counted again.
    End,
}

/// Failures that have ended and begin again soon last longer each time: so many frames must be
/// counted at most before they have ended.
const LONGEST: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Failures {
    failing: bool,
    /// Frames counted since the last failure.
    counted: u32,
    /// Frames that must be counted before failures have ended.
    needed: u32,
}

impl Default for Failures {
    fn default() -> Self {
        Self { failing: false, counted: 0, needed: 1 }
    }
}

impl Failures {
    /// A frame was counted, or failed.
    pub fn note(&mut self, counted: bool) -> Option<FailureEdge> {
        if !counted {
            self.counted = 0;
            return (!std::mem::replace(&mut self.failing, true)).then_some(FailureEdge::Begin);
        }
        self.counted = self.counted.saturating_add(1);
        if self.failing && self.counted >= self.needed {
            self.failing = false;
            self.needed = (self.needed * 2).min(LONGEST);
            return Some(FailureEdge::End);
        }
        if !self.failing && self.counted >= LONGEST {
            self.needed = 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_reported_when_they_begin_and_when_they_end() {
        let mut failures = Failures::default();
        let edges: Vec<_> =
            [true, false, false, false, true, true].map(|counted| failures.note(counted)).to_vec();
        assert_eq!(
            edges,
            [None, Some(FailureEdge::Begin), None, None, Some(FailureEdge::End), None]
        );
    }

    #[test]
    fn frames_that_fail_every_other_time_are_reported_a_few_times_in_all() {
        let mut failures = Failures::default();
        let reported =
            (0..10_000).filter(|number| failures.note(number % 2 == 0).is_some()).count();
        assert!(reported <= 4, "{reported} times");
        // Long after the last failure, the next one is reported as the first was.
        let ended = (0..2 * LONGEST).filter(|_| failures.note(true).is_some()).count();
        assert_eq!(ended, 1);
        assert_eq!(
            (failures.note(false), failures.note(true)),
            (Some(FailureEdge::Begin), Some(FailureEdge::End))
        );
    }
}
