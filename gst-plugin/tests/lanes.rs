//! An engine with several lanes finishes frames in any order: each still leaves in its place, with
//! its own count.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::report::FrameReport;

const CAMERAS: usize = 3;
const FRAMES: u64 = 200;

/// How long the test waits for what must come: only a broken element makes it wait that long.
const BOUND: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// The red of a frame: another one in each frame of a camera for a long time, and in each camera.
fn red(camera: usize, frame: u64) -> u8 {
    ((frame * 7 + camera as u64 * 85) % 256) as u8
}

#[test]
fn frames_of_many_lanes_leave_in_order_with_their_own_counts() {
    gst::init().unwrap();
    gstvehiclecount::plugin_register_static().unwrap();
    let control = Control::of("many-lanes");
    control.set_lanes(4);
    let pipeline = gst::Pipeline::new();
    let counter = gst::ElementFactory::make("vehiclecounter")
        .property_from_str("engine", "scripted")
        .property("engine-id", "many-lanes")
        .property("smoothing", 0.0)
        .property("batch-size", 2u32)
        .build()
        .unwrap();
    pipeline.add(&counter).unwrap();
    let (send, receive) = mpsc::channel::<(usize, FrameReport)>();
    let caps = "video/x-raw, format=RGB, width=64, height=64, framerate=25/1"
        .parse::<gst::Caps>()
        .unwrap();
    let mut feeders = Vec::new();
    for camera in 0..CAMERAS {
        let source = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .block(true)
            .max_buffers(4)
            .build();
        let sink = gst::ElementFactory::make("fakesink")
            .property("signal-handoffs", true)
            .property("sync", false)
            .build()
            .unwrap();
        let send = send.clone();
        sink.connect("handoff", false, move |values| {
            let buffer = values[1].get::<gst::Buffer>().unwrap();
            send.send((camera, meta::count::read(&buffer).unwrap())).unwrap();
            None
        });
        pipeline.add_many([source.upcast_ref(), &sink]).unwrap();
        source.link_pads(Some("src"), &counter, Some(&format!("sink_{camera}"))).unwrap();
        counter.link_pads(Some(&format!("src_{camera}")), &sink, Some("sink")).unwrap();
        feeders.push(std::thread::spawn(move || {
            for frame in 0..FRAMES {
                let mut buffer =
                    gst::Buffer::from_mut_slice([red(camera, frame), 0, 0].repeat(64 * 64));
                buffer.get_mut().unwrap().set_pts(frame * gst::ClockTime::from_mseconds(40));
                source.push_buffer(buffer).unwrap();
            }
            source.end_of_stream().unwrap();
        }));
    }
    drop(send);
    // All four lanes are at work before the first of them may finish.
    control.hold();
    pipeline.set_state(gst::State::Playing).unwrap();
    assert!(control.wait_for_waiting(4, Duration::from_secs(20)));
    control.open_gate();
    let bus = pipeline.bus().unwrap();
    let end =
        bus.timed_pop_filtered(BOUND, &[gst::MessageType::Eos, gst::MessageType::Error]).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    feeders.into_iter().for_each(|feeder| feeder.join().unwrap());

    let mut next = [0; CAMERAS];
    for (camera, report) in receive.try_iter() {
        assert_eq!((report.sequence, report.stale), (next[camera], false), "camera {camera}");
        // 64 cells of red / 255 vehicles each.
        let expected = f64::from(red(camera, report.sequence)) / 255.0 * 64.0;
        let got = report.count.unwrap().raw;
        assert!(
            (got - expected).abs() < 1e-3,
            "camera {camera} frame {}: {got}, not {expected}",
            report.sequence
        );
        next[camera] += 1;
    }
    assert_eq!(next, [FRAMES; CAMERAS]);
    assert!(control.calls().len() >= (FRAMES as usize * CAMERAS).div_ceil(2));
}
