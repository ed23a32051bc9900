//! Batches of pictures: `NvBufSurface`.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};

/// `NvBufSurfacePlaneParams`.
#[repr(C)]
pub struct PlaneParams {
    /// Planes that there are.
    pub num_planes: u32,
    /// Pixels.
    pub width: [u32; 4],
    /// Rows.
    pub height: [u32; 4],
    /// Bytes from row to row.
    pub pitch: [u32; 4],
    /// Bytes from `data`.
    pub offset: [u32; 4],
    /// Bytes of the plane.
    pub size: [u32; 4],
    /// Bytes of a pixel.
    pub bytes_per_pixel: [u32; 4],
    reserved: [u64; 16],
}

/// `NvBufSurfaceParams`, one picture of a batch, as far as all versions have it. The next one
/// begins at the layout's stride.
#[repr(C)]
pub struct SurfaceParams {
    /// Pixels.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from row to row of plane 0.
    pub pitch: u32,
    /// `NvBufSurfaceColorFormat`.
    pub color_format: i32,
    /// 0: pitch-linear, 1: block-linear.
    pub layout: i32,
    /// A file descriptor on Jetson.
    pub descriptor: u64,
    /// Bytes of the picture.
    pub data_size: u32,
    /// The picture, on the host or on a GPU; nothing on Jetson.
    pub data: *mut c_void,
    /// The planes.
    pub planes: PlaneParams,
    /// Planes as mapped for the processor.
    pub mapped: [*mut c_void; 4],
    /// The picture as an EGL image, where it is mapped as one (Jetson).
    pub egl_image: *mut c_void,
}

/// `NvBufSurface`, a batch of pictures, as far as all versions have it.
#[repr(C)]
pub struct Surface {
    /// The GPU that holds it.
    pub gpu_id: u32,
    /// Room for so many pictures.
    pub batch_size: u32,
    /// Pictures in it now.
    pub num_filled: u32,
    /// In one piece.
    pub is_contiguous: bool,
    /// `NvBufSurfaceMemType`.
    pub memory_type: i32,
    /// The first of `batch_size` pictures.
    pub list: *mut SurfaceParams,
}

/// `NvBufSurfaceMemType`.
pub mod memory {
    /// GPU memory on a discrete GPU, a surface array on Jetson.
    pub const DEFAULT: i32 = 0;
    /// Page-locked host memory.
    pub const CUDA_PINNED: i32 = 1;
    /// GPU memory.
    pub const CUDA_DEVICE: i32 = 2;
    /// Memory that both see.
    pub const CUDA_UNIFIED: i32 = 3;
    /// Jetson's picture buffers.
    pub const SURFACE_ARRAY: i32 = 4;
    /// Jetson's picture buffers.
    pub const HANDLE: i32 = 5;
    /// Host memory.
    pub const SYSTEM: i32 = 6;
}

/// `NVBUF_COLOR_FORMAT_RGBA`.
pub const COLOR_RGBA: i32 = 19;

/// How surfaces lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurfaceLayout {
    /// Up to 7.1.
    Old,
    /// 8.0 and later.
    New,
}

impl SurfaceLayout {
    /// The layout whose `NvBufSurface` has `bytes` bytes.
    pub fn from_surface_size(bytes: usize) -> Option<Self> {
        [Self::Old, Self::New].into_iter().find(|layout| layout.surface_size() == bytes)
    }

    /// The layout of DeepStream `major`.
    pub fn from_version(major: u32) -> Self {
        if major >= 8 { Self::New } else { Self::Old }
    }

    /// Bytes of an `NvBufSurface`.
    pub const fn surface_size(self) -> usize {
        match self {
            Self::Old => size_of::<SurfaceOld>(),
            Self::New => size_of::<SurfaceNew>(),
        }
    }

    /// Bytes from one `NvBufSurfaceParams` to the next.
    pub const fn stride(self) -> usize {
        match self {
            Self::Old => size_of::<SurfaceParamsOld>(),
            Self::New => size_of::<SurfaceParamsNew>(),
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "DeepStream up to 7.1",
            Self::New => "DeepStream 8.0 and later",
        }
    }
}

// What follows the common part, for the sizes.
#[repr(C)]
struct SurfaceOld {
    common: Surface,
    reserved: [u64; 4],
}

#[repr(C)]
struct SurfaceNew {
    common: Surface,
    imported: bool,
    reserved: [u64; 4],
}

#[repr(C)]
struct SurfaceParamsOld {
    common: SurfaceParams,
    mapped_reserved: [u64; 4],
    extended: *mut c_void,
    reserved: [u64; 3],
}

#[repr(C)]
struct SurfaceParamsNew {
    common: SurfaceParams,
    mapped_more: [u64; 6],
    extended: *mut c_void,
    cuda_buffer: *mut c_void,
    reserved: [u64; 4],
}

layout!(PlaneParams: 232 {
    num_planes @ 0, width @ 4, height @ 20, pitch @ 36, offset @ 52, size @ 68,
    bytes_per_pixel @ 84,
});
layout!(SurfaceParams: 320 {
    width @ 0, height @ 4, pitch @ 8, color_format @ 12, layout @ 16, descriptor @ 24,
    data_size @ 32, data @ 40, planes @ 48, mapped @ 280, egl_image @ 312,
});
layout!(Surface: 32 {
    gpu_id @ 0, batch_size @ 4, num_filled @ 8, is_contiguous @ 12, memory_type @ 16, list @ 24,
});
layout!(SurfaceOld: 64 { common @ 0, reserved @ 32 });
layout!(SurfaceNew: 72 { common @ 0, imported @ 32, reserved @ 40 });
layout!(SurfaceParamsOld: 384 { common @ 0, mapped_reserved @ 320, extended @ 352 });
layout!(SurfaceParamsNew: 416 { common @ 0, mapped_more @ 320, extended @ 368, cuda_buffer @ 376 });
