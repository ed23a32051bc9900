//! `vehicle-count bench`: what the element costs beside the engine inside it.
//!
//! The bare engine and the element take turns within one run, so that both see the same machine;
//! the ratio is the result. Frames lie decoded in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::engine::{self, Device, Engine, EngineKind, EngineRequest, Slot};
use vehiclecount_core::frame::{ColorRange, FrameFormat, FrameView, PixelFormat, Plane};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{Placement, Preprocessor};

/// Options of `vehicle-count bench`.
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of cameras to try
    #[arg(long, value_delimiter = ',', default_value = "1,4,16", value_parser = clap::value_parser!(u32).range(1..=256))]
    cameras: Vec<u32>,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Engine
    #[arg(long, default_value = "auto", help = format!("Engine: auto, {}", crate::engine::networks()))]
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
    /// Seconds of a measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements of each kind, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Before each measurement: what waited meanwhile has gone, and the caches are warm.
const LEAD: Duration = Duration::from_millis(300);

/// Different frames, so that no cache holds all of them.
const FRAMES: u32 = 24;

/// Frames that go through the element one at a time, for its latency.
const SINGLE_FRAMES: usize = 100;

/// How long one frame may take before something is broken.
const BOUND: Duration = Duration::from_secs(30);

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
    let model = Arc::new(Model::open(&options.model, &model::folders())?);
    let request = EngineRequest {
        max_batch: options.batch_size as usize,
        name: "bench".to_owned(),
        ..EngineRequest::new(kind, model.clone())
    };
    let engine = engine::open(&request)?.engine;
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
    let mut bare = vec![self::bare(&engine, &batches, window)?];
    let mut through: Vec<Vec<Rate>> = vec![Vec::new(); runs.len()];
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); runs.len()];
    for _ in 0..options.rounds {
        for (index, run) in runs.iter().enumerate() {
            let rate = run.measure(window)?;
            let after = self::bare(&engine, &batches, window)?;
            let before = *bare.last().context("it was measured before")?;
            bare.push(after);
            through[index].push(rate);
            ratios[index].push(rate.frames / ((before.frames + after.frames) / 2.0));
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
    for ((cameras, through), ratios) in options.cameras.iter().zip(&through).zip(&mut ratios) {
        let ratio = median(ratios);
        let name =
            format!("vehiclecounter, {cameras} camera{}", if *cameras == 1 { "" } else { "s" });
        let range = format!("{:.3}, {:.3}", ratios[0], ratios[ratios.len() - 1]);
        let busy = processor(through);
        println!(
            "  {name:<26}  {:>8.1}  {ratio:>6.3}  {range:>15}  {:>12.2}  {:>6.3}",
            frames(through),
            busy * 1e3,
            own / busy.max(1e-9)
        );
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

/// Sorts, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
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

/// The frames in batches, as the engine takes them from the element: staged pictures for one that
/// preprocesses, else preprocessed inputs.
struct Prepared {
    model: Arc<Model>,
    video: gst_video::VideoInfo,
    format: FrameFormat,
    frames: Vec<gst::Buffer>,
    /// Which frames are in each batch.
    batches: Vec<Vec<usize>>,
}

impl Prepared {
    fn new(
        model: &Arc<Model>,
        caps: &gst::Caps,
        frames: &[gst::Buffer],
        batch: usize,
    ) -> Result<Self> {
        let video = gst_video::VideoInfo::from_caps(caps)?;
        let format = FrameFormat {
            range: ColorRange::Limited,
            ..FrameFormat::new(PixelFormat::I420, video.width() as usize, video.height() as usize)
        };
        let count = frames.len().div_ceil(batch);
        let batches = (0..count)
            .map(|first| (0..batch).map(|i| (first * batch + i) % frames.len()).collect())
            .collect();
        Ok(Self { model: model.clone(), video, format, frames: frames.to_vec(), batches })
    }

    /// Shows frame `index` to `read`.
    fn view<T>(&self, index: usize, read: impl FnOnce(&FrameView<'_>) -> Result<T>) -> Result<T> {
        let frame =
            gst_video::VideoFrameRef::from_buffer_ref_readable(&self.frames[index], &self.video)?;
        let planes: Vec<Plane<'_>> = (0..3)
            .map(|plane| {
                let stride = frame.plane_stride()[plane as usize] as usize;
                Ok(Plane { data: frame.plane_data(plane)?, stride })
            })
            .collect::<Result<_, glib::BoolError>>()?;
        read(&FrameView::new(self.format, &planes)?)
    }

    /// A slot for each frame of each batch, with its input where `engine` takes preprocessed ones.
    fn slots(&self, engine: &dyn Engine) -> Result<Vec<Vec<Slot>>> {
        let resize = self.model.manifest.input.resize;
        let mut preprocessor = Preprocessor::new(self.format, resize, engine.info().input);
        let mut all = Vec::new();
        for batch in &self.batches {
            let mut slots = Vec::new();
            for &index in batch {
                let mut slot = Slot::best_for(engine);
                if let Some(values) = slot.input.values_mut() {
                    self.view(index, |view| {
                        preprocessor.run(view, values);
                        Ok(())
                    })?;
                }
                slots.push(slot);
            }
            all.push(slots);
        }
        Ok(all)
    }

    /// Stages the pictures of batch `batch`, for an engine that takes these: it lets go of them
    /// after each run.
    fn stage(&self, engine: &dyn Engine, batch: usize, slots: &mut [Slot]) -> Result<()> {
        let (resize, input) = (self.model.manifest.input.resize, engine.info().input);
        let placement = Placement::new(resize, self.format.width, self.format.height, input);
        for (slot, &index) in slots.iter_mut().zip(&self.batches[batch]) {
            if let Some(picture) = slot.input.picture_mut() {
                self.view(index, |view| Ok(picture.stage(view, placement)?))?;
            }
        }
        Ok(())
    }
}

/// Frames a second of the engine alone, all its lanes at work.
fn bare(engine: &Arc<dyn Engine>, prepared: &Prepared, window: Duration) -> Result<Rate> {
    let (counted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..engine.info().lanes.max(1))
            .map(|_| {
                let mut lane = engine.lane()?;
                let mut batches = prepared.slots(&**engine)?;
                let (counted, over) = (&counted, &over);
                Ok(scope.spawn(move || {
                    for batch in (0..batches.len()).cycle() {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        prepared.stage(&**engine, batch, &mut batches[batch])?;
                        lane.infer(&mut batches[batch])?;
                        counted.fetch_add(batches[batch].len() as u64, Ordering::Relaxed);
                    }
                    Ok::<_, anyhow::Error>(())
                }))
            })
            .collect::<Result<_>>()?;
        let rate = rate(&counted, window);
        over.store(true, Ordering::Relaxed);
        for lane in lanes {
            match lane.join() {
                Ok(result) => result?,
                Err(_) => bail!("a lane panicked"),
            }
        }
        Ok(rate)
    })
}

/// What a measurement gives.
#[derive(Clone, Copy)]
struct Rate {
    /// Frames a second.
    frames: f64,
    /// Seconds of processor time a frame; what else runs on the machine hardly changes it.
    processor: f64,
}

/// How fast `counted` grows, and what that takes.
fn rate(counted: &AtomicU64, window: Duration) -> Rate {
    thread::sleep(LEAD);
    let (begin, before, busy) = (Instant::now(), counted.load(Ordering::Relaxed), processor_time());
    thread::sleep(window);
    let frames = (counted.load(Ordering::Relaxed) - before) as f64;
    Rate {
        frames: frames / begin.elapsed().as_secs_f64(),
        processor: (processor_time() - busy) / frames.max(1.0),
    }
}

/// Seconds that this process has kept processors busy; zero where the system does not say.
fn processor_time() -> f64 {
    // proc(5): user and system time are fields 14 and 15, in ticks, of which Linux has 100 a second
    // wherever it counts for users. The second field, the program's name in parentheses, may have
    // spaces inside.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// A pipeline of cameras that have the next frame at once. It stands still in PAUSED while others
/// are measured.
struct Run {
    pipeline: gst::Pipeline,
    counter: gst::Element,
    counted: Arc<AtomicU64>,
}

fn counter(options: &Options) -> Result<gst::Element> {
    gst::ElementFactory::make("vehiclecounter")
        .property("model", &options.model)
        .property_from_str("engine", &options.engine)
        .property("batch-size", options.batch_size)
        .build()
        .context("the plugin is not loaded")
}

/// One camera of `pipeline`: frames that are pushed into it come out of the counter's source pad,
/// which is given back.
fn camera(
    pipeline: &gst::Pipeline,
    counter: &gst::Element,
    caps: &gst::Caps,
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
    exit.link(&sink.static_pad("sink").context("a sink has a pad")?)?;
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
fn reached(pipeline: &gst::Pipeline) -> Result<()> {
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
    fn start(
        options: &Options,
        cameras: u32,
        caps: &gst::Caps,
        frames: &[gst::Buffer],
    ) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let counter = counter(options)?;
        pipeline.add(&counter)?;
        let counted = Arc::new(AtomicU64::new(0));
        for index in 0..cameras as usize {
            let (source, exit) = camera(&pipeline, &counter, caps)?;
            let seen = counted.clone();
            exit.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let fresh = info
                    .buffer()
                    .and_then(|buffer| meta::count::read(buffer))
                    .is_some_and(|report| !report.stale);
                seen.fetch_add(u64::from(fresh), Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
            let frames = frames.to_vec();
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

    fn measure(&self, window: Duration) -> Result<Rate> {
        let _ = self.pipeline.set_state(gst::State::Playing);
        reached(&self.pipeline)?;
        let rate = rate(&self.counted, window);
        let _ = self.pipeline.set_state(gst::State::Paused);
        reached(&self.pipeline)?;
        self.settle();
        Ok(rate)
    }
}

impl Run {
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

/// Seconds through the element and seconds of inference, medians, with one frame in it at a time.
fn single(options: &Options, caps: &gst::Caps, frames: &[gst::Buffer]) -> Result<(f64, f64)> {
    let pipeline = gst::Pipeline::new();
    let counter = counter(options)?;
    pipeline.add(&counter)?;
    let (source, exit) = camera(&pipeline, &counter, caps)?;
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
    Ok((median(&mut totals), median(&mut own)))
}
