//! What suits a need on a machine: which model, at which input size, in which precision, in batches
//! of what size, and how long frames wait.
//!
//! [`choose`] is a pure function of the machine, the models that are installed with what was
//! measured of them, and what is settled already. [`Surroundings::here`] and [`Installed::of`] find
//! the first two.

mod choose;
mod installed;
mod surroundings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

pub use choose::choose;
pub use installed::{Candidate, Installed, Measured};
pub use surroundings::{Gpu, Surroundings};

use crate::engine::EngineKind;
use crate::preprocess::InputChoice;
use crate::tensorrt::Precision;

/// A need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// The most images a second.
    HighestFps,
    /// The shortest time from a frame to its count.
    LowestLatency,
    /// A small machine: the smallest file, and little memory.
    Edge,
    /// Many cameras on one machine: many images a second at little more than the least error.
    Server,
    /// The least error, however slow.
    Accuracy,
}

/// No preset has that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no preset is called {name:?}: it is one of {}", Preset::names())]
pub struct UnknownPreset {
    /// The name asked for.
    pub name: String,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] =
        [Self::HighestFps, Self::LowestLatency, Self::Edge, Self::Server, Self::Accuracy];

    /// The name used in properties, options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::HighestFps => "highest-fps",
            Self::LowestLatency => "lowest-latency",
            Self::Edge => "edge",
            Self::Server => "server",
            Self::Accuracy => "accuracy",
        }
    }

    /// What it is for, in words.
    pub fn title(self) -> &'static str {
        match self {
            Self::HighestFps => "The most images a second",
            Self::LowestLatency => "The shortest time from a frame to its count",
            Self::Edge => "A small machine: the smallest file, and little memory",
            Self::Server => {
                "Many cameras: many images a second at little more than the least error"
            }
            Self::Accuracy => "The least error, however slow",
        }
    }

    /// Every name, for messages: "a, b and c".
    pub fn names() -> String {
        let mut names: Vec<_> = Self::ALL.map(Self::name).into();
        let last = names.pop().unwrap_or_default();
        format!("{} and {last}", names.join(", "))
    }

    /// How many times the least error of the installed models is allowed; `None`: any.
    fn allowed(self) -> Option<f64> {
        match self {
            Self::HighestFps => Some(2.0),
            Self::LowestLatency | Self::Edge => Some(1.5),
            Self::Server => Some(1.25),
            Self::Accuracy => None,
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        let mut all = Self::ALL.into_iter();
        all.find(|preset| preset.name() == name)
            .ok_or_else(|| UnknownPreset { name: name.to_owned() })
    }
}

/// What is settled already, so that the rest must suit it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settled {
    /// Which engine; `Auto` where that is open.
    pub engine: EngineKind,
    /// Input sizes; `None` where they are open.
    pub input: Option<InputChoice>,
    /// Precision; `None` where it is open.
    pub precision: Option<Precision>,
}

/// What was chosen. What is `None` stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// For which need.
    pub preset: Preset,
    /// Name of the model.
    pub model: Option<String>,
    /// Sizes of the input.
    pub input: Option<InputChoice>,
    /// Precision that is to be asked for: `Auto` where that comes to what is wanted, so that
    /// another engine can step in.
    pub precision: Option<Precision>,
    /// Most frames in a batch.
    pub batch_size: usize,
    /// How long a frame waits for its batch to fill while the engine is free.
    pub batch_timeout: Duration,
    /// How long a live frame is held for its count.
    pub max_latency: Duration,
    /// The engine that is expected to open, where one is installed.
    pub engine: Option<EngineKind>,
    /// What was chosen among the models, with what was measured of it.
    pub candidate: Option<Candidate>,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
}
