//! `vehiclecountoverlay` and `vehiclecountpublish`: what stands behind the counter.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gstvehiclecount::meta;
use vehiclecount_core::density::{DensityMap, Grid, Rect};
use vehiclecount_core::region::Level;
use vehiclecount_core::report::{FrameCount, FrameReport, JsonReport, RegionReport};

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvehiclecount::plugin_register_static().unwrap();
    });
}

/// One vehicle in the middle of the right half.
fn report() -> FrameReport {
    let grid = Grid { columns: 8, rows: 8, rect: Rect::FRAME };
    let mut cells = vec![0.0; 64];
    for (row, column) in [(3, 5), (3, 6), (4, 5), (4, 6)] {
        cells[row * 8 + column] = 0.25;
    }
    let counted = FrameCount { raw: 1.0, smoothed: 1.0, level: Level::Free };
    FrameReport {
        camera: "north".into(),
        sequence: 0,
        unique_id: 0,
        pts: Some(0),
        capture_time: None,
        received_time: 1_700_000_000_250_000_000,
        count: Some(counted),
        stale: false,
        confirmed: false,
        age: 0,
        regions: vec![RegionReport {
            name: "right".to_owned(),
            polygon: vec![[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]],
            count: Some(counted),
        }],
        density: Some(DensityMap { grid, cells: cells.into() }),
        model: "m".into(),
        engine: "scripted".into(),
        inference_time: 5_000_000,
    }
}

fn grey(info: &gst_video::VideoInfo) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    buffer.get_mut().unwrap().map_writable().unwrap().fill(0x60);
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
    buffer
}

/// Pushes one frame of `caps` through the overlay; returns for each row the columns whose first
/// component changed.
fn drawn(properties: &str, caps: &str, report: Option<&FrameReport>) -> Vec<Vec<usize>> {
    init();
    let mut overlay = Harness::new_parse(&format!("vehiclecountoverlay {properties}"));
    overlay.set_src_caps_str(caps);
    let info = gst_video::VideoInfo::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap();
    let mut buffer = grey(&info);
    if let Some(report) = report {
        meta::count::attach(buffer.make_mut(), report);
    }
    let out = overlay.push_and_pull(buffer).unwrap();
    let frame = gst_video::VideoFrame::from_buffer_readable(out, &info).unwrap();
    let (step, stride) = (frame.comp_pstride(0) as usize, frame.plane_stride()[0] as usize);
    let data = frame.plane_data(0).unwrap();
    let row = |y: usize| {
        (0..info.width() as usize)
            .filter(|x| data[y * stride + x * step..][..step].iter().any(|&b| b != 0x60))
            .collect()
    };
    (0..info.height() as usize).map(row).collect()
}

#[test]
fn heat_lies_where_the_vehicles_are_in_every_format_and_size() {
    for format in ["I420", "NV12", "YUY2", "RGB", "BGRx", "ARGB", "GRAY8", "Y444"] {
        for (width, height) in [(64, 48), (161, 91), (640, 360)] {
            let caps =
                format!("video/x-raw,format={format},width={width},height={height},framerate=25/1");
            let rows = drawn("regions=false labels=false", &caps, Some(&report()));
            // The spot covers columns 5 and 6 of 8; the spline reaches a cell further.
            let left = rows.iter().flatten().min().copied().unwrap();
            let right = rows.iter().flatten().max().copied().unwrap();
            assert!(
                left >= width * 4 / 8 && left < width * 11 / 16,
                "{format} {width}x{height}: from {left}"
            );
            assert!(
                right < width && right >= width * 6 / 8,
                "{format} {width}x{height}: to {right}"
            );
            assert!(
                rows[..height * 2 / 8].iter().all(Vec::is_empty),
                "{format} {width}x{height}: nothing at the top"
            );
        }
    }
}

