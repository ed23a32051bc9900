//! SECTION:element-vehiclecountpublish
//!
//! Publishes the counts on the frames that pass, one line of JSON for each, to a file, a pipe or
//! standard output. `docs/report.schema.json` describes a line, `docs/publishing.md` how files are
//! shared, followed and rotated.
//!
//! Frames pass untouched and are never held. A worker writes, behind a queue of `queue-size` lines:
//! what cannot be written waits there and is written later; when the queue is full, the oldest line
//! is dropped and counted in `dropped`. EOS and state changes wait for lines for 2 seconds at most,
//! and never fail because of them. Elements of one process with the same location share a queue and
//! a file, line by line.
//!
//! ## Example pipelines
//!
//! ```sh
//! gst-launch-1.0 vehicletestsrc num-buffers=50 ! vehiclecounter \
//!   ! vehiclecountpublish location=counts.jsonl ! fakesink
//! ```
//! A line a second for each camera, in files of at most 10 MB, of which seven are kept:
//! ```sh
//! gst-launch-1.0 vehicletestsrc is-live=true ! vehiclecounter \
//!   ! vehiclecountpublish location=counts.jsonl append=true every=1000 \
//!     max-file-size=10000000 max-files=7 ! fakesink
//! ```
//!
//! ## Messages
//!
//! When lines cannot be written, or have to be dropped, one warning is posted. When all is well
//! again, or the element stops, one element message follows, `vehiclecount-publish`: `location`,
//! `recovered` (whether everything that waited was written), `lost` (lines that were dropped since
//! the warning), `duration` (nanoseconds). Elements of one pipeline that share a location post them
//! once.

use gst::prelude::*;

mod imp;

glib::wrapper! {
    /// The element `vehiclecountpublish`.
    pub struct VehicleCountPublish(ObjectSubclass<imp::VehicleCountPublish>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(
        plugin,
        "vehiclecountpublish",
        gst::Rank::NONE,
        VehicleCountPublish::static_type(),
    )
}
