//! The vertical pass: rows of a plane, weighted, become one.
//!
//! A sample becomes a signed 16-bit number, its distance from the middle of the range in 256ths of
//! a level, and its product with a weight is rounded to a 256th of a level; a row that is the only
//! one is taken as it is. The roundings cancel out but for chosen pictures, where [`MOST_TAPS`]
//! rows may be 0.07 level off. Every version gives the same bits.

use super::filter::MOST_TAPS;
use crate::frame::{Depth, Rows};

/// Blends `rows`, as long as `blended`, by `weights` in 32,768ths. The memory of as many rows
/// behind them as `ahead` says, which are needed next, is asked for meanwhile.
///
/// Values in `blended` are 256ths of a level less 128 levels.
///
/// # Panics
/// When there are more than [`MOST_TAPS`] rows, other than as many weights, or they have another
/// length.
pub(super) fn blend(
    rows: Rows<'_>,
    depth: Depth,
    weights: &[i16],
    ahead: usize,
    blended: &mut [i16],
) {
    let fits = rows.count() == weights.len() && rows.bytes() == depth.bytes * blended.len();
    assert!(fits && rows.count() <= MOST_TAPS, "rows of a plane, with weights");
    #[cfg(target_arch = "x86_64")]
    if blended.len() >= avx2::BLOCK && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; figures were checked above.
        return unsafe {
            match depth.bytes {
                1 => avx2::blend::<1>(rows, 0, weights, ahead, blended),
                _ => avx2::blend::<2>(rows, depth.shift, weights, ahead, blended),
            }
        };
    }
    match depth.bytes {
        1 => portable::<1>(rows, 0, weights, blended),
        _ => portable::<2>(rows, depth.shift, weights, blended),
    }
}

/// The samples of a row as signed numbers.
fn signed<const BYTES: usize>(row: &[u8], shift: u32) -> impl Iterator<Item = i16> {
    row.as_chunks::<BYTES>().0.iter().map(move |sample| {
        // A single byte is the high one.
        let sample = match sample[..] {
            [low, high] => u16::from_le_bytes([low, high]) << shift,
            _ => u16::from_le_bytes([0, sample[0]]),
        };
        (sample ^ 0x8000) as i16
    })
}

fn portable<const BYTES: usize>(rows: Rows<'_>, shift: u32, weights: &[i16], blended: &mut [i16]) {
    if weights.len() == 1 {
        return blended
            .iter_mut()
            .zip(signed::<BYTES>(rows.row(0), shift))
            .for_each(|(value, sample)| *value = sample);
    }
    blended.fill(0);
    for (row, weight) in weights.iter().enumerate() {
        for (sum, sample) in blended.iter_mut().zip(signed::<BYTES>(rows.row(row), shift)) {
            let product = i32::from(sample) * i32::from(*weight);
            // By rounding, white may come to lie above the range.
            *sum = sum.saturating_add(((product + 0x4000) >> 15) as i16);
        }
    }
}

/// [`blend`] for any number of rows, in floating point.
pub(super) fn blend_any(
    rows: Rows<'_>,
    depth: Depth,
    weights: &[f64],
    blended: &mut [i16],
    sums: &mut [f32],
) {
    match depth.bytes {
        1 => float::<1>(rows, 0, weights, blended, sums),
        _ => float::<2>(rows, depth.shift, weights, blended, sums),
    }
}

