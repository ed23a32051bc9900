//! The counter and time: whatever the times on frames say, each frame leaves with its own count.

#![allow(clippy::unwrap_used)]

mod common;

use common::{BOUND, CAPS, FRAME, Rig, counted, init, picture};
use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::report::FrameReport;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

/// A picture with this time, or none.
fn at(red: u8, pts: Option<u64>) -> gst::Buffer {
    let mut buffer = picture(red, 0);
    let header = buffer.get_mut().unwrap();
    header.set_pts(pts.map(gst::ClockTime::from_nseconds));
    header.set_duration(None);
    buffer
}

fn vehicles(red: u8) -> f64 {
    64.0 * f64::from(red) / 255.0
}

/// Pushes a frame with this time and sees that it leaves with its own count.
fn passes_with_its_own_count(rig: &mut Rig, red: u8, pts: Option<u64>) -> FrameReport {
    assert_eq!(rig.cameras[0].push(at(red, pts)), Ok(gst::FlowSuccess::Ok));
    let report = rig.pull(0);
    assert_eq!((report.stale, report.age), (false, 0), "at {pts:?}");
    assert!((counted(&report) - vehicles(red)).abs() < 1e-3, "at {pts:?}: {}", counted(&report));
    report
}

/// Times of two parts of a stream: the road is full in the first and empty in the second.
fn clocks() -> Vec<[Vec<Option<u64>>; 2]> {
    let steady = |from: u64| {
        (0..5).map(move |frame| Some(from + frame * FRAME.nseconds())).collect::<Vec<_>>()
    };
    let one = |mut times: Vec<Option<u64>>, other| {
        times[2] = other;
        times
    };
    vec![
        [steady(0), steady(SECOND)],
        [steady(100 * SECOND), steady(0)],
        [steady(0), steady(HOUR)],
        [one(steady(0), Some(HOUR)), steady(SECOND)],
        [one(steady(HOUR), Some(0)), steady(HOUR + SECOND)],
        [steady(0), vec![None; 5]],
        [vec![None; 5], steady(0)],
        [vec![None; 5], vec![None; 5]],
        [one(steady(0), None), one(steady(SECOND), None)],
        [steady(0), vec![Some(SECOND); 5]],
        [steady(1 << 63), steady(u64::MAX - 3 * SECOND)],
        [steady(u64::MAX - 3 * SECOND), steady(0)],
        [steady(SECOND), steady(SECOND - FRAME.nseconds())],
    ]
}

#[test]
fn every_frame_leaves_with_its_own_count_whatever_its_time() {
    let mut rig = Rig::new("any-time", 1, |_| {});
    for [full, empty] in clocks() {
        full.iter().for_each(|&pts| drop(passes_with_its_own_count(&mut rig, 255, pts)));
        empty.iter().for_each(|&pts| drop(passes_with_its_own_count(&mut rig, 0, pts)));
    }
    rig.end();
}

#[test]
fn decoding_times_serve_where_there_are_no_others() {
    let mut rig = Rig::new("dts", 1, |element| element.set_property("interval", 1u32));
    for number in 0..4u64 {
        let mut buffer = at(255, None);
        buffer.get_mut().unwrap().set_dts(number * gst::ClockTime::SECOND);
        rig.cameras[0].push(buffer).unwrap();
        let report = rig.pull(0);
        assert_eq!((report.pts, report.stale), (None, false));
        assert_eq!(report.age, number % 2 * SECOND);
    }
    rig.end();
}

#[test]
fn smoothing_begins_anew_where_time_goes_back() {
    let mut rig = Rig::new("back", 1, |element| {
        element.set_property("smoothing", 60.0);
        element.set_property("interval", 3u32);
    });
    for number in 0..6 {
        rig.push(0, 255, 2500 + number);
        rig.pull(0);
    }
    // It would have been skipped.
    let report = passes_with_its_own_count(&mut rig, 51, Some(0));
    assert!((report.count.unwrap().smoothed - 12.8).abs() < 1e-3);
    rig.end();
}

