//! Which engine, and opening it: what the elements that run one have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use vehiclecount_core::batch::{BatchSettings, Dispatcher, Reopen, SharedKey};
use vehiclecount_core::cuda::Context;
use vehiclecount_core::engine::{
    self, Device, EngineInfo, EngineKind, EngineRequest, ProgressSink,
};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputChoice, InputScale, Resize};

use super::choice::{EngineChoice, PrecisionChoice, PresetChoice};
use super::explicit::ExplicitProperties;
use super::progress::{self, Start};

const INPUT_SIZE: &str = "Size of the model's input in pixels: auto (the size that fits each camera's aspect ratio, of about \
     the area of the manifest's), auto:SIDE (of the area of another square), or WIDTHxHEIGHT (for every camera)";

const PRESET: &str = "The need for which model, input-size, precision, batch size and timeouts are chosen for this machine, at the \
     start; a property that is set keeps its value";

/// What the user chose: the settings of the properties that such elements share.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// For which need the rest is chosen where it is not set.
    pub preset: PresetChoice,
    /// What was set.
    pub explicit: ExplicitProperties,
    /// Empty: the model that ships.
    pub model: String,
    /// A TensorRT plan that was built by hand; empty: none.
    pub model_engine_file: String,
    /// Which engine.
    pub engine: EngineChoice,
    /// The user's name for it.
    pub engine_id: String,
    /// As [`InputChoice`] is written.
    pub input_size: String,
    /// 0: what suits the engine.
    pub batch_size: u32,
    /// How long a frame waits for its batch to fill.
    pub batched_push_timeout: Duration,
    /// Index of the GPU.
    pub gpu: u32,
    /// In which precision.
    pub precision: PrecisionChoice,
    /// The CUDA context to work in, where the application or another element has one; `None`: that
    /// of the GPU.
    pub context: Option<Arc<Context>>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            preset: PresetChoice::default(),
            explicit: ExplicitProperties::default(),
            model: String::new(),
            model_engine_file: String::new(),
            engine: EngineChoice::default(),
            engine_id: String::new(),
            input_size: InputChoice::default().to_string(),
            batch_size: 0,
            batched_push_timeout: Duration::ZERO,
            gpu: 0,
            precision: PrecisionChoice::default(),
            context: None,
        }
    }
}

/// An engine at work.
pub struct OpenedEngine {
    /// What frames are handed to.
    pub dispatcher: Arc<Dispatcher>,
    /// How pictures are fitted into the model's input.
    pub resize: Resize,
    /// Other elements had it open already.
    shared: bool,
    /// How batches were to be made; a `batch_size` of 0 left it to the engine.
    asked: BatchSettings,
    /// What `auto` would have preferred, and why it does not open.
    passed_over: Vec<(EngineKind, String)>,
}

impl EngineSettings {
    /// The properties, but for `batch-size` and `batched-push-timeout`, as elements mean different
    /// batches by them. Their descriptions end in `remark`.
    pub fn properties(remark: &str) -> Vec<glib::ParamSpec> {
        let defaults = Self::default();
        let text = |name, nick, blurb: &str| {
            let blurb = format!("{blurb}{remark}");
            glib::ParamSpecString::builder(name).nick(nick).blurb(&blurb).mutable_ready().build()
        };
        vec![
            glib::ParamSpecEnum::builder_with_default("preset", defaults.preset)
                .nick("Preset")
                .blurb(&format!("{PRESET}{remark}"))
                .mutable_ready()
                .build(),
            text(
                "model",
                "Model",
                "Name of an installed model, its manifest (.json), or an .onnx file or a TensorRT plan (.plan, .engine) beside its manifest (empty: mobilenetv3-large)",
            ),
            text(
                "model-engine-file",
                "Model engine file",
                "TensorRT plan of the model, built by hand, to run as it is (empty: one is built when it is first needed, and kept)",
            ),
            glib::ParamSpecEnum::builder_with_default("engine", defaults.engine)
                .nick("Engine")
                .blurb(&format!("What runs the model{remark}"))
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("precision", defaults.precision)
                .nick("Precision")
                .blurb(&format!(
                    "In what the model runs: TensorRT makes each, other engines have what the manifest lists{remark}"
                ))
                .mutable_ready()
                .build(),
            text(
                "engine-id",
                "Engine id",
                "Elements of one process with the same model, engine, precision, input size, GPU and engine id share one engine",
            ),
            glib::ParamSpecString::builder("input-size")
                .nick("Input size")
                .blurb(&format!("{INPUT_SIZE}{remark}"))
                .default_value(Some(defaults.input_size.as_str()))
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("gpu-id")
                .nick("GPU id")
                .blurb(&format!("Index of the GPU, for engines that run on one{remark}"))
                .default_value(defaults.gpu)
                .mutable_ready()
                .build(),
        ]
    }

