//! Memory of the GPU, and memory of the host that it reaches by itself.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use super::sys::DevicePtr;
use super::{Context, CudaError, sys};

/// Types without padding and pointers, every bit pattern of which is a value: what may be copied to
/// a GPU and back as bytes.
///
/// # Safety
/// That is so for the type.
pub unsafe trait Plain: Copy {}

// SAFETY: a number.
unsafe impl Plain for u8 {}
// SAFETY: a number.
unsafe impl Plain for f32 {}
// SAFETY: a number.
unsafe impl Plain for u32 {}

/// Memory of a GPU.
pub struct DeviceBuffer {
    context: Arc<Context>,
    address: DevicePtr,
    bytes: usize,
}

impl DeviceBuffer {
    /// `bytes` bytes, at least one, of no known content, for `what`.
    pub fn new(
        context: &Arc<Context>,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, CudaError> {
        let _entered = context.enter()?;
        let mut address = 0;
        // SAFETY: writes one address; freed in `drop`.
        let code = unsafe { (context.driver.table.mem_alloc)(&mut address, bytes.max(1)) };
        context.driver.check_memory("cuMemAlloc", code, what, bytes)?;
        Ok(Self { context: context.clone(), address, bytes })
    }

    /// A copy of `values`. Returns when it is there.
    pub fn holding<T: Plain>(
        context: &Arc<Context>,
        values: &[T],
        what: &'static str,
    ) -> Result<Self, CudaError> {
        let buffer = Self::new(context, size_of_val(values), what)?;
        let stream = super::Stream::new(context)?;
        // SAFETY: both sides hold that many bytes, and stay until the stream has been waited for.
        unsafe { stream.upload(buffer.address, values.as_ptr().cast(), size_of_val(values))? };
        stream.synchronize()?;
        Ok(buffer)
    }

    /// The values in it. Returns when they are here.
    pub fn read<T: Plain + Default>(&self) -> Result<Vec<T>, CudaError> {
        let mut values = vec![T::default(); self.bytes / size_of::<T>()];
        let stream = super::Stream::new(&self.context)?;
        // SAFETY: both sides hold that many bytes, and stay until the stream has been waited for.
        unsafe {
            stream.download(
                values.as_mut_ptr().cast(),
                self.address,
                size_of_val(values.as_slice()),
            )?
        };
        stream.synchronize()?;
        Ok(values)
    }

    /// Its address on the GPU.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: allocated in `new`; the driver waits for what still uses it.
            unsafe { (self.context.driver.table.mem_free)(self.address) };
        }
    }
}

/// Memory of the host that the GPU copies from and to by itself, while the processor does something
/// else.
pub struct PinnedBuffer {
    context: Arc<Context>,
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory, reached through `&self` and `&mut self` like a `Vec`.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// `bytes` bytes, zeroed, for `what`.
    pub fn new(
        context: &Arc<Context>,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, CudaError> {
        let _entered = context.enter()?;
        let mut memory = ptr::null_mut::<c_void>();
        // SAFETY: writes one pointer; freed in `drop`.
        let code = unsafe {
            (context.driver.table.mem_host_alloc)(&mut memory, bytes.max(1), sys::HOST_PORTABLE)
        };
        context.driver.check_memory("cuMemHostAlloc", code, what, bytes)?;
        let memory =
            NonNull::new(memory.cast::<u8>()).ok_or(CudaError::OutOfMemory { what, bytes })?;
        // SAFETY: that many bytes were just allocated.
        unsafe { memory.write_bytes(0, bytes.max(1)) };
        Ok(Self { context: context.clone(), memory, bytes })
    }

    /// Its values. Nothing on a stream may be writing them.
    pub fn values<T: Plain>(&self) -> &[T] {
        // SAFETY: page-aligned memory of that size, of a type that takes any bits.
        unsafe { slice::from_raw_parts(self.memory.as_ptr().cast(), self.bytes / size_of::<T>()) }
    }

    /// Its values, to write. Nothing on a stream may be reading them.
    pub fn values_mut<T: Plain>(&mut self) -> &mut [T] {
        // SAFETY: page-aligned memory of that size, of a type that takes any bits, borrowed alone.
        unsafe {
            slice::from_raw_parts_mut(self.memory.as_ptr().cast(), self.bytes / size_of::<T>())
        }
    }

    /// Its address on the host.
    pub fn pointer(&self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: allocated in `new`.
            unsafe { (self.context.driver.table.mem_free_host)(self.memory.as_ptr().cast()) };
        }
    }
}
