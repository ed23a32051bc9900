//! DeepStream's structures as they lie in memory, declared here so that nothing of DeepStream is
//! needed to build.
//!
//! Only what is read or written has a field of its own. Offsets are asserted at compile time, for
//! each layout where versions differ: surfaces changed their size in 8.0, display metadata in 9.0.
//! Figures: compiled from the published headers of 5.0 to 6.3, 8.0, 9.0 and 9.1 on x86-64; all
//! fields have their natural alignment, so AArch64 has the same.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

use glib::ffi::{GList, gboolean};

/// `NVDS_BATCH_META`: the type of a batch.
pub const BATCH_META: i32 = 1;
/// `NVDSINFER_TENSOR_OUTPUT_META`: the type of a user meta that holds an [`InferTensorMeta`].
pub const TENSOR_OUTPUT_META: i32 = 12;
/// `NVDS_BATCH_GST_META`: the type of the `NvDsMeta` on a buffer that holds the batch.
pub const BATCH_GST_META: i32 = 4097;
/// `NVDS_START_USER_META`: registered types lie from here on.
pub const START_USER_META: i32 = 8193;

/// `NvDsMetaCopyFunc` and `NvDsMetaReleaseFunc` get the `NvDsUserMeta`, and something that is not
/// used.
pub type CopyFunc = unsafe extern "C" fn(data: *mut c_void, user_data: *mut c_void) -> *mut c_void;
/// See [`CopyFunc`].
pub type ReleaseFunc = unsafe extern "C" fn(data: *mut c_void, user_data: *mut c_void);

/// `NvDsMetaPool`.
#[repr(C)]
pub struct MetaPool {
    /// What the pool holds.
    pub meta_type: i32,
    /// How many at most.
    pub max_elements: u32,
    /// Bytes of one: tells which layout the library was built with.
    pub element_size: u32,
    /// Free ones.
    pub num_empty: u32,
    /// Used ones.
    pub num_full: u32,
    lists: [*mut GList; 2],
    functions: [*mut c_void; 2],
}

/// `NvDsBaseMeta`.
#[repr(C)]
pub struct BaseMeta {
    /// The batch that it belongs to.
    pub batch_meta: *mut BatchMeta,
    /// What it is.
    pub meta_type: i32,
    /// The user's.
    pub context: *mut c_void,
    /// Makes a copy for another buffer.
    pub copy_func: Option<CopyFunc>,
    /// Frees.
    pub release_func: Option<ReleaseFunc>,
}

/// `NvDsBatchMeta`.
#[repr(C)]
pub struct BatchMeta {
    /// Its type is [`BATCH_META`].
    pub base: BaseMeta,
    /// Size of the batch.
    pub max_frames_in_batch: u32,
    /// Frames in it now.
    pub num_frames_in_batch: u32,
    /// Where frames come from.
    pub frame_pool: *mut MetaPool,
    /// Where objects come from.
    pub object_pool: *mut MetaPool,
    /// Where classifiers come from.
    pub classifier_pool: *mut MetaPool,
    /// Where display metadata comes from.
    pub display_pool: *mut MetaPool,
    /// Where user metadata comes from.
    pub user_pool: *mut MetaPool,
    /// Where labels come from.
    pub label_pool: *mut MetaPool,
    /// [`FrameMeta`]s.
    pub frame_list: *mut GList,
    /// User metadata of the batch.
    pub user_list: *mut GList,
    mutex: [u64; 2],
    /// Free to use for applications.
    pub misc_batch_info: [i64; 4],
    reserved: [i64; 4],
}

/// `NvDsFrameMeta`, as far as all versions have it. From 8.0 on, 32 bytes about the sensor lie
/// between `pipeline_height` and the end.
#[repr(C)]
pub struct FrameMeta {
    /// See [`BaseMeta`].
    pub base: BaseMeta,
    /// Pad of the muxer.
    pub pad_index: u32,
    /// Place in the batch.
    pub batch_id: u32,
    /// Number of the frame in its source.
    pub frame_num: i32,
    /// Time stamp, nanoseconds.
    pub buf_pts: u64,
    /// Nanoseconds since 1970.
    pub ntp_timestamp: u64,
    /// The camera.
    pub source_id: u32,
    /// Surfaces of this frame.
    pub num_surfaces: i32,
    /// Width before the muxer.
    pub source_width: u32,
    /// Height before the muxer.
    pub source_height: u32,
    /// For frames of several surfaces.
    pub surface_type: u32,
    /// For frames of several surfaces.
    pub surface_index: u32,
    /// Objects.
    pub num_objects: u32,
    /// An inference was done.
    pub infer_done: gboolean,
    /// Objects.
    pub object_list: *mut GList,
    /// [`display`](super::display) metadata.
    pub display_list: *mut GList,
    /// [`UserMeta`]s.
    pub user_list: *mut GList,
    /// Free to use for applications.
    pub misc_frame_info: [i64; 4],
    /// Width of the picture in the batch; 6.0 and later.
    pub pipeline_width: u32,
    /// Height of the picture in the batch; 6.0 and later.
    pub pipeline_height: u32,
}

