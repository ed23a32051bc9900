//! Where the run-time libraries of engines are looked for.

use std::path::PathBuf;

use super::error::EngineError;
use super::kind::EngineKind;
use crate::places::{OVERRIDE, folders, loader_said};

/// Finds `library` for the engine `kind`: in the folders of the project's own, below `folder`, else
/// where the system's loader does.
pub(super) fn find(kind: EngineKind, folder: &str, library: &str) -> Result<PathBuf, EngineError> {
    let places = folders(OVERRIDE, ".runtime", "lib/vehiclecount");
    let own =
        places.iter().map(|place| place.join(folder).join(library)).find(|path| path.is_file());
    if let Some(path) = own {
        return Ok(path);
    }
    // SAFETY: the library's initialisers run; these are libraries made to be opened so, and they
    // are about to be used.
    let said = match unsafe { libloading::Library::new(library) } {
        Ok(_) => return Ok(PathBuf::from(library)),
        Err(error) => loader_said(&error),
    };
    let existing = places
        .iter()
        .filter(|place| place.is_dir())
        .map(|place| place.join(folder).display().to_string());
    // A library that is there, but not one that it needs, shows in what the loader says.
    let looked: Vec<_> = existing.chain([format!("the system's libraries: {said}")]).collect();
    Err(EngineError::Library {
        kind,
        library: library.to_owned(),
        looked: looked.join(", "),
        remedy: format!(
            "run `./run runtime`, or name the folder that holds {folder}/{library} in {OVERRIDE}"
        ),
    })
}
