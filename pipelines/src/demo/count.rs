//! The pipeline that counts, and what is done about each thing that happens in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use parking_lot::Mutex;

use super::Options;
use super::recorder::{Feed, Recorder, Recording};
use super::summary;
use super::tally::SharedTally;
use super::thinning;
use crate::preset;
use crate::server::{Fault, Truths};
use crate::source::{Address, Health, Reason, RtspOptions, RtspSource, redact};
use crate::stop::stop;
use crate::table::{Table, say};

/// Bytes after which the file of lines is begun anew.
const LINES_FILE_SIZE: u64 = 100_000_000;

/// Files of lines that are kept.
const LINES_FILES: u32 = 10;

/// How long the last lines may take to be written.
const FINISH: Duration = Duration::from_secs(10);

/// Two notes of the same words are this far apart at least.
const QUIET: Duration = Duration::from_secs(60);

/// One camera of the demo.
pub struct Camera {
    pub source: RtspSource,
    pub seen: SharedTally,
    /// Why it does not play, where the demo serves it itself.
    fault: Option<Fault>,
    /// What was last said of its trouble.
    said: Option<String>,
}

impl Camera {
    /// Why it is not counted, as far as that is known.
    pub fn trouble(&self) -> String {
        let reason = match &self.source.health {
            Health::Failed(reason) => reason.as_str(),
            Health::Connecting => "it was not reached yet",
            Health::Playing => "its frames carry no count",
        };
        self.fault.as_ref().and_then(Fault::get).unwrap_or_else(|| reason.to_owned())
    }

    /// A trouble that was not told yet.
    fn news(&mut self) -> Option<String> {
        match &self.source.health {
            Health::Connecting => None,
            Health::Playing => {
                let name = &self.source.name;
                self.said.take().map(|_| format!("{name} is there again"))
            }
            Health::Failed(_) if !self.source.is_settled() => None,
            Health::Failed(_) => {
                let trouble = self.trouble();
                if self.said.as_ref() == Some(&trouble) {
                    return None;
                }
                let text = format!("{}: {trouble}; trying again", self.source.name);
                self.said = Some(trouble);
                Some(text)
            }
        }
    }
}

/// Everything that runs.
pub struct Demo<'a> {
    options: &'a Options,
    pipeline: gst::Pipeline,
    counter: gst::Element,
    cameras: Vec<Camera>,
    recorder: Option<Recorder>,
    table: Table,
    /// What was told, and when.
    notes: HashMap<String, Instant>,
    /// The engine, once it is open.
    engine: String,
}

impl<'a> Demo<'a> {
    /// A counter without cameras, and the recording where one is asked for.
    pub fn new(options: &'a Options, names: &[String]) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let counter = gst::ElementFactory::make("vehiclecounter")
            .name("counter")
            .property_if("model", &options.model, !options.model.is_empty())
            .property("regions", &options.regions)
            .build()
            .context("the plugin is not loaded")?;
        set_enum(&counter, "engine", &options.engine)?;
        if let Some(preset) = options.preset {
            set_enum(&counter, "preset", preset.name())?;
        }
        pipeline.add(&counter)?;
        let mut demo = Self {
            options,
            pipeline,
            counter,
            cameras: Vec::new(),
            recorder: None,
            table: Table::on_stdout(),
            notes: HashMap::new(),
            engine: String::new(),
        };
        if !options.no_video {
            let recording = demo.recording(names);
            match Recorder::start(&recording) {
                Ok(recorder) => demo.recorder = Some(recorder),
                Err(error) => demo.note(
                    format!("there is no video, and counting goes on: {error:#}"),
                    Instant::now(),
                ),
            }
        }
        Ok(demo)
    }

