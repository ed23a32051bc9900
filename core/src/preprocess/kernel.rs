//! The pass over the picture, row by row of the input.

use std::array;
use std::ops::Range;

use multiversion::multiversion;

use super::color::{Color, level};
use super::filter::Axis;
use super::{BORDER, Placement};
use crate::frame::{FrameFormat, FrameView, PixelFormat};

/// Everything about a stream's pictures that is the same for each of them.
#[derive(Debug)]
pub(super) struct Plan {
    format: FrameFormat,
    placement: Placement,
    color: Color,
    /// How plane 0 is resized.
    main: Axes,
    /// How the chroma planes are resized, if there are any.
    chroma: Option<Axes>,
}

/// The resize of one plane.
#[derive(Debug)]
struct Axes {
    columns: Axis,
    rows: Axis,
}

/// Rows that a picture passes through. Nothing is kept in them from one picture to the next.
#[derive(Debug)]
pub(super) struct Scratch {
    /// A plane's rows blended into one, samples interleaved as in the plane; a little longer, so that zero weights have something to
    /// meet.
    blended: Vec<f32>,
    /// Luma and both chromas of one row at the input's resolution.
    resized: [Vec<f32>; 3],
}

/// Values that are multiplied at once along a row: 8, or 12 where a pixel has three.
const LANES: usize = 8;

impl Plan {
    pub(super) fn new(format: FrameFormat, placement: Placement) -> Self {
        let FrameFormat { pixels, width, height, .. } = format;
        let axes = |plane: usize, extent: (f64, f64)| {
            let (samples, rows, channels) = pixels.plane_size(plane, width, height);
            let multiple = if channels == 3 { 12 } else { LANES };
            Axes {
                columns: Axis::new(extent.0, samples, placement.width, channels, multiple),
                rows: Axis::new(extent.1, rows, placement.height, 1, 1),
            }
        };
        let (width, height) = (width as f64, height as f64);
        Self {
            format,
            placement,
            color: Color::new(format),
            main: axes(0, (width, height)),
            chroma: (pixels.planes() > 1).then(|| axes(1, (width / 2.0, height / 2.0))),
        }
    }

    pub(super) fn format(&self) -> FrameFormat {
        self.format
    }

    pub(super) fn placement(&self) -> Placement {
        self.placement
    }

    pub(super) fn scratch(&self) -> Scratch {
        let FrameFormat { pixels, width, height, .. } = self.format;
        let row = |plane: usize, axes: &Axes| {
            let (samples, _, channels) = pixels.plane_size(plane, width, height);
            axes.columns.reach().max(samples * channels)
        };
        let chroma = self.chroma.as_ref().map_or(0, |axes| row(1, axes));
        Scratch {
            blended: vec![0.0; row(0, &self.main).max(chroma)],
            resized: array::from_fn(|_| vec![0.0; self.placement.width]),
        }
    }
}

/// Writes the model input of one picture, border included.
///
/// Sums are made in a fixed order and without fused multiply-add, so the result is the same to the last bit on every processor.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn render(plan: &Plan, scratch: &mut Scratch, frame: &FrameView<'_>, input: &mut [f32]) {
    let Placement { left, top, width, height, input: size } = plan.placement;
    let mut planes = {
        let (red, rest) = input.split_at_mut(size.width * size.height);
        let (green, blue) = rest.split_at_mut(size.width * size.height);
        [red, green, blue]
    };
    for plane in &mut planes {
        plane[..top * size.width].fill(BORDER);
        plane[(top + height) * size.width..].fill(BORDER);
    }
    for y in 0..height {
        let [red, green, blue] = planes.each_mut().map(|plane| {
            let row = &mut plane[(top + y) * size.width..][..size.width];
            row[..left].fill(BORDER);
            row[left + width..].fill(BORDER);
            &mut row[left..left + width]
        });
        render_row(plan, scratch, frame, y, [red, green, blue]);
    }
}

