//! When publishing fails, and when it works again: each is told once.

use std::time::{Duration, Instant};

use thiserror::Error;

/// Why reports are not delivered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Cause {
    /// The sink refuses them.
    #[error("{0}")]
    Failure(String),
    /// The sink takes none.
    #[error("it has taken no report for {:.1} s", .0.as_secs_f64())]
    Stall(Duration),
    /// The sink is too slow.
    #[error("reports come faster than it takes them, and more than {0} wait")]
    Overflow(usize),
}

/// How a trouble ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroubleEnd {
    /// Everything that waits has been delivered. Otherwise the last publisher has left.
    pub recovered: bool,
    /// Reports dropped since the trouble began.
    pub lost: u64,
    /// How long it lasted.
    pub duration: Duration,
}

/// Time without a fault after which a trouble is over, so that a sink that fails now and then is
/// told of once.
const QUIET: Duration = Duration::from_secs(1);

/// The trouble that a destination has, if any.
#[derive(Debug, Default)]
pub struct Trouble {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    begin: Instant,
    last_fault: Instant,
    dropped_before: u64,
}

impl Trouble {
    /// A fault occurs. `dropped_before` counts the reports that were dropped before it. Returns
    /// whether a trouble begins with it.
    pub fn begin(&mut self, now: Instant, dropped_before: u64) -> bool {
        match &mut self.current {
            Some(current) => {
                current.last_fault = now;
                false
            }
            None => {
                self.current = Some(Current { begin: now, last_fault: now, dropped_before });
                true
            }
        }
    }

    /// When a trouble whose reports are all delivered is over.
    pub fn quiet_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|current| current.last_fault + QUIET)
    }

    /// Ends the trouble, if there is one.
    pub fn end(&mut self, now: Instant, dropped: u64, recovered: bool) -> Option<TroubleEnd> {
        let Current { begin, dropped_before, .. } = self.current.take()?;
        Some(TroubleEnd { recovered, lost: dropped - dropped_before, duration: now - begin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_begins_once_and_ends_when_it_has_been_quiet() {
        let (mut trouble, begin) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.quiet_at(), None);
        assert!(trouble.begin(begin, 3));
        assert!(!trouble.begin(begin + QUIET / 2, 5));
        assert_eq!(trouble.quiet_at(), Some(begin + QUIET / 2 + QUIET));
        let end = trouble.end(begin + 2 * QUIET, 10, true);
        assert_eq!(end, Some(TroubleEnd { recovered: true, lost: 7, duration: 2 * QUIET }));
        assert_eq!(trouble.end(begin + 3 * QUIET, 10, true), None);
    }
}
