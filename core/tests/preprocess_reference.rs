//! The preprocessor against an independent reference, and against what must hold for any picture.
//!
//! The reference is float64 NumPy, itself held against Pillow and OpenCV: see
//! preprocess_reference.py, which makes the fixtures.
//!
//! Every picture also goes through the GPU's kernel, as it is built for the host by the simulated
//! driver, and must come out the same.

#![allow(clippy::unwrap_used)]

use std::sync::{LazyLock, Mutex};

use serde::Deserialize;
use vehiclecount_core::cuda::{DeviceBuffer, Driver, Kernels, PictureOrder};
use vehiclecount_core::frame::{
    ColorMatrix, ColorRange, Component, Components, FrameFormat, FrameView, Layout, PixelFormat,
    Plane,
};
use vehiclecount_core::preprocess::{BORDER, InputSize, Placement, Preprocessor, Resize};

/// Levels. The reference is in 64-bit floats, rounded to 1/256 level in the fixture. The processor
/// works in fixed point: it rounds each weighted sample to 1/256 level, and each weight to 1/32768,
/// and chroma counts up to twice. A wrong tap, siting or coefficient is off by a level or more on
/// these noisy pictures.
const TOLERANCE: f32 = 0.05;

/// Levels between the GPU's kernel, which works in 32-bit floats, and the reference.
const KERNEL_TOLERANCE: f32 = 0.01;

static KERNELS: LazyLock<Mutex<Kernels>> = LazyLock::new(|| {
    vehiclecount_gpu_sim::install();
    let context = Driver::open().and_then(|driver| driver.context(0)).expect("the simulated GPU");
    Mutex::new(Kernels::load(&context).expect("the kernels load"))
});

#[derive(Debug, Deserialize)]
struct Case {
    pixels: String,
    width: usize,
    height: usize,
    matrix: String,
    range: String,
    resize: Resize,
    input: (usize, usize),
    strides: Vec<usize>,
    /// The part of the picture that is looked at: column, row, width, height.
    #[serde(default)]
    part: Option<(usize, usize, usize, usize)>,
}

impl Case {
    fn format(&self) -> FrameFormat {
        let named = |format: &&PixelFormat| format!("{format:?}") == self.pixels;
        let pixels = *PixelFormat::ALL.iter().find(named).expect("a format's name");
        FrameFormat {
            matrix: match &self.matrix[..] {
                "Bt2020" => ColorMatrix::Bt2020,
                "Bt709" => ColorMatrix::Bt709,
                _ => ColorMatrix::Bt601,
            },
            range: if self.range == "Full" { ColorRange::Full } else { ColorRange::Limited },
            ..FrameFormat::new(pixels, self.width, self.height)
        }
    }
}

