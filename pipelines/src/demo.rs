//! `vehicle-count demo`: cameras on a real RTSP server, counted, shown, recorded.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::report::FrameReport;

use crate::camera::{Camera, Health};
use crate::server::{self, Server, Show, Truths};
use crate::table::{NAME, Row, Table, fit};

/// Options of `vehicle-count demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Video files to show instead of simulated cameras, one camera each
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    input: Vec<PathBuf>,
    /// RTSP cameras to count on instead of simulated ones; their lines are appended to the file that is there
    #[arg(long, num_args = 1.., value_name = "URL", conflicts_with = "input", value_parser = rtsp_url)]
    rtsp: Vec<String>,
    /// Number of simulated cameras
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    cameras: u8,
    /// Seconds until it stops by itself (0: never)
    #[arg(long, default_value_t = 30)]
    duration: u64,
    /// Frames a second of the cameras
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=60))]
    fps: u32,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Engine: auto, openvino, onnxruntime, tensorrt or scripted
    #[arg(long, default_value = "auto")]
    engine: String,
    /// Regions: a JSON file's path or inline JSON
    #[arg(long, default_value = "")]
    regions: String,
    /// Folder for the annotated video and the counts
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Milliseconds between two lines of a camera at least (0: a line for each frame)
    #[arg(long, default_value_t = 0)]
    every: u32,
    /// Begin a new video file every so many seconds and keep the last 60 (0: one file, whole only at the end)
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    segment: u64,
    /// Port of the RTSP server on 127.0.0.1 (0: any that is free)
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn rtsp_url(text: &str) -> Result<String, String> {
    let known = ["rtsp://", "rtsps://"].iter().any(|scheme| text.starts_with(scheme));
    if known { Ok(text.to_owned()) } else { Err("the address of a camera begins with rtsp:// or rtsps://".to_owned()) }
}

/// What is seen of one camera behind the counter.
#[derive(Default)]
struct Seen {
    last: Option<Instant>,
    report: Option<FrameReport>,
    frames: u64,
    stale: u64,
    /// Frames since the table was last drawn.
    recent: u64,
    /// Sums over frames whose truth is known: frames, absolute error, error, truth.
    errors: (u64, f64, f64, f64),
}

type Watched = Arc<Mutex<Seen>>;

fn lock(seen: &Watched) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Width and height of one camera's picture in the mosaic.
const TILE: (i32, i32) = (640, 360);

/// Video files that are kept where `--segment` begins new ones.
const SEGMENTS: u32 = 60;

/// How long the video file may take to be finished.
const FINISH: Duration = Duration::from_secs(20);

