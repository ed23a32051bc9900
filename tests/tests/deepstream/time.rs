//! Frames without a count of their own, and times that are missing.

use super::*;

#[test]
fn frames_that_nvinfer_skipped_carry_the_last_count_with_its_age() {
    let standin = standin();
    let stage = Stage::new("");
    let second = 1_000_000_000;
    let frame = |pts, tensors| FrameSpec { pts, tensors, ..FrameSpec::new(3, 0, 1, &[4.0]) };
    let seen = |pts, tensors| {
        let passed = stage.pass(standin.buffer(&BatchSpec::default(), &[frame(pts, tensors)]));
        let report = look(&passed).remove(0).report.unwrap();
        (report.sequence, report.count.map(|count| count.raw), report.stale, report.age)
    };
    assert_eq!(seen(0, 0), (0, None, true, 0));
    assert_eq!(seen(second, 1), (1, Some(4.0), false, 0));
    assert_eq!(seen(2 * second, 0), (2, Some(4.0), false, second));
    // The file begins anew.
    assert_eq!(seen(0, 0), (3, None, true, 0));
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
}

#[test]
fn every_counted_frame_of_a_batch_carries_its_own_count_whatever_its_time() {
    let standin = standin();
    let stage = Stage::new("smoothing=1");
    let (second, none) = (1_000_000_000, u64::MAX);
    let clocks = [
        vec![100 * second, 101 * second, 0, second],
        vec![0, second, 3600 * second, 2 * second],
        vec![none; 4],
        vec![0, none, 2 * second, none],
        vec![5 * second; 4],
        vec![1 << 63, none - 1, 0, none],
    ];
    for times in clocks {
        for (number, &pts) in times.iter().enumerate() {
            let vehicles = (number * 7) as f32;
            // Another camera, whose clock is right, in the same batch.
            let frames = [
                FrameSpec { pts, ..FrameSpec::new(0, 0, 1, &[vehicles]) },
                FrameSpec {
                    pts: number as u64 * second,
                    ..FrameSpec::new(1, 1, 1, &[vehicles + 1.0])
                },
            ];
            let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
            for (seen, vehicles) in seen.iter().zip([vehicles, vehicles + 1.0]) {
                let report = seen.report.as_ref().unwrap();
                let said = (report.count.unwrap().raw as f32, report.stale, report.age);
                assert_eq!(said, (vehicles, false, 0), "source {} in {times:?}", seen.source_id);
            }
        }
    }
    stage.end();
}

#[test]
fn frames_of_a_batch_without_times_are_smoothed_by_their_arrival() {
    let standin = standin();
    let clock = gst_check::TestClock::new();
    let stage = Stage::unstarted("source=tensor-meta smoothing=1 interval=1");
    stage.source.set_is_live(true);
    stage.pipeline.use_clock(Some(&clock));
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    let pass = |vehicles| {
        clock.set_time(clock.time() + gst::ClockTime::from_mseconds(500));
        let frame = FrameSpec { pts: u64::MAX, ..FrameSpec::new(0, 0, 1, &[vehicles]) };
        look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame]))).remove(0).report.unwrap()
    };
    assert_eq!(pass(64.0).count.unwrap().smoothed, 64.0);
    let skipped = pass(0.0);
    assert_eq!(
        (skipped.count.unwrap().raw, skipped.stale, skipped.age),
        (64.0, false, 500_000_000)
    );
    let smoothed = pass(0.0).count.unwrap().smoothed;
    assert!((smoothed - 64.0 * (-1.0f64).exp()).abs() < 1e-6, "{smoothed}");
    stage.end();
}

/// An event of nvstreammux (gst-nvevent.h).
fn mux_event(number: u32, source: u32) -> gst::Event {
    let structure = gst::Structure::builder("nv-event").field("source-id", source).build();
    let serialized = gst::ffi::GST_EVENT_TYPE_DOWNSTREAM | gst::ffi::GST_EVENT_TYPE_SERIALIZED;
    let kind = (number << gst::ffi::GST_EVENT_NUM_SHIFT as u32) | serialized;
    // SAFETY: an event of a type that GStreamer has no name for, as nvstreammux makes it; it takes
    // the structure.
    unsafe {
        let event = gst::ffi::gst_event_new_custom(kind as i32, structure.into_glib_ptr());
        glib::translate::from_glib_full(event)
    }
}

#[test]
fn source_that_ends_leaves_nothing_to_the_next_of_its_number() {
    let standin = standin();
    let stage = Stage::new("smoothing=60");
    let sink = stage.element.static_pad("sink").unwrap();
    let pass = |pts, vehicles| {
        let frames = [0, 1].map(|id| FrameSpec { pts, ..FrameSpec::new(id, id, 1, &[vehicles]) });
        let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
        let smoothed = |seen: &FrameResult| seen.report.as_ref().unwrap().count.unwrap().smoothed;
        (smoothed(&seen[0]), smoothed(&seen[1]))
    };
    let second = 1_000_000_000;
    assert_eq!(pass(0, 64.0), (64.0, 64.0));
    for (round, number) in [402, 404, 405, 400].into_iter().enumerate() {
        assert!(sink.send_event(mux_event(number, 0)));
        let (ended, other) = pass((round as u64 + 1) * second, round as f32);
        assert_eq!(ended, round as f64, "event {number}");
        assert!(other > 50.0, "event {number}: {other}");
    }
    assert!(sink.send_event(mux_event(401, 0)));
    assert_eq!(pass(9 * second, 2.0).0, 2.0);
    assert_eq!((stage.figure(0, "received"), stage.figure(1, "received")), (1, 6));
    // Of a source that there is not, or of none.
    assert!(sink.send_event(mux_event(401, 77)));
    stage.end();
}
