//! `./run bench`: `vehicle-count bench`, and beside it what only this source tree compares: the
//! resize of another library, allocations, and other programs (`bench/peers`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::Parser;
use fast_image_resize as fir;
use vehicle_count::bench::{self, Extras, Options, Peers, Resizer};
use vehiclecount_core::frame::FrameFormat;
use vehiclecount_core::preprocess::Placement;

/// Measures the counter against the bare engine, the decoder, other libraries and other programs.
#[derive(Parser)]
#[command(name = "./run bench", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// A Python with the packages of bench/peers/requirements.txt: compare with the programs there
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// Compare with GStreamer's onnxinference in the Debian 13 that bench/peers/onnxinference.sh
    /// has made (root)
    #[arg(long, requires = "peers")]
    onnxinference: bool,
}

/// The system's allocator, and how often Rust code has asked it for memory. Libraries in C have
/// their own way to it, which is not counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system allocator's own; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// The planes of a picture resized in 8 bits, without colours, by fast_image_resize: a bound of any
/// way that takes its resize.
fn planes(format: FrameFormat, placement: Placement) -> Resizer {
    let kind = |bytes| match bytes {
        1 => fir::PixelType::U8,
        2 => fir::PixelType::U8x2,
        3 => fir::PixelType::U8x3,
        _ => fir::PixelType::U8x4,
    };
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear))
        .use_alpha(false);
    let shapes: Vec<_> =
        (0..format.pixels.planes()).map(|plane| format.plane_size(plane)).collect();
    let (width, height) = (placement.width as u32, placement.height as u32);
    let mut small: Vec<_> = shapes
        .iter()
        .map(|(_, _, bytes)| fir::images::Image::new(width, height, kind(*bytes)))
        .collect();
    let mut resizer = fir::Resizer::new();
    Box::new(move |planes| {
        for ((plane, (columns, rows, bytes)), small) in planes.iter().zip(&shapes).zip(&mut small) {
            let (columns, rows) = (*columns as u32, *rows as u32);
            if let Ok(image) = fir::images::ImageRef::new(columns, rows, plane.data, kind(*bytes)) {
                // Kinds of pixels agree.
                let _ = resizer.resize(&image, small, &options);
            }
        }
    })
}

fn main() -> anyhow::Result<()> {
    let Arguments { options, peers, onnxinference } = Arguments::parse();
    gst::init().context("GStreamer does not start")?;
    gstvehiclecount::plugin_register_static().context("our own elements cannot be registered")?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let peers = peers.map(|python| Peers { python, scripts, has_onnxinference: onnxinference });
    bench::run_with(
        &options,
        &Extras { allocations: Some(allocations), planes: Some(planes), peers },
    )
}
