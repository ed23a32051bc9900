//! `input-scale`: cameras whose pictures are shown larger or smaller than those of the others share
//! their engine. The scripted engine counts a vehicle in each cell of 8x8 red pixels of its input.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Rig, counted, frame};
use gst::prelude::*;
use vehiclecount_core::report::FrameReport;

const CAPS: &str = "video/x-raw, format=GRAY8, width=1280, height=720, framerate=25/1";

fn rig(name: &str, cameras: usize, input: &str) -> Rig {
    let mut rig = Rig::new(name, cameras, |element| {
        element.set_property_from_str("input-size", input);
        element.set_property("batch-size", 4u32);
    });
    rig.cameras.iter_mut().for_each(|camera| camera.set_src_caps_str(CAPS));
    rig
}

fn push(rig: &mut Rig, camera: usize, number: u64) {
    let buffer = frame(vec![255; 1280 * 720], number);
    assert_eq!(rig.cameras[camera].push(buffer), Ok(gst::FlowSuccess::Ok));
}

fn set(rig: &Rig, camera: usize, name: &str, value: &str) {
    let pad = rig.element.static_pad(&format!("sink_{camera}")).unwrap();
    pad.set_property_from_str(name, value);
}

fn cells(report: &FrameReport) -> (usize, usize) {
    let grid = report.density.as_ref().expect("attached by default").grid;
    (grid.columns, grid.rows)
}

/// Equal but for a grey border at the sides, which is no 16:9 input's exactly.
#[track_caller]
fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 0.03 * expected, "{value}, not {expected}");
}

#[test]
fn cameras_of_several_scales_share_one_engine() {
    let mut rig = rig("scales-share", 4, "auto");
    for (camera, scale) in [(1, "small"), (2, "320"), (3, "small")] {
        set(&rig, camera, "input-scale", scale);
    }
    for number in 0..3 {
        for camera in 0..4 {
            push(&mut rig, camera, number);
        }
        for (camera, expected) in [(11, 6), (43, 24), (53, 30), (43, 24)].into_iter().enumerate() {
            let report = rig.pull(camera);
            assert_eq!((cells(&report), report.stale), (expected, false), "camera {camera}");
            near(counted(&report), (expected.0 * expected.1) as f64);
        }
    }
    assert_eq!(rig.control.openings(), 3, "each size is opened once");
    rig.end();
}

#[test]
fn scale_is_changed_while_the_camera_runs_and_a_wrong_one_changes_nothing() {
    let mut rig = rig("scales-change", 1, "auto");
    for (number, (scale, expected)) in
        [("", (11, 6)), ("small", (43, 24)), ("normal", (11, 6)), ("256", (43, 24))]
            .into_iter()
            .enumerate()
    {
        set(&rig, 0, "input-scale", scale);
        push(&mut rig, 0, number as u64);
        assert_eq!(cells(&rig.pull(0)), expected, "{scale}");
    }
    set(&rig, 0, "input-scale", "enormous");
    let said = rig.warning();
    assert!(said.contains("camera-0") && said.contains("enormous"), "{said}");
    push(&mut rig, 0, 9);
    assert_eq!(cells(&rig.pull(0)), (43, 24));
    rig.end();
}

#[test]
fn regions_file_has_scale_and_factor_and_the_pad_goes_before_it() {
    let mut rig = rig("scales-file", 1, "auto");
    let file = r#"{"cameras": {"camera-0": {"input-scale": "small", "scale-factor": 0.5}}}"#;
    rig.element.set_property("regions", file);
    push(&mut rig, 0, 0);
    let report = rig.pull(0);
    assert_eq!(cells(&report), (43, 24));
    near(counted(&report), 43.0 * 24.0 / 2.0);
    set(&rig, 0, "input-scale", "normal");
    set(&rig, 0, "scale-factor", "2");
    push(&mut rig, 0, 1);
    let report = rig.pull(0);
    assert_eq!(cells(&report), (11, 6));
    near(counted(&report), 132.0);
    for (wrong, word) in [
        (r#"{"input-scale": 300}"#, "300"),
        (r#"{"input-scale": true}"#, "input-scale"),
        (r#"{"scale-factor": 0}"#, "scale-factor is 0"),
        (r#"{"scale-factor": -1}"#, "scale-factor is -1"),
    ] {
        rig.element.set_property("regions", wrong);
        let said = rig.warning();
        assert!(said.contains(word), "{wrong}: {said}");
    }
    rig.end();
}

#[test]
fn scale_beside_one_fixed_size_is_told_not_to_be_used() {
    let mut rig = rig("scales-fixed", 1, "64x64");
    set(&rig, 0, "input-scale", "large");
    push(&mut rig, 0, 0);
    assert_eq!(cells(&rig.pull(0)), (8, 8));
    let said = rig.warning();
    assert!(said.contains("input-scale=large is not used") && said.contains("64x64"), "{said}");
    rig.end();
}
