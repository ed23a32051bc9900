//! The engine of the plugin on the frames themselves.

use super::*;

/// Regions that leave a letterbox's borders out.
const FRAME: &str =
    r#"{"regions": [{"name": "frame", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]}"#;

/// A stage with the scripted engine called `name`, which counts 32 vehicles in a picture of full
/// red.
pub(super) fn engine_stage(name: &str) -> Stage {
    let properties = format!("source=engine engine=scripted engine-id={name} input-size=64x64");
    let stage = Stage::unstarted(&properties);
    stage.element.set_property("regions", FRAME);
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    stage
}

pub(super) fn picture(source: u32, batch_id: u32, red: u32) -> FrameSpec {
    FrameSpec { tensors: 0, red, ..FrameSpec::new(source, batch_id, 1, &[0.0]) }
}

/// What was counted in the picture itself.
pub(super) fn in_frame(seen: &FrameResult) -> f64 {
    (seen.report.as_ref().unwrap().regions[0].count.unwrap().raw * 10.0).round() / 10.0
}

#[test]
fn engine_reads_every_format_in_every_memory_that_the_processor_sees() {
    let standin = standin();
    // RGBA, BGRx, RGB; NV12 and I420 of both matrices; grey. Luma 126 of limited range is level
    // 128.
    for (color_format, half) in [
        (19, 128),
        (24, 128),
        (27, 128),
        (6, 126),
        (33, 126),
        (7, 128),
        (2, 126),
        (31, 126),
        (1, 128),
    ] {
        // Pinned, unified, Jetson's surface array, the system's.
        for memory_type in [1, 3, 4, 6] {
            let stage = engine_stage("formats");
            let batch = BatchSpec { color_format, memory_type, ..BatchSpec::default() };
            // A partly filled batch, its frames listed in another order than their pictures lie.
            let frames = [
                picture(7, 2, half),
                picture(3, 0, if half == 126 { 235 } else { 255 }),
                picture(5, 1, 16 * u32::from(half == 126)),
            ];
            let seen = look(&stage.pass(standin.buffer(&batch, &frames)));
            let counts: Vec<_> = seen.iter().map(in_frame).collect();
            let case = format!("format {color_format}, memory {memory_type}");
            assert!((counts[0] - 16.1).abs() < 0.11, "{case}: {counts:?}");
            assert_eq!(counts[1..], [32.0, 0.0], "{case}");
            assert_eq!(&*seen[0].report.as_ref().unwrap().engine, "scripted");
            stage.end();
        }
    }
    assert_eq!(
        (standin.mapped(), meta::live(), standin.live_batches(), standin.unlocked_calls()),
        (0, 0, 0, 0)
    );
}

#[test]
fn preset_chooses_the_batch_where_that_is_not_set() {
    let standin = standin();
    for (properties, batch_size) in
        [("preset=server", 1), ("batch-size=3 preset=server", 3), ("preset=server batch-size=3", 3)]
    {
        let engine = "source=engine engine=scripted engine-id=preset input-size=64x64";
        let stage = Stage::unstarted(&format!("{engine} {properties}"));
        stage.element.set_property("regions", FRAME);
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        let batch = BatchSpec { color_format: 19, memory_type: 1, ..BatchSpec::default() };
        let seen = look(&stage.pass(standin.buffer(&batch, &[picture(7, 0, 255)])));
        assert_eq!(in_frame(&seen[0]), 32.0, "{properties}");
        assert_eq!(stage.element.property::<u32>("batch-size"), batch_size, "{properties}");
        stage.end();
    }
}

#[test]
fn engine_finds_the_picture_of_a_demuxed_frame_whose_batch_id_is_that_of_the_batch() {
    let standin = standin();
    let stage = engine_stage("demuxed");
    let whole = standin
        .buffer(&BatchSpec::default(), &[picture(0, 0, 0), picture(1, 1, 255), picture(2, 2, 51)]);
    let demux = |index, keep| in_frame(&look(&stage.pass(standin.demux(&whole, index, keep)))[0]);
    assert_eq!(
        (demux(1, true), demux(2, true), demux(1, false), demux(0, true)),
        (32.0, 6.4, 32.0, 0.0)
    );
    stage.end();
}

