//! The whole way on a simulated GPU: `vehiclecounter engine=tensorrt` over stand-ins for the driver
//! (tests/gpu-sim) and for TensorRT (tests/tensorrt-sim), from frames in host memory and in GPU
//! memory to counts, through faults, and with nothing left behind.
//!
//! The stand-in's network is that of the scripted engine, the mean of the red samples: the scripted
//! engine is the reference.

#![allow(clippy::unwrap_used)]

mod build;
mod memory;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use gst_video::prelude::*;
use vehiclecount_core::cuda::{Driver, PinnedBuffer, Stream};
use vehiclecount_core::report::FrameReport;
use vehiclecount_gpu_sim::{Figure, GstCuda, Turn, turn};
use vehiclecount_tensorrt_sim::Family;
use vehiclecount_tests::{Reports, assert_no_leak, drive, init, progress, run_to_end};

/// `None` where TensorRT's headers were not at hand.
fn device() -> Option<Turn> {
    let turn = turn();
    static CACHE: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| {
        let families = [Family::TensorRt10, Family::TensorRt11, Family::TensorRtRtx];
        let family = families.into_iter().find(|family| family.runtime().is_some())?;
        let cache = tempfile::tempdir().unwrap();
        // SAFETY: before any other thread of this process is started: every test begins here, and
        // waits for the first.
        unsafe {
            if std::env::var_os("VEHICLECOUNT_TEST_RUNTIME").is_none() {
                std::env::set_var("VEHICLECOUNT_RUNTIME", family.runtime()?);
            }
            std::env::set_var("VEHICLECOUNT_CACHE", cache.path());
        }
        GstCuda::install();
        init();
        Some(cache)
    });
    if CACHE.is_none() {
        eprintln!("skipped: no headers of TensorRT");
        return None;
    }
    turn.sim.configure(1, 12040, 0);
    Some(turn)
}

const REGIONS: &str = r#"{"regions": [
    {"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
    {"name": "wedge", "polygon": [[0.2, 0.9], [0.5, 0.1], [0.9, 0.9]]}]}"#;

/// Waits for the end of `pipeline`'s stream; the warnings on the way there.
fn warnings_to_end(pipeline: &gst::Pipeline) -> Vec<String> {
    let mut warnings = Vec::new();
    drive(pipeline, "the end of the stream", |message, _| {
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => true,
            Some(gst::MessageView::Warning(warning)) => {
                warnings.push(warning.error().to_string());
                false
            }
            Some(gst::MessageView::Error(error)) => panic!("{}", error.error()),
            _ => false,
        }
    });
    warnings
}

fn counter(engine: &str) -> gst::Element {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/engines/tiny.json");
    gst::ElementFactory::make("vehiclecounter")
        .property_from_str("engine", engine)
        .property("engine-id", "on the simulated GPU")
        .property("model", model.display().to_string())
        .property("input-size", "128x96")
        .property("smoothing", 0.0)
        .property("batch-size", 4u32)
        .property("regions", REGIONS)
        .build()
        .unwrap()
}

/// What cameras of all kinds send.
const CAMERAS: [&str; 6] = [
    "video/x-raw,format=NV12,width=320,height=180,framerate=25/1",
    "video/x-raw,format=I420,width=322,height=242,framerate=25/1",
    "video/x-raw,format=RGB,width=640,height=360,framerate=25/1",
    "video/x-raw,format=BGRx,width=101,height=77,framerate=25/1",
    "video/x-raw,format=GRAY8,width=128,height=96,framerate=25/1",
    "video/x-raw,format=NV12,width=1280,height=720,framerate=25/1,colorimetry=bt709",
];

fn pipeline(counter: &gst::Element, frames: u32) -> (gst::Pipeline, Reports) {
    let pipeline = gst::Pipeline::new();
    pipeline.add(counter).unwrap();
    let reports = Reports::default();
    for (index, caps) in CAMERAS.iter().enumerate() {
        let description = format!(
            "videotestsrc num-buffers={frames} pattern=smpte75 ! videoconvert ! capsfilter caps=\"{caps}\""
        );
        let source = gst::parse::bin_from_description(&description, true).unwrap();
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
        pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink]).unwrap();
        source.link_pads(Some("src"), counter, Some(&format!("sink_{index}"))).unwrap();
        counter.link_pads(Some(&format!("src_{index}")), &sink, Some("sink")).unwrap();
        reports.collect(&counter.static_pad(&format!("src_{index}")).unwrap());
    }
    (pipeline, reports)
}

/// Runs all cameras through `engine`.
fn count(engine: &str, frames: u32, with_map: bool) -> BTreeMap<String, Vec<FrameReport>> {
    let counter = counter(engine);
    counter.set_property("density-map", with_map);
    let (pipeline, reports) = pipeline(&counter, frames);
    run_to_end(&pipeline);
    drop(counter);
    assert_no_leak(pipeline);
    reports.all()
}

