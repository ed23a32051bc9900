//! What a frame's preprocessing costs, against two other ways.
//!
//! Ours goes to bytes, as OpenVINO takes them, and to floats. The usual way is to convert the whole
//! picture to RGB, resize it, and spread it into planes. A lower bound of any such way is the
//! resize of the picture's planes alone, in 8 bits, without colours.
//!
//! `cargo bench -p vehiclecount-core --bench preprocess` prints Criterion's figures and then a
//! table of ratios. For the table the paths take turns within one run, so that a busy machine slows
//! all of them alike: read the ratios, not the times.

mod common;

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use fast_image_resize as fir;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb, Rgba};
use vehiclecount_core::frame::{
    ColorMatrix, ColorRange, Components, FrameFormat, FrameView, PixelFormat,
};
use vehiclecount_core::preprocess::{BORDER, InputSize, Level, Placement, Preprocessor, Resize};

use common::Picture;

/// The square input, and the one of a 16:9 camera at the same cost.
const INPUTS: [InputSize; 2] =
    [InputSize { width: 384, height: 384 }, InputSize { width: 512, height: 288 }];
const SIZES: [(usize, usize); 2] = [(1280, 720), (1920, 1080)];
const FORMATS: [PixelFormat; 4] =
    [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Bgrx, PixelFormat::Gray8];
const ROUNDS: usize = 61;

/// Brings one frame to the model's input.
type Path = Box<dyn FnMut()>;

/// A picture and its ways to the model's input.
struct Bench {
    name: String,
    paths: [(&'static str, Path); 5],
}

impl Bench {
    fn new(pixels: PixelFormat, (width, height): (usize, usize), size: InputSize) -> Self {
        let format = FrameFormat {
            matrix: ColorMatrix::Bt709,
            range: ColorRange::Limited,
            ..FrameFormat::new(pixels, width, height)
        };
        let picture = Picture::new(format);
        let (image_picture, fir_picture, planes_picture) =
            (picture.clone(), picture.clone(), picture.clone());
        let placement = Placement::new(Resize::Letterbox, width, height, size);
        let bytes = fused::<u8>(format, picture.clone(), size);
        let floats = fused::<f32>(format, picture, size);

        let mut input = vec![0.0; size.values()];
        let mut whole = vec![0; width * height * 4];
        let (small_width, small_height) = (placement.width as u32, placement.height as u32);
        let with_image = move || {
            image_picture.view(|frame| {
                let channels = to_rgb(frame, &mut whole);
                let (size, bytes) =
                    ((width as u32, height as u32), &whole[..width * height * channels]);
                let small = if channels == 4 {
                    let whole = ImageBuffer::<Rgba<u8>, _>::from_raw(size.0, size.1, bytes)
                        .expect("a whole picture");
                    imageops::resize(&whole, small_width, small_height, FilterType::Triangle)
                        .into_raw()
                } else {
                    let whole = ImageBuffer::<Rgb<u8>, _>::from_raw(size.0, size.1, bytes)
                        .expect("a whole picture");
                    imageops::resize(&whole, small_width, small_height, FilterType::Triangle)
                        .into_raw()
                };
                to_planes(&small, channels, placement, black_box(&mut input));
            });
        };

        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear))
            .use_alpha(false);
        let kind = |channels| match channels {
            1 => fir::PixelType::U8,
            2 => fir::PixelType::U8x2,
            3 => fir::PixelType::U8x3,
            _ => fir::PixelType::U8x4,
        };

        let shapes = (0..pixels.planes()).map(|plane| format.plane_size(plane));
        let mut small: Vec<_> = shapes
            .map(|(_, _, bytes)| fir::images::Image::new(small_width, small_height, kind(bytes)))
            .collect();
        let mut resizer = fir::Resizer::new();
        let planes = move || {
            for (plane, small) in small.iter_mut().enumerate() {
                let (columns, rows, bytes) = format.plane_size(plane);
                let (columns, rows) = (columns as u32, rows as u32);
                let whole = fir::images::ImageRef::new(
                    columns,
                    rows,
                    &planes_picture.planes[plane].0,
                    kind(bytes),
                );
                resizer
                    .resize(&whole.expect("a whole plane"), small, &options)
                    .expect("the same kind of pixel");
                black_box(small.buffer());
            }
        };

        let mut input = vec![0.0; size.values()];
        let mut whole = vec![0; width * height * 4];
        let mut resizer = fir::Resizer::new();
        let with_fir = move || {
            fir_picture.view(|frame| {
                let channels = to_rgb(frame, &mut whole);
                let bytes = &whole[..width * height * channels];
                let whole =
                    fir::images::ImageRef::new(width as u32, height as u32, bytes, kind(channels));
                let whole = whole.expect("a whole picture");
                let mut small = fir::images::Image::new(small_width, small_height, kind(channels));
                resizer.resize(&whole, &mut small, &options).expect("the same kind of pixel");
                to_planes(small.buffer(), channels, placement, black_box(&mut input));
            });
        };
        Self {
            name: format!("{pixels:?} {width}x{height} to {}x{}", size.width, size.height),
            paths: [
                ("fused", bytes),
                ("floats", floats),
                ("planes", Box::new(planes)),
                ("fast_image_resize", Box::new(with_fir)),
                ("image", Box::new(with_image)),
            ],
        }
    }
}

