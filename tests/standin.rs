//! DeepStream's libraries for tests, built from `tests/deepstream/` for the version that a test
//! asks for.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;

use glib::translate::ToGlibPtr;
use gstvehiclecount::deepstream::batch::Batch;
use gstvehiclecount::deepstream::{Api, meta};
use libloading::Library;
use vehiclecount_core::report::FrameReport;

/// Names a folder with NVIDIA's own libraries of metadata, which then take the place of the ones
/// stood in for.
pub const REAL: &str = "VEHICLECOUNT_REAL_DEEPSTREAM";

/// Where `./run` puts NVIDIA's own libraries of DeepStream 9.0, from the package
/// `nvidia-deepstream-videodecode-cu13`; `None` where it has not.
///
/// # Panics
/// Where they are missing and `VEHICLECOUNT_REQUIRE_DEEPSTREAM` is set, as in CI.
pub fn real() -> Option<PathBuf> {
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").map(PathBuf::from);
    let runtime =
        runtime.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.runtime"));
    let folder = runtime.join("deepstream");
    let found = folder.join("libnvds_meta.so").is_file();
    assert!(
        found || std::env::var_os("VEHICLECOUNT_REQUIRE_DEEPSTREAM").is_none(),
        "no libraries of DeepStream in {}",
        folder.display()
    );
    found.then_some(folder)
}

/// Builds the libraries of version `major`.`minor` in a folder below `place`, and tells the folder.
///
/// # Panics
/// When the C compiler is not there or finds fault.
pub fn build(place: &Path, (major, minor): (u32, u32)) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("deepstream");
    let real = std::env::var_os(REAL).map(PathBuf::from);
    let kind = if real.is_some() { "real" } else { "standin" };
    let folder = place.join(format!("{kind}-{major}.{minor}"));
    std::fs::create_dir_all(&folder).expect("the folder for what tests build can be written");
    let flags =
        Command::new("pkg-config").args(["--cflags", "--libs", "gstreamer-base-1.0"]).output();
    let flags = flags.expect("pkg-config, which building needs anyway").stdout;
    let flags = String::from_utf8(flags).expect("pkg-config prints text");
    for library in
        ["nvds_meta", "nvdsgst_meta", "nvds_utils", "nvbufsurface", "nvbufsurftransform", "standin"]
    {
        let file = match library {
            "standin" => "libgststandin.so".to_owned(),
            library => format!("lib{library}.so"),
        };
        if let (Some(real), "nvds_meta" | "nvdsgst_meta") = (&real, library) {
            std::fs::copy(real.join(&file), folder.join(&file))
                .expect("NVIDIA's library can be copied");
            continue;
        }
        let mut compile = Command::new("cc");
        compile.args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-g",
            "-shared",
            "-fPIC",
            "-Wl,-rpath,$ORIGIN",
        ]);
        compile.arg(format!("-DSTANDIN_MAJOR={major}")).arg(format!("-DSTANDIN_MINOR={minor}"));
        compile.arg(format!("-Wl,-soname,{file}")).arg("-I").arg(source.join("include"));
        compile.arg(source.join(format!("{library}.c"))).arg("-o").arg(folder.join(&file));
        if library == "standin" {
            compile.arg("-L").arg(&folder).args([
                "-lnvds_meta",
                "-lnvdsgst_meta",
                "-lnvbufsurface",
            ]);
        }
        let built = compile
            .args(flags.split_whitespace())
            .output()
            .expect("cc, which building needs anyway");
        assert!(built.status.success(), "{compile:?}: {}", String::from_utf8_lossy(&built.stderr));
    }
    folder
}

