//! `input-size=auto`: cameras of several aspect ratios share one engine, each with an input of its
//! own shape. The scripted engine has 64x64, 88x48 (16:9) and 48x88 (9:16) among them.

#![allow(clippy::unwrap_used)]

mod common;

use common::{BOUND, Rig, counted, frame};
use gst::prelude::*;
use vehiclecount_core::report::FrameReport;

/// Frames of that size, all of them full of red.
fn caps(width: usize, height: usize) -> String {
    format!("video/x-raw, format=RGB, width={width}, height={height}, framerate=25/1")
}

fn picture(width: usize, height: usize, number: u64) -> gst::Buffer {
    let mut stride = width * 3;
    stride = stride.next_multiple_of(4);
    let mut row = [255, 0, 0].repeat(width);
    row.resize(stride, 0);
    frame(row.repeat(height), number)
}

fn push(rig: &mut Rig, camera: usize, (width, height): (usize, usize), number: u64) {
    assert_eq!(rig.cameras[camera].push(picture(width, height, number)), Ok(gst::FlowSuccess::Ok));
}

/// Columns and rows of the map, checked against the count and against its place: all of the frame.
fn grid(report: &FrameReport) -> (usize, usize) {
    let map = report.density.as_ref().expect("attached by default");
    let (columns, rows) = (map.grid.columns, map.grid.rows);
    assert_eq!(map.cells.len(), columns * rows);
    let cells = (columns * rows) as f64;
    assert!((counted(report) - cells).abs() < 1e-3, "one vehicle in each cell");
    let rect = map.grid.rect;
    assert_eq!((rect.x, rect.y, rect.width, rect.height), (0.0, 0.0, 1.0, 1.0));
    (columns, rows)
}

/// The input sizes of which the element has said that they are open.
fn told(rig: &Rig) -> Vec<(u32, u32)> {
    let messages = std::iter::from_fn(|| rig.bus.pop_filtered(&[gst::MessageType::Element]))
        .filter_map(|message| {
            let told = message.structure().filter(|s| s.name() == "vehiclecount-engine")?;
            Some((told.get("input-width").unwrap(), told.get("input-height").unwrap()))
        });
    messages.collect()
}

#[test]
fn cameras_of_several_shapes_share_one_engine_and_each_has_its_own_grid() {
    let sizes = [(176, 96), (64, 64), (48, 88), (128, 128)];
    let mut rig = Rig::new("shapes-share", sizes.len(), |_| {});
    assert_eq!(told(&rig), [(88, 48)], "16:9 is opened first");
    let expected = [(11, 6), (8, 8), (6, 11), (8, 8)];
    for number in 0..3 {
        for (camera, &(width, height)) in sizes.iter().enumerate() {
            if number == 0 {
                rig.cameras[camera].set_src_caps_str(&caps(width, height));
            }
            push(&mut rig, camera, (width, height), number);
        }
        for (camera, &expected) in expected.iter().enumerate() {
            let report = rig.pull(camera);
            assert_eq!((grid(&report), report.stale), (expected, false), "camera {camera}");
        }
    }
    assert_eq!(told(&rig), [(64, 64), (48, 88)], "each is opened once");
    assert_eq!(rig.control.openings(), 3);
    for (camera, input) in ["88x48", "64x64", "48x88", "64x64"].into_iter().enumerate() {
        assert_eq!(input_size(&rig, camera), input);
    }
    rig.end();
}

fn input_size(rig: &Rig, camera: usize) -> String {
    let statistics = rig.element.property::<gst::Structure>("statistics");
    let cameras = statistics.get::<gst::ArrayRef>("cameras").unwrap();
    cameras.as_slice()[camera].get::<gst::Structure>().unwrap().get("input-size").unwrap()
}

#[test]
fn camera_that_changes_its_size_loses_and_mixes_no_count() {
    let mut rig = Rig::new("shapes-change", 1, |_| {});
    let sizes = [(88, 48), (48, 88), (64, 64), (176, 96), (48, 88)];
    let cells = [(11, 6), (6, 11), (8, 8), (11, 6), (6, 11)];
    // Each frame waits for its count before the next one comes: a live camera has one at a time.
    for (number, &(width, height)) in sizes.iter().enumerate() {
        rig.cameras[0].set_src_caps_str(&caps(width, height));
        push(&mut rig, 0, (width, height), number as u64);
        let report = rig.pull(0);
        assert_eq!((grid(&report), report.stale), (cells[number], false), "frame {number}");
    }
    // A frame is in the engine when the size changes.
    rig.control.hold();
    push(&mut rig, 0, (48, 88), 5);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.cameras[0].set_src_caps_str(&caps(88, 48));
    push(&mut rig, 0, (88, 48), 6);
    rig.control.open_gate();
    for (number, expected) in [(5, (6, 11)), (6, (11, 6))] {
        let report = rig.pull(0);
        assert_eq!(report.sequence, number);
        assert_eq!((grid(&report), report.stale), (expected, false), "frame {number}");
    }
    assert_eq!((rig.statistic(0, "inferred"), rig.statistic(0, "dropped")), (7, 0));
    rig.end();
}

