//! A counter that watches RTSP cameras, as an application makes it; and the command.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

use gst::prelude::*;
use gstvehiclecount::meta;
use vehicle_count::source::{RtspOptions, RtspSource};
use vehiclecount_core::report::FrameReport;

use crate::BOUND;

/// A counter with cameras, as an application makes it; what is counted comes out of a channel.
pub struct System {
    pipeline: gst::Pipeline,
    /// The counter.
    pub counter: gst::Element,
    cameras: Vec<RtspSource>,
    heard: Vec<Option<Instant>>,
    counted: mpsc::Receiver<(usize, FrameReport)>,
}

impl System {
    /// Cameras at `urls`, which are connected to as soon as [`System::until`] runs.
    ///
    /// # Panics
    /// When the counter cannot be made, or an address is none.
    pub fn new(urls: &[String], engine: &str) -> Self {
        Self::with(urls, engine, RtspOptions { latency: 100, ..Default::default() })
    }

    /// As [`System::new`], with options for all cameras.
    ///
    /// # Panics
    /// As there.
    pub fn with(urls: &[String], engine: &str, options: RtspOptions) -> Self {
        let pipeline = gst::Pipeline::new();
        let counter = gst::ElementFactory::make("vehiclecounter")
            .property_from_str("engine", engine)
            .property("engine-id", urls.concat())
            .property("input-size", "256x256")
            .build()
            .expect("a part of the test's pipeline");
        pipeline.add(&counter).expect("a part of the test's pipeline");
        let (send, counted) = mpsc::channel();
        let mut cameras = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let sink = counter
                .request_pad_simple(&format!("sink_{index}"))
                .expect("a part of the test's pipeline");
            let send = send.clone();
            let drain = gst::ElementFactory::make("fakesink")
                .property("sync", false)
                .property("async", false)
                .build()
                .expect("a part of the test's pipeline");
            pipeline.add(&drain).expect("a part of the test's pipeline");
            let source =
                counter.static_pad(&format!("src_{index}")).expect("a part of the test's pipeline");
            source
                .link(&drain.static_pad("sink").expect("a part of the test's pipeline"))
                .expect("a part of the test's pipeline");
            source.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let report = info
                    .buffer()
                    .and_then(|buffer| meta::count::read(buffer))
                    .expect("every frame carries a report");
                // The test may be over.
                let _ = send.send((index, report));
                gst::PadProbeReturn::Ok
            });
            let address = url.parse().expect("the address is one");
            let name = format!("camera-{index}");
            cameras.push(RtspSource::new(name, address, options, &pipeline, sink, Instant::now()));
        }
        pipeline.set_state(gst::State::Playing).expect("a part of the test's pipeline");
        let heard = vec![None; urls.len()];
        Self { pipeline, counter, cameras, heard, counted }
    }

    /// Lets the cameras live until `done` says so of the number of frames with a count that each
    /// has given meanwhile.
    ///
    /// # Panics
    /// When that does not happen within [`BOUND`], or something fails that is no camera's.
    pub fn until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&[usize], &[RtspSource]) -> bool,
    ) -> Vec<FrameReport> {
        let begin = Instant::now();
        let bus = self.pipeline.bus().expect("a part of the test's pipeline");
        let mut frames = vec![0; self.cameras.len()];
        let mut reports = Vec::new();
        loop {
            let now = Instant::now();
            for (camera, heard) in self.cameras.iter_mut().zip(&self.heard) {
                camera.tick(now, *heard);
            }
            if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(50)) {
                let mut cameras = self.cameras.iter_mut().zip(&self.heard);
                let owned = cameras.any(|(camera, heard)| camera.handle(&message, now, *heard));
                if let (gst::MessageView::Error(error), false) = (message.view(), owned) {
                    let inside =
                        message.src().is_some_and(|source| source.has_as_ancestor(&self.pipeline));
                    assert!(!inside, "{what}: {error:?}");
                }
            }
            for (index, report) in self.counted.try_iter() {
                self.heard[index] = Some(now);
                frames[index] += usize::from(report.count.is_some());
                reports.push(report);
            }
            if done(&frames, &self.cameras) {
                return reports;
            }
            let health: Vec<_> = self.cameras.iter().map(|camera| &camera.health).collect();
            assert!(begin.elapsed() < BOUND, "{what}: {frames:?} frames counted, {health:?}");
        }
    }

    /// Takes everything down and checks that nothing of it is left.
    ///
    /// # Panics
    /// When something is left.
    pub fn end(mut self) {
        for camera in &mut self.cameras {
            camera.end();
        }
        self.pipeline.set_state(gst::State::Null).expect("a part of the test's pipeline");
        let (pipeline, counter) = (self.pipeline.downgrade(), self.counter.downgrade());
        drop(self);
        assert!(pipeline.upgrade().is_none(), "the pipeline is leaked");
        assert!(counter.upgrade().is_none(), "the counter is leaked");
    }
}

/// What rtspsrc of GStreamer 1.22 calls critical where it is stopped while its first packet comes:
/// it has no sequence number for the packet's segment any more. The packet is lost, nothing else.
const KNOWN: &str = "gst_event_set_seqnum: assertion 'seqnum != GST_SEQNUM_INVALID' failed";

/// Checks what a program has said that ran without `G_DEBUG`: no library warns or calls anything
/// critical.
///
/// # Panics
/// When one does.
pub fn assert_calm(said: &str) {
    let is_alarm = |line: &&str| line.contains("CRITICAL **") || line.contains("WARNING **");
    let alarm = said.lines().filter(is_alarm).find(|line| !line.contains(KNOWN));
    assert_eq!(alarm, None, "{said}");
}

/// The command that was built with the tests.
///
/// # Panics
/// When it was not built.
pub fn command() -> Command {
    let folder = std::env::current_exe()
        .expect("a test is a program")
        .ancestors()
        .nth(2)
        .map(PathBuf::from)
        .expect("it lies in a folder");
    let path = folder.join("vehicle-count");
    assert!(
        path.is_file(),
        "{} is missing: build the workspace first, as ./run test does",
        path.display()
    );
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(path);
    command
        .env("VEHICLECOUNT_RUNTIME", root.join(".runtime"))
        .env("VEHICLECOUNT_MODELS", root.join("engines/models"));
    command
}

impl Drop for System {
    /// A test that fails leaves no elements that play, which GStreamer would abort for.
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
