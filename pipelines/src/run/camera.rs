//! One camera at work: a pipeline and a thread of its own, so that none waits for another. The
//! engine is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstvehiclecount::meta;
use parking_lot::Mutex;
use vehiclecount_core::count::Counts;
use vehiclecount_core::report::FrameReport;

use super::board::{Board, Camera, State, unix_time};
use super::engine;
use super::figures::Figures;
use super::log;
use super::recorder::Sample;
use super::sinks::Feed;
use super::trouble::Trouble;
use crate::config::{self, Decoder, Place, Transport};
use crate::demo::is_inside;
use crate::source::{
    self, Backoff, Choice, Decoding, Health, HttpOptions, HttpSource, Local, LocalSource, Reason,
    RtspOptions, RtspSource, Skip, Source, Turns,
};
use crate::stop::stop;

/// A live camera without a picture for this long is stalled. After
/// its `timeout` it is connected anew.
const STALL: Duration = Duration::from_secs(3);

/// Pictures a second of a simulated camera, unless more are counted: none is drawn in vain.
const SIMULATED: f64 = 5.0;

/// How often a camera is looked after.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// What the thread of a camera shares with the rest of the service.
#[derive(Clone)]
pub struct Shared {
    /// What is known at the moment.
    pub board: Arc<Board>,
    /// How vehicles are counted.
    pub counter: gst::Element,
    /// The way to the recorder.
    pub samples: SyncSender<Sample>,
    /// The way to the sinks.
    pub feed: Feed,
}

/// A camera at work. It ends when it is dropped.
pub struct CameraThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CameraThread {
    /// Begins the work on the camera.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(camera: Arc<Camera>, shared: Shared) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let name = thread_name(&camera.settings.name);
        let work = move || work(&camera, &shared, &stopped);
        let thread = thread::Builder::new().name(name).spawn(work);
        Ok(Self { stop, thread: Some(thread.context("no thread for a camera")?) })
    }

    /// Ends it soon, without waiting.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for CameraThread {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic is told by the thread itself.
            let _ = thread.join();
        }
    }
}

/// The name of a camera's thread, as far as the system takes it.
fn thread_name(camera: &str) -> String {
    camera.chars().filter(|letter| !letter.is_control()).take(15).collect()
}

