//! SECTION:element-vehiclecounter
//!
//! Counts vehicles in the frames of one camera or many. Each `sink_%u` has its `src_%u`: frames
//! leave as they came, with a [`VehicleCountMeta`](crate::meta::count) more. Frames of different
//! cameras meet only inside the engine's batch; a camera that is silent, slow, flushing, at its end
//! or failing holds no other one.
//!
//! ## How long a frame is held
//!
//! A frame of a live camera leaves when it is counted, or `max-latency` after it came. Then it
//! carries the last count, marked stale with its age, and the count that comes too late serves the
//! next frame. Where the engine is slower than the cameras, the newest frame of each camera wins. A
//! frame of a file is held until it is counted: a slow engine slows the file, and nothing is
//! skipped.
//!
//! As many frames are held as `max-latency` needs at the rate of the caps, up to 512 MiB a camera.
//! Where that does not suffice, a warning says so, and frames leave earlier. LATENCY tells how long
//! frames are held, ALLOCATION how many.
//!
//! ## Frames that do not differ
//!
//! With `skip-unchanged`, a frame that is due is compared with the last one that went to the
//! engine. Where it does not differ, it keeps that one's count: `confirmed` is true and `stale`
//! false in the metadata, smoothing goes on as if it had been counted, and the engine has the time
//! for other cameras. A small vehicle that comes into the picture is a difference, as is light that
//! changes; the noise of a sensor is none (`vehiclecount_core::change`). After 10 seconds, measured
//! as `age` is, a frame is counted in any case; so is one after new regions or other settings of
//! the counts, another format or a seek. Each sink pad has the property, too. Frames in GPU memory
//! are always counted: to compare them, they would have to be copied.
//!
//! ## Cropped pictures
//!
//! Of a picture with `GstVideoCropMeta`, the part that is shown is counted: regions and density lie
//! in that.
//!
//! ## Regions that are looked at more closely
//!
//! A region with `detail` is shown to the network enlarged, in crops beside the whole picture, 8 a
//! camera at most. Its density is that of the crops, the rest that of the whole picture; count,
//! regions, level and density map follow from both. Each crop costs as much as a picture. A frame
//! has one outcome: it is counted when all its crops are.
//!
//! ## Cameras that come and go
//!
//! A sink pad can be requested and released in every state. Where downstream does not take the
//! frame that is being pushed (a prerolled sink, a blocked pad, a full queue), releasing the pad
//! flushes it. An element that holds the frame all the same is left behind after 2 seconds, with a
//! warning: the pads are removed, and their thread ends when the frame is given back.
//!
//! ## Elements that share an engine
//!
//! Elements of one process with the same model, engine and `engine-id` share an engine, and so its
//! `batch-size` and `batched-push-timeout`: those of the element that opened it. Another element
//! that asks for others posts a warning.
//!
//! ## Example pipelines
//!
//! One camera:
//! ```sh
//! gst-launch-1.0 vehicletestsrc ! vehiclecounter ! vehiclecountoverlay ! videoconvert ! autovideosink
//! ```
//! Two cameras, named, in one batch:
//! ```sh
//! gst-launch-1.0 vehiclecounter name=c batch-size=2 sink_0::camera-id=north sink_1::camera-id=south \
//!   uridecodebin uri=rtsp://camera-1/ ! videoconvert ! c.sink_0  c.src_0 ! vehiclecountpublish ! fakesink \
//!   uridecodebin uri=rtsp://camera-2/ ! videoconvert ! c.sink_1  c.src_1 ! vehiclecountpublish ! fakesink
//! ```
//!
//! ## Messages
//!
//! `vehiclecount-engine`, an element message, tells which engine runs once it has opened: `engine`,
//! `version`, `device`, `model`, `precision`, `precision-choice` (what was tried, and what each
//! took), `input-width` and `input-height`, `shared` (another element had it open already),
//! `passed-over` (what `auto` would have preferred, and why it does not open). With
//! `input-size=auto` it comes again for each further input size that a camera needs; the
//! `statistics` say which one each camera has.
//!
//! Where a TensorRT plan must be built first, for minutes, progress messages of the code
//! `vehiclecount-engine` tell how far it is; gst-launch-1.0 prints them. Meanwhile live cameras
//! pass uncounted, and files wait. Going to READY or NULL ends the build. The same holds for each
//! camera while the engine is opened at another input size for its pictures; a live one is held
//! back for half a second at most before it passes uncounted.

use gst::prelude::*;

use crate::engine;

mod arrival;
mod camera;
mod configuration;
mod confirmation;
mod formats;
mod holding;
mod imp;
mod input;
mod looks;
mod negotiation;
mod opening;
mod pad;
mod pusher;
mod queue;
mod release;
mod settings;
mod shape;
mod state;

glib::wrapper! {
    /// The element `vehiclecounter`.
    pub struct VehicleCounter(ObjectSubclass<imp::VehicleCounter>) @extends gst::Element, gst::Object, @implements gst::ChildProxy;
}

glib::wrapper! {
    /// A sink pad of `vehiclecounter`: one camera, and what is set for it alone.
    pub struct VehicleCounterPad(ObjectSubclass<pad::VehicleCounterPad>) @extends gst::Pad, gst::Object;
}

/// Whether frames of one camera that do not differ from the last counted one keep its count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleCounterSkipUnchanged")]
#[repr(i32)]
pub enum SkipUnchanged {
    /// As the element says.
    #[default]
    #[enum_value(name = "As the element's skip-unchanged", nick = "element")]
    Element,
    /// They are counted.
    #[enum_value(name = "They are counted", nick = "false")]
    No,
    /// They keep the count.
    #[enum_value(name = "They keep the count", nick = "true")]
    Yes,
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    engine::register();
    for own in [VehicleCounterPad::static_type(), SkipUnchanged::static_type()] {
        own.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(plugin, "vehiclecounter", gst::Rank::NONE, VehicleCounter::static_type())
}
