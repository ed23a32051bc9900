//! Regions with `detail`: a frame is counted in the whole picture and in crops of it, and has one
//! count. The scripted engine counts a vehicle in each cell of 8x8 pixels of its input that is all
//! red; so an area that is shown twice as large counts four times as much.

#![allow(clippy::unwrap_used)]

mod common;

use common::{BOUND, FRAME, Rig, assert_gone, counted, frame};
use gst::prelude::*;
use vehiclecount_core::region::Coverage;
use vehiclecount_core::report::FrameReport;

/// In the upper left: with its margin, half of the frame each way.
const CORNER: &str = r#"{"name": "far", "polygon": [[0, 0], [0.4375, 0], [0.4375, 0.4375], [0, 0.4375]], "detail": true}"#;
/// The share of the frame that it covers.
const SHARE: f64 = 0.4375 * 0.4375;
/// The picture has it twice as large as the input of 64x64 shows it.
const SIDE: usize = 128;

fn regions(regions: &str) -> String {
    format!(r#"{{"regions": [{regions}]}}"#)
}

/// A counter of inputs of 64x64, with cameras whose pictures are larger.
fn rig(name: &str, cameras: usize, batch: u32, regions_of_all: &str) -> Rig {
    let json = regions(regions_of_all);
    let mut rig = Rig::new(name, cameras, |element| {
        element.set_property_from_str("input-size", "64x64");
        element.set_property("batch-size", batch);
        element.set_property("regions", &json);
    });
    for camera in &mut rig.cameras {
        camera.set_src_caps_str(&format!(
            "video/x-raw, format=RGB, width={SIDE}, height={SIDE}, framerate=25/1"
        ));
    }
    rig
}

fn push(rig: &mut Rig, camera: usize, number: u64) {
    let picture = frame([255, 0, 0].repeat(SIDE * SIDE), number);
    assert_eq!(rig.cameras[camera].push(picture), Ok(gst::FlowSuccess::Ok));
}

/// Lets the engine count one input, and waits until it is at the next one.
fn count_one(rig: &Rig) {
    let calls = rig.control.calls().len();
    rig.control.release(1);
    while rig.control.calls().len() == calls {
        std::thread::yield_now();
    }
}

#[track_caller]
fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 0.02, "{value}, not {expected}");
}

/// The count of a frame with its closer look.
const BOTH: f64 = 64.0 * (1.0 - SHARE) + 4.0 * 64.0 * SHARE;

/// The count, the region and the map say the same.
#[track_caller]
fn assert_whole(report: &FrameReport) {
    near(counted(report), BOTH);
    let map = report.density.as_ref().expect("attached by default");
    near(map.count(), BOTH);
    assert_eq!((map.grid.columns, map.grid.rows), (16, 16), "cells are half as large");
    let region = &report.regions[0];
    let inside = Coverage::new(&region.polygon, &map.grid).count(map);
    near(region.count.expect("counted").raw, inside);
    near(inside, 4.0 * 64.0 * SHARE);
}

#[test]
fn region_counts_what_its_own_look_shows_and_the_rest_what_the_picture_shows() {
    let mut rig = rig("detail-one", 1, 4, CORNER);
    for number in 0..3 {
        push(&mut rig, 0, number);
        let report = rig.pull(0);
        assert_whole(&report);
        assert_eq!((report.stale, report.age, report.sequence), (false, 0, number));
    }
    assert_eq!(rig.control.openings(), 1, "the look goes into the input that is open");
    assert_eq!((rig.statistic(0, "received"), rig.statistic(0, "inferred")), (3, 3));
    rig.end();
}