/// Builds DeepStream's elements, which can be parsed and do nothing, in `place`, and makes them
/// known.
///
/// # Panics
/// When the C compiler is not there or finds fault.
pub fn load_elements(place: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("deepstream/elements.c");
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "gstreamer-1.0"]).output();
    let flags = flags.expect("pkg-config, which building needs anyway").stdout;
    let flags = String::from_utf8(flags).expect("pkg-config prints text");
    let library = place.join("libgststandinelements.so");
    let mut compile = Command::new("cc");
    compile
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source);
    let built =
        compile.args(flags.split_whitespace()).output().expect("cc, which building needs anyway");
    assert!(built.status.success(), "{compile:?}: {}", String::from_utf8_lossy(&built.stderr));
    gst::Plugin::load_file(&library).expect("the stand-in is a plugin");
}

/// A frame of a made-up batch; see `StandinFrame` in `standin.h`.
#[derive(Clone, Debug)]
pub struct FrameSpec {
    /// The camera.
    pub source_id: u32,
    /// Place in the batch.
    pub batch_id: u32,
    /// Time stamp, nanoseconds.
    pub pts: u64,
    /// Nanoseconds since 1970; 0 where it is not known.
    pub ntp: u64,
    /// Metas of nvinfer: 0, 1, or 2 (the first with the next id).
    pub tensors: u32,
    /// `gie-unique-id`.
    pub unique_id: u32,
    /// 0: float, 1: half.
    pub data_type: i32,
    /// 0: host, 1: GPU only, 2: nowhere.
    pub place: u32,
    /// Shape.
    pub dims: Vec<u32>,
    /// 1: picture with borders.
    pub aspect: u32,
    /// 1: borders on both sides.
    pub symmetric: u32,
    /// Size of the network's input.
    pub network: (u32, u32),
    /// 2: another output comes first.
    pub layers: u32,
    /// Level of red, or of luma.
    pub red: u32,
    /// Name of the output.
    pub layer: Option<CString>,
    /// The values as bytes.
    pub values: Vec<u8>,
    /// Where picture and tensor lie on a GPU; 0: nowhere.
    pub address: u64,
    /// Width and height of the picture; 0: the batch's.
    pub size: (u32, u32),
}

impl FrameSpec {
    /// A frame of `source` with `cells` in rows of `columns`, as nvinfer leaves them.
    pub fn new(source: u32, batch_id: u32, columns: usize, cells: &[f32]) -> Self {
        Self {
            source_id: source,
            batch_id,
            pts: 0,
            ntp: 0,
            tensors: 1,
            unique_id: 1,
            data_type: 0,
            place: 0,
            dims: vec![1, (cells.len() / columns) as u32, columns as u32],
            aspect: 0,
            symmetric: 0,
            network: (64, 32),
            layers: 1,
            red: 0,
            layer: None,
            values: cells.iter().flat_map(|cell| cell.to_ne_bytes()).collect(),
            address: 0,
            size: (0, 0),
        }
    }
}

/// A made-up batch; see `StandinBatch` in `standin.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BatchSpec {
    /// Room for so many frames.
    pub room: u32,
    /// 0: as many as there are frames.
    pub filled: u32,
    /// Pixels.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `NvBufSurfaceColorFormat`.
    pub color_format: i32,
    /// `NvBufSurfaceMemType`.
    pub memory_type: i32,
    /// 1: block-linear.
    pub layout: i32,
    /// Bytes of the buffer; 0: the version's.
    pub mapped_size: u32,
    /// Bytes from picture to picture; 0: the version's.
    pub stride: u32,
    /// 0: none.
    pub batch_meta: u32,
    /// Width and height that metadata tells; 0: the truth.
    pub told: [u32; 2],
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self {
            room: 4,
            filled: 0,
            width: 64,
            height: 32,
            color_format: 19,
            memory_type: 6,
            layout: 0,
            mapped_size: 0,
            stride: 0,
            batch_meta: 1,
            told: [0; 2],
        }
    }
}