/// Our way, to an input of bytes or floats.
fn fused<L: Level + Default + 'static>(
    format: FrameFormat,
    picture: Picture,
    size: InputSize,
) -> Path {
    let mut preprocessor = Preprocessor::new(format, Resize::Letterbox, size);
    let mut input = vec![L::default(); size.values()];
    Box::new(move || picture.view(|frame| preprocessor.run(frame, black_box(&mut input))))
}

/// The whole picture as RGB, each chroma sample used for its four pixels, in integers. Four-byte
/// pixels are only copied, as the resize takes them as they are. Returns the bytes of a pixel.
fn to_rgb(frame: &FrameView<'_>, whole: &mut [u8]) -> usize {
    let FrameFormat { pixels, width, height, .. } = frame.format();
    let channels = if pixels.layout().kind == Components::Rgb { 4 } else { 3 };
    for (y, row) in whole.chunks_exact_mut(width * channels).take(height).enumerate() {
        let main = frame.row(0, y);
        let (u, v, step) = match pixels {
            PixelFormat::I420 => (frame.row(1, y / 2), frame.row(2, y / 2), 1),
            PixelFormat::Nv12 => (frame.row(1, y / 2), &frame.row(1, y / 2)[1..], 2),
            PixelFormat::Gray8 => {
                row.chunks_exact_mut(3).zip(main).for_each(|(pixel, grey)| pixel.fill(*grey));
                continue;
            }
            _ => {
                row.copy_from_slice(main);
                continue;
            }
        };
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let luma = 298 * (i32::from(main[x]) - 16) + 128;
            let (u, v) = (i32::from(u[x / 2 * step]) - 128, i32::from(v[x / 2 * step]) - 128);
            let rgb = [luma + 459 * v, luma - 55 * u - 136 * v, luma + 541 * u];
            pixel.copy_from_slice(&rgb.map(|value| (value >> 8).clamp(0, 255) as u8));
        }
    }
    channels
}

/// The resized picture as planes of `f32` inside the border.
fn to_planes(small: &[u8], channels: usize, placement: Placement, input: &mut [f32]) {
    let Placement { left, top, width, input: size, .. } = placement;
    input.fill(BORDER);
    for (channel, plane) in input.chunks_exact_mut(size.width * size.height).enumerate() {
        for (small, row) in
            small.chunks_exact(width * channels).zip(plane.chunks_exact_mut(size.width).skip(top))
        {
            for (pixel, value) in small.chunks_exact(channels).zip(&mut row[left..]) {
                *value = f32::from(pixel[channel]);
            }
        }
    }
}

/// Milliseconds for a frame, the middle of `ROUNDS`; the paths take turns.
fn medians(bench: &mut Bench) -> [f64; 5] {
    let mut times = [[Duration::ZERO; ROUNDS]; 5];
    for round in 0..ROUNDS {
        for ((_, path), times) in bench.paths.iter_mut().zip(&mut times) {
            // The second time it finds in the caches what fits there.
            path();
            let start = Instant::now();
            path();
            times[round] = start.elapsed();
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64() * 1e3
    })
}

fn main() {
    let mut benches = Vec::new();
    for input in INPUTS {
        for size in SIZES {
            benches.extend(FORMATS.map(|pixels| Bench::new(pixels, size, input)));
        }
    }
    let mut criterion = Criterion::default().configure_from_args();
    for bench in &mut benches {
        let mut group = criterion.benchmark_group(&bench.name);
        for (name, path) in &mut bench.paths {
            group.bench_function(*name, |bencher| bencher.iter(&mut *path));
        }
    }
    criterion.final_summary();
    // `cargo test` runs benchmarks once, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("\nmilliseconds for a frame, and how many times as long as fused");
    println!(
        "(fused: to bytes; floats: the same to floats; planes: fast_image_resize on the planes"
    );
    println!("alone, without colours)");
    println!(
        "{:<29}{:>8}{:>17}{:>17}{:>19}{:>17}",
        "picture", "fused", "floats", "planes", "fast_image_resize", "image"
    );
    for bench in &mut benches {
        let [fused, others @ ..] = medians(bench);
        let others = others.map(|time| format!("{time:>8.3} {:>6.1}x", time / fused)).join(" ");
        println!("{:<29}{fused:>8.3} {others}", bench.name);
    }
}
