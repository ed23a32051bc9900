//! The pass over the picture, two rows of the input at a time.
//!
//! Rows are blended first, as they lie in memory: what is left of them is a fraction of the
//! picture. A blended row is taken apart into its components, these are shrunk, and the small rows
//! are converted to RGB. Both filters and the conversion are linear up to the last clamp, so their
//! order makes no difference.

use multiversion::multiversion;

use super::blend::{blend, blend_any};
use super::color::{Color, Conversion};
use super::filter::{Axis, Columns, Rows, Weights};
use super::shrink::shrink;
use super::{Level, Placement};
use crate::frame::{self, Depth, FrameFormat, FrameView, Layout, Samples};

/// Everything about a stream's pictures that is the same for each of them.
#[derive(Debug)]
pub(super) struct Plan {
    format: FrameFormat,
    placement: Placement,
    depth: Depth,
    conversion: Conversion,
    planes: Vec<PlanePass>,
    /// How rows are shrunk; components that lie alike share one.
    columns: Vec<Columns>,
}

/// What is done with a plane.
#[derive(Debug)]
struct PlanePass {
    rows: Rows,
    /// Values in a row.
    values: usize,
    components: Vec<ComponentPass>,
}

/// What is done with a component of a plane.
#[derive(Clone, Copy, Debug)]
struct ComponentPass {
    /// Which one it is of red, green, blue or Y, Cb, Cr.
    index: usize,
    samples: Samples,
    /// Its place among the plan's columns.
    columns: usize,
}

impl ComponentPass {
    /// A row of the plane holds nothing else.
    fn is_alone(&self) -> bool {
        self.samples.step == 1 && self.samples.offset == 0
    }
}

/// Rows that a picture passes through, two of each. Nothing is kept in them from one picture to the
/// next. What lies past a row's end meets only zero weights.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Rows of a plane blended into one, as they lie in the plane.
    blended: [Vec<i16>; 2],
    /// One component of them.
    component: [Vec<i16>; 2],
    /// Each component at the output's width; a multiple of 4 long.
    shrunk: [[Vec<i32>; 3]; 2],
    /// Room to blend rows in floating point.
    sums: Vec<f32>,
}

impl Plan {
    pub(super) fn new(format: FrameFormat, placement: Placement) -> Self {
        let Layout { kind, components, depth } = format.pixels.layout();
        let mut columns: Vec<Columns> = Vec::new();
        // Luma may lie otherwise across than chroma, in the same plane too.
        let mut known: Vec<(usize, usize)> = Vec::new();
        let component = |index: usize| {
            let samples = format.samples(index);
            let across = (samples.covers.0, samples.phase.0);
            let place = known.iter().position(|held| *held == across).unwrap_or_else(|| {
                let axis =
                    Axis::new(format.width, across.0, across.1, samples.columns, placement.width);
                columns.push(Columns::new(axis));
                known.push(across);
                known.len() - 1
            });
            ComponentPass { index, samples, columns: place }
        };
        let passes: Vec<_> = (0..components.len()).map(component).collect();
        let unit =
            |index: usize| passes.get(index).map_or(0.0, |pass| columns[pass.columns].unit());
        let conversion = Color::new(format).conversion(kind, unit(0), unit(1));
        let plane = |plane: usize| {
            let components: Vec<_> =
                passes.iter().filter(|pass| pass.samples.plane == plane).copied().collect();
            // Down, all of a plane's components lie alike.
            let Samples { covers, phase, rows, .. } = components[0].samples;
            let rows =
                Rows::new(Axis::new(format.height, covers.1, phase.1, rows, placement.height));
            let (groups, _, bytes) = format.plane_size(plane);
            PlanePass { rows, values: groups * bytes / depth.bytes, components }
        };
        let planes = (0..format.pixels.planes()).map(plane).collect();
        Self { format, placement, depth, conversion, planes, columns }
    }

    pub(super) fn format(&self) -> FrameFormat {
        self.format
    }

    pub(super) fn placement(&self) -> Placement {
        self.placement
    }

    pub(super) fn scratch(&self) -> Scratch {
        let components = self.planes.iter().flat_map(|plane| &plane.components);
        let reach = |component: &ComponentPass| self.columns[component.columns].reach();
        let (alone, apart): (Vec<_>, Vec<_>) =
            components.partition(|component| component.is_alone());
        let values = self.planes.iter().map(|plane| plane.values).max().unwrap_or(0);
        let blended = alone.into_iter().map(reach).max().unwrap_or(0).max(values);
        let component =
            apart.into_iter().map(|part| reach(part).max(part.samples.columns)).max().unwrap_or(0);
        let width = self.placement.width.next_multiple_of(4);
        Scratch {
            blended: [0, 1].map(|_| vec![0; blended]),
            component: [0, 1].map(|_| vec![0; component]),
            shrunk: [0, 1].map(|_| [0, 1, 2].map(|_| vec![0; width])),
            sums: vec![0.0; values],
        }
    }
}

