//! The resize of one axis, as tables of weights.

/// Samples that make one output position at most where they are weighed in fixed point. With more
/// of them, what each loses by rounding could add up to 0.1 level.
pub(super) const MOST_TAPS: usize = 32;

/// For every output position: the run of samples that it is made from, and their weights.
#[derive(Debug)]
pub(super) struct Axis {
    runs: Vec<(usize, Vec<f64>)>,
}

impl Axis {
    /// The antialiased triangle filter from a side of `pixels` onto `outputs` positions.
    ///
    /// Sample `s` of the `samples` covers the `covers` pixels from `s * covers - phase` on: chroma
    /// may reach past both ends of the picture.
    pub(super) fn new(
        pixels: usize,
        covers: usize,
        phase: usize,
        samples: usize,
        outputs: usize,
    ) -> Self {
        let (covers, phase) = (covers as f64, phase as f64);
        let scale = pixels as f64 / covers / outputs as f64;
        Self {
            runs: (0..outputs).map(|output| run(output, scale, phase / covers, samples)).collect(),
        }
    }

    /// Samples in the longest run.
    fn taps(&self) -> usize {
        self.runs.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0)
    }
}

/// First sample and weights of one output position; the weights sum to 1, and neither the first nor
/// the last is zero.
///
/// `scale` and `phase` are in samples.
fn run(output: usize, scale: f64, phase: f64, samples: usize) -> (usize, Vec<f64>) {
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
    (first, (first..end).map(|sample| triangle(sample) / sum).collect())
}

/// `weights`, whose sum is 1, as integers whose sum is `one`. What a weight loses by rounding goes
/// to the next one.
fn fixed(weights: &[f64], one: u32) -> impl Iterator<Item = u32> {
    let mut sum = 0.0;
    weights.iter().map(move |weight| {
        let before = (sum * f64::from(one)).round();
        sum += weight;
        ((sum * f64::from(one)).round() - before) as u32
    })
}

/// One output position of an axis.
#[derive(Debug)]
pub(super) enum Weights<'a> {
    /// In 32,768ths, not more than [`MOST_TAPS`].
    Fixed(&'a [i16]),
    /// Any number.
    Float(&'a [f64]),
}

/// An [`Axis`] as the vertical pass takes it.
#[derive(Debug)]
pub(super) struct Rows {
    axis: Axis,
    fixed: Vec<Vec<i16>>,
}

impl Rows {
    pub(super) fn new(axis: Axis) -> Self {
        // A weight that is the only one of its run is a 32,768th short of 1, and is not read.
        let weight = |weight: u32| i16::try_from(weight).unwrap_or(i16::MAX);
        let fixed = match axis.taps() {
            0..=MOST_TAPS => {
                axis.runs.iter().map(|(_, run)| fixed(run, 1 << 15).map(weight).collect()).collect()
            }
            _ => Vec::new(),
        };
        Self { axis, fixed }
    }

    /// First row and weights of output row `output`.
    pub(super) fn run(&self, output: usize) -> (usize, Weights<'_>) {
        let (first, weights) = &self.axis.runs[output];
        let weights =
            self.fixed.get(output).map_or(Weights::Float(weights), |fixed| Weights::Fixed(fixed));
        (*first, weights)
    }

    /// The row after the last one of output row `output`; 0 where there is no such output.
    pub(super) fn end(&self, output: usize) -> usize {
        self.axis.runs.get(output).map_or(0, |(first, weights)| first + weights.len())
    }
}

/// An [`Axis`] as the horizontal pass takes it: four output positions at a time, all runs of one
/// length, filled up with zero weights.
#[derive(Debug)]
pub(super) struct Columns {
    axis: Axis,
    /// First sample of each of four runs in a row; positions past the last one repeat it.
    starts: Vec<[usize; 4]>,
    /// The weights of the runs, one run after the other.
    weights: Vec<i16>,
    /// For pairs of runs of 4: where in 8 samples from the first run's start on the two runs lie,
    /// as positions of bytes.
    pairs: Vec<[u8; 16]>,
    length: Length,
    /// Logarithm of the sum of a run's weights.
    bits: u32,
    /// Samples that a row must have so that no run, zero weights included, leaves it.
    reach: usize,
}

/// How long the runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// 4 samples; two neighbouring runs lie within 8.
    Four,
    /// So many times 8 samples.
    Eights(usize),
    /// Too long for fixed point.
    Any,
}