    fn recording<'b>(&self, names: &'b [String]) -> Recording<'b>
    where
        'a: 'b,
    {
        Recording {
            names,
            fps: self.options.fps,
            folder: &self.options.out,
            segment: self.options.segment,
        }
    }

    /// The file of counts.
    fn lines(&self) -> PathBuf {
        self.options.out.join("demo.jsonl")
    }

    /// Source, counter, file of lines, and an end at which the recording takes its pictures.
    pub fn add(
        &mut self,
        index: usize,
        name: &str,
        address: Address,
        truths: Option<Truths>,
        fault: Option<Fault>,
        now: Instant,
    ) -> Result<()> {
        let sink = self
            .counter
            .request_pad_simple(&format!("sink_{index}"))
            .context("the counter gives a pad")?;
        sink.set_property("camera-id", name);
        let seen = SharedTally::default();
        seen.watch(&self.counter, index, truths, 1.0 / f64::from(self.options.fps))?;
        let publish = gst::ElementFactory::make("vehiclecountpublish")
            .property("every", self.options.every)
            // A counter that comes back goes on where it left off.
            .property("append", !self.options.rtsp.is_empty())
            // Left alone for months, it fills no disk.
            .property("max-file-size", LINES_FILE_SIZE)
            .property("max-files", LINES_FILES)
            .property(
                "location",
                self.lines().to_str().context("the path of the counts is not UTF-8")?,
            )
            .build()?;
        let end = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("async", false)
            .property("enable-last-sample", false)
            .build()?;
        self.pipeline.add_many([&publish, &end])?;
        self.counter.link_pads(Some(&format!("src_{index}")), &publish, Some("sink"))?;
        publish.link(&end)?;
        if let Some(feed) = self.recorder.as_ref().and_then(|recorder| recorder.feed(index)) {
            let pad = end.static_pad("sink").context("a sink has a pad")?;
            feed_from(&pad, feed);
        }
        let options = RtspOptions { insecure: self.options.insecure, ..Default::default() };
        let skip = self.options.rate.map(|rate| {
            thinning::thin(&sink, rate, &seen);
            thinning::skip(rate, &seen)
        });
        let source = RtspSource::new(name.to_owned(), address, options, &self.pipeline, sink, now)
            .with_decoding(skip.into());
        self.cameras.push(Camera { source, seen, fault, said: None });
        Ok(())
    }

    /// Says something that is not of the table, unless it was said a moment ago.
    fn note(&mut self, text: String, now: Instant) {
        let said = self.notes.get(&text);
        if said.is_none_or(|said| now.saturating_duration_since(*said) > QUIET) {
            self.table.note(&text);
            self.notes.retain(|_, said| now.saturating_duration_since(*said) <= QUIET);
            self.notes.insert(text, now);
        }
    }

    /// Runs until it is time to stop, or something that no camera is to blame for fails.
    pub fn watch(&mut self, begin: Instant, interrupts: &AtomicU32) -> Result<()> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            let error = bus.pop_filtered(&[gst::MessageType::Error]);
            bail!(
                "{}",
                error
                    .as_deref()
                    .and_then(error_text)
                    .unwrap_or_else(|| "the pipeline does not start".to_owned())
            );
        }
        let every =
            if self.table.is_live() { Duration::from_millis(500) } else { Duration::from_secs(5) };
        let duration = self.options.duration;
        let mut drawn = begin;
        loop {
            let now = Instant::now();
            for camera in &mut self.cameras {
                let heard = camera.seen.lock().last;
                camera.source.tick(now, heard);
            }
            if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100)) {
                self.handle(&message, now)?;
            }
            let news: Vec<_> = self.cameras.iter_mut().filter_map(Camera::news).collect();
            news.into_iter().for_each(|text| self.note(text, now));
            self.record(now);
            if now - drawn >= every {
                let seconds = (now - begin).as_secs();
                let of = if duration > 0 {
                    format!(" of {duration} s")
                } else {
                    " s, Ctrl-C stops".to_owned()
                };
                let rows = summary::rows(&self.cameras, &self.counter, now - drawn);
                self.table.show(&format!("{seconds}{of}   {}", self.engine), &rows);
                drawn = now;
            }
            let over = duration > 0 && now - begin >= Duration::from_secs(duration);
            if over || interrupts.load(Ordering::Relaxed) > 0 {
                return Ok(());
            }
        }
    }

    /// Looks after the recording, which may end at any time.
    fn record(&mut self, now: Instant) {
        match self.recorder.as_mut().map(Recorder::tick) {
            Some(Ok(lost)) => lost.into_iter().for_each(|text| self.note(text, now)),
            Some(Err(error)) => {
                self.recorder = None;
                self.note(
                    format!("the recording has stopped, and counting goes on: {error:#}"),
                    now,
                );
            }
            None => {}
        }
    }

    fn handle(&mut self, message: &gst::Message, now: Instant) -> Result<()> {
        if let gst::MessageView::Latency(_) = message.view() {
            // An element's latency changed: all are asked anew.
            let _ = self.pipeline.recalculate_latency();
            return Ok(());
        }
        let is_of_source = |camera: &mut Camera| {
            let heard = camera.seen.lock().last;
            camera.source.handle(message, now, heard)
        };
        if self.cameras.iter_mut().any(is_of_source) {
            return Ok(());
        }
        match message.view() {
            gst::MessageView::Error(_) if is_inside(message, &self.pipeline) => {
                bail!("{}", error_text(message).unwrap_or_default())
            }
            gst::MessageView::Warning(warning) if is_inside(message, &self.pipeline) => {
                self.note(redact::text(warning.error().message()).into_owned(), now);
            }
            gst::MessageView::Element(element) if element.has_name("vehiclecount-preset") => {
                if let Some(structure) = element.structure() {
                    self.note(preset::told(structure), now);
                }
            }
            gst::MessageView::Element(element) if element.has_name("vehiclecount-engine") => {
                let Some(structure) = element.structure() else { return Ok(()) };
                let word = |name: &str| structure.get::<String>(name).unwrap_or_default();
                self.engine = format!(
                    "{} {} on {}, {} {}",
                    word("engine"),
                    word("version"),
                    word("device"),
                    word("model"),
                    word("precision")
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends all streams, so that files are whole, and says what came of it. `end` is what ended it.
    pub fn finish(mut self, end: Result<()>, begin: Instant) -> Result<()> {
        for camera in &mut self.cameras {
            camera.source.end();
        }
        let written = end.and_then(|()| wait_for_end(&self.pipeline));
        let statistics = self.counter.property::<gst::Structure>("statistics");
        ensure!(stop(&self.pipeline), "the pipeline does not stop");
        let names: Vec<_> = self.cameras.iter().map(|camera| camera.source.name.clone()).collect();
        let video =
            self.recorder.take().map(|recorder| (self.recording(&names).path(), recorder.finish()));
        written?;
        summary::summarise(&self.cameras, &statistics, begin.elapsed());
        say("");
        match video {
            Some((path, Ok(()))) => say(format_args!("annotated video  {}", path.display())),
            Some((path, Err(error))) => self.table.note(&format!("{}: {error:#}", path.display())),
            None => {}
        }
        say(format_args!("counts           {}", self.lines().display()));
        let counted = |camera: &Camera| camera.seen.lock().counted > 0;
        ensure!(self.cameras.iter().any(counted), "{}", summary::nothing_counted(&self.cameras));
        for camera in self.cameras.iter().filter(|camera| !counted(camera)) {
            self.table.note(&format!(
                "{} was never counted: {}",
                camera.source.name,
                camera.trouble()
            ));
        }
        Ok(())
    }
}

/// Gives the recording what ends in `pad`.
fn feed_from(pad: &gst::Pad, feed: Feed) {
    let feed = Mutex::new(feed);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
            feed.lock().push(buffer, &caps);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether the message comes from something that is in the pipeline: a source that was taken out
/// may still have its last word to say.
pub fn is_inside(message: &gst::MessageRef, pipeline: &gst::Pipeline) -> bool {
    message.src().is_some_and(|source| {
        source == pipeline.upcast_ref::<gst::Object>() || source.has_as_ancestor(pipeline)
    })
}

fn error_text(message: &gst::MessageRef) -> Option<String> {
    let gst::MessageView::Error(error) = message.view() else { return None };
    let source = message.src().map(|source| source.name().to_string()).unwrap_or_default();
    Some(format!("{source}: {}", Reason::of(error)))
}

/// Waits until the ends of all streams came through: then all lines are written.
fn wait_for_end(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let begin = Instant::now();
    while begin.elapsed() < FINISH {
        let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(200), &kinds)
        else {
            continue;
        };
        if message.type_() == gst::MessageType::Eos {
            return Ok(());
        }
        if is_inside(&message, pipeline) {
            bail!("{}", error_text(&message).unwrap_or_default());
        }
    }
    bail!("the last lines were not written within {} s", FINISH.as_secs())
}

fn set_enum(element: &gst::Element, property: &str, value: &str) -> Result<()> {
    let class = element
        .find_property(property)
        .and_then(|spec| glib::EnumClass::with_type(spec.value_type()));
    let class = class.context("the property is an enumeration")?;
    let names: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
    ensure!(names.contains(&value), "{property} {value:?}: it is one of {}", names.join(", "));
    element.set_property_from_str(property, value);
    Ok(())
}
