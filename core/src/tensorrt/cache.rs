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
//! saving time: what TensorRT 10 and 11 measured while they built ([`super::Built::timings`]), for
//! one version and model of GPU; and the kernels that TensorRT-RTX compiled for a plan on a GPU
//! ([`Plan::keep_kernels`]). The library itself refuses what does not fit, another driver's too,
//! and both are then made anew. Of two processes that write one, the later stays.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::builder::OnProgress;
use super::files::{read_checked, short, short_digest, write_checked, write_whole};
use super::half::to_half;
use super::log::{self, Severity};
use super::{Build, Flavour, Library, Plan, Precision, Progress, TensorRtError};
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
    pub refused: Option<&'a Refused>,
    /// TensorRT 10 alone: an existing calibration table.
    pub calibration: Option<&'a Path>,
    /// Keep names and precisions of layers in the plan.
    pub detailed: bool,
}

/// A plan that was found not to work.
#[derive(Clone, Debug)]
pub struct Refused {
    /// SHA-256 of the plan.
    pub sha256: String,
    /// What it does wrong.
    pub reason: String,
}

/// Everything that a plan depends on: the JSON beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Label {
    /// The network's file name, without its end.
    pub network: String,
    /// SHA-256 of the network.
    pub network_sha256: String,
    /// Which library.
    pub library: Flavour,
    /// Its version.
    pub version: String,
    /// Compute capability of the GPU times ten.
    pub capability: u32,
    /// The GPU's model; empty for a plan that serves every model of the compute capability.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gpu: String,
    /// Precision.
    pub precision: Precision,
    /// Input width in pixels.
    pub width: usize,
    /// Input height in pixels.
    pub height: usize,
    /// Largest batch.
    pub max_batch: usize,
    /// SHA-256 of the calibration table, if there was one.
    #[serde(default)]
    pub calibration_sha256: Option<String>,
    /// Whether names and precisions of layers are in the plan.
    #[serde(default)]
    pub detailed: bool,
    /// SHA-256 of the plan; empty in a request.
    #[serde(default)]
    pub plan_sha256: String,
}

/// How often somebody who waits for another process asks whether to go on.
const PATIENCE: Duration = Duration::from_millis(100);

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

impl Label {
    /// The label of what is asked for.
    pub fn of(request: &PlanRequest<'_>) -> Result<Self, TensorRtError> {
        let calibration_sha256 =
            request.calibration.map(read).transpose()?.map(|table| digest(&table));
        let serves_all = request.library.flavour() == Flavour::TensorRtRtx;
        Ok(Self {
            network: request.onnx.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            network_sha256: request.sha256.to_owned(),
            library: request.library.flavour(),
            version: request.library.version().to_string(),
            capability: request.capability,
            gpu: if serves_all { String::new() } else { request.gpu.to_owned() },
            precision: request.precision,
            width: request.input.width,
            height: request.input.height,
            max_batch: request.max_batch,
            calibration_sha256,
            detailed: request.detailed,
            plan_sha256: String::new(),
        })
    }

    /// The plan's name without its end: what a person wants to know, and a digest of everything.
    fn name(&self) -> String {
        // Names of layers change nothing in what a plan does.
        let all = serde_json::to_string(&Self {
            plan_sha256: String::new(),
            detailed: false,
            ..self.clone()
        });
        let digest = digest(all.expect("a label is plain").as_bytes());
        format!(
            "{}-{}-{}x{}-b{}-sm{}-{}-{}-{}",
            self.model(),
            self.precision.name(),
            self.width,
            self.height,
            self.max_batch,
            self.capability,
            self.library.name(),
            self.version,
            &digest[..12]
        )
    }

    /// What it is, in words.
    fn what(&self) -> String {
        let Self { precision, width, height, max_batch, library, version, .. } = self;
        format!(
            "{} in {precision}, {width}x{height}, batches to {max_batch}, by {library} {version} for {}",
            self.model(),
            self.target()
        )
    }

    /// Which GPUs it is for, in words.
    pub fn target(&self) -> String {
        target(&self.gpu, self.capability)
    }

    /// The network's name without its precision: quantized files say it in their own names.
    pub fn model(&self) -> &str {
        let name = self
            .network
            .strip_suffix(self.precision.name())
            .and_then(|rest| rest.strip_suffix('-'));
        name.unwrap_or(&self.network)
    }

    /// In what `self`, which is there, differs from `wanted`.
    fn differs(&self, wanted: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare =
            |what: &str, has: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
                let (has, wanted) = (has.to_string(), wanted.to_string());
                if has != wanted {
                    differences.push(format!("{what} {has}, now {wanted}"));
                }
            };
        let capability = |value: u32| format!("{}.{}", value / 10, value % 10);
        compare("network", &short(&self.network_sha256), &short(&wanted.network_sha256));
        compare(
            "library",
            &format!("{} {}", self.library, self.version),
            &format!("{} {}", wanted.library, wanted.version),
        );
        compare("compute capability", &capability(self.capability), &capability(wanted.capability));
        let gpu = |label: &Self| {
            if label.gpu.is_empty() { "of any model".to_owned() } else { label.gpu.clone() }
        };
        compare("GPU", &gpu(self), &gpu(wanted));
        compare("precision", &self.precision.name(), &wanted.precision.name());
        compare(
            "input",
            &format!("{}x{}", self.width, self.height),
            &format!("{}x{}", wanted.width, wanted.height),
        );
        compare("largest batch", &self.max_batch, &wanted.max_batch);
        let table =
            |label: &Self| label.calibration_sha256.as_deref().map_or("none", short).to_owned();
        compare("calibration table", &table(self), &table(wanted));
        differences
    }
}

