//! What nvdsosd draws.

use std::ffi::{c_char, c_int};
use std::mem::{offset_of, size_of};

use super::BaseMeta;

/// Most rectangles, texts and lines in one display meta.
pub const DISPLAY_ELEMENTS: usize = 16;

/// `NvOSD_ColorParams`, each 0..1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    /// Red.
    pub red: f64,
    /// Green.
    pub green: f64,
    /// Blue.
    pub blue: f64,
    /// Opacity.
    pub alpha: f64,
}

/// `NvOSD_TextParams`.
#[repr(C)]
pub struct TextParams {
    /// Allocated by GLib, freed with the metadata.
    pub text: *mut c_char,
    /// Pixels.
    pub x: u32,
    /// Pixels.
    pub y: u32,
    /// Not freed.
    pub font_name: *const c_char,
    /// Points.
    pub font_size: u32,
    /// Of the letters.
    pub font_color: Color,
    /// Draw `background`.
    pub has_background: c_int,
    /// Behind the letters.
    pub background: Color,
}

/// `NvOSD_LineParams`.
#[repr(C)]
pub struct LineParams {
    /// Pixels.
    pub x1: u32,
    /// Pixels.
    pub y1: u32,
    /// Pixels.
    pub x2: u32,
    /// Pixels.
    pub y2: u32,
    /// Pixels.
    pub width: u32,
    /// Of the line.
    pub color: Color,
}

/// `NvDsDisplayMeta`. A rectangle has `RECT` words of eight bytes: 13 up to 8.0, 14 from 9.0 on,
/// where it can be turned.
#[repr(C)]
pub struct DisplayMeta<const RECT: usize> {
    /// See [`BaseMeta`].
    pub base: BaseMeta,
    /// Used of `rects`.
    pub num_rects: u32,
    /// Used of `texts`.
    pub num_texts: u32,
    /// Used of `lines`.
    pub num_lines: u32,
    /// Used of `arrows`.
    pub num_arrows: u32,
    /// Used of `circles`.
    pub num_circles: u32,
    rects: [[u64; RECT]; DISPLAY_ELEMENTS],
    /// Texts.
    pub texts: [TextParams; DISPLAY_ELEMENTS],
    /// Lines.
    pub lines: [LineParams; DISPLAY_ELEMENTS],
    arrows: [[u64; 8]; DISPLAY_ELEMENTS],
    circles: [[u64; 12]; DISPLAY_ELEMENTS],
    misc: [i64; 4],
    reserved: [i64; 4],
}

/// Display metadata up to 8.0.
pub type DisplayMetaOld = DisplayMeta<13>;
/// Display metadata from 9.0 on.
pub type DisplayMetaNew = DisplayMeta<14>;

layout!(TextParams: 104 {
    text @ 0, x @ 8, y @ 12, font_name @ 16, font_size @ 24, font_color @ 32, has_background @ 64,
    background @ 72,
});
layout!(LineParams: 56 { x1 @ 0, y1 @ 4, x2 @ 8, y2 @ 12, width @ 16, color @ 24 });
layout!(DisplayMetaOld: 6912 {
    base @ 0, num_rects @ 40, num_texts @ 44, num_lines @ 48, num_arrows @ 52, num_circles @ 56,
    rects @ 64, texts @ 1728, lines @ 3392, arrows @ 4288, circles @ 5312, misc @ 6848,
});
layout!(DisplayMetaNew: 7040 {
    base @ 0, num_rects @ 40, num_texts @ 44, num_lines @ 48, num_arrows @ 52, num_circles @ 56,
    rects @ 64, texts @ 1856, lines @ 3520, arrows @ 4416, circles @ 5440, misc @ 6976,
});