#[repr(C)]
struct RawFrame {
    source_id: u32,
    batch_id: u32,
    pts: u64,
    ntp: u64,
    tensors: u32,
    unique_id: u32,
    data_type: i32,
    place: u32,
    num_dims: u32,
    dims: [u32; 4],
    aspect: u32,
    symmetric: u32,
    network_width: u32,
    network_height: u32,
    layers: u32,
    red: u32,
    layer: *const c_char,
    values: *const c_void,
    bytes: u64,
    address: u64,
    width: u32,
    height: u32,
}

/// The stand-in, loaded into this process: DeepStream's libraries are then found as in a DeepStream
/// pipeline.
pub struct StandIn {
    library: Library,
    meta: Library,
    surface: Library,
    transform: Library,
    /// Where the libraries are.
    pub folder: PathBuf,
    /// What they say that they are.
    pub version: (u32, u32),
}

impl StandIn {
    /// Builds and loads.
    ///
    /// # Panics
    /// When that fails.
    pub fn load(place: &Path, version: (u32, u32)) -> Self {
        let folder = build(place, version);
        let open = |file: &str| {
            // SAFETY: these libraries have no initialisers.
            unsafe { Library::new(folder.join(file)) }.expect("what was just built can be loaded")
        };
        let (meta, surface) = (open("libnvds_meta.so"), open("libnvbufsurface.so"));
        let transform = open("libnvbufsurftransform.so");
        for file in ["libnvdsgst_meta.so", "libnvds_utils.so"] {
            std::mem::forget(open(file));
        }
        let library = open("libgststandin.so");
        gst::Plugin::load_file(folder.join("libgststandin.so")).expect("the stand-in is a plugin");
        Self { library, meta, surface, transform, folder, version }
    }

    /// A buffer with a batch.
    pub fn buffer(&self, batch: &BatchSpec, frames: &[FrameSpec]) -> gst::Buffer {
        type Make = unsafe extern "C" fn(
            *const BatchSpec,
            *const RawFrame,
            c_uint,
        ) -> *mut gst::ffi::GstBuffer;
        let raw: Vec<_> = frames
            .iter()
            .map(|frame| {
                let mut dims = [0; 4];
                dims[..frame.dims.len()].copy_from_slice(&frame.dims);
                RawFrame {
                    source_id: frame.source_id,
                    batch_id: frame.batch_id,
                    pts: frame.pts,
                    ntp: frame.ntp,
                    tensors: frame.tensors,
                    unique_id: frame.unique_id,
                    data_type: frame.data_type,
                    place: frame.place,
                    num_dims: frame.dims.len() as u32,
                    dims,
                    aspect: frame.aspect,
                    symmetric: frame.symmetric,
                    network_width: frame.network.0,
                    network_height: frame.network.1,
                    layers: frame.layers,
                    red: frame.red,
                    layer: frame.layer.as_ref().map_or(ptr::null(), |layer| layer.as_ptr()),
                    values: frame.values.as_ptr().cast(),
                    bytes: frame.values.len() as u64,
                    address: frame.address,
                    width: frame.size.0,
                    height: frame.size.1,
                }
            })
            .collect();
        // SAFETY: the function has this type, and copies what it is given.
        let buffer: gst::Buffer = unsafe {
            let make =
                self.library.get::<Make>("standin_buffer_new").expect("it is in the library");
            gst::Buffer::from_glib_full(make(batch, raw.as_ptr(), raw.len() as c_uint))
        };
        buffer
    }

    /// What nvstreamdemux makes of frame `index`.
    pub fn demux(&self, buffer: &gst::Buffer, index: u32, keep_batch_id: bool) -> gst::Buffer {
        type Demux = unsafe extern "C" fn(
            *mut gst::ffi::GstBuffer,
            c_uint,
            c_int,
        ) -> *mut gst::ffi::GstBuffer;
        // SAFETY: the function has this type, only reads the buffer, and returns one of its own.
        unsafe {
            let demux = self.library.get::<Demux>("standin_demux").expect("it is in the library");
            gst::Buffer::from_glib_full(demux(buffer.to_glib_none().0, index, keep_batch_id.into()))
        }
    }

