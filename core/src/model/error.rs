//! Why a model cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a model cannot be used.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Nothing there.
    #[error(
        "model {name:?} was not found (looked in {looked}); name a manifest (.json), an .onnx file beside its manifest, or an installed model"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        looked: String,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a manifest.
    #[error("{path}: not a model manifest: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        source: serde_json::Error,
    },
    /// A value that cannot be.
    #[error("{path}: {key} is {value}: {remedy}")]
    Value {
        /// The manifest.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// An ONNX file that no manifest describes.
    #[error(
        "{path}: no manifest lists this file; put one beside it (engines/README.md shows how it is written)"
    )]
    NoManifest {
        /// The ONNX file.
        path: PathBuf,
    },
    /// The file is not the one that the manifest describes.
    #[error(
        "{path}: its SHA-256 is {got}, the manifest says {expected}: the file is damaged or another one; install the model again, or write a new manifest"
    )]
    Checksum {
        /// The ONNX file.
        path: PathBuf,
        /// SHA-256 in the manifest.
        expected: String,
        /// SHA-256 of the file.
        got: String,
    },
}
