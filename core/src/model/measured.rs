//! What was measured of a model: its errors, in the manifest, and its speed, in a file beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Model, ModelError, io_error};
use crate::cache;
use crate::machine::{processor, processors};
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

/// Name of the file of speeds, in a folder of models and in the cache folder.
const SPEEDS: &str = "speeds.json";

/// Speeds, and where and when they were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speeds {
    /// The processor and its threads: [`Speeds::here`] of the machine.
    pub machine: String,
    /// Year, month and day.
    pub date: String,
    /// The speeds.
    pub speeds: Vec<Speed>,
}

impl Speeds {
    /// This machine as [`machine`](Self::machine) names it.
    pub fn here() -> String {
        format!("{} threads of {}", processors(), processor())
    }

    /// Where the speeds that come with the models of `folder` lie.
    pub fn beside(folder: &Path) -> PathBuf {
        folder.join(SPEEDS)
    }

    /// Where the speeds that were measured on this machine lie; `None` where no home is known.
    pub fn of_machine() -> Option<PathBuf> {
        Some(cache::folder()?.join(SPEEDS))
    }

    /// Reads a file of speeds.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
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