impl Columns {
    pub(super) fn new(axis: Axis) -> Self {
        let near = |two: &[(usize, Vec<f64>)]| two[1].0 - two[0].0 <= 4;
        let length = match axis.taps() {
            0..=4 if axis.runs.windows(2).all(near) => Length::Four,
            taps @ 0..=MOST_TAPS => Length::Eights(taps.div_ceil(8)),
            _ => Length::Any,
        };
        // As many bits as the largest weight leaves in 16 with its sign.
        let largest =
            axis.runs.iter().flat_map(|(_, weights)| weights).fold(0.0f64, |a, b| a.max(*b));
        let bits = [16, 15]
            .into_iter()
            .find(|bits| (largest * f64::from(1 << bits)).round() < 32767.0)
            .unwrap_or(14);
        let mut columns = Self {
            axis,
            starts: Vec::new(),
            weights: Vec::new(),
            pairs: Vec::new(),
            length,
            bits,
            reach: 0,
        };
        if length != Length::Any {
            columns.fill();
        }
        let last = columns.axis.runs.last().map_or(0, |(first, weights)| first + weights.len());
        // Pairs of 4 are read as 8.
        let starts = columns.starts.as_flattened().iter();
        let read = starts.max().map_or(0, |start| start + columns.samples().max(8));
        columns.reach = last.max(read);
        columns
    }

    fn fill(&mut self) {
        let (runs, samples) = (&self.axis.runs, self.samples());
        let count = runs.len().div_ceil(4) * 4;
        self.weights = vec![0; count * samples];
        let last = runs.last().map_or(0, |run| run.0);
        self.starts = vec![[last; 4]; count / 4];
        let slots =
            self.starts.as_flattened_mut().iter_mut().zip(self.weights.chunks_exact_mut(samples));
        for ((first, weights), (start, slots)) in runs.iter().zip(slots) {
            *start = *first;
            for (weight, slot) in fixed(weights, 1 << self.bits).zip(slots) {
                *slot = weight as i16;
            }
        }
        if self.length == Length::Four {
            let pair = |two: &[usize; 2]| {
                let byte = |at: usize| match at {
                    0..8 => at,
                    _ => at - 8 + 2 * (two[1] - two[0]),
                };
                std::array::from_fn(|at| byte(at) as u8)
            };
            self.pairs = self.starts.as_flattened().as_chunks::<2>().0.iter().map(pair).collect();
        }
    }

    /// Samples in a run, zero weights included.
    fn samples(&self) -> usize {
        match self.length {
            Length::Four => 4,
            Length::Eights(eights) => 8 * eights,
            Length::Any => 0,
        }
    }

    /// How long the runs are.
    pub(super) fn length(&self) -> Length {
        self.length
    }

    /// What a sum of weighted samples is multiplied by to have the samples' own unit.
    pub(super) fn unit(&self) -> f32 {
        (-(self.bits as f32)).exp2()
    }

    /// Samples that a row must have.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// Where each of four runs in a row begins, and the weights of the four, one run after the
    /// other.
    #[inline(always)]
    pub(super) fn fours(&self) -> impl Iterator<Item = (&[usize; 4], &[i16])> {
        self.starts.iter().zip(self.weights.chunks_exact(4 * self.samples().max(1)))
    }

    /// Of runs of 4: for each four of them, where their two pairs lie.
    #[inline(always)]
    pub(super) fn pairs(&self) -> &[[[u8; 16]; 2]] {
        self.pairs.as_chunks::<2>().0
    }

