//! In which precision a network runs on a GPU.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{File, Model};

/// Precision of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The fastest of those below that counts what it must.
    #[default]
    Auto,
    /// All in f32, from the FP32 file.
    Fp32,
    /// All in FP16, from the FP32 file.
    Fp16,
    /// Convolutions in INT8, from the Q/DQ file, and the rest in FP16.
    Int8,
}

impl Precision {
    /// The name used in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }

    /// The file of `model` from which a plan of this precision is built: for `Auto`, that of the
    /// first of [`candidates`].
    pub fn file(self, model: &Model) -> Option<&File> {
        let of =
            |precision: &str| model.manifest.files.iter().find(|file| file.precision == precision);
        if let Some(chosen) = model.chosen_file() {
            let quantized = chosen.precision == "int8";
            return (self == Self::Auto || quantized == (self == Self::Int8)).then_some(chosen);
        }
        match self {
            Self::Int8 => of("int8"),
            Self::Fp32 | Self::Fp16 => of("fp32"),
            Self::Auto => of("int8").or_else(|| of("fp32")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Auto, Self::Fp32, Self::Fp16, Self::Int8]
            .into_iter()
            .find(|precision| precision.name() == name)
            .ok_or_else(|| format!("{name:?} is not one of auto, fp32, fp16 and int8"))
    }
}

/// The precisions that `auto` tries for `model`, the one expected to be the fastest first.
pub fn candidates(model: &Model) -> Vec<(Precision, &File)> {
    let all = [Precision::Int8, Precision::Fp16].into_iter();
    all.filter_map(|precision| Some((precision, precision.file(model)?))).collect()
}
