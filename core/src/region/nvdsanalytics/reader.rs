//! Groups and keys of the file, and what each group says of a source.

use std::str::FromStr;

use super::{SourceEntry, SourcesError};
use crate::region::crossing::crossings;
use crate::region::{Levels, Point, Polygon, Region, area};

/// A count is overcrowded from `object-threshold` on, which is 1 where it is not given.
const DEFAULT_THRESHOLD: f64 = 1.0;

pub(super) type Group = Vec<(String, String)>;

pub(super) struct Reader<'a> {
    pub file: &'a str,
}

impl Reader<'_> {
    /// A key file: groups in order, groups of one name joined, `#` comments.
    pub fn groups(&self, text: &str) -> Result<Vec<(String, Group)>, SourcesError> {
        let mut groups: Vec<(String, Group)> = Vec::new();
        let mut current = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = || SourcesError::Line {
                file: self.file.to_owned(),
                line: index + 1,
                text: line.to_owned(),
            };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                let known = groups.iter().position(|(known, _)| known == name);
                current = Some(known.unwrap_or_else(|| {
                    groups.push((name.to_owned(), Vec::new()));
                    groups.len() - 1
                }));
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(wrong)?;
            let group = current.ok_or_else(wrong)?;
            groups[group].1.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(groups)
    }

    fn wrong(&self, group: &str, key: &str, value: &str, remedy: &str) -> SourcesError {
        SourcesError::Value {
            file: self.file.to_owned(),
            group: group.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    /// The source's number in a group called `prefix` and a number.
    pub fn stream(&self, name: &str, prefix: &str) -> Result<Option<u32>, SourcesError> {
        let Some(number) = name.strip_prefix(prefix) else { return Ok(None) };
        let wrong = |_| {
            self.wrong(name, "", "", "the group's name must end in the source's number, from 0")
        };
        number.parse().map(Some).map_err(wrong)
    }

    fn get<'g>(&self, group: &'g Group, key: &str) -> Option<&'g str> {
        group.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn number<T: FromStr + PartialOrd>(
        &self,
        name: &str,
        group: &Group,
        key: &str,
        least: T,
        remedy: &str,
    ) -> Result<Option<T>, SourcesError> {
        let Some(value) = self.get(group, key) else { return Ok(None) };
        let parsed = value.parse::<T>().ok().filter(|parsed| *parsed >= least);
        parsed.map(Some).ok_or_else(|| self.wrong(name, key, value, remedy))
    }

    /// Without the key, a group is off: so nvdsanalytics has it.
    pub fn enabled(&self, name: &str, group: &Group) -> Result<bool, SourcesError> {
        match self.get(group, "enable") {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(self.wrong(name, "enable", value, "write 0 or 1")),
        }
    }

    /// The size of the frame that positions are given for.
    pub fn size(&self, group: &Group) -> Result<Option<(f64, f64)>, SourcesError> {
        let side =
            |key| self.number("property", group, key, 1.0, "give the side in pixels, at least 1");
        Ok(side("config-width")?.zip(side("config-height")?))
    }

    pub fn own(
        &self,
        name: &str,
        group: &Group,
        entry: &mut SourceEntry,
    ) -> Result<(), SourcesError> {
        const LEVELS: [&str; 3] = ["moderate", "dense", "jammed"];
        let known = |key: &str| {
            ["camera-id", "scale-factor", "interval"].contains(&key) || LEVELS.contains(&key)
        };
        if let Some((key, value)) = group.iter().find(|(key, _)| !known(key)) {
            let remedy =
                "the keys are camera-id, scale-factor, interval, moderate, dense and jammed";
            return Err(self.wrong(name, key, value, remedy));
        }
        entry.camera =
            self.get(group, "camera-id").filter(|camera| !camera.is_empty()).map(str::to_owned);
        entry.scale =
            self.number(name, group, "scale-factor", 0.0, "give a factor from 0 on, such as 1.1")?;
        entry.interval =
            self.number(name, group, "interval", 0, "give a number of frames, from 0 on")?;
        let level = |key| self.number(name, group, key, 0.0, "give a number of vehicles, above 0");
        match (level("moderate")?, level("dense")?, level("jammed")?) {
            (None, None, None) => {}
            (Some(moderate), Some(dense), Some(jammed)) => {
                entry.levels = Some(Levels { moderate, dense, jammed })
            }
            _ => {
                return Err(self.wrong(
                    name,
                    "moderate, dense, jammed",
                    "",
                    "give all three levels or none",
                ));
            }
        }
        Ok(())
    }

    /// The polygons of a group: keys `roi-LABEL`, pixels of the configured frame.
    fn polygons(
        &self,
        name: &str,
        group: &Group,
        size: Option<(f64, f64)>,
    ) -> Result<Vec<(String, Polygon)>, SourcesError> {
        let rois =
            group.iter().filter_map(|(key, value)| Some((key, key.strip_prefix("roi-")?, value)));
        let polygons = rois.map(|(key, label, value)| {
            let wrong = |remedy: &str| self.wrong(name, key, value, remedy);
            let (width, height) = size.ok_or_else(|| {
                wrong(
                    "[property] must give config-width and config-height, the frame's size that \
                     positions are meant for",
                )
            })?;
            let numbers: Option<Vec<f64>> = value
                .split(';')
                .map(str::trim)
                .filter(|number| !number.is_empty())
                .map(|number| number.parse().ok().filter(|number| (0.0..1e6).contains(number)))
                .collect();
            let remedy = "write x;y;x;y;..., whole pixels from 0 on";
            let numbers = numbers.ok_or_else(|| wrong(remedy))?;
            let (corners, rest) = numbers.as_chunks::<2>();
            if corners.len() < 3 || !rest.is_empty() {
                return Err(wrong("write x;y for each corner, at least three"));
            }
            if corners.iter().any(|&[x, y]| x > width || y > height) {
                return Err(wrong(&format!(
                    "a corner lies outside the configured frame of {width}x{height}"
                )));
            }
            let polygon: Polygon = corners.iter().map(|&[x, y]| [x / width, y / height]).collect();
            // Before the inverse is made of it, whose corners have other numbers.
            if let Some(crossings) = crossings(&polygon) {
                return Err(wrong(&format!(
                    "{crossings}; give the corners in their order around the region"
                )));
            }
            Ok((label.to_owned(), polygon))
        });
        polygons.collect()
    }

    pub fn filtering(
        &self,
        name: &str,
        group: &Group,
        size: Option<(f64, f64)>,
        entry: &mut SourceEntry,
        left_out: &mut Vec<String>,
    ) -> Result<(), SourcesError> {
        let inverse = matches!(self.get(group, "inverse-roi"), Some("1" | "true"));
        for (label, polygon) in self.polygons(name, group, size)? {
            let polygon = if inverse { outside(&polygon) } else { polygon };
            add(entry, Region::new(label, polygon, Levels::default()), "filtering");
        }
        self.note_classes(name, group, left_out);
        Ok(())
    }

    pub fn overcrowding(
        &self,
        name: &str,
        group: &Group,
        size: Option<(f64, f64)>,
        entry: &mut SourceEntry,
        left_out: &mut Vec<String>,
    ) -> Result<(), SourcesError> {
        let threshold = self.number(
            name,
            group,
            "object-threshold",
            1.0,
            "give a number of vehicles, at least 1",
        )?;
        let jammed = threshold.unwrap_or(DEFAULT_THRESHOLD);
        let levels = Levels { moderate: jammed / 3.0, dense: jammed * 2.0 / 3.0, jammed };
        for (label, polygon) in self.polygons(name, group, size)? {
            add(entry, Region::new(label, polygon, levels), "overcrowding");
        }
        if self.get(group, "time-threshold").is_some() {
            left_out.push(format!(
                "[{name}] time-threshold: the level follows the smoothed count; set `smoothing`"
            ));
        }
        self.note_classes(name, group, left_out);
        Ok(())
    }

    fn note_classes(&self, name: &str, group: &Group, left_out: &mut Vec<String>) {
        if self.get(group, "class-id").is_some_and(|classes| classes != "-1") {
            left_out.push(format!("[{name}] class-id: a density has one class, vehicles"));
        }
    }
}

/// Adds a region; nvdsanalytics lets two groups of a source use one label, and a count needs a name
/// of its own.
fn add(entry: &mut SourceEntry, mut region: Region, kind: &str) {
    if entry.regions.iter().any(|other| other.name == region.name) {
        region.name = format!("{} ({kind})", region.name);
    }
    entry.regions.push(region);
}

/// Everything but `polygon`: the frame's outline, then along a line of no area to the polygon,
/// around it the other way, and back.
fn outside(polygon: &[Point]) -> Polygon {
    let frame: [Point; 5] = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
    let same_way = area(polygon) > 0.0;
    let mut around: Vec<Point> =
        if same_way { polygon.iter().rev().copied().collect() } else { polygon.to_vec() };
    around.extend(around.first().copied());
    frame.into_iter().chain(around).collect()
}
