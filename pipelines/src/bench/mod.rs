//! `vehicle-count bench`: what the element costs beside the engine inside it.
//!
//! The bare engine and the element take turns within one run, so that both see the same machine;
//! the ratio is the result. Frames lie decoded in memory.

mod bare;
mod element;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bare::Prepared;
use element::{Run, SINGLE_FRAMES, single};
use gst::prelude::*;
use rate::Rate;
pub(crate) use rate::median;
use vehiclecount_core::engine::{self, Device, EngineKind, EngineRequest};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::InputChoice;
use vehiclecount_core::preset::Preset;

use crate::preset::Given;

/// Options of `vehicle-count bench`.
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of cameras to try
    #[arg(long, value_delimiter = ',', default_value = "1,4,16", value_parser = clap::value_parser!(u32).range(1..=256))]
    cameras: Vec<u32>,
    /// Need
    #[arg(long, help = crate::preset::help())]
    preset: Option<Preset>,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Engine
    #[arg(
        long,
        default_value = "auto",
        help = format!("Engine: auto, {}", crate::engine::networks())
    )]
    engine: String,
    /// Largest batch (0: 1 on a processor, 16 on a GPU, as the element takes it)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    batch_size: u32,
    /// Width of the frames in pixels
    #[arg(long, default_value_t = 1280, value_parser = clap::value_parser!(u32).range(16..=8192))]
    width: u32,
    /// Height of the frames in pixels
    #[arg(long, default_value_t = 720, value_parser = clap::value_parser!(u32).range(16..=8192))]
    height: u32,
    /// Sizes of the model's input, separated by commas: auto (where nothing is given), auto:SIDE or
    /// WxH. Through the element goes the first; the bare engine is compared at all of them
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    input_size: Vec<InputChoice>,
    /// Seconds of a measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements of each kind, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Different frames, so that no cache holds all of them.