/// Size of `NvDsFrameMeta` up to 7.1, and from 8.0 on.
pub const FRAME_META_SIZES: [usize; 2] = [200, 232];

/// `NvDsUserMeta`.
#[repr(C)]
pub struct UserMeta {
    /// See [`BaseMeta`].
    pub base: BaseMeta,
    /// What the type says.
    pub data: *mut c_void,
}

/// `NvDsInferDims`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct InferDims {
    /// How many of `d` count.
    pub num_dims: u32,
    /// Sizes, without the batch.
    pub d: [u32; 8],
    /// Their product.
    pub num_elements: u32,
}

/// `NvDsInferLayerInfo`.
#[repr(C)]
pub struct InferLayerInfo {
    /// 0: float, 1: half, 2: int8, 3: int32.
    pub data_type: i32,
    /// Shape.
    pub dims: InferDims,
    /// Index in the network.
    pub binding_index: i32,
    /// Name of the tensor.
    pub name: *const c_char,
    /// Not valid here.
    pub buffer: *mut c_void,
    /// An input.
    pub is_input: i32,
}

/// `NvDsInferTensorMeta`. `symmetric_padding` lies past the end before 7.0.
#[repr(C)]
pub struct InferTensorMeta {
    /// `gie-unique-id` of the nvinfer that wrote it.
    pub unique_id: u32,
    /// Number of output layers.
    pub num_layers: u32,
    /// The layers.
    pub layers: *const InferLayerInfo,
    /// This frame's values of each layer, in host memory.
    pub host: *const *const c_void,
    /// The same on the GPU.
    pub device: *const *const c_void,
    /// Which GPU.
    pub gpu_id: i32,
    /// nvinfer's.
    pub private: *mut c_void,
    /// Width of the network's input.
    pub network_width: u32,
    /// Height of the network's input.
    pub network_height: u32,
    /// Channels of the network's input.
    pub network_channels: u32,
    /// The picture kept its aspect ratio; 6.1 and later.
    pub maintain_aspect_ratio: gboolean,
    /// The picture lies in the middle; 7.0 and later.
    pub symmetric_padding: gboolean,
}

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

/// Most rectangles, texts and lines in one display meta.
pub const DISPLAY_ELEMENTS: usize = 16;

/// `NvOSD_ColorParams`, each 0..1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    /// Red.
    pub red: f64,
    /// Green.
    pub green: f64,
    /// Blue.
    pub blue: f64,
    /// Opacity.
    pub alpha: f64,
}

/// `NvOSD_TextParams`.
#[repr(C)]
pub struct TextParams {
    /// Allocated by GLib, freed with the metadata.
    pub text: *mut c_char,
    /// Pixels.
    pub x: u32,
    /// Pixels.
    pub y: u32,
    /// Not freed.
    pub font_name: *const c_char,
    /// Points.
    pub font_size: u32,
    /// Of the letters.
    pub font_color: Color,
    /// Draw `background`.
    pub has_background: c_int,
    /// Behind the letters.
    pub background: Color,
}

/// `NvOSD_LineParams`.
#[repr(C)]
pub struct LineParams {
    /// Pixels.
    pub x1: u32,
    /// Pixels.
    pub y1: u32,
    /// Pixels.
    pub x2: u32,
    /// Pixels.
    pub y2: u32,
    /// Pixels.
    pub width: u32,
    /// Of the line.
    pub color: Color,
}

/// `NvDsDisplayMeta`. A rectangle has `RECT` words of eight bytes: 13 up to 8.0, 14 from 9.0 on,
/// where it can be turned.
#[repr(C)]
pub struct DisplayMeta<const RECT: usize> {
    /// See [`BaseMeta`].
    pub base: BaseMeta,
    /// Used of `rects`.
    pub num_rects: u32,
    /// Used of `texts`.
    pub num_texts: u32,
    /// Used of `lines`.
    pub num_lines: u32,
    /// Used of `arrows`.
    pub num_arrows: u32,
    /// Used of `circles`.
    pub num_circles: u32,
    rects: [[u64; RECT]; DISPLAY_ELEMENTS],
    /// Texts.
    pub texts: [TextParams; DISPLAY_ELEMENTS],
    /// Lines.
    pub lines: [LineParams; DISPLAY_ELEMENTS],
    arrows: [[u64; 8]; DISPLAY_ELEMENTS],
    circles: [[u64; 12]; DISPLAY_ELEMENTS],
    misc: [i64; 4],
    reserved: [i64; 4],
}

/// Display metadata up to 8.0.
pub type DisplayMetaOld = DisplayMeta<13>;
/// Display metadata from 9.0 on.
pub type DisplayMetaNew = DisplayMeta<14>;

/// `NvDsCustomMsgInfo`: what nvmsgconv puts into its payload.
#[repr(C)]
pub struct CustomMessage {
    /// The text, not ended by a zero.
    pub message: *mut c_void,
    /// Its bytes.
    pub size: u32,
}

