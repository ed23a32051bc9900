//! Labels: what a plan depends on, as the JSON beside it and as its name.

use serde::{Deserialize, Serialize};

use super::{PlanRequest, read};
use crate::digest::sha256 as digest;
use crate::tensorrt::files::short;
use crate::tensorrt::{Flavour, Precision, TensorRtError};

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
    pub(super) fn name(&self) -> String {
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
    pub(super) fn what(&self) -> String {
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
    pub(super) fn differs(&self, wanted: &Self) -> Vec<String> {
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
pub(in crate::tensorrt) fn target(gpu: &str, capability: u32) -> String {
    let capability = format!("compute capability {}.{}", capability / 10, capability % 10);
    if gpu.is_empty() { capability } else { format!("{gpu} ({capability})") }
}
