//! Opening an engine.

use std::sync::Arc;

use super::error::{EngineError, contain};
use super::interface::{Engine, EngineRequest};
use super::kind::{Device, EngineKind};
use crate::golden;
use crate::tensorrt::{Flavour, Library};

/// An engine that has opened.
pub struct OpenedEngine {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// What `auto` would have preferred, and why it did not open.
    pub passed_over: Vec<(EngineKind, String)>,
}

/// Opens the engine asked for. `auto` opens the fastest that does open, and tells why faster ones
/// were passed over.
pub fn open(request: &EngineRequest) -> Result<OpenedEngine, EngineError> {
    if request.kind != EngineKind::Auto {
        return Ok(OpenedEngine {
            engine: open_one(request, request.kind)?,
            passed_over: Vec::new(),
        });
    }
    let mut passed_over = Vec::new();
    for kind in EngineKind::preference() {
        match open_one(request, kind) {
            Ok(engine) => return Ok(OpenedEngine { engine, passed_over }),
            Err(error @ EngineError::Ended) => return Err(error),
            Err(error) => passed_over.push((kind, error.to_string())),
        }
    }
    let tried: Vec<_> = passed_over.into_iter().map(|(_, reason)| reason).collect();
    Err(EngineError::None { tried: tried.join("; ") })
}

/// Whether the library of `kind` is there, and for an engine on a GPU the GPU. It need not open a
/// model.
pub fn is_installed(kind: EngineKind) -> bool {
    match kind {
        EngineKind::TensorRt => Library::open(Flavour::Auto).is_ok(),
        EngineKind::OpenVino => super::openvino::is_installed(),
        EngineKind::OnnxRuntime => super::onnxruntime::is_installed(),
        EngineKind::Auto | EngineKind::Scripted => true,
    }
}

/// Opens one engine, and sees once on a machine that it counts what the model is known to count
/// ([`crate::golden`]).
fn open_one(request: &EngineRequest, kind: EngineKind) -> Result<Arc<dyn Engine>, EngineError> {
    contain(kind, "opening it", || {
        let engine = open_unchecked(request, kind)?;
        let reopen = |request: &EngineRequest| open_unchecked(request, kind);
        // Another plan for a GPU takes minutes to build.
        golden::check_once(
            request,
            &*engine,
            (kind.device() == Some(Device::Cpu)).then_some(&reopen),
        )?;
        Ok(engine)
    })
}

macro_rules! openers {
    ($($kind:ident = $number:tt, $module:ident, $name:tt, $device:ident, $runs:ident,
        $title:tt;)*) => {
        /// Opens the engine `kind` without a look at the golden picture: for those that compare it
        /// themselves.
        pub fn open_unchecked(
            request: &EngineRequest,
            kind: EngineKind,
        ) -> Result<Arc<dyn Engine>, EngineError> {
            match kind {
                $(EngineKind::$kind => super::$module::open(request),)*
                EngineKind::Auto => open(request).map(|opened| opened.engine),
            }
        }
    };
}

crate::engines!(openers);
