//! How closely a region is looked at.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The largest enlargement that can be asked for.
pub const MAX_DETAIL: f64 = 8.0;

/// The enlargement that `"detail": true` asks for.
const DEFAULT_DETAIL: f64 = 4.0;

/// How many times larger than in the whole picture a region is shown to the network at most; never
/// larger than the picture itself has it (native scale). In JSON `false`, `true` (4 times at most)
/// or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Detail {
    /// It is counted in the whole picture alone.
    #[default]
    Off,
    /// Up to the default enlargement.
    On,
    /// Up to this enlargement.
    Times(f64),
}

impl Detail {
    /// Whether the region has no look of its own.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }

    /// The largest enlargement; `None` where none is asked for.
    pub fn factor(self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::On => Some(DEFAULT_DETAIL),
            Self::Times(factor) => Some(factor),
        }
    }

    /// What is wrong with it.
    pub(super) fn fault(self) -> Option<String> {
        match self {
            Self::Times(factor) if !(factor > 1.0 && factor <= MAX_DETAIL) => {
                Some(format!("detail is {factor}"))
            }
            _ => None,
        }
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Off => serializer.serialize_bool(false),
            Self::On => serializer.serialize_bool(true),
            Self::Times(factor) => serializer.serialize_f64(factor),
        }
    }
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl Visitor<'_> for Form {
            type Value = Detail;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "detail to be true, false or a number above 1 and at most {MAX_DETAIL}")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Detail, E> {
                Ok(if on { Detail::On } else { Detail::Off })
            }

            fn visit_f64<E: de::Error>(self, factor: f64) -> Result<Detail, E> {
                Ok(Detail::Times(factor))
            }

            fn visit_i64<E: de::Error>(self, factor: i64) -> Result<Detail, E> {
                Ok(Detail::Times(factor as f64))
            }

            fn visit_u64<E: de::Error>(self, factor: u64) -> Result<Detail, E> {
                Ok(Detail::Times(factor as f64))
            }
        }

        deserializer.deserialize_any(Form)
    }
}
