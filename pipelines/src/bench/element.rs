//! The element: pipelines of cameras whose next frame is there at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::preset::Preset;

use super::Options;
use super::rate::{LEAD, Rate, median, rate};

/// Frames that go through the element one at a time, for its latency.
pub(super) const SINGLE_FRAMES: usize = 100;

/// How long one frame may take before something is broken.
const BOUND: Duration = Duration::from_secs(30);

/// A pipeline of cameras that have the next frame at once. It stands still in PAUSED while others
/// are measured.
pub(super) struct Run {
    pipeline: gst::Pipeline,
    counter: gst::Element,
    counted: Arc<AtomicU64>,
}

fn counter(options: &Options) -> Result<gst::Element> {
    let input = options.input_size.first().map(ToString::to_string);
    gst::ElementFactory::make("vehiclecounter")
        .property_if("model", &options.model, !options.model.is_empty())
        .property_from_str("engine", &options.engine)
        .property_from_str("preset", options.preset.map_or("none", Preset::name))
        .property_if_some("input-size", input)
        .property_if("batch-size", options.batch_size, options.batch_size > 0)
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
    pub fn start(
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

    pub fn measure(&self, window: Duration) -> Result<Rate> {
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
pub(super) fn single(
    options: &Options,
    caps: &gst::Caps,
    frames: &[gst::Buffer],
) -> Result<(f64, f64)> {
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
