//! Regions: polygons in the frame, the share of each density cell that lies inside them, and how
//! full they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::density::{DensityMap, Grid, Rect};
use crate::preprocess::InputScale;

mod crossing;
mod detail;
mod level;
pub mod nvdsanalytics;

pub use crossing::Crossings;
pub use detail::{Detail, MAX_DETAIL};
pub use level::{HYSTERESIS, Level, Levels};

/// A point of the frame, which spans 0..1 both ways.
pub type Point = [f64; 2];

/// A polygon in the frame, in either direction, closed by itself; it does not cross itself.
pub type Polygon = Vec<Point>;

/// A named polygon with its levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name, unique within its camera.
    pub name: String,
    /// Its corners, at least three.
    pub polygon: Polygon,
    /// When it is moderate, dense, jammed.
    #[serde(default)]
    pub levels: Levels,
    /// Whether it is looked at more closely than the rest of the picture.
    #[serde(default, skip_serializing_if = "Detail::is_off")]
    pub detail: Detail,
}

/// The regions of one camera, and the levels of its whole frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    /// Levels of the whole frame.
    #[serde(default)]
    pub levels: Levels,
    /// The polygons; they may overlap.
    #[serde(default)]
    pub regions: Vec<Region>,
    /// How large its pictures are shown to the network.
    #[serde(default, rename = "input-scale", skip_serializing_if = "InputScale::is_normal")]
    pub input_scale: InputScale,
    /// Every count is multiplied by this, where the camera's own setting does not say otherwise.
    #[serde(default, rename = "scale-factor", skip_serializing_if = "Option::is_none")]
    pub scale_factor: Option<f64>,
}

/// Why a region cannot be used.
#[derive(Debug, Error)]
pub enum RegionError {
    /// The file system said no.
    #[error("regions file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the JSON that is needed.
    #[error(
        "regions{place}: {source}; the form is {{\"regions\": [{{\"name\": \"left lane\", \"polygon\": [[0.1, 1.0], [0.5, 0.3], [0.5, 1.0]]}}]}}"
    )]
    Parse {
        /// " in FILE", or nothing for inline text.
        place: String,
        /// What is wrong, with its line.
        source: serde_json::Error,
    },
    /// Fewer than three corners, or one of them outside the frame.
    #[error(
        "region {region:?}: {what}; give at least three corners [x, y], each between 0 and 1 of the frame"
    )]
    Polygon {
        /// The region.
        region: String,
        /// What is wrong.
        what: String,
    },
    /// A polygon that crosses itself, or whose outline goes around more than once.
    #[error("region {region:?}: {crossings}; give its corners in their order around the region")]
    Crossing {
        /// The region.
        region: String,
        /// The edges.
        crossings: Crossings,
    },
    /// Two regions of the same name, or none.
    #[error("region {region:?}: {what}; every region of a camera needs a name of its own")]
    Name {
        /// The region.
        region: String,
        /// What is wrong.
        what: String,
    },
    /// An enlargement that cannot be.
    #[error(
        "region {region:?}: {what}; give true, false, or a number above 1 and at most {MAX_DETAIL}"
    )]
    Detail {
        /// The region.
        region: String,
        /// What is wrong.
        what: String,
    },
    /// A factor that cannot be.
    #[error("scale-factor is {0}; give a number above 0 and at most 100")]
    Factor(f64),
    /// Thresholds out of order.
    #[error("{region}: levels {moderate}, {dense}, {jammed}: they must rise, from above 0")]
    Levels {
        /// The region.
        region: String,
        /// Threshold of moderate.
        moderate: f64,
        /// Threshold of dense.
        dense: f64,
        /// Threshold of jammed.
        jammed: f64,
    },
}

/// A regions file: what holds for every camera, and what holds for one of them instead.
///
/// ```json
/// {
///   "levels": { "moderate": 5, "dense": 15, "jammed": 30 },
///   "regions": [{ "name": "left lane", "polygon": [[0.1, 1.0], [0.45, 0.3], [0.5, 0.3], [0.5, 1.0]] }],
///   "cameras": { "north gate": { "regions": [] } }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionsFile {
    /// Levels of the whole frame.
    #[serde(default)]
    levels: Levels,
    /// The polygons; they may overlap.
    #[serde(default)]
    regions: Vec<Region>,
    /// How large its pictures are shown to the network.
    #[serde(default, rename = "input-scale", skip_serializing_if = "InputScale::is_normal")]
    input_scale: InputScale,
    /// Every count is multiplied by this, where the camera's own setting does not say otherwise.
    #[serde(default, rename = "scale-factor", skip_serializing_if = "Option::is_none")]
    scale_factor: Option<f64>,
    /// By camera id.
    #[serde(default)]
    cameras: BTreeMap<String, Regions>,
}

