//! One density of a picture and its closer looks.

use super::plan::Plan;
use crate::density::{Grid, Rect};
use crate::region::{Point, area, clip};

/// The cells of the blended map are at most so many times finer than those of the whole picture's.
const FINEST: usize = 4;

/// Makes one density map of the whole picture's and those of its [`Look`](super::Look)s.
///
/// The blended map lies where the whole picture's lies; its cells are a whole number of times
/// smaller. Let *c* be one of its cells, *P* the polygon of a region with looks, and |.| an area:
///
/// - Outside all such regions the whole picture's density counts: of a cell of it, each part counts
///   by its area. Of a cell *c* that is partly inside, the share outside counts.
/// - Inside *P* the density of its looks counts: of a look's cell *d* with a vehicles, *c* gets
///   a |*d* ∩ *c* ∩ *P*| / |*d*|. The areas are exact, as those of
///   [`Coverage`](crate::region::Coverage).
/// - Where regions overlap, the first one counts: the next gets the share of *c* that is left, at
///   most what it covers.
///
/// So every part of the picture is counted once, and where all looks see the same density, the
/// blended map is that density.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    grid: Grid,
    /// Cells in a row of the map of each input.
    columns: usize,
    /// Cells of the map of each input.
    cells: usize,
    finer: usize,
    /// The share of each cell in which the whole picture's density counts.
    kept: Vec<f32>,
    /// What each look gives: cell of the look, cell of the blended map, share of the former.
    shares: Vec<Vec<(u32, u32, f32)>>,
}

impl Blend {
    /// The blend for `plan`, where each input gives a grid of `columns` x `rows` cells, the whole
    /// picture's lying at `whole`.
    pub fn new(plan: &Plan, whole: Grid) -> Self {
        let Grid { columns, rows, rect } = whole;
        let largest = plan.factors.iter().copied().fold(1.0, f64::max);
        let finer = (largest.round() as usize).clamp(1, FINEST);
        let grid = Grid { columns: columns * finer, rows: rows * finer, rect };
        let cell_area = rect.width * rect.height / grid.len() as f64;
        let mut shares = vec![Vec::new(); plan.looks.len()];
        let mut left = vec![1.0; grid.len()];
        let mut scratch = (Vec::new(), Vec::new());
        for (region, polygon) in plan.regions.iter().enumerate() {
            // The share of each cell that the region covers.
            let mut covered = vec![0.0; grid.len()];
            let looks = || plan.looks.iter().enumerate().filter(|(_, look)| look.region == region);
            for (_, look) in looks() {
                for cell in touched(&grid, &look.own) {
                    let part =
                        overlap(&grid.cell(cell % grid.columns, cell / grid.columns), &look.own);
                    covered[cell] += covers(polygon, part, &mut scratch) / cell_area;
                }
            }
            // Of that, the share that no region before it has taken.
            let granted = |cell: usize| match covered[cell] {
                share if share > 0.0 => share.min(left[cell]) / share,
                _ => 0.0,
            };
            for (index, look) in looks() {
                let seen = plan.grid(look, columns, rows);
                let seen_area = seen.rect.width * seen.rect.height / seen.len() as f64;
                for from in touched(&seen, &look.own) {
                    let source = seen.cell(from % columns, from / columns);
                    let Some(source) = overlap(&source, &look.own) else { continue };
                    for to in touched(&grid, &source) {
                        let cell = grid.cell(to % grid.columns, to / grid.columns);
                        let share = covers(polygon, overlap(&cell, &source), &mut scratch)
                            / seen_area
                            * granted(to);
                        if share > 0.0 {
                            shares[index].push((from as u32, to as u32, share as f32));
                        }
                    }
                }
            }
            for (left, covered) in left.iter_mut().zip(&covered) {
                *left = (*left - covered).max(0.0);
            }
        }
        let kept = left.iter().map(|&share| share as f32).collect();
        Self { grid, columns, cells: columns * rows, finer, kept, shares }
    }

    /// Where the blended map lies.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Number of looks beside the whole picture.
    pub fn looks(&self) -> usize {
        self.shares.len()
    }

    /// Number of cells of the map of each input.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The blended map of the whole picture's and that of each look, in the plan's order.
    ///
    /// # Panics
    /// When a map is missing, or has not [`cells`](Self::cells) cells.
    pub fn blend(&self, maps: &[&[f32]]) -> Vec<f32> {
        let (whole, looks) = maps.split_first().expect("the whole picture's map comes first");
        assert_eq!(looks.len(), self.looks(), "each look has a map");
        assert!(maps.iter().all(|map| map.len() == self.cells), "a map of another grid");
        let part = 1.0 / (self.finer * self.finer) as f32;
        let mut cells: Vec<f32> = (0..self.grid.len())
            .map(|cell| {
                let (column, row) = (cell % self.grid.columns, cell / self.grid.columns);
                let coarse = row / self.finer * self.columns + column / self.finer;
                whole[coarse] * part * self.kept[cell]
            })
            .collect();
        for (shares, map) in self.shares.iter().zip(looks) {
            for &(from, to, share) in shares {
                cells[to as usize] += map[from as usize] * share;
            }
        }
        cells
    }
}

/// The cells of `grid` that `rect` may touch.
fn touched(grid: &Grid, rect: &Rect) -> impl Iterator<Item = usize> + use<> {
    let columns = grid.columns;
    let range = |from: f64, length: f64, begin: f64, extent: f64, count: usize| {
        let at = |place: f64| (place - begin) / extent * count as f64;
        let first = at(from).floor().clamp(0.0, count as f64) as usize;
        let end = at(from + length).ceil().clamp(0.0, count as f64) as usize;
        first..end
    };
    let Rect { x, y, width, height } = grid.rect;
    let across = range(rect.x, rect.width, x, width, columns);
    let down = range(rect.y, rect.height, y, height, grid.rows);
    down.flat_map(move |row| across.clone().map(move |column| row * columns + column))
}

/// Where two rectangles overlap; `None` where they do not.
fn overlap(a: &Rect, b: &Rect) -> Option<Rect> {
    let (x, y) = (a.x.max(b.x), a.y.max(b.y));
    let width = (a.x + a.width).min(b.x + b.width) - x;
    let height = (a.y + a.height).min(b.y + b.height) - y;
    (width > 0.0 && height > 0.0).then_some(Rect { x, y, width, height })
}

/// The area of `polygon` inside `rect`.
fn covers(
    polygon: &[Point],
    rect: Option<Rect>,
    (clipped, scratch): &mut (Vec<Point>, Vec<Point>),
) -> f64 {
    rect.map_or(0.0, |rect| {
        clip(polygon, &rect, clipped, scratch);
        area(clipped).abs()
    })
}
