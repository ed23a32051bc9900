//! The error of one picture: count, truth and GAME inside the labelled area.
//! `engines/vcount/metrics.py` is the twin of this file.
//!
//! The labelled area is the `roi`, or the whole picture. A vehicle is inside where its box's centre
//! is; of a density cell, the share of its area that lies inside counts. Both are what the element
//! reports: without a `roi` its count of the whole frame, with one its count of a region of that
//! shape.
//!
//! - The whole frame's count is the sum of *all* cells, those in the border of a letterbox too. So
//!   without a `roi` the outermost parts reach to the ends of the grid, and what a network sees in
//!   the border counts as an error.
//! - A region ends at the picture's edge, and so does a `roi` that touches it.
//! - Labels may cross the picture's edge; without a `roi`, a centre outside the picture is taken to
//!   lie at the nearest place inside it.

use vehiclecount_core::preprocess::Placement;

use super::annotations::{Mask, Sample};

/// The levels of GAME that are told; level 0 is the absolute error of the count.
pub const LEVELS: [u32; 4] = [0, 1, 2, 3];

/// A density as it comes from the engine: vehicles per cell, row by row, over the whole input.
pub struct Cells<'a> {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// The cells.
    pub density: &'a [f32],
}

/// The labelled area in pixels of the picture: x, y, width, height.
fn area(sample: &Sample) -> [f64; 4] {
    sample.roi.unwrap_or([0.0, 0.0, sample.width as f64, sample.height as f64])
}

/// Share of each of `cells` unit cells between each pair of neighbouring edges.
fn shares(edges: &[f64], cells: usize) -> Vec<Vec<f64>> {
    let between = |pair: &[f64]| {
        let share = |cell: usize| ((cell + 1) as f64).min(pair[1]) - (cell as f64).max(pair[0]);
        (0..cells).map(|cell| share(cell).clamp(0.0, 1.0)).collect()
    };
    edges.windows(2).map(between).collect()
}

/// Edges of `parts` equal parts of `from..to`.
fn edges(from: f64, to: f64, parts: usize) -> Vec<f64> {
    let step = (to - from) / parts as f64;
    (0..parts).map(|part| from + part as f64 * step).chain([to]).collect()
}

/// The share of each cell in which labels are complete, by exact area.
fn masked(cells: &Cells<'_>, sample: &Sample, mask: &Mask, placement: &Placement) -> Vec<f64> {
    let bounds = |cells: usize, side: usize, first: usize, length: usize, pixels: usize| {
        let scale = pixels as f64 / length as f64;
        let edges: Vec<_> = (0..=cells)
            .map(|edge| (edge as f64 * side as f64 / cells as f64 - first as f64) * scale)
            .collect();
        (shares(&edges, pixels), side as f64 / cells as f64 * scale)
    };
    let Placement { left, top, width, height, input } = *placement;
    let (across, cell_width) = bounds(cells.columns, input.width, left, width, sample.width);
    let (down, cell_height) = bounds(cells.rows, input.height, top, height, sample.height);
    let mut shared = Vec::with_capacity(cells.columns * cells.rows);
    let mut line = vec![0.0; sample.width];
    for rows in &down {
        line.fill(0.0);
        for (y, share) in rows.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let white = &mask.0[y * sample.width..][..sample.width];
            line.iter_mut()
                .zip(white)
                .filter(|(_, white)| **white)
                .for_each(|(sum, _)| *sum += share);
        }
        for columns in &across {
            let sum: f64 = columns.iter().zip(&line).map(|(share, white)| share * white).sum();
            shared.push(sum / (cell_width * cell_height));
        }
    }
    shared
}

