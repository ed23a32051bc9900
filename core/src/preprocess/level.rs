//! The numbers that a model's input is made of.

use super::BORDER;

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u8 {}
}

/// How an input holds a level: exactly (`f32`), or as the nearest whole one (`u8`), which is a
/// quarter of the memory and takes less time to write and to copy.
pub trait Level: Copy + private::Sealed {
    /// [`BORDER`].
    const BORDER: Self;

    /// Of a level, which is clamped to 0..=255.
    fn of(level: f32) -> Self;
}

impl Level for f32 {
    const BORDER: Self = BORDER;

    #[inline(always)]
    fn of(level: f32) -> Self {
        level.clamp(0.0, 255.0)
    }
}

impl Level for u8 {
    const BORDER: Self = BORDER as u8;

    /// The sum has no room for fractions and ends with the whole level, rounded to nearest: unlike
    /// `as`, which looks for numbers out of range, that is one addition in vectors.
    #[inline(always)]
    fn of(level: f32) -> Self {
        const WHOLE: f32 = 8_388_608.0;
        (f32::of(level) + WHOLE).to_bits() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_hold_the_nearest_level() {
        for level in 0..=255u8 {
            for off in [-0.49, -0.25, 0.0, 0.25, 0.49] {
                let near = f32::from(level) + off;
                assert_eq!(u8::of(near), level, "{near}");
            }
        }
        assert_eq!(f32::from(<u8 as Level>::BORDER), <f32 as Level>::BORDER);
    }
}
