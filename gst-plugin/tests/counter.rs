//! The element `vehiclecounter`, with the scripted engine behind it: one vehicle in each cell whose
//! red is full.

#![allow(clippy::unwrap_used)]

mod common;

use common::{BOUND, CAPS, FRAME, Rig, counted, init, picture};
use gst::prelude::*;
use gst_check::Harness;
use gstvehiclecount::meta;
use vehiclecount_core::region::Level;

#[test]
fn frame_leaves_with_its_own_count() {
    let mut rig = Rig::new("own-count", 1, |_| {});
    rig.push(0, 255, 0);
    let report = rig.pull(0);
    assert_eq!(counted(&report), 64.0);
    assert_eq!((report.stale, report.age, report.sequence), (false, 0, 0));
    assert_eq!((&*report.camera, &*report.engine), ("camera-0", "scripted"));
    let density = report.density.expect("attached by default");
    assert_eq!((density.grid.columns, density.grid.rows), (8, 8));
    assert!(density.cells.iter().all(|&cell| cell == 1.0));
    rig.end();
}

#[test]
fn picture_itself_is_neither_copied_nor_changed() {
    let mut rig = Rig::new("untouched", 1, |_| {});
    let buffer = picture(7, 0);
    let before = buffer.map_readable().unwrap().as_ptr();
    rig.cameras[0].push(buffer).unwrap();
    let after = rig.cameras[0].pull().unwrap();
    let map = after.map_readable().unwrap();
    assert_eq!(map.as_ptr(), before);
    assert!(map.chunks(3).all(|pixel| pixel == [7, 0, 0]));
    drop(map);
    drop(after);
    rig.end();
}

#[test]
fn held_frame_leaves_stale_at_its_deadline_and_its_late_count_serves_the_next() {
    let mut rig = Rig::new("deadline", 1, |_| {});
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.pass_the_deadline();
    let first = rig.pull(0);
    assert_eq!((first.count, first.stale), (None, true));
    // The engine has one lane: when the second frame is counted, the first one has been.
    rig.control.open_gate();
    rig.push(0, 51, 1);
    let second = rig.pull(0);
    assert_eq!((second.stale, second.age), (false, 0));
    assert!((counted(&second) - 12.8).abs() < 1e-4);
    assert_eq!((rig.statistic(0, "inferred"), rig.statistic(0, "stale")), (2, 1));
    rig.end();
}

#[test]
fn newest_frame_wins_under_overload_and_the_video_goes_on() {
    let mut rig = Rig::new("overload", 1, |_| {});
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    for number in 1..5 {
        rig.push(0, 255, number);
    }
    rig.control.open_gate();
    let reports: Vec<_> = (0..5).map(|_| rig.pull(0)).collect();
    let stale: Vec<_> = reports.iter().map(|report| report.stale).collect();
    assert_eq!(stale, [false, true, true, true, false]);
    let ages: Vec<_> = reports.iter().map(|report| report.age / FRAME.nseconds()).collect();
    assert_eq!(ages, [0, 1, 2, 3, 0]);
    assert_eq!(rig.statistic(0, "dropped"), 3);
    rig.end();
}

/// Runs `pushes`, none of which may block. After [`BOUND`] the element is stopped, so that one that
/// does fails instead of waiting for ever.
fn without_blocking(rig: &mut Rig, pushes: impl FnOnce(&mut Rig)) {
    let (done, over) = std::sync::mpsc::channel::<()>();
    let element = rig.element.clone();
    let watchdog = std::thread::spawn(move || {
        if over.recv_timeout(BOUND) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = element.set_state(gst::State::Null);
        }
    });
    pushes(rig);
    drop(done);
    watchdog.join().unwrap();
}

#[test]
fn full_queue_lets_its_head_go_instead_of_blocking_the_camera() {
    let mut rig = Rig::new("full-queue", 1, |_| {});
    rig.control.hold();
    // Far more than are held.
    without_blocking(&mut rig, |rig| {
        for number in 0..100 {
            rig.push(0, 255, number);
        }
    });
    assert_eq!(rig.pull(0).sequence, 0);
    assert!(rig.statistic(0, "received") == 100);
    rig.end();
}

