//! Surfaces of our own, and what is copied into them: `NvBufSurfTransform`.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};

/// `NvBufSurfaceCreateParams` as it is from 8.0 on; before, it ends at `reserved`.
#[repr(C)]
pub struct SurfaceCreateParams {
    /// The GPU that will hold it.
    pub gpu_id: u32,
    /// Pixels.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 0: what the other fields ask for.
    pub size: u32,
    /// In one piece.
    pub is_contiguous: bool,
    /// `NvBufSurfaceColorFormat`.
    pub color_format: i32,
    /// 0: pitch-linear, 1: block-linear.
    pub layout: i32,
    /// See [`memory`].
    pub memory_type: i32,
    /// Zeros.
    pub reserved: [u64; 4],
}

/// `NvBufSurfTransformConfigParams` as it is from 8.0 on; before, it ends at `reserved`.
#[repr(C)]
pub struct TransformConfig {
    /// 0: what suits the machine (Jetson's VIC, else the GPU).
    pub compute_mode: i32,
    /// The GPU that works.
    pub gpu_id: i32,
    /// A CUDA stream; null: the default one.
    pub stream: *mut c_void,
    /// Zeros.
    pub reserved: [u64; 4],
}

/// `NvBufSurfTransformParams` as it is from 8.0 on; before, it ends at `reserved`.
#[repr(C)]
pub struct TransformParams {
    /// Which of the other fields count.
    pub flags: u32,
    /// Turned or mirrored.
    pub flip: i32,
    /// `NvBufSurfTransform_Inter`.
    pub filter: i32,
    /// Rectangles of the pictures that are read; null: all of them.
    pub from: *mut c_void,
    /// Rectangles that are written; null: all of them.
    pub to: *mut c_void,
    /// Zeros.
    pub reserved: [u64; 4],
}

/// `NVBUFSURF_TRANSFORM_FILTER`: the filter counts.
pub const TRANSFORM_FILTER: u32 = 4;

layout!(SurfaceCreateParams: 64 {
    gpu_id @ 0, width @ 4, height @ 8, size @ 12, is_contiguous @ 16, color_format @ 20,
    layout @ 24, memory_type @ 28, reserved @ 32,
});
layout!(TransformConfig: 48 { compute_mode @ 0, gpu_id @ 4, stream @ 8, reserved @ 16 });
layout!(TransformParams: 64 { flags @ 0, flip @ 4, filter @ 8, from @ 16, to @ 24, reserved @ 32 });
