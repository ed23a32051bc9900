//! A decoded picture, borrowed from whoever holds it.

use thiserror::Error;

pub use self::pixels::{Component, Components, Depth, Layout, PixelFormat};

mod pixels;

/// The luma coefficients of a YUV picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorMatrix {
    /// ITU-R BT.601: Kr = 0.299, Kb = 0.114. Standard definition.
    #[default]
    Bt601,
    /// ITU-R BT.709: Kr = 0.2126, Kb = 0.0722. High definition.
    Bt709,
    /// ITU-R BT.2020: Kr = 0.2627, Kb = 0.0593. Ultra-high definition, most of it in 10 bits.
    Bt2020,
}

/// The range of a picture's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorRange {
    /// Luma (and grey) 16..235, chroma 16..240; four times that in 10 bits.
    #[default]
    Limited,
    /// All that the bits hold: 0..255, or 0..1023 in 10 bits.
    Full,
}

/// What is the same for every frame of a stream until its caps change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameFormat {
    /// Layout of the samples.
    pub pixels: PixelFormat,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Luma coefficients; not read for RGB and grey.
    pub matrix: ColorMatrix,
    /// Sample range; not read for RGB.
    pub range: ColorRange,
    /// Pixels, across and down, of the first chroma sample that lie left of the picture and above
    /// it. 0 and 0, but in a part of a picture that [begins](Self::crop) inside a chroma sample.
    pub phase: (u8, u8),
}

impl FrameFormat {
    /// A whole picture of `pixels` in full range, with the matrix of BT.601.
    pub fn new(pixels: PixelFormat, width: usize, height: usize) -> Self {
        let (matrix, range) = (ColorMatrix::Bt601, ColorRange::Full);
        Self { pixels, width, height, matrix, range, phase: (0, 0) }
    }
}

/// The samples of one component of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// The plane that they lie in.
    pub plane: usize,
    /// Samples in a row of the plane before the first one.
    pub offset: usize,
    /// Samples of the plane from one to the next.
    pub step: usize,
    /// How many there are in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Pixels that one covers, across and down.
    pub covers: (usize, usize),
    /// Pixels of the first one that lie left of the picture and above it.
    pub phase: (usize, usize),
}

impl FrameFormat {
    /// As [`PixelFormat::plane_size`], with the phase of the picture.
    pub fn plane_size(&self, plane: usize) -> (usize, usize, usize) {
        let phase = self.phase_in(plane);
        self.pixels.plane_size(plane, self.width + phase.0, self.height + phase.1)
    }

    /// Where the samples of component `index` of the [layout](PixelFormat::layout) lie.
    ///
    /// # Panics
    /// When there is no such component.
    pub fn samples(&self, index: usize) -> Samples {
        let Component { plane, offset, step, covers } = self.pixels.layout().components[index];
        let phase = self.phase_in(plane);
        let first = phase.0 / covers.0;
        let phase = (phase.0 % covers.0, phase.1 % covers.1);
        Samples {
            plane,
            offset: offset + first * step,
            step,
            columns: (self.width + phase.0).div_ceil(covers.0),
            rows: (self.height + phase.1).div_ceil(covers.1),
            covers,
            phase,
        }
    }

    /// The format of the part of the picture whose top left pixel is at `x`, `y`, and where that
    /// part begins in each plane: after how many rows, and after how many bytes of a row.
    pub fn crop(
        &self,
        x: usize,
        y: usize,
        width: usize,
        height: usize,
    ) -> Result<(Self, [(usize, usize); 3]), FrameError> {
        let inside = |begin: usize, length: usize, limit| {
            length > 0 && begin.checked_add(length).is_some_and(|end| end <= limit)
        };
        if !inside(x, width, self.width) || !inside(y, height, self.height) {
            let of = (self.width, self.height);
            return Err(FrameError::Crop { x, y, width, height, of });
        }
        let mut begins = [(0, 0); 3];
        let mut phase = (0, 0);
        for (plane, begin) in begins.iter_mut().enumerate().take(self.pixels.planes()) {
            let (held, group) = (self.phase_in(plane), self.pixels.group(plane));
            let (column, row) = (held.0 + x, held.1 + y);
            *begin = (row / group.1, column / group.0 * self.pixels.group_bytes(plane));
            if group != (1, 1) {
                phase = ((column % group.0) as u8, (row % group.1) as u8);
            }
        }
        Ok((Self { width, height, phase, ..*self }, begins))
    }

