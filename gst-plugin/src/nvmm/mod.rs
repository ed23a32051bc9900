//! SECTION:element-vehiclecounternvmm
//!
//! Counts vehicles inside a DeepStream pipeline: it stands behind `nvstreammux`, reads batches of
//! frames in place and passes them on untouched. With `source=tensor-meta` it reads the density
//! that DeepStream's own `nvinfer` left on the frames; with `source=engine` it runs the model
//! itself.
//!
//! Each frame gets user metadata with its count, regions and density
//! (`vehiclecount/vehiclecount-nvds.h`), and, where asked for, a number in `misc_frame_info`, a
//! message for `nvmsgconv`, and what `nvdsosd` draws. DeepStream is looked up when the element
//! starts; without it the element cannot start, and says so.
//!
//! The element holds a batch until it is counted, as nvinfer does: its pictures may be overwritten
//! once it has left. `interval` says how often that is.
//!
//! ## Example pipelines
//!
//! Behind nvinfer, which runs the model:
//!
//! ```sh
//! gst-launch-1.0 nvurisrcbin uri=rtsp://camera-1/ ! m.sink_0 nvstreammux name=m batch-size=1 width=1920 height=1080 \
//!   ! nvinfer config-file-path=config_infer_vehiclecount.txt ! vehiclecounternvmm source=tensor-meta osd-mode=counts \
//!   ! nvdsosd ! nveglglessink
//! ```
//!
//! By itself, on frames that processor and GPU both can read:
//!
//! ```sh
//! gst-launch-1.0 nvurisrcbin uri=rtsp://camera-1/ ! m.sink_0 nvstreammux name=m batch-size=1 width=1920 height=1080 nvbuf-memory-type=3 \
//!   ! vehiclecounternvmm source=engine osd-mode=counts ! nvdsosd ! nveglglessink
//! ```
//!
//! ## Latency
//!
//! With `source=engine`, a LATENCY query of a live pipeline is answered with the longest time that
//! one of the last 128 batches was held, by the pipeline's clock, besides what comes before; when
//! that grows, or has halved, a LATENCY message says so. With `source=tensor-meta` nothing is
//! added: reading a tensor takes no time that counts.
//!
//! ## Messages
//!
//! With `source=engine`, `vehiclecount-engine` as from `vehiclecounter`, and LATENCY.
//!
//! Not yet run in a DeepStream pipeline: `vehicle-count doctor --deepstream` checks one.

use gst::prelude::*;

mod attach;
mod batch;
mod imp;
mod latency;
mod settings;
mod source;
mod tensors;
mod work;

glib::wrapper! {
    /// The element `vehiclecounternvmm`.
    pub struct VehicleCounterNvmm(ObjectSubclass<imp::VehicleCounterNvmm>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// The property `source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleCountSource")]
pub enum DensitySource {
    /// Our model.
    #[default]
    #[enum_value(name = "Our model, run on the frames", nick = "engine")]
    Engine,
    /// What nvinfer left.
    #[enum_value(name = "The output tensor that nvinfer left on the frames", nick = "tensor-meta")]
    TensorMeta,
}

/// The property `osd-mode`, numbered as in nvdsanalytics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleCountOsdMode")]
pub enum OsdMode {
    /// Nothing.
    #[default]
    #[enum_value(name = "Nothing", nick = "off")]
    Off,
    /// Outlines and names.
    #[enum_value(name = "Outlines and names of the regions", nick = "regions")]
    Regions,
    /// Numbers too.
    #[enum_value(name = "Outlines, names and counts", nick = "counts")]
    Counts,
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    DensitySource::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    OsdMode::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(
        plugin,
        "vehiclecounternvmm",
        gst::Rank::NONE,
        VehicleCounterNvmm::static_type(),
    )
}
