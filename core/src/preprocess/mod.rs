//! Picture to model input in one pass: colour conversion, resize and placement.
//!
//! The model takes raw RGB 0..255 as three planes; normalisation is inside its graph. What
//! [`Preprocessor::run`] computes is specified here, for any other implementation of it:
//!
//! 1. **Place.** [`Placement`] says which rectangle of the input the picture fills. Everything else
//!    is [`BORDER`], in all three planes.
//! 2. **Resize** each plane of the picture straight to that rectangle, rows first and then columns.
//!    On each axis, output position `i` of `n` has its centre at `c = (i + 0.5) s`, where
//!    `s = extent / n`; sample `j` weighs `max(0, 1 - |j + 0.5 - c| / max(1, s))`, and the weights
//!    of a position are divided by their sum. That is the antialiased bilinear filter of Pillow
//!    (`Image.resize(BILINEAR)`) and PyTorch (`antialias=True`). Samples outside the plane do not
//!    exist: near an edge the others share their weight, so nothing from outside the picture enters
//!    it. Nothing is rounded to whole levels in between.
//! 3. **Convert** the resized samples to RGB and clamp to 0..255. A sample of `n` bits first
//!    becomes a level: it is multiplied by `256 / 2^n`. RGB formats only drop their alpha or filler
//!    byte. Grey is the `y` below, three times. For YUV, with `Kr`, `Kb` of the [matrix],
//!    `Kg = 1 - Kr - Kb`, `f = (255 / 256) 2^n / (2^n - 1)`, which is 1 for 8 bits, and clamping
//!    last:
//!
//! ```text
//! limited:  y = (Y - 16) * 255 / 219    u = (U - 128) * 255 / 224    v = (V - 128) * 255 / 224
//! full:     y = f Y                     u = f (U - 128)              v = f (V - 128)
//! R = y + 2 (1 - Kr) v    B = y + 2 (1 - Kb) u    G = (y - Kr R - Kb B) / Kg
//! ```
//!
//! The extent of a component is the picture's side divided by the pixels that one of its samples
//! covers, unrounded: half the side for 4:2:0 chroma, whose samples are taken to lie in the middle
//! of their four pixels (MPEG-1 siting); those of 4:2:2 and 4:1:1 lie in the middle of theirs.
//! H.264's default lies half a luma pixel further left, which is far below an input pixel where
//! pictures shrink. In a picture of odd width the last chroma sample reaches half a sample past the
//! picture and counts in full. In a part of a picture that [begins inside a chroma
//! sample](crate::frame::FrameFormat::crop) so does the first one: its `phase` in samples is added
//! to every `c`.
//!
//! The order of sums and the precision of weights are left open: results are within 0.1 level, on
//! the processor, which works in fixed point, usually within 0.02, before they are rounded to bytes
//! for an engine that takes these. `kernel.cu` is the same for pictures on a GPU, within 0.01.
//! GStreamer's own default for GRAY8 is full range (colorimetry `1:4:0:0`).
//!
//! [matrix]: crate::frame::ColorMatrix

mod blend;
pub(crate) mod color;
mod filter;
mod kernel;
mod level;
mod scale;
mod shape;
mod shrink;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::density::{Grid, Rect};
use crate::frame::{FrameFormat, FrameView};

use self::kernel::{Plan, Scratch};
pub use self::level::Level;
pub use self::scale::{InputScale, NoScale};
pub use self::shape::{InputChoice, InputShapes, NoChoice, fit};

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
    /// Number of values in one input: three planes, red, green, blue.
    pub fn values(self) -> usize {
        3 * self.width * self.height
    }
}

/// As WIDTHxHEIGHT.
impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// The text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write WIDTHxHEIGHT, such as 384x384")]
pub struct InputSizeError;

/// As WIDTHxHEIGHT.
impl FromStr for InputSize {
    type Err = InputSizeError;

    fn from_str(text: &str) -> Result<Self, InputSizeError> {
        let (width, height) = text.split_once('x').ok_or(InputSizeError)?;
        let side = |text: &str| text.parse().map_err(|_| InputSizeError);
        Ok(Self { width: side(width)?, height: side(height)? })
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
        let fit =
            |side: usize, limit: usize| ((side as f64 * scale).round() as usize).clamp(1, limit);
        let (width, height) = (fit(width, input.width), fit(height, input.height));
        Self {
            left: (input.width - width) / 2,
            top: (input.height - height) / 2,
            width,
            height,
            input,
        }
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

/// Turns the pictures of one stream into model inputs. It is made once for a format and then
/// reused: [`run`](Self::run) allocates nothing.
#[derive(Debug)]
pub struct Preprocessor {
    plan: Plan,
    scratch: Scratch,
}

impl Preprocessor {
    /// Computes the filters for pictures of `format` in model inputs of size `input`.
    ///
    /// # Panics
    /// When a side of the format or of the input is zero.
    pub fn new(format: FrameFormat, resize: Resize, input: InputSize) -> Self {
        let FrameFormat { width, height, .. } = format;
        assert!(width > 0 && height > 0, "picture of {width}x{height}");
        assert!(
            input.width > 0 && input.height > 0,
            "model input of {}x{}",
            input.width,
            input.height
        );
        let plan = Plan::new(format, Placement::new(resize, width, height, input));
        let scratch = plan.scratch();
        Self { plan, scratch }
    }

    /// The preprocessor in `held`, which is made there where there is none for pictures of `format`
    /// in model inputs of size `input`. `resize` stays the same for as long as one is held.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn held(
        held: &mut Option<Self>,
        format: FrameFormat,
        resize: Resize,
        input: InputSize,
    ) -> &mut Self {
        held.take_if(|held| held.format() != format || held.placement().input != input);
        held.get_or_insert_with(|| Self::new(format, resize, input))
    }

    /// Where the pictures lie in the input.
    pub fn placement(&self) -> Placement {
        self.plan.placement()
    }

    /// The format that the pictures must have.
    pub fn format(&self) -> FrameFormat {
        self.plan.format()
    }

    /// Writes the model input of `frame`: planes of red, green and blue, `[3, height, width]`,
    /// levels 0..255, every value of `input`. Bytes hold the nearest whole level.
    ///
    /// # Panics
    /// When the frame is not of [`format`](Self::format), or `input` does not hold
    /// [`InputSize::values`] values. Both are known when the stream's caps are, long before a frame
    /// comes.
    pub fn run<L: Level>(&mut self, frame: &FrameView<'_>, input: &mut [L]) {
        assert_eq!(frame.format(), self.format(), "the preprocessor was made for another format");
        assert_eq!(input.len(), self.placement().input.values(), "the input has another size");
        kernel::render(&self.plan, &mut self.scratch, frame, input);
    }
}
