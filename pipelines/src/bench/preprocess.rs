//! From a decoded picture to the model's input, on one thread.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use vehiclecount_core::frame::{
    ColorMatrix, ColorRange, FrameFormat, FrameView, PixelFormat, Plane,
};
use vehiclecount_core::preprocess::{InputSize, Level, Placement, Preprocessor, Resize};

use super::figure::{Figure, Section, Subject};
use super::peers;
use super::rate::median;
use super::turns::{self, Contender, Sample, Turns};
use super::{Bench, SIZES};

/// Runs of which the median is one measurement.
const RUNS: usize = 61;

/// Pictures that are taken in turn, so that none is in the processor's cache from the last run.
const PICTURES: usize = 8;

/// A way from a picture's planes, without padding, to a small picture.
pub type Resizer = Box<dyn FnMut(&[Plane<'_>])>;

/// Pictures of noise, which no compression makes equal.
struct Pictures {
    planes: Vec<Vec<(Vec<u8>, usize)>>,
}

impl Pictures {
    fn new(format: FrameFormat) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let planes = (0..PICTURES).map(|_| {
            let plane = |plane| {
                let (samples, rows, size) = format.plane_size(plane);
                let data = (0..samples * size * rows).map(|_| random.u8(..)).collect();
                (data, samples * size)
            };
            (0..format.pixels.planes()).map(plane).collect()
        });
        Self { planes: planes.collect() }
    }

    /// Milliseconds of one picture, the median of [`RUNS`].
    fn time(&self, runs: usize, way: &mut dyn FnMut(&[Plane<'_>])) -> Sample {
        let mut times = Vec::with_capacity(runs);
        for run in 0..=runs {
            let planes: Vec<Plane<'_>> = self.planes[run % PICTURES]
                .iter()
                .map(|(data, stride)| Plane { data, stride: *stride })
                .collect();
            let begin = Instant::now();
            way(&planes);
            // The first one warms up.
            if run > 0 {
                times.push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
        Sample { value: median(&mut times), processor: None }
    }
}

/// Reads every byte of the picture, as no resize can do without: into a buffer that stays in the
/// processor's first cache.
fn read(planes: &[Plane<'_>]) {
    const PART: usize = 4096;
    let mut buffer = [0; PART];
    for part in planes.iter().flat_map(|plane| plane.data.chunks(PART)) {
        buffer[..part.len()].copy_from_slice(part);
        black_box(&mut buffer);
    }
}

/// Measures sizes and formats of pictures, each way in turn.
pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let formats = [PixelFormat::I420, PixelFormat::Nv12];
    let inputs = [bench.first_input(), InputSize { width: 384, height: 224 }];
    let mut figures = Vec::new();
    for (width, height) in SIZES {
        for pixels in formats {
            let format = FrameFormat {
                matrix: ColorMatrix::Bt709,
                range: ColorRange::Limited,
                ..FrameFormat::new(pixels, width as usize, height as usize)
            };
            for input in inputs {
                figures.extend(one(bench, format, input)?);
            }
        }
    }
    Ok(figures)
}

/// Our way, to an input of bytes or floats.
fn ours<L: Level + Default + 'static>(format: FrameFormat, input: InputSize) -> Resizer {
    let mut preprocessor = Preprocessor::new(format, Resize::Letterbox, input);
    let mut values = vec![L::default(); input.values()];
    Box::new(move |planes| {
        // The planes are the format's own.
        if let Ok(view) = FrameView::new(format, planes) {
            preprocessor.run(&view, black_box(&mut values));
        }
    })
}

fn one(bench: &Bench<'_>, format: FrameFormat, input: InputSize) -> Result<Vec<Figure>> {
    let pictures = Pictures::new(format);
    let pictures = &pictures;
    let runs = if bench.options.quick { 3 } else { RUNS };
    let FrameFormat { width, height, pixels, .. } = format;
    let pixels = format!("{pixels:?}").to_uppercase();
    let what = format!("{width}x{height} {pixels} to {input}");
    let placement = Placement::new(Resize::Letterbox, width, height, input);
    let mut ways: Vec<(&str, Resizer)> = match bench.engine.takes_levels() {
        true => vec![
            ("ours", ours::<u8>(format, input)),
            ("the same in floats", ours::<f32>(format, input)),
        ],
        false => vec![("ours", ours::<f32>(format, input))],
    };
    if let Some(planes) = bench.extras.planes {
        ways.push(("fast_image_resize, planes alone", planes(format, placement)));
    }
    ways.push(("reading the planes", Box::new(read)));
    let contenders = ways.into_iter().map(|(name, mut way)| Contender {
        name: format!("{name}, {what}"),
        subject: Subject {
            size: Some((width as u32, height as u32)),
            format: Some(pixels.clone()),
            input: Some(input.to_string()),
            ..Default::default()
        },
        unit: "ms",
        measure: Box::new(move || Ok(pictures.time(runs, &mut *way))),
    });
    let mut contenders: Vec<_> = contenders.collect();
    if let Some(opencv) = peers::opencv(bench, &what, (width, height), &pixels, placement) {
        contenders.push(opencv);
    }
    turns::take(Section::Preprocess, bench.options.rounds, Turns::Alike, &mut contenders)
}
