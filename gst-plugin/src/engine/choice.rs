//! The enumerations of the properties `engine`, `precision` and `preset`.

use gst::prelude::*;
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::preset::Preset;
use vehiclecount_core::tensorrt::Precision;

macro_rules! choices {
    ($($kind:ident = $number:tt, $module:ident, $name:tt, $device:ident, $runs:ident,
        $title:tt;)*) => {
        /// The property `engine`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
        #[enum_type(name = "GstVehicleCountEngine")]
        pub enum EngineChoice {
            /// The fastest that opens.
            #[default]
            #[enum_value(name = "The fastest that opens", nick = "auto")]
            Auto = 0,
            $(
                #[doc = concat!($title, ".")]
                #[enum_value(name = $title, nick = $name)]
                $kind = $number,
            )*
        }

        impl From<EngineChoice> for EngineKind {
            fn from(choice: EngineChoice) -> Self {
                match choice {
                    EngineChoice::Auto => Self::Auto,
                    $(EngineChoice::$kind => Self::$kind,)*
                }
            }
        }
    };
}

vehiclecount_core::engines!(choices);

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

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => Self::Auto,
            Precision::Fp32 => Self::Fp32,
            Precision::Fp16 => Self::Fp16,
            Precision::Int8 => Self::Int8,
        }
    }
}

/// The property `preset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVehicleCountPreset")]
pub enum PresetChoice {
    /// None.
    #[default]
    #[enum_value(name = "None: every property is as it is set", nick = "none")]
    None,
    /// See [`Preset::HighestFps`].
    #[enum_value(name = "The most images a second", nick = "highest-fps")]
    HighestFps,
    /// See [`Preset::LowestLatency`].
    #[enum_value(name = "The shortest time from a frame to its count", nick = "lowest-latency")]
    LowestLatency,
    /// See [`Preset::Edge`].
    #[enum_value(name = "A small machine: the smallest file, and little memory", nick = "edge")]
    Edge,
    /// See [`Preset::Server`].
    #[enum_value(
        name = "Many cameras: many images a second at little more than the least error",
        nick = "server"
    )]
    Server,
    /// See [`Preset::Accuracy`].
    #[enum_value(name = "The least error, however slow", nick = "accuracy")]
    Accuracy,
}

impl From<PresetChoice> for Option<Preset> {
    fn from(choice: PresetChoice) -> Self {
        Some(match choice {
            PresetChoice::None => return None,
            PresetChoice::HighestFps => Preset::HighestFps,
            PresetChoice::LowestLatency => Preset::LowestLatency,
            PresetChoice::Edge => Preset::Edge,
            PresetChoice::Server => Preset::Server,
            PresetChoice::Accuracy => Preset::Accuracy,
        })
    }
}

/// Makes the enumerations part of the plugin's documented interface.
pub fn register() {
    EngineChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    PresetChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    PrecisionChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
}

#[cfg(test)]
mod tests {
    use vehiclecount_core::engine::ENGINES;

    use super::*;

    #[test]
    fn property_offers_every_engine_of_the_table_under_its_name() {
        let class = glib::EnumClass::new::<EngineChoice>();
        let kinds = [EngineKind::Auto].into_iter().chain(ENGINES.map(|entry| entry.kind));
        for kind in kinds.clone() {
            let value = class.value_by_nick(kind.name()).expect("a value for each engine");
            assert_eq!(value.name(), kind.title());
            let choice: EngineChoice =
                class.to_value(value.value()).expect("a value").get().expect("its type");
            assert_eq!(EngineKind::from(choice), kind);
        }
        assert_eq!(class.values().len(), kinds.count());
    }

    #[test]
    fn property_offers_every_preset_under_its_name() {
        let class = glib::EnumClass::new::<PresetChoice>();
        for preset in Preset::ALL {
            let value = class.value_by_nick(preset.name()).expect("a value for each preset");
            assert_eq!(value.name(), preset.title());
            let choice: PresetChoice =
                class.to_value(value.value()).expect("a value").get().expect("its type");
            assert_eq!(Option::from(choice), Some(preset));
        }
        assert_eq!(class.values().len(), Preset::ALL.len() + 1);
        assert_eq!(Option::<Preset>::from(PresetChoice::default()), None);
    }
}
