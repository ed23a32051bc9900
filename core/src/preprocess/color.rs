//! From Y'CbCr and grey levels to RGB levels.

use crate::frame::{ColorMatrix, ColorRange, FrameFormat};

/// Red, green and blue as linear functions of luma and chroma, all in levels 0..255:
///
/// ```text
/// y = luma_gain * Y + luma_offset
/// r = y + red_v * (V - 128)
/// g = y + green_u * (U - 128) + green_v * (V - 128)
/// b = y + blue_u * (U - 128)
/// ```
///
/// with `Kg = 1 - Kr - Kb` and, from the definition of Cb and Cr (ITU-R BT.601-7 2.5.1, BT.709-6 3.3),
/// `red_v = 2 (1 - Kr) c`, `blue_u = 2 (1 - Kb) c`, `green_u = -blue_u Kb / Kg`, `green_v = -red_v Kr / Kg`. In full range `c = 1` and luma
/// stays; in limited range `c = 255 / 224`, `luma_gain = 255 / 219` and `luma_offset = -16 luma_gain`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Color {
    pub luma_gain: f32,
    pub luma_offset: f32,
    pub red_v: f32,
    pub green_u: f32,
    pub green_v: f32,
    pub blue_u: f32,
}

impl Color {
    pub(crate) fn new(format: FrameFormat) -> Self {
        let (kr, kb) = match format.matrix {
            ColorMatrix::Bt601 => (0.299, 0.114),
            ColorMatrix::Bt709 => (0.2126, 0.0722),
        };
        let (luma_gain, luma_offset, chroma) = match format.range {
            ColorRange::Limited => (255.0 / 219.0, -16.0 * 255.0 / 219.0, 255.0 / 224.0),
            ColorRange::Full => (1.0, 0.0, 1.0),
        };
        let kg = 1.0 - kr - kb;
        let (red_v, blue_u): (f64, f64) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        Self {
            luma_gain: luma_gain as f32,
            luma_offset: luma_offset as f32,
            red_v: red_v as f32,
            green_u: (-blue_u * kb / kg) as f32,
            green_v: (-red_v * kr / kg) as f32,
            blue_u: blue_u as f32,
        }
    }

    /// Red, green and blue of one Y'CbCr sample, clamped to 0..255.
    #[inline(always)]
    pub(super) fn rgb(&self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let (y, u, v) = (self.luma(y), u - 128.0, v - 128.0);
        [y + self.red_v * v, y + self.green_u * u + self.green_v * v, y + self.blue_u * u].map(level)
    }

    /// Grey of one sample, clamped to 0..255.
    #[inline(always)]
    pub(super) fn grey(&self, y: f32) -> f32 {
        level(self.luma(y))
    }

    #[inline(always)]
    fn luma(&self, y: f32) -> f32 {
        y * self.luma_gain + self.luma_offset
    }
}

/// Clamps to the range of a level.
#[inline(always)]
pub(super) fn level(value: f32) -> f32 {
    value.clamp(0.0, 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    fn rgb(matrix: ColorMatrix, range: ColorRange, yuv: [u8; 3]) -> [f32; 3] {
        let [y, u, v] = yuv.map(f32::from);
        Color::new(FrameFormat { matrix, range, ..FrameFormat::new(PixelFormat::I420, 2, 2) }).rgb(y, u, v)
    }

    /// The 100% colour bars as the standards' own 8-bit codes, which are rounded: within 2 levels of pure colours.
    #[test]
    fn colour_bars_of_both_standards_come_out_pure() {
        use ColorMatrix::{Bt601, Bt709};
        use ColorRange::{Full, Limited};
        let bars = [
            (Bt601, Limited, [81, 90, 240], [255.0, 0.0, 0.0]),
            (Bt601, Limited, [145, 54, 34], [0.0, 255.0, 0.0]),
            (Bt601, Limited, [41, 240, 110], [0.0, 0.0, 255.0]),
            (Bt709, Limited, [63, 102, 240], [255.0, 0.0, 0.0]),
            (Bt709, Limited, [173, 42, 26], [0.0, 255.0, 0.0]),
            (Bt709, Limited, [32, 240, 118], [0.0, 0.0, 255.0]),
            (Bt601, Full, [76, 85, 255], [255.0, 0.0, 0.0]),
            (Bt709, Full, [54, 99, 255], [255.0, 0.0, 0.0]),
            (Bt709, Limited, [235, 128, 128], [255.0, 255.0, 255.0]),
            (Bt709, Limited, [16, 128, 128], [0.0, 0.0, 0.0]),
            (Bt601, Full, [0, 128, 128], [0.0, 0.0, 0.0]),
        ];
        for (matrix, range, yuv, expected) in bars {
            let got = rgb(matrix, range, yuv);
            let far = got.iter().zip(expected).any(|(got, expected)| (got - expected).abs() > 2.0);
            assert!(!far, "{matrix:?} {range:?} {yuv:?}: {got:?} instead of {expected:?}");
        }
    }

    #[test]
    fn levels_outside_the_limited_range_are_clamped() {
        assert_eq!(rgb(ColorMatrix::Bt709, ColorRange::Limited, [255, 128, 128]), [255.0; 3]);
        assert_eq!(rgb(ColorMatrix::Bt709, ColorRange::Limited, [0, 128, 128]), [0.0; 3]);
    }
}
