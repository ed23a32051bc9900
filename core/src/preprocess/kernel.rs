//! The pass over the picture, row by row of the input.

use std::array;

use multiversion::multiversion;
use wide::f32x4;

use super::color::{Color, level};
use super::filter::{Axis, Columns};
use super::{BORDER, Placement};
use crate::frame::{Components, FrameFormat, FrameView, PixelFormat, Samples};

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
    /// Samples in a row.
    samples: usize,
    /// Interleaved values in a sample.
    channels: usize,
    columns: Columns,
    rows: Axis,
}

impl Axes {
    /// Resizes plane `plane` of `format`, in which component `index` lies, to the size of `placement`.
    fn new(format: FrameFormat, plane: usize, index: usize, placement: Placement) -> Self {
        let (samples, rows, channels) = format.plane_size(plane);
        let Samples { covers, phase, .. } = format.samples(index);
        let across = Axis::new(format.width, covers.0, phase.0, samples, placement.width);
        Self {
            samples,
            channels,
            columns: Columns::new(&across, channels),
            rows: Axis::new(format.height, covers.1, phase.1, rows, placement.height),
        }
    }

    /// Values in a blended row, and past its end where zero weights read on.
    fn values(&self) -> usize {
        self.columns.reach().max(self.samples * self.channels)
    }
}

/// Rows that a picture passes through. Nothing is kept in them from one picture to the next.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Rows of a plane blended into one, interleaved as in the plane. What lies past a plane's width meets only zero weights, but must
    /// be finite.
    blended: Vec<f32>,
    /// That row at the output's width, a row for each channel; a multiple of 4 long.
    resized: [Vec<f32>; 4],
}

impl Plan {
    pub(super) fn new(format: FrameFormat, placement: Placement) -> Self {
        let chroma = || Axes::new(format, 1, 1, placement);
        Self {
            format,
            placement,
            color: Color::new(format),
            main: Axes::new(format, 0, 0, placement),
            chroma: (format.pixels.planes() > 1).then(chroma),
        }
    }

    pub(super) fn format(&self) -> FrameFormat {
        self.format
    }

    pub(super) fn placement(&self) -> Placement {
        self.placement
    }

    pub(super) fn scratch(&self) -> Scratch {
        let values = self.main.values().max(self.chroma.as_ref().map_or(0, Axes::values));
        let width = self.placement.width.next_multiple_of(4);
        Scratch { blended: vec![0.0; values], resized: array::from_fn(|_| vec![0.0; width]) }
    }
}

/// Writes the model input of one picture, border included.
///
/// Compiled three times for x86-64, the version chosen at run time; "avx512f" stands for all that Ice Lake and Zen 4 have, older
/// processors being slower with it than without. What is called from here must be inlined to be compiled as often. Sums are made in a
/// fixed order and without fused multiply-add, so all versions give the same bits.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
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
    let Scratch { blended, resized: [a, b, c, d] } = scratch;
    blend(frame, 0, main, y, blended);
    let layout = format.pixels.layout();
    match (&plan.chroma, layout.kind) {
        (Some(chroma), _) => {
            shrink(&main.columns, blended, [a]);
            blend(frame, 1, chroma, y, blended);
            if format.pixels == PixelFormat::Nv12 {
                shrink(&chroma.columns, blended, [b, c]);
            } else {
                shrink(&chroma.columns, blended, [b]);
                blend(frame, 2, chroma, y, blended);
                shrink(&chroma.columns, blended, [c]);
            }
            let [red, green, blue] = rgb;
            let samples = a.iter().zip(b).zip(c);
            for (((red, green), blue), ((y, u), v)) in red.iter_mut().zip(green).zip(blue).zip(samples) {
                [*red, *green, *blue] = color.rgb(*y, *u, *v);
            }
        }
        (None, Components::Gray | Components::Yuv) => {
            shrink(&main.columns, blended, [a]);
            for plane in rgb {
                for (value, grey) in plane.iter_mut().zip(&*a) {
                    *value = color.grey(*grey);
                }
            }
        }
        (None, Components::Rgb) => {
            if main.channels == 3 {
                shrink(&main.columns, blended, [a, b, c]);
            } else {
                shrink(&main.columns, blended, [a, b, c, d]);
            }
            let channels = [&*a, &*b, &*c, &*d];
            for (plane, component) in rgb.into_iter().zip(layout.components) {
                for (value, channel) in plane.iter_mut().zip(channels[component.offset]) {
                    *value = level(*channel);
                }
            }
        }
    }
}

