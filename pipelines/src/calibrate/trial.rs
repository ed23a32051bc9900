//! What each setting counts on each picture.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use vehiclecount_core::engine::{EngineInfo, EngineKind, EngineRequest};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputScale, InputSize};
use vehiclecount_core::region::{Detail, Levels, Region, Regions};

use super::Options;
use super::choice::Candidate;
use super::far::Strip;
use super::shots::Shot;
use crate::eval::look::{self, Enlargement, Eye};
use crate::eval::metrics;

/// Less than this share of the vehicles is as good as none.
const LEAST_SEEN: f64 = 0.1;

/// Enlargement of the regions that are proposed where there are none.
const CLOSER: f64 = 2.0;

/// The region that is proposed where a closer look finds more in a strip of the picture.
const FAR: &str = "far traffic";

/// A way to count a camera, but for the factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// How large its pictures are shown.
    pub scale: InputScale,
    /// What is looked at more closely, in words.
    pub detail: String,
    /// Its regions, with their detail.
    pub regions: Vec<Region>,
    /// It is what is set now.
    pub is_now: bool,
}

/// See the module.
pub struct Trial {
    /// What counts, in words.
    pub engine: String,
    /// What was tried. The first is what is set now.
    pub setups: Vec<Setup>,
    /// Levels of the whole frame, which stay.
    pub levels: Levels,
    /// The strip of far traffic that was found, and tried.
    pub strip: Option<Strip>,
    /// For each of the setups, the counts of the pictures.
    counts: Vec<Vec<f64>>,
    costs: Vec<f64>,
}

impl Trial {
    /// Counts all pictures in all ways.
    pub fn run(options: &Options, settings: &Regions, shots: &[Shot]) -> Result<Self> {
        let model = match options.engine {
            EngineKind::Scripted if options.model.is_empty() => Model::scripted(),
            _ => Model::open(&options.model, &model::folders())?,
        };
        let resize = model.manifest.input.resize;
        let shapes = model.input_shapes(options.input_size)?;
        let is_fixed = shapes.sizes().len() == 1;
        let request = EngineRequest {
            gpu: options.gpu,
            name: "calibrate".to_owned(),
            ..EngineRequest::new(options.engine, Arc::new(model))
        };
        let picture = &shots[0].sample;
        let size_at = |scale| shapes.at(scale).fit(picture.width, picture.height);
        let mut trial = Self {
            engine: String::new(),
            setups: Vec::new(),
            levels: settings.levels,
            strip: None,
            counts: Vec::new(),
            costs: Vec::new(),
        };
        let area = |size: InputSize| (size.width * size.height) as f64;
        let normal = area(size_at(InputScale::NORMAL));
        let mut eyes = BTreeMap::<(usize, usize), Eye>::new();
        let mut info: Option<EngineInfo> = None;
        let mut open = |size: InputSize| {
            let engine = look::open(&request, size, info.as_ref())?.engine;
            info.get_or_insert_with(|| engine.info().clone());
            Eye::new(&engine, resize)
        };
        if settings.regions.iter().all(|region| region.name != FAR) {
            let size = size_at(InputScale::NORMAL);
            let eye = eyes.entry((size.width, size.height)).or_insert(open(size)?);
            trial.strip = Strip::find(eye, shots, Enlargement(CLOSER), FAR)?;
        }
        for setup in setups(settings, trial.strip.as_ref(), is_fixed) {
            let size = size_at(setup.scale);
            let eye = match eyes.entry((size.width, size.height)) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(place) => place.insert(open(size)?),
            };
            let (mut counts, mut inputs) = (Vec::new(), 0);
            for shot in shots {
                let (count, looked) = count(eye, shot, &setup.regions)
                    .with_context(|| format!("{}, {}", shot.name, setup.scale))?;
                counts.push(count);
                inputs += looked;
            }
            // Where the picture shows no more than the input, closer looks are none.
            let is_plain = setup.regions.iter().all(|region| region.detail.is_off());
            if inputs == shots.len() && !is_plain && !setup.is_now {
                continue;
            }
            trial.counts.push(counts);
            trial.costs.push(inputs as f64 / shots.len() as f64 * area(size) / normal);
            trial.setups.push(setup);
        }
        let truth: f64 = shots.iter().map(|shot| shot.truth).sum();
        let most = trial.counts.iter().map(|counts| counts.iter().sum::<f64>()).fold(0.0, f64::max);
        ensure!(
            most >= LEAST_SEEN * truth,
            "the model counts {most:.1} of {truth} vehicles at most, however it looks: such pictures need another \
             model; are the counts those of these pictures?"
        );
        let info = info.context("something was counted")?;
        let manifest = &request.model.manifest;
        trial.engine = format!(
            "{} {} ({}) on {} {}, normal input {}",
            manifest.name,
            manifest.version,
            info.precision,
            info.kind,
            info.version,
            size_at(InputScale::NORMAL)
        );
        Ok(trial)
    }

    /// What is chosen from: first what is set now, then each setup without a factor and with one.
    pub fn candidates(&self, settings: &Regions) -> Vec<Candidate> {
        let of = |index: usize, factor: Option<f64>| Candidate {
            counts: self.counts[index].clone(),
            cost: self.costs[index],
            factor,
        };
        let mut candidates = vec![of(0, Some(settings.scale_factor.unwrap_or(1.0)))];
        for index in 0..self.setups.len() {
            candidates.extend([of(index, Some(1.0)), of(index, None)]);
        }
        candidates
    }

    /// The setup of a candidate.
    pub fn setup_of(&self, candidate: usize) -> usize {
        candidate.saturating_sub(1) / 2
    }

    /// The candidates of a setup: without a factor, and with one.
    pub fn candidates_of(&self, setup: usize) -> [usize; 2] {
        [1 + 2 * setup, 2 + 2 * setup]
    }
}

