//! The format of a picture: pixels, size, colours, and where each component lies.

use super::{Component, FrameError, PixelFormat};

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