impl RegionsFile {
    /// Reads inline JSON (it begins with a brace) or the file that is named. Nothing at all means
    /// no regions.
    pub fn parse(text_or_path: &str) -> Result<Self, RegionError> {
        let text = text_or_path.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.starts_with('{') {
            return Self::from_json(text, "");
        }
        Self::read(Path::new(text))
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, RegionError> {
        let content = std::fs::read_to_string(path)
            .map_err(|source| RegionError::Io { path: path.to_owned(), source })?;
        Self::from_json(&content, &format!(" in {}", path.display()))
    }

    fn from_json(text: &str, place: &str) -> Result<Self, RegionError> {
        let file: Self = serde_json::from_str(text)
            .map_err(|source| RegionError::Parse { place: place.to_owned(), source })?;
        file.common().check()?;
        file.cameras.values().try_for_each(Regions::check)?;
        Ok(file)
    }

    fn common(&self) -> Regions {
        Regions {
            levels: self.levels,
            regions: self.regions.clone(),
            input_scale: self.input_scale,
            scale_factor: self.scale_factor,
        }
    }

    /// What holds for all cameras, and for each that has an entry.
    pub fn all(&self) -> impl Iterator<Item = Regions> {
        std::iter::once(self.common()).chain(self.cameras.values().cloned())
    }

    /// What holds for the camera of that id.
    pub fn for_camera(&self, id: &str) -> Regions {
        self.cameras.get(id).cloned().unwrap_or_else(|| self.common())
    }
}

impl Region {
    /// A region that is counted in the whole picture.
    pub fn new(name: String, polygon: Polygon, levels: Levels) -> Self {
        Self { name, polygon, levels, detail: Detail::Off }
    }
}

impl Regions {
    /// Checks names, corners and thresholds.
    pub fn check(&self) -> Result<(), RegionError> {
        self.levels.check("the whole frame")?;
        if let Some(factor) =
            self.scale_factor.filter(|factor| !(*factor > 0.0 && *factor <= 100.0))
        {
            return Err(RegionError::Factor(factor));
        }
        for (index, region) in self.regions.iter().enumerate() {
            let name = &region.name;
            let wrong_name =
                |what: &str| Err(RegionError::Name { region: name.clone(), what: what.to_owned() });
            if name.is_empty() {
                return wrong_name("it has no name");
            }
            if self.regions[..index].iter().any(|other| other.name == *name) {
                return wrong_name("the name is used twice");
            }
            let wrong = |what: String| Err(RegionError::Polygon { region: name.clone(), what });
            if region.polygon.len() < 3 {
                return wrong(format!("{} corners", region.polygon.len()));
            }
            if let Some([x, y]) =
                region.polygon.iter().find(|p| p.iter().any(|c| !(0.0..=1.0).contains(c)))
            {
                return wrong(format!("corner [{x}, {y}] lies outside the frame"));
            }
            if let Some(crossings) = crossing::crossings(&region.polygon) {
                return Err(RegionError::Crossing { region: name.clone(), crossings });
            }
            if area(&region.polygon).abs() < 1e-9 {
                return wrong("it covers no area".to_owned());
            }
            if let Some(what) = region.detail.fault() {
                return Err(RegionError::Detail { region: name.clone(), what });
            }
            region.levels.check(&format!("region {name:?}"))?;
        }
        Ok(())
    }
}

/// The share of each cell of a grid that lies inside one polygon.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// Cell index and its share, 0..1; cells outside are left out.
    cells: Vec<(u32, f32)>,
}

impl Coverage {
    /// Clips `polygon` to every cell of `grid` (Sutherland and Hodgman 1974) and takes the area by
    /// the shoelace formula: exact for simple polygons, convex or not.
    pub fn new(polygon: &[Point], grid: &Grid) -> Self {
        let mut cells = Vec::new();
        let (mut clipped, mut scratch) = (Vec::new(), Vec::new());
        for row in 0..grid.rows {
            for column in 0..grid.columns {
                let cell = grid.cell(column, row);
                clip(polygon, &cell, &mut clipped, &mut scratch);
                let share = area(&clipped).abs() / (cell.width * cell.height);
                if share > 0.0 {
                    cells.push(((row * grid.columns + column) as u32, share.min(1.0) as f32));
                }
            }
        }
        Self { cells }
    }

    /// Vehicles inside the polygon: each cell counts by its share.
    pub fn count(&self, map: &DensityMap) -> f64 {
        self.cells
            .iter()
            .map(|&(cell, share)| f64::from(map.cells[cell as usize]) * f64::from(share))
            .sum()
    }

    /// The covered cells and their shares.
    pub fn cells(&self) -> &[(u32, f32)] {
        &self.cells
    }
}

/// Signed area by the shoelace formula.
pub(crate) fn area(polygon: &[Point]) -> f64 {
    let next = polygon.iter().cycle().skip(1);
    polygon.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>() / 2.0
}

