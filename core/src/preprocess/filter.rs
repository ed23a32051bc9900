//! The resize of one axis, as a table of weights.

/// For every output position: the run of samples it is made from, and their weights.
///
/// Weights are computed in `f64` and sum to 1; they are held as `f32`.
#[derive(Debug)]
pub(super) struct Axis {
    /// First value of each run, counted in values (samples x `channels`).
    starts: Vec<usize>,
    /// `length` weights for each output position.
    weights: Vec<f32>,
    /// Values in a run.
    length: usize,
}

impl Axis {
    /// The antialiased triangle filter from `extent` source units onto `outputs` positions.
    ///
    /// Sample `s` covers the units `s..s + 1` and there are `samples` of them, so `extent <= samples`: a 4:2:0 chroma plane of an odd
    /// picture reaches half a unit past the picture. Each weight stands `channels` times, once for each interleaved channel, and runs
    /// are filled up with zero weights to a multiple of `multiple` values.
    pub(super) fn new(extent: f64, samples: usize, outputs: usize, channels: usize, multiple: usize) -> Self {
        let scale = extent / outputs as f64;
        let support = scale.max(1.0);
        let runs: Vec<(usize, Vec<f64>)> = (0..outputs).map(|output| run(output, scale, support, samples)).collect();
        let longest = runs.iter().map(|(_, run)| run.len()).max().unwrap_or(0);
        let length = (longest * channels).next_multiple_of(multiple);
        let mut weights = vec![0.0; outputs * length];
        for ((_, run), slots) in runs.iter().zip(weights.chunks_exact_mut(length)) {
            for (weight, slots) in run.iter().zip(slots.chunks_exact_mut(channels)) {
                slots.fill(*weight as f32);
            }
        }
        Self { starts: runs.into_iter().map(|(first, _)| first * channels).collect(), weights, length }
    }

    /// Start and weights of every run, in the order of the output.
    #[inline(always)]
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.length))
    }

    /// Start and weights of the run of one output position.
    #[inline(always)]
    pub(super) fn run(&self, output: usize) -> (usize, &[f32]) {
        (self.starts[output], &self.weights[output * self.length..][..self.length])
    }

    /// Values that must be readable in a row so that no run, zero weights included, leaves it.
    pub(super) fn reach(&self) -> usize {
        self.starts.iter().map(|start| start + self.length).max().unwrap_or(0)
    }
}

/// First sample and weights of one output position; the weights sum to 1 and neither end is zero.
fn run(output: usize, scale: f64, support: f64, samples: usize) -> (usize, Vec<f64>) {
    let center = (output as f64 + 0.5) * scale;
    let first = (center - support).floor().max(0.0) as usize;
    let last = ((center + support).ceil() as usize).min(samples);
    let triangle = |sample: usize| (1.0 - (sample as f64 + 0.5 - center).abs() / support).max(0.0);
    let mut weights: Vec<f64> = (first..last).map(triangle).collect();
    let zeros = weights.iter().take_while(|weight| **weight == 0.0).count();
    weights.drain(..zeros);
    while weights.last() == Some(&0.0) {
        weights.pop();
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    (first + zeros, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(axis: &Axis, samples: usize) -> Vec<Vec<f32>> {
        axis.runs()
            .map(|(start, weights)| {
                let mut row = vec![0.0; samples.max(start + weights.len())];
                row[start..start + weights.len()].copy_from_slice(weights);
                row
            })
            .collect()
    }

    #[test]
    fn same_size_is_the_identity() {
        let axis = Axis::new(5.0, 5, 5, 1, 1);
        assert_eq!(axis.length, 1);
        assert!(axis.runs().enumerate().all(|(output, run)| run == (output, &[1.0][..])));
    }

    #[test]
    fn halving_weighs_four_samples_one_three_three_one() {
        let axis = Axis::new(8.0, 8, 4, 1, 1);
        assert_eq!(dense(&axis, 8)[1], [0.0, 0.125, 0.375, 0.375, 0.125, 0.0, 0.0, 0.0]);
        // At the edge the missing sample's share goes to the others.
        assert_eq!(axis.run(0), (0, &[3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0, 0.0][..]));
    }

    #[test]
    fn weights_sum_to_one_for_every_size() {
        for (samples, outputs) in [(1, 1), (1, 384), (2, 7), (7, 2), (1279, 384), (3, 1000), (100_003, 1), (216, 216)] {
            for extent in [samples as f64, samples as f64 - 0.5] {
                let axis = Axis::new(extent, samples, outputs, 1, 8);
                for (start, weights) in axis.runs() {
                    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
                    assert!((sum - 1.0).abs() < 1e-4, "{extent}/{samples} -> {outputs}: {sum}");
                    assert!(start < samples && weights[0] > 0.0);
                    assert!(weights.iter().skip(samples - start).all(|weight| *weight == 0.0));
                }
            }
        }
    }

    #[test]
    fn channels_repeat_their_weight() {
        let axis = Axis::new(4.0, 4, 2, 2, 8);
        let (start, weights) = axis.run(1);
        assert_eq!((start, weights.len()), (2, 8));
        assert_eq!(weights[0], weights[1]);
        assert_eq!(weights[6..], [0.0, 0.0]);
        assert_eq!(axis.reach(), 10);
    }
}
