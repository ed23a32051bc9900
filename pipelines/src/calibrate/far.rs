//! The strip of a camera's pictures in which vehicles are too small for the input.
//!
//! A strip that no person marks is found by what the network itself sees: where it counts more as
//! soon as it looks more closely. Whether it counts better then, the pictures' true counts decide,
//! as with every other setting.

use anyhow::{Context, Result};
use vehiclecount_core::region::{Detail, Region};

use super::shots::Shot;
use crate::eval::look::{self, Enlargement, Eye};
use crate::eval::metrics;

/// The picture is divided into this power of 2, each way.
const LEVEL: u32 = 4;
const PARTS: usize = 1 << LEVEL;

/// A closer look must add this share of what it counts.
const LEAST_ADDED: f64 = 0.1;

/// And that share of what it counts in the whole picture.
const LEAST_OF_ALL: f64 = 0.05;

/// A strip of more of the height is no strip.
const MOST_ROWS: usize = PARTS * 5 / 8;

/// A column at the side must hold this share of the vehicles of the strip.
const LEAST_IN_COLUMN: f64 = 0.01;

/// A strip, and why it is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Strip {
    /// The strip as a region, with detail.
    pub region: Region,
    /// Vehicles that are counted in it in all pictures, in the whole picture and more closely.
    pub counted: [f64; 2],
}

impl Strip {
    /// Its left, upper, right and lower edge, as shares of the picture.
    pub fn edges(&self) -> [f64; 4] {
        let ([left, top], [right, bottom]) = (self.region.polygon[0], self.region.polygon[2]);
        [left, top, right, bottom]
    }

    /// What the strip of the pictures is, by looking at each of them as it is and `closer`; none
    /// where that finds no more, or finds more everywhere. It is called `name`.
    pub fn find(
        eye: &mut Eye,
        shots: &[Shot],
        closer: Enlargement,
        name: &str,
    ) -> Result<Option<Self>> {
        let (mut plain, mut close) = (Field::default(), Field::default());
        for shot in shots {
            let whole = [closer.region()];
            for (field, regions) in [(&mut plain, &[][..]), (&mut close, &whole[..])] {
                let seen = eye.see(&shot.picture, regions).with_context(|| shot.name.clone())?;
                field.add(
                    shot,
                    &metrics::parts(
                        &seen.cells(),
                        &shot.sample,
                        shot.mask.as_ref(),
                        &seen.placement,
                        LEVEL,
                    ),
                );
            }
        }
        Ok(of(&plain, &close, name))
    }
}

/// Vehicles in each part of the pictures, row by row.
#[derive(Clone, Debug, Default)]
struct Field([[f64; PARTS]; PARTS]);

impl Field {
    /// Adds `parts` of the area of `shot` in which labels are complete.
    fn add(&mut self, shot: &Shot, parts: &[f64]) {
        let (width, height) = (shot.sample.width as f64, shot.sample.height as f64);
        let [x, y, w, h] = shot.sample.roi.unwrap_or([0.0, 0.0, width, height]);
        let place = |part: usize, from: f64, extent: f64, side: f64| {
            let centre = from + (part as f64 + 0.5) / PARTS as f64 * extent;
            ((centre / side * PARTS as f64) as usize).min(PARTS - 1)
        };
        for (index, vehicles) in parts.iter().enumerate() {
            let (row, column) = (index / PARTS, index % PARTS);
            self.0[place(row, y, h, height)][place(column, x, w, width)] += vehicles;
        }
    }

    fn row(&self, row: usize) -> f64 {
        self.0[row].iter().sum()
    }

    fn rows(&self, rows: &std::ops::Range<usize>) -> f64 {
        rows.clone().map(|row| self.row(row)).sum()
    }
}

/// The rows in which `close` counts most more than `plain`, of the columns with vehicles.
fn of(plain: &Field, close: &Field, name: &str) -> Option<Strip> {
    // The run of rows of the greatest sum (Bentley, "Programming Pearls", 1986).
    let (mut best, mut rows) = (0.0, 0..0);
    let (mut sum, mut first) = (0.0, 0);
    for row in 0..PARTS {
        if sum <= 0.0 {
            (sum, first) = (0.0, row);
        }
        sum += close.row(row) * (1.0 - LEAST_ADDED) - plain.row(row);
        if sum > best {
            (best, rows) = (sum, first..row + 1);
        }
    }
    let counted = [plain.rows(&rows), close.rows(&rows)];
    if rows.len() > MOST_ROWS || counted[1] - counted[0] <= LEAST_OF_ALL * close.rows(&(0..PARTS)) {
        return None;
    }
    let is_held = |column: &usize| {
        let held: f64 = rows.clone().map(|row| close.0[row][*column]).sum();
        held > LEAST_IN_COLUMN * counted[1]
    };
    let (left, right) = ((0..PARTS).find(is_held)?, (0..PARTS).rfind(is_held)? + 1);
    let share = |part: usize| part as f64 / PARTS as f64;
    // A part of context on either side, where vehicles come in.
    let (left, right) = (share(left.saturating_sub(1)), share((right + 1).min(PARTS)));
    let (top, bottom) = (share(rows.start), share(rows.end));
    let region = look::rectangle(name, [left, top, right, bottom], Detail::On);
    Some(Strip { region, counted })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vehicles in two columns of some rows.
    fn field(rows: &[(usize, f64)]) -> Field {
        let mut field = Field::default();
        for &(row, vehicles) in rows {
            field.0[row][5] = vehicles / 2.0;
            field.0[row][9] = vehicles / 2.0;
        }
        field
    }

    #[test]
    fn strip_is_where_a_closer_look_counts_more() {
        let plain = field(&[(3, 1.0), (4, 2.0), (5, 4.0), (10, 8.0), (12, 6.0)]);
        let close = field(&[(3, 4.0), (4, 5.0), (5, 6.0), (10, 8.5), (12, 6.2)]);
        let found = of(&plain, &close, "far").expect("a strip");
        assert_eq!(found.counted, [7.0, 15.0]);
        // Columns 5 to 9 and one on either side, rows 3 to 5.
        assert_eq!(found.edges(), [4.0, 3.0, 11.0, 6.0].map(|part| part / 16.0));
        assert_eq!(found.region.polygon[2], [11.0 / 16.0, 6.0 / 16.0]);
        assert_eq!((found.region.name.as_str(), found.region.detail), ("far", Detail::On));
    }

    #[test]
    fn no_strip_where_nothing_is_gained_or_everything() {
        let rows: Vec<_> = (0..PARTS).map(|row| (row, 2.0)).collect();
        let more: Vec<_> = (0..PARTS).map(|row| (row, 4.0)).collect();
        assert_eq!(of(&field(&rows), &field(&rows), "far"), None);
        assert_eq!(of(&field(&rows), &field(&more), "far"), None);
        assert_eq!(of(&Field::default(), &Field::default(), "far"), None);
        // A little more in one row, of many vehicles.
        assert_eq!(of(&field(&[(3, 1.0), (9, 50.0)]), &field(&[(3, 2.0), (9, 50.0)]), "far"), None);
    }
}
