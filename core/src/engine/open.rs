//! Opening an engine.

use std::sync::Arc;

use super::error::{EngineError, contain};
use super::interface::{Engine, EngineRequest};
use super::kind::{Device, EngineKind};
use super::{onnxruntime, openvino, scripted, tensorrt};
use crate::golden;
use crate::model::File;
use crate::tensorrt::Precision;

/// An engine that has opened.
pub struct Opened {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// What `auto` would have preferred, and why it did not open.
    pub passed_over: Vec<(EngineKind, String)>,
}

/// Opens the engine asked for. `auto` opens the fastest that does open, and tells why faster ones
/// were passed over.
pub fn open(request: &EngineRequest) -> Result<Opened, EngineError> {
    if request.kind != EngineKind::Auto {
        return Ok(Opened { engine: open_one(request, request.kind)?, passed_over: Vec::new() });
    }
    let mut passed_over = Vec::new();
    for kind in EngineKind::preference() {
        match open_one(request, kind) {
            Ok(engine) => return Ok(Opened { engine, passed_over }),
            Err(error @ EngineError::Ended) => return Err(error),
            Err(error) => passed_over.push((kind, error.to_string())),
        }
    }
    let tried: Vec<_> = passed_over.into_iter().map(|(_, reason)| reason).collect();
    Err(EngineError::None { tried: tried.join("; ") })
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

/// Opens the engine `kind` without a look at the golden picture: for those that compare it
/// themselves.
pub fn open_unchecked(
    request: &EngineRequest,
    kind: EngineKind,
) -> Result<Arc<dyn Engine>, EngineError> {
    match kind {
        EngineKind::Scripted if request.precision != Precision::Auto => {
            Err(EngineError::Precision {
                kind,
                model: request.model.manifest.name.clone(),
                precision: request.precision,
                remedy: "it runs no network: leave precision at auto".to_owned(),
            })
        }
        EngineKind::Scripted => scripted::open(request),
        EngineKind::OpenVino => openvino::open(request, file_for(request, kind)?),
        EngineKind::OnnxRuntime => onnxruntime::open(request, file_for(request, kind)?),
        EngineKind::TensorRt => tensorrt::open(request),
        EngineKind::Auto => open(request).map(|opened| opened.engine),
    }
}

/// The file of the model that `kind` takes, checked against its manifest.
fn file_for(request: &EngineRequest, kind: EngineKind) -> Result<&File, EngineError> {
    let model = &request.model;
    if request.precision != Precision::Auto
        && model.file_in(kind, request.precision.name()).is_none()
    {
        let has = |precision: &Precision| model.file_in(kind, precision.name()).is_some();
        let all = [Precision::Int8, Precision::Fp16, Precision::Fp32];
        let offered: Vec<_> = all
            .iter()
            .filter(|precision| has(precision))
            .map(|precision| precision.name())
            .collect();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(" and ") };
        return Err(EngineError::Precision {
            kind,
            model: model.manifest.name.clone(),
            precision: request.precision,
            remedy: format!(
                "its manifest has files for {kind} in {offered}; precision=auto takes the best of them, and engine=tensorrt makes every precision itself"
            ),
        });
    }
    let asked = match request.precision {
        Precision::Auto => model.file_for(kind),
        precision => model.file_in(kind, precision.name()),
    };
    let file = asked.ok_or_else(|| {
        let mut listed: Vec<_> = model
            .manifest
            .files
            .iter()
            .flat_map(|file| &file.engines)
            .map(|kind| kind.name())
            .collect();
        listed.sort_unstable();
        listed.dedup();
        EngineError::NoFile { kind, model: model.manifest.name.clone(), listed: listed.join(", ") }
    })?;
    model
        .verify_once(file)
        .map_err(|error| EngineError::Model { kind, reason: error.to_string() })?;
    Ok(file)
}
