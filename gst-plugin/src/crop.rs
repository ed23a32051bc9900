//! The part of a picture that is shown, where `GstVideoCropMeta` says that it is not the whole.
//!
//! Elements attach it that crop without a copy: videocrop, hardware decoders. The caps then have
//! the size of the part, and the picture in memory has the size in its `GstVideoMeta`.

use gst_video::VideoMeta;
use vehiclecount_core::detail;

/// A part of the picture in memory, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Its left column.
    pub x: u32,
    /// Its top row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Width and height of the picture in memory, where `GstVideoMeta` says them.
    pub of: Option<(u32, u32)>,
}

impl Crop {
    /// The part that is shown of the picture in `buffer`; `None` where that is the whole.
    pub fn of(buffer: &gst::BufferRef) -> Option<Self> {
        let (x, y, width, height) = buffer.meta::<gst_video::VideoCropMeta>()?.rect();
        let of = buffer.meta::<VideoMeta>().map(|meta| (meta.width(), meta.height()));
        Some(Self { x, y, width, height, of })
    }
}

impl From<Crop> for detail::Crop {
    fn from(Crop { x, y, width, height, .. }: Crop) -> Self {
        let [x, y, width, height] = [x, y, width, height].map(|side| side as usize);
        Self { x, y, width, height }
    }
}
