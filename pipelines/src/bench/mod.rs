//! `vehicle-count bench`: what this machine can count, and what the counter costs beside the engine
//! and the decoder inside it.
//!
//! Whatever is compared takes turns within one run, so that all see the same machine; the ratios
//! are the result. A part of the bench is a [`Section`], which gives [`Figure`]s.

mod around;
mod bare;
mod cameras;
mod clips;
mod element;
mod figure;
mod files;
mod goals;
mod limit;
mod peers;
mod preprocess;
mod rate;
mod service;
mod turns;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use gst::prelude::*;
use vehiclecount_core::engine::{self, Device, Engine, EngineKind, EngineRequest};
use vehiclecount_core::frame::FrameFormat;
use vehiclecount_core::machine::{self, Machine};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputChoice, InputSize, Placement};
use vehiclecount_core::preset::Preset;
use vehiclecount_core::tensorrt::Precision;

use bare::Prepared;
pub use clips::Codec;
use clips::{Clip, Kind};
pub use figure::{EngineFigures, Figure, Ratio, Report, SCHEMA, Section, Spread, Subject};
pub use goals::Goal;
pub use peers::Peers;
pub use preprocess::Resizer;
pub(crate) use rate::median;

use crate::preset::Given;
use crate::table::say;

/// Options of `vehicle-count bench`.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Sections to measure, separated by commas (all by default)
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<Section>,
    /// File to write all figures to, as JSON; `vehicle-count plan` reads it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show in under two minutes that all works: small clips, one short round
    #[arg(long)]
    quick: bool,
    /// Video files to count in section `files` instead of simulated traffic, each a camera
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    input: Vec<PathBuf>,
    /// Numbers of cameras to try in section `element`
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64", value_parser = clap::value_parser!(u32).range(1..=256))]
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
    /// Width in pixels of the frames of section `element`
    #[arg(long, default_value_t = 1280, value_parser = clap::value_parser!(u32).range(16..=8192))]
    width: u32,
    /// Height in pixels of the frames of section `element`
    #[arg(long, default_value_t = 720, value_parser = clap::value_parser!(u32).range(16..=8192))]
    height: u32,
    /// Sizes of the model's input, separated by commas: auto, auto:SIDE or WxH (where nothing is
    /// given: the preset's or auto, 384x224 and 384x384). Through the element goes the first; the
    /// bare engine and files are compared at all of them
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    input_size: Vec<InputChoice>,
    /// Seconds of a measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements of each kind, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Count these files once and print how long that took: what section `files` runs
    #[arg(long, num_args = 1.., value_name = "CLIP", hide = true)]
    once: Vec<PathBuf>,
}

/// What only the bench of the source tree has.
#[derive(Clone, Default)]
pub struct Extras {
    /// Allocations of the whole process since its start.
    pub allocations: Option<fn() -> u64>,
    /// Another library's resize of the planes of pictures, to the size of the placement.
    pub planes: Option<fn(FrameFormat, Placement) -> Resizer>,
    /// Other programs that do the same.
    pub peers: Option<Peers>,
}

/// Different frames, so that no cache holds all of them.
const FRAMES: u32 = 24;

/// Sizes of pictures that are compared.
const SIZES: [(u32, u32); 2] = [(1280, 720), (1920, 1080)];

/// What all sections measure with.
struct Bench<'a> {
    options: &'a Options,
    extras: &'a Extras,
    window: Duration,
    model: Arc<Model>,
    /// The input size that the element takes, and the engine that runs at it.
    first: InputChoice,
    engine: Arc<dyn Engine>,
    others: Vec<(InputChoice, Arc<dyn Engine>)>,
    /// Frames in memory, and as the engine takes them.
    caps: gst::Caps,
    frames: Vec<gst::Buffer>,
    batches: Prepared,
    /// Width and height of the pictures in clips.
    camera: (u32, u32),
    /// Codecs that can be made and read here.
    codecs: Vec<Codec>,
}