    /// Whether the engine may run on a GPU.
    pub fn may_use_gpu(&self) -> bool {
        EngineKind::from(self.engine).device() != Some(Device::Cpu)
    }

    /// Takes a property's value. `false` where the property is none of these.
    pub fn set(&mut self, property: &str, value: &glib::Value) -> bool {
        const TYPED: &str = "type checked upstream";
        let text = || value.get::<Option<String>>().expect(TYPED).unwrap_or_default();
        self.explicit.add(property);
        match property {
            "preset" => {
                self.preset = value.get().expect(TYPED);
                self.reset_chosen();
            }
            "model" => self.model = text(),
            "model-engine-file" => self.model_engine_file = text(),
            "engine" => self.engine = value.get().expect(TYPED),
            "engine-id" => self.engine_id = text(),
            "input-size" => self.input_size = text(),
            "batch-size" => self.batch_size = value.get().expect(TYPED),
            "batched-push-timeout" => {
                let microseconds = value.get::<u32>().expect(TYPED);
                self.batched_push_timeout = Duration::from_micros(microseconds.into());
            }
            "gpu-id" => self.gpu = value.get().expect(TYPED),
            "precision" => self.precision = value.get().expect(TYPED),
            _ => return false,
        }
        true
    }

    /// A property's value; `None` where the property is none of these.
    pub fn get(&self, property: &str) -> Option<glib::Value> {
        Some(match property {
            "preset" => self.preset.to_value(),
            "model" => self.model.to_value(),
            "model-engine-file" => self.model_engine_file.to_value(),
            "engine" => self.engine.to_value(),
            "engine-id" => self.engine_id.to_value(),
            "input-size" => self.input_size.to_value(),
            "batch-size" => self.batch_size.to_value(),
            "batched-push-timeout" => (self.batched_push_timeout.as_micros() as u32).to_value(),
            "gpu-id" => self.gpu.to_value(),
            "precision" => self.precision.to_value(),
            _ => return None,
        })
    }

    /// Opens the engine for `element`, or joins elements that have it open. Where that takes long,
    /// `done` is told of its end later, by another thread.
    pub fn open(
        &self,
        element: &gst::Element,
        done: impl FnOnce(Result<OpenedEngine, gst::ErrorMessage>) + Send + 'static,
    ) -> Result<Start<OpenedEngine>, gst::ErrorMessage> {
        let choice = self.clone();
        progress::start(element, None, move |watch| choice.open_now(watch), done)
    }

    fn open_now(&self, watch: &ProgressSink) -> Result<OpenedEngine, gst::ErrorMessage> {
        let unusable = |error: &dyn std::fmt::Display| {
            gst::error_msg!(gst::ResourceError::Settings, ("{error}"))
        };
        let kind = EngineKind::from(self.engine);
        let model = if kind == EngineKind::Scripted && self.model.is_empty() {
            Model::scripted()
        } else {
            Model::open(&self.model, &model::folders()).map_err(|error| unusable(&error))?
        };
        let model = match self.model_engine_file.as_str() {
            "" => model,
            plan => model.with_plan(plan.into()),
        };
        let asked: InputChoice = self
            .input_size
            .parse()
            .map_err(|error| unusable(&format!("input-size {:?}: {error}", self.input_size)))?;
        let shapes = model.input_shapes(asked).map_err(|error| unusable(&error))?;
        let resize = model.manifest.input.resize;
        let key = SharedKey {
            engine_id: self.engine_id.clone(),
            kind,
            model: model_path(&model),
            input: asked,
            gpu: self.gpu,
            precision: self.precision.into(),
            context: self.context.as_ref().map_or(0, |context| context.handle() as usize),
        };
        let request = EngineRequest {
            // A plan that was built by hand says its own size.
            input: (model.plan().is_none() || asked.is_fixed()).then(|| shapes.first()),
            max_batch: self.batch_size as usize,
            gpu: self.gpu,
            name: self.engine_id.clone(),
            precision: self.precision.into(),
            context: self.context.clone(),
            watch: watch.clone(),
            ..EngineRequest::new(kind, Arc::new(model))
        };
        let mut passed_over = Vec::new();
        let (dispatcher, shared) = Dispatcher::shared(key, watch, || {
            let opened = engine::open(&request)?;
            passed_over = opened.passed_over;
            let device = opened.engine.info().kind.device().unwrap_or(Device::Cpu);
            let batch_size = request.batch_on(device);
            let settings = BatchSettings { batch_size, timeout: self.batched_push_timeout };
            if shapes.sizes().len() == 1 {
                return Dispatcher::start(opened.engine, settings);
            }
            let watch = ProgressSink::default();
            let again = EngineRequest { max_batch: batch_size, watch, ..request.clone() }
                .as_opened(opened.engine.info());
            let reopen: Reopen = Box::new(move |size, watch| {
                let request = EngineRequest { watch: watch.clone(), ..again.clone() }.at(size);
                Ok(engine::open(&request)?.engine)
            });
            Dispatcher::start_shapes(opened.engine, shapes, reopen, settings)
        })
        .map_err(|error| gst::error_msg!(gst::LibraryError::Init, ("{error}")))?;
        let asked = BatchSettings {
            batch_size: self.batch_size as usize,
            timeout: self.batched_push_timeout,
        };
        Ok(OpenedEngine { dispatcher, resize, shared, asked, passed_over })
    }
}

