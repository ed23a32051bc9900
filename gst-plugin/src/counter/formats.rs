//! The formats of the frames that are read.

use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat};
use vehiclecount_core::frame::{ColorMatrix, ColorRange, FrameFormat, PixelFormat};

use crate::cuda;

/// The formats that are read, of GStreamer and of `core`. The first ones are most wanted.
pub const FORMATS: [(VideoFormat, PixelFormat); PixelFormat::ALL.len()] = [
    (VideoFormat::Nv12, PixelFormat::Nv12),
    (VideoFormat::I420, PixelFormat::I420),
    (VideoFormat::Rgb, PixelFormat::Rgb),
    (VideoFormat::Bgr, PixelFormat::Bgr),
    (VideoFormat::Rgbx, PixelFormat::Rgbx),
    (VideoFormat::Bgrx, PixelFormat::Bgrx),
    (VideoFormat::Xrgb, PixelFormat::Xrgb),
    (VideoFormat::Xbgr, PixelFormat::Xbgr),
    (VideoFormat::Rgba, PixelFormat::Rgba),
    (VideoFormat::Bgra, PixelFormat::Bgra),
    (VideoFormat::Argb, PixelFormat::Argb),
    (VideoFormat::Abgr, PixelFormat::Abgr),
    (VideoFormat::Gray8, PixelFormat::Gray8),
    (VideoFormat::Nv21, PixelFormat::Nv21),
    (VideoFormat::Yv12, PixelFormat::Yv12),
    (VideoFormat::Nv16, PixelFormat::Nv16),
    (VideoFormat::Nv61, PixelFormat::Nv61),
    (VideoFormat::Y42b, PixelFormat::Y42b),
    (VideoFormat::Yuy2, PixelFormat::Yuy2),
    (VideoFormat::Uyvy, PixelFormat::Uyvy),
    (VideoFormat::Yvyu, PixelFormat::Yvyu),
    (VideoFormat::Vyuy, PixelFormat::Vyuy),
    (VideoFormat::Y41b, PixelFormat::Y41b),
    (VideoFormat::Nv24, PixelFormat::Nv24),
    (VideoFormat::Y444, PixelFormat::Y444),
    (VideoFormat::P01010le, PixelFormat::P01010le),
    (VideoFormat::I42010le, PixelFormat::I42010le),
    (VideoFormat::I42210le, PixelFormat::I42210le),
    (VideoFormat::Y44410le, PixelFormat::Y44410le),
    (VideoFormat::Gbr, PixelFormat::Gbr),
    (VideoFormat::Gray16Le, PixelFormat::Gray16Le),
];

/// Those of them that GStreamer has in GPU memory.
pub const GPU_FORMATS: [VideoFormat; 21] = {
    use VideoFormat::*;
    [
        Nv12, I420, Rgb, Bgr, Rgbx, Bgrx, Rgba, Bgra, Argb, Abgr, Nv21, Yv12, Y42b, Yuy2, Uyvy,
        Y444, P01010le, I42010le, I42210le, Y44410le, Gbr,
    ]
};

/// What a camera's caps say of its frames.
#[derive(Clone, Debug)]
pub struct StreamFormat {
    /// As GStreamer has it.
    pub info: gst_video::VideoInfo,
    /// As the preprocessor has it.
    pub frame: FrameFormat,
    /// Whether the frames are in GPU memory.
    pub in_gpu_memory: bool,
    /// Frames a second, where the caps say it: at most so many, where the rate varies.
    pub rate: Option<f64>,
}

impl StreamFormat {
    /// What `caps` say; `None` where such frames cannot be read.
    pub fn of(caps: &gst::CapsRef) -> Option<Self> {
        let info = gst_video::VideoInfo::from_caps(caps).ok()?;
        let frame = frame_format(&info)?;
        Some(Self { info, frame, in_gpu_memory: cuda::is_in(caps), rate: rate_of(caps) })
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.frame.width, self.frame.height)
    }
}

fn frame_format(info: &gst_video::VideoInfo) -> Option<FrameFormat> {
    let (_, pixels) = *FORMATS.iter().find(|(format, _)| *format == info.format())?;
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt2020 => ColorMatrix::Bt2020,
        // SMPTE 240M, of early high definition, is almost BT.709.
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m => ColorMatrix::Bt709,
        _ => ColorMatrix::Bt601,
    };
    let range = match colorimetry.range() {
        VideoColorRange::Range0_255 => ColorRange::Full,
        _ => ColorRange::Limited,
    };
    let (width, height) = (info.width() as usize, info.height() as usize);
    Some(FrameFormat { matrix, range, ..FrameFormat::new(pixels, width, height) })
}

fn rate_of(caps: &gst::CapsRef) -> Option<f64> {
    let structure = caps.structure(0)?;
    let rate = |field| structure.get::<gst::Fraction>(field).ok().filter(|rate| rate.numer() > 0);
    let rate = rate("framerate").or_else(|| rate("max-framerate"))?;
    Some(f64::from(rate.numer()) / f64::from(rate.denom()))
}