#[test]
fn skipped_frames_carry_the_last_count_and_its_age() {
    let mut rig = Rig::new("interval", 1, |element| element.set_property("interval", 2u32));
    let mut ages = Vec::new();
    for number in 0..7 {
        rig.push(0, if number < 3 { 255 } else { 0 }, number);
        let report = rig.pull(0);
        assert!(!report.stale);
        assert_eq!(counted(&report), if number < 3 { 64.0 } else { 0.0 });
        ages.push(report.age / FRAME.nseconds());
    }
    assert_eq!(ages, [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(rig.statistic(0, "inferred"), 3);
    rig.end();
}

#[test]
fn interval_of_a_pad_wins_over_the_elements() {
    let mut rig = Rig::new("pad-interval", 2, |element| element.set_property("interval", 3u32));
    rig.element.static_pad("sink_1").unwrap().set_property("interval", 0i32);
    for number in 0..4 {
        for camera in 0..2 {
            rig.push(camera, 255, number);
            rig.pull(camera);
        }
    }
    assert_eq!((rig.statistic(0, "inferred"), rig.statistic(1, "inferred")), (1, 4));
    rig.end();
}

#[test]
fn silent_camera_does_not_hold_another() {
    let mut rig = Rig::new("silent", 3, |element| element.set_property("batch-size", 3u32));
    for number in 0..10 {
        rig.push(1, 255, number);
        assert!(!rig.pull(1).stale);
    }
    rig.end();
}

#[test]
fn frames_of_different_cameras_meet_in_one_batch() {
    let mut rig = Rig::new("batch", 4, |element| element.set_property("batch-size", 4u32));
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    for camera in 1..4 {
        rig.push(camera, 51 * camera as u8, 0);
    }
    rig.control.open_gate();
    for camera in 1..4 {
        assert!(
            (counted(&rig.pull(camera)) - 12.8 * camera as f64).abs() < 1e-4,
            "each gets its own count"
        );
    }
    rig.pull(0);
    assert_eq!(rig.control.calls(), [1, 3]);
    rig.end();
}

#[test]
fn one_camera_ends_and_the_others_go_on() {
    let mut rig = Rig::new("eos", 2, |_| {});
    rig.push(0, 255, 0);
    assert!(rig.cameras[0].push_event(gst::event::Eos::new()));
    assert!(!rig.pull(0).stale, "what came before the end is counted");
    while rig.cameras[0].pull_event().unwrap().type_() != gst::EventType::Eos {}
    assert_eq!(rig.cameras[0].push(picture(0, 1)), Err(gst::FlowError::Eos));
    rig.push(1, 51, 0);
    assert!(!rig.pull(1).stale);
    rig.end();
}

#[test]
fn flush_drops_what_is_held_and_starts_anew() {
    let mut rig = Rig::new("flush", 2, |_| {});
    rig.control.hold();
    rig.push(0, 255, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    rig.push(0, 255, 1);
    assert!(rig.cameras[0].push_event(gst::event::FlushStart::new()));
    assert_eq!(rig.cameras[0].push(picture(255, 2)), Err(gst::FlowError::Flushing));
    assert!(rig.cameras[0].push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(rig.cameras[0].push_event(gst::event::Segment::new(&segment)));
    rig.control.open_gate();
    rig.push(0, 51, 0);
    let report = rig.pull(0);
    assert!((counted(&report) - 12.8).abs() < 1e-4);
    assert_eq!((report.stale, report.age), (false, 0), "nothing of the time before is left");
    assert_eq!(rig.cameras[0].buffers_received(), 1);
    rig.end();
}

#[test]
fn camera_changes_size_and_format_in_mid_stream() {
    let mut rig =
        Rig::new("renegotiation", 1, |element| element.set_property("input-size", "64x64"));
    rig.push(0, 255, 0);
    assert_eq!(counted(&rig.pull(0)), 64.0);
    // Twice as wide as high: letterboxed into the middle half of the rows, the grey border counting
    // 114/255 a cell.
    rig.cameras[0]
        .set_src_caps_str("video/x-raw, format=BGRx, width=32, height=16, framerate=25/1");
    let mut buffer = gst::Buffer::from_mut_slice([0u8, 0, 255, 0].repeat(32 * 16));
    buffer.get_mut().unwrap().set_pts(FRAME);
    rig.cameras[0].push(buffer).unwrap();
    let report = rig.pull(0);
    assert!((counted(&report) - (32.0 + 32.0 * 114.0 / 255.0)).abs() < 1e-3);
    let rect = report.density.unwrap().grid.rect;
    assert_eq!((rect.y, rect.height), (-0.5, 2.0));
    rig.end();
}

#[test]
fn engine_failure_is_said_once_and_counts_come_back() {
    let mut rig = Rig::new("failure", 1, |_| {});
    rig.push(0, 255, 0);
    rig.pull(0);
    rig.control.fail_all("the device is lost");
    for number in 1..4 {
        rig.push(0, 255, number);
        let report = rig.pull(0);
        assert_eq!((counted(&report), report.stale), (64.0, true));
    }
    let text = rig.warning();
    assert!(text.contains("camera-0") && text.contains("the device is lost"), "{text}");
    rig.control.recover();
    rig.push(0, 51, 4);
    assert!(!rig.pull(0).stale);
    rig.message(gst::MessageType::Info);
    let zero = gst::ClockTime::ZERO;
    assert!(rig.bus.timed_pop_filtered(zero, &[gst::MessageType::Warning]).is_none(), "said once");
    assert_eq!(rig.statistic(0, "failed"), 3);
    rig.end();
}

#[test]
fn broken_frame_passes_uncounted_with_a_warning() {
    let mut rig = Rig::new("broken", 1, |_| {});
    rig.cameras[0].push(gst::Buffer::from_mut_slice([0u8; 10])).unwrap();
    let report = rig.pull(0);
    assert_eq!((report.count, report.stale), (None, true));
    assert!(rig.warning().contains("10 bytes"));
    rig.push(0, 255, 1);
    assert!(!rig.pull(0).stale);
    rig.end();
}

#[test]
fn camera_comes_and_goes_while_another_plays() {
    let mut rig = Rig::new("come-and-go", 1, |_| {});
    for round in 0..3 {
        let mut guest = Harness::with_element(&rig.element, Some("sink_7"), Some("src_7"));
        guest.set_src_caps_str(CAPS);
        guest.play();
        guest.push(picture(255, round)).unwrap();
        assert!(!meta::count::read(&guest.pull().unwrap()).unwrap().stale);
        rig.push(0, 51, round);
        rig.pull(0);
        // Goes with a frame in the engine and another one waiting.
        rig.control.hold();
        guest.push(picture(255, round + 1)).unwrap();
        assert!(rig.control.wait_for_waiting(1, BOUND));
        guest.push(picture(255, round + 2)).unwrap();
        let pad = rig.element.static_pad("sink_7").unwrap();
        rig.element.release_request_pad(&pad);
        assert!(rig.element.static_pad("src_7").is_none());
        rig.control.open_gate();
        let weak = pad.downgrade();
        drop((guest, pad));
        common::assert_gone(&weak, "the pad");
        rig.push(0, 51, round);
        assert!(!rig.pull(0).stale);
    }
    rig.end();
}

#[test]
fn latency_is_told_truly() {
    let mut rig = Rig::new("latency", 1, |element| element.set_property("max-latency", 150u32));
    rig.cameras[0].set_upstream_latency(gst::ClockTime::from_mseconds(30));
    assert_eq!(rig.cameras[0].query_latency(), Some(gst::ClockTime::from_mseconds(180)));
    rig.element.set_property("max-latency", 70u32);
    rig.message(gst::MessageType::Latency);
    assert_eq!(rig.cameras[0].query_latency(), Some(gst::ClockTime::from_mseconds(100)));
    rig.end();
}

#[test]
fn regions_levels_and_scale_are_the_cameras_own() {
    let left = r#"{"levels": {"moderate": 10, "dense": 20, "jammed": 60},
        "regions": [{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}],
        "cameras": {"south": {"regions": [{"name": "corner", "polygon": [[0, 0], [0.25, 0], [0, 0.25]]}]}}}"#;
    let mut rig = Rig::new("regions", 2, |element| element.set_property("regions", left));
    let south = rig.element.static_pad("sink_1").unwrap();
    south.set_property("camera-id", "south");
    south.set_property("scale-factor", 2.0);
    rig.push(0, 255, 0);
    let report = rig.pull(0);
    assert_eq!(report.count.unwrap().level, Level::Jammed);
    assert_eq!(report.regions[0].name, "left");
    assert_eq!(report.regions[0].count.unwrap().raw, 32.0);
    rig.push(1, 255, 0);
    let report = rig.pull(1);
    assert_eq!(&*report.camera, "south");
    assert_eq!(counted(&report), 128.0);
    assert_eq!(report.regions[0].name, "corner");
    assert!((report.regions[0].count.unwrap().raw - 4.0).abs() < 1e-5);
    // Changed while it plays; what cannot be used is said and changes nothing.
    rig.element.set_property("regions", r#"{"regions": [{"name": "left", "polygon": []}]}"#);
    rig.message(gst::MessageType::Warning);
    rig.push(0, 255, 1);
    assert_eq!(rig.pull(0).regions[0].count.unwrap().raw, 32.0);
    rig.end();
}

#[test]
fn regions_that_cannot_be_used_stop_the_start_by_name() {
    init();
    let element = gst::ElementFactory::make("vehiclecounter")
        .property_from_str("engine", "scripted")
        .property("regions", "/nowhere/regions.json")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().to_string().contains("/nowhere/regions.json"));
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn elements_of_one_engine_id_share_an_engine() {
    let mut first = Rig::new("shared", 1, |_| {});
    let mut second = Rig::new("shared", 1, |_| {});
    let shared = |rig: &Rig| {
        let message = rig.message(gst::MessageType::Element);
        message.structure().unwrap().get::<bool>("shared").unwrap()
    };
    assert!(!shared(&first));
    assert!(shared(&second));
    first.push(0, 255, 0);
    second.push(0, 51, 0);
    assert_eq!(counted(&first.pull(0)), 64.0);
    assert!((counted(&second.pull(0)) - 12.8).abs() < 1e-4);
    first.end();
    second.push(0, 255, 1);
    assert_eq!(counted(&second.pull(0)), 64.0);
    second.end();
}

#[test]
fn file_is_counted_frame_by_frame_however_slow_the_engine() {
    init();
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=60 pattern=solid-color foreground-color=0xffff0000 ! video/x-raw,format=RGB,width=64,height=64 \
         ! vehiclecounter engine=scripted engine-id=file smoothing=0 sink_0::camera-id=film \
         ! fakesink name=sink signal-handoffs=true sync=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    pipeline.by_name("sink").unwrap().connect("handoff", false, move |values| {
        let buffer = values[1].get::<gst::Buffer>().unwrap();
        send.send(meta::count::read(&buffer).unwrap()).unwrap();
        None
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let bound = gst::ClockTime::try_from(BOUND).unwrap();
    let end =
        bus.timed_pop_filtered(bound, &[gst::MessageType::Eos, gst::MessageType::Error]).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let reports: Vec<_> = receive.try_iter().collect();
    assert_eq!(reports.len(), 60);
    for (number, report) in reports.iter().enumerate() {
        assert_eq!((report.sequence, report.stale, report.age), (number as u64, false, 0));
        assert_eq!((&*report.camera, counted(report)), ("film", 64.0));
    }
    let weak = pipeline.downgrade();
    drop((pipeline, bus, end));
    common::assert_gone(&weak, "the pipeline");
}

#[test]
fn camera_without_a_taker_goes_on_when_one_is_linked() {
    init();
    let pipeline = gst::Pipeline::new();
    let source =
        gst::ElementFactory::make("appsrc").build().unwrap().downcast::<gst_app::AppSrc>().unwrap();
    source.set_format(gst::Format::Time);
    source.set_caps(Some(&CAPS.parse().unwrap()));
    let counter = gst::ElementFactory::make("vehiclecounter")
        .property_from_str("engine", "scripted")
        .property("engine-id", "unlinked")
        .build()
        .unwrap();
    pipeline.add_many([source.upcast_ref(), &counter]).unwrap();
    let sinkpad = counter.request_pad_simple("sink_%u").unwrap();
    source.static_pad("src").unwrap().link(&sinkpad).unwrap();
    let sink = gst_app::AppSink::builder().sync(false).build();
    pipeline.add(&sink).unwrap();
    counter.link(&sink).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    source.push_buffer(picture(255, 0)).unwrap();
    sink.pull_sample().unwrap();
    // Unlinked and linked again between two frames: nothing was pushed meanwhile, so nothing was
    // refused.
    counter.unlink(&sink);
    counter.link(&sink).unwrap();
    source.push_buffer(picture(255, 1)).unwrap();
    let sample = sink.pull_sample().unwrap();
    assert_eq!(meta::count::read(sample.buffer().unwrap()).unwrap().sequence, 1);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn stopped_element_counts_from_the_beginning_when_it_starts_again() {
    let mut rig = Rig::new("restart", 1, |_| {});
    rig.push(0, 255, 0);
    rig.pull(0);
    rig.element.set_state(gst::State::Ready).unwrap();
    assert_eq!(rig.element.property::<Option<String>>("active-engine"), None);
    rig.element.set_state(gst::State::Playing).unwrap();
    assert_eq!(
        rig.element.property::<Option<String>>("active-engine").as_deref(),
        Some("scripted")
    );
    rig.cameras[0].set_src_caps_str(CAPS);
    rig.push(0, 51, 0);
    let report = rig.pull(0);
    assert_eq!((report.sequence, report.stale), (0, false));
    assert_eq!(rig.statistic(0, "received"), 1);
    rig.end();
}
