//! OpenVINO, through its C library.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use once_cell::sync::OnceCell;
use openvino::{CompiledModel, Core, DeviceType, InferRequest, PartialShape, RwPropertyKey};

use super::{Engine, EngineError, EngineInfo, EngineKind, EngineRequest, Lane, Slot, library};
use crate::model::File;

const KIND: EngineKind = EngineKind::OpenVino;

/// The library is opened once in a process, when it is first asked for; where that fails, the next one to ask tries again.
static LIBRARY: OnceCell<String> = OnceCell::new();

fn load() -> Result<&'static str, EngineError> {
    let version = LIBRARY.get_or_try_init(|| {
        let path = library::find(KIND, "openvino", "libopenvino_c.so")?;
        let file = path.display().to_string();
        openvino_sys::library::load_from(path).map_err(|reason| EngineError::Open { kind: KIND, file, reason })?;
        // "2026.4.1-21940-abcdef/..." begins with the release.
        let version = openvino::version().build_number;
        Ok(version.split('-').next().unwrap_or(&version).to_owned())
    })?;
    Ok(version)
}

struct OpenVino {
    info: EngineInfo,
    file: String,
    output: String,
    input: String,
    model: Mutex<CompiledModel>,
}

// SAFETY: the compiled model is used under its mutex alone, and OpenVINO lets any thread create requests.
unsafe impl Sync for OpenVino {}
// SAFETY: OpenVINO binds a compiled model to no thread.
unsafe impl Send for OpenVino {}

/// Opens `file` of the model with one stream of all processors: measured to give the throughput of several streams at their latency's
/// half (docs/engines.md).
pub(super) fn open(request: &EngineRequest, file: &File) -> Result<Arc<dyn Engine>, EngineError> {
    let version = load()?;
    let manifest = &request.model.manifest;
    let path = request.model.path(file).display().to_string();
    let refused = |error: &dyn std::fmt::Display| EngineError::Open {
        kind: KIND,
        file: path.clone(),
        reason: error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "),
    };
    let input = request.model.input_size(request.input).map_err(|error| refused(&error))?;
    let mut core = Core::new().map_err(|error| refused(&error))?;
    let mut model = core.read_model_from_file(&path, "").map_err(|error| refused(&error))?;
    // A static shape: dynamic ones cost 20 to 40 percent. A batch gains nothing on a processor, so it is one frame.
    let shape = PartialShape::new_static(4, &[1, 3, input.height as i64, input.width as i64])
        .map_err(|error| refused(&error))?;
    model.reshape_input_by_name(&manifest.input.name, &shape).map_err(|error| refused(&error))?;
    let (columns, rows) = (input.width / manifest.output.stride, input.height / manifest.output.stride);
    check(&model, &manifest.output.name, [1, 1, rows as i64, columns as i64], &path)?;
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    // bf16, the default where the processor has it, was measured slower than f32, and loses accuracy. INT8 stays INT8.
    for (key, value) in [
        (RwPropertyKey::HintInferencePrecision, "f32".to_owned()),
        (RwPropertyKey::NumStreams, "1".to_owned()),
        (RwPropertyKey::InferenceNumThreads, threads.to_string()),
    ] {
        core.set_property(&DeviceType::CPU, &key, &value).map_err(|error| refused(&error))?;
    }
    let model = core.compile_model(&model, DeviceType::CPU).map_err(|error| refused(&error))?;
    let info = EngineInfo {
        kind: KIND,
        version: version.to_owned(),
        device: format!("CPU, {threads} threads"),
        model: manifest.name.clone(),
        precision: file.precision.clone(),
        input,
        columns,
        rows,
        lanes: 1,
    };
    let (input, output) = (manifest.input.name.clone(), manifest.output.name.clone());
    Ok(Arc::new(OpenVino { info, file: path, input, output, model: Mutex::new(model) }))
}

/// Compares the model's output with what a density model has.
fn check(model: &openvino::Model, name: &str, expected: [i64; 4], file: &str) -> Result<(), EngineError> {
    let wrong = |what: String| EngineError::Shape {
        kind: KIND,
        file: file.to_owned(),
        what,
        expected: format!("one output {name:?} of {expected:?}"),
    };
    let node = model.get_output_by_index(0).map_err(|error| wrong(error.to_string()))?;
    let found = node.get_name().map_err(|error| wrong(error.to_string()))?;
    let shape = node.get_shape().map_err(|_| wrong(format!("an output {found:?} whose shape follows the picture")))?;
    if found == name && shape.get_dimensions() == expected {
        return Ok(());
    }
    Err(wrong(format!("an output {found:?} of {:?}", shape.get_dimensions())))
}

impl Engine for OpenVino {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        let refused = |error: openvino::InferenceError| EngineError::Open {
            kind: KIND,
            file: self.file.clone(),
            reason: error.to_string(),
        };
        let request = {
            let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            model.create_infer_request().map_err(refused)?
        };
        Ok(Box::new(OpenVinoLane { request, input: self.input.clone(), output: self.output.clone() }))
    }
}

struct OpenVinoLane {
    request: InferRequest,
    input: String,
    output: String,
}

impl OpenVinoLane {
    fn infer_one(&mut self, slot: &mut Slot) -> Result<(), openvino::InferenceError> {
        // 1.8 MB at 384x384: 0.1 ms beside some ten of inference.
        let mut input = self.request.get_tensor(&self.input)?;
        input.get_data_mut::<f32>()?.copy_from_slice(&slot.input);
        self.request.infer()?;
        let output = self.request.get_tensor(&self.output)?;
        slot.density.copy_from_slice(output.get_data::<f32>()?);
        Ok(())
    }
}

impl Lane for OpenVinoLane {
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        slots
            .iter_mut()
            .try_for_each(|slot| self.infer_one(slot))
            .map_err(|error| EngineError::Infer { kind: KIND, reason: error.to_string() })
    }
}
