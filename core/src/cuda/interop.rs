//! Contexts and streams of the crate `cudarc`, for applications in Rust that use it beside an
//! engine.
//!
//! The engine works in the application's [`CudaContext`] ([`Context::from_cudarc`], for
//! [`EngineRequest::context`](crate::engine::EngineRequest)), reads pictures that a [`CudaStream`]
//! is still writing ([`ForeignStream`]), and hands its own context and streams back. Everything is
//! counted by reference on both sides: what one side still uses, the other does not destroy.

use std::any::Any;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};

use super::{Context, CudaError, Driver, ForeignStream, Stream};

/// cudarc may have opened another library than `libcuda.so.1`.
const OTHER_DRIVER: &str = "cudarc has opened another driver than libcuda.so.1: see that no other libcuda.so, such as the CUDA toolkit's stub, is \
                            found before it";

impl Context {
    /// cudarc's `context` for an engine, which keeps it. Its thread's current context stays as it
    /// is.
    ///
    /// # Errors
    /// The driver is not there, or the context is not one of the driver that this program uses.
    pub fn from_cudarc(context: &Arc<CudaContext>) -> Result<Arc<Self>, CudaError> {
        let driver = Driver::open()?;
        // SAFETY: the context lives as long as the `Arc` that is kept.
        unsafe { Self::lent(driver, context.cu_ctx().cast(), Box::new(context.clone())) }
    }

    /// This context for cudarc: the one that [`from_cudarc`](Self::from_cudarc) was given, or
    /// another reference to the GPU's primary one.
    ///
    /// # Errors
    /// [`CudaError::Interop`] for a context that a third library has made, such as GStreamer's:
    /// cudarc takes over each context that it is given as a handle, and would destroy it.
    pub fn to_cudarc(&self) -> Result<Arc<CudaContext>, CudaError> {
        if let Some(lent) = self.lender().and_then(|keep| keep.downcast_ref::<Arc<CudaContext>>()) {
            return Ok(lent.clone());
        }
        if !self.is_primary() {
            let what = "the context belongs to another library, and cudarc would destroy it: make the context with cudarc, and give it to the \
                        engine";
            return Err(CudaError::Interop(what.to_owned()));
        }
        // cudarc makes a context current and leaves it so, but for one that is current already.
        let _entered = self.enter()?;
        let made = CudaContext::new(self.device().index as usize);
        let context = match made {
            Ok(context) => context,
            Err(error) => {
                self.driver.check("cuDevicePrimaryCtxRetain", error.0 as i32)?;
                return Err(CudaError::Interop(OTHER_DRIVER.to_owned()));
            }
        };
        if context.cu_ctx().cast() == self.handle() {
            Ok(context)
        } else {
            Err(CudaError::Interop(OTHER_DRIVER.to_owned()))
        }
    }
}

impl Stream {
    /// cudarc's `stream`, which is kept.
    ///
    /// # Errors
    /// As [`Context::from_cudarc`].
    pub fn from_cudarc(stream: &Arc<CudaStream>) -> Result<Self, CudaError> {
        let context = Context::from_cudarc(stream.context())?;
        let keep: Box<dyn Any + Send + Sync> = Box::new(stream.clone());
        // SAFETY: the stream is of that context, and lives as long as the `Arc` that is kept.
        Ok(unsafe { Self::lent(context, stream.cu_stream().cast(), keep) })
    }

    /// This stream for cudarc.
    ///
    /// # Errors
    /// As [`Context::to_cudarc`].
    ///
    /// # Safety
    /// This stream lives as long as what is returned is used.
    pub unsafe fn to_cudarc(&self) -> Result<Arc<CudaStream>, CudaError> {
        if let Some(lent) = self.lender().and_then(|keep| keep.downcast_ref::<Arc<CudaStream>>()) {
            return Ok(lent.clone());
        }
        let context = self.context().to_cudarc()?;
        // SAFETY: a stream of that context; the rest is the caller's.
        Ok(unsafe { context.wrap_borrowed_stream(self.handle().cast()) })
    }
}

impl From<&CudaStream> for ForeignStream {
    fn from(stream: &CudaStream) -> Self {
        Self(stream.cu_stream().cast())
    }
}