#[track_caller]
fn assert_same(
    got: &BTreeMap<String, Vec<FrameReport>>,
    expected: &BTreeMap<String, Vec<FrameReport>>,
) {
    assert_eq!(got.len(), expected.len());
    for (camera, reports) in got {
        let expected = &expected[camera];
        assert_eq!(reports.len(), expected.len(), "{camera}");
        for (got, expected) in reports.iter().zip(expected) {
            assert_eq!((got.sequence, got.stale), (expected.sequence, false), "{camera}");
            let close = |a: f64, b: f64| {
                assert!((a - b).abs() < 2e-3 * b.max(1.0), "{camera}: {a}, not {b}")
            };
            close(got.count.unwrap().raw, expected.count.unwrap().raw);
            assert_eq!(got.regions.len(), 2);
            for (got, expected) in got.regions.iter().zip(&expected.regions) {
                close(got.count.unwrap().raw, expected.count.unwrap().raw);
            }
        }
    }
}

#[test]
fn cameras_of_all_kinds_count_on_the_gpu_as_on_the_processor() {
    let Some(device) = device() else { return };
    let expected = count("scripted", 20, true);
    let launches = device.sim.figure(Figure::Launches);
    let got = count("tensorrt", 20, true);
    assert!(device.sim.figure(Figure::Launches) > launches);
    assert_same(&got, &expected);
    assert!(
        got.values()
            .flatten()
            .all(|report| &*report.engine == "tensorrt" && report.density.is_some())
    );
}

#[test]
fn without_density_maps_only_counts_leave_the_gpu() {
    let Some(device) = device() else { return };
    let expected = count("scripted", 12, true);
    let downloaded = device.sim.figure(Figure::DownloadedBytes);
    let got = count("tensorrt", 12, false);
    assert_same(&got, &expected);
    assert!(got.values().flatten().all(|report| report.density.is_none()));
    // 32 sums of 4 bytes for each frame; the golden check and the choice of precision, whose maps
    // do come back, are not made here anew.
    let frames = 12 * CAMERAS.len() as i64;
    let bytes = device.sim.figure(Figure::DownloadedBytes) - downloaded;
    let map = 16 * 12 * 4;
    assert!(bytes < frames * map, "{bytes} bytes for {frames} frames");
}

#[test]
fn counter_that_starts_again_and_again_leaves_nothing_on_the_gpu() {
    let Some(device) = device() else { return };
    for _ in 0..5 {
        count("tensorrt", 3, true);
        assert_eq!(device.sim.alive(), []);
    }
}

#[test]
fn gpu_that_is_lost_in_mid_stream_stops_the_counts_and_not_the_video() {
    let Some(device) = device() else { return };
    let counter = counter("tensorrt");
    let (pipeline, reports) = pipeline(&counter, 60);
    let sim = device.sim;
    let pad = counter.static_pad("src_0").unwrap();
    // The pad's thread loses the GPU after its tenth frame.
    let seen = AtomicUsize::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if seen.fetch_add(1, Ordering::Relaxed) == 10 {
            sim.lose(719);
        }
        gst::PadProbeReturn::Ok
    });
    let _ = pipeline.set_state(gst::State::Playing);
    let warnings = warnings_to_end(&pipeline);
    let reports = reports.all();
    for (camera, reports) in &reports {
        assert_eq!(reports.len(), 60, "{camera}");
        assert!(reports.last().unwrap().stale, "{camera}");
    }
    assert!(reports["camera-0"].iter().any(|report| !report.stale));
    assert!(warnings.iter().any(|warning| warning.contains("the GPU is lost")), "{warnings:?}");
    drop(counter);
    assert_no_leak(pipeline);
}

#[test]
fn counter_without_memory_does_not_start_and_says_why() {
    let Some(device) = device() else { return };
    // The plan and the choice are in the cache from here on.
    count("tensorrt", 1, true);
    let before = device.sim.figure(Figure::AllAllocations);
    count("tensorrt", 1, true);
    let all = device.sim.figure(Figure::AllAllocations) - before;
    for nth in [1, 2, all / 2] {
        device.sim.fail_allocation(nth);
        let counter = counter("tensorrt");
        let (pipeline, _) = pipeline(&counter, 1);
        if pipeline.set_state(gst::State::Paused).is_err() {
            let bus = pipeline.bus().unwrap();
            let errors = bus.iter().filter_map(|message| match message.view() {
                gst::MessageView::Error(error) => Some(error.error().to_string()),
                _ => None,
            });
            let text = errors.last().unwrap();
            assert!(text.contains("memory"), "{text}");
        }
        device.sim.fail_allocation(0);
        drop(counter);
        assert_no_leak(pipeline);
        assert_eq!(device.sim.alive(), [], "allocation {nth}");
    }
}

#[test]
fn frames_in_gpu_memory_are_refused_by_an_engine_on_the_processor() {
    let Some(_device) = device() else { return };
    let counter = counter("scripted");
    let pad = counter.request_pad_simple("sink_0").unwrap();
    counter.set_state(gst::State::Paused).unwrap();
    let features = "memory:CUDAMemory";
    let cuda =
        |caps: &gst::Caps| caps.iter_with_features().any(|(_, held)| held.contains(features));
    assert!(!cuda(&pad.query_caps(None)));
    let caps: gst::Caps =
        "video/x-raw(memory:CUDAMemory),format=NV12,width=64,height=48,framerate=25/1"
            .parse()
            .unwrap();
    assert!(!pad.query_accept_caps(&caps));
    counter.set_state(gst::State::Null).unwrap();
}
