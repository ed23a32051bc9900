//! Plans that were built, kept for the next start: the first one takes minutes, later ones a
//! moment.
//!
//! A plan is good for one network, one version of the library, one model of GPU (those of
//! TensorRT-RTX: one compute capability), one precision and one profile. All of that is in the
//! plan's name, and again in a small JSON file beside it, which also has the plan's SHA-256. A plan
//! whose JSON says otherwise, or which the library does not load, is explained and built anew.
//! Files are written under another name and moved into place; while one process builds, others that
//! need the same plan wait for it.
//!
//! Two more things are kept there, each in one file that begins with its own SHA-256, and each only
//! saving time: what TensorRT 10 and 11 measured while they built
//! ([`super::BuildOutput::timings`]), for one version and model of GPU; and the kernels that
//! TensorRT-RTX compiled for a plan on a GPU ([`Plan::keep_kernels`]). The library itself refuses
//! what does not fit, another driver's too, and both are then made anew. Of two processes that
//! write one, the later stays.

mod build;
mod label;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use build::build;
pub use label::Label;
pub(super) use label::target;
pub use store::{alone, label_path, write};
use store::{kept, other};

use super::builder::OnProgress;
use super::log::{self, Severity};
use super::{Flavour, Library, Plan, Precision, Progress, TensorRtError};
use crate::digest::sha256 as digest;
use crate::preprocess::InputSize;

/// What a plan is wanted for.
#[derive(Clone, Debug)]
pub struct PlanRequest<'a> {
    /// The library that builds and loads it.
    pub library: &'a Arc<Library>,
    /// The network's file.
    pub onnx: &'a Path,
    /// Its SHA-256, as its manifest has it.
    pub sha256: &'a str,
    /// The precision to build; not `Auto`.
    pub precision: Precision,
    /// Size of the input.
    pub input: InputSize,
    /// Batches from 1 to this.
    pub max_batch: usize,
    /// Compute capability of the GPU times ten.
    pub capability: u32,
    /// The GPU's model ([`crate::cuda::DeviceInfo::model`]). Plans of TensorRT-RTX serve every
    /// model of a compute capability, and do not depend on it.
    pub gpu: &'a str,
    /// A plan that is not to be used, although it is kept for this.
    pub refused: Option<&'a RefusedPlan>,
    /// TensorRT 10 alone: an existing calibration table.
    pub calibration: Option<&'a Path>,
    /// Keep names and precisions of layers in the plan.
    pub detailed: bool,
}

/// A plan that was found not to work.
#[derive(Clone, Debug)]
pub struct RefusedPlan {
    /// SHA-256 of the plan.
    pub sha256: String,
    /// What it does wrong.
    pub reason: String,
}

/// Where a plan came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there already.
    Kept,
    /// It was built just now.
    Built {
        /// Why one that was there could not be used.
        instead: Option<String>,
        /// Why it is not kept for the next start.
        unkept: Option<String>,
    },
}

/// A plan, and where it came from.
#[derive(Debug)]
pub struct CachedPlan<T> {
    /// The plan.
    pub plan: T,
    /// Where it came from.
    pub origin: Origin,
    /// Its file, if it is kept.
    pub path: Option<PathBuf>,
    /// SHA-256 of the plan.
    pub sha256: String,
}

/// The folder of plans: `engines` in the cache folder.
pub fn folder() -> Option<PathBuf> {
    Some(crate::cache::folder()?.join("engines"))
}

