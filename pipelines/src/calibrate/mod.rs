//! `vehicle-count calibrate`: how one camera is best counted, from a few of its pictures.

mod choice;
mod far;
mod file;
mod grab;
mod shots;
mod trial;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::preprocess::InputChoice;
use vehiclecount_core::region::{Regions, RegionsFile};

use choice::{Candidate, Choice};
use shots::{Gathered, Typed};
use trial::{Setup, Trial};

use crate::table::say;

/// Options of `vehicle-count calibrate`.
#[derive(clap::Args)]
pub struct Options {
    /// Pictures of one camera (JPEG, PNG), a clip of it, or its rtsp:// URL
    #[arg(value_name = "SOURCE", required_unless_present = "data")]
    sources: Vec<String>,
    /// Vehicles that a person counts in a picture; on a terminal it is asked for
    #[arg(long = "count", value_name = "FILE=NUMBER")]
    counts: Vec<Typed>,
    /// Folders with annotations.jsonl: labelled pictures, as eval takes them
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    data: Vec<PathBuf>,
    /// Which of their pictures
    #[arg(long, default_value = "val")]
    split: String,
    /// Which of their scenes: a calibration is of one camera
    #[arg(long, value_name = "NAME")]
    scene: Option<String>,
    /// Folder to write the pictures of a clip or a camera into, where their vehicles can be counted
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Pictures that are taken of a clip or a camera
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(3..=100))]
    frames: u16,
    /// Regions file: what is set for the camera, and where the proposal is written
    #[arg(long, value_name = "FILE")]
    regions: Option<PathBuf>,
    /// Its camera: the key under "cameras" (default: what holds for all)
    #[arg(long, value_name = "NAME", requires = "regions")]
    camera: Option<String>,
    /// Write the proposal into the regions file; everything else in it stays
    #[arg(long, requires = "regions")]
    write: bool,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Engine
    #[arg(long, default_value = "auto", help = crate::engine::help())]
    engine: EngineKind,
    /// Size of the input that is set for all cameras: auto, auto:SIDE or WxH
    #[arg(long, value_name = "SIZE", default_value_t)]
    input_size: InputChoice,
    /// Index of the GPU, for engines that run on one
    #[arg(long, default_value_t = 0)]
    gpu: u32,
}

/// Measures, proposes, and writes where that was asked for.
pub fn run(options: &Options) -> Result<()> {
    let (text, settings) = settings(options)?;
    let shots = match shots::gather(options)? {
        Gathered::Shots(shots) => shots,
        Gathered::Taken(paths) => {
            say(format_args!("Count the vehicles in these pictures:"));
            paths.iter().for_each(|path| say(format_args!("  {}", path.display())));
            say(format_args!(
                "Then call calibrate with the pictures, and --count FILE=NUMBER for each."
            ));
            return Ok(());
        }
    };
    let truths: Vec<_> = shots.iter().map(|shot| shot.truth).collect();
    let trial = Trial::run(options, &settings, &shots)?;
    let candidates = trial.candidates(&settings);
    let choice = choice::choose(&candidates, &truths);
    say(format_args!("{}", told(&trial, &candidates, &truths)));
    let (total, baseline) = (truths.iter().sum::<f64>(), choice::baseline(&truths));
    if baseline <= candidates.iter().map(|one| one.error(&truths)).fold(f64::MAX, f64::min) {
        say(format_args!(
            "The pictures hardly differ in their vehicles: always answering the mean of the others errs by \
             {baseline:.2}\nalone. A factor cannot be told from seeing more: add pictures of lighter and denser \
             traffic.\n"
        ));
    }
    let before = candidates[0].error(&truths);
    let share = |error: f64| error * truths.len() as f64 / total * 100.0;
    if choice.index == 0 {
        say(format_args!(
            "Kept as it is: nothing is better by more than chance on {} pictures (MAE {before:.2}, {:.0}% of \
             the vehicles).",
            shots.len(),
            share(before)
        ));
        return Ok(());
    }
    let proposed = proposal(&trial, &candidates, choice, &truths);
    let Choice { error, .. } = choice;
    say(format_args!("Proposed: {}.", described(&proposed)));
    say(format_args!(
        "MAE on pictures that it was not fitted on: {before:.2} before ({:.0}% of the vehicles), {error:.2} after \
         ({:.0}%).",
        share(before),
        share(error)
    ));
    match (&options.regions, options.write) {
        (Some(path), true) => {
            let edited = file::edited(&text, options.camera.as_deref(), &proposed)?;
            // It is read again before anything is written.
            RegionsFile::parse(&edited)?;
            if !path.exists() {
                fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
            }
            crate::config::edit::write(path, &edited)
                .with_context(|| format!("cannot write {}", path.display()))?;
            say(format_args!("Written to {}.", path.display()));
        }
        (Some(path), false) => {
            say(format_args!("--write writes it into {}.", path.display()));
        }
        (None, _) => say(format_args!("--regions FILE --write writes it into a regions file.")),
    }
    Ok(())
}

