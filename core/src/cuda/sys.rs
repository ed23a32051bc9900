//! The driver's functions, as in NVIDIA's `cuda.h` for CUDA 12.0.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libloading::Library;

/// A device address.
pub type DevicePtr = u64;
/// `CUresult`, as a number.
pub type Code = c_int;

pub const SUCCESS: Code = 0;
pub const ERROR_OUT_OF_MEMORY: Code = 2;
pub const ERROR_STUB_LIBRARY: Code = 34;
pub const ERROR_NO_DEVICE: Code = 100;

pub const ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: c_int = 75;
pub const ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: c_int = 76;
pub const ATTRIBUTE_MULTIPROCESSOR_COUNT: c_int = 16;

/// Streams that do not wait for the default one.
pub const STREAM_NON_BLOCKING: c_uint = 1;
/// A waiting thread sleeps instead of spinning.
pub const EVENT_BLOCKING_SYNC: c_uint = 1;
/// An event that has no time, which is cheaper.
pub const EVENT_DISABLE_TIMING: c_uint = 2;
/// Pinned memory that every context can use.
pub const HOST_PORTABLE: c_uint = 1;
/// Only what the capturing thread does may disturb the capture.
pub const CAPTURE_THREAD_LOCAL: c_int = 1;

pub type Device = c_int;
pub type ContextHandle = *mut c_void;
pub type StreamHandle = *mut c_void;
pub type EventHandle = *mut c_void;
pub type GraphHandle = *mut c_void;
pub type GraphExecHandle = *mut c_void;
pub type ModuleHandle = *mut c_void;
pub type FunctionHandle = *mut c_void;

/// A table of functions of a library: name in Rust, symbol, arguments. Each returns a [`Code`].
macro_rules! table {
    ($($name:ident = $symbol:literal ($($argument:ty),* $(,)?);)*) => {
        /// The functions, and the library that they live in.
        pub struct Table {
            $(pub $name: unsafe extern "C" fn($($argument),*) -> Code,)*
            pub library: Library,
        }

        impl Table {
            /// Finds every function; the first that is missing is the error.
            ///
            /// # Safety
            /// `library` is the CUDA driver, or behaves like it.
            pub unsafe fn find(library: Library) -> Result<Self, &'static str> {
                Ok(Self {
                    // SAFETY: the types are those of cuda.h under the symbol that cuda.h maps the
                    // name to; the library is kept as long as the pointers are.
                    $($name: unsafe {
                        *library.get::<unsafe extern "C" fn($($argument),*) -> Code>(
                            concat!($symbol, "\0").as_bytes()
                        )
                            .map_err(|_| $symbol)?
                    },)*
                    library,
                })
            }
        }
    };
}

table! {
    init = "cuInit"(c_uint);
    driver_get_version = "cuDriverGetVersion"(*mut c_int);
    get_error_name = "cuGetErrorName"(Code, *mut *const c_char);
    get_error_string = "cuGetErrorString"(Code, *mut *const c_char);
    device_get_count = "cuDeviceGetCount"(*mut c_int);
    device_get = "cuDeviceGet"(*mut Device, c_int);
    device_get_name = "cuDeviceGetName"(*mut c_char, c_int, Device);
    device_get_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, Device);
    device_total_mem = "cuDeviceTotalMem_v2"(*mut usize, Device);
    primary_context_retain = "cuDevicePrimaryCtxRetain"(*mut ContextHandle, Device);
    primary_context_release = "cuDevicePrimaryCtxRelease_v2"(Device);
    context_push_current = "cuCtxPushCurrent_v2"(ContextHandle);
    context_pop_current = "cuCtxPopCurrent_v2"(*mut ContextHandle);
    context_get_device = "cuCtxGetDevice"(*mut Device);
    mem_get_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
    mem_alloc = "cuMemAlloc_v2"(*mut DevicePtr, usize);
    mem_free = "cuMemFree_v2"(DevicePtr);
    mem_host_alloc = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
    mem_free_host = "cuMemFreeHost"(*mut c_void);
    memcpy_htod_async = "cuMemcpyHtoDAsync_v2"(DevicePtr, *const c_void, usize, StreamHandle);
    memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2"(*mut c_void, DevicePtr, usize, StreamHandle);
    stream_create = "cuStreamCreate"(*mut StreamHandle, c_uint);
    stream_destroy = "cuStreamDestroy_v2"(StreamHandle);
    stream_synchronize = "cuStreamSynchronize"(StreamHandle);
    stream_wait_event = "cuStreamWaitEvent"(StreamHandle, EventHandle, c_uint);
    stream_begin_capture = "cuStreamBeginCapture_v2"(StreamHandle, c_int);
    stream_end_capture = "cuStreamEndCapture"(StreamHandle, *mut GraphHandle);
    event_create = "cuEventCreate"(*mut EventHandle, c_uint);
    event_destroy = "cuEventDestroy_v2"(EventHandle);
    event_record = "cuEventRecord"(EventHandle, StreamHandle);
    event_synchronize = "cuEventSynchronize"(EventHandle);
    event_elapsed_time = "cuEventElapsedTime"(*mut f32, EventHandle, EventHandle);
    graph_instantiate = "cuGraphInstantiateWithFlags"(*mut GraphExecHandle, GraphHandle, u64);
    graph_launch = "cuGraphLaunch"(GraphExecHandle, StreamHandle);
    graph_exec_destroy = "cuGraphExecDestroy"(GraphExecHandle);
    graph_destroy = "cuGraphDestroy"(GraphHandle);
    module_load_data = "cuModuleLoadData"(*mut ModuleHandle, *const c_void);
    module_unload = "cuModuleUnload"(ModuleHandle);
    module_get_function = "cuModuleGetFunction"(*mut FunctionHandle, ModuleHandle, *const c_char);
    launch_kernel = "cuLaunchKernel"(
        FunctionHandle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, StreamHandle,
        *mut *mut c_void, *mut *mut c_void,
    );
}
