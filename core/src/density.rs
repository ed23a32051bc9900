//! Vehicles per cell of a grid, and where that grid lies in the frame.

use std::sync::Arc;

/// A rectangle in frame coordinates: the frame spans 0..1 both ways, x to the right, y down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rect {
    /// The whole frame.
    pub const FRAME: Self = Self { x: 0.0, y: 0.0, width: 1.0, height: 1.0 };
}

/// The shape of a density grid and the rectangle of the frame that it covers.
///
/// With a letterboxed input the rectangle is larger than the frame: cells outside 0..1 look at the
/// border.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// What the grid covers, in frame coordinates.
    pub rect: Rect,
}

impl Grid {
    /// Where cell (`column`, `row`) lies in the frame.
    pub fn cell(&self, column: usize, row: usize) -> Rect {
        let (width, height) =
            (self.rect.width / self.columns as f64, self.rect.height / self.rows as f64);
        Rect {
            x: self.rect.x + column as f64 * width,
            y: self.rect.y + row as f64 * height,
            width,
            height,
        }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.columns * self.rows
    }

    /// Whether the grid has no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A density map: the sum of its cells is the number of vehicles in the frame.
#[derive(Clone, Debug, PartialEq)]
pub struct DensityMap {
    /// The shape and place of the cells.
    pub grid: Grid,
    /// Vehicles per cell, row by row from the top left.
    pub cells: Arc<[f32]>,
}

impl DensityMap {
    /// Number of vehicles: the sum of the cells.
    pub fn count(&self) -> f64 {
        self.cells.iter().map(|&cell| f64::from(cell)).sum()
    }
}