impl Bench<'_> {
    fn all_engines(&self) -> impl Iterator<Item = (InputChoice, &Arc<dyn Engine>)> {
        let others = self.others.iter().map(|(choice, engine)| (*choice, engine));
        [(self.first, &self.engine)].into_iter().chain(others)
    }

    /// The input at which the element is compared: that of the goals, unless others were asked for.
    fn compared(&self) -> (InputChoice, &Arc<dyn Engine>) {
        let is_wide =
            |(_, engine): &(_, &Arc<dyn Engine>)| engine.info().input.to_string() == goals::WIDE;
        self.all_engines().find(is_wide).unwrap_or((self.first, &self.engine))
    }

    fn first_input(&self) -> InputSize {
        self.engine.info().input
    }

    /// How many clips or cameras are there at a time.
    fn streams(&self) -> usize {
        if self.options.quick { 1 } else { 4 }
    }

    /// As many clips of simulated traffic.
    fn clips(&self, codec: Codec, (width, height): (u32, u32)) -> Result<Vec<Clip>> {
        let frames = if self.options.quick { 50 } else { 200 };
        Kind { codec, width, height, frames }.clips(self.streams())
    }
}

/// The command `vehicle-count`, which the bench starts: this process's own file, or its neighbour.
fn program() -> Result<PathBuf> {
    let own = env::current_exe().context("the system does not say where this program lies")?;
    let program = own.with_file_name("vehicle-count");
    anyhow::ensure!(program.is_file(), "{}: there is no such program", program.display());
    Ok(program)
}

/// Measures and prints.
///
/// # Errors
/// What cannot be measured.
pub fn run(options: &Options) -> Result<()> {
    run_with(options, &Extras::default())
}

/// As [`run`], with more to compare with.
///
/// # Errors
/// As there.
pub fn run_with(options: &Options, extras: &Extras) -> Result<()> {
    if !options.once.is_empty() {
        return files::once(options, &options.once);
    }
    let report = measure(options, extras)?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
        say(format_args!("\nall figures as JSON: {}", path.display()));
    }
    Ok(())
}

/// Measures what `options` say; prints each section as soon as it is measured.
///
/// # Errors
/// What cannot be measured.
pub fn measure(options: &Options, extras: &Extras) -> Result<Report> {
    let mut options = options.clone();
    anyhow::ensure!(
        options.seconds > 0.0 && options.seconds < 3600.0,
        "--seconds {}: between 0 and 3600",
        options.seconds
    );
    if options.quick {
        (options.seconds, options.rounds) = (options.seconds.min(0.2), 1);
        options.cameras = vec![1, 2];
    }
    let precision = settle(&mut options)?;
    let before = figure::load();
    let (bench, mut report) = open(&options, precision, extras)?;
    report.load.0 = before;
    for section in <Section as clap::ValueEnum>::value_variants() {
        if !options.only.is_empty() && !options.only.contains(section) {
            continue;
        }
        let figures = section_of(&bench, *section, &mut report.left_out)?;
        if !figures.is_empty() {
            say(figure::table(*section, &figures).trim_end());
        }
        report.figures.extend(figures);
    }
    report.load.1 = figure::load();
    if !options.quick {
        report.goals = goals::goals(&report.figures);
    }
    if !report.goals.is_empty() {
        say(goals::table(&report.goals).trim_end());
    }
    for left in &report.left_out {
        say(format_args!("\nleft out: {left}"));
    }
    Ok(report)
}

/// Puts what a preset chooses where nothing was given; gives the precision that it chooses.
fn settle(options: &mut Options) -> Result<Precision> {
    let given = Given {
        model: options.model.clone(),
        input: options.input_size.first().copied(),
        engine: options.engine.parse()?,
        gpu: 0,
    };
    let taken = given.with(options.preset)?;
    options.model = taken.model;
    if options.batch_size == 0 {
        options.batch_size = taken.batch_size as u32;
    }
    if options.input_size.is_empty() {
        options.input_size = vec![taken.input];
        for size in [goals::WIDE, goals::SQUARE] {
            options.input_size.extend(size.parse::<InputChoice>());
        }
    }
    Ok(taken.precision)
}

