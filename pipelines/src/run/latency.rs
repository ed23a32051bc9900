//! How long counts took, as a histogram.

/// Upper bounds, seconds; one more holds what took longer.
const BOUNDS: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// A histogram of times in seconds.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    counts: [u64; BOUNDS.len() + 1],
    /// Sum of all times.
    pub sum: f64,
}

impl Latency {
    /// Takes in a time.
    pub fn observe(&mut self, seconds: f64) {
        let place = BOUNDS.iter().position(|bound| seconds <= *bound);
        self.counts[place.unwrap_or(BOUNDS.len())] += 1;
        self.sum += seconds;
    }

    /// How many times there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds, and how many times lie between each and the one before; the last is
    /// [`f64::INFINITY`].
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_in_one_bucket() {
        let mut latency = Latency::default();
        for seconds in [0.0, 0.01, 0.011, 2.5, 2.6, 100.0] {
            latency.observe(seconds);
        }
        let counts: Vec<_> = latency.buckets().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((latency.count(), latency.buckets()[8].0), (6, f64::INFINITY));
        assert!((latency.sum - 105.121).abs() < 1e-9);
    }
}
