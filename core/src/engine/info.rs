//! What an engine says of itself.

use super::kind::EngineKind;
use crate::preprocess::InputSize;

/// What an engine that has opened says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Which engine it is; never `Auto`.
    pub kind: EngineKind,
    /// Version of the run-time library, such as "2026.4.1".
    pub version: String,
    /// What it runs on, in words, such as "CPU, 2 threads".
    pub device: String,
    /// Name of the model.
    pub model: String,
    /// Precision of the model file: "fp32", "fp16" or "int8".
    pub precision: String,
    /// Why that one, where several were tried: what each takes, or why it cannot be used.
    pub choice: Option<String>,
    /// Size of the model's input.
    pub input: InputSize,
    /// Cells in a row of the density grid.
    pub columns: usize,
    /// Rows of the density grid.
    pub rows: usize,
    /// Number of lanes that it runs best at the same time, at least 1.
    pub lanes: usize,
}