    /// Whether the libraries of metadata are NVIDIA's own, which do not count what is made and let
    /// nobody choose the size of pools.
    pub fn is_real(&self) -> bool {
        std::env::var_os(REAL).is_some()
    }

    /// Sizes of the pools of batches made from now on; 0: the usual ones.
    pub fn set_pools(&self, user: u32, display: u32) {
        // SAFETY: the function has this type.
        unsafe {
            let set = self.meta.get::<unsafe extern "C" fn(c_uint, c_uint)>("standin_set_pools");
            set.expect("it is in the library")(user, display);
        }
    }

    fn number(library: &Library, symbol: &str) -> i32 {
        // SAFETY: the functions that are asked for have this type.
        unsafe {
            library.get::<unsafe extern "C" fn() -> c_int>(symbol).expect("it is in the library")()
        }
    }

    /// Calls that needed the metadata's lock and were made without it.
    pub fn unlocked_calls(&self) -> i32 {
        if self.is_real() { 0 } else { Self::number(&self.meta, "standin_unlocked_calls") }
    }

    /// Batches that live.
    pub fn live_batches(&self) -> i32 {
        if self.is_real() { 0 } else { Self::number(&self.meta, "standin_live_batches") }
    }

    /// Pictures that are mapped.
    pub fn mapped(&self) -> i32 {
        Self::number(&self.surface, "standin_mapped")
    }

    /// Surfaces that NvBufSurfaceCreate made and that live, and EGL images that are mapped.
    pub fn live_surfaces(&self) -> (i32, i32) {
        (
            Self::number(&self.surface, "standin_live_surfaces"),
            Self::number(&self.surface, "standin_egl_images"),
        )
    }

    /// Pictures transformed, and calls to do so on a thread that had set no session.
    pub fn transforms(&self) -> (i32, i32) {
        (
            Self::number(&self.transform, "standin_transforms"),
            Self::number(&self.transform, "standin_sessionless"),
        )
    }

    /// Surfaces and EGL images that can still be made, -1 for any number; and the images' frame
    /// type, 1 being pitch.
    pub fn limit_surfaces(&self, surfaces: i32, images: i32, frame_type: i32) {
        // SAFETY: the function has this type.
        unsafe {
            let limit = self
                .surface
                .get::<unsafe extern "C" fn(c_int, c_int, c_int)>("standin_limit_surfaces");
            limit.expect("it is in the library")(surfaces, images, frame_type);
        }
    }

    /// Transforms that still succeed, -1 for all, and the result of those that fail.
    pub fn limit_transforms(&self, transforms: i32, code: i32) {
        // SAFETY: the function has this type.
        unsafe {
            let limit = self
                .transform
                .get::<unsafe extern "C" fn(c_int, c_int)>("standin_limit_transforms");
            limit.expect("it is in the library")(transforms, code);
        }
    }

    /// 1: Jetson's driver; 2: that of discrete GPUs.
    pub fn set_driver(&self, driver: i32) {
        // SAFETY: the function has this type.
        unsafe {
            let set = self.surface.get::<unsafe extern "C" fn(c_int)>("standin_set_driver");
            set.expect("it is in the library")(driver);
        }
    }
}

/// The reports of the frames of a batch, in their order.
///
/// # Panics
/// When `buffer` is no batch, or a frame has no report.
pub fn reports(buffer: &gst::BufferRef) -> Vec<FrameReport> {
    let api = Api::get().expect("DeepStream is there");
    let batch = Batch::of(api, buffer).expect("it is a batch");
    let locked = batch.lock();
    let reports = locked.frames().into_iter().map(|frame| {
        let metas = locked.user_metas(&frame);
        let data = metas.iter().find(|(kind, _)| *kind == api.count_type);
        let (_, data) = data.expect("every frame carries a report");
        // SAFETY: the data of our type is ours, and the lock is held.
        unsafe { meta::read(*data) }.expect("it can be read").1
    });
    reports.collect()
}
