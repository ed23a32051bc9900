//! The element `vehicletestsrc`.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gstvehiclecount::meta::truth;

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvehiclecount::plugin_register_static().unwrap();
    });
}

fn camera(properties: &str, caps: &str) -> Harness {
    init();
    let mut camera = Harness::new_parse(&format!("vehicletestsrc {properties}"));
    camera.set_sink_caps_str(caps);
    camera.play();
    camera
}

fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

#[test]
fn frames_follow_each_other_exactly_and_carry_their_truth() {
    let mut camera = camera(
        "num-buffers=30 traffic=2",
        "video/x-raw,format=RGB,width=160,height=96,framerate=30000/1001",
    );
    let mut end = gst::ClockTime::ZERO;
    for number in 0..30 {
        let frame = camera.pull().unwrap();
        assert_eq!(frame.pts(), Some(end));
        end = frame.pts().unwrap() + frame.duration().unwrap();
        let truth = truth::read(&frame).expect("every frame has its truth");
        assert_eq!((truth.sequence, truth.count as usize), (number, truth.boxes.len()));
        assert!(truth.count > 0 && truth.kinds.len() == truth.boxes.len());
        assert_eq!(truth::read(&frame.copy()), Some(truth));
    }
    assert_eq!(
        end,
        gst::ClockTime::from_nseconds(1_001_000_000),
        "30 frames of 1001/30000 s do not drift"
    );
    while camera.pull_event().unwrap().type_() != gst::EventType::Eos {}
}

#[test]
fn same_seed_gives_the_same_frames_and_another_seed_others() {
    let caps = "video/x-raw,format=I420,width=64,height=48,framerate=25/1";
    let frames = |seed: u32| {
        let mut camera =
            camera(&format!("num-buffers=5 seed={seed} viewpoint=street weather=rain"), caps);
        (0..5).map(|_| bytes(&camera.pull().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(frames(3), frames(3));
    assert_ne!(frames(3), frames(4));
}

/// Mean of each channel, RGB, of the first frame in `format`. The conversion is linear, so that of
/// the means is the mean of conversions.
fn mean(format: &str, width: usize, height: usize) -> [f64; 3] {
    let caps = format!(
        "video/x-raw,format={format},width={width},height={height},framerate=25/1,colorimetry=bt601"
    );
    let frame = camera("num-buffers=1 seed=5", &caps).pull().unwrap();
    let info = gst_video::VideoInfo::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap();
    let frame = gst_video::VideoFrame::from_buffer_readable(frame, &info).unwrap();
    let component = |number: u32| {
        let info = frame.format_info();
        let (plane, step) =
            (info.plane()[number as usize] as usize, info.pixel_stride()[number as usize] as usize);
        let (columns, rows) =
            (frame.comp_width(number) as usize, frame.comp_height(number) as usize);
        let first = info.poffset()[number as usize] as usize;
        let (data, stride) =
            (frame.plane_data(plane as u32).unwrap(), frame.plane_stride()[plane] as usize);
        let row = |y: usize| {
            data[y * stride..].iter().skip(first).step_by(step).take(columns).map(|&v| f64::from(v))
        };
        (0..rows).flat_map(row).sum::<f64>() / (columns * rows) as f64
    };
    let [a, b, c] = [0, 1, 2].map(component);
    if frame.format_info().is_rgb() {
        return [a, b, c];
    }
    // ITU-R BT.601, limited range.
    let (y, u, v) = ((a - 16.0) / 219.0, (b - 128.0) / 224.0, (c - 128.0) / 224.0);
    [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u].map(|channel| channel * 255.0)
}

#[test]
fn every_format_shows_the_same_picture() {
    let wanted = mean("RGB", 321, 181);
    for format in ["RGBx", "BGRx", "I420", "NV12"] {
        for (got, wanted) in mean(format, 321, 181).into_iter().zip(wanted) {
            // Odd sides: the last column and row of chroma weigh twice. Rounding gives the rest.
            assert!((got - wanted).abs() < 0.5, "{format}: {got} instead of {wanted}");
        }
    }
}

#[test]
fn seek_lands_on_the_frame_of_that_time() {
    init();
    let pipeline = gst::parse::launch("vehicletestsrc seed=9 ! video/x-raw,format=RGB,width=64,height=48,framerate=25/1 ! fakesink name=sink sync=false enable-last-sample=true")
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let shown = |pipeline: &gst::Pipeline| {
        pipeline.state(gst::ClockTime::from_seconds(20)).0.unwrap();
        let sample = pipeline.by_name("sink").unwrap().property::<gst::Sample>("last-sample");
        let buffer = sample.buffer_owned().unwrap();
        (truth::read(&buffer).unwrap().sequence, bytes(&buffer))
    };
    pipeline.set_state(gst::State::Paused).unwrap();
    let (first, beginning) = shown(&pipeline);
    assert_eq!(first, 0);
    let seek = |seconds: u64| {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        pipeline.seek_simple(flags, gst::ClockTime::from_seconds(seconds)).unwrap();
        shown(&pipeline)
    };
    assert_eq!(seek(4).0, 100);
    assert_eq!(seek(0), (0, beginning), "back in time gives the same frame again");
    pipeline.set_state(gst::State::Null).unwrap();
    let weak = pipeline.downgrade();
    drop(pipeline);
    common::assert_gone(&weak, "the pipeline");
}

#[test]
fn live_camera_waits_for_each_frames_time() {
    let mut camera =
        camera("is-live=true", "video/x-raw,format=I420,width=64,height=48,framerate=10/1");
    for number in 0..3u64 {
        // The clock stands still until it is moved: without it no frame comes.
        camera.crank_single_clock_wait().unwrap();
        assert_eq!(camera.pull().unwrap().pts(), Some(number * gst::ClockTime::from_mseconds(100)));
    }
}

#[test]
fn what_is_left_open_becomes_a_small_picture_with_its_colours_named() {
    let caps = |wanted: &str| {
        let mut camera = camera("num-buffers=1", wanted);
        camera.pull().unwrap();
        let caps = camera.sinkpad().unwrap().current_caps().unwrap();
        let structure = caps.structure(0).unwrap();
        let text = |field: &str| structure.get::<String>(field).ok();
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        (info.width(), info.height(), info.fps(), text("format"), text("colorimetry"))
    };
    let text = |text: &str| Some(text.to_owned());
    let fps = gst::Fraction::new(25, 1);
    assert_eq!(caps("video/x-raw"), (640, 360, fps, text("I420"), text("bt601")));
    assert_eq!(
        caps("video/x-raw,format=NV12,height=720"),
        (640, 720, fps, text("NV12"), text("bt709"))
    );
    assert_eq!(caps("video/x-raw,format=I420,colorimetry=bt709").4, text("bt709"));
}