/// Watches the camera until it is to stop. Where its pipeline fails, it gets another one.
fn work(camera: &Arc<Camera>, shared: &Shared, stop: &AtomicBool) {
    let mut backoff = Backoff::default();
    while !stop.load(Ordering::Relaxed) {
        let Err(error) = watch(camera, shared, stop) else { return };
        tell(camera, State::Waiting, Some(format!("{error:#}")));
        let retry = backoff.after(Instant::now());
        while Instant::now() < retry && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Counts in a pipeline, until it is to stop or something fails that is not the source.
fn watch(camera: &Arc<Camera>, shared: &Shared, stop: &AtomicBool) -> Result<()> {
    let pipeline = gst::Pipeline::new();
    let Counting { counter, sink, end } = counting(&pipeline, camera, &shared.counter)?;
    thin(&sink, camera.clone());
    report(&end, camera.clone(), shared);
    let decoding = decoding(&camera.settings, Some(skip(camera)));
    let mut source = source(&camera.settings, &pipeline, sink, decoding.clone());
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let _stop = StopLast(pipeline.clone());
    if pipeline.set_state(gst::State::Playing).is_err() {
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        match error.as_deref().map(gst::MessageRef::view) {
            Some(gst::MessageView::Error(error)) => bail!("{}", Reason::of(error)),
            _ => bail!("its pipeline does not start"),
        }
    }
    let mut trouble = Trouble::new(&camera.settings.name, counter.clone(), &camera.status());
    let mut figures = Figures::new(counter, camera, Instant::now());
    let mut broken = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        figures.take(camera, now);
        let heard = camera.status().heard;
        source.tick(now, heard);
        tell_health(camera, source.as_ref(), &mut broken, &mut trouble, now, heard);
        tell_decoder(camera, decoding.decoder());
        let Some(message) = bus.timed_pop(TICK) else { continue };
        if let gst::MessageView::Latency(_) = message.view() {
            let _ = pipeline.recalculate_latency();
        } else if source.handle(&message, now, camera.status().heard) {
            continue;
        } else if let gst::MessageView::Error(error) = message.view()
            && is_inside(&message, &pipeline)
        {
            source.end();
            bail!("{}", Reason::of(error));
        } else {
            trouble.take_in(&message, now);
        }
    }
    source.end();
    Ok(())
}

/// Takes a pipeline down at the end.
pub struct StopLast(pub gst::Pipeline);

impl Drop for StopLast {
    fn drop(&mut self) {
        stop(&self.0);
    }
}

/// The counter of a camera, and where pictures come in and leave.
struct Counting {
    counter: gst::Element,
    sink: gst::Pad,
    end: gst::Pad,
}

/// The counter of a camera, and an end for its pictures.
fn counting(pipeline: &gst::Pipeline, camera: &Camera, counter: &gst::Element) -> Result<Counting> {
    let settings = &camera.settings;
    let element = engine::sharing(counter)?;
    element.set_property("smoothing", settings.smoothing.as_secs_f64());
    element.set_property("density-map", false);
    // Nothing waits for the pictures: a count may take as long as the next one is away.
    let period = Duration::from_secs_f64(1.0 / settings.rate);
    let latency = period.clamp(Duration::from_millis(200), Duration::from_secs(2));
    element.set_property("max-latency", latency.as_millis() as u32);
    let end = drain()?;
    pipeline.add_many([&element, &end])?;
    let sink = element.request_pad_simple("sink_0").context("the counter gives a pad")?;
    sink.set_property("camera-id", &settings.name);
    sink.set_property("scale-factor", settings.scale);
    let skips = if settings.skip_unchanged { "true" } else { "false" };
    sink.set_property_from_str("skip-unchanged", skips);
    sink.set_property("regions", serde_json::to_string(&settings.regions)?);
    element.link_pads(Some("src_0"), &end, Some("sink"))?;
    let end = element.static_pad("src_0").context("a sink pad has its source pad")?;
    Ok(Counting { counter: element, sink, end })
}

/// The end of a pipeline, which takes every picture at once.
///
/// # Errors
/// The element is missing.
pub fn drain() -> Result<gst::Element> {
    let drain = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .property("enable-last-sample", false)
        .build()?;
    Ok(drain)
}

/// How the pictures of a camera are decoded. Those that `skip` does not want are not.
pub fn decoding(settings: &config::Camera, skip: Option<Skip>) -> Decoding {
    let choice = match settings.decoder {
        Decoder::Auto => Choice::Auto,
        Decoder::Software => Choice::Software,
        Decoder::Hardware => Choice::Hardware,
    };
    Decoding::new(choice, skip)
}

/// What gives the pictures of a camera.
pub fn source(
    settings: &config::Camera,
    pipeline: &gst::Pipeline,
    sink: gst::Pad,
    decoding: Decoding,
) -> Box<dyn Source> {
    let now = Instant::now();
    let local = |what| {
        let source = LocalSource::new(what, pipeline, sink.clone(), now);
        Box::new(source.with_decoding(decoding.clone()).with_silence(settings.timeout))
    };
    match &settings.place {
        Place::Rtsp(address) => {
            let udp = settings.transport == Transport::Udp;
            let options = RtspOptions { insecure: settings.insecure, udp, ..Default::default() };
            let (name, address) = (settings.name.clone(), address.clone());
            let source = RtspSource::new(name, address, options, pipeline, sink, now);
            Box::new(source.with_decoding(decoding).with_silence(settings.timeout))
        }
        Place::Http(address) => {
            let options = HttpOptions { insecure: settings.insecure, rate: settings.rate };
            let source = HttpSource::new(address.clone(), options, pipeline, sink, now);
            Box::new(source.with_decoding(decoding).with_silence(settings.timeout))
        }
        Place::Device(path) => local(Local::Device(path.clone())),
        Place::File(path) => local(Local::File(path.clone())),
        Place::Simulated(view) => {
            let rate = settings.rate.ceil().max(SIMULATED) as i32;
            local(Local::Simulated(engine::word(view), rate))
        }
    }
}

/// Leaves compressed pictures out that are not counted, as long as nobody looks.
fn skip(camera: &Arc<Camera>) -> Skip {
    let rate = camera.settings.rate;
    let (viewed, noted) = (camera.clone(), camera.clone());
    // A camera of which nothing can be decoded is not heard.
    let trust = Duration::from_secs_f64(2.0 / rate) + camera.settings.timeout;
    let note = move || {
        let mut status = noted.status();
        status.received += 1;
        status.skipped += 1;
        let now = Instant::now();
        if status.decoded.is_some_and(|decoded| now.saturating_duration_since(decoded) < trust) {
            status.heard = Some(now);
        }
    };
    Skip { rate, is_paused: Arc::new(move || viewed.is_viewed()), skipped: Arc::new(note) }
}

/// Notes every picture, and lets as many through as are to be counted.
fn thin(sink: &gst::Pad, camera: Arc<Camera>) {
    let turns = Mutex::new(Turns::new(camera.settings.rate));
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        {
            let mut status = camera.status();
            status.received += 1;
            status.decoded = Some(Instant::now());
            status.heard = status.decoded;
        }
        let is_viewed = camera.is_viewed();
        let time =
            info.buffer().and_then(|buffer| buffer.pts()).map(|time| time.nseconds() as f64 / 1e9);
        // Not `Drop`, as for the ends of streams.
        if time.is_none_or(|time| turns.lock().is_due(time, is_viewed)) {
            camera.status().owed.get_or_insert_with(Instant::now);
            gst::PadProbeReturn::Ok
        } else {
            gst::PadProbeReturn::Handled
        }
    });
}

