//! TensorRT and TensorRT-RTX, through the shim in [`crate::tensorrt`], on the lanes of
//! [`super::gpu`].
//!
//! The plan is taken from the cache, or built when it is first asked for: seconds with
//! TensorRT-RTX, minutes with TensorRT. Where the model has files for several precisions, each is
//! built, must count what the golden picture asks for, and is timed with a largest batch; the
//! fastest is remembered for this library and GPU.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::EngineError;
use super::gpu::{GpuEngine, Network, Networks};
use super::info::EngineInfo;
use super::interface::{Engine, EngineRequest};
use super::kind::{Device, EngineKind};
use super::slot::Slot;
use crate::cuda::{Context, DeviceBuffer, Driver};
use crate::digest;
use crate::frame::{FrameFormat, FrameView, PixelFormat, Plane};
use crate::golden;
use crate::model::File;
use crate::preprocess::{InputSize, Placement};
use crate::tensorrt::cache::{CachedPlan, Origin, Refused};
use crate::tensorrt::{
    self, Flavour, Library, Plan, Precision, PrecisionTrials, Progress, Purpose, Severity,
    TensorRtError, cache, candidates, choose,
};

const KIND: EngineKind = EngineKind::TensorRt;

/// Lanes, each with a context, a stream and memory of its own: one copies and preprocesses while
/// the other infers.
const LANES: usize = 2;

/// Batches that are timed for a choice, after as many that are not.
const TRIALS: usize = 10;

/// Opens the model on GPU `request.gpu`.
pub(super) fn open(request: &EngineRequest) -> Result<Arc<dyn Engine>, EngineError> {
    let failed = |error| EngineError::Gpu { kind: KIND, error };
    // The driver before all else: without one, TensorRT's libraries do strange things.
    let driver = Driver::open().map_err(failed)?;
    let context = match &request.context {
        Some(context) => context.clone(),
        None => driver.context(request.gpu).map_err(failed)?,
    };
    let library = Library::open(Flavour::Auto).map_err(EngineError::from)?;
    let input = request.model.input_size(request.input).map_err(|error| refused(&error))?;
    let opener = TensorRtOpener { request, context, library, input };
    if let Some(path) = request.model.plan() {
        return Ok(Arc::new(opener.engine_of_plan(path)?));
    }
    if request.precision != Precision::Auto {
        return Ok(Arc::new(opener.engine(request.precision, None)?));
    }
    let candidates = candidates(&request.model);
    match candidates.as_slice() {
        [] => Err(EngineError::TensorRt(TensorRtError::NothingToBuild)),
        [(only, _)] => Ok(Arc::new(opener.engine(*only, None)?)),
        _ => {
            let (choice, is_kept) = opener.choose(&candidates)?;
            let engine = opener.engine(choice.precision, Some(choice.to_string()))?;
            match golden::check_once(request, &engine, None) {
                // What was right when it was chosen is so no longer: all are tried again.
                Err(EngineError::Golden { .. }) if is_kept => {
                    drop(engine);
                    opener.forget(&candidates);
                    let (choice, _) = opener.choose(&candidates)?;
                    Ok(Arc::new(opener.engine(choice.precision, Some(choice.to_string()))?))
                }
                Err(error) => Err(error),
                Ok(()) => Ok(Arc::new(engine)),
            }
        }
    }
}

fn refused(error: &dyn Display) -> EngineError {
    EngineError::Model { kind: KIND, reason: error.to_string() }
}

struct TensorRtOpener<'a> {
    request: &'a EngineRequest,
    context: Arc<Context>,
    library: Arc<Library>,
    input: InputSize,
}

