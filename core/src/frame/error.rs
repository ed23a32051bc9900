//! Why a picture cannot be read.

use thiserror::Error;

use super::PixelFormat;

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