/// Hands what was counted to the board and to the recorder.
fn report(end: &gst::Pad, camera: Arc<Camera>, shared: &Shared) {
    let Shared { board, samples, feed, .. } = shared.clone();
    end.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let Some(report) = meta::count::read(buffer) else { return gst::PadProbeReturn::Ok };
        feed.count(&report);
        if let Some(caps) = pad.current_caps().filter(|_| camera.is_awaited()) {
            camera.show(&gst::Sample::builder().buffer(buffer).caps(&caps).build());
        }
        let time = unix_time();
        let sample = counts(&report, camera.hold).map(|counts| Sample {
            camera: camera.clone(),
            time,
            counts,
            stale: report.stale,
        });
        {
            let mut status = camera.status();
            if report.count.is_some() && !report.stale {
                (status.progress, status.owed) = (Some(Instant::now()), None);
                status.counted += 1;
                status.confirmed += u64::from(report.confirmed);
                if !report.confirmed {
                    status.latency.observe((time - report.received_time as f64 / 1e9).max(0.0));
                }
            }
            status.stale += u64::from(report.stale);
            if sample.is_some() {
                status.last = Some((Instant::now(), time, report));
            }
        }
        if let Some(sample) = sample
            && samples.try_send(sample).is_err()
        {
            board.lose_report();
        }
        gst::PadProbeReturn::Ok
    });
}

/// What was counted, where there is a count that is not too old. One that is confirmed says
/// something about the moment, however old it is.
fn counts(report: &FrameReport, hold: Duration) -> Option<Counts> {
    let age = Duration::from_nanos(report.age);
    let total = report.count.filter(|_| report.confirmed || age <= hold)?;
    let regions = report.regions.iter().map(|region| region.count).collect();
    Some(Counts { total, regions })
}

/// Puts on the board how the camera is. `broken` is how many of the source's broken connections are
/// on the board already.
fn tell_health(
    camera: &Camera,
    source: &dyn Source,
    broken: &mut u64,
    trouble: &mut Trouble,
    now: Instant,
    heard: Option<Instant>,
) {
    if camera.status().state == State::Waiting && !source.is_settled() {
        return;
    }
    let silent = heard.map(|heard| now.saturating_duration_since(heard));
    // A camera that is given longer may be slow.
    let stall = STALL.max(camera.settings.timeout.mul_f64(0.5));
    if !matches!(source.health(), Health::Playing) {
        // A picture that was on its way when the camera was lost is gone.
        camera.status().owed = None;
    }
    let (state, reason) = match source.health() {
        Health::Connecting => (State::Connecting, None),
        Health::Playing if silent.is_some_and(|silent| silent > stall) => {
            (State::Stalled, Some("no picture comes".to_owned()))
        }
        Health::Playing => (State::Live, trouble.reason(&mut camera.status(), now)),
        Health::Failed(reason) if source.is_refused() => (State::Refused, Some(reason.clone())),
        Health::Failed(reason) => (State::Waiting, Some(reason.clone())),
    };
    let before = camera.status().failures;
    tell(camera, state, reason);
    // One that came and broke since the last turn has changed nothing that the board shows.
    let newly = source.broken() - std::mem::replace(broken, source.broken());
    let mut status = camera.status();
    status.failures = status.failures.max(before + newly);
}

/// Puts on the board what decodes the camera's pictures, and logs it where it is news.
fn tell_decoder(camera: &Camera, decoder: Option<source::Decoder>) {
    let mut status = camera.status();
    if decoder.is_none() || status.decoder == decoder {
        return;
    }
    status.decoder = decoder;
    if let Some(decoder) = &status.decoder {
        let by = if decoder.is_hardware { "hardware" } else { "software" };
        log(&format!("{}: {} decodes it ({by})", camera.settings.name, decoder.name));
    }
}

/// Notes how the camera is, and logs it where it is news.
pub fn tell(camera: &Camera, state: State, reason: Option<String>) {
    let mut status = camera.status();
    if status.state == state && status.reason == reason {
        return;
    }
    if status.state != state {
        status.since = unix_time();
        let failed = |state| matches!(state, State::Waiting | State::Refused);
        status.failures += u64::from(failed(state) && !failed(status.state));
    }
    (status.state, status.reason) = (state, reason);
    let reason = status.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    log(&format!("{}: {}{reason}", camera.settings.name, state.name()));
}
