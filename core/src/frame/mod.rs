//! A decoded picture, borrowed from its owner.

mod error;
mod format;
mod pixels;
#[cfg(test)]
mod tests;
mod view;

pub use error::FrameError;
pub use format::{ColorMatrix, ColorRange, FrameFormat, Samples};
pub use pixels::{Component, Components, Depth, Layout, PixelFormat};
pub(crate) use view::Rows;
pub use view::{FrameView, Plane};
