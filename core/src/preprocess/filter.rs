//! The resize of one axis, as tables of weights.

/// For every output position: the run of samples that it is made from, and their weights.
#[derive(Debug)]
pub(super) struct Axis {
    runs: Vec<(usize, Vec<f32>)>,
}

impl Axis {
    /// The antialiased triangle filter from a side of `pixels` onto `outputs` positions.
    ///
    /// Sample `s` of the `samples` covers the `covers` pixels from `s * covers - phase` on: chroma
    /// may reach past both ends of the picture.
    pub(super) fn new(pixels: usize, covers: usize, phase: usize, samples: usize, outputs: usize) -> Self {
        let (covers, phase) = (covers as f64, phase as f64);
        let scale = pixels as f64 / covers / outputs as f64;
        Self { runs: (0..outputs).map(|output| run(output, scale, phase / covers, samples)).collect() }
    }

    /// First sample and weights of one output position.
    #[inline(always)]
    pub(super) fn run(&self, output: usize) -> (usize, &[f32]) {
        let (first, weights) = &self.runs[output];
        (*first, weights)
    }
}

/// First sample and weights of one output position; the weights sum to 1, and neither the first nor the last is zero.
///
/// `scale` and `phase` are in samples.
fn run(output: usize, scale: f64, phase: f64, samples: usize) -> (usize, Vec<f32>) {
    let support = scale.max(1.0);
    let center = (output as f64 + 0.5) * scale + phase;
    let triangle = |sample: usize| (1.0 - (sample as f64 + 0.5 - center).abs() / support).max(0.0);
    let mut first = (center - support).max(0.0) as usize;
    let mut end = ((center + support).ceil() as usize).min(samples);
    // The sample around the centre weighs at least a half, so both stop.
    while triangle(first) == 0.0 {
        first += 1;
    }
    while triangle(end - 1) == 0.0 {
        end -= 1;
    }
    let sum: f64 = (first..end).map(triangle).sum();
    (first, (first..end).map(|sample| (triangle(sample) / sum) as f32).collect())
}

/// An [`Axis`] laid out for the horizontal pass: four output positions at a time, all runs of one length.
///
/// Runs are filled up with zero weights, and the positions with runs of nothing but zeros. Where pixels have one or two interleaved
/// channels, each weight stands once for each channel, beside the values that it is for.
#[derive(Debug)]
pub(super) struct Columns {
    starts: Vec<[usize; 4]>,
    weights: Vec<f32>,
    length: usize,
    reach: usize,
}

impl Columns {
    /// `channels` interleaved channels, 1 to 4.
    pub(super) fn new(axis: &Axis, channels: usize) -> Self {
        let repeat = if channels > 2 { 1 } else { channels };
        let longest = axis.runs.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0);
        let length = (longest * repeat).next_multiple_of(4);
        let mut starts = vec![[0; 4]; axis.runs.len().div_ceil(4)];
        let mut table = vec![0.0; starts.len() * 4 * length];
        let slots = starts.as_flattened_mut().iter_mut().zip(table.chunks_exact_mut(length));
        for ((first, weights), (start, slots)) in axis.runs.iter().zip(slots) {
            *start = first * channels;
            for (weight, slots) in weights.iter().zip(slots.chunks_exact_mut(repeat)) {
                slots.fill(*weight);
            }
        }
        // The last four values are read together, even where a pixel has three.
        let last = starts.as_flattened().iter().max().copied().unwrap_or(0);
        let reach = last + length * (channels / repeat) + 1;
        Self { starts, weights: table, length, reach }
    }

    /// Weights in a run, a multiple of 4.
    #[inline(always)]
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Values that a row must have so that no run, zero weights included, leaves it.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// First value of each of four runs in a row, and the weights of the four, one run after the other.
    #[inline(always)]
    pub(super) fn fours(&self) -> impl Iterator<Item = (&[usize; 4], &[f32])> {
        self.starts.iter().zip(self.weights.chunks_exact(4 * self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_size_is_the_identity() {
        let axis = Axis::new(5, 1, 0, 5, 5);
        assert!((0..5).all(|output| axis.run(output) == (output, &[1.0][..])));
    }

    #[test]
    fn halving_weighs_four_samples_one_three_three_one() {
        let axis = Axis::new(8, 1, 0, 8, 4);
        assert_eq!(axis.run(1), (1, &[0.125, 0.375, 0.375, 0.125][..]));
        // At the edge the missing sample's share goes to the others.
        assert_eq!(axis.run(0), (0, &[3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0][..]));
    }

    #[test]
    fn phase_moves_the_samples_before_the_picture() {
        // Two pixels to a sample, and the first pixel is the second of its sample.
        let axis = Axis::new(4, 2, 1, 3, 2);
        assert_eq!((axis.run(0), axis.run(1)), ((0, &[0.5, 0.5][..]), (1, &[0.5, 0.5][..])));
    }

    #[test]
    fn weights_sum_to_one_for_every_size() {
        for (samples, outputs) in [(1, 1), (1, 384), (2, 7), (7, 2), (1279, 384), (3, 1000), (100_003, 1), (216, 216)] {
            // Whole, and as chroma that reaches past the picture at either end or at both.
            for (pixels, covers, phase) in
                [(samples, 1, 0), (2 * samples - 1, 2, 0), (2 * samples - 1, 2, 1), (4 * samples - 3, 4, 2)]
            {
                let axis = Axis::new(pixels, covers, phase, samples, outputs);
                for (first, weights) in &axis.runs {
                    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
                    assert!((sum - 1.0).abs() < 1e-6, "{pixels}/{samples} -> {outputs}: {sum}");
                    assert!(weights.iter().all(|weight| *weight > 0.0));
                    assert!(first + weights.len() <= samples);
                }
            }
        }
    }

    #[test]
    fn columns_come_in_fours_with_a_weight_for_every_channel() {
        let columns = Columns::new(&Axis::new(12, 1, 0, 12, 6), 2);
        let fours: Vec<_> = columns.fours().collect();
        assert_eq!((fours.len(), columns.length()), (2, 8));
        let (starts, weights) = fours[0];
        assert_eq!((starts[1], &weights[8..16]), (2, &[0.125, 0.125, 0.375, 0.375, 0.375, 0.375, 0.125, 0.125][..]));
        // Positions 6 and 7 do not exist.
        assert!(fours[1].1[16..].iter().all(|weight| *weight == 0.0));
        assert_eq!(columns.reach(), 18 + 8 + 1);
    }
}
