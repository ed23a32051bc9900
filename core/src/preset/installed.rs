//! The models that can be chosen, with what was measured of them.

use std::fs;
use std::path::PathBuf;

use crate::engine::EngineKind;
use crate::model::{DEFAULT_MODEL, Model, Speed, Speeds};
use crate::preprocess::{InputChoice, InputSize, Resize};

/// A file of a model at one input size.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Name of the model.
    pub model: String,
    /// Name of the file.
    pub file: String,
    /// "fp32", "fp16" or "int8".
    pub precision: String,
    /// Engines that take it.
    pub engines: Vec<EngineKind>,
    /// Size of the input that was measured.
    pub measured: InputSize,
    /// The input sizes that are to be asked for: those of its area.
    pub input: InputChoice,
    /// Whether it is chosen only where its input size is settled.
    pub only_settled: bool,
    /// Bytes of the file; `None` where it is not there.
    pub size: Option<u64>,
    /// Mean absolute error as a share of the mean number of vehicles.
    pub error: Option<f64>,
    /// With all lanes at work.
    pub images_per_second: Option<f64>,
    /// Milliseconds for one picture alone.
    pub milliseconds: Option<f64>,
}

/// What can be chosen, the default model first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installed {
    /// Files at the input sizes that they were measured at.
    pub candidates: Vec<Candidate>,
    /// Where and when the speeds were measured; `None` where there are none.
    pub measured: Option<Measured>,
}

/// Where and when speeds were measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The machine and the day, in words.
    pub told: String,
    /// Whether that was this machine.
    pub is_here: bool,
    /// Whether its processor has instructions for INT8.
    pub int8: bool,
}

impl Installed {
    /// The models of `models`, with the speeds that were measured on this machine where these hold
    /// for every file that has one, else with those that came with the models, of the machine that
    /// is nearest to this one.
    pub fn of(mut models: Vec<Model>) -> Self {
        models.sort_by_key(|model| model.manifest.name != DEFAULT_MODEL);
        let mut candidates: Vec<_> = models.iter().flat_map(candidates).collect();
        let here = Speeds::measured_here();
        let mut folders: Vec<PathBuf> = models.into_iter().map(|model| model.folder).collect();
        folders.dedup();
        let beside: Vec<_> = folders
            .iter()
            .filter_map(|folder| Speeds::read(&Speeds::beside(folder)).ok())
            .filter_map(|machines| Speeds::nearest(&machines).cloned())
            .collect();
        let shipped = |candidate: &Candidate| {
            let mut found = beside.iter().filter_map(|speeds| candidate.speed(speeds));
            found.next().cloned()
        };
        let complete = here.filter(|here| {
            candidates.iter().all(|each| each.speed(here).is_some() || shipped(each).is_none())
        });
        let measured = match &complete {
            Some(here) => Some(here),
            None => beside.first(),
        };
        let measured = measured.map(|speeds| Measured {
            told: speeds.to_string(),
            is_here: speeds.is_of_machine(&Speeds::here()),
            int8: speeds.int8,
        });
        for candidate in &mut candidates {
            let speed = match &complete {
                Some(here) => candidate.speed(here).cloned(),
                None => shipped(candidate),
            };
            candidate.images_per_second = speed.as_ref().map(|speed| speed.images_per_second);
            candidate.milliseconds = speed.map(|speed| speed.milliseconds);
        }
        Self { candidates, measured }
    }
}

impl Candidate {
    fn speed<'a>(&self, speeds: &'a Speeds) -> Option<&'a Speed> {
        speeds.of(&self.file, self.measured)
    }
}

/// The files of a model: each at its own input size and at the squares that it was measured at,
/// whose areas `auto:SIDE` names. Its own size stands for the shapes of its area: where the one for
/// 16:9, which most cameras have, was measured, its figures count, and the square is there for whom
/// it is settled. A model whose errors cannot be read has none.
fn candidates(model: &Model) -> Vec<Candidate> {
    let accuracy = model.accuracy().unwrap_or_default();
    let input = &model.manifest.input;
    let own = InputSize { width: input.width, height: input.height };
    // Pictures that are stretched have one size.
    let stretches = input.resize == Resize::Stretch;
    let first = model.input_shapes(InputChoice::default()).map_or(own, |shapes| shapes.first());
    let mut candidates = Vec::new();
    for file in &model.manifest.files {
        if model.chosen_file().is_some_and(|chosen| chosen.file != file.file) {
            continue;
        }
        let entries = accuracy.iter().filter(|entry| entry.file == file.file);
        let error_at = |size: InputSize| {
            entries.clone().filter(|entry| entry.input() == size).find_map(|entry| entry.relative)
        };
        let wide = error_at(first).map_or(own, |_| first);
        let mut sizes = vec![(wide, InputChoice::default())];
        for size in entries.clone().map(|entry| entry.input()) {
            let asked = match stretches || size == own {
                true => InputChoice::Fixed(size),
                false => InputChoice::Auto(Some(size.width)),
            };
            let is_new = sizes.iter().all(|(known, _)| *known != size);
            if size.width == size.height && is_new {
                sizes.push((size, asked));
            }
        }
        for (measured, asked) in sizes {
            candidates.push(Candidate {
                model: model.manifest.name.clone(),
                file: file.file.clone(),
                precision: file.precision.clone(),
                engines: file.engines.clone(),
                measured,
                input: asked,
                only_settled: asked == InputChoice::Fixed(own),
                size: fs::metadata(model.path(file)).ok().map(|entry| entry.len()),
                error: error_at(measured),
                images_per_second: None,
                milliseconds: None,
            });
        }
    }
    candidates
}
