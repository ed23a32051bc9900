//! Several files at once, of different lengths, into one file of counts.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use gst::prelude::*;
use vehiclecount_tests::{assert_no_leak, decodable_frames, engine, init, run_to_end, write_clip};

#[test]
fn every_frame_of_files_of_different_lengths_is_counted() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts.jsonl");
    let frames = [6u32, 12, 18];
    let mut description =
        format!("vehiclecounter name=c engine={} batch-size=2 engine-id=files", engine());
    for (index, &frames) in frames.iter().enumerate() {
        let clip = folder.path().join(format!("{index}.mp4"));
        write_clip(&clip, frames, index as u32);
        description.push_str(&format!(
            " filesrc location={} ! decodebin ! videoconvert ! queue ! c.sink_{index} c.src_{index} ! \
             vehiclecountpublish location={} ! fakesink async=false",
            clip.display(),
            counts.display()
        ));
    }
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    run_to_end(&pipeline);
    assert_no_leak(pipeline);

    let mut seen: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for line in std::fs::read_to_string(&counts).unwrap().lines() {
        let report: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(report["stale"], false, "a file is held until it is counted");
        seen.entry(report["camera"].as_str().unwrap().to_owned()).or_default().push(report);
    }
    for (index, &frames) in frames.iter().enumerate() {
        let reports = &seen[&format!("camera-{index}")];
        assert_eq!(reports.len(), frames as usize);
        let sequences: Vec<_> =
            reports.iter().map(|report| report["sequence"].as_u64().unwrap()).collect();
        assert!(sequences.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn a_video_with_the_counts_drawn_in_has_all_its_frames() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let (clip, drawn) = (folder.path().join("clip.mp4"), folder.path().join("drawn.mp4"));
    write_clip(&clip, 12, 5);
    let description = format!(
        "filesrc location={} ! decodebin ! videoconvert ! vehiclecounter engine=scripted engine-id=drawn ! vehiclecountoverlay \
         ! videoconvert ! video/x-raw,format=I420 ! x264enc speed-preset=ultrafast bframes=0 ! h264parse ! mp4mux ! filesink location={}",
        clip.display(),
        drawn.display()
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    run_to_end(&pipeline);
    assert_no_leak(pipeline);
    assert_eq!(decodable_frames(&drawn), 12);
}
