//! Pictures that are not counted need not be decoded; those that are come out whole.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;

use vehicle_count::source::{Skip, file};
use vehiclecount_tests::camera::has_h265;
use vehiclecount_tests::{assert_no_leak, init, run_to_end};

/// Writes a clip of 8 seconds, 25 pictures a second.
fn write(path: &Path, encoder: &str) {
    let line = format!(
        "videotestsrc num-buffers=200 pattern=ball ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 \
         ! {encoder} ! filesink name=end"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("end").unwrap().set_property("location", path);
    run_to_end(&pipeline);
    assert_no_leak(pipeline);
}

/// What is decoded of the clip, by its time in milliseconds, as a digest of the picture; and how
/// many pictures are not.
fn decoded(path: &Path, rate: Option<f64>) -> (BTreeMap<u64, u64>, usize) {
    let skipped = Arc::new(AtomicUsize::new(0));
    let skip = rate.map(|rate| {
        let skipped = skipped.clone();
        let note = move || {
            skipped.fetch_add(1, Ordering::Relaxed);
        };
        Skip { rate, is_paused: Arc::new(|| false), skipped: Arc::new(note) }
    });
    let pipeline = gst::Pipeline::new();
    let source = file::source(path, skip).unwrap();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink]).unwrap();
    source.link(&sink).unwrap();
    let pictures = Arc::new(Mutex::new(BTreeMap::new()));
    let told = pictures.clone();
    sink.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer().unwrap();
        let mut digest = DefaultHasher::new();
        buffer.map_readable().unwrap().hash(&mut digest);
        told.lock().unwrap().insert(buffer.pts().unwrap().mseconds(), digest.finish());
        gst::PadProbeReturn::Ok
    });
    run_to_end(&pipeline);
    drop((source, sink));
    assert_no_leak(pipeline);
    let pictures = std::mem::take(&mut *pictures.lock().unwrap());
    (pictures, skipped.load(Ordering::Relaxed))
}

#[test]
fn pictures_that_are_decoded_are_whole_and_those_that_are_counted_are_among_them() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let x264 = "x264enc speed-preset=ultrafast threads=1";
    let mut clips = vec![
        ("steady.mp4", format!("{x264} tune=zerolatency key-int-max=25 ! h264parse ! mp4mux")),
        (
            "b-frames.mp4",
            format!("{x264} bframes=2 b-adapt=false key-int-max=25 ! h264parse ! mp4mux"),
        ),
        (
            "b-frames.ts",
            format!("{x264} bframes=2 b-adapt=false key-int-max=25 ! h264parse ! mpegtsmux"),
        ),
        (
            "rare-keys.mkv",
            format!("{x264} tune=zerolatency key-int-max=50 ! h264parse ! matroskamux"),
        ),
        ("odd-keys.mp4", format!("{x264} tune=zerolatency key-int-max=18 ! h264parse ! mp4mux")),
        ("no-keys.mp4", format!("{x264} tune=zerolatency key-int-max=1000 ! h264parse ! mp4mux")),
        ("jpeg.avi", "jpegenc ! avimux".to_owned()),
        ("vp8.webm", "vp8enc deadline=1 keyframe-max-dist=25 ! webmmux".to_owned()),
    ];
    if has_h265() {
        let x265 = "x265enc speed-preset=ultrafast key-int-max=25";
        clips.push(("h265.mp4", format!("{x265} tune=zerolatency ! h265parse ! mp4mux")));
        clips.push((
            "leading.mkv",
            format!("{x265} option-string=bframes=2:open-gop=1 ! h265parse ! matroskamux"),
        ));
    }
    for (name, encoder) in &clips {
        let path = folder.path().join(name);
        write(&path, encoder);
        let (all, none) = decoded(&path, None);
        assert_eq!((all.len(), none), (200, 0), "{name}");
        for rate in [0.5, 1.0, 2.0, 25.0] {
            let (some, skipped) = decoded(&path, Some(rate));
            let seen = format!("{name}, {rate} a second: {} decoded, {skipped} not", some.len());
            assert_eq!(some.len() + skipped, 200, "{seen}");
            for (time, digest) in &some {
                assert_eq!(all.get(time), Some(digest), "{seen}: at {time} ms");
            }
            // A picture for each count, at most a picture later than without; where two B pictures
            // stand between others, which are not decoded, at most three.
            let late = if encoder.contains("bframes") { 125 } else { 45 };
            let first = *all.keys().next().unwrap();
            let periods = (8.0 * rate) as u64;
            for number in 0..periods {
                let due = first + (number as f64 * 1e3 / rate) as u64;
                let taken = some.range(due.saturating_sub(5)..due + late).next();
                assert!(taken.is_some(), "{seen}: none at {due} ms");
            }
        }
    }
    // Where key pictures come as often as counts, little else is decoded once that is known.
    let (some, _) = decoded(&folder.path().join("steady.mp4"), Some(1.0));
    assert!(some.len() <= 4 * 25, "{}", some.len());
    let (some, _) = decoded(&folder.path().join("jpeg.avi"), Some(1.0));
    assert!(some.len() <= 14, "{}", some.len());
    let (some, _) = decoded(&folder.path().join("b-frames.mp4"), Some(2.0));
    assert!(some.len() <= 120, "{}", some.len());
}
