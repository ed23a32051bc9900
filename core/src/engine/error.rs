//! Why an engine does not open or does not infer.

use std::panic::{self, AssertUnwindSafe};

use thiserror::Error;

use super::kind::EngineKind;
use crate::cuda::CudaError;
use crate::tensorrt::{Precision, TensorRtError};

/// Why an engine could not open or could not infer.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    /// The run-time library is not there.
    #[error("engine {kind}: {library} was not found (looked in {looked}); {remedy}")]
    Library {
        /// The engine.
        kind: EngineKind,
        /// The library's file name.
        library: String,
        /// The places searched.
        looked: String,
        /// What to do.
        remedy: String,
    },
    /// The model has no file for this engine.
    #[error(
        "engine {kind}: model {model} has no file for it; its manifest lists files for {listed}"
    )]
    NoFile {
        /// The engine.
        kind: EngineKind,
        /// The model.
        model: String,
        /// The engines that the manifest lists.
        listed: String,
    },
    /// The engine does not run the model in that precision.
    #[error("engine {kind}: it does not run {model} in {precision}: {remedy}")]
    Precision {
        /// The engine.
        kind: EngineKind,
        /// The model.
        model: String,
        /// What was asked for.
        precision: Precision,
        /// What there is.
        remedy: String,
    },
    /// The library refused the model.
    #[error("engine {kind}: cannot open {file}: {reason}")]
    Open {
        /// The engine.
        kind: EngineKind,
        /// The model's file.
        file: String,
        /// What the library said.
        reason: String,
    },
    /// The model's shapes are not those of a density model.
    #[error("engine {kind}: {file} has {what}, where {expected} is needed")]
    Shape {
        /// The engine.
        kind: EngineKind,
        /// The model's file.
        file: String,
        /// What it has.
        what: String,
        /// What a density model has.
        expected: String,
    },
    /// Inference failed.
    #[error("engine {kind}: inference failed: {reason}")]
    Infer {
        /// The engine.
        kind: EngineKind,
        /// What the library said.
        reason: String,
    },
    /// Code of the engine panicked. It is contained: the batch fails, and the lane is replaced.
    #[error(
        "engine {kind}: {what} panicked: {reason}; this is a fault of the program or of the engine's library: report it with what the program printed, or take another engine"
    )]
    Panicked {
        /// The engine.
        kind: EngineKind,
        /// What panicked.
        what: &'static str,
        /// The panic's message.
        reason: String,
    },
    /// TensorRT cannot be used, or would not do something.
    #[error("engine tensorrt: {0}")]
    TensorRt(TensorRtError),
    /// The GPU or its driver.
    #[error("engine {kind}: {error}")]
    Gpu {
        /// The engine.
        kind: EngineKind,
        /// What is wrong, with the remedy.
        error: CudaError,
    },
    /// The engine does not count what the model is known to count.
    #[error(
        "engine {kind}: {file} fails its golden picture: {what}; take another engine, or install the library and the model again (`vehicle-count engine verify` compares all engines)"
    )]
    Golden {
        /// The engine.
        kind: EngineKind,
        /// The model's file.
        file: String,
        /// What it does, and what was expected.
        what: String,
    },
    /// The model's file is damaged or another one.
    #[error("engine {kind}: {reason}")]
    Model {
        /// The engine.
        kind: EngineKind,
        /// What is wrong with the file.
        reason: String,
    },
    /// The opening was ended by the one that asked for it.
    #[error("the opening of the engine was ended")]
    Ended,
    /// `auto` found none that opens.
    #[error("no engine opens: {tried}")]
    None {
        /// Each engine tried and its reason.
        tried: String,
    },
}

impl EngineError {
    /// Whether what the engine runs on is not on this machine: its library, the driver, a GPU.
    /// Another engine may open.
    pub fn is_absence(&self) -> bool {
        use TensorRtError as Rt;
        let cuda = |error: &CudaError| {
            matches!(
                error,
                CudaError::NoDriver { .. }
                    | CudaError::OldDriver { .. }
                    | CudaError::Init { .. }
                    | CudaError::NoDevice
            )
        };
        match self {
            Self::Library { .. } => true,
            Self::Gpu { error, .. } | Self::TensorRt(Rt::Cuda(error)) => cuda(error),
            Self::TensorRt(error) => {
                matches!(error, Rt::NoHeaders { .. } | Rt::NoLibrary { .. } | Rt::Neither { .. })
            }
            _ => false,
        }
    }
}

impl From<TensorRtError> for EngineError {
    fn from(error: TensorRtError) -> Self {
        match error {
            TensorRtError::Ended => Self::Ended,
            error => Self::TensorRt(error),
        }
    }
}

/// Makes an error of a panic in `code`, which is `what` of the engine `kind`. State that it may
/// have left half-made must not be used again.
pub(crate) fn contain<T>(
    kind: EngineKind,
    what: &'static str,
    code: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    panic::catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(EngineError::Panicked {
            kind,
            what,
            reason: text.unwrap_or_else(|| "no message".to_owned()),
        })
    })
}