/// Leaves in `clipped` the part of `polygon` inside `cell`. Where a concave polygon falls apart,
/// the pieces stay joined by edges of no area, which the shoelace formula does not see.
pub(crate) fn clip(
    polygon: &[Point],
    cell: &Rect,
    clipped: &mut Vec<Point>,
    scratch: &mut Vec<Point>,
) {
    clipped.clear();
    clipped.extend_from_slice(polygon);
    let sides = [
        (0, cell.x, 1.0),
        (0, cell.x + cell.width, -1.0),
        (1, cell.y, 1.0),
        (1, cell.y + cell.height, -1.0),
    ];
    for (axis, bound, sign) in sides {
        std::mem::swap(clipped, scratch);
        clipped.clear();
        for (index, &b) in scratch.iter().enumerate() {
            let a = scratch[(index + scratch.len() - 1) % scratch.len()];
            let (from, to) = (sign * (a[axis] - bound), sign * (b[axis] - bound));
            if (from < 0.0) != (to < 0.0) {
                let t = from / (from - to);
                clipped.push([a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
            }
            if to >= 0.0 {
                clipped.push(b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid { columns: 4, rows: 4, rect: Rect::FRAME }
    }

    fn map(cells: [f32; 16]) -> DensityMap {
        DensityMap { grid: grid(), cells: cells.into() }
    }

    #[test]
    fn whole_frame_counts_everything() {
        let all = Coverage::new(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], &grid());
        assert_eq!(all.cells().len(), 16);
        assert!((all.count(&map([0.5; 16])) - 8.0).abs() < 1e-6);
    }

    #[test]
    fn cells_cut_by_an_edge_count_by_their_share() {
        // A right triangle under the diagonal: six whole cells and four halves.
        let triangle = Coverage::new(&[[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]], &grid());
        assert!((triangle.count(&map([1.0; 16])) - 8.0).abs() < 1e-6);
        let half = triangle.cells().iter().find(|(cell, _)| *cell == 5).unwrap().1;
        assert!((half - 0.5).abs() < 1e-6);
    }

    #[test]
    fn concave_region_that_falls_apart_inside_a_row_is_exact() {
        // A U of area 0.5 x 1 minus the notch 0.25 x 0.75, off the grid's lines.
        let u = [
            [0.1, 0.1],
            [0.3, 0.1],
            [0.3, 0.7],
            [0.5, 0.7],
            [0.5, 0.1],
            [0.7, 0.1],
            [0.7, 0.9],
            [0.1, 0.9],
        ];
        let expected = 0.6 * 0.8 - 0.2 * 0.6;
        for polygon in [u.to_vec(), u.iter().rev().copied().collect::<Vec<_>>()] {
            let covered = Coverage::new(&polygon, &grid()).count(&map([1.0 / 16.0; 16]));
            assert!((covered - expected).abs() < 1e-6, "{covered}");
        }
    }

    #[test]
    fn overlapping_regions_count_the_same_vehicle_twice() {
        let mut cells = [0.0; 16];
        cells[5] = 1.0;
        let (left, right) = (
            [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]],
            [[0.25, 0.0], [1.0, 0.0], [1.0, 1.0], [0.25, 1.0]],
        );
        let total: f64 =
            [left, right].iter().map(|r| Coverage::new(r, &grid()).count(&map(cells))).sum();
        assert!((total - 2.0).abs() < 1e-6);
    }

    #[test]
    fn letterbox_border_lies_outside_every_region() {
        // The frame takes the middle half of the rows.
        let boxed = Grid { rect: Rect { x: 0.0, y: -0.5, width: 1.0, height: 2.0 }, ..grid() };
        let all = Coverage::new(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], &boxed);
        assert_eq!(
            all.cells().iter().map(|c| c.0).collect::<Vec<_>>(),
            (4..12).collect::<Vec<_>>()
        );
    }

    #[test]
    fn camera_with_its_own_entry_takes_that_and_the_others_take_the_common_one() {
        let common = r#"{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1]]}"#;
        let own = r#"{"name": "own", "polygon": [[0, 0], [1, 0], [0, 1]]}"#;
        let text =
            format!(r#"{{"regions": [{common}], "cameras": {{"north": {{"regions": [{own}]}}}}}}"#);
        let file = RegionsFile::parse(&text).unwrap();
        assert_eq!(file.for_camera("north").regions[0].name, "own");
        assert_eq!(file.for_camera("south").regions[0].name, "all");
        assert_eq!(RegionsFile::parse(" ").unwrap().for_camera("south"), Regions::default());
    }

    #[test]
    fn wrong_regions_are_named() {
        let error = |text: &str| RegionsFile::parse(text).unwrap_err().to_string();
        assert!(
            error(r#"{"regions": [{"name": "a", "polygon": [[0, 0], [1, 1]]}]}"#)
                .contains("\"a\": 2 corners")
        );
        assert!(
            error(r#"{"regions": [{"name": "a", "polygon": [[0, 0], [1, 1], [0, 7]]}]}"#)
                .contains("[0, 7]")
        );
        assert!(
            error(r#"{"regions": [{"name": "a", "polygon": [[0, 0], [1, 1], [0.5, 0.5]]}]}"#)
                .contains("no area")
        );
        assert!(error(r#"{"region": []}"#).contains("unknown field"));
        let crossed = r#"{"regions": [{"name": "a", "polygon": [[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]]}]}"#;
        assert!(
            error(crossed).contains("region \"a\": its edges cross between corners 2-3 and 4-1")
        );
        assert!(error("/nowhere/regions.json").contains("/nowhere/regions.json"));
        assert!(
            error(r#"{"levels": {"moderate": 5, "dense": 5, "jammed": 6}}"#).contains("must rise")
        );
    }
}
