//! Tests of the comparison: what is noise, what is a vehicle, what is light.

use super::*;
use crate::frame::{Components, PixelFormat, Plane};
use crate::preprocess::{InputShapes, InputSize, Resize};

/// A picture in memory, each plane with its stride.
type Planes = Vec<(Vec<u8>, usize)>;

/// Pictures of common cameras.
const SIZES: [(usize, usize); 5] = [(320, 240), (640, 360), (704, 576), (1280, 720), (1920, 1080)];

/// Where pictures of `format` lie in the inputs of the usual model.
fn placement(format: FrameFormat) -> Placement {
    let shapes = InputShapes::around(InputSize { width: 384, height: 384 }, 32, 2048);
    let FrameFormat { width, height, .. } = format;
    Placement::new(Resize::Letterbox, width, height, shapes.fit(width, height))
}

fn detector(format: FrameFormat) -> ChangeDetector {
    ChangeDetector::new(format, placement(format))
}

/// A picture whose pixels have `brightness`, levels, and no colour. All other bytes are `filler`.
fn picture(format: FrameFormat, filler: u8, brightness: impl Fn(usize, usize) -> f64) -> Planes {
    let mut planes: Planes = (0..format.pixels.planes())
        .map(|plane| {
            let (groups, rows, bytes) = format.plane_size(plane);
            let stride = groups * bytes + 5;
            (vec![filler; stride * rows], stride)
        })
        .collect();
    let layout = format.pixels.layout();
    let (bytes, shift) = (layout.depth.bytes, layout.depth.shift);
    for index in 0..layout.components.len() {
        if layout.kind == Components::Yuv && index > 0 {
            continue;
        }
        let samples = format.samples(index);
        let (data, stride) = &mut planes[samples.plane];
        for y in 0..samples.rows {
            for x in 0..samples.columns {
                let level = brightness(x, y);
                let at = y * *stride + (samples.offset + x * samples.step) * bytes;
                if bytes == 1 {
                    data[at] = level.round().clamp(0.0, 255.0) as u8;
                } else {
                    let value = (level * 256.0).round().clamp(0.0, 65535.0) as u16 >> shift;
                    data[at..at + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
    planes
}

fn view(format: FrameFormat, held: &Planes) -> FrameView<'_> {
    let planes: Vec<_> =
        held.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
    FrameView::new(format, &planes).unwrap()
}

/// A road: lighter and darker places, all within 80 to 140 levels.
fn road(x: usize, y: usize) -> f64 {
    let wave = |at: usize, period: usize| (at % period).abs_diff(period / 2) as f64 / period as f64;
    80.0 + 60.0 * wave(x, 97) + 50.0 * wave(y + x / 3, 61)
}

/// White noise of 1 level (standard deviation), the same at every call.
struct Noise(Vec<f64>);

impl Noise {
    fn new() -> Self {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        // The sum of twelve uniform numbers has a variance of 1.
        Self((0..99_991).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect())
    }

    fn at(&self, picture: usize, x: usize, y: usize) -> f64 {
        let place =
            x.wrapping_mul(7919) ^ y.wrapping_mul(104_729) ^ picture.wrapping_mul(15_487_469);
        self.0[place % self.0.len()]
    }
}

#[test]
fn noise_of_a_sensor_is_no_change() {
    let noise = Noise::new();
    for (width, height) in SIZES {
        let format = FrameFormat::new(PixelFormat::I420, width, height);
        let mut detector = detector(format);
        for number in 0..4 {
            let noisy = picture(format, 0, |x, y| road(x, y) + 4.0 * noise.at(number, x, y));
            let same_as = detector.compare(&view(format, &noisy));
            assert_eq!(same_as, (number > 0).then_some(7), "{width}x{height}, picture {number}");
            if number == 0 {
                detector.keep(7);
            }
        }
    }
}

#[test]
fn vehicle_of_three_pixels_of_the_input_is_a_change_wherever_it_lies() {
    let noise = Noise::new();
    for (width, height) in SIZES {
        let format = FrameFormat::new(PixelFormat::I420, width, height);
        let scale = width as f64 / placement(format).width as f64;
        let side = ((3.0 * scale).ceil() as usize).max(4);
        let mut detector = detector(format);
        let empty = picture(format, 0, |x, y| road(x, y) + noise.at(0, x, y));
        assert_eq!(detector.compare(&view(format, &empty)), None);
        detector.keep(0);
        let again = picture(format, 0, |x, y| road(x, y) + noise.at(1, x, y));
        assert_eq!(detector.compare(&view(format, &again)), Some(0));
        let mut place = 0;
        for step in 0..24 {
            // All positions against the samples, in the middle and at every edge.
            place = (place + 7919) % (width * height);
            let (mut left, mut top) = (place % (width - side), place / width % (height - side));
            match step {
                0 => (left, top) = (0, 0),
                1 => left = width - side,
                2 => top = height - side,
                3 => (left, top) = (width - side, height - side),
                _ => {}
            }
            for contrast in [-24.0, 24.0] {
                let mut other = again.clone();
                let (data, stride) = &mut other[0];
                for y in top..top + side {
                    for pixel in &mut data[y * *stride + left..][..side] {
                        *pixel = (f64::from(*pixel) + contrast) as u8;
                    }
                }
                let same_as = detector.compare(&view(format, &other));
                assert_eq!(same_as, None, "{width}x{height}: {contrast} at {left}, {top}");
            }
        }
    }
}

#[test]
fn light_that_changes_slowly_is_a_change_as_soon_as_it_adds_up() {
    let format = FrameFormat::new(PixelFormat::I420, 640, 360);
    let noise = Noise::new();
    let mut detector = detector(format);
    let mut kept = Vec::new();
    for number in 0..60u64 {
        let drift = 0.1 * number as f64;
        let noisy = |x: usize, y: usize| road(x, y) + drift + 3.0 * noise.at(number as usize, x, y);
        if detector.compare(&view(format, &picture(format, 0, noisy))).is_none() {
            detector.keep(number);
            kept.push(number);
        }
    }
    // Two levels are twenty pictures; noise, of which the worst of many blocks decides, makes it
    // fewer.
    assert!(kept.len() >= 3, "{kept:?}");
    assert!(kept.windows(2).all(|pair| (14..=20).contains(&(pair[1] - pair[0]))), "{kept:?}");
}

#[test]
fn exposure_and_light_on_a_part_of_the_picture_are_changes() {
    for (width, height) in [SIZES[0], SIZES[2], SIZES[3]] {
        let format = FrameFormat::new(PixelFormat::Nv12, width, height);
        let before = picture(format, 128, road);
        let change = |after: &dyn Fn(usize, usize) -> f64| {
            let mut detector = detector(format);
            assert_eq!(detector.compare(&view(format, &before)), None);
            detector.keep(0);
            assert_eq!(detector.compare(&view(format, &before)), Some(0));
            detector.compare(&view(format, &picture(format, 128, after))).is_none()
        };
        assert!(change(&|x, y| road(x, y) * 1.05), "{width}x{height}: five percent brighter");
        assert!(change(&|x, y| road(x, y) - 3.0), "{width}x{height}: three levels darker");
        assert!(!change(&|x, y| road(x, y) + 1.0), "{width}x{height}: one level brighter");
        // A quarter of the picture in the light of head lamps, by three levels.
        let lit = |x: usize, y: usize| {
            road(x, y) + if x < width / 2 && y < height / 2 { 3.0 } else { 0.0 }
        };
        assert!(change(&lit), "{width}x{height}: a quarter");
    }
}

#[test]
fn formats_agree_on_noise_and_vehicles_and_fillers_do_not_matter() {
    let noise = Noise::new();
    for pixels in PixelFormat::ALL {
        // Samples of 4, 8 and 16 pixels.
        for (width, height) in [(640, 72), (1283, 73), (2601, 70)] {
            let format = FrameFormat::new(pixels, width, height);
            let side = 3 * width / placement(format).width + 3;
            let mut detector = detector(format);
            let shown = |number: usize, contrast: f64, filler: u8| {
                picture(format, filler, |x, y| {
                    let vehicle = (400..400 + side).contains(&x) && (31..31 + side).contains(&y);
                    road(x, y) + 3.0 * noise.at(number, x, y) + if vehicle { contrast } else { 0.0 }
                })
            };
            assert_eq!(detector.compare(&view(format, &shown(0, 0.0, 17))), None);
            detector.keep(3);
            let said = format!("{pixels:?}, {width}x{height}");
            assert_eq!(detector.compare(&view(format, &shown(1, 0.0, 230))), Some(3), "{said}");
            for contrast in [-25.0, 25.0] {
                let vehicle = shown(2, contrast, 17);
                assert_eq!(detector.compare(&view(format, &vehicle)), None, "{said}, {contrast}");
            }
        }
    }
}

#[test]
fn part_of_a_picture_is_compared_alone() {
    for pixels in [PixelFormat::I420, PixelFormat::Yuy2, PixelFormat::Uyvy, PixelFormat::Rgb] {
        let format = FrameFormat::new(pixels, 401, 301);
        let with_vehicle = |left: usize, top: usize| {
            picture(format, 128, |x, y| {
                let inside = (left..left + 12).contains(&x) && (top..top + 12).contains(&y);
                if inside { 20.0 } else { road(x, y) }
            })
        };
        let (x, y, width, height) = (51, 37, 251, 167);
        let compared = |detector: &mut ChangeDetector, held: &Planes| {
            detector.compare(&view(format, held).crop(x, y, width, height).unwrap())
        };
        let mut detector = detector(format.crop(x, y, width, height).unwrap().0);
        assert_eq!(compared(&mut detector, &with_vehicle(0, 0)), None);
        detector.keep(0);
        for outside in [(39, 100), (302, 100), (150, 25), (150, 204)] {
            let held = with_vehicle(outside.0, outside.1);
            assert_eq!(compared(&mut detector, &held), Some(0), "{pixels:?}, {outside:?}");
        }
        for inside in [(51, 37), (290, 37), (51, 192), (290, 192), (150, 100)] {
            let held = with_vehicle(inside.0, inside.1);
            assert_eq!(compared(&mut detector, &held), None, "{pixels:?}, {inside:?}");
        }
    }
}

#[test]
fn pictures_of_every_size_are_compared() {
    for pixels in [PixelFormat::I420, PixelFormat::Rgb, PixelFormat::P01010le, PixelFormat::Gbr] {
        for width in [1, 3, 4, 5, 7, 9, 31, 33, 65, 4000] {
            for height in [1, 3, 4, 5, 7, 9, 31, 33, 65] {
                let format = FrameFormat::new(pixels, width, height);
                let mut detector = detector(format);
                let before = picture(format, 0, |_, _| 100.0);
                assert_eq!(detector.compare(&view(format, &before)), None);
                detector.keep(1);
                let is_seen = width >= 4 && height >= 4;
                let said = format!("{pixels:?}, {width}x{height}");
                let again = detector.compare(&view(format, &before));
                assert_eq!(again, is_seen.then_some(1), "{said}");
                let darker = picture(format, 0, |_, _| 80.0);
                assert_eq!(detector.compare(&view(format, &darker)), None, "{said}");
            }
        }
    }
}

#[test]
fn picture_is_compared_with_the_one_that_was_kept_and_not_with_the_last() {
    let format = FrameFormat::new(PixelFormat::Gray8, 320, 240);
    let mut held = None;
    let grey = |level: f64| picture(format, 0, |_, _| level);
    let detector = ChangeDetector::held(&mut held, format, placement(format));
    assert_eq!(detector.compare(&view(format, &grey(100.0))), None);
    detector.keep(5);
    assert_eq!(detector.compare(&view(format, &grey(150.0))), None);
    let detector = ChangeDetector::held(&mut held, format, placement(format));
    assert_eq!(detector.compare(&view(format, &grey(100.0))), Some(5));
    // Another format begins anew.
    let other = FrameFormat { width: 322, ..format };
    let detector = ChangeDetector::held(&mut held, other, placement(other));
    assert_eq!(detector.compare(&view(other, &picture(other, 0, |_, _| 100.0))), None);
}