/// Counts on the cameras of a server until the time is over or somebody interrupts.
pub fn run(options: &Options) -> Result<()> {
    let interrupts = Arc::new(AtomicU32::new(0));
    let counted = interrupts.clone();
    ctrlc::set_handler(move || {
        if counted.fetch_add(1, Ordering::Relaxed) > 0 {
            // Whoever asks twice does not want to wait.
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;

    // Cameras that are there already need no server of ours.
    let shows = match options.rtsp.is_empty() {
        true => server::shows(&options.input, options.cameras.into())?,
        false => Vec::new(),
    };
    let names = match options.rtsp.is_empty() {
        true => unique(shows.iter().map(server::name).collect()),
        false => (0..options.rtsp.len()).map(|index| format!("camera-{index}")).collect(),
    };
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    let video = options.out.join(if options.segment > 0 { "demo-%05d.mp4" } else { "demo.mp4" });
    let lines = options.out.join("demo.jsonl");

    let server = match options.rtsp.is_empty() {
        true => Some(Server::start(&shows, options.fps, server::LOOPBACK, options.port)?),
        false => None,
    };
    let urls: Vec<_> = match &server {
        Some(server) => (0..shows.len()).map(|index| server.url(index)).collect(),
        None => options.rtsp.clone(),
    };
    if let Some(server) = &server {
        println!("RTSP server on 127.0.0.1:{}", server.port());
    }
    for (url, name) in urls.iter().zip(&names) {
        println!("  {url}  {name}");
    }

    let pipeline = gst::Pipeline::new();
    let counter = gst::ElementFactory::make("vehiclecounter")
        .name("counter")
        .property("model", &options.model)
        .property("regions", &options.regions)
        .build()
        .context("the plugin is not loaded")?;
    set_enum(&counter, "engine", &options.engine)?;
    pipeline.add(&counter)?;
    let mosaic = Mosaic::new(&pipeline, names.len(), options, &video)?;

    let begin = Instant::now();
    let mut cameras = Vec::new();
    let mut watched = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let sink = counter.request_pad_simple(&format!("sink_{index}")).context("the counter gives a pad")?;
        sink.set_property("camera-id", name);
        let seen = Watched::default();
        let simulated = matches!(shows.get(index), Some(Show::Simulated(_)));
        let truths = server.as_ref().filter(|_| simulated).map(|server| server.truths(index));
        watch(&counter, index, &seen, truths, 1.0 / f64::from(options.fps))?;
        mosaic.add(&pipeline, &counter, index, options, &lines)?;
        cameras.push(Camera::new(name.clone(), urls[index].clone(), 200, &pipeline, sink, begin));
        watched.push(seen);
    }

    let end = end_of(&pipeline, &mut cameras, &watched, &counter, options, begin, &interrupts);
    // The streams end, so that the file can be finished.
    for camera in &mut cameras {
        camera.end();
    }
    mosaic.pulse.send_event(gst::event::Eos::new());
    let finished = end.and_then(|()| finish(&pipeline));
    let statistics = counter.property::<gst::Structure>("statistics");
    pipeline.set_state(gst::State::Null).context("the pipeline does not stop")?;
    drop(server);
    finished?;
    summarise(&cameras, &watched, &statistics, begin.elapsed());
    println!("\nannotated video  {}\ncounts           {}", video.display(), lines.display());
    Ok(())
}

/// Runs until it is time to stop, or something that no camera is to blame for fails.
fn end_of(
    pipeline: &gst::Pipeline,
    cameras: &mut [Camera],
    watched: &[Watched],
    counter: &gst::Element,
    options: &Options,
    begin: Instant,
    interrupts: &AtomicU32,
) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    if pipeline.set_state(gst::State::Playing).is_err() {
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        bail!("{}", error.as_ref().and_then(error_text).unwrap_or_else(|| "the pipeline does not start".to_owned()));
    }
    let mut table = Table::on_stdout();
    let every = if table.is_live() { Duration::from_millis(500) } else { Duration::from_secs(5) };
    let (mut drawn, mut status) = (begin, String::new());
    loop {
        let now = Instant::now();
        for (camera, seen) in cameras.iter_mut().zip(watched) {
            let heard = lock(seen).last;
            camera.tick(now, heard);
        }
        if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100)) {
            handle(pipeline, &message, cameras, &mut status, now)?;
        }
        if now - drawn >= every {
            let seconds = (now - begin).as_secs();
            let of = if options.duration > 0 {
                format!(" of {} s", options.duration)
            } else {
                " s, Ctrl-C stops".to_owned()
            };
            table.show(&format!("{seconds}{of}   {status}"), &rows(cameras, watched, counter, now - drawn));
            drawn = now;
        }
        let over = options.duration > 0 && now - begin >= Duration::from_secs(options.duration);
        if over || interrupts.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
    }
}

