//! Picture to model input in one pass: colour conversion, resize and placement.
//!
//! The model takes raw RGB 0..255 as three planes of `f32`; normalisation is inside its graph.

use serde::{Deserialize, Serialize};

use crate::density::{Grid, Rect};

/// How a picture is fitted into the model's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Keeps the aspect ratio: the picture is centred, the rest is filled with [`BORDER`].
    #[default]
    Letterbox,
    /// Fills the input, whatever becomes of the aspect ratio.
    Stretch,
}

/// Grey level of the border around a letterboxed picture.
pub const BORDER: f32 = 114.0;

/// Width and height of the model's input in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InputSize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

impl InputSize {
    /// Number of `f32` values in one input: three planes, red, green, blue.
    pub fn values(self) -> usize {
        3 * self.width * self.height
    }
}

/// Where the picture lies inside the model's input, in input pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First column of the picture.
    pub left: usize,
    /// First row of the picture.
    pub top: usize,
    /// Width of the picture.
    pub width: usize,
    /// Height of the picture.
    pub height: usize,
    /// The input that it lies in.
    pub input: InputSize,
}

impl Placement {
    /// Fits a picture of `width` x `height` pixels into `input`.
    pub fn new(resize: Resize, width: usize, height: usize, input: InputSize) -> Self {
        if resize == Resize::Stretch {
            return Self { left: 0, top: 0, width: input.width, height: input.height, input };
        }
        let scale = (input.width as f64 / width as f64).min(input.height as f64 / height as f64);
        let fit = |side: usize, limit: usize| ((side as f64 * scale).round() as usize).clamp(1, limit);
        let (width, height) = (fit(width, input.width), fit(height, input.height));
        Self { left: (input.width - width) / 2, top: (input.height - height) / 2, width, height, input }
    }

    /// The grid of `columns` x `rows` cells over the whole input, placed in the frame.
    pub fn grid(&self, columns: usize, rows: usize) -> Grid {
        let (width, height) = (self.width as f64, self.height as f64);
        let rect = Rect {
            x: -(self.left as f64) / width,
            y: -(self.top as f64) / height,
            width: self.input.width as f64 / width,
            height: self.input.height as f64 / height,
        };
        Grid { columns, rows, rect }
    }
}