fn float<const BYTES: usize>(
    rows: Rows<'_>,
    shift: u32,
    weights: &[f64],
    blended: &mut [i16],
    sums: &mut [f32],
) {
    let sums = &mut sums[..blended.len()];
    sums.fill(0.0);
    for (row, weight) in weights.iter().enumerate() {
        for (sum, sample) in sums.iter_mut().zip(signed::<BYTES>(rows.row(row), shift)) {
            *sum += f32::from(sample) * *weight as f32;
        }
    }
    for (value, sum) in blended.iter_mut().zip(sums) {
        *value = sum.round_ties_even() as i16;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use crate::frame::Rows;

    /// Values that are made together.
    pub(super) const BLOCK: usize = 64;

    /// Samples are of `BYTES` bytes, 1 or 2; of 2, they are shifted left.
    ///
    /// # Safety
    /// `blended` holds a [`BLOCK`] of values at least, every row as many samples as `blended`
    /// values, and there are as many weights as rows.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn blend<const BYTES: usize>(
        rows: Rows<'_>,
        shift: u32,
        weights: &[i16],
        ahead: usize,
        blended: &mut [i16],
    ) {
        let last = blended.len() - BLOCK;
        let mut at = 0;
        loop {
            for row in rows.count()..rows.count() + ahead {
                let next = rows.as_ptr().wrapping_add(row * rows.stride() + BYTES * at);
                for line in 0..BYTES {
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(BLOCK * line).cast());
                }
            }
            // SAFETY: a block from here on lies in every row and in `blended`.
            unsafe { block::<BYTES>(rows, shift, weights, at, blended) };
            if at == last {
                return;
            }
            // The last block may overlap the one before: it makes the same values again.
            at = (at + BLOCK).min(last);
        }
    }

    /// # Safety
    /// Every row and `blended` hold a [`BLOCK`] from `at` on, and there are as many weights as
    /// rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn block<const BYTES: usize>(
        rows: Rows<'_>,
        shift: u32,
        weights: &[i16],
        at: usize,
        blended: &mut [i16],
    ) {
        let (zero, shift) = (_mm256_setzero_si256(), _mm_cvtsi32_si128(shift as i32));
        let (mut sums, single) = ([zero; 4], weights.len() == 1);
        for (row, weight) in weights.iter().enumerate() {
            let weight = _mm256_set1_epi16(*weight);
            for load in 0..2 * BYTES {
                // SAFETY: the row has 64 samples from `at` on, of which this reads 32 bytes.
                let samples = unsafe {
                    let at = row * rows.stride() + BYTES * at + 32 * load;
                    _mm256_loadu_si256(rows.as_ptr().add(at).cast())
                };
                let mut add = |part: usize, samples: __m256i| {
                    sums[part] = match single {
                        true => samples,
                        false => {
                            _mm256_adds_epi16(sums[part], _mm256_mulhrs_epi16(samples, weight))
                        }
                    };
                };
                if BYTES == 2 {
                    let samples = _mm256_sll_epi16(samples, shift);
                    add(load, _mm256_xor_si256(samples, _mm256_set1_epi16(i16::MIN)));
                } else {
                    let samples = _mm256_xor_si256(samples, _mm256_set1_epi8(i8::MIN));
                    // Samples 0 to 7 and 16 to 23, then the others, each in the upper half of 16
                    // bits.
                    add(2 * load, _mm256_unpacklo_epi8(zero, samples));
                    add(2 * load + 1, _mm256_unpackhi_epi8(zero, samples));
                }
            }
        }
        let ordered = match BYTES {
            2 => sums,
            _ => [
                _mm256_permute2x128_si256::<0x20>(sums[0], sums[1]),
                _mm256_permute2x128_si256::<0x31>(sums[0], sums[1]),
                _mm256_permute2x128_si256::<0x20>(sums[2], sums[3]),
                _mm256_permute2x128_si256::<0x31>(sums[2], sums[3]),
            ],
        };
        for (part, values) in ordered.into_iter().enumerate() {
            // SAFETY: `blended` has 64 values from `at` on, of which this writes 16.
            unsafe { _mm256_storeu_si256(blended.as_mut_ptr().add(at + 16 * part).cast(), values) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    const PADDING: usize = 3;

    fn depths() -> impl Iterator<Item = Depth> {
        let formats = [
            PixelFormat::Gray8,
            PixelFormat::P01010le,
            PixelFormat::I42010le,
            PixelFormat::Gray16Le,
        ];
        formats.into_iter().map(|pixels| pixels.layout().depth)
    }

    /// Rows of noise that begin with 0 and 255.
    fn noise(rows: usize, length: usize) -> Vec<u8> {
        let byte = |at: usize| match at % (length + PADDING) {
            0 => 0,
            1 => 255,
            _ => (at.wrapping_mul(2_654_435_761) >> 13) as u8,
        };
        (0..rows * (length + PADDING)).map(byte).collect()
    }

    fn rows(data: &[u8], rows: usize, length: usize) -> Rows<'_> {
        Rows::new(data, length + PADDING, rows, length).unwrap()
    }

    /// Weights that add up to 1, uneven ones.
    fn weights(count: usize) -> Vec<i16> {
        let edge = |at: usize| 32_768 * at * (at + 1) / (count * (count + 1));
        (0..count).map(|at| i16::try_from(edge(at + 1) - edge(at)).unwrap_or(i16::MAX)).collect()
    }

    /// Without the choice of a version.
    fn portable_of(depth: Depth, rows: Rows<'_>, weights: &[i16], blended: &mut [i16]) {
        match depth.bytes {
            1 => portable::<1>(rows, depth.shift, weights, blended),
            _ => portable::<2>(rows, depth.shift, weights, blended),
        }
    }

    #[test]
    fn every_version_gives_the_same_bits() {
        for depth in depths() {
            for length in [1, 7, 63, 64, 65, 127, 128, 200, 1280] {
                for count in [1, 2, 3, 7, 8, 9, 31, 32] {
                    let data = noise(count, length * depth.bytes);
                    let (rows, weights) =
                        (rows(&data, count, length * depth.bytes), weights(count));
                    let (mut once, mut again) = (vec![0; length], vec![1; length]);
                    portable_of(depth, rows, &weights, &mut once);
                    blend(rows, depth, &weights, 2, &mut again);
                    assert_eq!(once, again, "{count} rows of {length}, {depth:?}");
                }
            }
        }
    }

    #[test]
    fn sum_is_exact_to_a_fraction_of_a_level() {
        let length = 500;
        for depth in depths() {
            for count in [1, 2, 7, 20, 32] {
                let data = noise(count, length * depth.bytes);
                let (rows, fixed) = (rows(&data, count, length * depth.bytes), weights(count));
                let mut blended = vec![0; length];
                blend(rows, depth, &fixed, 0, &mut blended);
                let weights: Vec<_> =
                    fixed.iter().map(|weight| f64::from(*weight) / 32_768.0).collect();
                let (mut any, mut sums) = (vec![0; length], vec![0.0; length]);
                blend_any(rows, depth, &weights, &mut any, &mut sums);
                let level = |row: &[u8], at: usize| match depth.bytes {
                    1 => f64::from(row[at]),
                    _ => {
                        f64::from(u16::from_le_bytes([row[2 * at], row[2 * at + 1]]) << depth.shift)
                            / 256.0
                    }
                };
                for at in 0..length {
                    let weighted = |(row, weight): (usize, &f64)| level(rows.row(row), at) * weight;
                    let exact: f64 = weights.iter().enumerate().map(weighted).sum();
                    let off = |value: i16| (f64::from(value) / 256.0 + 128.0 - exact).abs();
                    assert!(
                        off(any[at]) <= 0.006,
                        "{count} rows in floating point: {}",
                        off(any[at])
                    );
                    let most = (count as f64).sqrt() * 0.01;
                    assert!(
                        off(blended[at]) <= most,
                        "{count} rows: {} is {} off",
                        exact,
                        off(blended[at])
                    );
                }
            }
        }
    }

    #[test]
    fn flat_rows_keep_their_level_and_a_single_one_all_of_it() {
        for depth in depths() {
            for (count, byte) in [1, 2, 7, 32]
                .into_iter()
                .flat_map(|count| [0, 1, 128, 255].map(|byte| (count, byte)))
            {
                let data = vec![byte; 100 * depth.bytes * count];
                let rows = Rows::new(&data, 100 * depth.bytes, count, 100 * depth.bytes).unwrap();
                let exact = match depth.bytes {
                    1 => signed::<1>(&data, 0).next(),
                    _ => signed::<2>(&data, depth.shift).next(),
                };
                let (mut once, mut again) = (vec![1; 100], vec![2; 100]);
                portable_of(depth, rows, &weights(count), &mut once);
                blend(rows, depth, &weights(count), 0, &mut again);
                assert_eq!(once, again, "{count} rows, {depth:?}");
                let off = again[0].abs_diff(exact.unwrap());
                assert!(usize::from(off) <= count / 2, "{count} rows of {byte}, {depth:?}: {off}");
            }
        }
    }

    /// Each row's sample is the one that loses most by rounding, all in the same direction.
    #[test]
    fn not_even_a_chosen_picture_is_a_tenth_of_a_level_off() {
        let depth = PixelFormat::Gray8.layout().depth;
        for count in [2, 7, 10, 20, 32] {
            let weights = weights(count);
            let lost = |sample: u8, weight: i16| {
                let product = (i32::from(sample) - 128) * 256 * i32::from(weight);
                f64::from((product + 0x4000) >> 15) - f64::from(product) / 32_768.0
            };
            let worst = |weight: &i16| {
                (0..=255).max_by(|a, b| lost(*a, *weight).total_cmp(&lost(*b, *weight)))
            };
            let samples: Vec<u8> = weights.iter().filter_map(worst).collect();
            let mut blended = vec![0; 64];
            let data: Vec<u8> = samples.iter().flat_map(|sample| [*sample; 64]).collect();
            blend(Rows::new(&data, 64, count, 64).unwrap(), depth, &weights, 0, &mut blended);
            let weighted =
                |(sample, weight): (&u8, &i16)| f64::from(*sample) * f64::from(*weight) / 32_768.0;
            let exact: f64 = samples.iter().zip(&weights).map(weighted).sum();
            let off = f64::from(blended[0]) / 256.0 + 128.0 - exact;
            let most = count as f64 * 0.5 / 256.0;
            assert!((0.5 * most..most + 0.01).contains(&off), "{count} rows: {off} off");
        }
    }
}
