//! Cameras on a real RTSP server on loopback, the shipped model, and what goes wrong with cameras.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use gst::prelude::*;
use gstvehiclecount::meta;
use vehicle_count::camera::{Camera, Health};
use vehicle_count::server::{self, Server};
use vehiclecount_core::report::{FrameReport, JsonReport};
use vehiclecount_tests::{BOUND, init};

/// A counter with cameras, as an application makes it; what is counted comes out of a channel.
struct System {
    pipeline: gst::Pipeline,
    counter: gst::Element,
    cameras: Vec<Camera>,
    heard: Vec<Option<Instant>>,
    counted: mpsc::Receiver<(usize, FrameReport)>,
}

impl System {
    fn new(urls: &[String], engine: &str) -> Self {
        let pipeline = gst::Pipeline::new();
        let counter = gst::ElementFactory::make("vehiclecounter")
            .property_from_str("engine", engine)
            .property("engine-id", urls.concat())
            .property("input-size", "256x256")
            .build()
            .unwrap();
        pipeline.add(&counter).unwrap();
        let (send, counted) = mpsc::channel();
        let mut cameras = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let sink = counter.request_pad_simple(&format!("sink_{index}")).unwrap();
            let send = send.clone();
            let drain =
                gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build().unwrap();
            pipeline.add(&drain).unwrap();
            let source = counter.static_pad(&format!("src_{index}")).unwrap();
            source.link(&drain.static_pad("sink").unwrap()).unwrap();
            source.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let report =
                    info.buffer().and_then(|buffer| meta::count::read(buffer)).expect("every frame carries a report");
                // The test may be over.
                let _ = send.send((index, report));
                gst::PadProbeReturn::Ok
            });
            cameras.push(Camera::new(format!("camera-{index}"), url.clone(), 100, &pipeline, sink, Instant::now()));
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        let heard = vec![None; urls.len()];
        Self { pipeline, counter, cameras, heard, counted }
    }

    /// Lets the cameras live until `done` says so of the number of frames with a count that each has given meanwhile.
    fn until(&mut self, what: &str, mut done: impl FnMut(&[usize], &[Camera]) -> bool) -> Vec<FrameReport> {
        let begin = Instant::now();
        let bus = self.pipeline.bus().unwrap();
        let mut frames = vec![0; self.cameras.len()];
        let mut reports = Vec::new();
        loop {
            let now = Instant::now();
            for (camera, heard) in self.cameras.iter_mut().zip(&self.heard) {
                camera.tick(now, *heard);
            }
            if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(50)) {
                let owner = message.src().and_then(|source| self.cameras.iter_mut().find(|camera| camera.owns(source)));
                match (message.view(), owner) {
                    (gst::MessageView::Error(error), Some(camera)) => camera.fail(&error.error().to_string(), now),
                    (gst::MessageView::Element(element), Some(camera)) if element.has_name("camera-ended") => {
                        camera.fail("it ended", now)
                    }
                    (gst::MessageView::Error(error), None)
                        if message.src().is_some_and(|source| source.has_as_ancestor(&self.pipeline)) =>
                    {
                        panic!("{what}: {error:?}")
                    }
                    _ => {}
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
    fn end(mut self) {
        for camera in &mut self.cameras {
            camera.end();
        }
        self.pipeline.set_state(gst::State::Null).unwrap();
        let (pipeline, counter) = (self.pipeline.downgrade(), self.counter.downgrade());
        drop(self);
        assert!(pipeline.upgrade().is_none(), "the pipeline is leaked");
        assert!(counter.upgrade().is_none(), "the counter is leaked");
    }
}

#[test]
fn four_cameras_are_counted_by_the_shipped_model() {
    init();
    let server = Server::start(&server::simulated(4), 5, server::LOOPBACK, 0).unwrap();
    let urls: Vec<_> = (0..4).map(|index| server.url(index)).collect();
    let mut system = System::new(&urls, "auto");
    let reports = system.until("four cameras", |frames, _| frames.iter().all(|&frames| frames >= 5));
    for report in reports.iter().filter(|report| report.count.is_some()) {
        let count = report.count.unwrap();
        assert!(count.raw >= 0.0 && count.raw < 200.0, "{report:?}");
        let map = report.density.as_ref().unwrap();
        assert!((map.count() - count.raw).abs() < 1e-3, "the count is the sum of the density");
        assert_eq!(report.model, "mobilenetv3-large");
    }
    system.end();
}

#[test]
fn camera_that_is_killed_holds_no_other_and_comes_back() {
    init();
    let shows = server::simulated(2);
    let steady = Server::start(&shows[..1], 10, server::LOOPBACK, 0).unwrap();
    let doomed = Server::start(&shows[1..], 10, server::LOOPBACK, 0).unwrap();
    let port = doomed.port();
    let mut system = System::new(&[steady.url(0), doomed.url(0)], "scripted");
    system.until("both play", |frames, _| frames.iter().all(|&frames| frames >= 5));
    drop(doomed);
    let failed = |cameras: &[Camera]| matches!(cameras[1].health, Health::Failed(_));
    system.until("the other goes on", |frames, cameras| failed(cameras) && frames[0] >= 10);
    let again = Server::start(&shows[1..], 10, server::LOOPBACK, port).unwrap();
    system.until("it comes back", |frames, cameras| {
        cameras[1].health == Health::Playing && frames[1] >= 5 && frames[0] >= 5
    });
    system.end();
    drop(again);
}

/// The command that was built with the tests.
fn command() -> Command {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).map(PathBuf::from).unwrap();
    let path = folder.join("vehicle-count");
    assert!(path.is_file(), "{} is missing: build the workspace first, as ./run test does", path.display());
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(path);
    command.env("VEHICLECOUNT_RUNTIME", root.join(".runtime")).env("VEHICLECOUNT_MODELS", root.join("engines/models"));
    command
}

#[test]
fn demo_stops_on_an_interrupt_and_leaves_whole_files() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let mut demo = command()
        .args(["demo", "--cameras", "2", "--fps", "5", "--duration", "0", "--out"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = folder.path().join("demo.jsonl");
    let counted = || {
        let text = fs::read_to_string(&lines).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<JsonReport>(line).ok())
            .filter(|line| line.count.is_some())
            .count()
    };
    let begin = Instant::now();
    // A file gives no sign of its own: the pipe of the child's table does, every five seconds.
    let mut table = std::io::BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while counted() < 10 {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut table, &mut line).unwrap() > 0, "the demo ended by itself");
        assert!(begin.elapsed() < BOUND, "nothing was counted");
    }
    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut table, &mut rest).unwrap();
    assert!(demo.wait().unwrap().success(), "{rest}");
    assert!(rest.contains("demo.mp4") && rest.contains("error against the truth"), "{rest}");
    let video = folder.path().join("demo.mp4");
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! decodebin ! fakesink name=sink signal-handoffs=true",
        video.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let (send, frames) = mpsc::channel();
    pipeline.by_name("sink").unwrap().connect("handoff", false, move |_| {
        send.send(()).unwrap();
        None
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bound = gst::ClockTime::try_from(BOUND).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(bound, &kinds).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(frames.try_iter().count() >= 10, "the video plays");
}

#[test]
fn what_cannot_be_shown_is_said_by_name() {
    let output = command().args(["demo", "--input", "/nowhere/clip.mp4"]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/nowhere/clip.mp4"), "{text}");
}
