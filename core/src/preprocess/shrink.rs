//! The horizontal pass: a blended row becomes a row of the output's width.
//!
//! Products of 16 bits are summed in 32, exactly. Two rows go through together, which share
//! weights. Every version gives the same bits.

use wide::{i16x8, i32x4};

use super::filter::{Columns, Length};

/// Two rows side by side.
pub(super) type Two<'a> = [&'a [i16]; 2];

/// Shrinks two rows, as long as [`Columns::reach`] says, to a multiple of four values each.
///
/// # Panics
/// When a row is shorter.
pub(super) fn shrink(columns: &Columns, rows: Two<'_>, sums: [&mut [i32]; 2]) {
    assert!(
        rows.iter().all(|row| row.len() >= columns.reach()),
        "rows as long as the columns reach"
    );
    let sums = sums.map(|sums| sums.as_chunks_mut::<4>().0);
    #[cfg(target_arch = "x86_64")]
    if columns.length() != Length::Any && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and the rows' length was checked above.
        return unsafe { avx2::shrink(columns, rows, sums) };
    }
    for (row, sums) in rows.into_iter().zip(sums) {
        portable(columns, row, sums);
    }
}

fn portable(columns: &Columns, row: &[i16], sums: &mut [[i32; 4]]) {
    match columns.length() {
        Length::Four => {
            for ((starts, weights), sums) in columns.fours().zip(sums) {
                let two = |at: usize| {
                    let [a, b] = [starts[at], starts[at + 1]].map(|start| four(&row[start..]));
                    let samples = [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
                    i16x8::new(samples).dot(i16x8::new(eight(&weights[4 * at..]))).to_array()
                };
                *sums = by_twos(two(0), two(2));
            }
        }
        Length::Eights(eights) => {
            for ((starts, weights), sums) in columns.fours().zip(sums) {
                let run = |at: usize| {
                    let parts = (0..eights).map(|part| {
                        let samples = i16x8::new(eight(&row[starts[at] + 8 * part..]));
                        samples.dot(i16x8::new(eight(&weights[8 * (eights * at + part)..])))
                    });
                    parts.fold(i32x4::ZERO, |sum, part| sum + part).to_array()
                };
                *sums = by_twos(by_twos(run(0), run(1)), by_twos(run(2), run(3)));
            }
        }
        Length::Any => {
            let one = columns.one();
            for ((first, weights), sum) in columns.runs().zip(sums.as_flattened_mut()) {
                let weighted = |(sample, weight): (&i16, &f64)| f64::from(*sample) * weight;
                let value: f64 = row[first..].iter().zip(weights).map(weighted).sum();
                *sum = (value * one).round() as i32;
            }
        }
    }
}

fn four(samples: &[i16]) -> &[i16; 4] {
    samples.first_chunk().expect("rows reach as far as the columns do")
}

fn eight(samples: &[i16]) -> [i16; 8] {
    *samples.first_chunk().expect("rows reach as far as the columns do")
}

/// The sums of neighbours.
fn by_twos(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    [a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]]
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::super::filter::{Columns, Length};
    use super::Two;

    /// # Safety
    /// Both rows are as long as [`Columns::reach`] says.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn shrink(columns: &Columns, rows: Two<'_>, sums: [&mut [[i32; 4]]; 2]) {
        // SAFETY: as here.
        unsafe {
            match columns.length() {
                Length::Four => fours(columns, rows, sums),
                // A number known to the compiler makes the sums free of loops.
                Length::Eights(1) => eights::<1>(columns, rows, sums),
                Length::Eights(2) => eights::<2>(columns, rows, sums),
                Length::Eights(_) => eights::<0>(columns, rows, sums),
                Length::Any => {}
            }
        }
    }

    /// # Safety
    /// As of [`shrink`].
    #[target_feature(enable = "avx2")]
    unsafe fn fours(columns: &Columns, rows: Two<'_>, [first, second]: [&mut [[i32; 4]]; 2]) {
        let sums = first.iter_mut().zip(second);
        for (((starts, weights), pairs), (first, second)) in
            columns.fours().zip(columns.pairs()).zip(sums)
        {
            let weights = weights.as_chunks::<8>().0;
            // Eight samples have two runs of four in them.
            let two = |at: usize| {
                // SAFETY: runs of four reach eight samples far.
                let samples = unsafe { beside(rows, starts[2 * at]) };
                let samples = _mm256_shuffle_epi8(samples, twice(&pairs[at]));
                _mm256_madd_epi16(samples, twice_samples(&weights[at]))
            };
            store(_mm256_hadd_epi32(two(0), two(1)), first, second);
        }
    }

    /// # Safety
    /// As of [`shrink`].
    #[target_feature(enable = "avx2")]
    unsafe fn eights<const N: usize>(
        columns: &Columns,
        rows: Two<'_>,
        [first, second]: [&mut [[i32; 4]]; 2],
    ) {
        let Length::Eights(eights) = columns.length() else { return };
        let eights = if N == 0 { eights } else { N };
        let sums = first.iter_mut().zip(second);
        for ((starts, weights), (first, second)) in columns.fours().zip(sums) {
            let weights = weights.as_chunks::<8>().0;
            let run = |at: usize| {
                let mut sum = _mm256_setzero_si256();
                for part in 0..eights {
                    // SAFETY: the whole run lies in the rows.
                    let samples = unsafe { beside(rows, starts[at] + 8 * part) };
                    let products =
                        _mm256_madd_epi16(samples, twice_samples(&weights[eights * at + part]));
                    sum = _mm256_add_epi32(sum, products);
                }
                sum
            };
            let halves = [_mm256_hadd_epi32(run(0), run(1)), _mm256_hadd_epi32(run(2), run(3))];
            store(_mm256_hadd_epi32(halves[0], halves[1]), first, second);
        }
    }

    /// Eight samples of each row from `at` on.
    ///
    /// # Safety
    /// Both rows have them.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn beside(rows: Two<'_>, at: usize) -> __m256i {
        // SAFETY: sixteen bytes of each row, which has them.
        let [first, second] =
            rows.map(|row| unsafe { _mm_loadu_si128(row.as_ptr().add(at).cast()) });
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(first), second)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn twice_samples(samples: &[i16; 8]) -> __m256i {
        // SAFETY: sixteen bytes, of which any will do.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(samples.as_ptr().cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn twice(bytes: &[u8; 16]) -> __m256i {
        // SAFETY: sixteen bytes, of which any will do.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(sums: __m256i, first: &mut [i32; 4], second: &mut [i32; 4]) {
        // SAFETY: sixteen bytes each.
        unsafe {
            _mm_storeu_si128(first.as_mut_ptr().cast(), _mm256_castsi256_si128(sums));
            _mm_storeu_si128(second.as_mut_ptr().cast(), _mm256_extracti128_si256::<1>(sums));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::Axis;
    use super::*;

    const SIZES: [(usize, usize); 10] = [
        (1, 1),
        (1, 9),
        (5, 3),
        (8, 8),
        (640, 384),
        (1280, 384),
        (1921, 384),
        (300, 7),
        (2000, 31),
        (64, 250),
    ];

    /// The lowest, the highest, and noise.
    fn noise(seed: usize, length: usize) -> Vec<i16> {
        let value = |at: usize| match at % 7 {
            0 => i16::MIN,
            1 => i16::MAX,
            _ => ((at + 977 * seed).wrapping_mul(2_654_435_761) >> 11) as i16,
        };
        (0..length).map(value).collect()
    }

    #[test]
    fn every_version_gives_the_same_bits() {
        for (samples, outputs) in SIZES {
            let columns = Columns::new(Axis::new(samples, 1, 0, samples, outputs));
            let rows = [0, 1].map(|seed| noise(seed, columns.reach()));
            let mut once = [0, 1].map(|_| vec![0; outputs.next_multiple_of(4)]);
            let mut again = once.clone();
            for (row, sums) in rows.iter().zip(&mut once) {
                portable(&columns, row, sums.as_chunks_mut().0);
            }
            shrink(
                &columns,
                rows.each_ref().map(|row| &row[..]),
                again.each_mut().map(|sums| &mut sums[..]),
            );
            assert_eq!(once, again, "{samples} -> {outputs}");
        }
    }

    #[test]
    fn sum_is_exact_to_a_fraction_of_a_level() {
        for (samples, outputs) in SIZES {
            let columns = Columns::new(Axis::new(samples, 1, 0, samples, outputs));
            let row = noise(3, columns.reach());
            let mut sums = [0, 1].map(|_| vec![0; outputs.next_multiple_of(4)]);
            shrink(&columns, [&row, &row], sums.each_mut().map(|sums| &mut sums[..]));
            for ((first, weights), sum) in columns.runs().zip(&sums[1]) {
                let exact: f64 =
                    row[first..].iter().zip(weights).map(|(a, b)| f64::from(*a) * b).sum();
                let off = (f64::from(*sum) * f64::from(columns.unit()) - exact).abs() / 256.0;
                assert!(off < 0.02, "{samples} -> {outputs}: {off} levels off");
            }
        }
    }
}
