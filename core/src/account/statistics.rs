//! Figures of one camera.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of frames over which percentiles are taken.
const LATENCY_WINDOW: usize = 1024;

/// Figures since the stream began.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Frames that came.
    pub received: u64,
    /// Frames that the engine counted.
    pub inferred: u64,
    /// Frames that did not differ from a counted one and carried its count.
    pub confirmed: u64,
    /// Frames that left with an older count than they should have had, or with none.
    pub stale: u64,
    /// Frames that the engine never saw, because a newer one took their place.
    pub dropped: u64,
    /// Frames that the engine failed on, or whose memory could not be read.
    pub failed: u64,
    latencies: VecDeque<Duration>,
}

impl Statistics {
    /// A frame was counted, or let go uncounted, so long after it came.
    pub fn note_latency(&mut self, latency: Duration) {
        if self.latencies.len() == LATENCY_WINDOW {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }

    /// The latencies that `shares` (0..1) of the last 1024 frames stayed within, by the
    /// nearest-rank method; `None` before the first frame.
    pub fn latency<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(shares.map(|share| {
            sorted[((share * sorted.len() as f64).ceil() as usize).saturating_sub(1).min(last)]
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_last_frames() {
        let mut statistics = Statistics::default();
        assert_eq!(statistics.latency([0.5]), None);
        let ms = Duration::from_millis;
        (0..LATENCY_WINDOW).for_each(|_| statistics.note_latency(ms(900)));
        (1..=LATENCY_WINDOW as u64).for_each(|number| statistics.note_latency(ms(number)));
        assert_eq!(statistics.latency([0.0, 0.5, 1.0]), Some([ms(1), ms(512), ms(1024)]));
    }
}
