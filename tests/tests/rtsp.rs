//! Cameras on a real RTSP server on loopback, the shipped model, and what goes wrong with cameras.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use gst::prelude::*;
use vehicle_count::server::{self, Server};
use vehicle_count::source::{Health, RtspSource};
use vehiclecount_core::report::JsonReport;
use vehiclecount_tests::system::{System, command};
use vehiclecount_tests::{BOUND, init};

#[test]
fn four_cameras_are_counted_by_the_shipped_model() {
    init();
    let server = Server::start(&server::simulated(4), 5, server::LOOPBACK, 0).unwrap();
    let urls: Vec<_> = (0..4).map(|index| server.url(index)).collect();
    let mut system = System::new(&urls, "auto");
    let reports =
        system.until("four cameras", |frames, _| frames.iter().all(|&frames| frames >= 5));
    for report in reports.iter().filter(|report| report.count.is_some()) {
        let count = report.count.unwrap();
        assert!(count.raw >= 0.0 && count.raw < 200.0, "{report:?}");
        let map = report.density.as_ref().unwrap();
        assert!((map.count() - count.raw).abs() < 1e-3, "the count is the sum of the density");
        assert_eq!(&*report.model, "mobilenetv3-large");
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
    let failed = |cameras: &[RtspSource]| matches!(cameras[1].health, Health::Failed(_));
    system.until("the other goes on", |frames, cameras| failed(cameras) && frames[0] >= 10);
    let again = Server::start(&shows[1..], 10, server::LOOPBACK, port).unwrap();
    system.until("it comes back", |frames, cameras| {
        cameras[1].health == Health::Playing && frames[1] >= 5 && frames[0] >= 5
    });
    system.end();
    drop(again);
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
        assert!(
            std::io::BufRead::read_line(&mut table, &mut line).unwrap() > 0,
            "the demo ended by itself"
        );
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
