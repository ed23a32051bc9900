//! SECTION:element-vehicletestsrc
//!
//! A simulated traffic camera: roads from five viewpoints by day, by night and in rain, with the
//! true number of vehicles and their boxes on every frame as
//! [`VehicleTruthMeta`](crate::meta::truth). The same properties give the same frames.
//!
//! ```sh
//! gst-launch-1.0 vehicletestsrc viewpoint=junction weather=night seed=7 ! videoconvert ! autovideosink
//! ```

use gst::prelude::*;
use vehiclecount_core::scene;

mod imp;

glib::wrapper! {
    /// The element `vehicletestsrc`.
    pub struct VehicleTestSrc(ObjectSubclass<imp::VehicleTestSrc>) @extends gst_base::BaseSrc, gst::Element, gst::Object;
}

/// The property `viewpoint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleTestSrcViewpoint")]
#[allow(missing_docs)]
pub enum Viewpoint {
    #[default]
    #[enum_value(name = "A motorway from a bridge", nick = "highway")]
    Highway,
    #[enum_value(name = "A crossroads with traffic lights, from a mast", nick = "junction")]
    Junction,
    #[enum_value(name = "Straight down from a drone", nick = "top-down")]
    TopDown,
    #[enum_value(name = "Across a road from its side", nick = "roadside")]
    Roadside,
    #[enum_value(name = "A city street with parked cars", nick = "street")]
    Street,
}

impl From<Viewpoint> for scene::Viewpoint {
    fn from(viewpoint: Viewpoint) -> Self {
        match viewpoint {
            Viewpoint::Highway => Self::Highway,
            Viewpoint::Junction => Self::Junction,
            Viewpoint::TopDown => Self::TopDown,
            Viewpoint::Roadside => Self::Roadside,
            Viewpoint::Street => Self::Street,
        }
    }
}

/// The property `weather`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleTestSrcWeather")]
#[allow(missing_docs)]
pub enum Weather {
    #[default]
    #[enum_value(name = "A clear day", nick = "day")]
    Day,
    #[enum_value(name = "Night, with lamps", nick = "night")]
    Night,
    #[enum_value(name = "Rain", nick = "rain")]
    Rain,
}

impl From<Weather> for scene::Weather {
    fn from(weather: Weather) -> Self {
        match weather {
            Weather::Day => Self::Day,
            Weather::Night => Self::Night,
            Weather::Rain => Self::Rain,
        }
    }
}

/// Makes the element known to GStreamer.
pub fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    Viewpoint::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    Weather::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(plugin, "vehicletestsrc", gst::Rank::NONE, VehicleTestSrc::static_type())
}
