//! ONNX Runtime, through the crate `ort`, on the processor.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

use super::{Engine, EngineError, EngineInfo, EngineKind, EngineRequest, Lane, Slot, library};
use crate::model::File;

const KIND: EngineKind = EngineKind::OnnxRuntime;

/// The library is opened once in a process, when it is first asked for; where that fails, the next one to ask tries again.
static LIBRARY: OnceCell<Environment> = OnceCell::new();

fn load() -> Result<&'static Environment, EngineError> {
    LIBRARY.get_or_try_init(|| {
        let path = library::find(KIND, "onnxruntime", "libonnxruntime.so")?;
        let refused = |error: &dyn std::fmt::Display| EngineError::Open {
            kind: KIND,
            file: path.display().to_string(),
            reason: error.to_string(),
        };
        let environment = ort::init_from(&path).map_err(|error| refused(&error))?;
        environment.with_name("vehiclecount").build().map_err(|error| refused(&error))
    })
}

struct OnnxRuntime {
    info: EngineInfo,
    session: Arc<Mutex<Session>>,
    input: String,
    output: String,
}

/// Opens `file` of the model, with all processors at work on one batch.
pub(super) fn open(request: &EngineRequest, file: &File) -> Result<Arc<dyn Engine>, EngineError> {
    let environment = load()?;
    let manifest = &request.model.manifest;
    let path = request.model.path(file);
    let refused = |error: &dyn std::fmt::Display| EngineError::Open {
        kind: KIND,
        file: path.display().to_string(),
        reason: error.to_string(),
    };
    let input = request.model.input_size(request.input).map_err(|error| refused(&error))?;
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let mut builder = Session::builder(environment).map_err(|error| refused(&error))?;
    builder = builder.with_intra_threads(threads).map_err(|error| refused(&error))?;
    let session = builder.commit_from_file(&path).map_err(|error| refused(&error))?;
    let has = |outlets: &[ort::value::Outlet], name: &str| outlets.iter().any(|outlet| outlet.name() == name);
    let (given, named) = (session.inputs(), session.outputs());
    if given.len() != 1 || !has(given, &manifest.input.name) || !has(named, &manifest.output.name) {
        let names = |outlets: &[ort::value::Outlet]| outlets.iter().map(|o| o.name().to_owned()).collect::<Vec<_>>();
        return Err(EngineError::Shape {
            kind: KIND,
            file: path.display().to_string(),
            what: format!("inputs {:?} and outputs {:?}", names(given), names(named)),
            expected: format!("one input {:?} and an output {:?}", manifest.input.name, manifest.output.name),
        });
    }
    let info = EngineInfo {
        kind: KIND,
        version: version(),
        device: format!("CPU, {threads} threads"),
        model: manifest.name.clone(),
        precision: file.precision.clone(),
        input,
        columns: input.width / manifest.output.stride,
        rows: input.height / manifest.output.stride,
        lanes: 1,
    };
    let engine = OnnxRuntime {
        info,
        session: Arc::new(Mutex::new(session)),
        input: manifest.input.name.clone(),
        output: manifest.output.name.clone(),
    };
    // The shape of the output shows only when something is run.
    let mut slot = Slot::new(&engine.info);
    engine.lane()?.infer(std::slice::from_mut(&mut slot))?;
    Ok(Arc::new(engine))
}

/// The library's release, from its build information.
fn version() -> String {
    let words = ort::info();
    let release = words.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|word| word.contains('.'));
    release.map_or_else(|| format!("API {}", ort::MINOR_VERSION), |release| release.trim_matches('.').to_owned())
}

impl Engine for OnnxRuntime {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        Ok(Box::new(OnnxRuntimeLane {
            info: self.info.clone(),
            session: self.session.clone(),
            input: self.input.clone(),
            output: self.output.clone(),
            batch: Vec::new(),
        }))
    }
}

struct OnnxRuntimeLane {
    info: EngineInfo,
    session: Arc<Mutex<Session>>,
    input: String,
    output: String,
    /// Inputs of a batch, one after the other; used again.
    batch: Vec<f32>,
}

impl OnnxRuntimeLane {
    fn run(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        let failed = |reason: String| EngineError::Infer { kind: KIND, reason };
        let EngineInfo { input, columns, rows, .. } = self.info;
        let shape = [slots.len(), 3, input.height, input.width];
        let values = if let [slot] = &*slots {
            &slot.input
        } else {
            self.batch.clear();
            slots.iter().for_each(|slot| self.batch.extend_from_slice(&slot.input));
            &self.batch
        };
        let tensor =
            TensorRef::from_array_view((shape, values.as_slice())).map_err(|error| failed(error.to_string()))?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs =
            session.run(ort::inputs![self.input.as_str() => tensor]).map_err(|error| failed(error.to_string()))?;
        let (shape, cells) =
            outputs[self.output.as_str()].try_extract_tensor::<f32>().map_err(|error| failed(error.to_string()))?;
        let expected = [slots.len() as i64, 1, rows as i64, columns as i64];
        if **shape != expected {
            return Err(failed(format!("the density is {shape:?}, where {expected:?} is needed")));
        }
        for (slot, cells) in slots.iter_mut().zip(cells.chunks_exact(columns * rows)) {
            slot.density.copy_from_slice(cells);
        }
        Ok(())
    }
}

impl Lane for OnnxRuntimeLane {
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        self.run(slots)
    }
}