#[test]
fn pictures_and_looks_of_several_cameras_share_batches() {
    let mut rig = rig("detail-batch", 2, 4, CORNER);
    // The lane is busy with a look of a first frame while the others come.
    rig.control.hold();
    push(&mut rig, 0, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    push(&mut rig, 1, 0);
    push(&mut rig, 0, 1);
    rig.control.open_gate();
    for (camera, number) in [(0, 0), (1, 0), (0, 1)] {
        let report = rig.pull(camera);
        assert_whole(&report);
        assert_eq!((report.sequence, report.stale), (number, false), "camera {camera}");
    }
    assert!(rig.control.calls().contains(&4), "{:?}", rig.control.calls());
    rig.end();
}

#[test]
fn frame_is_fresh_only_when_all_its_looks_are_its_own() {
    let mut rig = rig("detail-fresh", 1, 1, CORNER);
    push(&mut rig, 0, 0);
    near(counted(&rig.pull(0)), BOTH);
    // The whole picture is counted, its look is not: the frame leaves with the last count.
    rig.control.hold();
    push(&mut rig, 0, 1);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    count_one(&rig);
    rig.pass_the_deadline();
    let report = rig.pull(0);
    assert_eq!((report.sequence, report.stale), (1, true));
    assert_eq!(report.age, FRAME.nseconds());
    // The look comes, and with it the count of the frame that has left.
    rig.control.open_gate();
    push(&mut rig, 0, 2);
    let report = rig.pull(0);
    assert_eq!((report.sequence, report.stale), (2, false));
    assert_whole(&report);
    assert_eq!(rig.statistic(0, "inferred"), 3);
    rig.end();
}

#[test]
fn look_that_fails_fails_its_frame_and_the_next_one_is_counted() {
    let mut rig = rig("detail-fails", 1, 1, CORNER);
    rig.control.hold();
    push(&mut rig, 0, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    count_one(&rig);
    // Only the second of its inputs is left.
    rig.control.fail_next("out of luck");
    rig.control.open_gate();
    let report = rig.pull(0);
    assert!(report.stale && report.count.is_none(), "{report:?}");
    let said = rig.warning();
    assert!(said.contains("camera-0") && said.contains("out of luck"), "{said}");
    push(&mut rig, 0, 1);
    assert_whole(&rig.pull(0));
    rig.end();
}

#[test]
fn camera_that_is_faster_than_the_engine_has_whole_frames_again_and_again() {
    let mut rig = rig("detail-overload", 1, 1, CORNER);
    rig.control.hold();
    // Three frames come for each input that the engine counts.
    for number in 0..30 {
        push(&mut rig, 0, number);
        assert!(rig.control.wait_for_waiting(1, BOUND));
        if number % 3 == 2 {
            count_one(&rig);
        }
    }
    let (inferred, dropped) = (rig.statistic(0, "inferred"), rig.statistic(0, "dropped"));
    assert!((4..=5).contains(&inferred), "ten inputs are five frames, not {inferred}");
    assert!(dropped >= 23, "{dropped}");
    rig.end();
}

#[test]
fn detail_comes_and_goes_while_the_element_runs() {
    let mut rig = rig("detail-change", 1, 2, CORNER);
    push(&mut rig, 0, 0);
    assert_whole(&rig.pull(0));
    let off = CORNER.replace("true", "false");
    let factor = CORNER.replace("true", "1.5");
    for (number, region, total) in [
        (1, off.as_str(), 64.0),
        (2, factor.as_str(), 64.0 * (1.0 - SHARE) + 1.5 * 1.5 * 64.0 * SHARE),
        (3, CORNER, BOTH),
    ] {
        rig.element.set_property("regions", regions(region));
        push(&mut rig, 0, number);
        let count = counted(&rig.pull(0));
        // A crop is of whole pixels.
        assert!((count - total).abs() < 1.0, "{region}: {count}, not {total}");
    }
    // Wrong values are named, and change nothing.
    for (value, word) in [("9", "detail is 9"), ("0.5", "detail is 0.5"), ("\"much\"", "detail")] {
        rig.element.set_property("regions", regions(&CORNER.replace("true", value)));
        let said = rig.warning();
        assert!(said.contains(word) && said.contains("stay as they were"), "{said}");
    }
    push(&mut rig, 0, 4);
    assert_whole(&rig.pull(0));
    rig.end();
}

#[test]
fn regions_that_need_too_many_crops_are_told_and_enlarged_less() {
    let all = r#"{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "detail": 8}"#;
    let mut rig = rig("detail-many", 1, 4, all);
    let (width, height) = (512, 512);
    rig.cameras[0].set_src_caps_str(&format!(
        "video/x-raw, format=GRAY8, width={width}, height={height}, framerate=25/1"
    ));
    let buffer = frame(vec![255; width * height], 0);
    assert_eq!(rig.cameras[0].push(buffer), Ok(gst::FlowSuccess::Ok));
    let report = rig.pull(0);
    let said = rig.warning();
    assert!(said.contains("more than 8 crops") && said.contains("camera-0"), "{said}");
    // Two by two crops show it 1.75 times as large.
    let gain = counted(&report) / 64.0;
    assert!((2.8..3.1).contains(&gain), "{gain}");
    rig.end();
}

#[test]
fn every_frame_of_a_file_is_counted_with_its_looks() {
    common::init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=40 pattern=red ! video/x-raw,format=RGB,width={SIDE},height={SIDE} ! \
         vehiclecounter name=c engine=scripted engine-id=detail-file input-size=64x64 smoothing=0 ! \
         appsink name=sink sync=false"
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let counter = pipeline.by_name("c").unwrap();
    counter.set_property("regions", regions(CORNER));
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for number in 0..40 {
        let bound = gst::ClockTime::try_from(BOUND).unwrap();
        let sample = sink.try_pull_sample(bound).expect("a frame");
        let report = gstvehiclecount::meta::count::read(sample.buffer().unwrap()).unwrap();
        assert_whole(&report);
        assert_eq!((report.sequence, report.stale), (number, false));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let weak = counter.downgrade();
    drop((sink, counter, pipeline));
    assert_gone(&weak, "the element");
}
