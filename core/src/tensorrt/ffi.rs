//! The shim's tables of functions, as in shim/shim.h.

use std::ffi::{c_char, c_int, c_void};

use super::Flavour;

/// Must be that of shim.h.
const ABI: u32 = 6;

pub(super) const MAX_DIMS: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dims {
    pub count: i32,
    pub at: [i64; MAX_DIMS],
}

impl Dims {
    pub fn of(sizes: [usize; 4]) -> Self {
        let mut at = [0; MAX_DIMS];
        at.iter_mut().zip(sizes).for_each(|(to, size)| *to = size as i64);
        Self { count: 4, at }
    }

    /// The sizes, `None` for a name that is not a tensor's.
    pub fn sizes(&self) -> Option<&[i64]> {
        self.at.get(..usize::try_from(self.count).ok()?)
    }
}

#[repr(C)]
pub(super) struct Tensor {
    pub name: *const c_char,
    pub input: i32,
    pub data_type: i32,
    pub format: i32,
    pub dims: Dims,
}

pub(super) type Log = extern "C" fn(i32, *const c_char);
pub(super) type Text = unsafe extern "C" fn(*mut c_void, *const c_char, usize);
pub(super) type Progress =
    unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, i32, i32) -> i32;

#[repr(C)]
pub(super) struct Build {
    pub create_builder: *mut c_void,
    pub create_parser: *mut c_void,
    pub version: i32,
    pub parser_version: i32,
    pub onnx: *const c_void,
    pub onnx_size: usize,
    pub channels: i64,
    pub height: i64,
    pub width: i64,
    pub min_batch: i64,
    pub opt_batch: i64,
    pub max_batch: i64,
    pub half: i32,
    pub calibration: *const c_void,
    pub calibration_size: usize,
    pub capabilities: *const i32,
    pub capability_count: i32,
    pub detailed: i32,
    pub timings: *const c_void,
    pub timings_size: usize,
    pub progress: Option<Progress>,
    pub progress_user: *mut c_void,
}

type Drop = unsafe extern "C" fn(*mut c_void);
type Count = unsafe extern "C" fn(*mut c_void) -> i32;

#[repr(C)]
pub(super) struct Shim {
    abi: u32,
    pub major: i32,
    pub minor: i32,
    pub patch: i32,
    pub logger: unsafe extern "C" fn(Log) -> *mut c_void,
    pub runtime: unsafe extern "C" fn(*mut c_void, i32, *mut c_void) -> *mut c_void,
    pub runtime_drop: Drop,
    pub engine: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void,
    pub engine_drop: Drop,
    pub engine_tensors: Count,
    pub engine_tensor: unsafe extern "C" fn(*mut c_void, i32, *mut Tensor) -> c_int,
    pub engine_profiles: Count,
    pub engine_profile: unsafe extern "C" fn(*mut c_void, *const c_char, i32, i32) -> Dims,
    pub engine_shape:
        unsafe extern "C" fn(*mut c_void, *const c_char, *const Dims, *const c_char) -> Dims,
    pub engine_memory: unsafe extern "C" fn(*mut c_void) -> i64,
    pub engine_layers: Count,
    pub engine_inspect: unsafe extern "C" fn(*mut c_void, *mut c_void, Text) -> c_int,
    pub context: unsafe extern "C" fn(*mut c_void, *mut c_void, i64, *mut c_void) -> *mut c_void,
    pub context_drop: Drop,
    pub context_profile: unsafe extern "C" fn(*mut c_void, i32, *mut c_void) -> c_int,
    pub context_shape: unsafe extern "C" fn(*mut c_void, *const c_char, *const Dims) -> c_int,
    pub context_address: unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void) -> c_int,
    pub context_enqueue: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    pub build:
        unsafe extern "C" fn(*const Build, *mut c_void, *mut c_void, Text, Text, Text) -> c_int,
    pub kernels: unsafe extern "C" fn(*mut c_void, *const c_void, usize, *mut i32) -> *mut c_void,
    pub kernels_drop: Drop,
    pub kernels_write: unsafe extern "C" fn(*mut c_void, *mut c_void, Text) -> c_int,
}

#[cfg(any(tensorrt_10, tensorrt_11, tensorrt_rtx_1))]
unsafe extern "C" {
    #[cfg(tensorrt_10)]
    fn vehiclecount_shim_tensorrt_10() -> *const Shim;
    #[cfg(tensorrt_11)]
    fn vehiclecount_shim_tensorrt_11() -> *const Shim;
    #[cfg(tensorrt_rtx_1)]
    fn vehiclecount_shim_tensorrt_rtx_1() -> *const Shim;
}

/// The shim that was compiled for a family: `None` where its headers were not at hand.
#[allow(clippy::missing_const_for_fn, reason = "without any headers it could be one")]
pub(super) fn shim(flavour: Flavour, major: u32) -> Option<&'static Shim> {
    let table: *const Shim = match (flavour, major) {
        #[cfg(tensorrt_10)]
        // SAFETY: the function takes nothing and returns the address of a constant.
        (Flavour::TensorRt, 10) => unsafe { vehiclecount_shim_tensorrt_10() },
        #[cfg(tensorrt_11)]
        // SAFETY: as above.
        (Flavour::TensorRt, 11) => unsafe { vehiclecount_shim_tensorrt_11() },
        #[cfg(tensorrt_rtx_1)]
        // SAFETY: as above.
        (Flavour::TensorRtRtx, 1) => unsafe { vehiclecount_shim_tensorrt_rtx_1() },
        _ => return None,
    };
    // SAFETY: a constant of the shim's, which is linked in, laid out as shim.h says; its first
    // field tells whether this file agrees.
    let table = unsafe { &*table };
    assert_eq!(table.abi, ABI, "ffi.rs and shim.h describe the same table");
    Some(table)
}
