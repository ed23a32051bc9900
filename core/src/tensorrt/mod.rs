//! TensorRT and TensorRT-RTX, opened at run time, behind a small safe interface: a library, the
//! plans (built networks) that it loads and builds, and the contexts in which a plan runs.
//!
//! TensorRT's own interface is C++ classes. The shim in `shim/` makes C functions of the few calls
//! that are needed, compiled once for each ABI family (TensorRT 10, TensorRT 11, TensorRT-RTX from
//! 1.5 on) whose headers were at hand. A library of another family is refused before its first
//! call.
//!
//! Nothing here allocates on the GPU but TensorRT itself, and nothing here makes a CUDA context
//! current: before [`Library::load`], [`Plan::context`], [`Context::enqueue`] and the drop of
//! either, and before [`Library::build`] of TensorRT (not RTX), the caller makes the right one
//! current in its thread.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod builder;
pub mod cache;
mod choice;
mod ffi;
mod files;
pub mod half;
mod library;
mod log;
mod onnx;
mod plan;
mod precision;

pub use builder::{Build, BuildOutput, Progress};
pub use choice::{PrecisionTrials, Purpose, Trial, choose};
pub(crate) use files::short_digest;
pub use library::{Library, Version, headers};
pub(crate) use log::tell;
pub use log::{Severity, listen};
pub use plan::{Context, Plan};
pub use precision::{Precision, candidates};

/// Which of NVIDIA's two libraries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// TensorRT, else TensorRT-RTX.
    #[default]
    Auto,
    /// TensorRT 10 or 11: any GPU, plans for the GPU that they are built on.
    #[serde(rename = "tensorrt")]
    TensorRt,
    /// TensorRT-RTX: GeForce RTX and RTX workstations; its plans are built anywhere.
    #[serde(rename = "tensorrt-rtx")]
    TensorRtRtx,
}

impl Flavour {
    /// The name used in options and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::TensorRt => "tensorrt",
            Self::TensorRtRtx => "tensorrt-rtx",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "TensorRT or TensorRT-RTX",
            Self::TensorRt => "TensorRT",
            Self::TensorRtRtx => "TensorRT-RTX",
        })
    }
}

impl FromStr for Flavour {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Auto, Self::TensorRt, Self::TensorRtRtx]
            .into_iter()
            .find(|flavour| flavour.name() == name)
            .ok_or_else(|| format!("{name:?} is not one of auto, tensorrt and tensorrt-rtx"))
    }
}

/// Why TensorRT cannot be used, or would not do something.
#[derive(Clone, Debug, Error)]
pub enum TensorRtError {
    /// No driver, no GPU, or a GPU that does not do what it must.
    #[error("{0}")]
    Cuda(#[from] crate::cuda::CudaError),
    /// This program was built without TensorRT's headers.
    #[error(
        "built without the headers of {wanted} (with those of {built}): build again with TENSORRT_INCLUDE_DIR naming the folder that holds its NvInfer.h"
    )]
    NoHeaders {
        /// What is needed.
        wanted: String,
        /// What was built in.
        built: String,
    },
    /// The library is not there.
    #[error("{library} was not found (looked in {looked}); {remedy}")]
    NoLibrary {
        /// File names looked for.
        library: String,
        /// The places searched.
        looked: String,
        /// What to do.
        remedy: String,
    },
    /// The library is there, and unusable.
    #[error("cannot open {path}: {reason}; install {flavour} again")]
    Broken {
        /// The library's file.
        path: String,
        /// Which one it is.
        flavour: Flavour,
        /// What is wrong.
        reason: String,
    },
    /// A library of another ABI family than those supported.
    #[error(
        "{path} is {found}, where {wanted} is needed: install that, or build this program with its headers"
    )]
    Mismatch {
        /// The library's file.
        path: String,
        /// Name and version of the library.
        found: String,
        /// What is supported.
        wanted: String,
    },
    /// Neither library opens.
    #[error("{tensorrt}; and {rtx}")]
    Neither {
        /// Why TensorRT does not.
        tensorrt: Box<TensorRtError>,
        /// Why TensorRT-RTX does not.
        rtx: Box<TensorRtError>,
    },
    /// A plan that does not load.
    #[error("the library ({library}) does not load the plan: {reason}")]
    Load {
        /// Name and version of the library.
        library: String,
        /// What it said.
        reason: String,
    },
    /// A plan that is not a density network's.
    #[error("the plan has {what}, where {expected} is needed")]
    Shape {
        /// What it has.
        what: String,
        /// What a density network has.
        expected: String,
    },
    /// A network that does not build.
    #[error("{library} builds no plan: {reason}")]
    Build {
        /// Name and version of the library.
        library: String,
        /// What it said.
        reason: String,
    },
    /// A file that cannot be read, or is not what it must be.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model has no file that TensorRT takes.
    #[error(
        "the model has no file of that precision: its manifest must list an fp32 or an int8 one"
    )]
    NothingToBuild,
    /// The model has no file of that precision.
    #[error(
        "{model} has no file to build precision={precision} of: its manifest lists {listed}; int8 needs one of int8 (engines/quantize.py makes it), fp16 and fp32 need one of fp32"
    )]
    NoFile {
        /// The model.
        model: String,
        /// What was asked for.
        precision: Precision,
        /// What there is.
        listed: String,
    },
    /// A plan that was built by hand, and a precision.
    #[error("the plan {plan} is of the precision that it was built in: leave precision at auto")]
    PlanPrecision {
        /// The plan.
        plan: String,
    },
    /// The build was ended by the progress sink.
    #[error("the build was ended")]
    Ended,
    /// No context, or a context that refuses its work.
    #[error("{library}: {reason}")]
    Run {
        /// Name and version of the library.
        library: String,
        /// What it said.
        reason: String,
    },
}