impl TensorRtOpener<'_> {
    /// The largest batch.
    fn max_batch(&self) -> usize {
        self.request.batch_on(Device::Gpu)
    }

    /// Compute capability of the GPU times ten.
    fn capability(&self) -> u32 {
        let (major, minor) = self.context.device().compute_capability;
        major * 10 + minor
    }

    /// The fastest precision that counts what it must, and whether that was kept; else it is found
    /// out now.
    fn choose(
        &self,
        candidates: &[(Precision, &File)],
    ) -> Result<(PrecisionTrials, bool), EngineError> {
        let remembered = self.remembered(candidates);
        let purpose = self.purpose();
        let read = || {
            remembered
                .as_deref()
                .and_then(PrecisionTrials::read)
                .filter(|choice| choice.purpose == purpose)
        };
        if let Some(choice) = read() {
            return Ok((choice, true));
        }
        // Two processes that time at once disturb each other. Where nothing can be locked, they do.
        let lock = remembered.as_ref().map(|path| {
            cache::alone(&path.with_extension("lock"), &|at| self.request.watch.tell(at))
        });
        let _lock = lock.transpose().map_err(EngineError::from)?;
        if let Some(choice) = read() {
            return Ok((choice, true));
        }
        let precisions: Vec<_> = candidates.iter().map(|(precision, _)| *precision).collect();
        let choice = choose(purpose.clone(), &precisions, |precision| {
            self.time(precision).map_err(|error| match error {
                EngineError::TensorRt(error) => error,
                EngineError::Ended => TensorRtError::Ended,
                error => TensorRtError::Run {
                    library: self.library.to_string(),
                    reason: error.to_string(),
                },
            })
        });
        let choice = choice.map_err(EngineError::from)?;
        if let Some(path) = remembered {
            // It is found out again the next time.
            let _ = choice.write(&path);
        }
        tensorrt::tell(Severity::Warning, &format!("precision of {}: {choice}", choice.purpose));
        Ok((choice, false))
    }

    /// Removes the choice that was kept.
    fn forget(&self, candidates: &[(Precision, &File)]) {
        if let Some(path) = self.remembered(candidates) {
            // One that stays is found wrong again.
            let _ = std::fs::remove_file(path);
        }
    }

    fn purpose(&self) -> Purpose {
        Purpose {
            model: self.request.model.manifest.name.clone(),
            library: self.library.flavour(),
            version: self.library.version().to_string(),
            capability: self.capability(),
            gpu: self.context.device().model(),
            width: self.input.width,
            height: self.input.height,
            max_batch: self.max_batch(),
        }
    }

    /// Where the choice is remembered: under everything that it depends on.
    fn remembered(&self, candidates: &[(Precision, &File)]) -> Option<PathBuf> {
        let files: Vec<_> =
            candidates.iter().map(|(_, file)| file.sha256.get(..16).unwrap_or_default()).collect();
        let name = format!(
            "choice-{}-{}-{}-{}-{}-{}x{}-b{}.json",
            files.join("-"),
            self.library.flavour(),
            self.library.version(),
            self.capability(),
            tensorrt::short_digest(&self.context.device().model()),
            self.input.width,
            self.input.height,
            self.max_batch(),
        );
        Some(cache::folder()?.join(name))
    }

    /// How long a largest batch takes, if the golden picture is counted right.
    fn time(&self, precision: Precision) -> Result<Duration, EngineError> {
        let engine = self.engine(precision, None)?;
        if !self.request.watch.tell(Progress::Timing { precision }) {
            return Err(EngineError::Ended);
        }
        golden::check_once(self.request, &engine, None).map_err(|error| match error {
            EngineError::Golden { what, .. } => EngineError::Infer { kind: KIND, reason: what },
            other => other,
        })?;
        let mut lane = engine.lane()?;
        // Small pictures: what is copied to the GPU is the same for each precision, and would hide
        // what differs.
        let (side, gray) = (64, [114u8; 64 * 64]);
        let pixels = PixelFormat::Gray8;
        let format = FrameFormat::new(pixels, side, side);
        let picture =
            FrameView::new(format, &[Plane { data: &gray, stride: side }]).expect("so large it is");
        let placement =
            Placement::new(self.request.model.manifest.input.resize, side, side, self.input);
        let mut slots: Vec<Slot> = (0..self.max_batch()).map(|_| Slot::best_for(&engine)).collect();
        let mut best = Duration::MAX;
        for trial in 0..2 * TRIALS {
            for room in slots.iter_mut().filter_map(|slot| slot.input.picture_mut()) {
                room.stage(&picture, placement)
                    .map_err(|error| EngineError::Gpu { kind: KIND, error })?;
            }
            lane.infer(&mut slots)?;
            if let Some(time) = lane.device_time().filter(|_| trial >= TRIALS) {
                best = best.min(time);
            }
        }
        Ok(best)
    }

    /// The file from which `precision` is built.
    fn file(&self, precision: Precision) -> Result<&File, EngineError> {
        let model = &self.request.model;
        precision.file(model).ok_or_else(|| {
            let listed = model
                .manifest
                .files
                .iter()
                .map(|file| format!("{} ({})", file.file, file.precision));
            let (model, listed) =
                (model.manifest.name.clone(), listed.collect::<Vec<_>>().join(", "));
            EngineError::TensorRt(TensorRtError::NoFile { model, precision, listed })
        })
    }

    /// The engine of one precision, chosen for that reason, its plan built where there is none. A
    /// plan that was kept and fails its golden picture is built anew, once.
    fn engine(
        &self,
        precision: Precision,
        choice: Option<String>,
    ) -> Result<GpuEngine, EngineError> {
        let (engine, origin) = self.engine_but(precision, choice.clone(), None)?;
        if origin != Origin::Kept {
            return Ok(engine);
        }
        match golden::check_once(self.request, &engine, None) {
            Err(EngineError::Golden { what, .. }) => {
                let sha256 = engine.plan().unwrap_or_default().to_owned();
                drop(engine);
                let reason = format!("it fails its golden picture: {what}");
                let refused = Refused { sha256, reason };
                Ok(self.engine_but(precision, choice, Some(&refused))?.0)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(engine),
        }
    }

    /// The engine of one precision, and where its plan came from.
    fn engine_but(
        &self,
        precision: Precision,
        choice: Option<String>,
        refused_plan: Option<&Refused>,
    ) -> Result<(GpuEngine, Origin), EngineError> {
        let Self { request, context, library, input } = self;
        let model = &request.model;
        let file = self.file(precision)?;
        model.verify_once(file).map_err(|error| refused(&error))?;
        let path = model.path(file);
        let gpu = context.device().model();
        let wanted = cache::PlanRequest {
            library,
            onnx: &path,
            sha256: &file.sha256,
            precision,
            input: *input,
            max_batch: self.max_batch(),
            capability: self.capability(),
            gpu: &gpu,
            refused: refused_plan,
            calibration: None,
            detailed: false,
        };
        let CachedPlan { plan, origin, sha256, .. } = {
            let _entered =
                context.enter().map_err(|error| EngineError::Gpu { kind: KIND, error })?;
            cache::load(&wanted, &|at| request.watch.tell(at)).map_err(EngineError::from)?
        };
        let engine = self.run(plan, &path, precision.name(), choice)?.of_plan(sha256);
        Ok((engine, origin))
    }

    /// The engine of a plan that the user built by hand.
    fn engine_of_plan(&self, path: &Path) -> Result<GpuEngine, EngineError> {
        if self.request.precision != Precision::Auto {
            let plan = path.display().to_string();
            return Err(EngineError::TensorRt(TensorRtError::PlanPrecision { plan }));
        }
        let bytes = std::fs::read(path)
            .map_err(|error| refused(&format!("{}: {error}", path.display())))?;
        let plan = {
            let _entered =
                self.context.enter().map_err(|error| EngineError::Gpu { kind: KIND, error })?;
            self.library.load_plugins();
            self.library.load(&bytes).map_err(EngineError::from)?
        };
        Ok(self.run(plan, path, "plan", None)?.of_plan(digest::sha256(&bytes)))
    }

    /// The engine of a plan that was made from `path`.
    fn run(
        &self,
        plan: Arc<Plan>,
        path: &Path,
        precision: &str,
        choice: Option<String>,
    ) -> Result<GpuEngine, EngineError> {
        let Self { request, context, library, input } = self;
        let plan = Inside::new(plan, context);
        if let Some(folder) = cache::folder() {
            let _entered =
                context.enter().map_err(|error| EngineError::Gpu { kind: KIND, error })?;
            let is_warm = plan.value().keep_kernels(&folder, &context.device().model());
            if !is_warm && !request.watch.tell(Progress::Compiling) {
                return Err(EngineError::Ended);
            }
        }
        let stride = request.model.manifest.output.stride;
        let (columns, rows) = (input.width / stride, input.height / stride);
        let shapes = (plan.value().input_shape(), plan.value().output_shape());
        let expected = ([3, input.height, input.width], [1, rows, columns]);
        if shapes != expected {
            return Err(EngineError::Shape {
                kind: KIND,
                file: path.display().to_string(),
                what: format!("an input {:?} and an output {:?}", shapes.0, shapes.1),
                expected: format!("{:?} and {:?}", expected.0, expected.1),
            });
        }
        let info = EngineInfo {
            kind: KIND,
            version: library.version().to_string(),
            device: context.device().name.clone(),
            model: request.model.manifest.name.clone(),
            precision: precision.to_owned(),
            choice,
            input: *input,
            columns,
            rows,
            lanes: LANES,
        };
        // A larger batch goes in parts.
        let max_batch = self.max_batch().min(plan.value().max_batch());
        let networks: Networks = Box::new(move || {
            let context = &plan.context;
            let _entered =
                context.enter().map_err(|error| EngineError::Gpu { kind: KIND, error })?;
            Ok(Box::new(TensorRtNetwork::new(plan.value(), context)?))
        });
        GpuEngine::new(info, context.clone(), max_batch, networks)
    }
}

