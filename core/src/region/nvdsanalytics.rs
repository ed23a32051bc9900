//! Regions as DeepStream's `nvdsanalytics` has them in its configuration, so that a file that is
//! there already goes on serving.
//!
//! ```ini
//! [property]
//! enable=1
//! config-width=1920
//! config-height=1080
//! [roi-filtering-stream-0]
//! enable=1
//! roi-left lane=295;643;579;634;642;913;56;828
//! [overcrowding-stream-0]
//! enable=1
//! roi-stop line=600;700;900;700;900;1000;600;1000
//! object-threshold=12
//! ```
//!
//! What a count can do is taken over: polygons, the inverse of a polygon, and a threshold, which
//! becomes the level "jammed". What needs tracks of single vehicles (line crossing, direction) or
//! classes is left out and listed. A group of our own, `[vehiclecount-stream-N]`, says the rest
//! about a source: `camera-id`, `scale-factor`, `interval`, `moderate`, `dense`, `jammed`;
//! nvdsanalytics does not read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::crossing::crossings;
use super::{Levels, Point, Polygon, Region, RegionError, Regions};

/// What a file says of each source, by the source's number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourcesFile {
    /// The sources.
    pub sources: BTreeMap<u32, SourceEntry>,
    /// What was left out, each with the reason.
    pub left_out: Vec<String>,
}

/// What a file says of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceEntry {
    /// Its name.
    pub camera: Option<String>,
    /// See [`crate::count::CountSettings::scale`].
    pub scale: Option<f64>,
    /// Frames skipped between two counted ones.
    pub interval: Option<u32>,
    /// Levels of the whole frame.
    pub levels: Option<Levels>,
    /// Its regions.
    pub regions: Vec<Region>,
}

impl SourceEntry {
    /// The regions and levels; `common` gives the levels where the file has none, and the regions
    /// where the file has none.
    pub fn regions(&self, common: Regions) -> Regions {
        Regions {
            levels: self.levels.unwrap_or(common.levels),
            regions: if self.regions.is_empty() { common.regions } else { self.regions.clone() },
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum SourcesError {
    /// The file system said no.
    #[error("configuration {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that is no group, no key and no comment.
    #[error("{file}, line {line}: {text:?} is neither [group] nor key=value nor # comment")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A value that cannot be.
    #[error("{file}, [{group}] {key}={value}: {remedy}")]
    Value {
        /// The file.
        file: String,
        /// The group.
        group: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// A region that cannot be used.
    #[error("{file}, source {source_id}: {error}")]
    Region {
        /// The file.
        file: String,
        /// The source.
        source_id: u32,
        /// What is wrong.
        error: RegionError,
    },
}

/// A count is overcrowded from `object-threshold` on, which is 1 where it is not given.
const DEFAULT_THRESHOLD: f64 = 1.0;

type Group = Vec<(String, String)>;

impl SourcesFile {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, SourcesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SourcesError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Takes the text of `file`.
    pub fn parse(text: &str, file: &str) -> Result<Self, SourcesError> {
        let reader = Reader { file };
        let groups = reader.groups(text)?;
        let mut found = Self::default();
        let property = groups.iter().find(|(name, _)| name == "property").map(|(_, group)| group);
        let (enabled, size) = match property {
            Some(group) => (reader.enabled("property", group)?, reader.size(group)?),
            None => (true, None),
        };
        for (name, group) in &groups {
            if let Some(id) = reader.stream(name, "vehiclecount-stream-")? {
                reader.own(name, group, found.sources.entry(id).or_default())?;
            }
            if !enabled {
                continue;
            }
            if let Some(id) = reader.stream(name, "roi-filtering-stream-")? {
                if reader.enabled(name, group)? {
                    let entry = found.sources.entry(id).or_default();
                    reader.filtering(name, group, size, entry, &mut found.left_out)?;
                }
            } else if let Some(id) = reader.stream(name, "overcrowding-stream-")? {
                if reader.enabled(name, group)? {
                    let entry = found.sources.entry(id).or_default();
                    reader.overcrowding(name, group, size, entry, &mut found.left_out)?;
                }
            } else if name.starts_with("line-crossing-stream-")
                || name.starts_with("direction-detection-stream-")
            {
                found.left_out.push(format!(
                    "[{name}]: it needs tracks of single vehicles, which a density has not"
                ));
            }
        }
        for (&source_id, entry) in &found.sources {
            let regions = entry.regions(Regions::default());
            regions.check().map_err(|error| SourcesError::Region {
                file: file.to_owned(),
                source_id,
                error,
            })?;
        }
        Ok(found)
    }
}

struct Reader<'a> {
    file: &'a str,
}

impl Reader<'_> {
    /// A key file: groups in order, groups of one name joined, `#` comments.
    fn groups(&self, text: &str) -> Result<Vec<(String, Group)>, SourcesError> {
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
    fn stream(&self, name: &str, prefix: &str) -> Result<Option<u32>, SourcesError> {
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
    fn enabled(&self, name: &str, group: &Group) -> Result<bool, SourcesError> {
        match self.get(group, "enable") {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(self.wrong(name, "enable", value, "write 0 or 1")),
        }
    }

    /// The size of the frame that positions are given for.
    fn size(&self, group: &Group) -> Result<Option<(f64, f64)>, SourcesError> {
        let side =
            |key| self.number("property", group, key, 1.0, "give the side in pixels, at least 1");
        Ok(side("config-width")?.zip(side("config-height")?))
    }

    fn own(&self, name: &str, group: &Group, entry: &mut SourceEntry) -> Result<(), SourcesError> {
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
                wrong("[property] must give config-width and config-height, the frame's size that positions are meant for")
            })?;
            let numbers: Option<Vec<f64>> = value
                .split(';')
                .map(str::trim)
                .filter(|number| !number.is_empty())
                .map(|number| number.parse().ok().filter(|number| (0.0..1e6).contains(number)))
                .collect();
            let numbers = numbers.ok_or_else(|| wrong("write x;y;x;y;..., whole pixels from 0 on"))?;
            let (corners, rest) = numbers.as_chunks::<2>();
            if corners.len() < 3 || !rest.is_empty() {
                return Err(wrong("write x;y for each corner, at least three"));
            }
            if corners.iter().any(|&[x, y]| x > width || y > height) {
                return Err(wrong(&format!("a corner lies outside the configured frame of {width}x{height}")));
            }
            let polygon: Polygon = corners.iter().map(|&[x, y]| [x / width, y / height]).collect();
            // Before the inverse is made of it, whose corners have other numbers.
            if let Some(crossings) = crossings(&polygon) {
                return Err(wrong(&format!("{crossings}; give the corners in their order around the region")));
            }
            Ok((label.to_owned(), polygon))
        });
        polygons.collect()
    }

