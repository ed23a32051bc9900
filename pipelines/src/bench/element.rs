//! The element: pipelines of cameras whose next frame is there at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::engine::Engine;
use vehiclecount_core::preprocess::InputChoice;
use vehiclecount_core::preset::Preset;

use super::figure::{Figure, Section, Spread, Subject};
use super::rate::{LEAD, Rate, rate};
use super::turns::{self, Contender, Turns};
use super::{Bench, Options, bare};

/// Frames that go through the element one at a time, for its latency.
const SINGLE_FRAMES: usize = 100;

/// How long one frame may take before something is broken.
const BOUND: Duration = Duration::from_secs(30);

/// A pipeline of cameras that have the next frame at once. It stands still in PAUSED while others
/// are measured.
pub(super) struct Run {
    pipeline: gst::Pipeline,
    counter: gst::Element,
    counted: Arc<AtomicU64>,
}

/// What a [`Run`] is made of.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    /// What all sections measure with.
    pub bench: &'a Bench<'a>,
    /// The engine of the counter.
    pub engine: &'a str,
    /// The input size.
    pub input: InputChoice,
    /// Elements behind the counter, in the notation of gst-launch-1.0; none: "".
    pub behind: &'a str,
    /// Whether only frames with a count of their own count.
    pub reads: bool,
}

impl<'a> Setup<'a> {
    pub fn of(bench: &'a Bench<'a>) -> Self {
        let input = bench.compared().0;
        Self { bench, engine: &bench.options.engine, input, behind: "", reads: true }
    }

    fn counter(&self) -> Result<gst::Element> {
        counter(self.bench.options, self.engine, &self.input.to_string())
    }
}

/// A counter as `options` say.
pub(super) fn counter(options: &Options, engine: &str, input: &str) -> Result<gst::Element> {
    gst::ElementFactory::make("vehiclecounter")
        .property_if("model", &options.model, !options.model.is_empty())
        .property_from_str("engine", engine)
        .property_from_str("preset", options.preset.map_or("none", Preset::name))
        .property("input-size", input)
        .property_if("batch-size", options.batch_size, options.batch_size > 0)
        .build()
        .context("the plugin is not loaded")
}

/// One camera of `pipeline`: frames that are pushed into it come out of the counter's source pad,
/// which is given back, and go through `behind`.
fn camera(
    pipeline: &gst::Pipeline,
    counter: &gst::Element,
    caps: &gst::Caps,
    behind: &str,
) -> Result<(gst_app::AppSrc, gst::Pad)> {
    let source = gst_app::AppSrc::builder()
        .caps(caps)
        .format(gst::Format::Time)
        .is_live(false)
        .block(true)
        .max_bytes(0)
        .max_buffers(2)
        .build();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
    pipeline.add_many([source.upcast_ref(), &sink])?;
    let entry = counter.request_pad_simple("sink_%u").context("the counter gives a pad")?;
    let exit = counter
        .static_pad(&entry.name().replace("sink", "src"))
        .context("each sink pad has its source pad")?;
    source.static_pad("src").context("an appsrc has a pad")?.link(&entry)?;
    let mut end = sink.static_pad("sink").context("a sink has a pad")?;
    if !behind.is_empty() {
        let bin = gst::parse::bin_from_description(behind, true)?;
        pipeline.add(&bin)?;
        bin.link(&sink)?;
        end = bin.static_pad("sink").context("a filter has a sink pad")?;
    }
    exit.link(&end)?;
    Ok((source, exit))
}

fn stamped(frame: &gst::Buffer, number: u64) -> gst::Buffer {
    // The memory is shared, the header is a new one.
    let mut frame = frame.copy();
    let header = frame.make_mut();
    header.set_pts(number * gst::ClockTime::from_mseconds(40));
    header.set_duration(gst::ClockTime::from_mseconds(40));
    frame
}

/// Waits until the pipeline has reached the state that it was told to go to.
pub(super) fn reached(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    if pipeline.state(gst::ClockTime::from_seconds(60)).0.is_ok() {
        return Ok(());
    }
    match bus.pop_filtered(&[gst::MessageType::Error]).as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
        _ => bail!("the pipeline does not start"),
    }
}

