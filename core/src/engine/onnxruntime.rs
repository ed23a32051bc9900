//! ONNX Runtime, through the crate `ort`, on the processor.

use std::ffi::CStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::{Outlet, TensorRef};
use parking_lot::Mutex;

use super::error::EngineError;
use super::file::file_for;
use super::info::EngineInfo;
use super::interface::{Engine, EngineRequest, Lane};
use super::kind::EngineKind;
use super::slot::Slot;
use super::{library, processor};

const KIND: EngineKind = EngineKind::OnnxRuntime;

struct Library {
    environment: Environment,
    version: String,
}

/// The library is opened once in a process, when it is first asked for; where that fails, the next
/// one to ask tries again.
static LIBRARY: OnceCell<Library> = OnceCell::new();

/// Whether the library is there.
pub(super) fn is_installed() -> bool {
    LIBRARY.get().is_some() || find().is_ok()
}

fn find() -> Result<PathBuf, EngineError> {
    library::find(KIND, "onnxruntime", "libonnxruntime.so")
}

fn load() -> Result<&'static Library, EngineError> {
    LIBRARY.get_or_try_init(|| {
        let path = find()?;
        let refused = |error: &dyn Display| EngineError::Open {
            kind: KIND,
            file: path.display().to_string(),
            reason: error.to_string(),
        };
        let environment = ort::init_from(&path).map_err(|error| refused(&error))?;
        let environment =
            environment.with_name("vehiclecount").build().map_err(|error| refused(&error))?;
        let version = version(&path).map_err(|error| refused(&error))?;
        Ok(Library { environment, version })
    })
}

/// The release of the library, such as "1.32.0"; the crate reads it and keeps it to itself.
fn version(path: &Path) -> Result<String, libloading::Error> {
    // SAFETY: the crate has opened this very library and found its API base, a table of functions
    // that stays as long as the library; the string is the library's own constant, and is copied
    // while it is open.
    unsafe {
        let library = libloading::Library::new(path)?;
        let base: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
            library.get(b"OrtGetApiBase\0")?;
        Ok(CStr::from_ptr(((*base()).GetVersionString)()).to_string_lossy().into_owned())
    }
}

struct OnnxRuntime {
    info: EngineInfo,
    path: PathBuf,
    input: String,
    output: String,
    /// The session that was opened to see that it opens: the first lane's.
    first: Mutex<Option<Session>>,
}

/// Opens the model's file with a lane of one thread for each processor: measured to give twice
/// the throughput of one lane with all of them, at the same latency (docs/engines.md).
pub(super) fn open(request: &EngineRequest) -> Result<Arc<dyn Engine>, EngineError> {
    let file = file_for(request, KIND)?;
    let library = load()?;
    let manifest = &request.model.manifest;
    let path = request.model.path(file);
    let refused = |error: &dyn Display| EngineError::Open {
        kind: KIND,
        file: path.display().to_string(),
        reason: error.to_string(),
    };
    let size = request.model.input_size(request.input).map_err(|error| refused(&error))?;
    let session = open_session(&path, file.precision == HALF)?;
    let (input, output) = (manifest.input.name.clone(), manifest.output.name.clone());
    let has = |outlets: &[Outlet], name: &str| outlets.iter().any(|outlet| outlet.name() == name);
    let (given, made) = (session.inputs(), session.outputs());
    if given.len() != 1 || !has(given, &input) || !has(made, &output) {
        let names =
            |outlets: &[Outlet]| outlets.iter().map(|o| o.name().to_owned()).collect::<Vec<_>>();
        return Err(EngineError::Shape {
            kind: KIND,
            file: path.display().to_string(),
            what: format!("inputs {:?} and outputs {:?}", names(given), names(made)),
            expected: format!("one input {input:?} and an output {output:?}"),
        });
    }
    let lanes = processor::processors();
    let info = EngineInfo {
        kind: KIND,
        version: library.version.clone(),
        device: processor::device(lanes),
        model: manifest.name.clone(),
        precision: file.precision.clone(),
        choice: None,
        input: size,
        columns: size.width / manifest.output.stride,
        rows: size.height / manifest.output.stride,
        lanes,
    };
    // Types and shapes show only when something is run.
    let mut slot = Slot::new(&info);
    let mut lane = OnnxRuntimeLane { info, path, session, input, output };
    lane.infer(std::slice::from_mut(&mut slot)).map_err(|error| match error {
        EngineError::Infer { reason, .. } => {
            EngineError::Open { kind: KIND, file: lane.path.display().to_string(), reason }
        }
        other => other,
    })?;
    let OnnxRuntimeLane { info, path, session, input, output } = lane;
    Ok(Arc::new(OnnxRuntime { info, path, input, output, first: Mutex::new(Some(session)) }))
}