    fn filtering(
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
            add(entry, Region { name: label, polygon, levels: Levels::default() }, "filtering");
        }
        self.note_classes(name, group, left_out);
        Ok(())
    }

    fn overcrowding(
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
            add(entry, Region { name: label, polygon, levels }, "overcrowding");
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
    let same_way = super::area(polygon) > 0.0;
    let mut around: Vec<Point> =
        if same_way { polygon.iter().rev().copied().collect() } else { polygon.to_vec() };
    around.extend(around.first().copied());
    frame.into_iter().chain(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::density::{DensityMap, Grid, Rect};
    use crate::region::Coverage;

    const SAMPLE: &str = "
[property]
enable=1
# Positions are pixels of this frame.
config-width=1920
config-height=1080
osd-mode=2

[roi-filtering-stream-0]
enable=1
roi-RF=0;0;960;0;960;1080;0;1080;
inverse-roi=0
class-id=-1

[overcrowding-stream-0]
enable=1
roi-OC=960;540;1920;540;1920;1080;960;1080
object-threshold=12
time-threshold=2000
class-id=0;2

[overcrowding-stream-2]
enable=0
roi-OC=1;1;1;1

[line-crossing-stream-0]
enable=1
line-crossing-Exit=789;672;1084;900;851;773;1203;732

[vehiclecount-stream-0]
camera-id=north gate
scale-factor=1.25
interval=4
moderate=3
dense=6
jammed=9
";

    #[test]
    fn file_of_nvdsanalytics_serves_as_it_is() {
        let file = SourcesFile::parse(SAMPLE, "sample").unwrap();
        assert_eq!(file.sources.keys().copied().collect::<Vec<_>>(), [0]);
        let source = &file.sources[&0];
        let [rf, oc] = &source.regions[..] else { panic!("{:?}", source.regions) };
        assert_eq!(
            (rf.name.as_str(), &rf.polygon),
            ("RF", &vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]])
        );
        assert_eq!((oc.name.as_str(), oc.levels.jammed, oc.levels.moderate), ("OC", 12.0, 4.0));
        assert_eq!(source.camera.as_deref(), Some("north gate"));
        assert_eq!((source.scale, source.interval), (Some(1.25), Some(4)));
        assert_eq!(source.levels, Some(Levels { moderate: 3.0, dense: 6.0, jammed: 9.0 }));
        let left_out = file.left_out.join("\n");
        assert!(left_out.contains("[line-crossing-stream-0]: it needs tracks"), "{left_out}");
        assert!(left_out.contains("time-threshold") && left_out.contains("class-id"), "{left_out}");
        assert_eq!(file.left_out.len(), 3);
    }

    #[test]
    fn inverse_region_is_all_but_the_polygon_whichever_way_it_goes_around() {
        let map = DensityMap {
            grid: Grid { columns: 4, rows: 4, rect: Rect::FRAME },
            cells: [1.0; 16].into(),
        };
        let base = "[property]\nenable=1\nconfig-width=100\nconfig-height=100\n[roi-filtering-stream-7]\nenable=1\ninverse-roi=1\n";
        for corners in ["10;10;60;10;60;40;10;40", "10;40;60;40;60;10;10;10"] {
            let file = SourcesFile::parse(&format!("{base}roi-out={corners}\n"), "inline").unwrap();
            let covered =
                Coverage::new(&file.sources[&7].regions[0].polygon, &map.grid).count(&map);
            assert!((covered - 16.0 * (1.0 - 0.5 * 0.3)).abs() < 1e-5, "{covered}");
        }
    }

    #[test]
    fn region_that_crosses_itself_is_named_with_its_group_inverse_or_not() {
        let base = "[property]\nenable=1\nconfig-width=100\nconfig-height=100\n";
        let corners = "10;10;60;10;10;40;60;40";
        for group in [
            "roi-filtering-stream-7]\ninverse-roi=1",
            "roi-filtering-stream-7]",
            "overcrowding-stream-7]",
        ] {
            let text = format!("{base}[{group}\nenable=1\nroi-out={corners}\n");
            let error = SourcesFile::parse(&text, "inline").unwrap_err().to_string();
            assert!(error.contains("roi-out") && error.contains("corners 2-3 and 4-1"), "{error}");
        }
    }

    #[test]
    fn label_used_by_two_groups_of_a_source_stays_two_regions() {
        let text = "[property]\nenable=1\nconfig-width=10\nconfig-height=10\n[roi-filtering-stream-0]\nenable=1\nroi-A=0;0;9;0;9;9\n\
                    [overcrowding-stream-0]\nenable=1\nroi-A=0;0;9;0;9;9\n";
        let file = SourcesFile::parse(text, "inline").unwrap();
        let names: Vec<_> =
            file.sources[&0].regions.iter().map(|region| region.name.as_str()).collect();
        assert_eq!(names, ["A", "A (overcrowding)"]);
    }

    #[test]
    fn whole_file_that_is_off_has_no_regions_but_keeps_the_sources_names() {
        let off = SAMPLE.replacen("enable=1", "enable=0", 1);
        let file = SourcesFile::parse(&off, "inline").unwrap();
        assert!(file.sources[&0].regions.is_empty());
        assert_eq!(file.sources[&0].camera.as_deref(), Some("north gate"));
    }

    #[test]
    fn wrong_files_are_named_with_group_and_key() {
        let error = |text: &str| SourcesFile::parse(text, "f.txt").unwrap_err().to_string();
        let head = "[property]\nenable=1\nconfig-width=100\nconfig-height=100\n[roi-filtering-stream-0]\nenable=1\n";
        assert!(error("nonsense").contains("f.txt, line 1: \"nonsense\""));
        assert!(error("[roi-filtering-stream-x]\nenable=1\n").contains("source's number"));
        assert!(
            error("[roi-filtering-stream-0]\nenable=1\nroi-A=0;0;1;0;1;1\n")
                .contains("config-width")
        );
        assert!(
            error(&format!("{head}roi-A=0;0;1;0;1\n"))
                .contains("[roi-filtering-stream-0] roi-A=0;0;1;0;1: write x;y")
        );
        assert!(
            error(&format!("{head}roi-A=0;0;101;0;1;1\n"))
                .contains("outside the configured frame of 100x100")
        );
        assert!(error(&format!("{head}roi-A=0;0;50;50;100;100\n")).contains("no area"));
        assert!(error("[vehiclecount-stream-0]\ncamera=x\n").contains("the keys are camera-id"));
        assert!(error("[vehiclecount-stream-0]\ndense=4\n").contains("all three levels"));
        assert!(
            SourcesFile::read(Path::new("/nowhere.txt"))
                .unwrap_err()
                .to_string()
                .contains("/nowhere.txt")
        );
    }
}
