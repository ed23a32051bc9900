//! A simulated GPU for tests: a stand-in for `libcuda.so.1` that serves the driver's calls from
//! host memory.
//!
//! Streams are threads of their own, so that a missing wait shows; memory of the "device" begins as
//! NaN, so that a missing write shows; addresses are checked on every copy and launch. Kernels are
//! the host builds of the real ones. What it does not simulate: the speed of a GPU, races inside a
//! block, and what the PTX becomes on a real one.
//!
//! In a process of its own, `VEHICLECOUNT_SIM_DEVICES`, `_VERSION`, `_INIT`, `_MEMORY` (bytes),
//! `_NAME` and `_MULTIPROCESSORS` say what the driver tells.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The stand-in's file, for `LD_LIBRARY_PATH` (its folder) of other processes.
pub const LIBRARY: &str = env!("VEHICLECOUNT_SIM_LIBRARY");

/// What is alive on the device, or has happened on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Figure {
    Allocations = 0,
    Pinned = 1,
    Streams = 2,
    Events = 3,
    Graphs = 4,
    Modules = 5,
    Contexts = 6,
    DeviceBytes = 7,
    PinnedBytes = 8,
    Images = 9,
    /// Since the process began.
    Launches = 16,
    Captures = 17,
    Replays = 18,
    UploadedBytes = 19,
    DownloadedBytes = 20,
    AllAllocations = 21,
    AllStreams = 22,
}

impl Figure {
    /// Those that count what is alive.
    pub const LIVE: [Self; 8] = [
        Self::Allocations,
        Self::Pinned,
        Self::Streams,
        Self::Events,
        Self::Graphs,
        Self::Modules,
        Self::Contexts,
        Self::Images,
    ];
}

/// Steers the device of this process.
pub struct Sim {
    library: Library,
}

static SIM: LazyLock<Sim> = LazyLock::new(|| {
    // SAFETY: our own library. Kept open for good, so that whoever opens "libcuda.so.1" from now on
    // gets this one: the loader takes a library of that name that is there already.
    let library = unsafe { Library::open(Some(Path::new(LIBRARY)), RTLD_NOW | RTLD_GLOBAL) };
    Sim { library: library.expect("the stand-in driver was built with this crate") }
});

/// Puts the stand-in in the place of the driver, for the whole process. Call it before anything
/// asks for the driver.
pub fn install() -> &'static Sim {
    &SIM
}

/// The device for one test: it is one for the whole process, so tests take turns. When the test
/// ends, faults are taken back, and nothing may be left behind.
pub struct Turn {
    /// The device.
    pub sim: &'static Sim,
    _alone: MutexGuard<'static, ()>,
}

/// Waits for the device, and puts the stand-in in the driver's place.
pub fn turn() -> Turn {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Turn { sim: install(), _alone: alone }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.sim.lose(0);
        self.sim.fail_allocation(0);
        self.sim.fail_launch(0);
        self.sim.fail_image(0);
        self.sim.release();
        if !std::thread::panicking() {
            assert_eq!(self.sim.alive(), []);
        }
    }
}

impl Sim {
    fn call(&self, name: &str, a: i64, b: i64, c: i64) -> i64 {
        type Function = unsafe extern "C" fn(i64, i64, i64) -> i64;
        // SAFETY: every function whose name begins with `sim_` has this type.
        unsafe {
            self.library.get::<Function>(name.as_bytes()).expect("a function of driver.cpp")(
                a, b, c,
            )
        }
    }

    /// How much there is of something.
    pub fn figure(&self, figure: Figure) -> i64 {
        self.call("sim_figure", figure as i64, 0, 0)
    }

