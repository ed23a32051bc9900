//! A picture in memory that has been checked against its format.

use super::{FrameError, FrameFormat};

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