/// A picture with its memory: `bytes` gives each byte by plane, row and column.
struct Picture {
    format: FrameFormat,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Picture {
    fn new(
        format: FrameFormat,
        strides: &[usize],
        bytes: impl Fn(usize, usize, usize) -> u8,
    ) -> Self {
        let planes = strides.iter().enumerate().map(|(plane, &stride)| {
            let (samples, rows, size) = format.plane_size(plane);
            // Padding is of a value that shows if it is read, and the last row has none.
            let byte = |at: usize| {
                if at % stride < samples * size {
                    bytes(plane, at / stride, at % stride)
                } else {
                    0xEE
                }
            };
            ((0..stride * (rows - 1) + samples * size).map(byte).collect(), stride)
        });
        Self { format, planes: planes.collect() }
    }

    fn packed(format: FrameFormat, bytes: impl Fn(usize, usize, usize) -> u8) -> Self {
        let row = |plane| {
            let (samples, _, size) = format.plane_size(plane);
            samples * size
        };
        let strides: Vec<usize> = (0..format.pixels.planes()).map(row).collect();
        Self::new(format, &strides, bytes)
    }

    fn run(&self, resize: Resize, input: InputSize) -> Vec<f32> {
        self.run_part((0, 0, self.format.width, self.format.height), resize, input)
    }

    fn run_part(
        &self,
        part: (usize, usize, usize, usize),
        resize: Resize,
        input: InputSize,
    ) -> Vec<f32> {
        let planes: Vec<Plane<'_>> =
            self.planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        let view = FrameView::new(self.format, &planes).expect("planes of the format");
        let view = view.crop(part.0, part.1, part.2, part.3).expect("a part of the picture");
        let mut values = vec![f32::NAN; input.values()];
        let mut preprocessor = Preprocessor::new(view.format(), resize, input);
        preprocessor.run(&view, &mut values);
        let mut levels = vec![0u8; input.values()];
        preprocessor.run(&view, &mut levels);
        for (at, (&level, value)) in levels.iter().zip(&values).enumerate() {
            let off = (f32::from(level) - value).abs();
            assert!(off <= 0.5, "{:?}: value {at} is {value}, and {level} in bytes", self.format);
        }
        let on_gpu = self.run_on_gpu(part, preprocessor.placement(), input);
        assert_close(&on_gpu, &values, TOLERANCE, &format!("the kernel on {:?}", self.format));
        values
    }

    fn run_on_gpu(
        &self,
        part: (usize, usize, usize, usize),
        placement: Placement,
        input: InputSize,
    ) -> Vec<f32> {
        let kernels = KERNELS.lock().expect("no other test has panicked");
        let planes: Vec<(DeviceBuffer, usize)> = self
            .planes
            .iter()
            .map(|(data, stride)| {
                (DeviceBuffer::holding(kernels.context(), data, "a plane").unwrap(), *stride)
            })
            .collect();
        let (format, begins) =
            self.format.crop(part.0, part.1, part.2, part.3).expect("a part of the picture");
        let place = |((data, stride), (row, byte)): (&(DeviceBuffer, usize), (usize, usize))| {
            let offset = row * stride + byte;
            (data.address() + offset as u64, *stride, data.bytes() - offset)
        };
        let placed: Vec<_> = planes.iter().zip(begins).map(place).collect();
        let order = PictureOrder::new(format, placement, &placed, 0).expect("planes of the format");
        kernels.preprocess_now(&[order], input).expect("the kernel runs")
    }
}

/// The same bytes as `pattern` in preprocess_reference.py.
fn pattern(plane: usize, y: usize, x: usize) -> u8 {
    let wave = ((5 * x + 3 * y + 40 * plane) % 512).abs_diff(256).min(255) as u32;
    let [plane, y, x] = [plane, y, x].map(|value| value as u32);
    let mut mixed = plane
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add(y.wrapping_mul(0x85EB_CA77))
        .wrapping_add(x.wrapping_mul(0xC2B2_AE3D));
    mixed ^= mixed >> 15;
    mixed = mixed.wrapping_mul(0x2C1B_3C6D);
    mixed ^= mixed >> 12;
    ((3 * wave + mixed % 256) / 4) as u8
}

fn format(pixels: PixelFormat, width: usize, height: usize) -> FrameFormat {
    let (matrix, range) = (ColorMatrix::Bt709, ColorRange::Limited);
    FrameFormat { matrix, range, ..FrameFormat::new(pixels, width, height) }
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance, "{what}: value {at} is {got}, not {expected}");
    }
}

#[test]
fn every_format_size_and_range_agrees_with_the_reference() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("preprocess_reference.json")).unwrap();
    let mut expected = include_bytes!("preprocess_reference.bin").as_slice();
    for case in &cases {
        let input = InputSize { width: case.input.0, height: case.input.1 };
        let (values, rest) = expected.split_at(2 * input.values());
        expected = rest;
        let values: Vec<f32> = values
            .chunks_exact(2)
            .map(|pair| f32::from(u16::from_le_bytes([pair[0], pair[1]])) / 256.0)
            .collect();
        let picture = Picture::new(case.format(), &case.strides, pattern);
        let part = case.part.unwrap_or((0, 0, case.width, case.height));
        let got = picture.run_part(part, case.resize, input);
        assert_close(&got, &values, TOLERANCE, &format!("{case:?}"));
        let placement = Placement::new(case.resize, part.2, part.3, input);
        let got = picture.run_on_gpu(part, placement, input);
        assert_close(&got, &values, KERNEL_TOLERANCE, &format!("the kernel: {case:?}"));
    }
    assert!(expected.is_empty());
    for pixels in PixelFormat::ALL {
        assert!(cases.iter().any(|case| case.format().pixels == pixels), "no case for {pixels:?}");
    }
}

