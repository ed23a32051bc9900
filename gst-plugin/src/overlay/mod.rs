//! SECTION:element-vehiclecountoverlay
//!
//! Draws what was counted onto the picture: the density as a heat map, the regions with their
//! counts, and a panel with the camera's name, the count, the level, and, where the count is not
//! the frame's own, its age. Frames without a [`VehicleCountMeta`](crate::meta::count) pass
//! untouched. Any raw format works: drawing goes through GStreamer's overlay composition.
//!
//! ```sh
//! gst-launch-1.0 vehicletestsrc ! vehiclecounter ! vehiclecountoverlay ! videoconvert ! autovideosink
//! ```

use gst::prelude::*;

mod draw;
mod imp;

glib::wrapper! {
    /// The element `vehiclecountoverlay`.
    pub struct VehicleCountOverlay(ObjectSubclass<imp::VehicleCountOverlay>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(
        plugin,
        "vehiclecountoverlay",
        gst::Rank::NONE,
        VehicleCountOverlay::static_type(),
    )
}