fn handle(
    pipeline: &gst::Pipeline,
    message: &gst::Message,
    cameras: &mut [Camera],
    status: &mut String,
    now: Instant,
) -> Result<()> {
    let source = message.src().cloned();
    let owner = source.and_then(|source| cameras.iter_mut().find(|camera| camera.owns(&source)));
    match (message.view(), owner) {
        (gst::MessageView::Error(error), Some(camera)) => camera.fail(&error.error().to_string(), now),
        (gst::MessageView::Element(element), Some(camera)) if element.has_name("camera-ended") => {
            camera.fail("it ended", now)
        }
        (gst::MessageView::Error(_), None) if is_inside(message, pipeline) => {
            bail!("{}", error_text(message).unwrap_or_default())
        }
        (gst::MessageView::Element(element), None) if element.has_name("vehiclecount-engine") => {
            let Some(structure) = element.structure() else { return Ok(()) };
            let word = |name: &str| structure.get::<String>(name).unwrap_or_default();
            *status = format!(
                "{} {} on {}, {} {}",
                word("engine"),
                word("version"),
                word("device"),
                word("model"),
                word("precision")
            );
        }
        (gst::MessageView::Latency(_), _) => {
            // Somebody's latency changed: the pipeline asks all anew.
            if let Some(pipeline) = message.src().and_then(|source| top(source.clone())) {
                let _ = pipeline.recalculate_latency();
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the message comes from something that is in the pipeline: a source that was taken out may still have its last word to say.
fn is_inside(message: &gst::Message, pipeline: &gst::Pipeline) -> bool {
    message
        .src()
        .is_some_and(|source| source == pipeline.upcast_ref::<gst::Object>() || source.has_as_ancestor(pipeline))
}

fn top(mut object: gst::Object) -> Option<gst::Pipeline> {
    while let Some(parent) = object.parent() {
        object = parent;
    }
    object.downcast().ok()
}

fn error_text(message: &gst::Message) -> Option<String> {
    let gst::MessageView::Error(error) = message.view() else { return None };
    let source = message.src().map(|source| source.name().to_string()).unwrap_or_default();
    Some(format!("{source}: {}", error.error()))
}

/// Sends the end through and waits until the file is whole.
fn finish(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let begin = Instant::now();
    while begin.elapsed() < FINISH {
        let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(500), &kinds) else { continue };
        if message.type_() == gst::MessageType::Eos {
            return Ok(());
        }
        if is_inside(&message, pipeline) {
            bail!("{}", error_text(&message).unwrap_or_default());
        }
    }
    bail!("the video file was not finished within {} s", FINISH.as_secs())
}

fn set_enum(element: &gst::Element, property: &str, value: &str) -> Result<()> {
    let class = element.find_property(property).and_then(|spec| glib::EnumClass::with_type(spec.value_type()));
    let class = class.context("the property is an enumeration")?;
    let names: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
    anyhow::ensure!(names.contains(&value), "{property} {value:?}: it is one of {}", names.join(", "));
    element.set_property_from_str(property, value);
    Ok(())
}

/// Two files of one name are told apart by a number.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut seen = HashMap::new();
    let mut number = |name: String| {
        let times = seen.entry(name.clone()).and_modify(|times| *times += 1).or_insert(1);
        if *times == 1 { name } else { format!("{name} {times}") }
    };
    names.into_iter().map(&mut number).collect()
}

/// Notes what leaves the counter on `src_{index}`.
fn watch(counter: &gst::Element, index: usize, seen: &Watched, truths: Option<Truths>, frame: f64) -> Result<()> {
    let pad = counter.static_pad(&format!("src_{index}")).context("each sink pad has its source pad")?;
    let seen = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(report) = info.buffer().and_then(|buffer| meta::count::read(buffer)) else {
            return gst::PadProbeReturn::Ok;
        };
        let truth =
            report.capture_time.zip(truths.as_ref()).and_then(|(time, truths)| truths.at(time as f64 / 1e9, frame));
        let mut seen = lock(&seen);
        if let (Some(truth), Some(count)) = (truth, report.count.filter(|_| !report.stale)) {
            let error = count.raw - f64::from(truth);
            let (frames, absolute, sum, truths) = seen.errors;
            seen.errors = (frames + 1, absolute + error.abs(), sum + error, truths + f64::from(truth));
        }
        seen.frames += 1;
        seen.recent += 1;
        seen.stale += u64::from(report.stale);
        seen.last = Some(Instant::now());
        seen.report = Some(report);
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// All cameras in one picture, recorded.
struct Mosaic {
    compositor: gst::Element,
    /// A black spot below the first camera that is always there: a compositor whose pads are all silent takes that for the end.
    pulse: gst::Element,
    columns: i32,
}

impl Mosaic {
    fn new(pipeline: &gst::Pipeline, cameras: usize, options: &Options, video: &Path) -> Result<Self> {
        let fps = options.fps;
        let file = match options.segment {
            0 => "mp4mux ! filesink name=file sync=false async=false".to_owned(),
            seconds => format!(
                "splitmuxsink name=file max-size-time={} max-files={SEGMENTS} sink-properties=\"properties,sync=false,async=false\"",
                gst::ClockTime::from_seconds(seconds).nseconds()
            ),
        };
        let columns = (cameras as f64).sqrt().ceil() as i32;
        let rows = (cameras as i32 + columns - 1) / columns;
        let (width, height) = (TILE.0 * columns, TILE.1 * rows);
        let bin = gst::parse::bin_from_description(
            &format!(
                "compositor name=mosaic background=black ignore-inactive-pads=true latency=200000000 \
                 ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 \
                 ! queue max-size-buffers=8 ! x264enc tune=zerolatency speed-preset=superfast bitrate={} key-int-max=48 \
                 ! h264parse ! {file} \
                 videotestsrc name=pulse is-live=true pattern=black ! video/x-raw,format=I420,width=16,height=16,framerate={fps}/1 \
                 ! mosaic.sink_0",
                700 * cameras
            ),
            false,
        )
        .context("an element that records is missing; `vehicle-count doctor` tells which")?;
        bin.by_name("file").context("the recorder has a file")?.set_property("location", video);
        let compositor = bin.by_name("mosaic").context("the recorder has a mosaic")?;
        let pulse = bin.by_name("pulse").context("the mosaic has a pulse")?;
        pipeline.add(&bin)?;
        Ok(Self { compositor, pulse, columns })
    }

    /// Counter to file of lines, drawing, and a place in the mosaic. A mosaic that is too slow loses pictures, never the counter time.
    fn add(
        &self,
        pipeline: &gst::Pipeline,
        counter: &gst::Element,
        index: usize,
        options: &Options,
        lines: &Path,
    ) -> Result<()> {
        let bin = gst::parse::bin_from_description(
            "vehiclecountpublish name=publish ! vehiclecountoverlay truth=true ! videoscale ! \
             queue leaky=downstream max-size-buffers=4 name=out",
            false,
        )?;
        let publish = bin.by_name("publish").context("the branch begins")?;
        publish.set_property("every", options.every);
        // A counter that comes back goes on where it left off.
        publish.set_property("append", !options.rtsp.is_empty());
        publish.set_property("location", lines.to_str().context("the path of the counts is not UTF-8")?);
        let out = bin.by_name("out").context("the branch ends")?;
        let sink = gst::GhostPad::builder_with_target(&publish.static_pad("sink").context("it has a sink")?)?
            .name("sink")
            .build();
        let src =
            gst::GhostPad::builder_with_target(&out.static_pad("src").context("it has a source")?)?.name("src").build();
        bin.add_pad(&sink)?;
        bin.add_pad(&src)?;
        pipeline.add(&bin)?;
        let place = self.compositor.request_pad_simple("sink_%u").context("the mosaic has room")?;
        let (column, row) = (index as i32 % self.columns, index as i32 / self.columns);
        place.set_property("xpos", column * TILE.0);
        place.set_property("ypos", row * TILE.1);
        place.set_property("width", TILE.0);
        place.set_property("height", TILE.1);
        if place.has_property("sizing-policy") {
            place.set_property_from_str("sizing-policy", "keep-aspect-ratio");
        }
        counter.static_pad(&format!("src_{index}")).context("each sink pad has its source pad")?.link(&sink)?;
        // The mosaic lies in a bin of its own.
        let ghost = gst::GhostPad::builder_with_target(&place)?.name(format!("sink_{index}")).build();
        ghost.set_active(true)?;
        let recorder = self.compositor.parent().and_downcast::<gst::Bin>().context("the mosaic lies in a bin")?;
        recorder.add_pad(&ghost)?;
        src.link(&ghost)?;
        Ok(())
    }
}

/// What the counter's statistics say of each camera, by its id.
fn figures(statistics: &gst::StructureRef) -> HashMap<String, gst::Structure> {
    let cameras = statistics.get::<gst::ArrayRef>("cameras").ok();
    let entries =
        cameras.iter().flat_map(|cameras| cameras.as_slice()).filter_map(|entry| entry.get::<gst::Structure>().ok());
    entries.filter_map(|entry| Some((entry.get::<String>("camera").ok()?, entry))).collect()
}

fn milliseconds(figures: Option<&gst::Structure>, name: &str) -> Option<f64> {
    figures?.get::<u64>(name).ok().map(|nanoseconds| nanoseconds as f64 / 1e6)
}

fn rows(cameras: &[Camera], watched: &[Watched], counter: &gst::Element, since: Duration) -> Vec<Row> {
    let statistics = figures(&counter.property::<gst::Structure>("statistics"));
    let row = |(camera, seen): (&Camera, &Watched)| {
        let mut seen = lock(seen);
        let recent = std::mem::take(&mut seen.recent);
        let count = seen.report.as_ref().and_then(|report| report.count);
        Row {
            camera: camera.name.clone(),
            count: count.map(|count| count.smoothed),
            level: count.map(|count| count.level),
            fps: recent as f64 / since.as_secs_f64().max(1e-3),
            latency: milliseconds(statistics.get(&camera.name), "latency-p50"),
            stale: seen.stale as f64 / seen.frames.max(1) as f64,
            trouble: match &camera.health {
                Health::Connecting => "connecting".to_owned(),
                Health::Playing => String::new(),
                Health::Failed(reason) => format!("{reason}; trying again"),
            },
        }
    };
    cameras.iter().zip(watched).map(row).collect()
}

/// A line of the summary, its camera's name in `wide` columns: no more than 110 in all, for a terminal that nobody has widened.
fn summary_line(
    wide: usize,
    camera: &str,
    [received, counted, stale]: [&str; 3],
    latency: &str,
    error: &str,
) -> String {
    let camera = fit(camera, wide);
    format!("  {camera:wide$}  {received:>7}  {counted:>7}  {stale:>7}  {latency:>20}  {error}")
}

fn summarise(cameras: &[Camera], watched: &[Watched], statistics: &gst::StructureRef, elapsed: Duration) {
    let statistics = figures(statistics);
    println!("\nafter {:.0} s", elapsed.as_secs_f64());
    let wide = cameras.iter().map(|camera| camera.name.chars().count()).max().unwrap_or(0).clamp(6, NAME - 2);
    println!(
        "{}",
        summary_line(wide, "camera", ["frames", "counted", "stale"], "latency p50/p95/p99", "error against the truth")
    );
    let mut total = (0u64, 0.0, 0.0, 0.0);
    for (camera, seen) in cameras.iter().zip(watched) {
        let seen = lock(seen);
        let figures = statistics.get(&camera.name);
        let figure = |name: &str| figures.and_then(|figures| figures.get::<u64>(name).ok()).unwrap_or(0).to_string();
        let latency = |name: &str| milliseconds(figures, name).map_or("–".to_owned(), |ms| format!("{ms:.0}"));
        let latencies = format!("{}/{}/{} ms", latency("latency-p50"), latency("latency-p95"), latency("latency-p99"));
        let (frames, absolute, sum, truth) = seen.errors;
        let error = if frames > 0 {
            let n = frames as f64;
            total = (total.0 + frames, total.1 + absolute, total.2 + sum, total.3 + truth);
            format!("MAE {:.2}, bias {:+.2} of {:.1}", absolute / n, sum / n, truth / n)
        } else {
            "not known".to_owned()
        };
        let [received, inferred, stale] = ["received", "inferred", "stale"].map(figure);
        println!("{}", summary_line(wide, &camera.name, [&received, &inferred, &stale], &latencies, &error));
    }
    if total.0 > 0 {
        let n = total.0 as f64;
        println!(
            "  all: MAE {:.2}, bias {:+.2} of {:.1} vehicles on average, {} frames",
            total.1 / n,
            total.2 / n,
            total.3 / n,
            total.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_fits_110_columns_whatever_the_cameras_are_called() {
        let name = "a camera with a name that nobody has thought to shorten".repeat(2);
        let line = summary_line(
            NAME - 2,
            &name,
            ["1234567", "1234567", "1234567"],
            "1234/12345/12345 ms",
            "MAE 12.34, bias -12.34 of 123.4",
        );
        assert!(line.chars().count() <= 110, "{} columns: {line}", line.chars().count());
        assert!(line.contains('…'), "{line}");
    }
}