/// Vehicles counted in each of 2^level x 2^level equal parts of the labelled area, row by row.
pub fn parts(
    cells: &Cells<'_>,
    sample: &Sample,
    mask: Option<&Mask>,
    placement: &Placement,
    level: u32,
) -> Vec<f64> {
    let [x, y, w, h] = area(sample);
    let Placement { left, top, width, height, input } = *placement;
    let number = 1 << level;
    let axis = |first: usize,
                length: usize,
                pixels: usize,
                side: usize,
                count: usize,
                from: f64,
                extent: f64| {
        let scale = length as f64 / pixels as f64;
        // Pixels of the input to cells.
        let cell = |pixel: f64| (first as f64 + pixel * scale) * count as f64 / side as f64;
        let mut edges = edges(cell(from), cell(from + extent), number);
        if sample.roi.is_none() {
            edges[0] = 0.0;
            edges[number] = count as f64;
        }
        shares(&edges, count)
    };
    let across = axis(left, width, sample.width, input.width, cells.columns, x, w);
    let down = axis(top, height, sample.height, input.height, cells.rows, y, h);
    let labelled = mask.map(|mask| masked(cells, sample, mask, placement));
    let mut parts = vec![0.0; number * number];
    for (index, &density) in cells.density.iter().enumerate() {
        let (row, column) = (index / cells.columns, index % cells.columns);
        let vehicles =
            f64::from(density) * labelled.as_ref().map_or(1.0, |labelled| labelled[index]);
        for (part, sum) in parts.iter_mut().enumerate() {
            *sum += vehicles * down[part / number][row] * across[part % number][column];
        }
    }
    parts
}

/// Vehicles whose centre lies in each of the parts.
fn true_parts(sample: &Sample, mask: Option<&Mask>, level: u32) -> Vec<f64> {
    let [x, y, w, h] = area(sample);
    let number = 1usize << level;
    let mut parts = vec![0.0; number * number];
    for [centre_x, centre_y] in sample.centres() {
        if let Some(mask) = mask {
            let pixel = |centre: f64, side: usize| centre.clamp(0.0, (side - 1) as f64) as usize;
            if !mask.0
                [pixel(centre_y, sample.height) * sample.width + pixel(centre_x, sample.width)]
            {
                continue;
            }
        }
        // Just inside, so that it falls into the last part.
        let within = |centre: f64, side: usize| centre.clamp(0.0, side as f64 - 1e-3);
        let [centre_x, centre_y] = match sample.roi {
            None => [within(centre_x, sample.width), within(centre_y, sample.height)],
            Some(_) => [centre_x, centre_y],
        };
        let part = |centre: f64, from: f64, extent: f64| {
            let part = ((centre - from) / extent * number as f64).floor();
            (0.0..number as f64).contains(&part).then_some(part as usize)
        };
        if let (Some(column), Some(row)) = (part(centre_x, x, w), part(centre_y, y, h)) {
            parts[row * number + column] += 1.0;
        }
    }
    parts
}

/// Grid average mean absolute error of one picture (Guerrero-Gómez-Olmedo et al. 2015): the
/// absolute errors of 4^level equal parts that do not overlap, added. Level 0 is the absolute error
/// of the count.
pub fn game(
    cells: &Cells<'_>,
    sample: &Sample,
    mask: Option<&Mask>,
    placement: &Placement,
    level: u32,
) -> f64 {
    let (counted, truth) =
        (parts(cells, sample, mask, placement, level), true_parts(sample, mask, level));
    counted.iter().zip(truth).map(|(counted, truth)| (counted - truth).abs()).sum()
}

/// Vehicles counted inside the labelled area.
pub fn count(
    cells: &Cells<'_>,
    sample: &Sample,
    mask: Option<&Mask>,
    placement: &Placement,
) -> f64 {
    parts(cells, sample, mask, placement, 0)[0]
}