/// Something of TensorRT's, which must be let go inside the CUDA context that it lives in.
struct Inside<T> {
    value: Option<T>,
    context: Arc<Context>,
}

impl<T> Inside<T> {
    fn new(value: T, context: &Arc<Context>) -> Self {
        Self { value: Some(value), context: context.clone() }
    }

    fn value(&self) -> &T {
        self.value.as_ref().expect("taken in drop alone")
    }

    fn value_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("taken in drop alone")
    }
}

impl<T> Drop for Inside<T> {
    fn drop(&mut self) {
        let _entered = self.context.enter();
        drop(self.value.take());
    }
}

/// The plan at work in one lane. A graph that a lane records goes with the context that it was
/// recorded from, which must not be changed afterwards: so each batch size has its own, all in the
/// same scratch memory, as one runs at a time.
struct TensorRtNetwork {
    contexts: HashMap<usize, Inside<tensorrt::Context>>,
    /// Batch of the next run.
    batch: usize,
    /// A batch size has run for the first time: TensorRT-RTX has compiled kernels, which takes far
    /// longer than writing them.
    compiled: bool,
    plan: Inside<Arc<Plan>>,
    scratch: DeviceBuffer,
}

impl TensorRtNetwork {
    fn new(plan: &Arc<Plan>, context: &Arc<Context>) -> Result<Self, EngineError> {
        let bytes = usize::try_from(plan.context_memory()).unwrap_or(usize::MAX).max(256);
        let scratch = DeviceBuffer::new(context, bytes, "TensorRT's scratch memory");
        let scratch = scratch.map_err(|error| EngineError::Gpu { kind: KIND, error })?;
        let plan = Inside::new(plan.clone(), context);
        let mut network =
            Self { contexts: HashMap::new(), batch: 0, compiled: false, plan, scratch };
        // Whether there is a context at all shows now.
        network.context(network.min_batch()).map_err(EngineError::from)?;
        Ok(network)
    }

