//! What has agreed on this machine, remembered in the cache folder.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache;
use crate::engine::{Engine, EngineKind};
use crate::machine::processor;
use crate::model::{File, Golden, GoldenCount};
use crate::preprocess::InputSize;

/// What has agreed, as a line of the state file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreement {
    /// SHA-256 of the ONNX file.
    file: String,
    engine: EngineKind,
    version: String,
    /// A GPU runs one file in several.
    #[serde(default)]
    precision: String,
    /// SHA-256 of the plan that was built of the file: another build is another plan.
    #[serde(default)]
    plan: String,
    device: String,
    /// A home folder may be one for many machines.
    processor: String,
    input: String,
    /// What was expected: a new expectation is compared anew.
    golden: String,
}

impl Agreement {
    pub fn new(
        engine: &dyn Engine,
        input: InputSize,
        file: &File,
        golden: &Golden,
        expected: &GoldenCount,
    ) -> Self {
        let info = engine.info();
        Self {
            file: file.sha256.clone(),
            engine: info.kind,
            version: info.version.clone(),
            precision: info.precision.clone(),
            plan: engine.plan().unwrap_or_default().to_owned(),
            device: info.device.clone(),
            processor: processor().to_owned(),
            input: format!("{}x{}", input.width, input.height),
            golden: format!(
                "{} within {} at {}x{}",
                expected.count, expected.tolerance, golden.width, golden.height
            ),
        }
    }
}

/// The file of what has agreed, a JSON object a line. It may be lost, damaged or not writable: then
/// there is no more than a comparison too many.
pub(super) struct State {
    path: Option<PathBuf>,
    text: String,
}

/// A state file beyond this size, bytes, begins anew: each update of a library adds lines.
const STATE_LIMIT: usize = 1 << 18;

impl State {
    pub fn read() -> Self {
        let path = cache::folder().map(|folder| folder.join("golden.jsonl"));
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        Self { path, text }
    }

    pub fn has(&self, agreement: &Agreement) -> bool {
        self.text.lines().any(|line| {
            serde_json::from_str(line).is_ok_and(|known: Agreement| known == *agreement)
        })
    }

    /// Appends a line, in one write: other processes may do the same.
    pub fn add(&self, agreement: &Agreement) {
        let (Some(path), Ok(line)) = (&self.path, serde_json::to_string(agreement)) else { return };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let mut options = OpenOptions::new();
            options.create(true);
            if self.text.len() > STATE_LIMIT {
                options.write(true).truncate(true)
            } else {
                options.append(true)
            };
            options.open(path)?.write_all(format!("{line}\n").as_bytes())
        };
        // It is compared again the next time.
        let _ = write();
    }
}
