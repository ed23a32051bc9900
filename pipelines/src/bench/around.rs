//! What is behind the counter: the overlay and the publisher; and what surrounds it, memory and
//! allocations.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result};
use vehiclecount_core::engine::{Engine, Slot};
use vehiclecount_core::preprocess::Preprocessor;

use super::Bench;
use super::element::{Run, Setup};
use super::figure::{Figure, Section, Spread, Subject};
use super::turns::{self, Contender, Turns};

/// Cameras whose counts are drawn or published.
const CAMERAS: u32 = 4;

/// Frames through the counter with the scripted engine, which takes no time, and through what
/// follows it.
fn behind(bench: &Bench<'_>, section: Section, name: &str, element: &str) -> Result<Vec<Figure>> {
    let plain = Setup { engine: "scripted", behind: "", ..Setup::of(bench) };
    let more = Setup { behind: element, ..plain };
    let (plain, more) = (Run::start(plain, CAMERAS)?, Run::start(more, CAMERAS)?);
    let contender = |name: &str, run| Contender {
        name: name.to_owned(),
        subject: Subject {
            cameras: Some(CAMERAS),
            size: Some((bench.options.width, bench.options.height)),
            ..Default::default()
        },
        unit: "frames/s",
        measure: Box::new(move || Ok(Run::measure(run, bench.window)?.into())),
    };
    let mut contenders = [contender("without", &plain), contender(name, &more)];
    let mut figures =
        turns::take(section, bench.options.rounds, Turns::FirstBetween, &mut contenders)?;
    if let [Some(without), Some(with)] = [figures[0].processor_ms, figures[1].processor_ms] {
        let mut cost = figures[1].clone();
        let cost_ms = (with - without).max(0.0);
        cost.name = format!("{name}, added processor time of a frame");
        cost.unit = "ms".to_owned();
        cost.spread = Spread::single(cost_ms);
        (cost.processor_ms, cost.ratio) = (None, None);
        figures.push(cost);
    }
    Ok(figures)
}

/// What it takes to draw counts on the picture.
pub(super) fn overlay(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    behind(bench, Section::Overlay, "vehiclecountoverlay", "vehiclecountoverlay")
}

/// What it takes to write a line of JSON for each frame.
pub(super) fn publish(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("counts.jsonl");
    let element = format!("vehiclecountpublish location=\"{}\"", file.display());
    behind(bench, Section::Publish, "vehiclecountpublish", &element)
}

/// Megabytes that the process holds in memory; `None` where the system does not say.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// What the process grows by with each camera whose pictures are all in memory already, at the
/// input that is compared and at that which the element takes by itself.
pub(super) fn memory(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let compared = Setup::of(bench);
    let own = Setup { input: bench.first, ..compared };
    let mut figures = vec![further(bench, compared, bench.compared().1)?];
    if own.input != compared.input {
        figures.push(further(bench, own, &bench.engine)?);
    }
    Ok(figures)
}

fn further(bench: &Bench<'_>, setup: Setup<'_>, engine: &Arc<dyn Engine>) -> Result<Figure> {
    let many = if bench.options.quick { 4 } else { 64 };
    let held = || resident().context("the system does not say how much memory a process holds");
    // The engine is opened and the first frames are counted.
    let few = Run::start(setup, 4)?;
    few.measure(bench.window)?;
    let before = held()?;
    let more = Run::start(setup, many)?;
    more.measure(bench.window.max(std::time::Duration::from_secs(1)))?;
    let each = (held()? - before).max(0.0) / f64::from(many);
    let input = engine.info().input;
    Ok(Figure {
        section: Section::Memory,
        name: format!("a further camera, of {many}, {input}"),
        subject: Subject {
            cameras: Some(many),
            size: Some((bench.options.width, bench.options.height)),
            input: Some(input.to_string()),
            ..Default::default()
        },
        unit: "MB".to_owned(),
        spread: Spread::single(each),
        processor_ms: None,
        ratio: None,
    })
}

/// How often Rust code allocates for a frame, by the count of `allocated`.
pub(super) fn allocations(bench: &Bench<'_>, allocated: fn() -> u64) -> Result<Vec<Figure>> {
    let figure = |name: &str, per_frame: f64| Figure {
        section: Section::Allocations,
        name: name.to_owned(),
        subject: Subject::default(),
        unit: "allocations".to_owned(),
        spread: Spread::single(per_frame),
        processor_ms: None,
        ratio: None,
    };
    let mut figures = Vec::new();

    const FRAMES: u32 = 20;
    let batches = &bench.batches;
    let resize = bench.model.manifest.input.resize;
    let mut preprocessor = Preprocessor::new(batches.format(), resize, bench.engine.info().input);
    let mut slots = [Slot::best_for(&*bench.engine)];
    if slots[0].input.picture_mut().is_none() {
        let mut lane = bench.engine.lane()?;
        let mut before = 0;
        for frame in 0..2 * FRAMES {
            // The first ones are still to find their room.
            if frame == FRAMES {
                before = allocated();
            }
            batches.view(0, |view| {
                slots[0].input.preprocess(&mut preprocessor, view);
                Ok(())
            })?;
            lane.infer(black_box(&mut slots))?;
        }
        let each = (allocated() - before) as f64 / f64::from(FRAMES);
        figures.push(figure("preprocess and engine", each));
    }

    let run = Run::start(Setup { reads: false, ..Setup::of(bench) }, 4)?;
    run.measure(bench.window)?;
    let each = run.per_frame(bench.window, allocated)?;
    figures.push(figure("element, its probe and its source included", each));
    Ok(figures)
}