impl Run {
    pub fn start(setup: Setup<'_>, cameras: u32) -> Result<Self> {
        let Bench { caps, frames, .. } = setup.bench;
        let pipeline = gst::Pipeline::new();
        let counter = setup.counter()?;
        pipeline.add(&counter)?;
        let counted = Arc::new(AtomicU64::new(0));
        for index in 0..cameras as usize {
            let (source, exit) = camera(&pipeline, &counter, caps, setup.behind)?;
            let (seen, reads) = (counted.clone(), setup.reads);
            exit.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let fresh = !reads
                    || info
                        .buffer()
                        .and_then(|buffer| meta::count::read(buffer))
                        .is_some_and(|report| !report.stale);
                seen.fetch_add(u64::from(fresh), Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
            let frames = frames.clone();
            // Ends when the pipeline does: the source then refuses the next frame.
            thread::spawn(move || {
                (0..).try_for_each(|number| {
                    source
                        .push_buffer(stamped(
                            &frames[(number as usize + index) % frames.len()],
                            number,
                        ))
                        .map(drop)
                })
            });
        }
        let _ = pipeline.set_state(gst::State::Paused);
        reached(&pipeline)?;
        let run = Self { pipeline, counter, counted };
        run.settle();
        Ok(run)
    }

    pub fn measure(&self, window: Duration) -> Result<Rate> {
        self.while_playing(|| rate(&self.counted, window))
    }

    /// How much `total` grows with each frame.
    pub fn per_frame(&self, window: Duration, total: fn() -> u64) -> Result<f64> {
        self.while_playing(|| {
            thread::sleep(LEAD);
            let (before, frames) = (total(), self.counted.load(Ordering::Relaxed));
            thread::sleep(window);
            let frames = self.counted.load(Ordering::Relaxed) - frames;
            (total() - before) as f64 / frames.max(1) as f64
        })
    }

    fn while_playing<T>(&self, measure: impl FnOnce() -> T) -> Result<T> {
        let _ = self.pipeline.set_state(gst::State::Playing);
        reached(&self.pipeline)?;
        let rate = measure();
        let _ = self.pipeline.set_state(gst::State::Paused);
        reached(&self.pipeline)?;
        self.settle();
        Ok(rate)
    }

    /// Waits until the engine has nothing left to do: a pipeline that stands still first fills the
    /// queues inside it.
    fn settle(&self) {
        let frames = || {
            self.counter
                .property::<gst::Structure>("statistics")
                .get::<u64>("batch-frames")
                .unwrap_or(0)
        };
        let mut before = u64::MAX;
        while frames() != before {
            before = frames();
            thread::sleep(LEAD * 2);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The element with each number of cameras, against the bare engine, at the input that it takes by
/// itself and at that which is compared; and one frame at a time.
pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let own = (bench.first, &bench.engine);
    let mut figures = beside_engine(bench, own)?;
    let compared = bench.compared();
    if compared.1.info().input != own.1.info().input {
        figures.extend(beside_engine(bench, compared)?);
    }
    let size = Some((bench.options.width, bench.options.height));
    let (total, own) = single(bench)?;
    let added: Vec<f64> = total.iter().zip(&own).map(|(total, own)| total - own).collect();
    for (name, seconds) in [("through the element", total), ("added to the engine", added)] {
        let milliseconds: Vec<f64> = seconds.iter().map(|seconds| seconds * 1e3).collect();
        let Some(spread) = Spread::of(&milliseconds) else { continue };
        figures.push(Figure {
            section: Section::Element,
            name: format!("one frame at a time, {name}"),
            subject: Subject { size, ..Default::default() },
            unit: "ms".to_owned(),
            spread,
            processor_ms: None,
            ratio: None,
        });
    }
    Ok(figures)
}

/// The element at one input with each number of cameras, the bare engine before and after each.
fn beside_engine(
    bench: &Bench<'_>,
    (choice, engine): (InputChoice, &Arc<dyn Engine>),
) -> Result<Vec<Figure>> {
    let setup = Setup { input: choice, ..Setup::of(bench) };
    let runs: Vec<(u32, Run)> = bench
        .options
        .cameras
        .iter()
        .map(|&cameras| Ok((cameras, Run::start(setup, cameras)?)))
        .collect::<Result<_>>()?;
    let input = engine.info().input;
    let mut contenders = vec![bare::contender(bench, engine, &choice.to_string())];
    for (cameras, run) in &runs {
        let s = if *cameras == 1 { "" } else { "s" };
        contenders.push(Contender {
            name: format!("vehiclecounter, {cameras} camera{s}, {input}"),
            subject: Subject {
                cameras: Some(*cameras),
                size: Some((bench.options.width, bench.options.height)),
                input: Some(input.to_string()),
                ..Default::default()
            },
            unit: "frames/s",
            measure: Box::new(|| Ok(run.measure(bench.window)?.into())),
        });
    }
    turns::take(Section::Element, bench.options.rounds, Turns::FirstBetween, &mut contenders)
}

/// Seconds through the element and seconds of inference, with one frame in it at a time.
fn single(bench: &Bench<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let Bench { caps, frames, .. } = bench;
    let pipeline = gst::Pipeline::new();
    let counter = Setup::of(bench).counter()?;
    pipeline.add(&counter)?;
    let (source, exit) = camera(&pipeline, &counter, caps, "")?;
    // The clock starts at the element's own pad: what the source takes is not the element's.
    let (come, gone) = (mpsc::channel(), mpsc::channel());
    let sender = come.0;
    let entry = counter.static_pad("sink_0").context("the camera has its pad")?;
    entry.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let _ = sender.send(Instant::now());
        gst::PadProbeReturn::Ok
    });
    let sender = gone.0;
    exit.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let report = info.buffer().and_then(|buffer| meta::count::read(buffer));
        let _ = sender.send((Instant::now(), report.map_or(0, |report| report.inference_time)));
        gst::PadProbeReturn::Ok
    });
    let _ = pipeline.set_state(gst::State::Playing);
    let (mut totals, mut own) = (Vec::new(), Vec::new());
    for number in 0..SINGLE_FRAMES + 10 {
        source
            .push_buffer(stamped(&frames[number % frames.len()], number as u64))
            .context("the pipeline does not run")?;
        let begin = come.1.recv_timeout(BOUND).context("no frame comes to the counter")?;
        let (end, inference) =
            gone.1.recv_timeout(BOUND).context("a frame does not come out of the counter")?;
        // The first ones warm up.
        if number >= 10 {
            totals.push((end - begin).as_secs_f64());
            own.push(inference as f64 / 1e9);
        }
    }
    pipeline.set_state(gst::State::Null)?;
    Ok((totals, own))
}
