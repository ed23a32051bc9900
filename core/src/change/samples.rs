//! Brightness of a picture, in samples, and the differences of two.

use multiversion::multiversion;

use crate::frame::{Components, FrameFormat, FrameView};
use crate::preprocess::Placement;

/// Where the brightness lies in four bytes: `((bytes >> shift) & low) + ((bytes >> 8) & high)` are
/// two sums of 16 bits.
#[derive(Clone, Copy, Debug)]
struct Lanes {
    shift: u32,
    low: u32,
    high: u32,
}

impl Lanes {
    #[inline(always)]
    fn of(self, bytes: [u8; 4]) -> u32 {
        let bytes = u32::from_le_bytes(bytes);
        ((bytes >> self.shift) & self.low) + ((bytes >> 8) & self.high)
    }
}

/// Both lanes.
const BOTH: u32 = 0x00ff_00ff;

/// Reads the samples of pictures of one format.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Planes that are read, and where their rows begin.
    planes: Vec<(usize, usize)>,
    lanes: Lanes,
    /// Bytes of a row that a pixel takes.
    bytes: usize,
    /// Width and height of a picture.
    picture: (usize, usize),
    /// Width and height of a sample in pixels.
    sample: (usize, usize),
    /// Rows of a sample that are read.
    taken: usize,
    /// 65536 times what a sum is multiplied by.
    factor: u32,
    /// Sums of a row of samples, four bytes each.
    sums: Vec<u32>,
}

impl Sampler {
    /// For pictures of `format` that lie at `placement` in the model's input; `None` where they are
    /// smaller than a sample.
    pub fn new(format: FrameFormat, placement: Placement) -> Option<Self> {
        let FrameFormat { width, height, pixels, .. } = format;
        let across = width as f64 / placement.width as f64;
        let down = height as f64 / placement.height as f64;
        let mut sides = [32, 16, 8].into_iter();
        let columns = sides.find(|side| *side as f64 <= 3.4 * across).unwrap_or(4);
        let columns = if width < columns { 4 } else { columns };
        let rows = ((3.2 * down).round() as usize).max(4).min(height.max(4));
        if width < columns || height < rows {
            return None;
        }
        let layout = pixels.layout();
        let depth = layout.depth;
        let components = (0..layout.components.len()).map(|index| format.samples(index));
        let components: Vec<_> = components.collect();
        let first = components[0];
        let is_packed_rgb = layout.kind == Components::Rgb && first.step > 1;
        let planes = match layout.kind {
            Components::Rgb if is_packed_rgb => vec![(first.plane, 0)],
            Components::Rgb => components.iter().map(|samples| (samples.plane, 0)).collect(),
            Components::Yuv | Components::Gray => {
                let begin = first.offset / first.step * first.step * depth.bytes;
                vec![(first.plane, begin)]
            }
        };
        let lanes = match (layout.kind, depth.bytes, first.step) {
            (_, 2, _) => Lanes { shift: 8 - depth.shift, low: BOTH, high: 0 },
            // The filler, or alpha, is left out.
            (Components::Rgb, _, 4) => {
                let used = components
                    .iter()
                    .fold(0u32, |mask, samples| mask | 0xff << (8 * samples.offset));
                Lanes { shift: 0, low: used & BOTH, high: used >> 8 & BOTH }
            }
            (Components::Yuv, _, 2) if first.offset % 2 == 0 => {
                Lanes { shift: 0, low: BOTH, high: 0 }
            }
            (Components::Yuv, _, 2) => Lanes { shift: 0, low: 0, high: BOTH },
            _ => Lanes { shift: 0, low: BOTH, high: BOTH },
        };
        let bytes = first.step * depth.bytes;
        let taken = if columns == 4 { 2 } else { 1 };
        let summed = if layout.kind == Components::Rgb { 3 } else { 1 };
        Some(Self {
            planes,
            lanes,
            bytes,
            picture: (width, height),
            sample: (columns, rows),
            taken,
            factor: 65536 * PARTS as u32 / (columns * taken * summed) as u32,
            sums: vec![0; width / columns * columns * bytes / 4],
        })
    }

    /// Samples in a row, and rows of them. The last ones may overlap their neighbours.
    pub fn size(&self) -> (usize, usize) {
        (self.picture.0.div_ceil(self.sample.0), self.picture.1.div_ceil(self.sample.1))
    }

