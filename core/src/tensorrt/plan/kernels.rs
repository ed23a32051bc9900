//! Kernels that TensorRT-RTX compiled for a plan, kept for the next start.

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr;

use parking_lot::MutexGuard;

use super::{Plan, append};
use crate::digest;
use crate::tensorrt::{Flavour, files, log};

/// Kernels that TensorRT-RTX compiled for the plan on this machine.
pub(super) struct Kernels {
    /// The library's object.
    pub cache: *mut c_void,
    path: PathBuf,
    /// What lies in the file, by its SHA-256.
    written: String,
}

impl Plan {
    /// TensorRT-RTX compiles kernels for the GPU at hand, a GPU of the model `gpu`, when a context
    /// first runs a batch size: seconds. From here on contexts use those that lie in `folder` from
    /// earlier times, and [`write_kernels`](Self::write_kernels) and the plan's end leave them
    /// there. For other libraries this does nothing. Call it before the first context is made.
    /// Returns whether nothing must be compiled, as far as is known.
    pub fn keep_kernels(&self, folder: &Path, gpu: &str) -> bool {
        if self.library.flavour() != Flavour::TensorRtRtx {
            return true;
        }
        let plan = files::short(&self.digest);
        let name = format!("kernels-{plan}-{}.cache", files::short_digest(gpu));
        let path = folder.join(name);
        let held = files::read_checked(&path).unwrap_or_default();
        let mut taken = 0;
        // SAFETY: the engine lives, and the bytes live through the call.
        let made = unsafe {
            (self.library.shim.kernels)(self.engine, held.as_ptr().cast(), held.len(), &mut taken)
        };
        if made.is_null() {
            return false;
        }
        let written = if taken == 0 { String::new() } else { digest::sha256(&held) };
        if let Some(before) = self.kernels().replace(Kernels { cache: made, path, written }) {
            // SAFETY: no context has been made of it, as the caller was told.
            unsafe { (self.library.shim.kernels_drop)(before.cache) };
        }
        taken != 0
    }

    pub(super) fn kernels(&self) -> MutexGuard<'_, Option<Kernels>> {
        self.kernels.lock()
    }

    /// Held while something runs that may compile kernels: meanwhile they are not written, nor
    /// compiled twice over.
    pub fn compiling(&self) -> impl Drop + '_ {
        self.kernels()
    }

    /// Leaves the kernels that were compiled so far for the next start, where there are new ones.
    /// That they cannot be written is no error: they are compiled again.
    pub fn write_kernels(&self) {
        let mut kernels = self.kernels();
        let Some(Kernels { cache: held, path, written }) = kernels.as_mut() else { return };
        let mut bytes = Vec::<u8>::new();
        // SAFETY: the object lives, and `append` gets the `Vec` that it is made for.
        let told = unsafe {
            (self.library.shim.kernels_write)(*held, ptr::from_mut(&mut bytes).cast(), append)
        };
        let digest = digest::sha256(&bytes);
        if told != 0 && *written != digest {
            match files::write_checked(path, &bytes) {
                Ok(()) => *written = digest,
                Err(error) => {
                    log::tell(log::Severity::Info, &format!("{}: {error}", path.display()))
                }
            }
        }
    }
}