fn section_of(
    bench: &Bench<'_>,
    section: Section,
    left_out: &mut Vec<String>,
) -> Result<Vec<Figure>> {
    let needs_clips = match section {
        Section::Rtsp | Section::Rate => true,
        Section::Files => bench.options.input.is_empty(),
        _ => false,
    };
    if needs_clips && !bench.codecs.contains(&Codec::H264) {
        left_out.push(format!("section {section:?}, for want of clips of H.264"));
        return Ok(Vec::new());
    }
    let measured = match section {
        Section::Limit => limit::measure(bench),
        Section::Element => element::measure(bench),
        Section::Preprocess => preprocess::measure(bench),
        Section::Files => files::measure(bench),
        Section::Rtsp => service::rtsp(bench),
        Section::Rate => service::rate(bench),
        Section::Memory => around::memory(bench),
        Section::Allocations => match bench.extras.allocations {
            Some(allocated) => around::allocations(bench, allocated),
            None => {
                left_out.push("allocations: ./run bench in the source tree counts them".into());
                Ok(Vec::new())
            }
        },
        Section::Overlay => around::overlay(bench),
        Section::Publish => around::publish(bench),
    };
    measured.with_context(|| format!("section {section:?}"))
}

/// Opens the engine at all sizes and makes the frames.
fn open<'a>(
    options: &'a Options,
    precision: Precision,
    extras: &'a Extras,
) -> Result<(Bench<'a>, Report)> {
    let (caps, frames) = frames(options.width, options.height)?;
    let kind: EngineKind = options.engine.parse()?;
    anyhow::ensure!(
        kind != EngineKind::Scripted,
        "the scripted engine has no speed: name another one"
    );
    let model = Arc::new(Model::open(&options.model, &model::folders())?);
    let request = EngineRequest {
        max_batch: options.batch_size as usize,
        name: "bench".to_owned(),
        precision,
        ..EngineRequest::new(kind, model.clone())
    };
    // At the size that the element takes for such frames.
    let size = |choice: InputChoice| {
        let shapes = model.input_shapes(choice)?;
        anyhow::Ok(shapes.fit(options.width as usize, options.height as usize))
    };
    let (first, others) = options.input_size.split_first().context("--input-size names none")?;
    let engine = engine::open(&request.clone().at(size(*first)?))?.engine;
    let mut opened: Vec<(InputChoice, Arc<dyn Engine>)> = Vec::new();
    for &choice in others {
        let input = size(choice)?;
        let held = |other: &Arc<dyn Engine>| other.info().input == input;
        if held(&engine) || opened.iter().any(|(_, other)| held(other)) {
            continue;
        }
        let request = request.clone().at(input).as_opened(engine.info());
        opened.push((choice, engine::open(&request)?.engine));
    }
    let info = engine.info().clone();
    let (processor, processors) = (machine::processor(), Machine::here().processors);
    // What the element takes, too.
    let batch = request.batch_on(info.kind.device().unwrap_or(Device::Cpu));
    say(format_args!(
        "{} {} on {}, {} {} at {}, {} lane(s), batches of up to {}, frames of {}x{} I420",
        info.kind,
        info.version,
        info.device,
        info.model,
        info.precision,
        info.input,
        info.lanes,
        batch,
        options.width,
        options.height
    ));
    say(format_args!(
        "{processors} processors of {processor}, load {:.1}, {} round(s) of {} s in turns",
        figure::load(),
        options.rounds,
        options.seconds
    ));

    let (mut codecs, mut left_out) = (Vec::new(), Vec::new());
    for codec in [Codec::H264, Codec::H265] {
        match codec.missing() {
            None => codecs.push(codec),
            Some(element) => left_out
                .push(format!("{}: the GStreamer element {element} is missing", codec.title())),
        }
    }
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: crate::models::today(),
        machine: processor.to_owned(),
        processors,
        load: (0.0, 0.0),
        quick: options.quick,
        rounds: options.rounds,
        seconds: options.seconds,
        engine: EngineFigures {
            kind: info.kind.name().to_owned(),
            version: info.version.clone(),
            device: info.device.clone(),
            model: format!("{} {}", model.manifest.name, model.manifest.version),
            precision: info.precision.clone(),
            lanes: info.lanes,
            batch,
        },
        figures: Vec::new(),
        left_out,
        goals: Vec::new(),
    };
    let batches = Prepared::new(&model, &caps, &frames, batch)?;
    let bench = Bench {
        options,
        extras,
        window: Duration::from_secs_f64(options.seconds),
        model,
        first: *first,
        engine,
        others: opened,
        caps,
        frames,
        batches,
        camera: if options.quick { (320, 180) } else { (1280, 720) },
        codecs,
    };
    Ok((bench, report))
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
