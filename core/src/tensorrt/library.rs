//! Finding and opening the library, and making sure that it is of the family it is taken for.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::ffi::{self, Shim};
use super::{Flavour, TensorRtError, log};
use crate::cuda::{CudaError, Driver};
use crate::places::{OVERRIDE, folders, loader_said};

/// Version of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number: a family of its own.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl Version {
    /// What `getInferLibVersion` returns: 101600 for 10.16.0, and before TensorRT 10 8601 for
    /// 8.6.1.
    fn from_number(number: u32) -> Self {
        if number < 10_000 {
            return Self { major: number / 1000, minor: number / 100 % 10, patch: number % 100 };
        }
        Self { major: number / 10_000, minor: number / 100 % 100, patch: number % 100 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A major version of one of the two libraries.
struct Family {
    flavour: Flavour,
    major: u32,
    /// First minor version whose tables are those that the shim was compiled for.
    minor: u32,
    library: &'static str,
    parser: &'static str,
}

/// Those supported, the one to prefer first.
const FAMILIES: [Family; 3] = [
    Family {
        flavour: Flavour::TensorRt,
        major: 11,
        minor: 0,
        library: "libnvinfer.so.11",
        parser: "libnvonnxparser.so.11",
    },
    Family {
        flavour: Flavour::TensorRt,
        major: 10,
        minor: 0,
        library: "libnvinfer.so.10",
        parser: "libnvonnxparser.so.10",
    },
    Family {
        flavour: Flavour::TensorRtRtx,
        major: 1,
        minor: 5,
        library: "libtensorrt_rtx.so.1",
        parser: "libtensorrt_onnxparser_rtx.so.1",
    },
];

/// Versions of the headers that this program was built with, such as "10.16.0, 11.4.0, RTX 1.7.1";
/// empty where there were none.
pub fn headers() -> &'static str {
    env!("VEHICLECOUNT_TENSORRT_HEADERS")
}

fn built() -> String {
    if headers().is_empty() { "none".to_owned() } else { headers().to_owned() }
}

/// An opened library. It stays in the process: its threads outlive those that ask for its end.
pub struct Library {
    flavour: Flavour,
    version: Version,
    path: PathBuf,
    pub(super) shim: &'static Shim,
    /// The shim's logger, never dropped: TensorRT keeps it.
    pub(super) logger: *mut c_void,
    /// `createInferRuntime_INTERNAL`.
    create_runtime: *mut c_void,
    /// `createInferBuilder_INTERNAL`.
    pub(super) create_builder: *mut c_void,
    /// What `getInferLibVersion` returned.
    pub(super) number: i32,
}

// SAFETY: the pointers are those of code and of a logger, which TensorRT itself calls from any
// thread; creating a runtime or a builder is documented to be safe in any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} in {}", self.path.display())
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavour, self.version)
    }
}

impl Library {
    /// Opens the library to run plans on a GPU. Says first whether there is a driver, and a GPU.
    pub fn open(flavour: Flavour) -> Result<Arc<Self>, TensorRtError> {
        // Without a driver, TensorRT answers with nonsense.
        if Driver::open()?.device_count()? == 0 {
            return Err(CudaError::NoDevice.into());
        }
        Self::open_to_build(flavour)
    }