/// Anything of the border, the padding or a neighbouring plane that got into the picture would
/// show.
#[test]
fn flat_picture_stays_flat_up_to_its_border() {
    for pixels in PixelFormat::ALL {
        for (width, height) in [(64, 20), (13, 41), (1, 1), (1000, 3), (2, 3)] {
            // Grey in every format: luma at half, chroma at its zero.
            let depth = pixels.layout().depth;
            let half = match depth.bytes {
                1 => [128, 128],
                _ => (0x8000u16 >> depth.shift).to_le_bytes(),
            };
            let flat = |_, _, x| half[x % 2];
            let level = 255.0 / (2.0 - (1.0 - depth.bits as f32).exp2());
            let picture = Picture::packed(
                FrameFormat { range: ColorRange::Full, ..format(pixels, width, height) },
                flat,
            );
            let input = InputSize { width: 40, height: 24 };
            let placed = Preprocessor::new(picture.format, Resize::Letterbox, input).placement();
            for (at, value) in picture.run(Resize::Letterbox, input).into_iter().enumerate() {
                let (x, y) = (at % 40, at / 40 % 24);
                let inside = (placed.left..placed.left + placed.width).contains(&x)
                    && (placed.top..placed.top + placed.height).contains(&y);
                let expected = if inside { level } else { BORDER };
                assert!(
                    (value - expected).abs() < 1e-3,
                    "{pixels:?} {width}x{height}: {value} at {x}, {y}"
                );
            }
        }
    }
}

/// Sums of many samples, in fixed point on the processor and in floating point in the GPU's kernel.
#[test]
fn pictures_as_large_as_cameras_make_them_agree_with_the_kernel() {
    for (width, height) in [(1280, 720), (1920, 1080), (3840, 2160)] {
        for (pixels, size) in [
            (PixelFormat::Nv12, (384, 384)),
            (PixelFormat::I420, (512, 288)),
            (PixelFormat::P01010le, (384, 224)),
            (PixelFormat::Yuy2, (384, 384)),
            (PixelFormat::Bgrx, (96, 64)),
        ] {
            let input = InputSize { width: size.0, height: size.1 };
            Picture::packed(format(pixels, width, height), pattern).run(Resize::Letterbox, input);
        }
    }
}

#[test]
fn mirrored_picture_gives_the_mirrored_input() {
    let input = InputSize { width: 30, height: 22 };
    // With an even size the chroma plane ends with the picture, so its mirror image is a picture
    // too.
    for (pixels, width, height) in [
        (PixelFormat::I420, 74, 46),
        (PixelFormat::Nv12, 18, 10),
        (PixelFormat::Nv16, 18, 11),
        (PixelFormat::Y41b, 24, 9),
        (PixelFormat::P01010le, 22, 10),
        (PixelFormat::Y44410le, 31, 17),
        (PixelFormat::Rgb, 73, 45),
        (PixelFormat::Bgrx, 17, 9),
        (PixelFormat::Gray8, 201, 31),
    ] {
        let format = format(pixels, width, height);
        let mirror = |plane, y: usize, x: usize| {
            let (samples, rows, size) = pixels.plane_size(plane, width, height);
            pattern(plane, rows - 1 - y, (samples - 1 - x / size) * size + x % size)
        };
        let straight = Picture::packed(format, pattern).run(Resize::Stretch, input);
        let mut mirrored = Picture::packed(format, mirror).run(Resize::Stretch, input);
        mirrored.chunks_exact_mut(input.width * input.height).for_each(<[f32]>::reverse);
        // Weights in fixed point, whose sum is exact, need not be symmetrical to the last bit.
        assert_close(&mirrored, &straight, 0.02, &format!("{pixels:?}"));
    }
}

/// Away from the edges, whose samples weigh more, every sample must count the same: a bright dot
/// keeps its sum wherever it stands.
#[test]
fn shrinking_keeps_the_sum_of_brightness() {
    let input = InputSize { width: 40, height: 30 };
    for dot in [(60, 40), (61, 40), (63, 47), (99, 51)] {
        let picture =
            FrameFormat { range: ColorRange::Full, ..format(PixelFormat::Gray8, 160, 90) };
        let picture = Picture::packed(picture, |_, y, x| if (x, y) == dot { 255 } else { 0 });
        let sum: f32 = picture.run(Resize::Stretch, input)[..input.values() / 3].iter().sum();
        let scale = (160.0 / 40.0) * (90.0 / 30.0);
        // Each of the few values that the dot goes to may be off by a 256th of a level.
        assert!((sum * scale - 255.0).abs() < 0.3, "{dot:?}: {}", sum * scale);
    }
}