#[test]
fn stale_frame_behind_a_jump_back_does_not_carry_a_count_of_the_time_before() {
    let mut rig = Rig::new("stale-back", 1, |_| {});
    passes_with_its_own_count(&mut rig, 255, Some(HOUR));
    rig.control.hold();
    rig.push(0, 51, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.pass_the_deadline();
    let report = rig.pull(0);
    assert_eq!((report.count, report.stale, report.age), (None, true, 0));
    rig.end();
}

/// The clock on which frames come.
fn test_clock(rig: &Rig) -> gst_check::TestClock {
    rig.cameras[0].testclock().unwrap()
}

#[test]
fn smoothing_and_age_follow_the_arrival_where_frames_have_no_times() {
    let mut rig = Rig::new("arrival", 1, |element| {
        element.set_property("smoothing", 1.0);
        element.set_property("interval", 1u32);
    });
    let clock = test_clock(&rig);
    let mut pass = |red| {
        clock.set_time(clock.time() + gst::ClockTime::from_mseconds(500));
        rig.cameras[0].push(at(red, None)).unwrap();
        rig.pull(0)
    };
    assert_eq!(pass(255).count.unwrap().smoothed, 64.0);
    assert_eq!(pass(0).age, SECOND / 2);
    let smoothed = pass(0).count.unwrap().smoothed;
    assert!((smoothed - 64.0 * (-1.0f64).exp()).abs() < 1e-6, "{smoothed}");
    rig.end();
}

/// Runs a pipeline that ends, whose sink is called `sink`: the reports of all frames that reach it.
fn reports(launch: &str, feed: impl FnOnce(&gst::Pipeline)) -> Vec<FrameReport> {
    init();
    let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        send.send(meta::count::read(info.buffer().unwrap()).unwrap()).unwrap();
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    feed(&pipeline);
    let bus = pipeline.bus().unwrap();
    let bound = gst::ClockTime::try_from(BOUND).unwrap();
    let end = bus.timed_pop_filtered(bound, &[gst::MessageType::Eos, gst::MessageType::Error]);
    let end = end.expect("the stream ends");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    let weak = pipeline.downgrade();
    drop((pipeline, bus, pad, end));
    common::assert_gone(&weak, "the pipeline");
    receive.try_iter().collect()
}

/// Pushes `pictures` and the end into the source called `source`.
fn feed(pipeline: &gst::Pipeline, pictures: impl IntoIterator<Item = gst::Buffer>) {
    let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    for picture in pictures {
        source.push_buffer(picture).unwrap();
    }
    source.end_of_stream().unwrap();
}

#[test]
fn file_without_times_is_smoothed_by_its_frame_rate() {
    // No rate: 25 frames a second.
    for (rate, step) in [
        (", framerate=25/1", 0.04),
        (", framerate=5/1", 0.2),
        (", framerate=0/1", 0.04),
        ("", 0.04),
    ] {
        let caps = format!("video/x-raw, format=RGB, width=64, height=64{rate}");
        let launch = format!(
            "appsrc name=source format=time caps=\"{caps}\" ! vehiclecounter engine=scripted smoothing=1 \
             ! fakesink name=sink sync=false"
        );
        let reports = reports(&launch, |pipeline| {
            feed(pipeline, std::iter::once(at(0, None)).chain((0..20).map(|_| at(255, None))));
        });
        assert_eq!(reports.len(), 21);
        let smoothed = reports[20].count.unwrap().smoothed;
        let least = 64.0 * (1.0 - (-20.0f64 * step).exp());
        // More where the machine took longer than that.
        assert!(smoothed > least - 1e-6, "caps{rate}: {smoothed} of {least}");
        assert!(
            reports[1..]
                .iter()
                .all(|report| counted(report) == 64.0 && !report.stale && report.age == 0)
        );
    }
}

#[test]
fn application_that_leaves_appsrc_at_bytes_is_counted() {
    for times in [false, true] {
        let launch = format!(
            "appsrc name=source caps=\"{CAPS}\" ! vehiclecounter engine=scripted smoothing=1 interval=1 \
             ! fakesink name=sink sync=false"
        );
        let reports = reports(&launch, |pipeline| {
            feed(
                pipeline,
                (0..6u64).map(|number| {
                    at(51 * number as u8, times.then_some(number * FRAME.nseconds()))
                }),
            );
        });
        let raw: Vec<_> = reports.iter().map(|report| (counted(report) / 12.8).round()).collect();
        assert_eq!(raw, [0.0, 0.0, 2.0, 2.0, 4.0, 4.0]);
        assert!(
            reports
                .iter()
                .all(|report| !report.stale && (report.age == 0) == (report.sequence % 2 == 0))
        );
        assert!(reports.iter().all(|report| report.pts.is_some() == times));
    }
}

#[test]
fn stream_that_follows_another_on_the_same_pad_is_counted_from_its_first_frame() {
    let clip = |color: &str| {
        format!(
            "videotestsrc num-buffers=30 pattern=solid-color foreground-color={color} \
             ! video/x-raw,format=RGB,width=64,height=64,framerate=25/1 ! clips."
        )
    };
    let launch = format!(
        "concat name=clips adjust-base=false ! vehiclecounter engine=scripted smoothing=60 \
         ! fakesink name=sink sync=false {} {} {}",
        clip("0xff000000"),
        clip("0xffff0000"),
        clip("0xff330000")
    );
    let reports = reports(&launch, |_| {});
    assert_eq!(reports.len(), 90);
    for (number, report) in reports.iter().enumerate() {
        let expected = [0.0, 64.0, 12.8][number / 30];
        assert!((counted(report) - expected).abs() < 1e-3, "frame {number}: {}", counted(report));
        assert_eq!((report.sequence, report.stale, report.age), (number as u64, false, 0));
        // Nothing of the clip before is left in it.
        assert!((report.count.unwrap().smoothed - expected).abs() < 1e-3, "frame {number}");
    }
}

#[test]
fn segments_of_every_kind_leave_each_frame_its_own_count() {
    let mut rig = Rig::new("segments", 1, |element| element.set_property("smoothing", 1.0));
    let ns = gst::ClockTime::from_nseconds;
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    type Change = Box<dyn Fn(&mut gst::FormattedSegment<gst::ClockTime>)>;
    let changes: [(&str, Change); 8] = [
        ("plain", Box::new(|_| {})),
        ("begins later than the frames", Box::new(move |segment| segment.set_start(ns(HOUR)))),
        ("ends before the frames", Box::new(move |segment| segment.set_stop(ns(1)))),
        ("has a base", Box::new(move |segment| segment.set_base(ns(HOUR)))),
        ("has an offset", Box::new(move |segment| segment.set_offset(ns(SECOND / 2)))),
        ("runs twice as fast", Box::new(|segment| segment.set_rate(2.0))),
        (
            "runs backwards",
            Box::new(move |segment| {
                segment.set_stop(ns(HOUR));
                segment.set_rate(-1.0);
            }),
        ),
        ("runs backwards from no one knows where", Box::new(|segment| segment.set_rate(-1.0))),
    ];
    for (name, change) in changes {
        segment.reset();
        change(&mut segment);
        assert!(rig.cameras[0].push_event(gst::event::Segment::new(&segment)), "{name}");
        for number in 0..5u64 {
            passes_with_its_own_count(
                &mut rig,
                51 * number as u8,
                Some(SECOND + number * FRAME.nseconds()),
            );
        }
        for number in (0..5u64).rev() {
            passes_with_its_own_count(
                &mut rig,
                51 * number as u8,
                Some(SECOND + number * FRAME.nseconds()),
            );
        }
    }
    rig.end();
}

#[test]
fn film_that_runs_backwards_is_smoothed_like_any_other() {
    let mut rig = Rig::new("backwards", 1, |element| element.set_property("smoothing", 1.0));
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_stop(gst::ClockTime::from_seconds(10));
    segment.set_rate(-1.0);
    assert!(rig.cameras[0].push_event(gst::event::Segment::new(&segment)));
    passes_with_its_own_count(&mut rig, 0, Some(9 * SECOND));
    let report = passes_with_its_own_count(&mut rig, 255, Some(8 * SECOND));
    let smoothed = report.count.unwrap().smoothed;
    assert!((smoothed - 64.0 * (1.0 - (-1.0f64).exp())).abs() < 1e-3, "{smoothed}");
    rig.end();
}

#[test]
fn flush_in_the_middle_of_a_jump_leaves_nothing_of_the_time_before() {
    let mut rig = Rig::new("flush-jump", 1, |element| element.set_property("smoothing", 60.0));
    passes_with_its_own_count(&mut rig, 255, Some(HOUR));
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    assert!(rig.cameras[0].push_event(gst::event::FlushStart::new()));
    assert!(rig.cameras[0].push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(rig.cameras[0].push_event(gst::event::Segment::new(&segment)));
    rig.control.open_gate();
    let report = passes_with_its_own_count(&mut rig, 51, None);
    assert!((report.count.unwrap().smoothed - 12.8).abs() < 1e-3);
    rig.end();
}

#[test]
fn camera_whose_clock_is_wrong_harms_no_other() {
    let mut rig = Rig::new("wrong-clock", 3, |element| element.set_property("smoothing", 1.0));
    for number in 0..50u64 {
        let times = [Some(number * FRAME.nseconds()), None, Some((number % 3) * HOUR)];
        for (camera, pts) in times.into_iter().enumerate() {
            let red = (number * 5) as u8;
            rig.cameras[camera].push(at(red, pts)).unwrap();
            let report = rig.pull(camera);
            assert_eq!((report.stale, report.age), (false, 0), "camera {camera}, frame {number}");
            assert!(
                (counted(&report) - vehicles(red)).abs() < 1e-3,
                "camera {camera}, frame {number}"
            );
        }
    }
    rig.end();
}
