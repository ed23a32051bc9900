//! What runs the network: one trait, and behind it OpenVINO, ONNX Runtime, TensorRT or a script.
//!
//! Engines on the processor take inputs that were preprocessed before; an engine on a GPU takes
//! pictures, and does that itself ([`gpu`]).
//!
//! Every run-time library is opened when an engine is asked for, never when the program starts.

/// The engines, in the order in which `auto` tries them: the fastest first, as measured on x86-64
/// (docs/engines.md). Calls the macro `$make` with the table.
///
/// To add an engine, write its module, with an `open` as the others have it, and its line here. The
/// number is that of the property `engine`, which saved pipelines may hold: it never changes, and 0
/// is `auto`.
#[macro_export]
macro_rules! engines {
    ($make:ident) => {
        $make! {
            TensorRt = 3, tensorrt, "tensorrt", Gpu, network, "TensorRT, for NVIDIA GPUs";
            OpenVino = 1, openvino, "openvino", Cpu, network, "OpenVINO, for x86-64 processors";
            OnnxRuntime = 2, onnxruntime, "onnxruntime", Cpu, network,
                "ONNX Runtime, for any processor";
            Scripted = 4, scripted, "scripted", Cpu, script,
                "No network: density is the red of the picture, for tests";
        }
    };
}

mod error;
mod file;
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
pub use open::{OpenedEngine, is_installed, open, open_unchecked};
pub use progress::ProgressSink;
pub use slot::{Input, Output, Slot};
