//! GStreamer elements that count vehicles on many cameras at once.

pub mod meta;

fn plugin_init(_plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    meta::count::register();
    Ok(())
}

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