/// The text of the regions file, and what is set for the camera.
fn settings(options: &Options) -> Result<(String, Regions)> {
    let Some(path) = &options.regions else { return Ok((String::new(), Regions::default())) };
    // With --write, the file may be made.
    if options.write && !path.exists() {
        return Ok((String::new(), Regions::default()));
    }
    let file = RegionsFile::read(path)?;
    let text = fs::read_to_string(path)?;
    let settings = match &options.camera {
        Some(camera) => file.for_camera(camera),
        None => file.all().next().unwrap_or_default(),
    };
    Ok((text, settings))
}

/// The settings that `choice` stands for.
fn proposal(trial: &Trial, candidates: &[Candidate], choice: Choice, truths: &[f64]) -> Regions {
    let Setup { scale, regions, .. } = &trial.setups[trial.setup_of(choice.index)];
    let factor = candidates[choice.index].final_factor(truths);
    let factor = (factor * 100.0).round() / 100.0;
    Regions {
        levels: trial.levels,
        regions: regions.clone(),
        input_scale: *scale,
        scale_factor: Some(factor).filter(|factor| *factor != 1.0),
    }
}

fn described(settings: &Regions) -> String {
    let closer = settings.regions.iter().filter_map(|region| {
        Some(format!("{:?} up to {} times", region.name, region.detail.factor()?))
    });
    let closer: Vec<_> = closer.collect();
    let detail = if closer.is_empty() { "none".to_owned() } else { closer.join(", ") };
    format!(
        "input-scale {}, detail {detail}, scale-factor {}",
        settings.input_scale,
        settings.scale_factor.unwrap_or(1.0)
    )
}

/// The table of all that was tried.
fn told(trial: &Trial, candidates: &[Candidate], truths: &[f64]) -> String {
    let total: f64 = truths.iter().sum();
    let wide = trial.setups.iter().map(|setup| setup.detail.chars().count()).max();
    let wide = wide.unwrap_or(0).max(6);
    let mut text = format!(
        "{} pictures, {total} vehicles; {}\n\n{:<11}  {:<wide$}  {:>5}  {:>7}  {:>7}  {:>6}  {:>10}\n",
        truths.len(),
        trial.engine,
        "input-scale",
        "detail",
        "cost",
        "counted",
        "MAE",
        "factor",
        "MAE with it"
    );
    for (index, setup) in trial.setups.iter().enumerate() {
        let [plain, fitted] = trial.candidates_of(index).map(|at| &candidates[at]);
        let counted = plain.counts.iter().sum::<f64>() / total * 100.0;
        let now = if setup.is_now { "  set now" } else { "" };
        let scale = setup.scale.to_string();
        let (factor, error) = (fitted.final_factor(truths), fitted.error(truths));
        let _ = writeln!(
            text,
            "{scale:<11}  {:<wide$}  {:>5.1}  {counted:>6.0}%  {:>7.2}  {factor:>6.2}  {error:>10.2}{now}",
            setup.detail,
            plain.cost,
            plain.error(truths),
        );
    }
    text += "\ncost: inputs that a picture needs, 1 being one of the normal size. MAE with the factor: each picture's\n\
             factor is fitted on the others.\n";
    if let Some(strip) = &trial.strip {
        let [left, top, right, bottom] = strip.edges();
        let [plain, close] = strip.counted.map(|count| count / truths.len() as f64);
        let _ = writeln!(
            text,
            "{}: {left:.2} to {right:.2} of the width, {top:.2} to {bottom:.2} of the height, where a closer look counts \
             {close:.1}\nvehicles a picture instead of {plain:.1}.",
            strip.region.name
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use vehiclecount_core::region::{Detail, Levels, Region};

    #[test]
    fn proposal_is_told_in_words_of_the_regions_file() {
        let mut region = Region::new("far".to_owned(), vec![], Levels::default());
        region.detail = Detail::Times(2.0);
        let settings = Regions {
            regions: vec![region],
            input_scale: "large".parse().unwrap(),
            scale_factor: Some(1.25),
            ..Regions::default()
        };
        let said = described(&settings);
        assert_eq!(said, "input-scale large, detail \"far\" up to 2 times, scale-factor 1.25");
        let said = described(&Regions::default());
        assert_eq!(said, "input-scale normal, detail none, scale-factor 1");
    }
}