    /// Writes the samples of `frame`, row by row, in 16ths of a level.
    pub fn read(&mut self, frame: &FrameView<'_>, samples: &mut [u16]) {
        let ((columns, rows), (width, height)) = (self.size(), self.sample);
        let units = width * self.bytes / 4;
        let whole = self.picture.0 / width;
        let end = self.picture.0 * self.bytes;
        let row = |number: usize, (plane, begin): (usize, usize), turn: usize| {
            let first = (number * height).min(self.picture.1 - height);
            let y = first + (2 * turn + 1) * height / (2 * self.taken);
            &frame.row(plane, y)[begin..][..end]
        };
        for (number, samples) in samples.chunks_exact_mut(columns).enumerate() {
            let (mut last, mut is_first) = (0, true);
            for &plane in &self.planes {
                for turn in 0..self.taken {
                    if number + AHEAD < rows {
                        ask_for(row(number + AHEAD, plane, turn));
                    }
                    let row = row(number, plane, turn);
                    sum(row, self.lanes, is_first, &mut self.sums);
                    is_first = false;
                    // The picture may end inside a sample.
                    if whole < columns {
                        let tail = row[end - 4 * units..].as_chunks::<4>().0.iter();
                        last += tail.map(|bytes| self.lanes.of(*bytes)).sum::<u32>();
                    }
                }
            }
            fold(&self.sums, units, self.factor, &mut samples[..whole]);
            if whole < columns {
                samples[whole] = sample(last, self.factor);
            }
        }
    }
}

/// Samples are in so many parts of a level.
pub(super) const PARTS: i16 = 16;

/// Differences are added up over a block in so many parts of a level.
pub(super) const BLOCK_PARTS: i16 = 4;

/// Rows of samples that are asked for before they are read.
const AHEAD: usize = 4;

/// Asks for the memory of `row`, which is read soon.
fn ask_for(row: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and asking for memory reads none.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// A sample: the sum of both lanes, of values of 0 to 255, times `factor` / 65536.
#[inline(always)]
fn sample(sum: u32, factor: u32) -> u16 {
    ((((sum & 0xffff) + (sum >> 16)) * factor) >> 16) as u16
}

/// Adds the brightness of `row` to `sums`, or begins anew with it.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn sum(row: &[u8], lanes: Lanes, begin: bool, sums: &mut [u32]) {
    let units = row.as_chunks::<4>().0.iter().zip(sums);
    if begin {
        for (bytes, sum) in units {
            *sum = lanes.of(*bytes);
        }
    } else {
        for (bytes, sum) in units {
            *sum += lanes.of(*bytes);
        }
    }
}

/// Makes a sample of `units` sums each.
fn fold(sums: &[u32], units: usize, factor: u32, samples: &mut [u16]) {
    match units {
        1 => fold_by::<1>(sums, factor, samples),
        2 => fold_by::<2>(sums, factor, samples),
        3 => fold_by::<3>(sums, factor, samples),
        4 => fold_by::<4>(sums, factor, samples),
        6 => fold_by::<6>(sums, factor, samples),
        8 => fold_by::<8>(sums, factor, samples),
        _ => {
            for (sums, to) in sums.chunks_exact(units).zip(samples) {
                *to = sample(sums.iter().sum(), factor);
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn fold_by<const UNITS: usize>(sums: &[u32], factor: u32, samples: &mut [u16]) {
    for (sums, to) in sums.as_chunks::<UNITS>().0.iter().zip(samples) {
        let mut sum = 0;
        for unit in sums {
            sum += unit;
        }
        *to = sample(sum, factor);
    }
}

/// The differences of two rows of samples into `row`, added to `block`, and of neighbours into
/// `pairs`. Gives the greatest sum of 2x2 of them, with the pairs of the row `before`. None of the
/// sums overflows: a sample is at most 16 x 255, and a block has 15 rows at most.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn differences(
    current: &[u16],
    kept: &[u16],
    row: &mut [i16],
    pairs: &mut [i16],
    before: &[i16],
    block: &mut [i16],
) -> u16 {
    const BITS: u32 = (PARTS / BLOCK_PARTS).trailing_zeros();
    for (((current, kept), to), block) in current.iter().zip(kept).zip(&mut *row).zip(block) {
        let difference = *current as i16 - *kept as i16;
        *to = difference;
        *block += (difference + (1 << BITS) / 2) >> BITS;
    }
    let mut most = 0;
    for (((left, right), pair), before) in row.iter().zip(&row[1..]).zip(pairs).zip(before) {
        *pair = *left + *right;
        most = most.max((*pair + *before).unsigned_abs());
    }
    most
}