const FRAMES: u32 = 24;

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    anyhow::ensure!(
        options.seconds > 0.0 && options.seconds < 3600.0,
        "--seconds {}: between 0 and 3600",
        options.seconds
    );
    let window = Duration::from_secs_f64(options.seconds);
    let (caps, frames) = frames(options.width, options.height)?;
    let kind: EngineKind = options.engine.parse()?;
    anyhow::ensure!(
        kind != EngineKind::Scripted,
        "the scripted engine has no speed: name another one"
    );
    let given = Given {
        model: options.model.clone(),
        input: options.input_size.first().copied(),
        engine: kind,
        gpu: 0,
    };
    let taken = given.with(options.preset)?;
    let model = Arc::new(Model::open(&taken.model, &model::folders())?);
    let max_batch = match options.batch_size {
        0 => taken.batch_size,
        size => size as usize,
    };
    let request = EngineRequest {
        max_batch,
        name: "bench".to_owned(),
        precision: taken.precision,
        ..EngineRequest::new(kind, model.clone())
    };
    // At the size that the element takes for such frames.
    let size = |choice: InputChoice| {
        let shapes = model.input_shapes(choice)?;
        anyhow::Ok(shapes.fit(options.width as usize, options.height as usize))
    };
    let engine = engine::open(&request.clone().at(size(taken.input)?))?.engine;
    let others: Vec<_> = options
        .input_size
        .iter()
        .skip(1)
        .map(|&choice| {
            let request = request.clone().at(size(choice)?).as_opened(engine.info());
            anyhow::Ok((choice, engine::open(&request)?.engine))
        })
        .collect::<Result<_>>()?;
    let info = engine.info().clone();
    // What the element takes, too.
    let batch = request.batch_on(info.kind.device().unwrap_or(Device::Cpu));
    println!(
        "{} {} on {}, {} {} at {}x{}, {} lane(s), batches of up to {}, frames of {}x{} I420",
        info.kind,
        info.version,
        info.device,
        info.model,
        info.precision,
        info.input.width,
        info.input.height,
        info.lanes,
        batch,
        options.width,
        options.height
    );

    let batches = Prepared::new(&model, &caps, &frames, batch)?;
    let added = single(options, &caps, &frames)?;
    let runs: Vec<Run> = options
        .cameras
        .iter()
        .map(|&cameras| Run::start(options, cameras, &caps, &frames))
        .collect::<Result<_>>()?;

    // Bare before and after each element, so that a machine that grows slower or faster does not
    // favour one of them.
    let mut bare = vec![bare::bare(&engine, &batches, window)?];
    let mut sizes: Vec<(Vec<Rate>, Vec<f64>)> = vec![Default::default(); others.len()];
    let mut through: Vec<Vec<Rate>> = vec![Vec::new(); runs.len()];
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); runs.len()];
    for _ in 0..options.rounds {
        for (index, run) in runs.iter().enumerate() {
            let rate = run.measure(window)?;
            let after = bare::bare(&engine, &batches, window)?;
            let before = *bare.last().context("it was measured before")?;
            bare.push(after);
            through[index].push(rate);
            ratios[index].push(rate.frames / ((before.frames + after.frames) / 2.0));
        }
        for ((_, other), (rates, ratios)) in others.iter().zip(&mut sizes) {
            let rate = bare::bare(other, &batches, window)?;
            let after = bare::bare(&engine, &batches, window)?;
            let before = *bare.last().context("it was measured before")?;
            bare.push(after);
            rates.push(rate);
            ratios.push(rate.frames / ((before.frames + after.frames) / 2.0));
        }
    }
    let frames =
        |rates: &[Rate]| median(&mut rates.iter().map(|rate| rate.frames).collect::<Vec<_>>());
    let processor =
        |rates: &[Rate]| median(&mut rates.iter().map(|rate| rate.processor).collect::<Vec<_>>());
    let own = processor(&bare);
    println!(
        "\n  {:<26}  {:>8}  {:>6}  {:>15}  {:>12}  {:>6}",
        "", "frames/s", "ratio", "lowest, highest", "CPU ms/frame", "ratio"
    );
    println!(
        "  {:<26}  {:>8.1}  {:>6}  {:>15}  {:>12.2}  {:>6}",
        "bare engine",
        frames(&bare),
        1,
        "",
        own * 1e3,
        1
    );
    let row = |name: &str, rates: &[Rate], ratios: &mut [f64]| {
        let ratio = median(ratios);
        let range = format!("{:.3}, {:.3}", ratios[0], ratios[ratios.len() - 1]);
        let busy = processor(rates);
        println!(
            "  {name:<26}  {:>8.1}  {ratio:>6.3}  {range:>15}  {:>12.2}  {:>6.3}",
            frames(rates),
            busy * 1e3,
            own / busy.max(1e-9)
        );
    };
    for ((choice, other), (rates, ratios)) in others.iter().zip(&mut sizes) {
        let input = other.info().input;
        let name = match choice {
            InputChoice::Fixed(_) => format!("bare engine, {input}"),
            InputChoice::Auto(_) => format!("bare engine, {choice}: {input}"),
        };
        row(&name, rates, ratios);
    }
    for ((cameras, through), ratios) in options.cameras.iter().zip(&through).zip(&mut ratios) {
        let name =
            format!("vehiclecounter, {cameras} camera{}", if *cameras == 1 { "" } else { "s" });
        row(&name, through, ratios);
    }
    let (total, own) = added;
    println!(
        "\n  one frame at a time: {:.2} ms through the element, of which {:.2} ms are the engine's: {:.2} ms added (medians of {SINGLE_FRAMES})",
        total * 1e3,
        own * 1e3,
        (total - own) * 1e3
    );
    println!(
        "  the ratio is of the median turn; {} turns of {} s each, interleaved",
        options.rounds, options.seconds
    );
    Ok(())
}

/// Simulated traffic, decoded, in memory.
fn frames(width: u32, height: u32) -> Result<(gst::Caps, Vec<gst::Buffer>)> {
    let pipeline = gst::parse::launch(&format!(
        "vehicletestsrc num-buffers={FRAMES} seed=7 ! video/x-raw,format=I420,width={width},height={height},framerate=2/1 \
         ! appsink name=out sync=false max-buffers={FRAMES}"
    ))?
    .downcast::<gst::Pipeline>()
    .ok()
    .context("a pipeline")?;
    let out = pipeline
        .by_name("out")
        .and_downcast::<gst_app::AppSink>()
        .context("the pipeline has an appsink")?;
    pipeline.set_state(gst::State::Playing).context("the simulated camera does not start")?;
    let mut frames = Vec::new();
    let mut caps = None;
    while let Some(sample) = out.try_pull_sample(gst::ClockTime::from_seconds(30)) {
        caps = sample.caps_owned();
        frames.extend(sample.buffer_owned());
    }
    pipeline.set_state(gst::State::Null)?;
    let caps = caps.context("the simulated camera gave no frames")?;
    Ok((caps, frames))
}
