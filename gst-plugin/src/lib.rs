//! GStreamer elements that count vehicles on many cameras at once.

pub mod counter;
mod cuda;
pub mod deepstream;
mod dispatch;
pub mod meta;
pub mod nvmm;
pub mod overlay;
pub mod publish;
pub mod testsrc;

pub use plugin::plugin_register_static;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
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
