//! The manifest: what goes into a model, what comes out, its files and its golden picture.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::engine::EngineKind;
use crate::preprocess::Resize;

/// The manifest's schema that this version reads.
pub const SCHEMA: u32 = 1;

/// The manifest that lies beside a model's files, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of the manifest's form: [`SCHEMA`].
    pub schema: u32,
    /// Name of the model, such as "mobilenetv3-large".
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub output: Output,
    /// The files, each for some engines.
    pub files: Vec<File>,
    /// Parameters of the network as it runs.
    #[serde(default)]
    pub parameters: Option<u64>,
    /// Licence of the weights.
    pub licence: String,
    /// Whom to name for the training data.
    #[serde(default)]
    pub attribution: Vec<String>,
    /// Measured errors, as the training chain wrote them.
    #[serde(default)]
    pub accuracy: serde_json::Value,
    /// The golden picture and what each file makes of it.
    #[serde(default)]
    pub golden: Option<Golden>,
}

/// A picture on which it is known what the files count ([`crate::golden`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Golden {
    /// A PNG beside the manifest: the model's input, of the size below.
    pub picture: String,
    /// A JSON file beside the manifest: the density that each file makes of it. Without it, the
    /// count alone is compared.
    #[serde(default)]
    pub density: Option<String>,
    /// Width of the input in pixels.
    pub width: usize,
    /// Height of the input in pixels.
    pub height: usize,
    /// What to expect, by the name of the ONNX file.
    pub files: BTreeMap<String, GoldenCount>,
}

/// What one file counts on the golden picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenCount {
    /// Vehicles.
    pub count: f64,
    /// How far from it an engine may be, in vehicles.
    pub tolerance: f64,
}

/// The model's input: RGB 0..255, f32, NCHW.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Input {
    /// Name of the tensor.
    pub name: String,
    /// Preferred width in pixels.
    pub width: usize,
    /// Preferred height in pixels.
    pub height: usize,
    /// Both sides must be multiples of this.
    pub multiple_of: usize,
    /// How pictures are fitted in.
    #[serde(default)]
    pub resize: Resize,
}

/// The model's output: vehicles per cell, f32, N x 1 x H/stride x W/stride.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Name of the tensor.
    pub name: String,
    /// Input pixels per cell, both ways.
    pub stride: usize,
}

/// One ONNX file of the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Its name, beside the manifest.
    pub file: String,
    /// "fp32", "fp16" or "int8".
    pub precision: String,
    /// SHA-256 of its bytes, lower-case hexadecimal.
    pub sha256: String,
    /// Engines that take it.
    pub engines: Vec<EngineKind>,
}

/// Largest side of a model's input in pixels.
pub(super) const MAX_SIDE: usize = 4096;

pub(super) fn check(path: &Path, manifest: &Manifest) -> Result<(), ModelError> {
    let wrong = |key: &str, value: &dyn ToString, remedy: &str| {
        Err(ModelError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            remedy: remedy.to_owned(),
        })
    };
    if manifest.schema != SCHEMA {
        return wrong("schema", &manifest.schema, &format!("this version reads schema {SCHEMA}"));
    }
    if manifest.input.multiple_of == 0 {
        return wrong("input.multiple-of", &0, "it must be at least 1");
    }
    let stride = manifest.output.stride;
    if stride == 0 || !manifest.input.multiple_of.is_multiple_of(stride) {
        return wrong("output.stride", &stride, "it must divide input.multiple-of");
    }
    if manifest.files.is_empty() {
        return wrong("files", &"empty", "list at least one ONNX file");
    }
    let beside = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
    for file in &manifest.files {
        if !beside(&file.file) {
            return wrong("files.file", &file.file, "a file must lie beside its manifest");
        }
    }
    if let Some(golden) = &manifest.golden {
        for name in [Some(&golden.picture), golden.density.as_ref()].into_iter().flatten() {
            if !beside(name) {
                return wrong("golden", name, "a file must lie beside its manifest");
            }
        }
        let fits = |side: usize| {
            side > 0 && side.is_multiple_of(manifest.input.multiple_of) && side <= MAX_SIDE
        };
        if !fits(golden.width) || !fits(golden.height) {
            let size = format!("{}x{}", golden.width, golden.height);
            let remedy = format!(
                "both sides must be multiples of {} and at most {MAX_SIDE}",
                manifest.input.multiple_of
            );
            return wrong("golden.width, golden.height", &size, &remedy);
        }
    }
    Ok(())
}