    /// The phase of a plane: none where a group is one pixel.
    fn phase_in(&self, plane: usize) -> (usize, usize) {
        let group = self.pixels.group(plane);
        (usize::from(self.phase.0) % group.0, usize::from(self.phase.1) % group.1)
    }
}

/// Why a picture's memory is not the picture it is said to be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A side is zero.
    #[error("picture of {width}x{height}: both sides must be at least 1 pixel")]
    Empty {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The number of planes does not fit the format.
    #[error("{format:?} picture with {got} planes: it needs {need}")]
    Planes {
        /// The format.
        format: PixelFormat,
        /// Planes it needs.
        need: usize,
        /// Planes given.
        got: usize,
    },
    /// A part of a picture that does not lie inside it.
    #[error(
        "part of {width}x{height} at {x}, {y} of a picture of {}x{}: it must have a pixel and lie inside",
        of.0, of.1
    )]
    Crop {
        /// Column of its first pixel.
        x: usize,
        /// Row of its first pixel.
        y: usize,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Width and height of the picture.
        of: (usize, usize),
    },
    /// A row is longer than the distance between rows.
    #[error("plane {plane}: stride of {stride} bytes is shorter than a row of {row} bytes")]
    Stride {
        /// The plane.
        plane: usize,
        /// The stride given, bytes.
        stride: usize,
        /// One row, bytes.
        row: usize,
    },
    /// The plane ends early.
    #[error("plane {plane}: {got} bytes of memory where {need} are needed")]
    Short {
        /// The plane.
        plane: usize,
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        got: usize,
    },
}

/// One plane: rows of samples, `stride` bytes apart.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// The memory, from the first sample on.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Rows of one plane, which all lie in its memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows<'a> {
    /// The memory, from the first row on.
    data: &'a [u8],
    stride: usize,
    rows: usize,
    /// Bytes in a row, without its padding.
    bytes: usize,
}

impl<'a> Rows<'a> {
    /// `rows` rows of `bytes` bytes, `stride` apart; or how many bytes that would take.
    pub(crate) fn new(
        data: &'a [u8],
        stride: usize,
        rows: usize,
        bytes: usize,
    ) -> Result<Self, usize> {
        // The last row may lack its padding.
        let need = stride * rows.saturating_sub(1) + bytes;
        if data.len() < need { Err(need) } else { Ok(Self { data, stride, rows, bytes }) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.rows
    }

    /// Bytes in a row, without its padding.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes from row to row.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Where the first one begins.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.data.as_ptr()
    }

    /// Row `y`, without its padding.
    ///
    /// # Panics
    /// When it does not exist.
    #[inline]
    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        assert!(y < self.rows, "row {y} of {}", self.rows);
        &self.data[y * self.stride..][..self.bytes]
    }

    /// `count` rows from row `first` on.
    ///
    /// # Panics
    /// When one of them does not exist.
    pub(crate) fn part(&self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows {first} to {} of {}", first + count, self.rows);
        let begin = if count == 0 { 0 } else { first * self.stride };
        Self { data: &self.data[begin..], rows: count, ..*self }
    }
}

/// A picture whose planes have been checked against its format: every row lies inside its plane.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    format: FrameFormat,
    planes: [Rows<'a>; 3],
}