/// GPUs of that model and compute capability, in words; an empty model is any.
pub(super) fn target(gpu: &str, capability: u32) -> String {
    let capability = format!("compute capability {}.{}", capability / 10, capability % 10);
    if gpu.is_empty() { capability } else { format!("{gpu} ({capability})") }
}

fn read(path: &Path) -> Result<Vec<u8>, TensorRtError> {
    fs::read(path).map_err(|error| TensorRtError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// Builds what is asked for, and nothing else.
pub fn build(
    request: &PlanRequest<'_>,
    capabilities: &[u32],
    watch: OnProgress<'_>,
) -> Result<Vec<u8>, TensorRtError> {
    let mut onnx = read(request.onnx)?;
    let library = request.library;
    let takes_flags = (library.flavour(), library.version().major) == (Flavour::TensorRt, 10);
    let calibration = request.calibration.map(read).transpose()?;
    let half = match request.precision {
        Precision::Fp32 => false,
        // With a table, TensorRT 10 chooses the types itself, and its names must be those of the
        // graph that was calibrated.
        _ if calibration.is_some() && takes_flags => true,
        Precision::Fp16 | Precision::Int8 | Precision::Auto => {
            onnx = to_half(&onnx).map_err(|error| TensorRtError::File {
                path: request.onnx.display().to_string(),
                reason: error.to_string(),
            })?;
            false
        }
    };
    let place = timings_path(request);
    let timings = place.as_deref().and_then(read_checked).unwrap_or_default();
    let built = library.build(
        &Build {
            onnx: &onnx,
            input: request.input,
            max_batch: request.max_batch,
            half,
            calibration: calibration.as_deref(),
            capabilities,
            detailed: request.detailed,
            timings: &timings,
        },
        watch,
    )?;
    if let Some(place) = place.filter(|_| !built.timings.is_empty() && built.timings != timings)
        && let Err(error) = write_checked(&place, &built.timings)
    {
        log::tell(
            Severity::Info,
            &format!("{}: {error}: the next build measures anew", place.display()),
        );
    }
    Ok(built.plan)
}

/// Where the times lie that builds of this library on this model of GPU have measured; `None` for
/// TensorRT-RTX, which measures nothing.
fn timings_path(request: &PlanRequest<'_>) -> Option<PathBuf> {
    let library = request.library;
    let (capability, model) = (request.capability, short_digest(request.gpu));
    let name = format!(
        "timings-sm{capability}-{model}-{}-{}.cache",
        library.flavour().name(),
        library.version()
    );
    (library.flavour() == Flavour::TensorRt).then_some(folder()?.join(name))
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

/// The file at `path`, locked against other processes. While another one has it, `watch` is asked
/// whether to go on waiting. The inner error is that nothing can be locked there.
pub fn alone(path: &Path, watch: OnProgress<'_>) -> Result<io::Result<File>, TensorRtError> {
    let made = fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))
        .and_then(|()| File::create(path));
    let file = match made {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Ok(file)),
            Err(TryLockError::Error(error)) => return Ok(Err(error)),
            Err(TryLockError::WouldBlock) if watch(Progress::Waiting) => thread::sleep(PATIENCE),
            Err(TryLockError::WouldBlock) => return Err(TensorRtError::Ended),
        }
    }
}

/// The plan at `path` and its SHA-256, if its label is `wanted`; the reason, where something is
/// there that cannot be used.
fn kept(path: &Path, wanted: &Label) -> Result<Option<(Vec<u8>, String)>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let beside = label_path(path);
    let text = fs::read(&beside).map_err(|error| format!("{}: {error}", beside.display()))?;
    let label: Label =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", beside.display()))?;
    let differences = label.differs(wanted);
    if !differences.is_empty() {
        return Err(format!("{} is for another use ({})", path.display(), differences.join("; ")));
    }
    let sha256 = digest(&bytes);
    if label.plan_sha256 != sha256 {
        return Err(format!(
            "{} is damaged: its SHA-256 is not the one that was written beside it",
            path.display()
        ));
    }
    Ok(Some((bytes, sha256)))
}

/// What there is instead: the kept plan of the same network that comes nearest, and in what it
/// differs.
fn other(folder: &Path, wanted: &Label) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let labels = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let json = path.extension().is_some_and(|extension| extension == "json");
        let label: Label = json.then(|| serde_json::from_slice(&fs::read(&path).ok()?).ok())??;
        (label.network == wanted.network && label.precision == wanted.precision)
            .then_some((path, label))
    });
    let (path, differences) = labels
        .map(|(path, label)| (path.with_extension(""), label.differs(wanted)))
        .min_by_key(|(path, differences)| (differences.len(), path.clone()))?;
    Some(format!("{} is for another use ({})", path.display(), differences.join("; ")))
}

/// Where the label of the plan at `path` lies: never at a manifest's place.
pub fn label_path(path: &Path) -> PathBuf {
    path.with_added_extension("json")
}

/// Writes the plan and its label, each whole or not at all; the label last, as it vouches for the
/// plan.
pub fn write(path: &Path, plan: &[u8], label: &Label) -> io::Result<()> {
    let label = Label { plan_sha256: digest(plan), ..label.clone() };
    write_whole(path, plan)?;
    let text = serde_json::to_string_pretty(&label).expect("a label is plain");
    write_whole(&label_path(path), text.as_bytes())
}
