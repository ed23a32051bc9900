//! For applications in Rust that use the crate `cudarc` beside this plugin's elements.
//!
//! Elements pass a CUDA context on as `gst.cuda.context`. An application that has a `CudaContext`
//! of cudarc sets it on its pipeline before PAUSED: the engine works in it, and frames that the
//! application makes there are read where they lie.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # gst::init()?;
//! # let pipeline = gst::Pipeline::new();
//! use gst::prelude::*;
//!
//! let cuda = cudarc::driver::CudaContext::new(0)?;
//! pipeline.set_context(&gstvehiclecount::interop::context_from_cudarc(&cuda)?);
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use cudarc::driver::CudaContext;
use gst::prelude::ObjectExt;
use vehiclecount_core::cuda::{Context, CudaError, Driver};

use crate::cuda;

const ABSENT: &str =
    "libgstcuda-1.0 is not there: install GStreamer's plugins \"bad\" of version 1.22 or later";

/// Where a GstCudaContext keeps the `Arc<CudaContext>`. An application and the plugin may be of two
/// versions, each with a cudarc of its own.
const KEY: &str =
    concat!("vehiclecount-cudarc-", env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID"));

/// cudarc's `context` as GStreamer passes it on, for `set_context` of a pipeline. GStreamer's
/// object keeps it.
///
/// # Errors
/// There is no driver or no libgstcuda, or cudarc uses another driver.
pub fn context_from_cudarc(context: &Arc<CudaContext>) -> Result<gst::Context, CudaError> {
    let own = Context::from_cudarc(context)?;
    // SAFETY: under this key, a value of this type is set here alone.
    let wrapped = unsafe { cuda::wrap(&own, KEY, context.clone()) };
    wrapped.ok_or_else(|| CudaError::Interop(ABSENT.to_owned()))
}

/// The context in `context`, a `gst.cuda.context`, for cudarc: the one that [`context_from_cudarc`]
/// was given, or cudarc's own reference to a GPU's primary context, in which the counter works by
/// itself.
///
/// # Errors
/// It is of another kind, or another library made it, and cudarc would destroy it.
pub fn context_to_cudarc(context: &gst::Context) -> Result<Arc<CudaContext>, CudaError> {
    let nothing = || {
        CudaError::Interop("there is no GstCudaContext in the context, or no libgstcuda".to_owned())
    };
    let (object, handle, index) = cuda::unwrap(context).ok_or_else(nothing)?;
    // SAFETY: see `context_from_cudarc`.
    let given = unsafe { object.data::<Arc<CudaContext>>(KEY).map(|given| given.as_ref().clone()) };
    if let Some(given) = given {
        return Ok(given);
    }
    let driver = Driver::open()?;
    let primary = driver.context(index)?;
    if primary.handle() == handle {
        return primary.to_cudarc();
    }
    // SAFETY: `object` keeps the context.
    unsafe { Context::lent(driver, handle, Box::new(context.clone())) }?.to_cudarc()
}
