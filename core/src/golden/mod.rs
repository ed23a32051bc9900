//! The golden picture: an engine that opens is not yet an engine that counts.
//!
//! A network can be run wrongly without any error: an INT8 plan whose scales were lost counts
//! nothing, on every picture. So a model comes with a picture and with what each of its files makes
//! of it, the count and the density, measured by another implementation (`engines/verify.py`). When
//! a file is opened on an engine for the first time on a machine, the picture is run through and
//! compared ([`check_once`]); that it agreed is remembered in the cache folder, for the very file,
//! expectation, engine, version, device, processor and input size.
//!
//! What is expected holds for one input size. At another one
//!
//! - the file is opened once more at the golden size and compared there, where that is quick: on
//!   processors. On a GPU it would mean to build another plan, for minutes;
//! - the engine in the size that was asked for must count something like it on the scaled picture
//!   ([`Reference::roughly`]), which shows an engine that counts nothing, or far too much.

mod agreement;
mod reference;

use std::sync::Arc;

use agreement::{Agreement, State};
pub use reference::{Comparison, Reference};

use crate::engine::{Engine, EngineError, EngineInfo, EngineKind, EngineRequest};
use crate::model::{File, Golden, GoldenCount, Model, ModelError};
use crate::tensorrt::Precision;

/// The file of the model that an engine which says `info` of itself runs.
fn file_of<'a>(model: &'a Model, info: &EngineInfo) -> Option<&'a File> {
    let own = match info.kind {
        EngineKind::TensorRt => {
            info.precision.parse::<Precision>().ok().and_then(|precision| precision.file(model))
        }
        kind => model.file_in(kind, &info.precision),
    };
    own.or_else(|| model.file_for(info.kind))
}

/// What the manifest says of `file`.
fn expectation<'a>(model: &'a Model, file: &File) -> Option<(&'a Golden, &'a GoldenCount)> {
    let golden = model.manifest.golden.as_ref()?;
    Some((golden, golden.files.get(&file.file)?))
}

/// Opens an engine once more, for another request.
pub(crate) type Reopen<'a> = &'a dyn Fn(&EngineRequest) -> Result<Arc<dyn Engine>, EngineError>;

/// Compares `engine`, opened for `request`, with the golden picture, unless it has agreed on this
/// machine before. Nothing to do where the manifest has no golden picture for the file. Where
/// `reopen` is `None`, opening it at the golden size takes too long.
pub(crate) fn check_once(
    request: &EngineRequest,
    engine: &dyn Engine,
    reopen: Option<Reopen<'_>>,
) -> Result<(), EngineError> {
    let (model, info) = (&request.model, engine.info());
    let Some(file) = file_of(model, info) else { return Ok(()) };
    let Some((golden, expected)) = expectation(model, file) else { return Ok(()) };
    let state = State::read();
    let agreement = Agreement::new(engine, info.input, file, golden, expected);
    if state.has(&agreement) {
        return Ok(());
    }
    let unreadable =
        |error: ModelError| EngineError::Model { kind: info.kind, reason: error.to_string() };
    let Some(reference) = Reference::read(model, file).map_err(unreadable)? else { return Ok(()) };
    let reference = reference.in_precision(&info.precision);
    if info.input == reference.size() {
        reference.judge(engine)?;
    } else {
        let agreement = Agreement::new(engine, reference.size(), file, golden, expected);
        if let Some(reopen) = reopen.filter(|_| !state.has(&agreement)) {
            let engine = reopen(&EngineRequest {
                input: Some(reference.size()),
                max_batch: 1,
                ..request.clone()
            })?;
            reference.judge(&*engine)?;
            state.add(&agreement);
        }
        let rough = reference.roughly(model, engine)?;
        if let Some((count, bounds)) = rough.filter(|(count, bounds)| !bounds.contains(count)) {
            let what = format!(
                "it counts {count:.2} vehicles on {} scaled to its input, where {:.1} to {:.1} are expected",
                reference.picture,
                bounds.start(),
                bounds.end()
            );
            return Err(reference.failed(info, &what));
        }
    }
    state.add(&agreement);
    Ok(())
}

/// Compares `engine` with the golden picture of `file`, whatever was seen before, and remembers
/// that it agreed. The engine must have been opened at [`Reference::size`].
pub fn verify(
    model: &Model,
    file: &File,
    reference: &Reference,
    engine: &dyn Engine,
) -> Result<Comparison, EngineError> {
    let info = engine.info();
    let comparison = reference.compare(engine)?;
    if let Some((golden, expected)) = expectation(model, file).filter(|_| comparison.agrees()) {
        let (state, agreement) =
            (State::read(), Agreement::new(engine, info.input, file, golden, expected));
        if !state.has(&agreement) {
            state.add(&agreement);
        }
    }
    Ok(comparison)
}
