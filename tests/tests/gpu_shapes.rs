//! `input-size=auto` on a simulated GPU (tests/gpu-sim, tests/tensorrt-sim): a plan for each input
//! size that a camera needs, built when it is needed. The scripted engine is the reference.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use gst::prelude::*;
use vehiclecount_core::report::FrameReport;
use vehiclecount_gpu_sim::{Turn, turn};
use vehiclecount_tensorrt_sim::{Family, Figure};
use vehiclecount_tests::{Reports, assert_no_leak, drive, init, progress, run_to_end};

fn family() -> Option<Family> {
    let families = [Family::TensorRt10, Family::TensorRt11, Family::TensorRtRtx];
    families.into_iter().find(|family| family.runtime().is_some())
}

/// `None` where TensorRT's headers were not at hand.
fn device() -> Option<Turn> {
    let turn = turn();
    static CACHE: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| {
        let family = family()?;
        let cache = tempfile::tempdir().unwrap();
        // SAFETY: before any other thread of this process is started: every test begins here, and
        // waits for the first.
        unsafe {
            if std::env::var_os("VEHICLECOUNT_TEST_RUNTIME").is_none() {
                std::env::set_var("VEHICLECOUNT_RUNTIME", family.runtime()?);
            }
            std::env::set_var("VEHICLECOUNT_CACHE", cache.path());
        }
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

/// The stand-in for TensorRT, whose builds can be held until the test ends.
struct Builder(vehiclecount_tensorrt_sim::Sim);

impl Drop for Builder {
    fn drop(&mut self) {
        self.0.hold_builds(false);
    }
}

impl Builder {
    fn new() -> Self {
        Self(vehiclecount_tensorrt_sim::install(family().unwrap()).unwrap())
    }

    fn builds(&self) -> i64 {
        self.0.figure(Figure::Builds)
    }
}

fn counter(engine: &str, size: &str) -> gst::Element {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/engines/tiny.json");
    let left = r#"{"name": "left", "polygon": [[0, 0], [0.4, 0], [0.4, 1], [0, 1]]}"#;
    gst::ElementFactory::make("vehiclecounter")
        .property_from_str("engine", engine)
        .property("engine-id", size)
        .property("model", model.display().to_string())
        .property("input-size", size)
        .property("smoothing", 0.0)
        .property("batch-size", 4u32)
        .property("regions", format!(r#"{{"regions": [{left}]}}"#))
        .build()
        .unwrap()
}

/// Adds a test picture of that format and size in front of `counter`'s `sink_INDEX`.
fn add_camera(pipeline: &gst::Pipeline, counter: &gst::Element, index: u32, source: &str) {
    let source = gst::parse::bin_from_description(source, true).unwrap();
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink]).unwrap();
    source.link_pads(Some("src"), counter, Some(&format!("sink_{index}"))).unwrap();
    counter.link_pads(Some(&format!("src_{index}")), &sink, Some("sink")).unwrap();
}

fn source(frames: i32, live: bool, caps: &str) -> String {
    format!(
        "videotestsrc num-buffers={frames} is-live={live} pattern=smpte75 ! videoconvert ! capsfilter caps=\"video/x-raw,framerate=25/1,{caps}\""
    )
}

/// What cameras of several shapes send, and columns and rows of their grids with `auto:192`.
const CAMERAS: [(&str, (usize, usize)); 6] = [
    ("format=NV12,width=320,height=180", (32, 20)),
    ("format=I420,width=640,height=480", (28, 20)),
    ("format=RGB,width=200,height=200", (24, 24)),
    ("format=BGRx,width=90,height=160", (20, 32)),
    ("format=GRAY8,width=322,height=242", (28, 20)),
    ("format=NV12,width=1280,height=720", (32, 20)),
];

fn count(engine: &str, frames: i32, with_map: bool) -> BTreeMap<String, Vec<FrameReport>> {
    let counter = counter(engine, "auto:192");
    counter.set_property("density-map", with_map);
    let pipeline = gst::Pipeline::new();
    pipeline.add(&counter).unwrap();
    let reports = Reports::default();
    for ((caps, _), index) in CAMERAS.iter().zip(0..) {
        add_camera(&pipeline, &counter, index, &source(frames, false, caps));
        reports.collect(&counter.static_pad(&format!("src_{index}")).unwrap());
    }
    run_to_end(&pipeline);
    drop(counter);
    assert_no_leak(pipeline);
    reports.all()
}

#[test]
fn cameras_of_several_shapes_count_on_the_gpu_as_on_the_processor() {
    let Some(_device) = device() else { return };
    let expected = count("scripted", 12, true);
    for with_map in [true, false] {
        let got = count("tensorrt", 12, with_map);
        assert_eq!(got.len(), CAMERAS.len());
        for ((_, (columns, rows)), index) in CAMERAS.iter().zip(0..) {
            let camera = format!("camera-{index}");
            assert_eq!(got[&camera].len(), 12);
            for (got, expected) in got[&camera].iter().zip(&expected[&camera]) {
                assert_eq!((got.sequence, got.stale), (expected.sequence, false), "{camera}");
                let values = |report: &FrameReport| {
                    [report.count, report.regions[0].count].map(|count| count.unwrap().raw)
                };
                for (got, expected) in values(got).into_iter().zip(values(expected)) {
                    let close = (got - expected).abs() < 2e-3 * expected.max(1.0);
                    assert!(close, "{camera}: {got}, not {expected}");
                }
                let grid = got.density.as_ref().map(|map| (map.grid.columns, map.grid.rows));
                assert_eq!(grid, with_map.then_some((*columns, *rows)), "{camera}");
            }
        }
    }
}

#[test]
fn plan_of_another_shape_is_built_while_live_cameras_pass_and_files_wait() {
    let Some(_device) = device() else { return };
    let tensorrt = Builder::new();
    let counter = counter("tensorrt", "auto:160");
    let pipeline = gst::Pipeline::new();
    pipeline.add(&counter).unwrap();
    let reports = Reports::default();
    let (wide, square) = ("format=I420,width=320,height=180", "format=I420,width=64,height=64");
    add_camera(&pipeline, &counter, 0, &source(-1, true, wide));
    reports.collect(&counter.static_pad("src_0").unwrap());
    pipeline.set_state(gst::State::Playing).unwrap();
    drive(&pipeline, "counts", |_, _| reports.fresh("camera-0") > 2);

    tensorrt.0.hold_builds(true);
    let builds = tensorrt.builds();
    add_camera(&pipeline, &counter, 1, &source(-1, true, square));
    add_camera(&pipeline, &counter, 2, &source(10, false, square));
    for index in [1, 2] {
        reports.collect(&counter.static_pad(&format!("src_{index}")).unwrap());
    }
    pipeline
        .iterate_elements()
        .into_iter()
        .flatten()
        .for_each(|element| element.sync_state_with_parent().unwrap());
    let before = reports.fresh("camera-0");
    drive(&pipeline, "live frames", |_, _| {
        reports.frames("camera-1") > 5 && reports.fresh("camera-0") > before + 5
    });
    assert_eq!((reports.fresh("camera-1"), reports.frames("camera-2")), (0, 0));
    tensorrt.0.hold_builds(false);
    drive(&pipeline, "counts", |_, _| {
        reports.fresh("camera-1") > 5 && reports.fresh("camera-2") == 10
    });
    assert_eq!(reports.frames("camera-2"), 10, "no frame of the file is lost");
    // The precision was chosen with the first shape.
    assert_eq!(tensorrt.builds() - builds, 1);
    let grid = |camera: &str| {
        let reports = &reports.all()[camera];
        let map = reports.last().unwrap().density.clone().unwrap();
        (map.grid.columns, map.grid.rows)
    };
    assert_eq!((grid("camera-0"), grid("camera-2")), ((28, 16), (20, 20)));
    drop(counter);
    assert_no_leak(pipeline);
}

#[test]
fn going_to_null_ends_the_build_of_another_shape() {
    let Some(device) = device() else { return };
    let tensorrt = Builder::new();
    let counter = counter("tensorrt", "auto:224");
    let pipeline = gst::Pipeline::new();
    pipeline.add(&counter).unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    drive(&pipeline, "the engine", |_, _| {
        counter.property::<Option<String>>("active-engine").is_some()
    });
    tensorrt.0.hold_builds(true);
    let caps = "format=I420,width=64,height=64";
    add_camera(&pipeline, &counter, 0, &source(100, false, caps));
    add_camera(&pipeline, &counter, 1, &source(100, true, caps));
    pipeline.set_state(gst::State::Playing).unwrap();
    progress(&pipeline, gst::ProgressType::Start);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(tensorrt.0.figure(Figure::Builders), 0);
    tensorrt.0.hold_builds(false);
    drop(counter);
    assert_no_leak(pipeline);
    assert_eq!(device.sim.alive(), []);
}
