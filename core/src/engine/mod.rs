//! What runs the network: one trait, and behind it OpenVINO, ONNX Runtime, TensorRT or a script.
//!
//! Engines on the processor take inputs that were preprocessed before; an engine on a GPU takes pictures, and does that itself ([`gpu`]).
//!
//! Every run-time library is opened when an engine is asked for, never when the program starts.

use std::fmt;
use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cuda::{Context, CudaError};
use crate::golden;
use crate::model::{File, Model};
use crate::preprocess::InputSize;
use crate::region::Coverage;
use crate::tensorrt::{Precision, TensorRtError};

pub mod gpu;
pub mod library;
mod onnxruntime;
mod openvino;
pub mod scripted;
mod slot;
mod tensorrt;
mod watch;

pub use slot::{Input, Output, Slot};
pub use watch::Watch;

/// The engines that can be asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The fastest that opens.
    #[default]
    Auto,
    /// OpenVINO: the fastest on x86-64 processors.
    OpenVino,
    /// ONNX Runtime: any processor.
    OnnxRuntime,
    /// TensorRT: NVIDIA GPUs.
    TensorRt,
    /// No network: each cell's density is the mean of its red samples. For tests.
    Scripted,
}

impl EngineKind {
    /// Those that run networks.
    pub const NETWORKS: [Self; 3] = [Self::TensorRt, Self::OpenVino, Self::OnnxRuntime];

    /// The name used in properties, manifests and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OpenVino => "openvino",
            Self::OnnxRuntime => "onnxruntime",
            Self::TensorRt => "tensorrt",
            Self::Scripted => "scripted",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        [Self::Auto, Self::OpenVino, Self::OnnxRuntime, Self::TensorRt, Self::Scripted]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| EngineError::UnknownKind { name: name.to_owned() })
    }
}

/// What an engine that has opened says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Which engine it is; never `Auto`.
    pub kind: EngineKind,
    /// Version of the run-time library, such as "2026.4.1".
    pub version: String,
    /// What it runs on, in words, such as "CPU, 2 threads".
    pub device: String,
    /// Name of the model.
    pub model: String,
    /// Precision of the model file: "fp32", "fp16" or "int8".
    pub precision: String,
    /// Why that one, where several were tried: what each takes, or why it cannot be used.
    pub choice: Option<String>,
    /// Size of the model's input.
    pub input: InputSize,
    /// Cells in a row of the density grid.
    pub columns: usize,
    /// Rows of the density grid.
    pub rows: usize,
    /// Number of lanes that it runs best at the same time, at least 1.
    pub lanes: usize,
}

/// An opened model. Cheap to share; the work is done in its lanes.
pub trait Engine: Send + Sync {
    /// What it is and the shapes it takes.
    fn info(&self) -> &EngineInfo;

    /// A context of its own for one thread of work. `EngineInfo::lanes` of them at the same time give the best throughput.
    fn lane(&self) -> Result<Box<dyn Lane>, EngineError>;

    /// SHA-256 of the plan that was built of the model's file; `None` where the file itself is run.
    fn plan(&self) -> Option<&str> {
        None
    }

    /// Room for a picture, of an engine that preprocesses by itself; `None` where it takes inputs.
    fn picture(&self) -> Option<gpu::Picture> {
        None
    }

    /// Regions to count in on the engine's device, for [`Slot::weights`]; `None` where it leaves counting to others.
    fn weights(&self, _regions: &[Coverage]) -> Option<Result<Arc<gpu::RegionWeights>, EngineError>> {
        None
    }
}

/// One stream of work on an engine.
pub trait Lane: Send {
    /// Fills `output` of every slot from its `input`. Returns when all are done; on an error no output holds.
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError>;

    /// How long the last batch took on the device by the device's own clock, copies included; `None` where there is no such clock.
    fn device_time(&self) -> Option<Duration> {
        None
    }
}

