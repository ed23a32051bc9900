//! OpenVINO, through its C library.

use std::ffi::CStr;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::{mem, panic, ptr};

use once_cell::sync::OnceCell;
use openvino::prepostprocess::Pipeline;
use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, Model, Node,
    PartialShape, RwPropertyKey, Shape, Tensor,
};
use parking_lot::Mutex;

use super::error::EngineError;
use super::file::file_for;
use super::info::EngineInfo;
use super::interface::{Engine, EngineRequest, Lane};
use super::kind::EngineKind;
use super::slot::Slot;
use super::{library, processor};
use crate::preprocess::InputSize;

const KIND: EngineKind = EngineKind::OpenVino;

/// The library is opened once in a process, when it is first asked for; where that fails, the next
/// one to ask tries again.
static LIBRARY: OnceCell<String> = OnceCell::new();

/// Whether the library is there.
pub(super) fn is_installed() -> bool {
    LIBRARY.get().is_some() || find().is_ok()
}

fn find() -> Result<PathBuf, EngineError> {
    library::find(KIND, "openvino", "libopenvino_c.so")
}

fn load() -> Result<&'static str, EngineError> {
    let version = LIBRARY.get_or_try_init(|| -> Result<String, EngineError> {
        let path = find()?;
        let file = path.display().to_string();
        // The crate panics on a library that lacks a function, or whose version is not a number.
        let loaded = panic::catch_unwind(|| openvino_sys::library::load_from(path));
        let loaded = loaded
            .unwrap_or_else(|_| Err("it is not a library that this version can use".to_owned()));
        loaded.map_err(|reason| EngineError::Open { kind: KIND, file, reason })?;
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

// SAFETY: the compiled model is used under its mutex alone, and OpenVINO lets any thread create
// requests.
unsafe impl Sync for OpenVino {}
// SAFETY: OpenVINO binds a compiled model to no thread.
unsafe impl Send for OpenVino {}

/// Opens the model's file with a lane of one thread for each processor: measured to give 1.4 to
/// 1.7 times the throughput of one lane with all of them (docs/engines.md).
pub(super) fn open(request: &EngineRequest) -> Result<Arc<dyn Engine>, EngineError> {
    let file = file_for(request, KIND)?;
    let version = load()?;
    let manifest = &request.model.manifest;
    let path = request.model.path(file).display().to_string();
    let refused = |error: &dyn Display| EngineError::Open {
        kind: KIND,
        file: path.clone(),
        reason: one_line(error),
    };
    let size = request.model.input_size(request.input).map_err(|error| refused(&error))?;
    let (input, output) = (manifest.input.name.clone(), manifest.output.name.clone());
    let (columns, rows) =
        (size.width / manifest.output.stride, size.height / manifest.output.stride);

    let mut core = Core::new().map_err(|error| refused(&error))?;
    let mut model = core.read_model_from_file(&path, "").map_err(|error| refused(&error))?;
    check_input(&model, &input, &path)?;
    // A static shape: dynamic ones cost 20 to 40 percent. A batch gains nothing on a processor, so
    // it is one frame.
    let shape = PartialShape::new_static(4, &[1, 3, size.height as i64, size.width as i64])
        .map_err(|error| refused(&error))?;
    model.reshape_input_by_name(&input, &shape).map_err(|error| refused(&error))?;
    check_output(&model, &output, [1, 1, rows as i64, columns as i64], &path)?;
    let model = in_levels(&model, &input, size).map_err(|error| refused(&error))?;

    let lanes = processor::processors();
    for (key, value) in [
        // bf16, the default where the processor has it, is faster on some processors and slower on
        // others, and counts differently on each. INT8 stays INT8.
        (RwPropertyKey::HintInferencePrecision, "f32".to_owned()),
        (RwPropertyKey::NumStreams, lanes.to_string()),
        (RwPropertyKey::InferenceNumThreads, lanes.to_string()),
        // A thread that is bound to a processor waits there for whatever else runs on it: decoders,
        // other engines.
        (RwPropertyKey::HintEnableCpuPinning, "NO".to_owned()),
    ] {
        core.set_property(&DeviceType::CPU, &key, &value).map_err(|error| refused(&error))?;
    }
    let model = core.compile_model(&model, DeviceType::CPU).map_err(|error| refused(&error))?;
    let info = EngineInfo {
        kind: KIND,
        version: version.to_owned(),
        device: processor::device(lanes),
        model: manifest.name.clone(),
        precision: file.precision.clone(),
        choice: None,
        input: size,
        columns,
        rows,
        lanes,
    };
    Ok(Arc::new(OpenVino { info, file: path, input, output, model: Mutex::new(model) }))
}

/// The model with an input of bytes. Levels become floats in the graph, where that costs nothing
/// that could be measured; before it, floats are four times the memory to write and to copy.
fn in_levels(
    model: &Model,
    input: &str,
    InputSize { width, height }: InputSize,
) -> Result<Model, InferenceError> {
    let shape = Shape::new(&[1, 3, height as i64, width as i64])?;
    let pipeline = Pipeline::new(model)?;
    let mut tensor = pipeline.get_input_info_by_name(input)?.get_tensor_info()?;
    tensor.set_from(&Tensor::new(ElementType::U8, &shape)?)?;
    pipeline.build_new_model()
}

/// OpenVINO speaks of an error in several lines, of which the first ones name its own source files.
fn one_line(error: &dyn Display) -> String {
    let text = error.to_string();
    let said = text.trim_start_matches("general error: ").lines().map(str::trim);
    said.filter(|line| !line.is_empty() && !line.starts_with("Exception from "))
        .collect::<Vec<_>>()
        .join(" ")
}

/// An input or output of the model: its name, its element type and, where it does not depend on the
/// picture, its shape.
struct Outlet {
    name: String,
    kind: String,
    shape: Option<Vec<i64>>,
}

impl Outlet {
    fn of(port: &Port) -> Result<Self, InferenceError> {
        let kind = format!("{:?}", port.node.get_element_type()?).to_lowercase();
        let shape = port.node.get_shape().ok().map(|shape| shape.get_dimensions().to_vec());
        Ok(Self { name: port.name(), kind, shape })
    }
}

/// An input or output of the model as OpenVINO hands it out. It keeps the whole model in memory
/// until it is freed, which the crate's `Node` never does; nor does that free the names that it
/// asks for.
struct Port {
    node: Node,
}

// What `Port::pointer` relies on: a `Node` is the pointer that OpenVINO handed out, and frees
// nothing. The crate's version is pinned.
const _: () = assert!(
    size_of::<Node>() == size_of::<*mut ()>() && align_of::<Node>() == align_of::<*mut ()>()
);
const _: () =
    assert!(!mem::needs_drop::<Node>(), "Node frees its port now: Port is not needed any more");

impl Port {
    fn pointer(&self) -> *mut openvino_sys::ov_output_const_port_t {
        // SAFETY: a `Node` has one field, the pointer, which fills it (asserted above).
        unsafe { mem::transmute_copy(&self.node) }
    }

    /// One of the port's names; empty where it has none.
    fn name(&self) -> String {
        let mut name = ptr::null_mut();
        // SAFETY: the port lives as long as `self`; the string is OpenVINO's copy, which is ours to
        // free when it has been read.
        unsafe {
            let status = openvino_sys::ov_port_get_any_name(self.pointer(), &mut name);
            if status != openvino_sys::ov_status_e::OK || name.is_null() {
                return String::new();
            }
            let text = CStr::from_ptr(name).to_string_lossy().into_owned();
            openvino_sys::ov_free(name);
            text
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: the port is this one's alone, and is freed once: the `Node` that is dropped next
        // frees nothing.
        unsafe { openvino_sys::ov_output_const_port_free(self.pointer()) };
    }
}

fn check_input(model: &Model, name: &str, file: &str) -> Result<(), EngineError> {
    let wrong = |what: String| EngineError::Shape {
        kind: KIND,
        file: file.to_owned(),
        what,
        expected: format!("one input {name:?} of f32"),
    };
    let inputs = model.get_inputs_len().map_err(|error| wrong(error.to_string()))?;
    if inputs != 1 {
        return Err(wrong(format!("{inputs} inputs")));
    }
    let outlet = model.get_input_by_index(0).and_then(|node| Outlet::of(&Port { node }));
    match outlet.map_err(|error| wrong(error.to_string()))? {
        Outlet { name: found, kind, .. } if found == name && kind == "f32" => Ok(()),
        Outlet { name: found, kind, .. } => Err(wrong(format!("an input {found:?} of {kind}"))),
    }
}

fn check_output(
    model: &Model,
    name: &str,
    expected: [i64; 4],
    file: &str,
) -> Result<(), EngineError> {
    let wrong = |what: String| EngineError::Shape {
        kind: KIND,
        file: file.to_owned(),
        what,
        expected: format!("an output {name:?} of f32 {expected:?}"),
    };
    let outputs = model.get_outputs_len().map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    for index in 0..outputs {
        let outlet = model.get_output_by_index(index).and_then(|node| Outlet::of(&Port { node }));
        let Outlet { name: called, kind, shape } =
            outlet.map_err(|error| wrong(error.to_string()))?;
        let Some(shape) = shape else {
            found.push(format!("an output {called:?} whose shape follows the picture"));
            continue;
        };
        if called == name && kind == "f32" && shape == expected {
            return Ok(());
        }
        found.push(format!("an output {called:?} of {kind} {shape:?}"));
    }
    Err(wrong(found.join(" and ")))
}

impl Engine for OpenVino {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn takes_levels(&self) -> bool {
        true
    }

    fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        let refused = |error: InferenceError| EngineError::Open {
            kind: KIND,
            file: self.file.clone(),
            reason: one_line(&error),
        };
        let request = {
            let mut model = self.model.lock();
            model.create_infer_request().map_err(refused)?
        };
        OpenVinoLane::new(self.info.clone(), request, &self.input, &self.output)
            .map(|lane| Box::new(lane) as Box<dyn Lane>)
            .map_err(refused)
    }
}

struct OpenVinoLane {
    info: EngineInfo,
    request: InferRequest,
    input: Tensor,
    output: Tensor,
}

impl OpenVinoLane {
    /// The request's own tensors are asked for once and given back to it, so that it reads and
    /// writes these and no others: a frame then takes no memory and no look-up of names.
    fn new(
        info: EngineInfo,
        mut request: InferRequest,
        input: &str,
        output: &str,
    ) -> Result<Self, InferenceError> {
        let mut own = |name: &str| {
            let tensor = request.get_tensor(name)?;
            request.set_tensor(name, &tensor)?;
            Ok::<_, InferenceError>(tensor)
        };
        let (input, output) = (own(input)?, own(output)?);
        Ok(Self { info, request, input, output })
    }
}

impl Lane for OpenVinoLane {
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        let failed =
            |error: InferenceError| EngineError::Infer { kind: KIND, reason: one_line(&error) };
        for slot in slots {
            slot.write_levels(self.input.get_data_mut().map_err(failed)?, &self.info)?;
            self.request.infer().map_err(failed)?;
            slot.fill(self.output.get_data::<f32>().map_err(failed)?, &self.info)?;
        }
        Ok(())
    }
}