/// The vertical filter: blends the rows of `plane` that make output row `y` into the first values of `blended`.
#[inline(always)]
fn blend(frame: &FrameView<'_>, plane: usize, axes: &Axes, y: usize, blended: &mut [f32]) {
    let sums = &mut blended[..axes.samples * axes.channels];
    let (mut first, mut weights) = axes.rows.run(y);
    let mut add = false;
    while !weights.is_empty() {
        let count = weights.len().min(8);
        match count {
            1 => add_rows::<1>(frame, plane, first, weights, add, sums),
            2 => add_rows::<2>(frame, plane, first, weights, add, sums),
            3 => add_rows::<3>(frame, plane, first, weights, add, sums),
            4 => add_rows::<4>(frame, plane, first, weights, add, sums),
            5 => add_rows::<5>(frame, plane, first, weights, add, sums),
            6 => add_rows::<6>(frame, plane, first, weights, add, sums),
            7 => add_rows::<7>(frame, plane, first, weights, add, sums),
            _ => add_rows::<8>(frame, plane, first, weights, add, sums),
        }
        (first, weights, add) = (first + count, &weights[count..], true);
    }
}

/// Puts `N` weighted rows into `sums`, or adds them to what is there.
#[inline(always)]
fn add_rows<const N: usize>(
    frame: &FrameView<'_>,
    plane: usize,
    first: usize,
    weights: &[f32],
    add: bool,
    sums: &mut [f32],
) {
    let rows: [&[u8]; N] = array::from_fn(|tap| &frame.row(plane, first + tap)[..sums.len()]);
    let weights: [f32; N] = array::from_fn(|tap| weights[tap]);
    for (x, sum) in sums.iter_mut().enumerate() {
        let mut value = if add { *sum } else { 0.0 };
        for tap in 0..N {
            value += weights[tap] * f32::from(rows[tap][x]);
        }
        *sum = value;
    }
}

/// The horizontal filter: a row of pixels of `C` interleaved values becomes `C` rows of the output's width.
#[inline(always)]
fn shrink<const C: usize>(columns: &Columns, row: &[f32], rows: [&mut Vec<f32>; C]) {
    // A length known to the compiler makes the sums free of loops and checks: up to 12 taps, 1080p on 384 columns.
    match columns.length() {
        4 => shrink_runs::<C, 4>(columns, row, rows),
        8 => shrink_runs::<C, 8>(columns, row, rows),
        12 => shrink_runs::<C, 12>(columns, row, rows),
        _ => shrink_runs::<C, 0>(columns, row, rows),
    }
}

/// [`shrink`] with runs of `L` weights, or with any number of them if `L` is 0.
#[inline(always)]
fn shrink_runs<const C: usize, const L: usize>(columns: &Columns, row: &[f32], rows: [&mut Vec<f32>; C]) {
    let length = if L == 0 { columns.length() } else { L };
    let rows = rows.map(|row| row.as_chunks_mut::<4>().0);
    for (at, (starts, weights)) in columns.fours().enumerate() {
        let sums = f32x4::transpose([
            sum::<C, L>(row, starts[0], &weights[..length]),
            sum::<C, L>(row, starts[1], &weights[length..2 * length]),
            sum::<C, L>(row, starts[2], &weights[2 * length..3 * length]),
            sum::<C, L>(row, starts[3], &weights[3 * length..]),
        ]);
        // Four values side by side are four samples of one channel, two of two, or one of all.
        let channels = match C {
            1 => [(sums[0] + sums[2]) + (sums[1] + sums[3]), f32x4::ZERO, f32x4::ZERO, f32x4::ZERO],
            2 => [sums[0] + sums[2], sums[1] + sums[3], f32x4::ZERO, f32x4::ZERO],
            _ => sums,
        };
        for channel in 0..C {
            rows[channel][at] = channels[channel].to_array();
        }
    }
}

/// The weighted sums of one run, four values at a time, or pixel by pixel where a pixel has three or four.
#[inline(always)]
fn sum<const C: usize, const L: usize>(row: &[f32], start: usize, weights: &[f32]) -> f32x4 {
    let length = if L == 0 { weights.len() } else { L };
    let mut sums = f32x4::ZERO;
    if C < 3 {
        let values = row[start..start + length].as_chunks::<4>().0;
        for (values, weights) in values.iter().zip(weights.as_chunks::<4>().0) {
            sums += f32x4::new(*values) * f32x4::new(*weights);
        }
    } else {
        let values = &row[start..start + length * C + 1];
        for (tap, weight) in weights.iter().enumerate() {
            let values = [values[tap * C], values[tap * C + 1], values[tap * C + 2], values[tap * C + 3]];
            sums += f32x4::new(values) * f32x4::splat(*weight);
        }
    }
    sums
}
