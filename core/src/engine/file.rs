//! Which file of a model an engine takes.

use super::error::EngineError;
use super::interface::EngineRequest;
use super::kind::EngineKind;
use crate::model::File;
use crate::tensorrt::Precision;

/// The file of the model that `kind` takes, checked against its manifest.
pub(super) fn file_for(request: &EngineRequest, kind: EngineKind) -> Result<&File, EngineError> {
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
                "its manifest has files for {kind} in {offered}; precision=auto takes the best of \
                 them, and engine=tensorrt makes every precision itself"
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