/// The vehicles that `eye` counts where the labels of the picture are complete, and its inputs.
fn count(eye: &mut Eye, shot: &Shot, regions: &[Region]) -> Result<(f64, usize)> {
    let seen = eye.see(&shot.picture, regions)?;
    let count = metrics::count(&seen.cells(), &shot.sample, shot.mask.as_ref(), &seen.placement);
    Ok((count, seen.inputs))
}

/// What is tried: every scale with every choice of closer looks, what is set now before all.
fn setups(settings: &Regions, strip: Option<&Strip>, is_fixed: bool) -> Vec<Setup> {
    let with = |detail: &dyn Fn(&Region) -> Detail| {
        let regions = settings.regions.iter().map(|region| {
            let mut region = region.clone();
            region.detail = detail(&region);
            region
        });
        regions.collect::<Vec<_>>()
    };
    // What is set without any detail is called what it is.
    let is_plain = settings.regions.iter().all(|region| region.detail.is_off());
    let name = if is_plain { "none" } else { "as set" };
    let mut ways = vec![(name.to_owned(), with(&|region| region.detail))];
    ways.push(("none".to_owned(), with(&|_| Detail::Off)));
    if settings.regions.is_empty() {
        for (name, bottom) in [("upper half", 0.5), ("whole picture", 1.0)] {
            let region = look::rectangle(name, [0.0, 0.0, 1.0, bottom], Detail::Times(CLOSER));
            ways.push((name.to_owned(), vec![region]));
        }
    } else {
        ways.push(("all regions".to_owned(), with(&|_| Detail::On)));
        for chosen in settings.regions.iter().take(4) {
            let of = |region: &Region| match region.name == chosen.name {
                true => Detail::On,
                false => Detail::Off,
            };
            ways.push((format!("{:?}", chosen.name), with(&of)));
        }
    }
    if let Some(strip) = strip {
        let mut regions = with(&|_| Detail::Off);
        regions.push(strip.region.clone());
        ways.push((strip.region.name.clone(), regions));
    }
    let scales = InputScale::named()
        .map(|(_, scale)| scale)
        .filter(|scale| !is_fixed || *scale == InputScale::NORMAL);
    let mut setups: Vec<Setup> = Vec::new();
    let now = std::iter::once(settings.input_scale);
    for (order, scale) in now.chain(scales).enumerate() {
        for (place, (detail, regions)) in ways.iter().enumerate() {
            let is_now = order == 0 && place == 0;
            let setup = Setup { scale, detail: detail.clone(), regions: regions.clone(), is_now };
            let is_there = |other: &Setup| other.scale == scale && other.regions == *regions;
            if !setups.iter().any(is_there) {
                setups.push(setup);
            }
        }
    }
    setups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_tried_once_at_each_scale_and_what_is_set_comes_first() {
        let found = setups(&Regions::default(), None, false);
        assert_eq!(found.len(), 4 * 3);
        assert!(
            found[0].is_now && found[0].scale == InputScale::NORMAL && found[0].detail == "none"
        );
        assert_eq!(found.iter().filter(|setup| setup.is_now).count(), 1);

        let polygon = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]];
        let mut region = Region::new("far".to_owned(), polygon, Levels::default());
        region.detail = Detail::Times(3.0);
        let scale = "large".parse().expect("a scale");
        let settings = Regions { regions: vec![region], input_scale: scale, ..Regions::default() };
        let found = setups(&settings, None, false);
        assert_eq!((found[0].scale, found[0].regions[0].detail), (scale, Detail::Times(3.0)));
        // As set, none, all of them, which is the only one.
        assert_eq!(found.len(), 4 * 3);
        let fixed = setups(&settings, None, true);
        assert_eq!(fixed.iter().filter(|setup| setup.scale == scale).count(), 3);

        // A strip that was found stands beside the regions, which then have no detail.
        let mut region = settings.regions[0].clone();
        region.name = FAR.to_owned();
        let strip = Strip { region: region.clone(), counted: [1.0, 2.0] };
        let found = setups(&settings, Some(&strip), false);
        assert_eq!(found.len(), 4 * 4);
        let setup = found.iter().find(|setup| setup.detail == FAR).expect("a way with the strip");
        assert!(setup.regions[0].detail.is_off() && setup.regions[1] == region);
    }
}