impl OpenedEngine {
    /// Says on the bus which engine `element` runs.
    pub fn announce(&self, element: &gst::Element) {
        let (info, settings) = (self.dispatcher.info(), self.dispatcher.settings());
        let passed: Vec<_> =
            self.passed_over.iter().map(|(kind, reason)| format!("{kind}: {reason}")).collect();
        if !passed.is_empty() {
            gst::element_info!(
                element,
                gst::LibraryError::Init,
                (
                    "Counting with {} {} on {}; passed over: {}",
                    info.kind,
                    info.version,
                    info.device,
                    passed.join("; ")
                )
            );
        }
        let BatchSettings { batch_size, timeout } = self.asked;
        if self.shared
            && (batch_size != 0 && batch_size != settings.batch_size || timeout != settings.timeout)
        {
            let timeouts = [timeout, settings.timeout].map(|timeout| timeout.as_micros());
            gst::element_warning!(
                element,
                gst::ResourceError::Settings,
                (
                    "batch-size={batch_size} batched-push-timeout={} are not used: the engine is shared with an element that opened it \
                     with batch-size={} batched-push-timeout={}; set the same on both, or another engine-id",
                    timeouts[0],
                    settings.batch_size,
                    timeouts[1]
                )
            );
        }
        announce(element, info, settings, self.shared, &passed.join("; "));
    }
}

/// How long a streaming thread waits for an engine that is opened at a further input size, which
/// takes a processor a fraction of this.
const PATIENCE: Duration = Duration::from_millis(500);

/// Opens the engine of `dispatcher` at the input size for pictures of `width` x `height` at
/// `scale`, for `element`, and says so on the bus. Where that takes longer than [`PATIENCE`],
/// `done` is told of its end later, by another thread.
pub fn open_shape(
    element: &gst::Element,
    dispatcher: &Arc<Dispatcher>,
    scale: InputScale,
    (width, height): (usize, usize),
    done: impl FnOnce(Result<(), gst::ErrorMessage>) + Send + 'static,
) -> Result<Start<()>, gst::ErrorMessage> {
    let (dispatcher, weak) = (dispatcher.clone(), element.downgrade());
    let open = move |watch: &ProgressSink| {
        let (instance, opened) =
            dispatcher.open_at(scale, width, height, watch).map_err(|error| {
                gst::error_msg!(
                    gst::LibraryError::Init,
                    ("the engine does not open at the input size for {width}x{height}: {error}")
                )
            })?;
        if let Some(element) = weak.upgrade().filter(|_| opened) {
            announce(&element, instance.info(), dispatcher.settings(), false, "");
        }
        Ok(())
    };
    progress::start(element, Some(PATIENCE), open, done)
}

/// Says on the bus which engine has opened, and at which input size.
fn announce(
    element: &gst::Element,
    info: &EngineInfo,
    settings: BatchSettings,
    shared: bool,
    passed_over: &str,
) {
    let message = gst::Structure::builder("vehiclecount-engine")
        .field("engine", info.kind.name())
        .field("version", &info.version)
        .field("device", &info.device)
        .field("model", &info.model)
        .field("precision", &info.precision)
        .field("precision-choice", info.choice.as_deref().unwrap_or_default())
        .field("input-width", info.input.width as u32)
        .field("input-height", info.input.height as u32)
        .field("batch-size", settings.batch_size as u32)
        .field("shared", shared)
        .field("passed-over", passed_over)
        .build();
    let _ = element.post_message(gst::message::Element::builder(message).src(element).build());
}

/// Tells models apart: where an `.onnx` file was named, by that file.
fn model_path(model: &Model) -> PathBuf {
    if let Some(plan) = model.plan() {
        return plan.canonicalize().unwrap_or_else(|_| plan.to_owned());
    }
    let folder = model.folder.canonicalize().unwrap_or_else(|_| model.folder.clone());
    folder.join(model.chosen_file().map_or(&model.manifest.name, |file| &file.file))
}