    /// First sample and weights of every output position.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.axis.runs.iter().map(|(first, weights)| (*first, &weights[..]))
    }

    /// The sum of the fixed weights of a run.
    pub(super) fn one(&self) -> f64 {
        f64::from(1u32 << self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(axis: &Axis, output: usize) -> (usize, Vec<f32>) {
        let (first, weights) = &axis.runs[output];
        (*first, weights.iter().map(|weight| *weight as f32).collect())
    }

    #[test]
    fn same_size_is_the_identity() {
        let axis = Axis::new(5, 1, 0, 5, 5);
        assert!((0..5).all(|output| run(&axis, output) == (output, vec![1.0])));
    }

    #[test]
    fn halving_weighs_four_samples_one_three_three_one() {
        let axis = Axis::new(8, 1, 0, 8, 4);
        assert_eq!(run(&axis, 1), (1, vec![0.125, 0.375, 0.375, 0.125]));
        // At the edge the missing sample's share goes to the others.
        assert_eq!(run(&axis, 0), (0, vec![3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0]));
    }

    #[test]
    fn phase_moves_the_samples_before_the_picture() {
        // Two pixels to a sample, and the first pixel is the second of its sample.
        let axis = Axis::new(4, 2, 1, 3, 2);
        assert_eq!((run(&axis, 0), run(&axis, 1)), ((0, vec![0.5, 0.5]), (1, vec![0.5, 0.5])));
    }

    #[test]
    fn weights_sum_to_one_for_every_size() {
        for (samples, outputs) in
            [(1, 1), (1, 384), (2, 7), (7, 2), (1279, 384), (3, 1000), (100_003, 1), (216, 216)]
        {
            // Whole, and as chroma that reaches past the picture at either end or at both.
            for (pixels, covers, phase) in [
                (samples, 1, 0),
                (2 * samples - 1, 2, 0),
                (2 * samples - 1, 2, 1),
                (4 * samples - 3, 4, 2),
            ] {
                let axis = Axis::new(pixels, covers, phase, samples, outputs);
                for (first, weights) in &axis.runs {
                    let sum: f64 = weights.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-9, "{pixels}/{samples} -> {outputs}: {sum}");
                    assert!(weights.iter().all(|weight| *weight > 0.0));
                    assert!(first + weights.len() <= samples);
                    assert_eq!(fixed(weights, 1 << 16).sum::<u32>(), 1 << 16);
                }
            }
        }
    }

    #[test]
    fn rows_have_fixed_weights_as_long_as_they_are_exact_enough() {
        let rows = Rows::new(Axis::new(8, 1, 0, 8, 4));
        let (first, weights) = rows.run(1);
        let Weights::Fixed(weights) = weights else { panic!("{weights:?}") };
        assert_eq!((first, weights), (1, &[4096, 12288, 12288, 4096][..]));
        assert!(matches!(
            Rows::new(Axis::new(3, 1, 0, 3, 3)).run(2),
            (2, Weights::Fixed(&[i16::MAX]))
        ));
        assert!(matches!(Rows::new(Axis::new(330, 1, 0, 330, 10)).run(0).1, Weights::Float(_)));
    }

    #[test]
    fn columns_come_in_fours_of_one_length() {
        let columns = Columns::new(Axis::new(12, 1, 0, 12, 6));
        assert_eq!(
            (columns.length(), columns.unit(), columns.reach()),
            (Length::Four, 1.0 / 65536.0, 17)
        );
        let fours: Vec<_> = columns.fours().collect();
        let (starts, weights) = fours[0];
        assert_eq!(
            (fours.len(), starts, &weights[4..8]),
            (2, &[0, 1, 3, 5], &[8192, 24576, 24576, 8192][..])
        );
        // The second run of the second pair begins two samples, four bytes, after the first one.
        assert_eq!(columns.pairs()[0][1], [0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11]);
        // Positions 6 and 7 do not exist: they read where 5 does, and weigh nothing.
        assert_eq!((fours[1].0, &fours[1].1[8..]), (&[7, 9, 9, 9], &[0; 8][..]));
    }

    #[test]
    fn weights_of_columns_have_as_many_bits_as_the_largest_leaves() {
        let bits = |samples, outputs| {
            let columns = Columns::new(Axis::new(samples, 1, 0, samples, outputs));
            (columns.length(), columns.unit().recip().log2() as u32)
        };
        assert_eq!(bits(1280, 384), (Length::Eights(1), 16));
        assert_eq!(bits(1920, 384), (Length::Eights(2), 16));
        assert_eq!(bits(640, 384), (Length::Four, 15));
        assert_eq!(bits(384, 384), (Length::Four, 14));
        assert_eq!(bits(10_000, 100).0, Length::Any);
    }
}
