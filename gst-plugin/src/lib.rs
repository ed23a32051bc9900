//! GStreamer elements that count vehicles on many cameras at once.

pub mod counter;
mod counting;
mod crop;
mod cuda;
pub mod deepstream;
mod engine;
#[cfg(feature = "cudarc")]
pub mod interop;
pub mod meta;
pub mod nvmm;
pub mod overlay;
pub mod publish;
mod ranked;
pub mod testsrc;
mod time;

use std::sync::LazyLock;

use gst::prelude::*;
pub use plugin::plugin_register_static;
use vehiclecount_core::tensorrt::{self, Severity};

/// What TensorRT says, and what is said of plans that are built.
static TENSORRT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    let what = Some("TensorRT's messages, and plans that are built");
    gst::DebugCategory::new("vehiclecount-tensorrt", gst::DebugColorFlags::empty(), what)
});

fn log_tensorrt(severity: Severity, message: &str) {
    match severity {
        // An error becomes the reason of one of ours, or was only tried.
        Severity::Internal | Severity::Error | Severity::Warning => {
            gst::warning!(TENSORRT, "{message}")
        }
        Severity::Info => gst::info!(TENSORRT, "{message}"),
        Severity::Verbose => gst::debug!(TENSORRT, "{message}"),
    }
}

/// The topmost parent of `element`, its pipeline, or the element itself where it has no parent.
fn topmost(element: &impl IsA<gst::Object>) -> gst::Object {
    let mut top = element.clone().upcast();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top
}

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    tensorrt::listen(log_tensorrt);
    meta::count::register();
    meta::truth::register();
    counter::register(Some(plugin))?;
    nvmm::register(Some(plugin))?;
    overlay::register(Some(plugin))?;
    publish::register(Some(plugin))?;
    testsrc::register(Some(plugin))?;
    Ok(())
}

#[allow(missing_docs)]
mod plugin {
    use super::plugin_init;

    gst::plugin_define!(
        vehiclecount,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "Apache 2.0",
        env!("CARGO_PKG_NAME"),
        "vehiclecount",
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}
