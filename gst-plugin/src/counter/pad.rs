//! The sink pad: what is set for one camera.

use std::sync::LazyLock;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::SkipUnchanged;
use super::imp::rank;
use crate::ranked::{Guard, Ranked};

/// What the user chose for this camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Empty: made from the pad's number.
    pub camera_id: String,
    /// Frames skipped between two counted ones; -1 takes the element's.
    pub interval: i32,
    /// Empty: the element's.
    pub regions: String,
    /// Every count is multiplied by this.
    pub scale_factor: f64,
    /// Whether frames that do not differ from the last counted one keep its count.
    pub skip_unchanged: SkipUnchanged,
    /// Empty: that of the regions.
    pub input_scale: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            camera_id: String::new(),
            interval: -1,
            regions: String::new(),
            scale_factor: 1.0,
            skip_unchanged: SkipUnchanged::default(),
            input_scale: String::new(),
        }
    }
}

/// See [`super::VehicleCounterPad`].
#[derive(Default)]
pub struct VehicleCounterPad {
    settings: Ranked<Settings, { rank::LAST }>,
}

impl VehicleCounterPad {
    fn lock(&self) -> Guard<'_, Settings> {
        self.settings.lock()
    }

    /// A copy of the settings.
    pub fn settings(&self) -> Settings {
        self.lock().clone()
    }

    /// One of the settings that are read for every frame.
    pub fn interval(&self) -> i32 {
        self.lock().interval
    }

    /// As [`interval`](Self::interval); `None`: as the element says.
    pub fn skip_unchanged(&self) -> Option<bool> {
        match self.lock().skip_unchanged {
            SkipUnchanged::Element => None,
            SkipUnchanged::No => Some(false),
            SkipUnchanged::Yes => Some(true),
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for VehicleCounterPad {
    const NAME: &'static str = "GstVehicleCounterPad";
    type Type = super::VehicleCounterPad;
    type ParentType = gst::Pad;
}

impl ObjectImpl for VehicleCounterPad {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            vec![
                glib::ParamSpecString::builder("camera-id")
                    .nick("Camera id")
                    .blurb("Name of the camera in metadata and reports (empty: camera-N, N being the pad's number)")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("input-scale")
                    .nick("Input scale")
                    .blurb("How large this camera's pictures are shown to the network, with input-size=auto: small, normal, large, larger, or 256, 320, 384, 448, 512, 640, the side of a square of the input's area (empty: as its regions say, else normal, the size of input-size)")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecInt::builder("interval")
                    .nick("Interval")
                    .blurb("Frames skipped between two counted ones (-1: the element's interval)")
                    .minimum(-1)
                    .default_value(defaults.interval)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("regions")
                    .nick("Regions")
                    .blurb(
                        "Regions of this camera, as a JSON file's path or inline JSON (empty: the element's regions)",
                    )
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("scale-factor")
                    .nick("Scale factor")
                    .blurb("Every count of this camera is multiplied by this, to correct a known over- or under-count (1: as its regions say)")
                    .minimum(0.0)
                    .maximum(1000.0)
                    .default_value(defaults.scale_factor)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("skip-unchanged", defaults.skip_unchanged)
                    .nick("Skip unchanged frames")
                    .blurb("Frames of this camera that do not differ from the last counted one keep its count, marked confirmed")
                    .mutable_playing()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text =
            || value.get::<Option<String>>().expect("type checked upstream").unwrap_or_default();
        {
            let mut settings = self.lock();
            match pspec.name() {
                "camera-id" => settings.camera_id = text(),
                "input-scale" => settings.input_scale = text(),
                "interval" => settings.interval = value.get().expect("type checked upstream"),
                "regions" => settings.regions = text(),
                "skip-unchanged" => {
                    settings.skip_unchanged = value.get().expect("type checked upstream")
                }
                "scale-factor" => {
                    settings.scale_factor = value.get().expect("type checked upstream")
                }
                _ => unimplemented!("property {}", pspec.name()),
            }
        }
        // They are read for every frame: nothing else depends on them.
        if ["interval", "skip-unchanged"].contains(&pspec.name()) {
            return;
        }
        // A pad that is being made has no element yet; it is configured when it is added.
        if let Some(element) = self.obj().parent().and_downcast::<super::VehicleCounter>() {
            element.imp().configure_while_running();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.lock();
        match pspec.name() {
            "camera-id" => settings.camera_id.to_value(),
            "input-scale" => settings.input_scale.to_value(),
            "interval" => settings.interval.to_value(),
            "regions" => settings.regions.to_value(),
            "scale-factor" => settings.scale_factor.to_value(),
            "skip-unchanged" => settings.skip_unchanged.to_value(),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }
}

impl GstObjectImpl for VehicleCounterPad {}
impl PadImpl for VehicleCounterPad {}
