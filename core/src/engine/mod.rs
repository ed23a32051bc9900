//! What runs the network: one trait, and behind it OpenVINO, ONNX Runtime, TensorRT or a script.
//!
//! Engines on the processor take inputs that were preprocessed before; an engine on a GPU takes
//! pictures, and does that itself ([`gpu`]).
//!
//! Every run-time library is opened when an engine is asked for, never when the program starts.

mod error;
pub mod gpu;
mod info;
mod interface;
mod kind;
mod library;
mod onnxruntime;
mod open;
mod openvino;
mod picture;
mod processor;
mod progress;
pub mod scripted;
mod slot;
mod tensorrt;

pub use crate::tensorrt::Progress;
pub use error::EngineError;
pub(crate) use error::contain;
pub use info::EngineInfo;
pub use interface::{Engine, EngineRequest, Lane};
pub use kind::{Device, ENGINES, EngineEntry, EngineKind, UnknownEngine};
pub use open::{Opened, open, open_unchecked};
pub use progress::ProgressSink;
pub use slot::{Input, Output, Slot};