impl<'a> FrameView<'a> {
    /// Checks that `planes` hold a picture of `format`.
    pub fn new(format: FrameFormat, planes: &[Plane<'a>]) -> Result<Self, FrameError> {
        let FrameFormat { pixels, width, height, .. } = format;
        if width == 0 || height == 0 {
            return Err(FrameError::Empty { width, height });
        }
        if planes.len() != pixels.planes() {
            return Err(FrameError::Planes {
                format: pixels,
                need: pixels.planes(),
                got: planes.len(),
            });
        }
        let mut held = [Rows::default(); 3];
        for (index, (&Plane { data, stride }, held)) in planes.iter().zip(&mut held).enumerate() {
            let (groups, rows, bytes) = format.plane_size(index);
            let bytes = groups * bytes;
            if stride < bytes {
                return Err(FrameError::Stride { plane: index, stride, row: bytes });
            }
            let checked = Rows::new(data, stride, rows, bytes);
            *held = checked.map_err(|need| FrameError::Short {
                plane: index,
                need,
                got: data.len(),
            })?;
        }
        Ok(Self { format, planes: held })
    }

    /// The picture's format.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Row `y` of plane `plane`, without its padding.
    ///
    /// # Panics
    /// When the plane or the row does not exist.
    pub fn row(&self, plane: usize, y: usize) -> &'a [u8] {
        self.planes[plane].row(y)
    }