/// Writes the model input of one picture, border included.
pub(super) fn render<L: Level>(
    plan: &Plan,
    scratch: &mut Scratch,
    frame: &FrameView<'_>,
    input: &mut [L],
) {
    let Placement { left, top, width, height, input: size } = plan.placement;
    let mut planes = {
        let (red, rest) = input.split_at_mut(size.width * size.height);
        let (green, blue) = rest.split_at_mut(size.width * size.height);
        [red, green, blue]
    };
    for plane in &mut planes {
        fill_border(&mut plane[..top * size.width]);
        fill_border(&mut plane[(top + height) * size.width..]);
    }
    for y in (0..height).step_by(2) {
        let rows = (height - y).min(2);
        resize(plan, scratch, frame, y, rows);
        for (at, shrunk) in scratch.shrunk.iter().enumerate().take(rows) {
            let rgb = planes.each_mut().map(|plane| {
                let row = &mut plane[(top + y + at) * size.width..][..size.width];
                fill_border(&mut row[..left]);
                fill_border(&mut row[left + width..]);
                &mut row[left..left + width]
            });
            plan.conversion.convert(shrunk.each_ref().map(|row| &row[..width]), rgb);
        }
    }
}

/// Makes `count` rows, one or two, of each component from output row `y` on.
fn resize(plan: &Plan, scratch: &mut Scratch, frame: &FrameView<'_>, y: usize, count: usize) {
    let Scratch { blended, component: apart, shrunk, sums } = scratch;
    for (index, plane) in plan.planes.iter().enumerate() {
        for (at, blended) in blended.iter_mut().enumerate().take(count) {
            blend_rows(
                frame.rows(index),
                plan.depth,
                &plane.rows,
                y + at,
                &mut blended[..plane.values],
                sums,
            );
        }
        // A single row goes through twice.
        let blended = [&blended[0][..], &blended[count - 1][..]];
        for component in &plane.components {
            let rows = if component.is_alone() {
                blended
            } else {
                for (from, to) in blended.into_iter().zip(apart.iter_mut()) {
                    take(&component.samples, &from[..plane.values], to);
                }
                [&apart[0][..], &apart[1][..]]
            };
            let sums = shrunk.each_mut().map(|shrunk| &mut shrunk[component.index][..]);
            shrink(&plan.columns[component.columns], rows, sums);
        }
    }
}

/// Blends the rows of a plane that make output row `y`.
fn blend_rows(
    plane: frame::Rows<'_>,
    depth: Depth,
    rows: &Rows,
    y: usize,
    blended: &mut [i16],
    sums: &mut [f32],
) {
    let (first, weights) = rows.run(y);
    match weights {
        Weights::Fixed(weights) => {
            let ahead = rows.end(y + 1).saturating_sub(first + weights.len());
            blend(plane.part(first, weights.len()), depth, weights, ahead, blended);
        }
        Weights::Float(weights) => {
            blend_any(plane.part(first, weights.len()), depth, weights, blended, sums)
        }
    }
}

/// Takes one component out of a row of a plane.
fn take(samples: &Samples, row: &[i16], to: &mut [i16]) {
    let (row, to) = (&row[samples.offset..], &mut to[..samples.columns]);
    match samples.step {
        2 => take_every::<2>(row, to),
        3 => take_every::<3>(row, to),
        4 => take_every::<4>(row, to),
        step => row.iter().step_by(step).zip(to).for_each(|(value, to)| *to = *value),
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn fill_border<L: Level>(values: &mut [L]) {
    values.fill(L::BORDER);
}

/// Compiled three times for x86-64, the version chosen at run time; "avx512f" stands for all that
/// Ice Lake and Zen 4 have.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn take_every<const STEP: usize>(row: &[i16], to: &mut [i16]) {
    let (groups, rest) = row.as_chunks::<STEP>();
    let mut to = to.iter_mut();
    for (group, to) in groups.iter().zip(&mut to) {
        *to = group[0];
    }
    // The last group may end with this sample.
    if let (Some(value), Some(to)) = (rest.first(), to.next()) {
        *to = *value;
    }
}