#[test]
fn of_a_cropped_picture_the_part_that_is_shown_is_drawn_on() {
    init();
    let (x, y, width, height) = (101, 60, 320, 180);
    let shown = format!("video/x-raw,format=BGRx,width={width},height={height},framerate=25/1");
    let expected = drawn("", &shown, Some(&report()));
    let info =
        gst_video::VideoInfo::builder(gst_video::VideoFormat::Bgrx, 640, 360).build().unwrap();
    let mut overlay = Harness::new("vehiclecountoverlay");
    overlay.set_src_caps_str(&shown);
    let mut buffer = grey(&info);
    {
        let buffer = buffer.make_mut();
        let flags = gst_video::VideoFrameFlags::empty();
        gst_video::VideoMeta::add(buffer, flags, info.format(), info.width(), info.height())
            .unwrap();
        gst_video::VideoCropMeta::add(buffer, (x as u32, y as u32, width, height));
        meta::count::attach(buffer, &report());
    }
    let out = overlay.push_and_pull(buffer).unwrap();
    let frame = gst_video::VideoFrame::from_buffer_readable(out, &info).unwrap();
    let (stride, data) = (frame.plane_stride()[0] as usize, frame.plane_data(0).unwrap());
    let drawn_at = |row: usize, column: usize| {
        data[row * stride + column * 4..][..4].iter().any(|&byte| byte != 0x60)
    };
    for row in 0..360 {
        let columns: Vec<_> = (0..640).filter(|&column| drawn_at(row, column)).collect();
        let expected =
            row.checked_sub(y).and_then(|row| expected.get(row)).cloned().unwrap_or_default();
        assert_eq!(
            columns,
            expected.iter().map(|column| column + x).collect::<Vec<_>>(),
            "row {row}"
        );
    }
}

#[test]
fn panel_stands_in_the_corner_and_grows_with_the_frame() {
    let width_of = |width: usize, height: usize| {
        let caps = format!("video/x-raw,format=BGRx,width={width},height={height},framerate=25/1");
        let rows = drawn("regions=false heat-map=false", &caps, Some(&report()));
        assert!(!rows[height / 10].is_empty(), "{width}x{height}");
        assert!(rows[height / 2..].iter().all(Vec::is_empty), "{width}x{height}");
        *rows.iter().flatten().max().unwrap()
    };
    let (small, large) = (width_of(640, 360), width_of(1920, 1080));
    assert!(large > 2 * small, "{small} {large}");
    // No room: no panel, and no fault.
    let rows = drawn(
        "regions=false heat-map=false",
        "video/x-raw,format=BGRx,width=32,height=24,framerate=25/1",
        Some(&report()),
    );
    assert!(rows.iter().all(Vec::is_empty));
}

#[test]
fn long_names_are_cut_short_and_hide_nothing() {
    let name = "the camera over the long bridge at the north gate of the old town ".repeat(4);
    let long = FrameReport { camera: name.as_str().into(), ..report() };
    let caps = "video/x-raw,format=BGRx,width=320,height=240,framerate=25/1";
    let rows = drawn("regions=false heat-map=false", caps, Some(&long));
    let right = *rows.iter().flatten().max().unwrap();
    assert!(
        right > 200 && right < 240,
        "two thirds of the frame, a margin and the panel's own: {right}"
    );
    let mut narrow = report();
    narrow.regions[0] = RegionReport {
        name,
        polygon: vec![[0.9, 0.4], [0.95, 0.4], [0.95, 0.6], [0.9, 0.6]],
        ..narrow.regions[0].clone()
    };
    let rows = drawn("labels=false heat-map=false", caps, Some(&narrow));
    let left = *rows.iter().flatten().min().unwrap();
    assert!(left < 10, "the label may be wider than its region: from {left}");
}

#[test]
fn text_stays_legible_on_small_frames_and_grows_on_demand() {
    let width_of = |properties: &str| {
        let caps = "video/x-raw,format=BGRx,width=320,height=180,framerate=25/1";
        let rows =
            drawn(&format!("regions=false heat-map=false {properties}"), caps, Some(&report()));
        rows.iter().flatten().max().unwrap() - rows.iter().flatten().min().unwrap()
    };
    let usual = width_of("");
    assert!(usual > 65, "{usual}");
    assert!(width_of("text-scale=2") > usual * 3 / 2);
    // Larger than the frame: as large as fits.
    assert!(width_of("text-scale=4") > usual);
}

#[test]
fn drawing_follows_a_change_of_count_size_and_setting() {
    init();
    let mut overlay = Harness::new("vehiclecountoverlay");
    let mut frame = |caps: &str, report: &FrameReport, text_scale: f64| {
        overlay.set_src_caps_str(caps);
        overlay.element().unwrap().set_property("text-scale", text_scale);
        let info = gst_video::VideoInfo::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap();
        let mut buffer = grey(&info);
        meta::count::attach(buffer.make_mut(), report);
        overlay.push_and_pull(buffer).unwrap().map_readable().unwrap().to_vec()
    };
    let caps = "video/x-raw,format=RGB,width=320,height=180,framerate=25/1";
    let first = frame(caps, &report(), 1.0);
    assert!(first == frame(caps, &report(), 1.0), "kept drawings are the drawings");
    let mut other = report();
    other.count = Some(FrameCount { raw: 9.0, smoothed: 9.0, level: Level::Moderate });
    assert!(first != frame(caps, &other, 1.0));
    let mut other = report();
    other.density = other
        .density
        .map(|map| DensityMap { cells: map.cells.iter().rev().copied().collect(), ..map });
    assert!(first != frame(caps, &other, 1.0));
    assert!(first != frame(caps, &report(), 2.0));
    frame("video/x-raw,format=RGB,width=640,height=360,framerate=25/1", &report(), 1.0);
    assert!(first == frame(caps, &report(), 1.0), "the size came back");
}