    /// Opens the library without asking for a GPU: TensorRT-RTX builds plans without one.
    pub fn open_to_build(flavour: Flavour) -> Result<Arc<Self>, TensorRtError> {
        if flavour == Flavour::Auto {
            let first = match Self::open_to_build(Flavour::TensorRt) {
                Err(error) => error,
                opened => return opened,
            };
            return match Self::open_to_build(Flavour::TensorRtRtx) {
                // A library that is there, but unusable, is worth more words than one that is not
                // there.
                Err(TensorRtError::NoLibrary { .. })
                    if !matches!(first, TensorRtError::NoLibrary { .. }) =>
                {
                    Err(first)
                }
                Err(rtx) => Err(TensorRtError::Neither { tensorrt: first.into(), rtx: rtx.into() }),
                opened => opened,
            };
        }
        if headers().is_empty() {
            return Err(TensorRtError::NoHeaders { wanted: flavour.to_string(), built: built() });
        }
        let families: Vec<_> = FAMILIES.iter().filter(|family| family.flavour == flavour).collect();
        let places: Vec<_> = folders(OVERRIDE, ".runtime", "lib/vehiclecount")
            .iter()
            .map(|place| place.join(flavour.name()))
            .collect();
        // A folder of ours goes before the system, whatever the version in it.
        for place in &places {
            for family in &families {
                let path = place.join(family.library);
                if path.is_file() {
                    return family.load(&path);
                }
            }
        }
        let mut said = Vec::new();
        for family in &families {
            match family.load(Path::new(family.library)) {
                Err(TensorRtError::Broken { reason, .. }) => said.push(reason),
                opened => return opened,
            }
        }
        let existing =
            places.iter().filter(|place| place.is_dir()).map(|place| place.display().to_string());
        let looked: Vec<_> =
            existing.chain([format!("the system's libraries: {}", said.join(", "))]).collect();
        Err(TensorRtError::NoLibrary {
            library: families.iter().map(|family| family.library).collect::<Vec<_>>().join(" or "),
            looked: looked.join(", "),
            remedy: format!(
                "install {flavour} and its ONNX parser, or name the folder that holds {}/{} in {OVERRIDE}",
                flavour.name(),
                families[0].library
            ),
        })
    }

    /// Which of the two it is; never `Auto`.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The file that was opened; a mere name where the system's loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Registers the layers that come with TensorRT as plugins: plans that were built by hand may
    /// have them. Where their library is not there, such a plan does not load, and says why.
    pub fn load_plugins(&self) {
        if self.flavour != Flavour::TensorRt {
            return;
        }
        type Initialize = unsafe extern "C" fn(*mut c_void, *const c_char) -> bool;
        let name = format!("libnvinfer_plugin.so.{}", self.version.major);
        let path = if self.path.is_absolute() {
            self.path.with_file_name(name)
        } else {
            PathBuf::from(name)
        };
        // SAFETY: NVIDIA's library of this version, made to be opened so, which stays; the function
        // is that of NvInferPlugin.h, and the shim's logger begins with TensorRT's and stays, too.
        unsafe {
            let Ok(library) = libloading::Library::new(&path) else {
                log::tell(
                    log::Severity::Info,
                    &format!("{} is not there: no plugins", path.display()),
                );
                return;
            };
            if let Ok(initialize) = library.get::<Initialize>(b"initLibNvInferPlugins\0") {
                initialize(self.logger, c"".as_ptr());
            }
            std::mem::forget(library);
        }
    }

    /// A runtime: what loads plans.
    pub(super) fn runtime(&self) -> Result<*mut c_void, TensorRtError> {
        log::forget();
        // SAFETY: the entry point is that of this library, whose family is the shim's; the logger
        // lives as long as the process.
        let runtime = unsafe { (self.shim.runtime)(self.create_runtime, self.number, self.logger) };
        if runtime.is_null() {
            return Err(TensorRtError::Run {
                library: self.to_string(),
                reason: log::with_reason("it makes no runtime"),
            });
        }
        Ok(runtime)
    }

    /// The ONNX parser's entry point, `createNvOnnxParser_INTERNAL`, and its version; opened when
    /// something is first built.
    pub(super) fn parser(&self) -> Result<(*mut c_void, i32), TensorRtError> {
        let family = FAMILIES
            .iter()
            .find(|family| family.flavour == self.flavour && family.major == self.version.major)
            .expect("an opened library is of a family");
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let path = folder.join(family.parser);
        let library = open(&path, self.flavour)?;
        let create = symbol(library, &path, self.flavour, "createNvOnnxParser_INTERNAL")?;
        let version = call(symbol(library, &path, self.flavour, "getNvOnnxParserVersion")?);
        Ok((create, version))
    }
}

