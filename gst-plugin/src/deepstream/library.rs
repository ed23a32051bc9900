//! DeepStream's libraries, looked up when an element starts: never linked, never needed to load the
//! plugin.

use std::env;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use parking_lot::Mutex;
use thiserror::Error;

use super::abi::{
    BatchMeta, FrameMeta, Surface, SurfaceCreateParams, TransformConfig, TransformParams, UserMeta,
};

/// Names the folder of DeepStream's libraries, where they are neither loaded already nor where the
/// loader looks.
pub const FOLDER_VARIABLE: &str = "VEHICLECOUNT_DEEPSTREAM";

/// Where the SDK installs them.
const SDK_FOLDERS: [&str; 3] = [
    "/opt/nvidia/deepstream/deepstream/lib",
    "/usr/lib/aarch64-linux-gnu/nvidia",
    "/usr/lib/aarch64-linux-gnu/tegra",
];

/// What went wrong with DeepStream.
#[derive(Clone, Debug, Error)]
pub enum DeepStreamError {
    /// A library is not there.
    #[error(
        "DeepStream's {library} was not found (looked in {looked}): install DeepStream 6.4 or later, or name the folder that holds its libraries in {FOLDER_VARIABLE}; outside DeepStream, use vehiclecounter"
    )]
    Library {
        /// Its file name.
        library: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// A library is there and does not load.
    #[error(
        "DeepStream's {library} cannot be loaded: {said}; install what it needs: of CUDA's runtime and the NVIDIA driver the versions that this DeepStream names"
    )]
    Unloadable {
        /// Its file name.
        library: &'static str,
        /// What the loader said.
        said: String,
    },
    /// A library is another one.
    #[error("DeepStream's {library} ({path}) has no {symbol}: it is not DeepStream 6.4 or later")]
    Symbol {
        /// Its file name.
        library: &'static str,
        /// Where it is.
        path: String,
        /// What it lacks.
        symbol: &'static str,
    },
    /// Figures do not agree.
    #[error("{what} is {found}, where {expected} was expected: {remedy}")]
    Layout {
        /// What was looked at.
        what: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A buffer that no muxer made.
    #[error("the buffer has no NvDsBatchMeta: put vehiclecounternvmm after nvstreammux")]
    NoBatch,
    /// Pictures that cannot be read.
    #[error("{what}: {remedy}")]
    Unreadable {
        /// What is in the way.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// What to do about a layout that is not known.
pub(super) const REPORT: &str = "this DeepStream has a layout that this version does not know; run `vehicle-count doctor --deepstream` and report its output";

/// A library that is open for good: callbacks of ours stay in its structures until the last buffer
/// is gone.
pub struct Open {
    library: ManuallyDrop<Library>,
    name: &'static str,
    /// Where it was found: "already loaded", or a path.
    pub path: String,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.path)
    }
}

impl Open {
    /// One that the process has loaded already, else the folder that the user named, else where the
    /// loader looks, else the SDK's folder.
    pub fn new(name: &'static str) -> Result<Self, DeepStreamError> {
        let mut looked = vec!["the libraries loaded already".to_owned()];
        let mut unloadable = None;
        let flags = RTLD_LAZY | RTLD_LOCAL | libc::RTLD_NOLOAD;
        // SAFETY: nothing is loaded, so no initialiser runs.
        let loaded = unsafe { Library::open(Some(name), flags) };
        if let Ok(library) = loaded {
            return Ok(Self {
                library: ManuallyDrop::new(library),
                name,
                path: "already loaded".to_owned(),
            });
        }
        let named = env::var_os(FOLDER_VARIABLE).map(|folder| Path::new(&folder).join(name));
        let sdk = SDK_FOLDERS.map(|folder| Path::new(folder).join(name));
        for path in named.into_iter().chain([PathBuf::from(name)]).chain(sdk) {
            let bare = path == Path::new(name);
            if !bare && !path.is_file() {
                looked.push(path.display().to_string());
                continue;
            }
            // SAFETY: the library's initialisers run; these are libraries made to be loaded into
            // GStreamer's process.
            match unsafe { Library::open(Some(&path), RTLD_LAZY | RTLD_LOCAL) } {
                Ok(library) => {
                    let path = if bare {
                        "where the loader looks".to_owned()
                    } else {
                        path.display().to_string()
                    };
                    return Ok(Self { library: ManuallyDrop::new(library), name, path });
                }
                Err(error) => {
                    let said = std::error::Error::source(&error)
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    // Of a library that is nowhere the loader says just that; else it names what is
                    // wrong with it, or what it needs.
                    if !bare || !said.starts_with(&format!("{name}: cannot open")) {
                        unloadable.get_or_insert(if bare {
                            said.clone()
                        } else {
                            format!("{}: {said}", path.display())
                        });
                    }
                    looked.push(if bare {
                        "the system's libraries".to_owned()
                    } else {
                        path.display().to_string()
                    });
                }
            }
        }
        Err(match unloadable {
            Some(said) => DeepStreamError::Unloadable { library: name, said },
            None => DeepStreamError::Library { library: name, looked: looked.join(", ") },
        })
    }

