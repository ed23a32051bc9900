//! Pictures that another library shares as EGL images, as Jetson's picture buffers are, made
//! readable on the GPU.

use std::ffi::{c_uint, c_void};
use std::mem::{MaybeUninit, offset_of};
use std::ptr;
use std::sync::Arc;

use super::sys::Code;
use super::{Context, CudaError};

/// `CUeglFrame`: a picture, seen from CUDA.
#[repr(C)]
struct EglFrame {
    /// Of each plane: its address, or a handle where the picture is an array.
    planes: [*mut c_void; 3],
    width: c_uint,
    height: c_uint,
    depth: c_uint,
    /// Bytes from row to row of the first plane.
    pitch: c_uint,
    plane_count: c_uint,
    channels: c_uint,
    /// 0: array, 1: pitch.
    frame_type: i32,
    color_format: i32,
    array_format: i32,
}

// As in NVIDIA's cudaEGL.h, unchanged since CUDA 8.
const _: () = {
    assert!(size_of::<EglFrame>() == 64);
    assert!(offset_of!(EglFrame, width) == 24 && offset_of!(EglFrame, pitch) == 36);
    assert!(offset_of!(EglFrame, plane_count) == 40 && offset_of!(EglFrame, frame_type) == 48);
};

/// The picture lies row by row.
const FRAME_TYPE_PITCH: i32 = 1;

/// The functions, which NVIDIA's drivers for Linux have, on Jetson and elsewhere; looked up when
/// they are needed, as only Jetson does.
#[derive(Clone, Copy)]
struct Functions {
    register: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, c_uint) -> Code,
    mapped_frame: unsafe extern "C" fn(*mut EglFrame, *mut c_void, c_uint, c_uint) -> Code,
    unregister: unsafe extern "C" fn(*mut c_void) -> Code,
}

impl Functions {
    fn find(library: &libloading::Library) -> Result<Self, CudaError> {
        let missing = |symbol: &str| CudaError::OldDriver { what: format!("it has no {symbol}") };
        // SAFETY: the types are those of cuda.h and cudaEGL.h; the driver is never closed.
        unsafe {
            Ok(Self {
                register: *library
                    .get(b"cuGraphicsEGLRegisterImage\0")
                    .map_err(|_| missing("cuGraphicsEGLRegisterImage"))?,
                mapped_frame: *library
                    .get(b"cuGraphicsResourceGetMappedEglFrame\0")
                    .map_err(|_| missing("cuGraphicsResourceGetMappedEglFrame"))?,
                unregister: *library
                    .get(b"cuGraphicsUnregisterResource\0")
                    .map_err(|_| missing("cuGraphicsUnregisterResource"))?,
            })
        }
    }
}

/// A picture of one plane, readable on the GPU until dropped.
pub struct EglPicture {
    context: Arc<Context>,
    unregister: unsafe extern "C" fn(*mut c_void) -> Code,
    resource: *mut c_void,
    address: u64,
    pitch: usize,
}

// SAFETY: resources may be used from any thread that has entered their context.
unsafe impl Send for EglPicture {}
// SAFETY: nothing changes it.
unsafe impl Sync for EglPicture {}

impl EglPicture {
    /// Makes the `EGLImage` at `image` readable, a picture of `width` x `height` pixels of `bytes`
    /// bytes each.
    ///
    /// # Safety
    /// `image` is an EGL image, and stays until what is returned is dropped.
    pub unsafe fn register(
        context: &Arc<Context>,
        image: *mut c_void,
        (width, height): (u32, u32),
        bytes: usize,
    ) -> Result<Self, CudaError> {
        let driver = context.driver;
        let functions = Functions::find(&driver.table.library)?;
        let _entered = context.enter()?;
        let mut resource = ptr::null_mut();
        // SAFETY: writes one handle; given back in `drop`.
        let code = unsafe { (functions.register)(&mut resource, image, 0) };
        driver.check("cuGraphicsEGLRegisterImage", code)?;
        let mut made = Self {
            context: context.clone(),
            unregister: functions.unregister,
            resource,
            address: 0,
            pitch: 0,
        };
        let mut frame = MaybeUninit::<EglFrame>::zeroed();
        // SAFETY: writes one frame; the resource was just made.
        let code = unsafe { (functions.mapped_frame)(frame.as_mut_ptr(), resource, 0, 0) };
        driver.check("cuGraphicsResourceGetMappedEglFrame", code)?;
        // SAFETY: zeros are a frame, and so is what the driver wrote.
        let frame = unsafe { frame.assume_init() };
        let row = width as usize * bytes;
        if frame.frame_type != FRAME_TYPE_PITCH
            || (frame.width, frame.height, frame.plane_count) != (width, height, 1)
            || (frame.pitch as usize) < row
            || frame.planes[0].is_null()
        {
            return Err(CudaError::Picture(format!(
                "the EGL image is a picture of {}x{}, {} planes, {} bytes in a row, type {}, where {width}x{height}, 1 plane, {row} bytes or more, \
                 type {FRAME_TYPE_PITCH} were expected",
                frame.width, frame.height, frame.plane_count, frame.pitch, frame.frame_type
            )));
        }
        made.address = frame.planes[0].addr() as u64;
        made.pitch = frame.pitch as usize;
        Ok(made)
    }

    /// Its address on the GPU.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes from row to row.
    pub fn pitch(&self) -> usize {
        self.pitch
    }
}

impl Drop for EglPicture {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: registered in `register`, once.
            unsafe { (self.unregister)(self.resource) };
        }
    }
}