    /// The rows of plane `plane`.
    ///
    /// # Panics
    /// When the plane does not exist.
    pub(crate) fn rows(&self, plane: usize) -> Rows<'a> {
        self.planes[plane]
    }

    /// The part of the picture whose top left pixel is at `x`, `y`, in the same memory. It may
    /// begin and end inside a chroma sample; the samples that reach past it belong to it.
    pub fn crop(
        &self,
        x: usize,
        y: usize,
        width: usize,
        height: usize,
    ) -> Result<Self, FrameError> {
        let (format, begins) = self.format.crop(x, y, width, height)?;
        let planes = self.planes.map(|Rows { data, stride, .. }| Plane { data, stride });
        let parts: [Plane<'a>; 3] = std::array::from_fn(|plane| {
            let ((row, byte), Plane { data, stride }) = (begins[plane], planes[plane]);
            Plane { data: &data[row * stride + byte..], stride }
        });
        Self::new(format, &parts[..format.pixels.planes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pixels: PixelFormat, width: usize, height: usize) -> FrameFormat {
        let (matrix, range) = (ColorMatrix::Bt601, ColorRange::Limited);
        FrameFormat { pixels, width, height, matrix, range, phase: (0, 0) }
    }

    #[test]
    fn odd_picture_keeps_its_last_chroma_column_and_row() {
        let (luma, chroma) = ([1u8; 5 * 3], [2u8; 6 * 2]);
        let planes = [Plane { data: &luma, stride: 5 }, Plane { data: &chroma, stride: 6 }];
        let view = FrameView::new(format(PixelFormat::Nv12, 5, 3), &planes).unwrap();
        assert_eq!(view.row(0, 2).len(), 5);
        assert_eq!(view.row(1, 1).len(), 6);
    }

    #[test]
    fn last_row_may_lack_its_padding_but_not_a_sample() {
        let data = [0u8; 8 * 2 + 6];
        let rgb = format(PixelFormat::Rgb, 2, 3);
        assert!(FrameView::new(rgb, &[Plane { data: &data, stride: 8 }]).is_ok());
        let short = FrameView::new(rgb, &[Plane { data: &data[..21], stride: 8 }]);
        assert_eq!(short.unwrap_err(), FrameError::Short { plane: 0, need: 22, got: 21 });
    }

    #[test]
    fn impossible_pictures_are_refused_with_figures() {
        let data = [0u8; 16];
        let plane = Plane { data: &data, stride: 4 };
        assert_eq!(
            FrameView::new(format(PixelFormat::Gray8, 0, 4), &[plane]).unwrap_err(),
            FrameError::Empty { width: 0, height: 4 }
        );
        assert_eq!(
            FrameView::new(format(PixelFormat::Gray8, 5, 1), &[plane]).unwrap_err(),
            FrameError::Stride { plane: 0, stride: 4, row: 5 }
        );
        assert_eq!(
            FrameView::new(format(PixelFormat::I420, 4, 4), &[plane]).unwrap_err(),
            FrameError::Planes { format: PixelFormat::I420, need: 3, got: 1 }
        );
    }

    /// Each byte says where it is: its plane and row, or its column.
    fn numbered(format: FrameFormat, by_row: bool) -> Vec<(Vec<u8>, usize)> {
        let plane = |plane| {
            let (groups, rows, bytes) = format.plane_size(plane);
            let stride = groups * bytes + 3;
            let byte =
                |at: usize| if by_row { plane * 100 + at / stride } else { at % stride } as u8;
            ((0..stride * rows).map(byte).collect(), stride)
        };
        (0..format.pixels.planes()).map(plane).collect()
    }

    fn view(format: FrameFormat, held: &[(Vec<u8>, usize)]) -> FrameView<'_> {
        let planes: Vec<_> =
            held.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        FrameView::new(format, &planes).unwrap()
    }

    #[test]
    fn part_has_the_samples_that_cover_it_and_knows_what_reaches_past_it() {
        for pixels in PixelFormat::ALL {
            let whole = format(pixels, 21, 15);
            let (rows, columns) = (numbered(whole, true), numbered(whole, false));
            for (x, y, width, height) in [
                (0, 0, 21, 15),
                (1, 1, 1, 1),
                (4, 2, 7, 5),
                (5, 3, 16, 12),
                (7, 0, 2, 1),
                (20, 14, 1, 1),
            ] {
                let parts = [&rows, &columns]
                    .map(|held| view(whole, held).crop(x, y, width, height).unwrap());
                let part = parts[0].format();
                assert_eq!((part.width, part.height, part.pixels), (width, height, pixels));
                for index in 0..pixels.layout().components.len() {
                    let Samples { plane, offset, step, columns, rows, covers, phase } =
                        part.samples(index);
                    // The first sample covers the first pixel, the last one the last.
                    let before = whole.samples(index);
                    assert_eq!(phase, (x % covers.0, y % covers.1), "{pixels:?}");
                    assert_eq!(
                        (x + width - 1) / covers.0,
                        x / covers.0 + columns - 1,
                        "{pixels:?}"
                    );
                    assert_eq!((y + height - 1) / covers.1, y / covers.1 + rows - 1, "{pixels:?}");
                    for row in 0..rows {
                        assert_eq!(
                            parts[0].row(plane, row)[0] as usize,
                            plane * 100 + y / covers.1 + row
                        );
                    }
                    let column = before.offset + (x / covers.0) * before.step;
                    let (row, bytes) = (parts[1].row(plane, 0), pixels.layout().depth.bytes);
                    assert_eq!(row[offset * bytes] as usize, column * bytes, "{pixels:?} at {x}");
                    assert!(row.len() >= (offset + (columns - 1) * step + 1) * bytes);
                }
            }
        }
    }

    #[test]
    fn part_of_a_part_is_the_part_of_the_whole() {
        for pixels in PixelFormat::ALL {
            let whole = format(pixels, 33, 27);
            let (first, begins) = whole.crop(3, 5, 25, 20).unwrap();
            let (second, further) = first.crop(2, 1, 9, 8).unwrap();
            let (once, at_once) = whole.crop(5, 6, 9, 8).unwrap();
            assert_eq!(second, once, "{pixels:?}");
            let twice = std::array::from_fn(|plane| {
                (begins[plane].0 + further[plane].0, begins[plane].1 + further[plane].1)
            });
            assert_eq!(at_once, twice, "{pixels:?}");
        }
    }

    #[test]
    fn part_outside_the_picture_is_refused_with_figures() {
        let whole = format(PixelFormat::I420, 20, 10);
        for (x, y, width, height) in [
            (0, 0, 21, 1),
            (20, 0, 1, 1),
            (0, 9, 1, 2),
            (3, 3, 0, 1),
            (3, 3, 1, 0),
            (usize::MAX, 0, 2, 1),
        ] {
            let refused = FrameError::Crop { x, y, width, height, of: (20, 10) };
            assert_eq!(whole.crop(x, y, width, height), Err(refused));
        }
        let error = whole.crop(10, 0, 11, 10).unwrap_err().to_string();
        assert!(error.starts_with("part of 11x10 at 10, 0 of a picture of 20x10"), "{error}");
    }
}