    /// The function `symbol`.
    ///
    /// # Safety
    /// `T` must be the function's type.
    pub unsafe fn get<T: Copy>(&self, symbol: &'static str) -> Result<T, DeepStreamError> {
        // SAFETY: as the caller says; the library is never closed.
        let found = unsafe { self.library.get::<T>(symbol) };
        found.map(|function| *function).map_err(|_| DeepStreamError::Symbol {
            library: self.name,
            path: self.path.clone(),
            symbol,
        })
    }
}

type LockFunc = unsafe extern "C" fn(*mut BatchMeta);

/// The functions that metadata needs.
pub struct Api {
    /// What was found where, for `doctor`.
    pub libraries: [Open; 2],
    /// `libnvds_utils.so` says; `None` where it is missing.
    pub version: Option<(u32, u32)>,
    /// The registered type of our metadata.
    pub count_type: i32,
    pub(super) get_batch: unsafe extern "C" fn(*mut gst::ffi::GstBuffer) -> *mut BatchMeta,
    pub(super) lock: LockFunc,
    pub(super) unlock: LockFunc,
    pub(super) acquire_user: unsafe extern "C" fn(*mut BatchMeta) -> *mut UserMeta,
    pub(super) add_user: unsafe extern "C" fn(*mut FrameMeta, *mut UserMeta),
    /// Display metadata is acquired and added through these; `None` where they are missing.
    pub(super) display: Option<DisplayApi>,
}

#[derive(Clone, Copy)]
pub(super) struct DisplayApi {
    pub acquire: unsafe extern "C" fn(*mut BatchMeta) -> *mut c_void,
    pub add: unsafe extern "C" fn(*mut FrameMeta, *mut c_void),
}

/// The functions that pictures in need of mapping need.
pub struct SurfaceApi {
    /// What was found where.
    pub library: Open,
    pub(super) map: unsafe extern "C" fn(*mut Surface, c_int, c_int, c_int) -> c_int,
    pub(super) unmap: unsafe extern "C" fn(*mut Surface, c_int, c_int) -> c_int,
    pub(super) sync_for_cpu: unsafe extern "C" fn(*mut Surface, c_int, c_int) -> c_int,
}

/// The functions that turn one picture into another, for pictures that cannot be read in place.
pub struct TransformApi {
    /// What was found where.
    pub libraries: [Open; 2],
    pub(super) set_session: unsafe extern "C" fn(*mut TransformConfig) -> c_int,
    pub(super) transform:
        unsafe extern "C" fn(*mut Surface, *mut Surface, *mut TransformParams) -> c_int,
    pub(super) create:
        unsafe extern "C" fn(*mut *mut Surface, c_uint, *mut SurfaceCreateParams) -> c_int,
    pub(super) destroy: unsafe extern "C" fn(*mut Surface) -> c_int,
    /// Only Jetson's library has these.
    pub(super) egl: Option<EglApi>,
    /// Fills an `NvBufSurfaceDeviceInfo`, which begins with the driver's type; newer libraries have
    /// it.
    pub(super) device_info: Option<unsafe extern "C" fn(*mut c_int) -> c_int>,
}

#[derive(Clone, Copy)]
pub(super) struct EglApi {
    pub map: unsafe extern "C" fn(*mut Surface, c_int) -> c_int,
    pub unmap: unsafe extern "C" fn(*mut Surface, c_int) -> c_int,
}

/// The version of DeepStream that `libnvds_utils.so` tells.
pub fn version() -> Result<((u32, u32), Open), DeepStreamError> {
    let library = Open::new("libnvds_utils.so")?;
    // SAFETY: the function of that name has had this type since it exists.
    let ask =
        unsafe { library.get::<unsafe extern "C" fn(*mut c_uint, *mut c_uint)>("nvds_version")? };
    let (mut major, mut minor) = (0, 0);
    // SAFETY: it writes two numbers.
    unsafe { ask(&mut major, &mut minor) };
    Ok(((major, minor), library))
}

