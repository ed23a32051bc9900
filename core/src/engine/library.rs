//! Where run-time libraries are looked for.

use std::env;
use std::path::{Path, PathBuf};

use super::{EngineError, EngineKind};

/// Names a folder of run-time libraries, before all others.
pub(crate) const OVERRIDE: &str = "VEHICLECOUNT_RUNTIME";

/// Folders in which to look for what is installed with the program: beside it, in the folders above it, and in its prefix.
///
/// `inner` is the path below a source tree, `shared` the one below an installation's prefix.
pub fn folders(variable: &str, inner: &str, shared: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from).into_iter().collect();
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
        // SAFETY: `dladdr` reads the address only as a number, and fills `info`, whose strings live as long as the library is loaded:
        // as long as this code runs.
        let name = unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(here as *const libc::c_void, &mut info) == 0 || info.dli_fname.is_null() {
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

/// Finds `library` for the engine `kind`: in the folders of the project's own, below `folder`, else where the system's loader does.
pub(super) fn find(kind: EngineKind, folder: &str, library: &str) -> Result<PathBuf, EngineError> {
    let places = folders(OVERRIDE, ".runtime", "lib/vehiclecount");
    let own = places.iter().map(|place| place.join(folder).join(library)).find(|path| path.is_file());
    if let Some(path) = own {
        return Ok(path);
    }
    // SAFETY: the library's initialisers run; these are libraries made to be opened so, and they are about to be used.
    let said = match unsafe { libloading::Library::new(library) } {
        Ok(_) => return Ok(PathBuf::from(library)),
        Err(error) => std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
    };
    let existing = places.iter().filter(|place| place.is_dir()).map(|place| place.join(folder).display().to_string());
    // A library that is there, but not one that it needs, shows in what the loader says.
    let looked: Vec<_> = existing.chain([format!("the system's libraries: {said}")]).collect();
    Err(EngineError::Library {
        kind,
        library: library.to_owned(),
        looked: looked.join(", "),
        remedy: format!("run `./run runtime`, or name the folder that holds {folder}/{library} in {OVERRIDE}"),
    })
}