#[test]
fn regions_are_outlined() {
    let rows = drawn(
        "labels=false heat-map=false",
        "video/x-raw,format=RGB,width=320,height=180,framerate=25/1",
        Some(&report()),
    );
    assert!(rows[90].contains(&160) && rows[90].iter().all(|&x| x > 150));
}

#[test]
fn frame_without_a_count_passes_untouched() {
    let rows = drawn("", "video/x-raw,format=I420,width=320,height=180,framerate=25/1", None);
    assert!(rows.iter().all(Vec::is_empty));
}

#[test]
fn age_of_a_stale_count_shows() {
    let caps = "video/x-raw,format=BGRx,width=640,height=360,framerate=25/1";
    let fresh = drawn("regions=false heat-map=false", caps, Some(&report()));
    let stale = drawn(
        "regions=false heat-map=false",
        caps,
        Some(&FrameReport { stale: true, age: 400_000_000, ..report() }),
    );
    assert!(
        stale.iter().flatten().max() > fresh.iter().flatten().max(),
        "the panel is wider by the note"
    );
}

fn publisher(properties: &str) -> Harness {
    init();
    let mut publisher = Harness::new_parse(&format!("vehiclecountpublish {properties}"));
    publisher.set_src_caps_str("video/x-raw,format=GRAY8,width=8,height=8,framerate=25/1");
    publisher
}

fn counted(camera: &str, sequence: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(64).unwrap();
    let pts = sequence * 40_000_000;
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_nseconds(pts));
    let report = FrameReport { camera: camera.into(), sequence, pts: Some(pts), ..report() };
    meta::count::attach(buffer.make_mut(), &report);
    buffer
}

fn lines(path: &Path) -> Vec<JsonReport> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_counted_frame_is_a_line_that_the_schema_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut publisher = publisher(&format!("location={} density=true", path.display()));
    for sequence in 0..20 {
        publisher.push_and_pull(counted("north", sequence)).unwrap();
    }
    // Everything is on the disk when the end has passed.
    assert!(publisher.push_event(gst::event::Eos::new()));
    let written = lines(&path);
    assert_eq!(
        written.iter().map(|line| line.sequence).collect::<Vec<_>>(),
        (0..20).collect::<Vec<_>>()
    );
    assert_eq!(written[0].density.as_ref().unwrap().cells.len(), 64);
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for line in fs::read_to_string(&path).unwrap().lines() {
        let line = serde_json::from_str(line).unwrap();
        let faults: Vec<_> = validator.iter_errors(&line).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
    let element = publisher.find_element("vehiclecountpublish").unwrap();
    assert_eq!(element.property::<u64>("published"), 20);
    let weak = element.downgrade();
    drop((publisher, element));
    common::assert_gone(&weak, "the element");
}

#[test]
fn two_cameras_share_a_file_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut both = ["north", "south"].map(|_| publisher(&format!("location={}", path.display())));
    for sequence in 0..50 {
        for (publisher, camera) in both.iter_mut().zip(["north", "south"]) {
            publisher.push_and_pull(counted(camera, sequence)).unwrap();
        }
    }
    for publisher in &mut both {
        publisher.push_event(gst::event::Eos::new());
    }
    let written = lines(&path);
    for camera in ["north", "south"] {
        let own = written.iter().filter(|line| line.camera == camera).map(|line| line.sequence);
        assert_eq!(own.collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn every_keeps_lines_apart_for_each_camera() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut publisher = publisher(&format!("location={} every=100", path.display()));
    for sequence in 0..10 {
        publisher.push_and_pull(counted("north", sequence)).unwrap();
        publisher.push_and_pull(counted("south", sequence)).unwrap();
    }
    publisher.push_event(gst::event::Eos::new());
    let north: Vec<_> = lines(&path)
        .into_iter()
        .filter(|line| line.camera == "north")
        .map(|line| line.sequence)
        .collect();
    assert_eq!(north, [0, 3, 6, 9]);
}

#[test]
fn file_that_cannot_be_written_stops_the_start_by_name() {
    init();
    let element = gst::ElementFactory::make("vehiclecountpublish")
        .property("location", "/nowhere/counts.jsonl")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().to_string().contains("/nowhere/counts.jsonl"), "{}", error.error());
    element.set_state(gst::State::Null).unwrap();
}
