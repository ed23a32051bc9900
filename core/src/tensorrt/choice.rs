//! Which precision is the fastest on a GPU, and what is remembered of that.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cache::{self, Label};
use super::files;
use super::precision::Precision;
use super::{Flavour, TensorRtError};

/// What a trial of one precision found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trial {
    /// The precision.
    pub precision: Precision,
    /// Microseconds for a largest batch; `None` where it was not timed.
    pub microseconds: Option<f64>,
    /// Why it is not to be used: it does not build, or does not count what it must.
    pub fault: Option<String>,
}

/// What a choice is for, as [`super::cache::Label`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Purpose {
    /// The model's name.
    pub model: String,
    /// Which library.
    pub library: Flavour,
    /// Its version.
    pub version: String,
    /// Compute capability of the GPU times ten.
    pub capability: u32,
    /// The GPU's model ([`crate::cuda::DeviceInfo::model`]).
    #[serde(default)]
    pub gpu: String,
    /// Input width in pixels.
    pub width: usize,
    /// Input height in pixels.
    pub height: usize,
    /// Largest batch, which was timed.
    pub max_batch: usize,
}

/// The choice, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrecisionTrials {
    /// What it is for.
    pub purpose: Purpose,
    /// The fastest without a fault.
    pub precision: Precision,
    /// All that was tried.
    pub trials: Vec<Trial>,
}

impl fmt::Display for PrecisionTrials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.precision)?;
        for trial in &self.trials {
            match (&trial.fault, trial.microseconds) {
                (Some(fault), _) => write!(f, "; {} is not used: {fault}", trial.precision)?,
                (None, Some(time)) => {
                    write!(f, "; {} takes {time:.0} µs a batch", trial.precision)?
                }
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// Tries `candidates` by `time`, which builds the precision's plan, sees that it counts what it
/// must and times a largest batch. The error is that of the last one, where none can be used.
pub fn choose(
    purpose: Purpose,
    candidates: &[Precision],
    mut time: impl FnMut(Precision) -> Result<Duration, TensorRtError>,
) -> Result<PrecisionTrials, TensorRtError> {
    let mut trials = Vec::new();
    let mut last = None;
    for &precision in candidates {
        match time(precision) {
            Ok(taken) => {
                let microseconds = Some(taken.as_secs_f64() * 1e6);
                trials.push(Trial { precision, microseconds, fault: None });
            }
            // The user's own wish is no property of the precision.
            Err(TensorRtError::Ended) => return Err(TensorRtError::Ended),
            Err(error) => {
                trials.push(Trial {
                    precision,
                    microseconds: None,
                    fault: Some(error.to_string()),
                });
                last = Some(error);
            }
        }
    }
    let usable = trials.iter().filter(|trial| trial.fault.is_none());
    let best = usable.min_by(|a, b| {
        a.microseconds.unwrap_or(f64::MAX).total_cmp(&b.microseconds.unwrap_or(f64::MAX))
    });
    match (best.map(|trial| trial.precision), last) {
        (Some(precision), _) => Ok(PrecisionTrials { purpose, precision, trials }),
        (None, Some(error)) => Err(error),
        (None, None) => Err(TensorRtError::NothingToBuild),
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, library, version, capability, gpu, width, height, max_batch } = self;
        let target = cache::target(gpu, *capability);
        write!(f, "{model} {width}x{height}, batches of {max_batch}, {library} {version}, {target}")
    }
}

impl Purpose {
    /// Whether the plan with that label serves it, in one precision or another.
    pub fn is_of(&self, label: &Label) -> bool {
        let Label { library, version, capability, width, height, max_batch, .. } = label;
        (&self.library, &self.version, self.capability) == (library, version, *capability)
            && (self.width, self.height, self.max_batch) == (*width, *height, *max_batch)
            && (label.gpu.is_empty() || self.gpu == label.gpu)
            && self.model == label.model()
    }
}

impl PrecisionTrials {
    /// All that are kept in `folder`, by their purpose.
    pub fn all(folder: &Path) -> Vec<Self> {
        let entries =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<_> = entries.filter_map(|path| Self::read(&path)).collect();
        found.sort_by_cached_key(|choice| choice.purpose.to_string());
        found
    }

    /// The choice that was kept at `path`, if there is one.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Keeps the choice at `path`, whole or not at all.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a choice is plain");
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        files::write_whole(path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(what: &str) -> TensorRtError {
        TensorRtError::Build { library: "TensorRT 11.4.0".to_owned(), reason: what.to_owned() }
    }

    #[test]
    fn the_fastest_that_counts_is_chosen() {
        let times = |int8: u64, fp16: u64| {
            move |precision| {
                Ok(Duration::from_micros(if precision == Precision::Int8 { int8 } else { fp16 }))
            }
        };
        let both = [Precision::Int8, Precision::Fp16];
        assert_eq!(
            choose(Purpose::default(), &both, times(10, 20)).expect("one").precision,
            Precision::Int8
        );
        // INT8 is not always faster: depthwise convolutions hardly gain.
        let choice = choose(Purpose::default(), &both, times(21, 20)).expect("one");
        assert_eq!(choice.to_string(), "fp16; int8 takes 21 µs a batch; fp16 takes 20 µs a batch");
    }

    #[test]
    fn precision_that_does_not_count_is_passed_over_with_its_reason() {
        let mut calls = 0;
        let choice = choose(Purpose::default(), &[Precision::Int8, Precision::Fp16], |precision| {
            calls += 1;
            if precision == Precision::Int8 {
                Err(fault("counts 0.0"))
            } else {
                Ok(Duration::from_micros(30))
            }
        });
        let choice = choice.expect("the other one");
        assert_eq!((choice.precision, calls), (Precision::Fp16, 2));
        assert!(
            choice
                .to_string()
                .contains("int8 is not used: TensorRT 11.4.0 builds no plan: counts 0.0"),
            "{choice}"
        );
        assert!(
            choose(Purpose::default(), &[Precision::Int8], |_| Err(fault("counts 0.0"))).is_err()
        );
        assert!(matches!(
            choose(Purpose::default(), &[], |_| Ok(Duration::ZERO)),
            Err(TensorRtError::NothingToBuild)
        ));
    }

    #[test]
    fn choice_is_kept_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("engines/choice.json");
        assert_eq!(PrecisionTrials::read(&path), None);
        let choice =
            choose(Purpose::default(), &[Precision::Fp16], |_| Ok(Duration::from_micros(7)))
                .expect("one");
        choice.write(&path).expect("the folder can be written");
        assert_eq!(PrecisionTrials::read(&path), Some(choice.clone()));
        std::fs::write(folder.path().join("engines/other.json"), "{}")
            .expect("the folder can be written");
        assert_eq!(PrecisionTrials::all(path.parent().expect("a folder")), [choice]);
    }
}