    /// Everything alive, by name; nothing when all has been given back.
    pub fn alive(&self) -> Vec<(Figure, i64)> {
        let figures = Figure::LIVE.map(|figure| (figure, self.figure(figure)));
        figures.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    /// What the driver says of itself from now on: GPUs, version (12000 is 12.0), result of
    /// `cuInit`.
    pub fn configure(&self, devices: i64, version: i64, init: i64) {
        self.call("sim_configure", devices, version, init);
    }

    /// The `nth` allocation from now fails, memory of the device or pinned; 0 takes that back.
    pub fn fail_allocation(&self, nth: i64) {
        self.call("sim_fail_allocation", nth, 0, 0);
    }

    /// The `nth` launch from now fails, when it runs: the context is dead from then on. 0 takes
    /// that back.
    pub fn fail_launch(&self, nth: i64) {
        self.call("sim_fail_launch", nth, 0, 0);
    }

    /// The `nth` EGL image from now cannot be registered; 0 takes that back.
    pub fn fail_image(&self, nth: i64) {
        self.call("sim_fail_image", nth, 0, 0);
    }

    /// `bytes` bytes at `address`, of a library in the process that stands in for one of NVIDIA's,
    /// are memory of the device; 0: no longer.
    pub fn share(&self, address: u64, bytes: usize) {
        self.call("sim_share", address as i64, bytes as i64, 0);
    }

    /// Every call fails with this code from now on; 0 makes the device whole again.
    pub fn lose(&self, code: i64) {
        self.call("sim_lose", code, 0, 0);
    }

    /// Waits for `stream`, as a library may that knows nothing of recording.
    pub fn synchronize(&self, stream: *mut c_void) {
        self.call("cuStreamSynchronize", stream as i64, 0, 0);
    }

    /// Streams stop before their next work.
    pub fn hold(&self) {
        self.call("sim_hold", 1, 0, 0);
    }

    /// Streams go on.
    pub fn release(&self) {
        self.call("sim_hold", 0, 0, 0);
    }

    /// `stream` alone stops before its next work.
    pub fn hold_stream(&self, stream: *mut c_void) {
        assert_eq!(self.call("sim_hold_stream", stream as i64, 1, 0), 0, "no such stream");
    }

    /// `stream` goes on.
    pub fn release_stream(&self, stream: *mut c_void) {
        assert_eq!(self.call("sim_hold_stream", stream as i64, 0, 0), 0, "no such stream");
    }

    /// Puts a network on `stream` that needs no TensorRT: the density of a cell is the mean of its
    /// red samples, 255 being one vehicle. `batch` inputs of `input` (width, height) lie at `from`,
    /// and maps of `grid` (columns, rows) go to `to`. Returns the driver's result.
    pub fn network(
        &self,
        stream: *mut c_void,
        from: u64,
        to: u64,
        batch: usize,
        input: (usize, usize),
        grid: (usize, usize),
    ) -> i32 {
        type Function =
            unsafe extern "C" fn(*mut c_void, u64, u64, c_int, c_int, c_int, c_int, c_int) -> c_int;
        let [batch, width, height, columns, rows] =
            [batch, input.0, input.1, grid.0, grid.1].map(|size| size as c_int);
        // SAFETY: the function has this type; it checks the stream and the addresses.
        unsafe {
            let function =
                self.library.get::<Function>(b"sim_network").expect("a function of driver.cpp");
            function(stream, from, to, batch, width, height, columns, rows)
        }
    }

    /// Waits until `count` pieces of work wait on held streams. `false` when that did not happen
    /// within `bound`.
    #[must_use]
    pub fn wait_for_waiting(&self, count: i64, bound: Duration) -> bool {
        self.call("sim_wait_for_waiting", count, bound.as_millis() as i64, 0) != 0
    }
}

/// libgstcuda with the streams that it has from GStreamer 1.24 on.
pub struct GstCuda {
    library: Library,
}

impl GstCuda {
    /// Puts it in the place of the installed one, for the whole process, to which it hands
    /// everything else. Call it before anything asks for libgstcuda. `None` where none is
    /// installed.
    pub fn install() -> Option<&'static Self> {
        static GST_CUDA: LazyLock<Option<GstCuda>> = LazyLock::new(|| {
            let folders = [
                format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH),
                "/usr/lib64".into(),
                "/usr/lib".into(),
            ];
            let paths = folders.iter().map(|folder| Path::new(folder).join("libgstcuda-1.0.so.0"));
            let path = paths.into_iter().find(|path| path.exists())?;
            let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).ok()?;
            // SAFETY: our own library, kept open for good; the function has this type.
            unsafe {
                let library =
                    Library::open(Some(Path::new(env!("VEHICLECOUNT_SIM_GSTCUDA"))), RTLD_NOW);
                let library = library.expect("the stand-in was built with this crate");
                let open = library.get::<unsafe extern "C" fn(*const std::ffi::c_char) -> c_int>(
                    b"sim_gstcuda_open",
                );
                let opened = open.expect("a function of gstcuda.c")(path.as_ptr());
                assert_ne!(opened, 0, "the installed libgstcuda does not open");
                Some(GstCuda { library })
            }
        });
        GST_CUDA.as_ref()
    }

    /// From now on, every frame in GPU memory says that it is being written on `stream`, a
    /// `CUstream`; null: that it is complete.
    pub fn write_on(&self, stream: *mut c_void) {
        type Function = unsafe extern "C" fn(*mut c_void);
        // SAFETY: the function of gstcuda.c has this type.
        unsafe {
            self.library.get::<Function>(b"sim_gstcuda_write_on").expect("a function of gstcuda.c")(
                stream,
            )
        }
    }
}