fn read(path: &Path) -> Result<Vec<u8>, TensorRtError> {
    fs::read(path).map_err(|error| TensorRtError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// The plan that is asked for, loaded onto the GPU whose context is current: from the cache, or
/// built, which takes minutes and is watched by `watch`.
pub fn load(
    request: &PlanRequest<'_>,
    watch: OnProgress<'_>,
) -> Result<CachedPlan<Arc<Plan>>, TensorRtError> {
    find(request, folder().as_deref(), &|plan| request.library.load(plan), watch)
}

/// As [`load`], but the plan's bytes, which need no GPU.
pub fn plan_for(
    request: &PlanRequest<'_>,
    watch: OnProgress<'_>,
) -> Result<CachedPlan<Vec<u8>>, TensorRtError> {
    find(request, folder().as_deref(), &|plan| Ok(plan.to_vec()), watch)
}

/// Finds the plan in `folder`, or builds it and keeps it there; `open` says whether it can be used.
fn find<T>(
    request: &PlanRequest<'_>,
    folder: Option<&Path>,
    open: &dyn Fn(&[u8]) -> Result<T, TensorRtError>,
    watch: OnProgress<'_>,
) -> Result<CachedPlan<T>, TensorRtError> {
    // TensorRT-RTX builds for any GPU; TensorRT for the one at hand.
    let wanted = [request.capability];
    let capabilities: &[u32] =
        if request.library.flavour() == Flavour::TensorRtRtx { &wanted } else { &[] };
    let label = Label::of(request)?;
    let unkept = |reason: String| -> Result<CachedPlan<T>, TensorRtError> {
        let bytes = build(request, capabilities, watch)?;
        let origin = Origin::Built { instead: None, unkept: Some(reason) };
        Ok(CachedPlan { plan: open(&bytes)?, origin, path: None, sha256: digest(&bytes) })
    };
    let Some(folder) = folder else {
        return unkept("no folder to keep it in: set HOME or VEHICLECOUNT_CACHE".to_owned());
    };
    let name = label.name();
    let path = folder.join(format!("{name}.plan"));
    let lock = match alone(&folder.join(format!("{name}.lock")), watch)? {
        Ok(lock) => lock,
        Err(error) => return unkept(format!("{}: {error}", folder.display())),
    };
    let instead = match kept(&path, &label) {
        Ok(Some((_, sha256)))
            if request.refused.is_some_and(|refused| refused.sha256 == sha256) =>
        {
            request.refused.map(|refused| format!("{}: {}", path.display(), refused.reason))
        }
        Ok(Some((bytes, sha256))) => match open(&bytes) {
            Ok(plan) => {
                return Ok(CachedPlan { plan, origin: Origin::Kept, path: Some(path), sha256 });
            }
            // Another plan would need as much memory.
            Err(TensorRtError::Load { reason, .. })
                if !reason.to_lowercase().contains("memory") =>
            {
                Some(format!("{} does not load ({reason})", path.display()))
            }
            Err(error) => return Err(error),
        },
        Ok(None) => other(folder, &label),
        Err(reason) => Some(reason),
    };
    let what = label.what();
    let why = instead.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
    log::tell(Severity::Warning, &format!("building {what}, which may take minutes{why}"));
    if !watch(Progress::Building { what: &what, instead: instead.as_deref() }) {
        return Err(TensorRtError::Ended);
    }
    let since = Instant::now();
    let bytes = build(request, capabilities, &|progress| {
        if let Progress::Begin { phase, parent: None, .. } = progress {
            log::tell(Severity::Info, &format!("{phase} ..."));
        }
        watch(progress)
    })?;
    let plan = open(&bytes)?;
    let written = write(&path, &bytes, &label);
    drop(lock);
    let unkept = written.as_ref().err().map(|error| format!("{}: {error}", path.display()));
    let next = match &unkept {
        None => format!("the next start takes it from {}", folder.display()),
        Some(reason) => format!("it is not kept for the next start: {reason}"),
    };
    log::tell(
        Severity::Warning,
        &format!("{what} is built after {:.1} s; {next}", since.elapsed().as_secs_f64()),
    );
    if !watch(Progress::Built { unkept: unkept.as_deref() }) {
        return Err(TensorRtError::Ended);
    }
    let path = written.is_ok().then_some(path);
    Ok(CachedPlan { plan, origin: Origin::Built { instead, unkept }, path, sha256: digest(&bytes) })
}
