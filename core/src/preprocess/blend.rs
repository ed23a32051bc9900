//! The vertical pass: rows of a plane, weighted, become one.
//!
//! A sample becomes a signed 16-bit number, its distance from the middle of the range in 256ths of a
//! level, and its product with a weight is rounded to a 256th of a level. The roundings cancel out
//! but for chosen pictures, where [`MOST_TAPS`] rows may be 0.07 level off. Every version gives the
//! same bits.

use super::filter::MOST_TAPS;
use crate::frame::Rows;

/// Blends `rows`, as long as `blended`, by `weights` in 32,768ths. The memory of as many rows behind
/// them as `ahead` says, which are needed next, is asked for meanwhile.
///
/// Values in `blended` are 256ths of a level less 128 levels.
///
/// # Panics
/// When there are more than [`MOST_TAPS`] rows, other than as many weights, or they have another length.
pub(super) fn blend(rows: Rows<'_>, weights: &[i16], ahead: usize, blended: &mut [i16]) {
    let fits = rows.count() == weights.len() && rows.count() <= MOST_TAPS && rows.bytes() == blended.len();
    assert!(fits, "rows of a plane, with weights");
    #[cfg(target_arch = "x86_64")]
    if blended.len() >= avx2::BLOCK && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; figures were checked above.
        return unsafe { avx2::blend(rows, weights, ahead, blended) };
    }
    portable(rows, weights, blended);
}

/// A sample as a signed number.
fn signed(sample: u8) -> i16 {
    i16::from_be_bytes([sample ^ 0x80, 0])
}

fn portable(rows: Rows<'_>, weights: &[i16], blended: &mut [i16]) {
    blended.fill(0);
    for (row, weight) in weights.iter().enumerate() {
        for (sum, sample) in blended.iter_mut().zip(rows.row(row)) {
            let product = i32::from(signed(*sample)) * i32::from(*weight);
            *sum += ((product + 0x4000) >> 15) as i16;
        }
    }
}

/// [`blend`] for any number of rows, in floating point.
pub(super) fn blend_any(rows: Rows<'_>, weights: &[f64], blended: &mut [i16], sums: &mut [f32]) {
    let sums = &mut sums[..blended.len()];
    sums.fill(0.0);
    for (row, weight) in weights.iter().enumerate() {
        for (sum, sample) in sums.iter_mut().zip(rows.row(row)) {
            *sum += f32::from(signed(*sample)) * *weight as f32;
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

    /// # Safety
    /// `blended` holds a [`BLOCK`] of values at least, every row as many samples as `blended` values,
    /// and there are as many weights as rows.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn blend(rows: Rows<'_>, weights: &[i16], ahead: usize, blended: &mut [i16]) {
        let last = blended.len() - BLOCK;
        let mut at = 0;
        loop {
            for row in rows.count()..rows.count() + ahead {
                _mm_prefetch::<_MM_HINT_T0>(rows.as_ptr().wrapping_add(row * rows.stride() + at).cast());
            }
            // SAFETY: a block from here on lies in every row and in `blended`.
            unsafe { block(rows, weights, at, blended) };
            if at == last {
                return;
            }
            // The last block may overlap the one before: it makes the same values again.
            at = (at + BLOCK).min(last);
        }
    }

    /// # Safety
    /// Every row and `blended` hold a [`BLOCK`] from `at` on, and there are as many weights as rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn block(rows: Rows<'_>, weights: &[i16], at: usize, blended: &mut [i16]) {
        let (zero, middle) = (_mm256_setzero_si256(), _mm256_set1_epi8(i8::MIN));
        let mut sums = [zero; 4];
        for (row, weight) in weights.iter().enumerate() {
            let weight = _mm256_set1_epi16(*weight);
            for half in 0..2 {
                // SAFETY: the row has 64 bytes from `at` on, of which this reads 32.
                let samples =
                    unsafe { _mm256_loadu_si256(rows.as_ptr().add(row * rows.stride() + at + 32 * half).cast()) };
                let samples = _mm256_xor_si256(samples, middle);
                // Samples 0 to 7 and 16 to 23, then the others, each in the upper half of 16 bits.
                let wide = [_mm256_unpacklo_epi8(zero, samples), _mm256_unpackhi_epi8(zero, samples)];
                for part in 0..2 {
                    let sum = &mut sums[2 * half + part];
                    *sum = _mm256_add_epi16(*sum, _mm256_mulhrs_epi16(wide[part], weight));
                }
            }
        }
        let ordered = [
            _mm256_permute2x128_si256::<0x20>(sums[0], sums[1]),
            _mm256_permute2x128_si256::<0x31>(sums[0], sums[1]),
            _mm256_permute2x128_si256::<0x20>(sums[2], sums[3]),
            _mm256_permute2x128_si256::<0x31>(sums[2], sums[3]),
        ];
        for (part, values) in ordered.into_iter().enumerate() {
            // SAFETY: `blended` has 64 values from `at` on, of which this writes 16.
            unsafe { _mm256_storeu_si256(blended.as_mut_ptr().add(at + 16 * part).cast(), values) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PADDING: usize = 3;

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

    #[test]
    fn every_version_gives_the_same_bits() {
        for length in [1, 7, 63, 64, 65, 127, 128, 200, 1280] {
            for count in [1, 2, 3, 7, 8, 9, 31, 32] {
                let data = noise(count, length);
                let (rows, weights) = (rows(&data, count, length), weights(count));
                let (mut once, mut again) = (vec![0; length], vec![1; length]);
                portable(rows, &weights, &mut once);
                blend(rows, &weights, 2, &mut again);
                assert_eq!(once, again, "{count} rows of {length}");
            }
        }
    }

    #[test]
    fn sum_is_exact_to_a_fraction_of_a_level() {
        let length = 500;
        for count in [1, 2, 7, 20, 32] {
            let data = noise(count, length);
            let (rows, fixed) = (rows(&data, count, length), weights(count));
            let mut blended = vec![0; length];
            blend(rows, &fixed, 0, &mut blended);
            let weights: Vec<_> = fixed.iter().map(|weight| f64::from(*weight) / 32_768.0).collect();
            let (mut any, mut sums) = (vec![0; length], vec![0.0; length]);
            blend_any(rows, &weights, &mut any, &mut sums);
            for at in 0..length {
                let exact: f64 =
                    weights.iter().enumerate().map(|(row, weight)| f64::from(rows.row(row)[at]) * weight).sum();
                let off = |value: i16| (f64::from(value) / 256.0 + 128.0 - exact).abs();
                assert!(off(any[at]) <= 0.006, "{count} rows in floating point: {}", off(any[at]));
                let most = (count as f64).sqrt() * 0.01;
                assert!(off(blended[at]) <= most, "{count} rows: {} is {} off", exact, off(blended[at]));
            }
        }
    }
}