#[test]
fn latency_is_how_long_the_engine_holds_batches_and_tensors_add_none() {
    let standin = standin();
    let clock = gst_check::TestClock::new();
    let latency = |stage: &Stage| {
        let mut query = gst::query::Latency::new();
        assert!(stage.element.static_pad("src").unwrap().query(&mut query));
        query.result()
    };
    // Whether the element has said that its latency is another one; others may say so too.
    let says_so = |stage: &Stage| {
        let bus = stage.pipeline.bus().unwrap();
        let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Latency]));
        messages.filter(|message| message.src() == Some(stage.element.upcast_ref())).count() > 0
    };
    let started = |stage: Stage| {
        stage.source.set_is_live(true);
        stage.pipeline.use_clock(Some(&clock));
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        let (live, min, _) = latency(&stage);
        assert!(live);
        (stage, min)
    };
    let ms = gst::ClockTime::from_mseconds;
    let (stage, before) = started(Stage::unstarted("source=engine engine=scripted engine-id=slow"));
    let control = Control::of("slow");
    let hold = |time: gst::ClockTime| {
        control.hold();
        stage
            .source
            .push_buffer(standin.buffer(&BatchSpec::default(), &[picture(0, 0, 255)]))
            .unwrap();
        assert!(control.wait_for_waiting(1, BOUND));
        clock.set_time(clock.time() + time);
        control.open_gate();
        stage.sink.try_pull_sample(gst::ClockTime::from_seconds(BOUND.as_secs())).unwrap();
        says_so(&stage)
    };
    assert!(hold(ms(30)));
    assert_eq!(latency(&stage).1, before + ms(30));
    assert!(!hold(ms(25)));
    assert!(hold(ms(70)));
    assert_eq!(latency(&stage).1, before + ms(70));
    stage.end();

    let (stage, before) = started(Stage::unstarted("source=tensor-meta"));
    stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[1.0])]));
    assert_eq!((latency(&stage).1, says_so(&stage)), (before, false));
    stage.end();
}

#[test]
fn interval_asks_the_engine_for_every_third_frame_only() {
    let standin = standin();
    let stage = engine_stage("interval");
    stage.element.set_property("interval", 2u32);
    let control = Control::of("interval");
    let ages: Vec<_> = (0..4u64)
        .map(|i| {
            let frame = FrameSpec { pts: i * 1_000_000_000, ..picture(0, 0, 255) };
            let report = look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])))
                .remove(0)
                .report
                .unwrap();
            (report.age / 1_000_000_000, report.stale)
        })
        .collect();
    assert_eq!(ages, [(0, false), (1, false), (2, false), (0, false)]);
    assert_eq!(control.calls(), [1, 1]);
    stage.end();
}

#[test]
fn engine_that_fails_leaves_the_last_count_and_recovers() {
    let standin = standin();
    let stage = engine_stage("failing");
    let pass = |red| {
        let report =
            look(&stage.pass(standin.buffer(&BatchSpec::default(), &[picture(0, 0, red)])))
                .remove(0)
                .report
                .unwrap();
        (report.regions[0].count.unwrap().raw.round(), report.stale)
    };
    assert_eq!(pass(255), (32.0, false));
    Control::of("failing").fail_next("the fan stands still");
    assert_eq!(pass(0), (32.0, true));
    assert!(stage.message(gst::MessageType::Warning).unwrap().contains("the fan stands still"));
    assert_eq!(pass(0), (0.0, false));
    stage.end();
}

#[test]
fn batch_that_waits_for_the_engine_is_let_go_by_a_flush_and_by_the_end() {
    let standin = standin();
    let stage = engine_stage("held");
    let control = Control::of("held");
    control.hold();
    let frames = [picture(0, 0, 255), picture(1, 1, 255)];
    stage.source.push_buffer(standin.buffer(&BatchSpec::default(), &frames)).unwrap();
    assert!(control.wait_for_waiting(1, BOUND));
    let pad = stage.element.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::FlushStart::new()));
    assert!(pad.send_event(gst::event::FlushStop::new(true)));
    // The engine gives the old batch back; nobody wants it any more.
    control.open_gate();
    stage.end();

    let stage = engine_stage("held");
    control.hold();
    stage.source.push_buffer(standin.buffer(&BatchSpec::default(), &frames)).unwrap();
    assert!(control.wait_for_waiting(1, BOUND));
    // The streaming thread is let go at once; the engine's thread comes back when the gate opens.
    let gate = control.clone();
    let opener = std::thread::spawn(move || gate.open_gate());
    stage.end();
    opener.join().unwrap();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn pictures_that_cannot_be_read_end_the_stream_with_the_remedy() {
    let standin = standin();
    let error = |batch: BatchSpec| {
        let stage = engine_stage("unreadable");
        let error = stage.fail(standin.buffer(&batch, &[picture(0, 0, 9), picture(1, 1, 9)]));
        stage.end();
        error
    };
    let device = error(BatchSpec { memory_type: 2, ..BatchSpec::default() });
    assert!(device.contains("nvbuf-memory-type"), "{device}");
    let blocks = error(BatchSpec { memory_type: 3, layout: 1, ..BatchSpec::default() });
    assert!(
        blocks.contains("camera-0: the pictures are block-linear: put `nvvideoconvert"),
        "{blocks}"
    );
    let color = error(BatchSpec { color_format: 36, ..BatchSpec::default() });
    assert!(color.contains("colour format 36"), "{color}");
}
