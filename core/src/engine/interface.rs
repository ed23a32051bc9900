//! What an engine is: the traits, and what it is asked for.

use std::sync::Arc;
use std::time::Duration;

use super::error::EngineError;
use super::info::EngineInfo;
use super::kind::{Device, EngineKind};
use super::picture::{Picture, RegionWeights};
use super::progress::ProgressSink;
use super::slot::{Input, Slot};
use crate::cuda::Context;
use crate::model::Model;
use crate::preprocess::InputSize;
use crate::region::Coverage;
use crate::tensorrt::Precision;

/// An opened model. Cheap to share; the work is done in its lanes.
pub trait Engine: Send + Sync {
    /// What it is and the shapes it takes.
    fn info(&self) -> &EngineInfo;

    /// A context of its own for one thread of work. `EngineInfo::lanes` of them at the same time
    /// give the best throughput.
    fn lane(&self) -> Result<Box<dyn Lane>, EngineError>;

    /// SHA-256 of the plan that was built of the model's file; `None` where the file itself is run.
    fn plan(&self) -> Option<&str> {
        None
    }

    /// Whether it takes inputs in whole levels ([`Input::Levels`]) at least as fast as others.
    fn takes_levels(&self) -> bool {
        false
    }

    /// Room for a picture, of an engine that preprocesses by itself; `None` where it takes inputs.
    fn picture(&self) -> Option<Picture> {
        None
    }

    /// Regions to count in on the engine's device, for [`Slot::weights`]; `None` where it leaves
    /// counting to others.
    fn weights(&self, _regions: &[Coverage]) -> Option<Result<Arc<RegionWeights>, EngineError>> {
        None
    }
}

/// One stream of work on an engine.
pub trait Lane: Send {
    /// Fills `output` of every slot from its `input`. Returns when all are done; on an error no
    /// output holds.
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError>;

    /// How long the last batch took on the device by the device's own clock, copies included;
    /// `None` where there is no such clock.
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
    /// Size of the input; `None` takes the manifest's, or that of a plan that was built by hand.
    pub input: Option<InputSize>,
    /// Largest number of slots in one call of [`Lane::infer`]; 0: what suits the engine's device
    /// ([`Device::batch_size`]).
    pub max_batch: usize,
    /// Index of the GPU, for engines that run on one.
    pub gpu: u32,
    /// The user's name for the engine; the scripted one is steered by it.
    pub name: String,
    /// In which precision it runs: `Auto` leaves that to the manifest on a processor, and to a
    /// trial on a GPU.
    pub precision: Precision,
    /// The CUDA context to work in, on GPU `gpu`; `None` for that GPU's primary one.
    pub context: Option<Arc<Context>>,
    /// Is told of what takes long, and may end it.
    pub watch: ProgressSink,
}

impl EngineRequest {
    /// One picture at a time, at the manifest's size, in the best precision, on the first GPU, with
    /// no name.
    pub fn new(kind: EngineKind, model: Arc<Model>) -> Self {
        let (precision, watch) = (Precision::Auto, ProgressSink::default());
        Self {
            kind,
            model,
            input: None,
            max_batch: 1,
            gpu: 0,
            name: String::new(),
            precision,
            context: None,
            watch,
        }
    }

    /// The same at another input size.
    #[must_use]
    pub fn at(self, input: InputSize) -> Self {
        Self { input: Some(input), ..self }
    }

    /// The same, on the engine that has opened and in the precision that it chose: for a further
    /// input size, whose counts must be of one kind with those of the first.
    #[must_use]
    pub fn as_opened(self, opened: &EngineInfo) -> Self {
        // On a processor the manifest says which file it is, whatever the size.
        let chosen = match opened.kind.device() {
            Some(Device::Gpu) => opened.precision.parse().ok(),
            _ => None,
        };
        Self { kind: opened.kind, precision: chosen.unwrap_or(self.precision), ..self }
    }

    /// The largest batch of an engine on `device`.
    pub fn batch_on(&self, device: Device) -> usize {
        if self.max_batch == 0 { device.batch_size() } else { self.max_batch }
    }
}

impl Slot {
    /// A slot for what `engine` prefers: pictures where it preprocesses, else preprocessed inputs.
    pub fn best_for(engine: &dyn Engine) -> Self {
        match engine.picture() {
            Some(picture) => Self::with(Input::Picture(picture), engine.info()),
            None => Self::preprocessed_for(engine),
        }
    }

    /// A slot for preprocessed inputs, in the numbers that `engine` prefers. Every engine takes it.
    pub fn preprocessed_for(engine: &dyn Engine) -> Self {
        let info = engine.info();
        match engine.takes_levels() {
            true => Self::with(Input::Levels(vec![0; info.input.values()]), info),
            false => Self::new(info),
        }
    }
}
