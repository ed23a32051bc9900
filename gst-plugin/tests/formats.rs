//! What cameras and decoders give, as GStreamer lays it out, counted without a converter.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;
use gstvehiclecount::meta;

/// How long a test waits for what must come: only a broken element makes it wait that long.
const BOUND: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// What the scripted engine sees of colour bars in `caps`: the mean red level of each of 64 cells.
fn seen(caps: &str, size: (u32, u32)) -> Vec<f32> {
    gst::init().unwrap();
    gstvehiclecount::plugin_register_static().unwrap();
    let (width, height) = size;
    let bars = format!(
        "videotestsrc pattern=smpte75 num-buffers=1 ! video/x-raw,format=RGB,width={width},height={height},framerate=25/1 \
         ! videoconvert dither=none ! {caps} ! vehiclecounter name=counter engine=scripted engine-id=formats smoothing=0 \
         ! fakesink name=sink sync=false enable-last-sample=true"
    );
    let pipeline = gst::parse::launch(&bars).unwrap().downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message =
        bus.timed_pop_filtered(BOUND, &[gst::MessageType::Eos, gst::MessageType::Error]).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{caps}: {message:?}");
    drop(message);
    let sample = pipeline.by_name("sink").unwrap().property::<gst::Sample>("last-sample");
    let report = meta::count::read(sample.buffer().unwrap()).expect("the frame carries a report");
    assert!(!report.stale, "{caps}: {report:?}");
    let density = report.density.expect("the density comes with the report");
    let cells = density.cells.iter().map(|cell| cell * 255.0).collect();
    drop(sample);
    pipeline.set_state(gst::State::Null).unwrap();
    drop(bus);
    // The thread that brought it to PLAYING may hold it a little longer.
    let (sender, gone) = mpsc::channel();
    pipeline.add_weak_ref_notify(move || sender.send(()).unwrap_or_default());
    drop(pipeline);
    assert_eq!(gone.recv_timeout(Duration::from_secs(20)), Ok(()), "the pipeline is leaked");
    cells
}

fn assert_alike(got: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (cell, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!(
            (got - wanted).abs() <= tolerance,
            "{what}: cell {cell} is of level {got}, not {wanted}"
        );
    }
}

/// Levels that chroma of fewer samples may move across the edges of bars, from one cell to the
/// next.
const EDGES: f32 = 6.0;

#[test]
fn every_format_and_colorimetry_is_counted_as_its_rgb_picture_is() {
    for size in [(640, 360), (323, 181)] {
        let wanted = seen("video/x-raw,format=RGB", size);
        for format in [
            "NV12",
            "NV21",
            "NV16",
            "NV61",
            "NV24",
            "I420",
            "YV12",
            "Y41B",
            "Y42B",
            "Y444",
            "YUY2",
            "YVYU",
            "UYVY",
            "VYUY",
            "P010_10LE",
            "I420_10LE",
            "I422_10LE",
            "Y444_10LE",
        ] {
            // BT.601, BT.709 and BT.2020 in limited range; BT.601 and BT.709 in full range.
            for colorimetry in ["bt601", "bt709", "bt2020", "1:4:0:0", "1:3:5:1"] {
                let caps = format!("video/x-raw,format={format},colorimetry={colorimetry}");
                assert_alike(&seen(&caps, size), &wanted, EDGES, &format!("{caps} of {size:?}"));
            }
        }
        for format in ["GBR", "BGR", "xRGB", "ABGR"] {
            let caps = format!("video/x-raw,format={format}");
            assert_alike(&seen(&caps, size), &wanted, 0.1, &format!("{caps} of {size:?}"));
        }
        // The converter makes eight bits with coefficients of eight bits, and cuts off the rest: it
        // is what lies more than a level too low.
        let grey = seen("video/x-raw,format=GRAY8", size);
        assert_alike(&seen("video/x-raw,format=GRAY16_LE", size), &grey, 2.0, "GRAY16_LE");
    }
}

#[test]
fn pictures_of_one_pixel_and_of_one_column_or_row_are_counted() {
    for size in [(1, 1), (1, 7), (9, 1), (3, 3), (5, 2)] {
        for format in [
            "NV21",
            "YV12",
            "NV16",
            "Y42B",
            "Y41B",
            "YUY2",
            "UYVY",
            "Y444",
            "P010_10LE",
            "I420_10LE",
        ] {
            seen(&format!("video/x-raw,format={format}"), size);
        }
    }
}
