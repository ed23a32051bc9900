//! The part of CUDA that counting needs: the driver, opened at run time, and what is made with it.
//!
//! `libcuda.so.1` comes with NVIDIA's driver; nothing of the CUDA toolkit is needed to build or to
//! run. The bindings are a table of function pointers (`sys`): results are plain numbers there, so
//! that an error code of a driver newer than this code is a code and not undefined behaviour, and a
//! function that is missing is an error with its name.
//!
//! Whatever is made here keeps its [`Context`] and goes with its last owner. Calls enter the
//! context and leave it again, so that threads of other libraries, GStreamer's decoders above all,
//! find theirs as they left it.
//!
//! With the feature `cudarc`, contexts and streams of the crate of that name can be given to an
//! engine and taken from it ([`Context::from_cudarc`](Context#method.from_cudarc)).

mod context;
mod driver;
mod egl;
mod fault;
#[cfg(feature = "cudarc")]
mod interop;
mod kernels;
mod memory;
mod stream;
mod sys;

pub use context::{Context, ContextGuard};
pub use driver::{DeviceInfo, Driver, OLDEST_DRIVER};
pub use egl::EglPicture;
pub use kernels::{COUNT_PTX, CountOrder, Kernels, MAX_REGIONS, PREPROCESS_PTX, PictureOrder};
pub use memory::{DeviceBuffer, PinnedBuffer, Plain};
pub use stream::{Event, ForeignStream, Graph, Stream};

use thiserror::Error;

/// Why something cannot be done on the GPU.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CudaError {
    /// No library of the driver.
    #[error(
        "no NVIDIA driver: {said}; install the driver (in a container: start it with the NVIDIA runtime, `--gpus all`), or take a CPU engine"
    )]
    NoDriver {
        /// What the loader said.
        said: String,
    },
    /// The driver lacks what is needed.
    #[error(
        "the NVIDIA driver is too old: {what}, and CUDA 12.0 is needed; install driver 525 or later"
    )]
    OldDriver {
        /// What it has, or lacks.
        what: String,
    },
    /// The driver is there and does not start.
    #[error(
        "the NVIDIA driver does not start: {reason}; see what `nvidia-smi` says, and restart after a driver update"
    )]
    Init {
        /// What the driver said.
        reason: String,
    },
    /// The driver runs and has no GPU.
    #[error(
        "the NVIDIA driver finds no GPU; see what `nvidia-smi` says, and whether CUDA_VISIBLE_DEVICES hides it"
    )]
    NoDevice,
    /// There are fewer GPUs.
    #[error("there is no GPU {index}: gpu-id goes from 0 to {last} here", last = count - 1)]
    NoSuchDevice {
        /// The one asked for.
        index: u32,
        /// How many there are.
        count: u32,
    },
    /// No memory left.
    #[error(
        "out of memory for {bytes} bytes of {what}; take a smaller batch-size or fewer cameras, or give the GPU less other work"
    )]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// How much of it.
        bytes: usize,
    },
    /// The GPU, or everything of this process on it, is gone: nothing on it works until the process
    /// starts again.
    #[error(
        "the GPU is lost ({call}: {reason}); see the kernel's log for Xid messages, and start the process again"
    )]
    Lost {
        /// The call that found it.
        call: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// A call failed.
    #[error("{call}: {reason}")]
    Call {
        /// The call.
        call: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// What cannot pass between this program and another library that uses CUDA.
    #[error("{0}")]
    Interop(String),
    /// A picture that cannot be taken.
    #[error("{0}")]
    Picture(String),
}

impl CudaError {
    /// Whether every later call will fail too.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