#[test]
fn alpha_and_filler_bytes_are_ignored() {
    let input = InputSize { width: 16, height: 16 };
    for pixels in PixelFormat::ALL {
        let layout = pixels.layout();
        if layout.kind != Components::Rgb {
            continue;
        }
        let offsets: Vec<usize> =
            layout.components.iter().map(|component| component.offset).collect();
        let size = pixels.plane_size(0, 1, 1).2;
        let with = |filler: u8| {
            Picture::packed(format(pixels, 21, 13), |plane, y, x| {
                if offsets.contains(&(x % size)) { pattern(plane, y, x) } else { filler }
            })
            .run(Resize::Letterbox, input)
        };
        assert_eq!(with(0), with(255), "{pixels:?}");
    }
}

/// The byte of a picture in any layout that has `sample`, of 8 bits, by component, row and column.
fn arranged(
    pixels: PixelFormat,
    sample: impl Fn(usize, usize, usize) -> u8,
) -> impl Fn(usize, usize, usize) -> u8 {
    move |plane, y, x| {
        let Layout { components, depth, .. } = pixels.layout();
        let place = x / depth.bytes;
        let holds = |component: &Component| {
            component.plane == plane
                && place >= component.offset
                && (place - component.offset).is_multiple_of(component.step)
        };
        let Some(index) = components.iter().position(holds) else { return 77 };
        let level = sample(index, y, (place - components[index].offset) / components[index].step);
        if depth.bytes == 1 {
            return level;
        }
        ((u16::from(level) << 8) >> depth.shift).to_le_bytes()[x % 2]
    }
}

#[test]
fn same_samples_in_another_order_or_with_more_bits_give_the_same() {
    let input = InputSize { width: 48, height: 48 };
    let sampling = |pixels: PixelFormat| {
        let Layout { kind, components, .. } = pixels.layout();
        (kind, components.last().map(|component| component.covers))
    };
    let mut known: Vec<(PixelFormat, Vec<f32>)> = Vec::new();
    for pixels in PixelFormat::ALL {
        let picture = Picture::packed(format(pixels, 97, 55), arranged(pixels, pattern));
        let got = picture.run(Resize::Letterbox, input);
        match known.iter().find(|(held, _)| sampling(*held) == sampling(pixels)) {
            Some((held, expected)) => {
                assert_close(&got, expected, 2e-3, &format!("{pixels:?} and {held:?}"))
            }
            None => known.push((pixels, got)),
        }
    }
    assert_eq!(known.len(), 6, "4:2:0, 4:2:2, 4:4:4, 4:1:1, RGB, grey");
}

/// What is cut out by hand where no chroma sample is cut is the part itself.
#[test]
fn part_of_a_picture_gives_what_the_picture_cut_to_it_gives() {
    let input = InputSize { width: 24, height: 16 };
    let (x, y, width, height) = (8, 4, 21, 17);
    for pixels in PixelFormat::ALL {
        let whole = format(pixels, 37, 29);
        let (part, begins) = whole.crop(x, y, width, height).unwrap();
        let cut = Picture::packed(part, |plane, y, x| {
            pattern(plane, y + begins[plane].0, x + begins[plane].1)
        });
        let got = Picture::packed(whole, pattern).run_part(
            (x, y, width, height),
            Resize::Letterbox,
            input,
        );
        assert_eq!(got, cut.run(Resize::Letterbox, input), "{pixels:?}");
    }
}

#[test]
#[should_panic(expected = "made for another format")]
fn frame_of_another_format_is_the_callers_mistake() {
    let input = InputSize { width: 8, height: 8 };
    let mut preprocessor =
        Preprocessor::new(format(PixelFormat::Gray8, 8, 8), Resize::Stretch, input);
    let data = [0; 64];
    let other =
        FrameView::new(format(PixelFormat::Gray8, 8, 4), &[Plane { data: &data, stride: 8 }])
            .unwrap();
    preprocessor.run(&other, &mut vec![0.0; input.values()]);
}
