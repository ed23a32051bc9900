//! SECTION:element-vehiclecounter
//!
//! Counts vehicles in the frames of one camera or many. Each `sink_%u` has its `src_%u`: frames leave as they came, with a
//! [`VehicleCountMeta`](crate::meta::count) more. Frames of different cameras meet only inside the engine's batch; a camera that is
//! silent, slow, flushing, at its end or failing holds no other one.
//!
//! ## How long a frame is held
//!
//! A frame of a live camera leaves when it is counted, or `max-latency` after it came. Then it carries the last known count, marked
//! stale with its age, and the count that comes too late serves the next frame. Where the engine is slower than the cameras, the newest
//! frame of each camera wins. A frame of a file is held until it is counted: a slow engine slows the file, and nothing is skipped.
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
//! `vehiclecount-engine`, an element message, tells which engine runs once it has opened: `engine`, `version`, `device`, `model`,
//! `precision`, `precision-choice` (what was tried, and what each took), `shared` (another element had it open already), `passed-over` (what
//! `auto` would have preferred, and why it does not open).
//!
//! Where a TensorRT plan must be built first, for minutes, progress messages of the code `vehiclecount-engine` tell how far it is; gst-launch-1.0
//! prints them. Meanwhile live cameras pass uncounted, and files wait. Going to READY or NULL ends the build.

use gst::prelude::*;
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::tensorrt::Precision;

mod camera;
mod formats;
mod imp;
mod pad;
mod stream;

glib::wrapper! {
    /// The element `vehiclecounter`.
    pub struct VehicleCounter(ObjectSubclass<imp::VehicleCounter>) @extends gst::Element, gst::Object, @implements gst::ChildProxy;
}

glib::wrapper! {
    /// A sink pad of `vehiclecounter`: one camera, and what is set for it alone.
    pub struct VehicleCounterPad(ObjectSubclass<pad::VehicleCounterPad>) @extends gst::Pad, gst::Object;
}

/// The property `engine`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleCountEngine")]
pub enum EngineChoice {
    /// The fastest that opens.
    #[default]
    #[enum_value(name = "The fastest that opens", nick = "auto")]
    Auto,
    /// OpenVINO.
    #[enum_value(name = "OpenVINO, for x86-64 processors", nick = "openvino")]
    OpenVino,
    /// ONNX Runtime.
    #[enum_value(name = "ONNX Runtime, for any processor", nick = "onnxruntime")]
    OnnxRuntime,
    /// TensorRT.
    #[enum_value(name = "TensorRT, for NVIDIA GPUs", nick = "tensorrt")]
    TensorRt,
    /// No network.
    #[enum_value(name = "No network: density is the red of the picture, for tests", nick = "scripted")]
    Scripted,
}

impl From<EngineChoice> for EngineKind {
    fn from(choice: EngineChoice) -> Self {
        match choice {
            EngineChoice::Auto => Self::Auto,
            EngineChoice::OpenVino => Self::OpenVino,
            EngineChoice::OnnxRuntime => Self::OnnxRuntime,
            EngineChoice::TensorRt => Self::TensorRt,
            EngineChoice::Scripted => Self::Scripted,
        }
    }
}

/// The property `precision`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleCountPrecision")]
pub enum PrecisionChoice {
    /// The best.
    #[default]
    #[enum_value(
        name = "On a GPU, the faster of INT8 and FP16 that counts right; on a processor, the manifest's",
        nick = "auto"
    )]
    Auto,
    /// FP32.
    #[enum_value(name = "FP32", nick = "fp32")]
    Fp32,
    /// FP16.
    #[enum_value(name = "FP16, with TensorRT", nick = "fp16")]
    Fp16,
    /// INT8.
    #[enum_value(name = "INT8 where the network is quantized, FP16 between", nick = "int8")]
    Int8,
}

impl From<PrecisionChoice> for Precision {
    fn from(choice: PrecisionChoice) -> Self {
        match choice {
            PrecisionChoice::Auto => Self::Auto,
            PrecisionChoice::Fp32 => Self::Fp32,
            PrecisionChoice::Fp16 => Self::Fp16,
            PrecisionChoice::Int8 => Self::Int8,
        }
    }
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    EngineChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    PrecisionChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    VehicleCounterPad::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(plugin, "vehiclecounter", gst::Rank::NONE, VehicleCounter::static_type())
}