/// The precision of files whose scales may be FP16.
const HALF: &str = "fp16";

/// A session that works in the thread that calls it.
///
/// Of a Q/DQ network, ONNX Runtime 1.32 makes biases in steps of input scale times weight scale,
/// and works that out in the scales' own type. In FP16 (`half_scales`) a bias divided by such a
/// product goes beyond the largest number, and its channel becomes noise: MobileNetV3-Large counted
/// a third more. So that step is left out there.
fn open_session(path: &Path, half_scales: bool) -> Result<Session, EngineError> {
    let environment = &load()?.environment;
    let refused = |error: &dyn Display| EngineError::Open {
        kind: KIND,
        file: path.display().to_string(),
        reason: error.to_string(),
    };
    let builder = Session::builder(environment).map_err(|error| refused(&error))?;
    let mut builder = builder.with_intra_threads(1).map_err(|error| refused(&error))?;
    if half_scales {
        let left_out = ("optimization.disable_specified_optimizers", "WeightBiasQuantization");
        builder =
            builder.with_config_entry(left_out.0, left_out.1).map_err(|error| refused(&error))?;
    }
    builder.commit_from_file(path).map_err(|error| refused(&error))
}

impl Engine for OnnxRuntime {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        let first = self.first.lock().take();
        let session =
            first.map_or_else(|| open_session(&self.path, self.info.precision == HALF), Ok)?;
        let (input, output) = (self.input.clone(), self.output.clone());
        Ok(Box::new(OnnxRuntimeLane {
            info: self.info.clone(),
            path: self.path.clone(),
            session,
            input,
            output,
        }))
    }
}

struct OnnxRuntimeLane {
    info: EngineInfo,
    path: PathBuf,
    session: Session,
    input: String,
    output: String,
}

impl OnnxRuntimeLane {
    fn infer_one(&mut self, slot: &mut Slot) -> Result<(), EngineError> {
        let failed =
            |error: ort::Error| EngineError::Infer { kind: KIND, reason: error.to_string() };
        let EngineInfo { input, columns, rows, .. } = self.info;
        let values = slot.values(&self.info)?;
        let tensor = TensorRef::from_array_view(([1, 3, input.height, input.width], values));
        let tensor = tensor.map_err(failed)?;
        let outputs =
            self.session.run(ort::inputs![self.input.as_str() => tensor]).map_err(failed)?;
        let (shape, cells) =
            outputs[self.output.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
        let expected = [1, 1, rows as i64, columns as i64];
        if **shape != expected {
            return Err(EngineError::Shape {
                kind: KIND,
                file: self.path.display().to_string(),
                what: format!("an output {:?} of {shape:?}", self.output),
                expected: format!("{expected:?}"),
            });
        }
        slot.fill(cells, &self.info)
    }
}

impl Lane for OnnxRuntimeLane {
    /// One frame after the other: a batch was measured to be slower on the processor.
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        slots.iter_mut().try_for_each(|slot| self.infer_one(slot))
    }
}