/// `NVDS_CUSTOM_MSG_BLOB` in a version of DeepStream; `None` where it is not known. The number
/// moved whenever types were added before it.
pub fn custom_message_type(version: (u32, u32)) -> Option<i32> {
    match version {
        (6, 0..=2) => Some(20),
        (6, 3) => Some(22),
        (7, _) => Some(28),
        (8, 0) | (9, 0..=1) => Some(29),
        _ => None,
    }
}

macro_rules! layout {
    ($type:ty: $size:literal { $($field:ident @ $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };
    };
}

layout!(MetaPool: 56 { meta_type @ 0, max_elements @ 4, element_size @ 8, num_empty @ 12, num_full @ 16, lists @ 24, functions @ 40 });
layout!(BaseMeta: 40 { batch_meta @ 0, meta_type @ 8, context @ 16, copy_func @ 24, release_func @ 32 });
layout!(BatchMeta: 192 {
    base @ 0, max_frames_in_batch @ 40, num_frames_in_batch @ 44, frame_pool @ 48, object_pool @ 56, classifier_pool @ 64, display_pool @ 72,
    user_pool @ 80, label_pool @ 88, frame_list @ 96, user_list @ 104, mutex @ 112, misc_batch_info @ 128, reserved @ 160,
});
layout!(FrameMeta: 168 {
    base @ 0, pad_index @ 40, batch_id @ 44, frame_num @ 48, buf_pts @ 56, ntp_timestamp @ 64, source_id @ 72, num_surfaces @ 76,
    source_width @ 80, source_height @ 84, surface_type @ 88, surface_index @ 92, num_objects @ 96, infer_done @ 100, object_list @ 104,
    display_list @ 112, user_list @ 120, misc_frame_info @ 128, pipeline_width @ 160, pipeline_height @ 164,
});
layout!(UserMeta: 48 { base @ 0, data @ 40 });
layout!(InferDims: 40 { num_dims @ 0, d @ 4, num_elements @ 36 });
layout!(InferLayerInfo: 72 { data_type @ 0, dims @ 4, binding_index @ 44, name @ 48, buffer @ 56, is_input @ 64 });
layout!(InferTensorMeta: 72 {
    unique_id @ 0, num_layers @ 4, layers @ 8, host @ 16, device @ 24, gpu_id @ 32, private @ 40, network_width @ 48, network_height @ 52,
    network_channels @ 56, maintain_aspect_ratio @ 60, symmetric_padding @ 64,
});
layout!(PlaneParams: 232 { num_planes @ 0, width @ 4, height @ 20, pitch @ 36, offset @ 52, size @ 68, bytes_per_pixel @ 84 });
layout!(SurfaceParams: 320 {
    width @ 0, height @ 4, pitch @ 8, color_format @ 12, layout @ 16, descriptor @ 24, data_size @ 32, data @ 40, planes @ 48, mapped @ 280,
    egl_image @ 312,
});
layout!(Surface: 32 { gpu_id @ 0, batch_size @ 4, num_filled @ 8, is_contiguous @ 12, memory_type @ 16, list @ 24 });
layout!(SurfaceOld: 64 { common @ 0, reserved @ 32 });
layout!(SurfaceNew: 72 { common @ 0, imported @ 32, reserved @ 40 });
layout!(SurfaceParamsOld: 384 { common @ 0, mapped_reserved @ 320, extended @ 352 });
layout!(SurfaceParamsNew: 416 { common @ 0, mapped_more @ 320, extended @ 368, cuda_buffer @ 376 });
layout!(SurfaceCreateParams: 64 {
    gpu_id @ 0, width @ 4, height @ 8, size @ 12, is_contiguous @ 16, color_format @ 20, layout @ 24, memory_type @ 28, reserved @ 32,
});
layout!(TransformConfig: 48 { compute_mode @ 0, gpu_id @ 4, stream @ 8, reserved @ 16 });
layout!(TransformParams: 64 { flags @ 0, flip @ 4, filter @ 8, from @ 16, to @ 24, reserved @ 32 });
layout!(TextParams: 104 { text @ 0, x @ 8, y @ 12, font_name @ 16, font_size @ 24, font_color @ 32, has_background @ 64, background @ 72 });
layout!(LineParams: 56 { x1 @ 0, y1 @ 4, x2 @ 8, y2 @ 12, width @ 16, color @ 24 });
layout!(DisplayMetaOld: 6912 {
    base @ 0, num_rects @ 40, num_texts @ 44, num_lines @ 48, num_arrows @ 52, num_circles @ 56, rects @ 64, texts @ 1728, lines @ 3392,
    arrows @ 4288, circles @ 5312, misc @ 6848,
});
layout!(DisplayMetaNew: 7040 {
    base @ 0, num_rects @ 40, num_texts @ 44, num_lines @ 48, num_arrows @ 52, num_circles @ 56, rects @ 64, texts @ 1856, lines @ 3520,
    arrows @ 4416, circles @ 5440, misc @ 6976,
});
layout!(CustomMessage: 16 { message @ 0, size @ 8 });
