//! A decoded picture, borrowed from whoever holds it.

use thiserror::Error;

/// How a picture's samples are laid out in memory. The names are GStreamer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PixelFormat {
    Nv12,
    I420,
    Rgb,
    Bgr,
    Rgbx,
    Bgrx,
    Xrgb,
    Xbgr,
    Rgba,
    Bgra,
    Argb,
    Abgr,
    Gray8,
}

impl PixelFormat {
    /// Every format, for tests and tables.
    pub const ALL: [Self; 13] = [
        Self::Nv12,
        Self::I420,
        Self::Rgb,
        Self::Bgr,
        Self::Rgbx,
        Self::Bgrx,
        Self::Xrgb,
        Self::Xbgr,
        Self::Rgba,
        Self::Bgra,
        Self::Argb,
        Self::Abgr,
        Self::Gray8,
    ];

    /// Number of planes in memory.
    pub fn planes(self) -> usize {
        match self {
            Self::Nv12 => 2,
            Self::I420 => 3,
            _ => 1,
        }
    }

    /// Width in samples, height in rows and bytes per sample of plane `plane` in a picture of `width` x `height`.
    /// Chroma planes round up, so that odd sizes keep their last column and row.
    pub fn plane_size(self, plane: usize, width: usize, height: usize) -> (usize, usize, usize) {
        match (self, plane) {
            (Self::Nv12, 1) => (width.div_ceil(2), height.div_ceil(2), 2),
            (Self::I420, 1 | 2) => (width.div_ceil(2), height.div_ceil(2), 1),
            (Self::Nv12 | Self::I420 | Self::Gray8, _) => (width, height, 1),
            (Self::Rgb | Self::Bgr, _) => (width, height, 3),
            _ => (width, height, 4),
        }
    }

    /// Byte positions of red, green and blue inside a packed RGB sample; `None` for YUV and grey.
    pub fn rgb_offsets(self) -> Option<[usize; 3]> {
        match self {
            Self::Rgb | Self::Rgbx | Self::Rgba => Some([0, 1, 2]),
            Self::Bgr | Self::Bgrx | Self::Bgra => Some([2, 1, 0]),
            Self::Xrgb | Self::Argb => Some([1, 2, 3]),
            Self::Xbgr | Self::Abgr => Some([3, 2, 1]),
            Self::Nv12 | Self::I420 | Self::Gray8 => None,
        }
    }
}

/// The luma coefficients of a YUV picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorMatrix {
    /// ITU-R BT.601: Kr = 0.299, Kb = 0.114. Standard definition.
    #[default]
    Bt601,
    /// ITU-R BT.709: Kr = 0.2126, Kb = 0.0722. High definition.
    Bt709,
}

/// The range of a picture's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorRange {
    /// Luma (and grey) 16..235, chroma 16..240.
    #[default]
    Limited,
    /// 0..255.
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

/// A picture whose planes have been checked against its format: every row lies inside its plane.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    format: FrameFormat,
    planes: [Plane<'a>; 3],
}

impl<'a> FrameView<'a> {
    /// Checks that `planes` hold a picture of `format`.
    pub fn new(format: FrameFormat, planes: &[Plane<'a>]) -> Result<Self, FrameError> {
        let FrameFormat { pixels, width, height, .. } = format;
        if width == 0 || height == 0 {
            return Err(FrameError::Empty { width, height });
        }
        if planes.len() != pixels.planes() {
            return Err(FrameError::Planes { format: pixels, need: pixels.planes(), got: planes.len() });
        }
        for (index, plane) in planes.iter().enumerate() {
            let (samples, rows, bytes) = pixels.plane_size(index, width, height);
            let row = samples * bytes;
            if plane.stride < row {
                return Err(FrameError::Stride { plane: index, stride: plane.stride, row });
            }
            // The last row may lack its padding.
            let need = plane.stride * (rows - 1) + row;
            if plane.data.len() < need {
                return Err(FrameError::Short { plane: index, need, got: plane.data.len() });
            }
        }
        let mut held = [Plane { data: &[], stride: 0 }; 3];
        held[..planes.len()].copy_from_slice(planes);
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
        let (samples, rows, bytes) = self.format.pixels.plane_size(plane, self.format.width, self.format.height);
        assert!(y < rows, "row {y} of {rows}");
        let Plane { data, stride } = self.planes[plane];
        &data[y * stride..y * stride + samples * bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pixels: PixelFormat, width: usize, height: usize) -> FrameFormat {
        FrameFormat { pixels, width, height, matrix: ColorMatrix::Bt601, range: ColorRange::Limited }
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
}
