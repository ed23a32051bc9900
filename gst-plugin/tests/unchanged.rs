//! Frames that do not differ from the last counted one keep its count (`skip-unchanged`).

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{BOUND, FRAME, Rig, counted, init};
use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::report::FrameReport;

/// A counter of one camera that skips unchanged frames.
fn skipping(name: &str) -> Rig {
    Rig::new(name, 1, |element| element.set_property("skip-unchanged", true))
}

/// A frame passes: whether its count is confirmed, and whether it is stale.
fn passes(rig: &mut Rig, red: u8, number: u64) -> (bool, bool) {
    rig.push(0, red, number);
    let report = rig.pull(0);
    assert!((counted(&report) - 64.0 * f64::from(red) / 255.0).abs() < 1e-3, "frame {number}");
    (report.confirmed, report.stale)
}

#[test]
fn unchanged_frames_keep_the_count_and_never_see_the_engine() {
    let mut rig = skipping("unchanged");
    for number in 0..5 {
        rig.push(0, 255, number);
        let report = rig.pull(0);
        let said = (counted(&report), report.confirmed, report.stale);
        assert_eq!(said, (64.0, number > 0, false), "frame {number}");
        assert_eq!(report.age, number * FRAME.nseconds());
        assert!(report.density.is_some());
    }
    assert_eq!(rig.control.calls(), [1]);
    assert_eq!(passes(&mut rig, 204, 5), (false, false));
    assert_eq!(passes(&mut rig, 204, 6), (true, false));
    assert_eq!(rig.control.calls(), [1, 1]);
    let statistics = ["inferred", "confirmed", "stale"].map(|name| rig.statistic(0, name));
    assert_eq!(statistics, [2, 5, 0]);
    rig.end();
}

#[test]
fn every_frame_is_counted_unless_unchanged_ones_are_to_be_skipped() {
    let mut rig = Rig::new("not-skipped", 1, |_| {});
    for number in 0..3 {
        assert_eq!(passes(&mut rig, 255, number), (false, false));
    }
    // Switched on: the first frame is compared with none.
    rig.element.set_property("skip-unchanged", true);
    assert_eq!(passes(&mut rig, 255, 3), (false, false));
    assert_eq!(passes(&mut rig, 255, 4), (true, false));
    // Switched off for the camera, and on again: what was counted meanwhile is what counts.
    let pad = rig.element.static_pad("sink_0").unwrap();
    pad.set_property_from_str("skip-unchanged", "false");
    assert_eq!(passes(&mut rig, 51, 5), (false, false));
    pad.set_property_from_str("skip-unchanged", "true");
    rig.element.set_property("skip-unchanged", false);
    assert_eq!(passes(&mut rig, 255, 6), (false, false));
    assert_eq!(passes(&mut rig, 255, 7), (true, false));
    pad.set_property_from_str("skip-unchanged", "element");
    assert_eq!(passes(&mut rig, 255, 8), (false, false));
    assert_eq!(rig.control.calls().len(), 7);
    drop(pad);
    rig.end();
}

#[test]
fn frame_is_counted_in_any_case_after_ten_seconds() {
    let mut rig = skipping("ten-seconds");
    for (number, confirmed) in
        [(0, false), (100, true), (249, true), (250, false), (251, true), (499, true), (500, false)]
    {
        assert_eq!(passes(&mut rig, 255, number), (confirmed, false), "frame {number}");
    }
    assert_eq!(rig.control.calls().len(), 3);
    rig.end();
}

#[test]
fn frames_that_the_interval_skips_carry_the_confirmed_count() {
    let mut rig = skipping("interval-unchanged");
    rig.element.set_property("interval", 1u32);
    for number in 0..6 {
        assert_eq!(passes(&mut rig, 255, number), ([2, 4].contains(&number), false));
    }
    // One that is not due is not compared.
    assert_eq!(passes(&mut rig, 255, 6), (true, false));
    rig.push(0, 51, 7);
    let report = rig.pull(0);
    assert_eq!((counted(&report), report.confirmed, report.stale), (64.0, false, false));
    assert_eq!(passes(&mut rig, 51, 8), (false, false));
    assert_eq!(rig.control.calls().len(), 2);
    rig.end();
}

#[test]
fn frame_waits_for_the_count_of_the_one_it_does_not_differ_from() {
    let mut rig = skipping("wait-unchanged");
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.push(0, 255, 1);
    rig.control.open_gate();
    let reports = [rig.pull(0), rig.pull(0)];
    assert_eq!(
        reports.map(|report| (report.confirmed, report.stale)),
        [(false, false), (true, false)]
    );
    assert_eq!(rig.control.calls(), [1]);
    rig.end();
}

#[test]
fn frame_is_confirmed_by_the_late_count_of_one_that_has_left() {
    let mut rig = skipping("late-unchanged");
    let clock = rig.cameras[0].testclock().unwrap();
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    clock.advance_time(40_000_000);
    rig.push(0, 255, 1);
    rig.pass_the_deadline();
    let first = rig.pull(0);
    assert_eq!((first.count, first.stale, first.confirmed), (None, true, false));
    // The second one waits: its own deadline has not come.
    rig.control.open_gate();
    let second = rig.pull(0);
    assert_eq!((counted(&second), second.stale, second.confirmed), (64.0, false, true));
    // Held past its own deadline, too, it is stale.
    rig.control.hold();
    rig.push(0, 51, 2);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.push(0, 51, 3);
    rig.pass_the_deadline();
    let reports = [rig.pull(0), rig.pull(0)];
    assert_eq!(
        reports.map(|report| (counted(&report), report.stale, report.confirmed)),
        [(64.0, true, false); 2]
    );
    rig.end();
}

