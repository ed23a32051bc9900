//! A stand-in for TensorRT, for tests: compiled against NVIDIA's real headers, so that the calls
//! through the shim go the real way.
//!
//! It has no networks: a plan "built" from any ONNX file makes of a picture what the scripted
//! engine makes of it, each cell the mean of its red samples divided by 255, with 8 pixels to a
//! cell. It works on the memory and the streams of the stand-in driver (`tests/gpu-sim`), and
//! insists on what TensorRT's documentation asks for. What it does not simulate: speed, precision,
//! and what TensorRT makes of a graph.
//!
//! In a process of its own, `VEHICLECOUNT_SIM_TENSORRT` names faults (`enqueue:3,load:1`: the third
//! run and the first load fail), and `VEHICLECOUNT_SIM_TENSORRT_VERSION` the version that it claims
//! to be, as TensorRT's number (101600).

use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_NOW};

/// Which library it stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// TensorRT 10.
    TensorRt10,
    /// TensorRT 11.
    TensorRt11,
    /// TensorRT-RTX 1.
    TensorRtRtx,
}

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Fault {
    Parse = 0,
    Build = 1,
    Load = 2,
    Context = 3,
    Shape = 4,
    Enqueue = 5,
    /// The run's densities are no numbers.
    Nan = 6,
    /// A tensor of the plan is not linear in memory.
    Format = 8,
}

/// What is alive, or has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Figure {
    Runtimes = 0,
    Engines = 1,
    Contexts = 2,
    Builders = 3,
    /// Since the process began.
    Loads = 4,
    Builds = 5,
    /// Runs that a stream has come past, replays of graphs among them.
    Runs = 6,
    /// Pictures in those.
    Images = 7,
    /// Builds that went on from what earlier ones measured.
    WarmBuilds = 8,
    /// Kernels that TensorRT-RTX compiled: one for each batch size that was not in its runtime
    /// cache.
    Compiled = 9,
}

impl Family {
    /// The library's file; `None` where the family's headers were not at hand when this was built.
    pub fn library(self) -> Option<PathBuf> {
        let name = match self {
            Self::TensorRt10 => "tensorrt_10",
            Self::TensorRt11 => "tensorrt_11",
            Self::TensorRtRtx => "tensorrt_rtx_1",
        };
        let all = env!("VEHICLECOUNT_SIM_TENSORRT").split(';');
        all.filter_map(|one| one.split_once('='))
            .find(|(family, _)| *family == name)
            .map(|(_, path)| path.into())
    }

    /// A folder for `VEHICLECOUNT_RUNTIME` of other processes, in which this library is found.
    pub fn runtime(self) -> Option<PathBuf> {
        Some(self.library()?.parent()?.parent()?.to_owned())
    }
}

/// Steers the stand-in of this process.
pub struct Sim {
    library: Library,
}

/// Puts the stand-in in the place of TensorRT for the whole process, where no real one lies in a
/// `.runtime` folder. Call it before anything asks for TensorRT. `None` where the family's headers
/// were not at hand when this was built.
pub fn install(family: Family) -> Option<Sim> {
    let path = family.library()?;
    let parser = if family == Family::TensorRtRtx {
        "libtensorrt_onnxparser_rtx.so.1".to_owned()
    } else {
        path.file_name()?.to_str()?.replace("nvinfer", "nvonnxparser")
    };
    // SAFETY: our own library. Kept open for good: the loader takes a library of that name that is
    // there already.
    let library = unsafe { Library::open(Some(Path::new(&path)), RTLD_NOW) };
    let library = library.expect("the stand-in was built with this crate");
    // SAFETY: as above.
    let _parser = unsafe { Library::open(Some(&path.with_file_name(parser)), RTLD_NOW) };
    Some(Sim { library })
}

impl Sim {
    /// The `nth` call of that kind from now fails; 0 takes that back.
    pub fn fail(&self, fault: Fault, nth: i64) {
        type Function = unsafe extern "C" fn(i32, i64);
        // SAFETY: the function of that name in tensorrt.cpp is of this type.
        unsafe {
            self.library.get::<Function>(b"sim_tensorrt_fail").expect("tensorrt.cpp has it")(
                fault as i32,
                nth,
            )
        }
    }

    /// Builds go on until this is taken back, or they are ended.
    pub fn hold_builds(&self, hold: bool) {
        type Function = unsafe extern "C" fn(i32);
        // SAFETY: as above.
        unsafe {
            self.library.get::<Function>(b"sim_tensorrt_hold").expect("tensorrt.cpp has it")(
                hold.into(),
            )
        }
    }

    /// How much there is, or was, of something.
    pub fn figure(&self, figure: Figure) -> i64 {
        type Function = unsafe extern "C" fn(i32) -> i64;
        // SAFETY: as above.
        unsafe {
            self.library.get::<Function>(b"sim_tensorrt_figure").expect("tensorrt.cpp has it")(
                figure as i32,
            )
        }
    }
}