/// Writes one row of the picture.
#[inline(always)]
fn render_row(plan: &Plan, scratch: &mut Scratch, frame: &FrameView<'_>, y: usize, rgb: [&mut [f32]; 3]) {
    let Plan { format, color, main, .. } = plan;
    let Scratch { blended, resized: [luma, u, v] } = scratch;
    let [red, green, blue] = rgb;
    blend(frame, 0, main, y, blended);
    if let Some(offsets) = format.pixels.rgb_offsets() {
        let put = |x: usize, pixel: &[f32]| {
            red[x] = level(pixel[offsets[0]]);
            green[x] = level(pixel[offsets[1]]);
            blue[x] = level(pixel[offsets[2]]);
        };
        if matches!(format.pixels, PixelFormat::Rgb | PixelFormat::Bgr) {
            shrink::<12, 3>(&main.columns, blended, put);
        } else {
            shrink::<LANES, 4>(&main.columns, blended, put);
        }
        return;
    }
    shrink::<LANES, 1>(&main.columns, blended, |x, sample| luma[x] = sample[0]);
    match (format.pixels, &plan.chroma) {
        (PixelFormat::Nv12, Some(chroma)) => {
            blend(frame, 1, chroma, y, blended);
            shrink::<LANES, 2>(&chroma.columns, blended, |x, sample| (u[x], v[x]) = (sample[0], sample[1]));
        }
        (_, Some(chroma)) => {
            blend(frame, 1, chroma, y, blended);
            shrink::<LANES, 1>(&chroma.columns, blended, |x, sample| u[x] = sample[0]);
            blend(frame, 2, chroma, y, blended);
            shrink::<LANES, 1>(&chroma.columns, blended, |x, sample| v[x] = sample[0]);
        }
        (_, None) => {
            for (grey, luma) in red.iter_mut().zip(&*luma) {
                *grey = color.grey(*luma);
            }
            green.copy_from_slice(red);
            blue.copy_from_slice(red);
            return;
        }
    }
    let samples = luma.iter().zip(u.iter().zip(v.iter()));
    for ((red, green), (blue, (y, (u, v)))) in red.iter_mut().zip(green).zip(blue.iter_mut().zip(samples)) {
        [*red, *green, *blue] = color.rgb(*y, *u, *v);
    }
}

/// The vertical filter: blends the rows of `plane` that make output row `y` into `blended`.
#[inline(always)]
fn blend(frame: &FrameView<'_>, plane: usize, axes: &Axes, y: usize, blended: &mut [f32]) {
    let FrameFormat { pixels, width, height, .. } = frame.format();
    let (samples, rows, channels) = pixels.plane_size(plane, width, height);
    let blended = &mut blended[..samples * channels];
    let (first, weights) = axes.rows.run(y);
    // Runs are filled up to the longest with zero weights, perhaps past the last row.
    let taps = first..(first + weights.len()).min(rows);
    let mut at = taps.start;
    while at < taps.end {
        let weights = &weights[at - first..];
        let add = at > first;
        let group = at..taps.end.min(at + 8);
        at = group.end;
        match group.len() {
            1 => add_rows::<1>(frame, plane, group, weights, add, blended),
            2 => add_rows::<2>(frame, plane, group, weights, add, blended),
            3 => add_rows::<3>(frame, plane, group, weights, add, blended),
            4 => add_rows::<4>(frame, plane, group, weights, add, blended),
            5 => add_rows::<5>(frame, plane, group, weights, add, blended),
            6 => add_rows::<6>(frame, plane, group, weights, add, blended),
            7 => add_rows::<7>(frame, plane, group, weights, add, blended),
            _ => add_rows::<8>(frame, plane, group, weights, add, blended),
        }
    }
}

/// Puts `N` weighted rows into `sums`, or on top of what is there.
#[inline(always)]
fn add_rows<const N: usize>(
    frame: &FrameView<'_>,
    plane: usize,
    group: Range<usize>,
    weights: &[f32],
    add: bool,
    sums: &mut [f32],
) {
    let rows: [&[u8]; N] = array::from_fn(|tap| &frame.row(plane, group.start + tap)[..sums.len()]);
    let weights: [f32; N] = array::from_fn(|tap| weights[tap]);
    for (x, sum) in sums.iter_mut().enumerate() {
        let mut value = if add { *sum } else { 0.0 };
        for tap in 0..N {
            value += weights[tap] * f32::from(rows[tap][x]);
        }
        *sum = value;
    }
}

/// The horizontal filter on a row of pixels of `C` interleaved values: `put` is called with the position and the pixel.
///
/// `L` sums are kept side by side, a multiple of `C`, and added in halves at the end.
#[inline(always)]
fn shrink<const L: usize, const C: usize>(columns: &Axis, row: &[f32], mut put: impl FnMut(usize, &[f32])) {
    for (x, (start, weights)) in columns.runs().enumerate() {
        let mut sums = [0.0; L];
        let values = &row[start..start + weights.len()];
        for (values, weights) in values.as_chunks::<L>().0.iter().zip(weights.as_chunks::<L>().0) {
            for lane in 0..L {
                sums[lane] += values[lane] * weights[lane];
            }
        }
        let mut width = L;
        while width > C {
            width /= 2;
            for lane in 0..width {
                sums[lane] += sums[lane + width];
            }
        }
        put(x, &sums[..C]);
    }
}
