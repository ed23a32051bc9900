//! Folders in which the program looks for what is installed with it.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

/// What the loader said of a library that it did not open.
pub(crate) fn loader_said(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Names a folder of run-time libraries, before all others.
pub(crate) const OVERRIDE: &str = "VEHICLECOUNT_RUNTIME";

/// Folders in which to look for what is installed with the program: beside it, in the folders above
/// it, and in its prefix.
///
/// `inner` is the path below a source tree, `shared` the one below an installation's prefix.
pub fn folders(variable: &str, inner: &str, shared: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .into_iter()
        .collect();
    for start in [own_library(), env::current_exe().ok()].into_iter().flatten() {
        for above in start.ancestors().skip(1) {
            found.push(above.join(inner));
            found.push(above.join(shared));
        }
    }
    found.extend(["/usr/local", "/usr"].map(|prefix| Path::new(prefix).join(shared)));
    let mut seen = Vec::new();
    found.retain(|folder| {
        let new = !seen.contains(folder);
        seen.push(folder.clone());
        new
    });
    found
}

/// The shared library that this code was linked into: the plugin, or the program itself.
fn own_library() -> Option<PathBuf> {
    #[cfg(unix)]
    {
        let here: fn() -> Option<PathBuf> = own_library;
        // SAFETY: `dladdr` reads the address only as a number, and fills `info`, whose strings live
        // as long as the library is loaded: as long as this code runs.
        let name = unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(here as *const libc::c_void, &mut info) == 0 || info.dli_fname.is_null()
            {
                return None;
            }
            std::ffi::CStr::from_ptr(info.dli_fname).to_owned()
        };
        let path = PathBuf::from(std::ffi::OsString::from(name.to_string_lossy().into_owned()));
        path.canonicalize().ok()
    }
    #[cfg(not(unix))]
    None
}