/// Vehicles whose centre lies inside the labelled area.
pub fn truth(sample: &Sample, mask: Option<&Mask>) -> f64 {
    true_parts(sample, mask, 0)[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use vehiclecount_core::preprocess::{InputSize, Resize};

    fn placed(sample: &Sample, width: usize, height: usize) -> Placement {
        Placement::new(Resize::Letterbox, sample.width, sample.height, InputSize { width, height })
    }

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9, "{got}, where {expected} is expected");
    }

    #[test]
    fn roi_takes_boxes_by_centre_and_density_by_coverage() {
        let boxes = [
            [0.0, 0.0, 10.0, 10.0],
            [40.0, 30.0, 20.0, 20.0],
            [45.0, 38.0, 10.0, 4.0],
            [70.0, 30.0, 20.0, 9.0],
        ];
        let sample = Sample::of(104, 80, &boxes, Some([20.0, 20.0, 60.0, 40.0]));
        let placement = placed(&sample, 104, 80);
        let cells = Cells { columns: 13, rows: 10, density: &[1.0; 130] };
        // The last one's centre lies on the right edge, which is outside.
        close(truth(&sample, None), 2.0);
        close(count(&cells, &sample, None, &placement), 60.0 * 40.0 / 64.0);
    }

    #[test]
    fn border_counts_with_the_whole_frame_and_not_with_a_roi() {
        // 128x102 in 128x128: a border of 13 rows above and below.
        let mut density = [0.0; 256];
        density[0] = 2.0;
        let cells = Cells { columns: 16, rows: 16, density: &density };
        let whole = Sample::of(128, 102, &[], None);
        close(count(&cells, &whole, None, &placed(&whole, 128, 128)), 2.0);
        close(game(&cells, &whole, None, &placed(&whole, 128, 128), 3), 2.0);
        let roi = Sample::of(128, 102, &[], Some([0.0, 0.0, 128.0, 102.0]));
        close(count(&cells, &roi, None, &placed(&roi, 128, 128)), 0.0);
    }

    #[test]
    fn game_of_level_0_is_the_error_of_the_count_and_no_level_is_below_it() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        for turn in 0..40 {
            let boxes: Vec<_> = (0..7)
                .map(|_| [random() * 90.0, random() * 70.0, random() * 20.0, random() * 20.0])
                .collect();
            let roi = (turn % 2 == 0).then_some([10.0, 5.0, 70.0, 60.0]);
            let sample = Sample::of(100, 80, &boxes, roi);
            let density: Vec<_> = (0..16 * 12).map(|_| random() * 0.1).collect();
            let cells = Cells { columns: 16, rows: 12, density: &density };
            let placement = placed(&sample, 128, 96);
            let error = (count(&cells, &sample, None, &placement) - truth(&sample, None)).abs();
            let games = LEVELS.map(|level| game(&cells, &sample, None, &placement, level));
            assert_eq!(games[0], error);
            assert!(games.is_sorted_by(|a, b| *b >= a - 1e-9), "{games:?}");
            for level in LEVELS {
                let sum: f64 = parts(&cells, &sample, None, &placement, level).iter().sum();
                close(sum, count(&cells, &sample, None, &placement));
                close(true_parts(&sample, None, level).iter().sum(), truth(&sample, None));
            }
        }
    }

    #[test]
    fn vehicles_in_the_wrong_place_show_in_game_alone() {
        // Two vehicles top left; the network puts one there and one bottom right.
        let sample = Sample::of(128, 128, &[[10.0, 10.0, 4.0, 4.0], [20.0, 10.0, 4.0, 4.0]], None);
        let mut density = [0.0; 256];
        density[17] = 1.0;
        density[12 * 16 + 12] = 1.0;
        let cells = Cells { columns: 16, rows: 16, density: &density };
        let placement = placed(&sample, 128, 128);
        close(game(&cells, &sample, None, &placement, 0), 0.0);
        close(game(&cells, &sample, None, &placement, 1), 2.0);
    }

    #[test]
    fn boxes_that_cross_the_edge_are_in_the_picture() {
        // Centres left of the picture, beyond its right edge, and on its lower right corner.
        let boxes = [[-20.0, 10.0, 30.0, 10.0], [95.0, 10.0, 30.0, 10.0], [90.0, 70.0, 20.0, 20.0]];
        let sample = Sample::of(100, 80, &boxes, None);
        close(truth(&sample, None), 3.0);
        let parts = true_parts(&sample, None, 1);
        assert_eq!(parts, [1.0, 1.0, 0.0, 1.0]);
        // A roi is what it is.
        let sample = Sample::of(100, 80, &boxes, Some([0.0, 0.0, 100.0, 80.0]));
        close(truth(&sample, None), 0.0);
    }

    #[test]
    fn mask_bounds_truth_and_count_by_exact_area() {
        let sample = Sample::of(100, 80, &[[10.0, 10.0, 4.0, 4.0], [60.0, 10.0, 4.0, 4.0]], None);
        let mask = Mask((0..8000).map(|pixel| pixel % 100 < 50).collect());
        close(truth(&sample, Some(&mask)), 1.0);
        // 96x77 in 96x96: 12 columns over 100 pixels; the mask ends in the middle of the picture,
        // at column 6, inside no cell.
        let cells = Cells { columns: 12, rows: 12, density: &[1.0; 144] };
        let placement = placed(&sample, 96, 96);
        close(count(&cells, &sample, Some(&mask), &placement), 6.0 * placement.height as f64 / 8.0);
        // At three quarters of a cell, a quarter of it counts not.
        let mask = Mask((0..8000).map(|pixel| pixel % 100 < 56).collect());
        close(
            count(&cells, &sample, Some(&mask), &placement),
            12.0 * 0.56 * placement.height as f64 / 8.0,
        );
    }
}
