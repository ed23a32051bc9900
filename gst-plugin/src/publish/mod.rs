//! SECTION:element-vehiclecountpublish
//!
//! Writes what was counted as lines of JSON, a frame each, to a file or to standard output. `docs/report.schema.json` describes a line.
//! Frames pass untouched and are never held: a worker writes, behind a queue of `queue-size` lines; where the disk is too slow, the
//! oldest line is dropped and counted in `dropped`. Elements of one process that name the same file share it, line by line.
//!
//! ```sh
//! gst-launch-1.0 vehicletestsrc num-buffers=50 ! vehiclecounter ! vehiclecountpublish location=counts.jsonl ! fakesink
//! ```

use gst::prelude::*;

mod imp;
mod writer;

glib::wrapper! {
    /// The element `vehiclecountpublish`.
    pub struct VehicleCountPublish(ObjectSubclass<imp::VehicleCountPublish>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "vehiclecountpublish", gst::Rank::NONE, VehicleCountPublish::static_type())
}
