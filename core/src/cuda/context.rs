//! A context: where everything on a GPU lives.

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use super::driver::{DeviceInfo, Driver};
use super::{CudaError, sys};

/// A CUDA context: the primary one of a GPU, or one that is borrowed from its owner.
pub struct Context {
    pub(super) driver: &'static Driver,
    handle: sys::ContextHandle,
    owner: Owner,
    info: DeviceInfo,
}

/// Who lets go of the context.
enum Owner {
    Primary(sys::Device),
    /// Kept until the context is no longer used.
    Lent(
        #[cfg_attr(not(feature = "cudarc"), allow(dead_code, reason = "held to be dropped last"))]
        Box<dyn Any + Send + Sync>,
    ),
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("handle", &self.handle)
            .field("device", &self.info)
            .finish_non_exhaustive()
    }
}

// SAFETY: a context may be entered from any thread, from several at the same time; the handle is
// only a number here.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Driver {
    /// The primary context of GPU `index`, which every library of the process that uses the CUDA
    /// runtime shares, TensorRT among them.
    pub fn context(&'static self, index: u32) -> Result<Arc<Context>, CudaError> {
        let device = self.device_handle(index)?;
        Context::primary(self, device, self.describe_device(device, index)?)
    }
}

impl Context {
    fn primary(
        driver: &'static Driver,
        device: sys::Device,
        info: DeviceInfo,
    ) -> Result<Arc<Self>, CudaError> {
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle; released in `drop`.
        let code = unsafe { (driver.table.primary_context_retain)(&mut handle, device) };
        driver.check_memory("cuDevicePrimaryCtxRetain", code, "a context", 0)?;
        Ok(Arc::new(Self { driver, handle, owner: Owner::Primary(device), info }))
    }

    /// A context with another owner, such as that of `gst.cuda.context`; `keep` is held as
    /// long as it is used.
    ///
    /// # Safety
    /// `handle` is a `CUcontext` that lives as long as `keep` does.
    pub unsafe fn lent(
        driver: &'static Driver,
        handle: *mut c_void,
        keep: Box<dyn Any + Send + Sync>,
    ) -> Result<Arc<Self>, CudaError> {
        let info = DeviceInfo {
            index: 0,
            name: String::new(),
            compute_capability: (0, 0),
            memory: 0,
            multiprocessors: 0,
        };
        let mut context = Self { driver, handle, owner: Owner::Lent(keep), info };
        let mut device = 0;
        {
            let _entered = context.enter()?;
            // SAFETY: writes one handle, of the context that was just entered.
            driver.check("cuCtxGetDevice", unsafe {
                (driver.table.context_get_device)(&mut device)
            })?;
        }
        // Devices are numbered as handles are, as long as the driver has been started only once:
        // always.
        context.info = driver.describe_device(device, u32::try_from(device).unwrap_or(0))?;
        Ok(Arc::new(context))
    }

    /// Makes it the calling thread's context until what is returned is dropped.
    pub fn enter(&self) -> Result<ContextGuard<'_>, CudaError> {
        // SAFETY: the handle is a living context.
        self.driver.check("cuCtxPushCurrent", unsafe {
            (self.driver.table.context_push_current)(self.handle)
        })?;
        Ok(ContextGuard { context: self, thread: PhantomData })
    }

    /// Whether it is its GPU's primary context, as this program itself retains it.
    pub fn is_primary(&self) -> bool {
        matches!(self.owner, Owner::Primary(_))
    }

    /// What keeps a context that was lent.
    #[cfg(feature = "cudarc")]
    pub(super) fn lender(&self) -> Option<&(dyn Any + Send + Sync)> {
        match &self.owner {
            Owner::Primary(_) => None,
            Owner::Lent(keep) => Some(&**keep),
        }
    }

    /// The GPU that it is on.
    pub fn device(&self) -> &DeviceInfo {
        &self.info
    }

    /// The `CUcontext`.
    pub fn handle(&self) -> *mut c_void {
        self.handle
    }

    /// Free memory of the GPU and all of it, in bytes.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two sizes.
        self.driver.check("cuMemGetInfo", unsafe {
            (self.driver.table.mem_get_info)(&mut free, &mut total)
        })?;
        Ok((free, total))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Owner::Primary(device) = self.owner {
            // SAFETY: retained in `primary`, once. The result of a lost device is ignored.
            unsafe { (self.driver.table.primary_context_release)(device) };
        }
    }
}

/// The calling thread is inside a context.
pub struct ContextGuard<'a> {
    context: &'a Context,
    /// Stays on the thread that entered.
    thread: PhantomData<*const ()>,
}

impl Drop for ContextGuard<'_> {
    fn drop(&mut self) {
        let mut left = ptr::null_mut();
        // SAFETY: pushed by this thread in `enter`.
        unsafe { (self.context.driver.table.context_pop_current)(&mut left) };
    }
}
