//! Which engine, and opening it: what the elements that run one have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use vehiclecount_core::batch::{BatchSettings, Dispatcher, SharedKey};
use vehiclecount_core::engine::{self, EngineError, EngineKind, EngineRequest};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputSize, Resize};

/// Batch size of `batch-size=0` on a GPU. On a processor a batch gains nothing: one frame at a time has the shortest way.
const GPU_BATCH: usize = 16;

/// What the user chose, by the names of the properties.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Empty: the model that ships.
    pub model: String,
    /// A TensorRT plan that was built by hand; empty: none.
    pub model_engine_file: String,
    /// Which engine.
    pub kind: EngineKind,
    /// The user's name for it.
    pub engine_id: String,
    /// WIDTHxHEIGHT; empty: the manifest's.
    pub input_size: String,
    /// 0: what suits the engine.
    pub batch_size: usize,
    /// How long a frame waits for its batch to fill.
    pub batched_push_timeout: Duration,
    /// Index of the GPU.
    pub gpu: u32,
}

/// An engine at work.
pub struct Opened {
    /// What frames are handed to.
    pub dispatcher: Arc<Dispatcher>,
    /// How pictures are fitted into the model's input.
    pub resize: Resize,
    /// Other elements had it open already.
    shared: bool,
    /// What `auto` would have preferred, and why it does not open.
    passed_over: Vec<(EngineKind, String)>,
}

impl Choice {
    /// Opens the engine, or joins elements that have it open.
    pub fn open(&self) -> Result<Opened, gst::ErrorMessage> {
        let unusable = |error: &dyn std::fmt::Display| gst::error_msg!(gst::ResourceError::Settings, ("{error}"));
        let model = if self.kind == EngineKind::Scripted && self.model.is_empty() {
            Model::scripted()
        } else {
            Model::open(&self.model, &model::folders()).map_err(|error| unusable(&error))?
        };
        let model = match self.model_engine_file.as_str() {
            "" => model,
            plan => model.with_plan(plan.into()),
        };
        let asked = parse_size(&self.input_size).map_err(|error| unusable(&error))?;
        let input = model.input_size(asked).map_err(|error| unusable(&error))?;
        let resize = model.manifest.input.resize;
        let key = SharedKey {
            engine_id: self.engine_id.clone(),
            kind: self.kind,
            model: model_path(&model),
            input: Some(input),
            gpu: self.gpu,
        };
        let request = EngineRequest {
            kind: self.kind,
            model: Arc::new(model),
            input: Some(input),
            max_batch: if self.batch_size == 0 { GPU_BATCH } else { self.batch_size },
            gpu: self.gpu,
            name: self.engine_id.clone(),
        };
        let mut passed_over = Vec::new();
        let (dispatcher, shared) = Dispatcher::shared(key, || {
            let opened = engine::open(&request)?;
            passed_over = opened.passed_over;
            let batch_size = match self.batch_size {
                0 if opened.engine.info().kind == EngineKind::TensorRt => GPU_BATCH,
                0 => 1,
                chosen => chosen,
            };
            Dispatcher::start(opened.engine, BatchSettings { batch_size, timeout: self.batched_push_timeout })
        })
        .map_err(|error: EngineError| gst::error_msg!(gst::LibraryError::Init, ("{error}")))?;
        Ok(Opened { dispatcher, resize, shared, passed_over })
    }
}

impl Opened {
    /// Says on the bus which engine `element` runs.
    pub fn announce(&self, element: &gst::Element) {
        let (info, settings) = (self.dispatcher.info(), self.dispatcher.settings());
        let passed: Vec<_> = self.passed_over.iter().map(|(kind, reason)| format!("{kind}: {reason}")).collect();
        if !passed.is_empty() {
            gst::element_info!(
                element,
                gst::LibraryError::Init,
                ("Counting with {} {} on {}; passed over: {}", info.kind, info.version, info.device, passed.join("; "))
            );
        }
        let message = gst::Structure::builder("vehiclecount-engine")
            .field("engine", info.kind.name())
            .field("version", &info.version)
            .field("device", &info.device)
            .field("model", &info.model)
            .field("precision", &info.precision)
            .field("input-width", info.input.width as u32)
            .field("input-height", info.input.height as u32)
            .field("batch-size", settings.batch_size as u32)
            .field("shared", self.shared)
            .field("passed-over", passed.join("; "))
            .build();
        let _ = element.post_message(gst::message::Element::builder(message).src(element).build());
    }
}

/// Tells models apart: where an `.onnx` file was named, by that file.
fn model_path(model: &Model) -> PathBuf {
    if let Some(plan) = model.plan() {
        return plan.canonicalize().unwrap_or_else(|_| plan.to_owned());
    }
    let folder = model.folder.canonicalize().unwrap_or_else(|_| model.folder.clone());
    folder.join(model.chosen_file().map_or(&model.manifest.name, |file| &file.file))
}

fn parse_size(text: &str) -> Result<Option<InputSize>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (width, height) = sides.ok_or_else(|| format!("input-size {text:?}: write WIDTHxHEIGHT, such as 384x384"))?;
    Ok(Some(InputSize { width, height }))
}