    /// The context for batches of that size.
    fn context(&mut self, batch: usize) -> Result<&mut tensorrt::Context, TensorRtError> {
        let Self { contexts, plan, scratch, .. } = self;
        let held = match contexts.entry(batch) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => {
                let made = plan.value().context_sharing(0, scratch.address(), scratch.bytes())?;
                place.insert(Inside::new(made, &plan.context))
            }
        };
        Ok(held.value_mut())
    }
}

impl Network for TensorRtNetwork {
    fn min_batch(&self) -> usize {
        self.plan.value().min_batch()
    }

    fn set_batch(&mut self, batch: usize, input: u64, output: u64) -> Result<(), String> {
        // The last batch is done: what it compiled is there.
        if std::mem::take(&mut self.compiled) {
            self.plan.value().write_kernels();
        }
        self.compiled = !self.contexts.contains_key(&batch);
        self.batch = batch;
        let context = self.context(batch);
        context
            .and_then(|context| context.set_batch(batch, input, output))
            .map_err(|error| error.to_string())
    }

    unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), String> {
        let plan = self.plan.value().clone();
        let _alone = self.compiled.then(|| plan.compiling());
        let context = self.context(self.batch);
        // SAFETY: the caller's; the scratch memory stays as long as the contexts.
        context
            .and_then(|context| unsafe { context.enqueue(stream) })
            .map_err(|error| error.to_string())
    }
}
