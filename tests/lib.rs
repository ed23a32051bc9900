//! What the whole-system tests share.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::engine::{self, EngineRequest};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::report::FrameReport;

pub mod broker;
pub mod camera;
pub mod certificates;
pub mod kafka;
pub mod postgres;
pub mod publishing;
pub mod receiver;
pub mod service;
pub mod standin;
pub mod system;
pub mod web;

/// How long a test waits for what must come: only a broken system makes it wait that long.
pub const BOUND: Duration = Duration::from_secs(90);

/// Starts GStreamer with our elements inside.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstvehiclecount::plugin_register_static().expect("our elements can be registered");
    });
}

/// The engine to test with: the real one where one opens with the shipped model, else the scripted
/// one. Where `VEHICLECOUNT_REQUIRE_ENGINES` is set, as in CI, a real one must open.
pub fn engine() -> &'static str {
    let opens = || -> Result<(), String> {
        let model = Model::open("", &model::folders()).map_err(|error| error.to_string())?;
        let request = EngineRequest {
            name: "whole system".to_owned(),
            ..EngineRequest::new(engine::EngineKind::Auto, Arc::new(model))
        };
        engine::open(&request).map(drop).map_err(|error| error.to_string())
    };
    match opens() {
        Ok(()) => "auto",
        Err(error) if std::env::var_os("VEHICLECOUNT_REQUIRE_ENGINES").is_some() => {
            panic!("no real engine: {error}")
        }
        Err(error) => {
            eprintln!("testing with the scripted engine: {error}");
            "scripted"
        }
    }
}

/// Reports by camera, as they leave a counter.
#[derive(Clone, Default)]
pub struct Reports(Arc<Mutex<BTreeMap<String, Vec<FrameReport>>>>);

impl Reports {
    /// Collects what passes `pad`.
    pub fn collect(&self, pad: &gst::Pad) {
        let reports = self.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(report) = info.buffer().and_then(|buffer| meta::count::read(buffer)) {
                let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                reports.entry(report.camera.to_string()).or_default().push(report);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// A copy of all of them.
    pub fn all(&self) -> BTreeMap<String, Vec<FrameReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of reports of `camera`.
    pub fn frames(&self, camera: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(camera).map_or(0, Vec::len)
    }

    /// Number of reports of `camera` whose frame was counted itself.
    pub fn fresh(&self, camera: &str) -> usize {
        let reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reports
            .get(camera)
            .map_or(0, |reports| reports.iter().filter(|report| !report.stale).count())
    }
}

/// Hands the messages of `pipeline`'s bus to `handle`, and nothing about ten times a second, until
/// it says that it is enough.
///
/// # Panics
/// When that does not happen within [`BOUND`].
pub fn drive(
    pipeline: &gst::Pipeline,
    what: &str,
    mut handle: impl FnMut(Option<&gst::Message>, Instant) -> bool,
) {
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let begin = Instant::now();
    while begin.elapsed() < BOUND {
        let message = bus.timed_pop(gst::ClockTime::from_mseconds(100));
        if handle(message.as_ref(), Instant::now()) {
            return;
        }
    }
    panic!("waited {} s for this: {what}", BOUND.as_secs());
}

/// Runs `pipeline` to its end.
///
/// # Panics
/// On an error, and when the end does not come within [`BOUND`].
pub fn run_to_end(pipeline: &gst::Pipeline) {
    let _ = pipeline.set_state(gst::State::Playing);
    drive(pipeline, "the end of the stream", |message, _| {
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => true,
            Some(gst::MessageView::Error(error)) => {
                panic!("{}: {:?}", error.error(), error.debug())
            }
            _ => false,
        }
    });
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
}

/// Writes `frames` frames of simulated traffic into an MP4 file.
pub fn write_clip(path: &Path, frames: u32, seed: u32) {
    let description = format!(
        "vehicletestsrc num-buffers={frames} seed={seed} ! video/x-raw,format=I420,width=320,height=180,framerate=10/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast ! h264parse ! mp4mux ! filesink name=file"
    );
    let pipeline = gst::parse::launch(&description).expect("the recorder's elements are there");
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .expect("a description of several elements is a pipeline");
    pipeline.by_name("file").expect("it is in the description").set_property("location", path);
    run_to_end(&pipeline);
}

/// Number of frames of a video file that can be decoded.
pub fn decodable_frames(path: &Path) -> usize {
    let pipeline = gst::parse::launch(
        "filesrc name=file ! decodebin ! videoconvert ! fakesink name=out sync=false",
    )
    .expect("the player's elements are there");
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .expect("a description of several elements is a pipeline");
    pipeline.by_name("file").expect("it is in the description").set_property("location", path);
    let pad =
        pipeline.by_name("out").and_then(|out| out.static_pad("sink")).expect("a sink has a pad");
    let frames = Arc::new(AtomicUsize::new(0));
    let counted = frames.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    run_to_end(&pipeline);
    frames.load(Ordering::Relaxed)
}

/// `pipeline` and its elements are gone once nobody holds them.
///
/// # Panics
/// When something is left.
pub fn assert_no_leak(pipeline: gst::Pipeline) {
    let mut weak: Vec<glib::WeakRef<gst::Object>> = pipeline
        .iterate_recurse()
        .into_iter()
        .flatten()
        .map(|element| element.upcast::<gst::Object>().downgrade())
        .collect();
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    weak.push(pipeline.upcast_ref::<gst::Object>().downgrade());
    drop(pipeline);
    // A thread of GStreamer's own that carried out the last change of state may let go a moment
    // later.
    let begin = Instant::now();
    while weak.iter().any(|object| object.upgrade().is_some()) && begin.elapsed() < BOUND {
        std::thread::yield_now();
    }
    let left: Vec<_> = weak
        .iter()
        .filter_map(glib::WeakRef::upgrade)
        .map(|object| object.name().to_string())
        .collect();
    assert!(left.is_empty(), "still held: {}", left.join(", "));
}

/// Waits for the error that ends `pipeline`, and returns its text.
///
/// # Panics
/// When none comes within [`BOUND`].
pub fn error_of(pipeline: &gst::Pipeline) -> String {
    let mut text = String::new();
    drive(pipeline, "an error", |message, _| match message.map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => {
            text = error.error().to_string();
            true
        }
        _ => false,
    });
    text
}

/// Waits for a progress message of that type, and returns its text.
///
/// # Panics
/// On an error, and when none comes within [`BOUND`].
pub fn progress(pipeline: &gst::Pipeline, wanted: gst::ProgressType) -> String {
    let mut found = String::new();
    drive(pipeline, "progress", |message, _| match message.map(|message| message.view()) {
        Some(gst::MessageView::Progress(progress)) if progress.type_() == wanted => {
            assert_eq!(progress.code(), "vehiclecount-engine");
            found = progress.text().to_string();
            true
        }
        Some(gst::MessageView::Error(error)) => panic!("{}", error.error()),
        _ => false,
    });
    found
}

/// A port of the loopback address that is free at the moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}
