//! From Y'CbCr and grey levels to RGB levels.

use multiversion::multiversion;

use super::Level;
use crate::frame::{ColorMatrix, ColorRange, Components, FrameFormat, Layout};

/// Red, green and blue as linear functions of luma and chroma, all in levels 0..255. The level of a
/// sample of `n` bits is its value times `256 / 2^n`.
///
/// ```text
/// y = luma_gain * Y + luma_offset
/// r = y + red_v * (V - 128)
/// g = y + green_u * (U - 128) + green_v * (V - 128)
/// b = y + blue_u * (U - 128)
/// ```
///
/// with `Kg = 1 - Kr - Kb` and, from the definition of Cb and Cr (ITU-R BT.601-7 2.5.1, BT.709-6
/// 3.3, BT.2020-2 table 4), `red_v = 2 (1 - Kr) c`, `blue_u = 2 (1 - Kb) c`,
/// `green_u = -blue_u Kb / Kg`, `green_v = -red_v Kr / Kg`. In limited range `c = 255 / 224`,
/// `luma_gain = 255 / 219` and `luma_offset = -16 luma_gain`. In full range `c` and `luma_gain` are
/// `(255 / 256) 2^n / (2^n - 1)`, which is 1 for 8 bits, and luma has no offset.
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
            ColorMatrix::Bt2020 => (0.2627, 0.0593),
        };
        let Layout { kind, depth, .. } = format.pixels.layout();
        let full = 255.0 / (256.0 - f64::from(8 - depth.bits as i32).exp2());
        let (luma_gain, luma_offset, chroma): (f64, f64, f64) = match format.range {
            ColorRange::Limited if kind != Components::Rgb => {
                (255.0 / 219.0, -16.0 * 255.0 / 219.0, 255.0 / 224.0)
            }
            _ => (full, 0.0, full),
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

    /// The conversion of weighted sums, which are in units of `luma_unit` and `chroma_unit` 256ths
    /// of a level, less 128 levels.
    pub(super) fn conversion(
        &self,
        kind: Components,
        luma_unit: f32,
        chroma_unit: f32,
    ) -> Conversion {
        let (luma, chroma) = (luma_unit / 256.0, chroma_unit / 256.0);
        Conversion {
            kind,
            color: Self {
                luma_gain: self.luma_gain * luma,
                luma_offset: 128.0 * self.luma_gain + self.luma_offset,
                red_v: self.red_v * chroma,
                green_u: self.green_u * chroma,
                green_v: self.green_v * chroma,
                blue_u: self.blue_u * chroma,
            },
        }
    }
}

/// From weighted sums of components to levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversion {
    kind: Components,
    /// For sums in place of levels, chroma without its 128.
    color: Color,
}

impl Conversion {
    /// Writes a row of red, green and blue, clamped to 0..255. All rows are of one length; of grey,
    /// only the first one is read.
    pub(super) fn convert<L: Level>(&self, sums: [&[i32]; 3], rgb: [&mut [L]; 3]) {
        match self.kind {
            Components::Yuv => convert_yuv(&self.color, sums, rgb),
            Components::Rgb => sums
                .into_iter()
                .zip(rgb)
                .for_each(|(sums, row)| convert_one(&self.color, sums, row)),
            Components::Gray => {
                let [red, green, blue] = rgb;
                convert_one(&self.color, sums[0], red);
                green.copy_from_slice(red);
                blue.copy_from_slice(red);
            }
        }
    }
}

/// No fused multiply-add, so that every version gives the same bits.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn convert_yuv<L: Level>(color: &Color, sums: [&[i32]; 3], rgb: [&mut [L]; 3]) {
    let Color { luma_gain, luma_offset, red_v, green_u, green_v, blue_u } = *color;
    let [red, green, blue] = rgb;
    let samples = sums[0].iter().zip(sums[1]).zip(sums[2]);
    for (((red, green), blue), ((y, u), v)) in red.iter_mut().zip(green).zip(blue).zip(samples) {
        let (y, u, v) = (*y as f32 * luma_gain + luma_offset, *u as f32, *v as f32);
        *red = L::of(y + red_v * v);
        *green = L::of(y + green_u * u + green_v * v);
        *blue = L::of(y + blue_u * u);
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn convert_one<L: Level>(color: &Color, sums: &[i32], row: &mut [L]) {
    for (value, sum) in row.iter_mut().zip(sums) {
        *value = L::of(*sum as f32 * color.luma_gain + color.luma_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    fn rgb(matrix: ColorMatrix, range: ColorRange, yuv: [u8; 3]) -> [f32; 3] {
        let format = FrameFormat { matrix, range, ..FrameFormat::new(PixelFormat::I420, 2, 2) };
        let sums = yuv.map(|code| [256 * (i32::from(code) - 128)]);
        let mut rgb = [[0.0]; 3];
        let [red, green, blue] = &mut rgb;
        let conversion = Color::new(format).conversion(Components::Yuv, 1.0, 1.0);
        conversion.convert(sums.each_ref().map(|sum| &sum[..]), [red, green, blue]);
        rgb.map(|[value]| value)
    }

    /// The 100% colour bars as the standards' own 8-bit codes, which are rounded: within 2 levels
    /// of pure colours.
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