#[test]
fn nothing_is_confirmed_by_a_frame_that_the_engine_failed_on() {
    let mut rig = skipping("failure-unchanged");
    assert_eq!(passes(&mut rig, 255, 0), (false, false));
    rig.control.fail_next("the device is lost");
    rig.control.hold();
    rig.push(0, 51, 1);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.push(0, 51, 2);
    rig.control.open_gate();
    let reports = [rig.pull(0), rig.pull(0)];
    assert_eq!(
        reports.map(|report| (counted(&report), report.stale, report.confirmed)),
        [(64.0, true, false); 2]
    );
    assert!(rig.warning().contains("the device is lost"));
    assert_eq!(passes(&mut rig, 51, 3), (false, false), "the next one is counted");
    assert_eq!(passes(&mut rig, 51, 4), (true, false));
    rig.end();
}

#[test]
fn frame_that_cannot_be_read_confirms_nothing() {
    let mut rig = skipping("broken-unchanged");
    assert_eq!(passes(&mut rig, 255, 0), (false, false));
    let mut short = gst::Buffer::from_mut_slice([0u8; 10]);
    short.get_mut().unwrap().set_pts(FRAME);
    rig.cameras[0].push(short).unwrap();
    let report = rig.pull(0);
    assert_eq!((counted(&report), report.stale, report.confirmed), (64.0, true, false));
    assert!(rig.warning().contains("10 bytes"));
    assert_eq!(passes(&mut rig, 255, 2), (true, false), "the count of the first one still holds");
    rig.end();
}

#[test]
fn new_settings_another_format_and_a_seek_begin_anew() {
    let mut rig = skipping("anew-unchanged");
    let mut number = 0;
    let mut counted_then_confirmed = |rig: &mut Rig, what: &str| {
        for confirmed in [false, true] {
            assert_eq!(passes(rig, 255, number), (confirmed, false), "{what}");
            number += 1;
        }
    };
    counted_then_confirmed(&mut rig, "the first");
    let regions = r#"{"regions": [{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1]]}]}"#;
    rig.element.set_property("regions", regions);
    counted_then_confirmed(&mut rig, "regions");
    rig.element.set_property("smoothing", 2.0);
    counted_then_confirmed(&mut rig, "smoothing");
    assert!(rig.cameras[0].push_event(gst::event::FlushStart::new()));
    assert!(rig.cameras[0].push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(rig.cameras[0].push_event(gst::event::Segment::new(&segment)));
    counted_then_confirmed(&mut rig, "a seek");
    rig.cameras[0].set_src_caps_str("video/x-raw,format=BGR,width=64,height=64,framerate=25/1");
    rig.push(0, 255, 8);
    assert!(!rig.pull(0).confirmed, "another format");
    rig.end();
}

/// All reports of a file of `frames` equal frames in `format`, and the engine's calls.
fn of_still_file(format: &str, frames: usize) -> (Vec<FrameReport>, usize) {
    let id = format!("still-{format}");
    let line = format!(
        "videotestsrc pattern=smpte75 num-buffers={frames} \
         ! video/x-raw,format={format},width=322,height=180,framerate=25/1 \
         ! vehiclecounter engine=scripted engine-id={id} skip-unchanged=true smoothing=0 \
         ! fakesink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let told = reports.clone();
    let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        told.lock().unwrap().extend(info.buffer().and_then(|buffer| meta::count::read(buffer)));
        gst::PadProbeReturn::Ok
    });
    drop(pad);
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bound = gst::ClockTime::try_from(BOUND).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(bound, &kinds).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{format}: {message:?}");
    drop(message);
    pipeline.set_state(gst::State::Null).unwrap();
    bus.set_flushing(true);
    let weak = pipeline.downgrade();
    drop((bus, pipeline));
    common::assert_gone(&weak, "the pipeline");
    let reports = std::mem::take(&mut *reports.lock().unwrap());
    (reports, Control::of(&id).calls().iter().sum())
}

#[test]
fn frames_of_every_format_are_compared() {
    init();
    let templates = gst::ElementFactory::find("vehiclecounter").unwrap().static_pad_templates();
    let sink = templates.iter().find(|template| template.name_template() == "sink_%u").unwrap();
    let formats = sink.caps().structure(0).unwrap().get::<gst::List>("format").unwrap();
    let formats: Vec<_> = formats.iter().map(|format| format.get::<String>().unwrap()).collect();
    assert!(formats.len() > 30, "{formats:?}");
    for format in formats {
        let (reports, counted) = of_still_file(&format, 12);
        assert_eq!((reports.len(), counted), (12, 1), "{format}");
        let total = reports[0].count.unwrap().raw;
        for (number, report) in reports.iter().enumerate() {
            let said = (report.sequence, report.confirmed, report.stale);
            assert_eq!(said, (number as u64, number > 0, false), "{format}");
            assert_eq!(report.count.unwrap().raw, total, "{format}");
        }
    }
}

#[test]
fn cameras_are_compared_each_with_itself() {
    let mut rig =
        Rig::new("two-unchanged", 2, |element| element.set_property("skip-unchanged", true));
    let south = rig.element.static_pad("sink_1").unwrap();
    south.set_property_from_str("skip-unchanged", "false");
    for number in 0..4 {
        for (camera, red) in [(0, 255), (1, 51)] {
            rig.push(camera, red, number);
            let report = rig.pull(camera);
            assert_eq!(report.confirmed, camera == 0 && number > 0, "camera {camera}");
            assert!((counted(&report) - 64.0 * f64::from(red) / 255.0).abs() < 1e-3);
        }
    }
    let inferred = [0, 1].map(|camera| rig.statistic(camera, "inferred"));
    assert_eq!(inferred, [1, 4]);
    drop(south);
    rig.end();
}