impl Api {
    /// The functions, looked up once. A failure is tried again the next time.
    pub fn get() -> Result<&'static Self, DeepStreamError> {
        static OPENED: OnceLock<Api> = OnceLock::new();
        static OPENING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = OPENING.lock();
        if let Some(api) = OPENED.get() {
            return Ok(api);
        }
        let api = Self::open()?;
        stay_resident();
        Ok(OPENED.get_or_init(|| api))
    }

    fn open() -> Result<Self, DeepStreamError> {
        let gst_meta = Open::new("libnvdsgst_meta.so")?;
        let meta = Open::new("libnvds_meta.so")?;
        // SAFETY: the types are those of the published headers, the same in every version since
        // 5.0.
        unsafe {
            let register: unsafe extern "C" fn(*mut c_char) -> c_int =
                meta.get("nvds_get_user_meta_type")?;
            let count_type = register(super::meta::TYPE_NAME.as_ptr().cast_mut());
            let display = meta.get("nvds_acquire_display_meta_from_pool").and_then(|acquire| {
                Ok(DisplayApi { acquire, add: meta.get("nvds_add_display_meta_to_frame")? })
            });
            Ok(Self {
                version: version().ok().map(|(version, _)| version),
                count_type,
                get_batch: gst_meta.get("gst_buffer_get_nvds_batch_meta")?,
                lock: meta.get("nvds_acquire_meta_lock")?,
                unlock: meta.get("nvds_release_meta_lock")?,
                acquire_user: meta.get("nvds_acquire_user_meta_from_pool")?,
                add_user: meta.get("nvds_add_user_meta_to_frame")?,
                display: display.ok(),
                libraries: [gst_meta, meta],
            })
        }
    }
}

impl SurfaceApi {
    /// The functions, looked up once.
    pub fn get() -> Result<&'static Self, DeepStreamError> {
        static OPENED: OnceLock<SurfaceApi> = OnceLock::new();
        if let Some(api) = OPENED.get() {
            return Ok(api);
        }
        let library = Open::new("libnvbufsurface.so")?;
        // SAFETY: the types are those of the published headers, the same in every version since
        // 5.0.
        let api = unsafe {
            Self {
                map: library.get("NvBufSurfaceMap")?,
                unmap: library.get("NvBufSurfaceUnMap")?,
                sync_for_cpu: library.get("NvBufSurfaceSyncForCpu")?,
                library,
            }
        };
        Ok(OPENED.get_or_init(|| api))
    }
}

impl TransformApi {
    /// The functions, looked up once.
    pub fn get() -> Result<&'static Self, DeepStreamError> {
        static OPENED: OnceLock<TransformApi> = OnceLock::new();
        if let Some(api) = OPENED.get() {
            return Ok(api);
        }
        let (surface, transform) =
            (Open::new("libnvbufsurface.so")?, Open::new("libnvbufsurftransform.so")?);
        // SAFETY: the types are those of the published headers; structures have grown since 5.0, at
        // their ends, which are zeros here.
        let api = unsafe {
            let egl = surface.get("NvBufSurfaceMapEglImage").and_then(|map| {
                Ok(EglApi { map, unmap: surface.get("NvBufSurfaceUnMapEglImage")? })
            });
            Self {
                set_session: transform.get("NvBufSurfTransformSetSessionParams")?,
                transform: transform.get("NvBufSurfTransform")?,
                create: surface.get("NvBufSurfaceCreate")?,
                destroy: surface.get("NvBufSurfaceDestroy")?,
                egl: egl.ok(),
                device_info: surface.get("NvBufSurfaceGetDeviceInfo").ok(),
                libraries: [surface, transform],
            }
        };
        Ok(OPENED.get_or_init(|| api))
    }
}

/// Keeps this library in memory: DeepStream calls our copy and release functions as long as a
/// buffer lives anywhere.
fn stay_resident() {
    let here: fn() = stay_resident;
    // SAFETY: `dladdr` reads the address as a number and fills `info`, whose name lives as long as
    // the library. Opening what is loaded already runs nothing. For a program of which this is a
    // part, it does nothing.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(here as *const c_void, &mut info) != 0 && !info.dli_fname.is_null() {
            libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}