/// What is asked for when an engine is opened.
#[derive(Clone, Debug)]
pub struct EngineRequest {
    /// Which engine.
    pub kind: EngineKind,
    /// Which model.
    pub model: Arc<Model>,
    /// Size of the input; `None` takes the manifest's.
    pub input: Option<InputSize>,
    /// Largest number of slots in one call of [`Lane::infer`].
    pub max_batch: usize,
    /// Index of the GPU, for engines that run on one.
    pub gpu: u32,
    /// The user's name for the engine; the scripted one is steered by it.
    pub name: String,
    /// In which precision it runs: `Auto` leaves that to the manifest on a processor, and to a trial on a GPU.
    pub precision: Precision,
    /// The CUDA context to work in, on GPU `gpu`; `None` for that GPU's primary one.
    pub context: Option<Arc<Context>>,
    /// Is told of what takes long, and may end it.
    pub watch: Watch,
}

impl EngineRequest {
    /// One picture at a time, at the manifest's size, in the best precision, on the first GPU, with no name.
    pub fn new(kind: EngineKind, model: Arc<Model>) -> Self {
        let (precision, watch) = (Precision::Auto, Watch::default());
        Self { kind, model, input: None, max_batch: 1, gpu: 0, name: String::new(), precision, context: None, watch }
    }
}

/// Why an engine could not open or could not infer.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    /// No engine has that name.
    #[error("no engine is called {name:?}: it is one of auto, openvino, onnxruntime, tensorrt and scripted")]
    UnknownKind {
        /// The name asked for.
        name: String,
    },
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
    #[error("engine {kind}: model {model} has no file for it; its manifest lists files for {listed}")]
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
    TensorRt(crate::tensorrt::TensorRtError),
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
    /// `auto` found none that opens.
    #[error("no engine opens: {tried}")]
    None {
        /// Each engine tried and its reason.
        tried: String,
    },
}

