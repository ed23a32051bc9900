//! What it costs to see that a frame does not differ from an earlier one, beside what it costs to
//! preprocess it.
//!
//! `cargo bench -p vehiclecount-core --bench change` prints a table. Both take turns within one
//! run, so that a busy machine slows both alike. Twelve pictures go round, so that none is in the
//! processor's inner caches already; in life a decoder has just written it.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use vehiclecount_core::change::ChangeDetector;
use vehiclecount_core::frame::{ColorMatrix, ColorRange, FrameFormat, PixelFormat};
use vehiclecount_core::preprocess::{InputSize, Preprocessor, Resize};

use common::Picture;

const INPUT: InputSize = InputSize { width: 512, height: 288 };
const SIZES: [(usize, usize); 3] = [(640, 360), (1280, 720), (1920, 1080)];
const FORMATS: [PixelFormat; 6] = [
    PixelFormat::I420,
    PixelFormat::Nv12,
    PixelFormat::Yuy2,
    PixelFormat::I42010le,
    PixelFormat::Rgb,
    PixelFormat::Bgrx,
];
const PICTURES: usize = 12;
const ROUNDS: usize = 101;

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    println!(
        "{:>10}  {:>9}  {:>10}  {:>13}  share",
        "format", "size", "compare ms", "preprocess ms"
    );
    for (width, height) in SIZES {
        for pixels in FORMATS {
            let format = FrameFormat {
                matrix: ColorMatrix::Bt709,
                range: ColorRange::Limited,
                ..FrameFormat::new(pixels, width, height)
            };
            let pictures: Vec<_> = (0..PICTURES).map(|_| Picture::new(format)).collect();
            let mut preprocessor = Preprocessor::new(format, Resize::Letterbox, INPUT);
            let mut detector = ChangeDetector::new(format, preprocessor.placement());
            let mut input = vec![0.0; INPUT.values()];
            pictures[0].view(|frame| detector.compare(frame));
            detector.keep(0);
            let (mut compare, mut preprocess) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                let picture = &pictures[round % PICTURES];
                let begin = Instant::now();
                let same_as = picture.view(|frame| detector.compare(frame));
                compare.push(begin.elapsed());
                assert_eq!(same_as, Some(0));
                let picture = &pictures[(round + PICTURES / 2) % PICTURES];
                let begin = Instant::now();
                picture.view(|frame| preprocessor.run(frame, black_box(&mut input)));
                preprocess.push(begin.elapsed());
            }
            let (compare, preprocess) = (median(&mut compare), median(&mut preprocess));
            let name = format!("{pixels:?}");
            let share = compare / preprocess;
            println!(
                "{name:>10}  {width:>4}x{height:<4}  {compare:>10.4}  {preprocess:>13.4}  {share:.2}"
            );
        }
    }
}
