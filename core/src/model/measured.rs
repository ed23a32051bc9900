//! What was measured of a model: its errors, in the manifest, and its speed, in a file beside it.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::{Deserialize, Serialize};

use super::{Model, ModelError, io_error};
use crate::cache;
use crate::machine::{Machine, processor, processors};
use crate::preprocess::InputSize;

/// What a file of a model counts wrongly at one input size: an entry of `accuracy` in the manifest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Accuracy {
    /// The file.
    pub file: String,
    /// Width of the input in pixels.
    pub width: usize,
    /// Height of the input in pixels.
    pub height: usize,
    /// Pictures.
    #[serde(default)]
    pub images: usize,
    /// Mean absolute error as a share of the mean number of vehicles. Entries that lack it were
    /// held against labels that leave vehicles out.
    #[serde(default)]
    pub relative: Option<f64>,
    /// Vehicles counted as a share of those that are there.
    #[serde(default)]
    pub counted: Option<f64>,
    /// Mean of count minus truth, in vehicles a picture.
    #[serde(default)]
    pub bias: Option<f64>,
}

impl Accuracy {
    /// Size of the input.
    pub fn input(&self) -> InputSize {
        InputSize { width: self.width, height: self.height }
    }
}

/// How fast a file of a model was at one input size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Speed {
    /// The file.
    pub file: String,
    /// Width of the input in pixels.
    pub width: usize,
    /// Height of the input in pixels.
    pub height: usize,
    /// Name of the engine.
    pub engine: String,
    /// With all lanes at work.
    pub images_per_second: f64,
    /// For one picture, with nothing beside it, median.
    pub milliseconds: f64,
}

/// Name of the file of speeds, in a folder of models and in the cache folder: a list of [`Speeds`].
const SPEEDS: &str = "speeds.json";

/// Speeds on one machine, and when they were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speeds {
    /// The processor and its threads.
    pub machine: String,
    /// Whether the processor has instructions for INT8:
    /// [`Abilities::int8`](crate::machine::Abilities::int8).
    pub int8: bool,
    /// Year, month and day.
    pub date: String,
    /// The speeds.
    pub speeds: Vec<Speed>,
}

impl Speeds {
    /// Of this machine, with no speed yet.
    pub fn here() -> Self {
        Self {
            machine: format!("{} threads of {}", processors(), processor()),
            int8: Machine::here().abilities.int8,
            ..Self::default()
        }
    }

    /// Whether `other` is of the same machine.
    pub fn is_of_machine(&self, other: &Self) -> bool {
        (&self.machine, self.int8) == (&other.machine, other.int8)
    }

    /// Of `all`, the one of this machine; else the first of a processor that, as this one, has or
    /// lacks instructions for INT8; else the first.
    pub fn nearest(all: &[Self]) -> Option<&Self> {
        let here = Self::here();
        let own = all.iter().find(|each| each.is_of_machine(&here));
        own.or_else(|| all.iter().find(|each| each.int8 == here.int8)).or_else(|| all.first())
    }

    /// Puts these into `all`, in the place of earlier ones of the same machine.
    pub fn put_into(self, all: &mut Vec<Self>) {
        match all.iter_mut().find(|each| each.is_of_machine(&self)) {
            Some(earlier) => *earlier = self,
            None => all.push(self),
        }
    }

    /// Where the speeds that come with the models of `folder` lie.
    pub fn beside(folder: &Path) -> PathBuf {
        folder.join(SPEEDS)
    }

    /// Where the speeds that were measured by the user of this machine lie; `None` where no home is
    /// known.
    pub fn of_user() -> Option<PathBuf> {
        Some(cache::folder()?.join(SPEEDS))
    }

    /// The speeds that the user measured on this machine.
    pub fn measured_here() -> Option<Self> {
        let here = Self::here();
        Self::read(&Self::of_user()?).ok()?.into_iter().find(|each| each.is_of_machine(&here))
    }

    /// Reads a file of speeds, a list of machines.
    ///
    /// # Errors
    /// A file that cannot be read, and one that is not such a list.
    pub fn read(path: &Path) -> Result<Vec<Self>, ModelError> {
        let text = fs::read_to_string(path).map_err(|source| io_error(path, source))?;
        serde_json::from_str(&text)
            .map_err(|source| ModelError::Parse { path: path.to_owned(), source })
    }

    /// The speed of `file` at `input`.
    pub fn of(&self, file: &str, input: InputSize) -> Option<&Speed> {
        self.speeds.iter().find(|speed| {
            speed.file == file && (speed.width, speed.height) == (input.width, input.height)
        })
    }
}

/// "2 threads of a processor, with INT8 instructions, 2026-01-01".
impl fmt::Display for Speeds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = if self.int8 { "with" } else { "without" };
        write!(formatter, "{}, {has} INT8 instructions, {}", self.machine, self.date)
    }
}

impl Model {
    /// The errors that the manifest tells.
    pub fn accuracy(&self) -> Result<Vec<Accuracy>, ModelError> {
        if self.manifest.accuracy.is_null() {
            return Ok(Vec::new());
        }
        serde_json::from_value(self.manifest.accuracy.clone()).map_err(|error| ModelError::Value {
            path: self.folder.join(format!("{}.json", self.manifest.name)),
            key: "accuracy".to_owned(),
            value: "not what evaluate.py writes".to_owned(),
            remedy: error.to_string(),
        })
    }

    /// The models in `folders`, in the order of their files' names. A model in an earlier folder
    /// hides one of its name in a later one.
    pub fn installed(folders: &[PathBuf]) -> Vec<Self> {
        let mut models: Vec<Self> = Vec::new();
        for folder in folders {
            // A folder that is not there holds no models.
            for model in Self::in_folder(folder).into_iter().flatten() {
                if models.iter().all(|known| known.manifest.name != model.manifest.name) {
                    models.push(model);
                }
            }
        }
        models
    }
}
