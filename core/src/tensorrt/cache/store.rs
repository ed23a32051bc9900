//! The folder of plans: its locks, and plans with their labels.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Label;
use crate::digest::sha256 as digest;
use crate::tensorrt::builder::OnProgress;
use crate::tensorrt::files::write_whole;
use crate::tensorrt::{Progress, TensorRtError};

/// How often a process that waits for another one asks whether to go on.
const PATIENCE: Duration = Duration::from_millis(100);

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
pub(super) fn kept(path: &Path, wanted: &Label) -> Result<Option<(Vec<u8>, String)>, String> {
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
pub(super) fn other(folder: &Path, wanted: &Label) -> Option<String> {
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
