//! Metadata: batches, frames, user metadata and messages.

use std::ffi::c_void;
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

layout!(MetaPool: 56 {
    meta_type @ 0, max_elements @ 4, element_size @ 8, num_empty @ 12, num_full @ 16, lists @ 24,
    functions @ 40,
});
layout!(BaseMeta: 40 {
    batch_meta @ 0, meta_type @ 8, context @ 16, copy_func @ 24, release_func @ 32,
});
layout!(BatchMeta: 192 {
    base @ 0, max_frames_in_batch @ 40, num_frames_in_batch @ 44, frame_pool @ 48, object_pool @ 56,
    classifier_pool @ 64, display_pool @ 72, user_pool @ 80, label_pool @ 88, frame_list @ 96,
    user_list @ 104, mutex @ 112, misc_batch_info @ 128, reserved @ 160,
});
layout!(FrameMeta: 168 {
    base @ 0, pad_index @ 40, batch_id @ 44, frame_num @ 48, buf_pts @ 56, ntp_timestamp @ 64,
    source_id @ 72, num_surfaces @ 76, source_width @ 80, source_height @ 84, surface_type @ 88,
    surface_index @ 92, num_objects @ 96, infer_done @ 100, object_list @ 104, display_list @ 112,
    user_list @ 120, misc_frame_info @ 128, pipeline_width @ 160, pipeline_height @ 164,
});
layout!(UserMeta: 48 { base @ 0, data @ 40 });
layout!(CustomMessage: 16 { message @ 0, size @ 8 });