impl Family {
    fn load(&self, path: &Path) -> Result<Arc<Library>, TensorRtError> {
        static OPENED: Mutex<Option<HashMap<PathBuf, Arc<Library>>>> = Mutex::new(None);
        let mut opened = OPENED.lock();
        let opened = opened.get_or_insert_with(HashMap::new);
        if let Some(library) = opened.get(path) {
            return Ok(library.clone());
        }
        let library = open(path, self.flavour)?;
        let number = call(symbol(library, path, self.flavour, "getInferLibVersion")?);
        let version = Version::from_number(number.unsigned_abs());
        let found = format!("{} {version}", self.flavour);
        let shim = ffi::shim(self.flavour, version.major);
        let shim = shim
            .filter(|_| version.major == self.major && version.minor >= self.minor)
            .ok_or_else(|| {
                let family = |family: &&Self| {
                    family.flavour == self.flavour && family.major == version.major
                };
                match FAMILIES.iter().find(family) {
                    // The family is known, only its headers were not at hand.
                    Some(known) if version.minor >= known.minor && version.major == self.major => {
                        TensorRtError::NoHeaders { wanted: found.clone(), built: built() }
                    }
                    _ => TensorRtError::Mismatch {
                        path: path.display().to_string(),
                        found: found.clone(),
                        wanted: match self.flavour {
                            Flavour::TensorRtRtx => "TensorRT-RTX 1.5 or a later 1.x".to_owned(),
                            _ => format!("TensorRT {}", self.major),
                        },
                    },
                }
            })?;
        let create_runtime = symbol(library, path, self.flavour, "createInferRuntime_INTERNAL")?;
        let create_builder = symbol(library, path, self.flavour, "createInferBuilder_INTERNAL")?;
        // SAFETY: the shim makes an object of its own that calls `receive`, a function.
        let logger = unsafe { (shim.logger)(log::receive) };
        let path = path.to_owned();
        let flavour = self.flavour;
        let library = Arc::new(Library {
            flavour,
            version,
            path,
            shim,
            logger,
            create_runtime,
            create_builder,
            number,
        });
        opened.insert(library.path.clone(), library.clone());
        Ok(library)
    }
}

fn open(path: &Path, flavour: Flavour) -> Result<&'static libloading::Library, TensorRtError> {
    // SAFETY: the library's initialisers run; it is made to be opened so, and is about to be used.
    // It is never closed.
    let library =
        unsafe { libloading::Library::new(path) }.map_err(|error| TensorRtError::Broken {
            path: path.display().to_string(),
            flavour,
            reason: loader_said(&error),
        })?;
    Ok(Box::leak(Box::new(library)))
}

/// The address of a function of `library`.
fn symbol(
    library: &'static libloading::Library,
    path: &Path,
    flavour: Flavour,
    name: &str,
) -> Result<*mut c_void, TensorRtError> {
    // SAFETY: only the address is taken.
    let found = unsafe { library.get::<*mut c_void>(name.as_bytes()) };
    let found = found.map_err(|_| TensorRtError::Broken {
        path: path.display().to_string(),
        flavour,
        reason: format!("it has no {name}"),
    })?;
    Ok(*found)
}

/// Calls a function that takes nothing and returns a number.
fn call(function: *mut c_void) -> c_int {
    // SAFETY: only `getInferLibVersion` and `getNvOnnxParserVersion` come here, which have been so
    // in all versions, and never touch a GPU.
    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(function)() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_old_and_new_libraries_are_versions() {
        assert_eq!(Version::from_number(8601).to_string(), "8.6.1");
        assert_eq!(Version::from_number(10_701), Version { major: 1, minor: 7, patch: 1 });
        assert_eq!(Version::from_number(101_600).to_string(), "10.16.0");
        assert_eq!(Version::from_number(110_400).to_string(), "11.4.0");
    }
}
