//! How long the element holds batches, for those who ask for its latency.

use std::collections::VecDeque;
use std::time::Duration;

/// Batches that count.
const WINDOW: usize = 128;

/// What is told is a multiple of this, so that it does not change with every batch.
const STEP: Duration = Duration::from_millis(1);

/// The longest that one of the last batches was held: what every one of them has to be given.
#[derive(Debug, Default)]
pub struct HoldTime {
    last: VecDeque<Duration>,
    told: Duration,
}

impl HoldTime {
    /// A batch was held this long. `true` where something else is told from now on: the longest has
    /// grown, or is half of it and less.
    pub fn note(&mut self, held: Duration) -> bool {
        self.last.truncate(WINDOW - 1);
        self.last.push_front(held);
        let longest = self.last.iter().max().copied().unwrap_or_default();
        let steps = longest.as_nanos().div_ceil(STEP.as_nanos());
        let longest = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
        let changed = longest > self.told
            || self.last.len() == WINDOW && longest <= self.told / 2 && longest < self.told;
        if changed {
            self.told = longest;
        }
        changed
    }

    /// What is told.
    pub fn told(&self) -> Duration {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_of_the_last_batches_is_told_at_once_and_forgotten_when_it_has_long_been_shorter() {
        let mut holding = HoldTime::default();
        let ms = Duration::from_millis;
        assert!(holding.note(Duration::from_micros(19_500)));
        assert_eq!(holding.told(), ms(20));
        assert!(!holding.note(ms(20)));
        assert!(holding.note(ms(90)));
        for _ in 0..WINDOW - 1 {
            assert!(!holding.note(ms(21)));
            assert_eq!(holding.told(), ms(90));
        }
        assert!(holding.note(ms(21)));
        assert_eq!(holding.told(), ms(21));
        // A little less is no news.
        assert!((0..2 * WINDOW).all(|_| !holding.note(ms(15))));
    }

    #[test]
    fn nothing_held_tells_nothing() {
        let mut holding = HoldTime::default();
        assert!((0..2 * WINDOW).all(|_| !holding.note(Duration::ZERO)));
    }
}
