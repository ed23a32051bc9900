//! TensorRT and TensorRT-RTX, through the shim in [`crate::tensorrt`], on the lanes of
//! [`super::gpu`].
//!
//! The plan is taken from the cache, or built when it is first asked for: seconds with
//! TensorRT-RTX, minutes with TensorRT. Where the model has files for several precisions, each is
//! built, must count what the golden picture asks for, and is timed with a largest batch; the
//! fastest is remembered for this library and GPU.

mod network;
mod precision;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use network::{InContext, TensorRtNetwork};

use super::error::EngineError;
use super::gpu::{GpuEngine, Networks};
use super::info::EngineInfo;
use super::interface::{Engine, EngineRequest};
use super::kind::{Device, EngineKind};
use crate::cuda::{Context, Driver};
use crate::digest;
use crate::golden;
use crate::model::File;
use crate::preprocess::InputSize;
use crate::tensorrt::cache::{CachedPlan, Origin, RefusedPlan};
use crate::tensorrt::{
    Flavour, Library, Plan, Precision, Progress, TensorRtError, cache, candidates,
};

const KIND: EngineKind = EngineKind::TensorRt;

/// Lanes, each with a context, a stream and memory of its own: one copies and preprocesses while
/// the other infers.
const LANES: usize = 2;

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
                let refused = RefusedPlan { sha256, reason };
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
        refused_plan: Option<&RefusedPlan>,
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
        let engine = self.run(plan, self.input, &path, precision.name(), choice)?.of_plan(sha256);
        Ok((engine, origin))
    }

    /// The engine of a plan that the user built by hand, at its own input size unless another one
    /// is asked for.
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
        let input = match (self.request.input, plan.input_shape()) {
            (Some(asked), _) => asked,
            (None, [_, height, width]) => InputSize { width, height },
        };
        Ok(self.run(plan, input, path, "plan", None)?.of_plan(digest::sha256(&bytes)))
    }

    /// The engine of a plan that was made from `path`.
    fn run(
        &self,
        plan: Arc<Plan>,
        input: InputSize,
        path: &Path,
        precision: &str,
        choice: Option<String>,
    ) -> Result<GpuEngine, EngineError> {
        let Self { request, context, library, .. } = self;
        let plan = InContext::new(plan, context);
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
            input,
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