#[test]
fn regions_are_counted_in_the_grid_of_each_shape() {
    let mut rig = Rig::new("shapes-regions", 1, |element| {
        let left = r#"{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}"#;
        element.set_property("regions", format!(r#"{{"regions": [{left}]}}"#));
    });
    for (number, (width, height)) in [(176, 96), (64, 64), (48, 88)].into_iter().enumerate() {
        rig.cameras[0].set_src_caps_str(&caps(width, height));
        push(&mut rig, 0, (width, height), number as u64);
        let report = rig.pull(0);
        let (columns, rows) = grid(&report);
        let left = report.regions[0].count.unwrap().raw;
        assert!((left - (columns * rows) as f64 / 2.0).abs() < 1e-3, "{left}");
    }
    rig.end();
}

#[test]
fn fixed_size_is_that_of_every_camera() {
    let mut rig = Rig::new("shapes-fixed", 2, |element| {
        element.set_property("input-size", "64x64");
    });
    for (camera, (width, height)) in [(128, 64), (64, 64)].into_iter().enumerate() {
        rig.cameras[camera].set_src_caps_str(&caps(width, height));
        push(&mut rig, camera, (width, height), 0);
        let report = rig.pull(camera);
        let map = report.density.unwrap();
        assert_eq!((map.grid.columns, map.grid.rows), (8, 8));
        // The picture of 2:1 fills half of the square.
        assert_eq!(map.grid.rect.height, if camera == 0 { 2.0 } else { 1.0 });
    }
    assert_eq!((told(&rig), rig.control.openings()), (vec![(64, 64)], 1));
    rig.end();
}

#[test]
fn live_camera_passes_uncounted_while_its_shape_is_opened_and_others_are_counted() {
    let mut rig = Rig::new("shapes-slow", 2, |_| {});
    for (camera, (width, height)) in [(88, 48), (48, 88)].into_iter().enumerate() {
        rig.cameras[camera].set_src_caps_str(&caps(width, height));
    }
    rig.control.hold_openings();
    for number in 0..3 {
        push(&mut rig, 1, (48, 88), number);
        let report = rig.pull(1);
        assert_eq!((report.count, report.stale), (None, true), "frame {number}");
        push(&mut rig, 0, (88, 48), number);
        assert_eq!(grid(&rig.pull(0)), (11, 6), "the other camera");
    }
    assert_eq!(rig.control.openings(), 2, "it is opened once");
    let progress = |rig: &Rig| match rig.message(gst::MessageType::Progress).view() {
        gst::MessageView::Progress(progress) => progress.get().0,
        other => panic!("{other:?}"),
    };
    assert_eq!(progress(&rig), gst::ProgressType::Start);
    rig.control.open_gate();
    loop {
        let kind = progress(&rig);
        if kind == gst::ProgressType::Complete {
            break;
        }
        assert_eq!(kind, gst::ProgressType::Continue);
    }
    push(&mut rig, 1, (48, 88), 3);
    let mut report = rig.pull(1);
    // The engine may have told of its end a moment before the camera knew.
    for number in 4..100 {
        if !report.stale {
            break;
        }
        push(&mut rig, 1, (48, 88), number);
        report = rig.pull(1);
    }
    assert_eq!((grid(&report), report.stale), ((6, 11), false));
    rig.end();
}

#[test]
fn element_that_stops_ends_the_opening_of_a_shape() {
    let mut rig = Rig::new("shapes-stop", 1, |_| {});
    rig.cameras[0].set_src_caps_str(&caps(48, 88));
    rig.control.hold_openings();
    push(&mut rig, 0, (48, 88), 0);
    assert_eq!(rig.pull(0).count, None);
    rig.element.set_state(gst::State::Null).unwrap();
    assert_eq!(rig.control.openings(), 2);
    rig.end();
}

#[test]
fn shape_that_does_not_open_is_said_and_the_best_of_the_others_is_taken() {
    let mut rig = Rig::new("shapes-refused", 2, |_| {});
    rig.control.refuse_openings("no room");
    for (camera, expected) in [(0, true), (1, false)] {
        rig.cameras[camera].set_src_caps_str(&caps(64, 64));
        for number in 0..2 {
            push(&mut rig, camera, (64, 64), number);
            let report = rig.pull(camera);
            let map = report.density.clone().unwrap();
            assert_eq!((map.grid.columns, map.grid.rows, report.stale), (11, 6, false));
        }
        if expected {
            let warning = rig.warning();
            for word in ["camera-0", "64x64", "no room", "another input size"] {
                assert!(warning.contains(word), "{warning}");
            }
        }
    }
    assert_eq!(rig.control.openings(), 2, "it is not tried again");
    assert!(rig.bus.pop_filtered(&[gst::MessageType::Warning]).is_none());
    rig.end();
}

#[test]
fn size_that_is_none_is_an_error_that_says_what_to_write() {
    for wrong in ["automatic", "384", "auto:33", "auto:x"] {
        common::init();
        let element = gst::ElementFactory::make("vehiclecounter")
            .property_from_str("engine", "scripted")
            .property("input-size", wrong)
            .build()
            .unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert!(element.set_state(gst::State::Paused).is_err(), "{wrong}");
        let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error");
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        let text = error.error().to_string();
        assert!(text.contains("WIDTHxHEIGHT") || text.contains("multiples of 8"), "{text}");
        element.set_state(gst::State::Null).unwrap();
        element.set_bus(None);
    }
}
