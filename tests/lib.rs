//! What the whole-system tests share.

use std::sync::Once;
use std::time::Duration;

/// How long a test waits for what must come: only a broken system makes it wait that long.
pub const BOUND: Duration = Duration::from_secs(90);

/// Starts GStreamer with our elements.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstvehiclecount::plugin_register_static().expect("our elements can be registered");
    });
}