impl EngineError {
    /// Whether what the engine runs on is not on this machine: its library, the driver, a GPU. Another engine may open.
    pub fn is_absence(&self) -> bool {
        use crate::tensorrt::TensorRtError as Rt;
        let cuda = |error: &CudaError| {
            matches!(
                error,
                CudaError::NoDriver { .. } | CudaError::OldDriver { .. } | CudaError::Init { .. } | CudaError::NoDevice
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

/// An engine that has opened.
pub struct Opened {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// What `auto` would have preferred, and why it did not open.
    pub passed_over: Vec<(EngineKind, String)>,
}

/// What `auto` tries, the fastest first, as measured on x86-64 (docs/engines.md); elsewhere the portable one comes before OpenVINO.
const PREFERENCE: [EngineKind; 3] = if cfg!(target_arch = "x86_64") {
    EngineKind::NETWORKS
} else {
    [EngineKind::TensorRt, EngineKind::OnnxRuntime, EngineKind::OpenVino]
};

/// Processors that this process may use: its affinity and its container's share.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// What an engine on the processor says that it runs on.
fn device(lanes: usize) -> String {
    if lanes == 1 { "CPU, 1 thread".to_owned() } else { format!("CPU, {lanes} threads") }
}

/// Opens the engine asked for. `auto` opens the fastest that does open, and tells why faster ones were passed over.
pub fn open(request: &EngineRequest) -> Result<Opened, EngineError> {
    if request.kind != EngineKind::Auto {
        return Ok(Opened { engine: open_one(request, request.kind)?, passed_over: Vec::new() });
    }
    let mut passed_over = Vec::new();
    for kind in PREFERENCE {
        match open_one(request, kind) {
            Ok(engine) => return Ok(Opened { engine, passed_over }),
            // Nobody wants an engine any more.
            Err(error @ EngineError::TensorRt(TensorRtError::Ended)) => return Err(error),
            Err(error) => passed_over.push((kind, error.to_string())),
        }
    }
    let tried: Vec<_> = passed_over.into_iter().map(|(_, reason)| reason).collect();
    Err(EngineError::None { tried: tried.join("; ") })
}

/// Opens one engine, and sees once on a machine that it counts what the model is known to count ([`crate::golden`]).
fn open_one(request: &EngineRequest, kind: EngineKind) -> Result<Arc<dyn Engine>, EngineError> {
    contain(kind, "opening it", || {
        let engine = open_unchecked(request, kind)?;
        let reopen = |request: &EngineRequest| open_unchecked(request, kind);
        // Another plan for a GPU takes minutes to build.
        golden::check_once(request, &*engine, (kind != EngineKind::TensorRt).then_some(&reopen))?;
        Ok(engine)
    })
}

/// Makes an error of a panic in `code`, which is `what` of the engine `kind`. State that it may have left half-made must not be used again.
pub(crate) fn contain<T>(
    kind: EngineKind,
    what: &'static str,
    code: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    panic::catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(EngineError::Panicked { kind, what, reason: text.unwrap_or_else(|| "no message".to_owned()) })
    })
}

/// Opens the engine `kind` without a look at the golden picture: for those that compare it themselves.
pub fn open_unchecked(request: &EngineRequest, kind: EngineKind) -> Result<Arc<dyn Engine>, EngineError> {
    match kind {
        EngineKind::Scripted if request.precision != Precision::Auto => Err(EngineError::Precision {
            kind,
            model: request.model.manifest.name.clone(),
            precision: request.precision,
            remedy: "it runs no network: leave precision at auto".to_owned(),
        }),
        EngineKind::Scripted => scripted::open(request),
        EngineKind::OpenVino => openvino::open(request, file_for(request, kind)?),
        EngineKind::OnnxRuntime => onnxruntime::open(request, file_for(request, kind)?),
        EngineKind::TensorRt => tensorrt::open(request),
        EngineKind::Auto => open(request).map(|opened| opened.engine),
    }
}

/// The file of the model that an engine which says `info` of itself runs.
pub(crate) fn file_of<'a>(model: &'a Model, info: &EngineInfo) -> Option<&'a File> {
    let own = match info.kind {
        EngineKind::TensorRt => info.precision.parse::<Precision>().ok().and_then(|precision| precision.file(model)),
        kind => model.file_in(kind, &info.precision),
    };
    own.or_else(|| model.file_for(info.kind))
}

/// The file of the model that `kind` takes, checked against its manifest.
fn file_for(request: &EngineRequest, kind: EngineKind) -> Result<&File, EngineError> {
    let model = &request.model;
    if request.precision != Precision::Auto && model.file_in(kind, request.precision.name()).is_none() {
        let has = |precision: &Precision| model.file_in(kind, precision.name()).is_some();
        let all = [Precision::Int8, Precision::Fp16, Precision::Fp32];
        let offered: Vec<_> = all.iter().filter(|precision| has(precision)).map(|precision| precision.name()).collect();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(" and ") };
        return Err(EngineError::Precision {
            kind,
            model: model.manifest.name.clone(),
            precision: request.precision,
            remedy: format!(
                "its manifest has files for {kind} in {offered}; precision=auto takes the best of them, and engine=tensorrt makes every precision itself"
            ),
        });
    }
    let asked = match request.precision {
        Precision::Auto => model.file_for(kind),
        precision => model.file_in(kind, precision.name()),
    };
    let file = asked.ok_or_else(|| {
        let mut listed: Vec<_> =
            model.manifest.files.iter().flat_map(|file| &file.engines).map(|kind| kind.name()).collect();
        listed.sort_unstable();
        listed.dedup();
        EngineError::NoFile { kind, model: model.manifest.name.clone(), listed: listed.join(", ") }
    })?;
    model.verify_once(file).map_err(|error| EngineError::Model { kind, reason: error.to_string() })?;
    Ok(file)
}
