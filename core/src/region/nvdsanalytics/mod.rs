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

mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reader::Reader;
use thiserror::Error;

use super::{Levels, Region, RegionError, Regions};

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
            regions: match self.regions.is_empty() {
                true => common.regions,
                false => self.regions.clone(),
            },
            ..common
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
