//! Whether a picture differs from an earlier one: where it does not, the earlier one's count holds.
//!
//! A picture is read as samples of brightness. A sample is the mean over an area of 1.6 to 3.4
//! pixels of the model's input in width and about 3.2 in height, from one row of that area, or two
//! where it is four pixels wide: what is not read costs nothing, and at least 8 pixels average out
//! the noise of a sensor. Brightness is luma, or the mean of red, green and blue. Two pictures
//! differ where
//!
//! * the mean over any 2x2 samples differs by [`SPOT`] levels: a vehicle of three pixels of the
//!   input, and of four of the picture, does that where it is 24 levels darker or brighter than the
//!   road, wherever it lies, or
//! * the mean over any of the blocks of 8x8 samples that make up the picture differs by [`WIDE`]
//!   levels: light that has changed, or an exposure. The last blocks are larger, up to 15x15.
//!
//! White noise with a standard deviation of 4 levels moves the first mean by 1.0 level and the
//! second by 0.25 (one standard deviation). Differences of colour alone are not seen.

mod samples;

use crate::frame::{FrameFormat, FrameView};
use crate::preprocess::Placement;

use samples::Sampler;

/// Levels by which the mean over 2x2 samples may differ.
pub const SPOT: u16 = 5;

/// Levels by which the mean over 8x8 samples may differ.
pub const WIDE: u16 = 2;

/// Samples on a side of the blocks that [`WIDE`] is for.
const BLOCK: usize = 8;

/// Compares the pictures of one stream with the one that was kept last.
#[derive(Debug)]
pub struct ChangeDetector {
    format: FrameFormat,
    placement: Placement,
    /// `None` where a picture is too small to be sampled.
    sampler: Option<Sampler>,
    current: Vec<u16>,
    kept: Vec<u16>,
    /// Number of the picture that was kept.
    number: Option<u64>,
    comparison: Comparison,
}

impl ChangeDetector {
    /// For pictures of `format` that lie at `placement` in the model's input.
    pub fn new(format: FrameFormat, placement: Placement) -> Self {
        let sampler = Sampler::new(format, placement);
        let (columns, rows) = sampler.as_ref().map_or((0, 0), Sampler::size);
        let samples = vec![0; columns * rows];
        Self {
            format,
            placement,
            sampler,
            current: samples.clone(),
            kept: samples,
            number: None,
            comparison: Comparison::new(columns),
        }
    }

    /// The detector in `held`, which is made there where there is none for such pictures.
    pub fn held(held: &mut Option<Self>, format: FrameFormat, placement: Placement) -> &mut Self {
        held.take_if(|held| held.format != format || held.placement != placement);
        held.get_or_insert_with(|| Self::new(format, placement))
    }

    /// Reads `frame`. Gives the number of the picture that was kept, where `frame` does not differ
    /// from it. Pictures of fewer than 4x4 pixels always do.
    ///
    /// # Panics
    /// When the frame is of another format.
    pub fn compare(&mut self, frame: &FrameView<'_>) -> Option<u64> {
        assert_eq!(frame.format(), self.format, "the detector was made for another format");
        let sampler = self.sampler.as_mut()?;
        sampler.read(frame, &mut self.current);
        let number = self.number?;
        let differs = self.comparison.differ(&self.current, &self.kept);
        (!differs).then_some(number)
    }

    /// Keeps the picture that was read last, under `number`: later ones are compared with it.
    pub fn keep(&mut self, number: u64) {
        std::mem::swap(&mut self.current, &mut self.kept);
        self.number = Some(number);
    }
}

/// The memory of a comparison.
#[derive(Debug)]
struct Comparison {
    columns: usize,
    /// Differences of a row of samples.
    row: Vec<i16>,
    /// Sums of two neighbours in the row, and in the row before.
    pairs: [Vec<i16>; 2],
    /// Sums over the rows of a block.
    block: Vec<i16>,
}

impl Comparison {
    fn new(columns: usize) -> Self {
        let zeros = vec![0; columns];
        Self { columns, row: zeros.clone(), pairs: [zeros.clone(), zeros.clone()], block: zeros }
    }

    /// Whether the samples `current` and `kept` differ.
    fn differ(&mut self, current: &[u16], kept: &[u16]) -> bool {
        let spot = 4 * SPOT * samples::PARTS as u16;
        let Self { columns, row, pairs: [pairs, before], block } = self;
        let rows = current.chunks_exact(*columns).zip(kept.chunks_exact(*columns));
        let count = current.len() / *columns;
        let mut height = 0;
        block.fill(0);
        for (number, (current, kept)) in rows.enumerate() {
            std::mem::swap(pairs, before);
            let most = samples::differences(current, kept, row, pairs, before, block);
            if number > 0 && most >= spot {
                return true;
            }
            height += 1;
            let left = count - number - 1;
            if left > 0 && (height < BLOCK || left < BLOCK) {
                continue;
            }
            for sums in blocks(block) {
                let wide = i32::from(WIDE) * i32::from(samples::BLOCK_PARTS);
                let count = (sums.len() * height) as i32;
                if sums.iter().copied().map(i32::from).sum::<i32>().abs() >= count * wide {
                    return true;
                }
            }
            block.fill(0);
            height = 0;
        }
        false
    }
}

/// A row in parts of [`BLOCK`]; the last one takes what is left.
fn blocks(row: &[i16]) -> impl Iterator<Item = &[i16]> {
    let count = (row.len() / BLOCK).max(1);
    (0..count).map(move |number| {
        let end = if number + 1 == count { row.len() } else { (number + 1) * BLOCK };
        &row[number * BLOCK..end]
    })
}

#[cfg(test)]
mod tests;
