//! Where what was learnt about this machine is kept.

use std::env;
use std::path::PathBuf;

/// The folder of what may be lost at any time: `VEHICLECOUNT_CACHE`, else `vehiclecount` in
/// `XDG_CACHE_HOME` or in `~/.cache`. It need not exist; `None` where no home is known.
pub fn folder() -> Option<PathBuf> {
    let named =
        |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("VEHICLECOUNT_CACHE").or_else(|| {
        // The XDG specification: a path that is not absolute is to be ignored.
        let caches = named("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        Some(caches.or_else(|| Some(named("HOME")?.join(".cache")))?.join("vehiclecount"))
    })
}
