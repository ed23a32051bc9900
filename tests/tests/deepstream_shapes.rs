//! DeepStream's batches whose pictures have several sizes (the new nvstreammux scales none), with
//! `input-size=auto`: each picture goes into the input of its own shape, and its metadata describes
//! its own grid. DeepStream is stood in for; the engine is the scripted one, which has inputs of
//! 88x48, 64x64 and 48x88 among others.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use gst::prelude::*;
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::report::FrameReport;
use vehiclecount_tests::standin::{self, BatchSpec, FrameSpec, StandIn};
use vehiclecount_tests::{BOUND, assert_no_leak, init};

struct Stage {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    control: Control,
}

/// A test that fails must not wait for an opening.
impl Drop for Stage {
    fn drop(&mut self) {
        self.control.open_gate();
    }
}

impl Stage {
    fn new(name: &str, properties: &str) -> Self {
        let description = format!(
            "appsrc name=in format=time caps=\"video/x-raw(memory:NVMM),format=RGBA,width=64,height=32,framerate=10/1\" \
             ! vehiclecounternvmm source=engine engine=scripted engine-id={name} smoothing=0 {properties} ! appsink name=out sync=false"
        );
        let pipeline =
            gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        let by_name = |name| pipeline.by_name(name).unwrap();
        let stage = Self {
            source: by_name("in").downcast().unwrap(),
            sink: by_name("out").downcast().unwrap(),
            control: Control::of(name),
            pipeline,
        };
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        stage
    }

    fn message(&self, kind: gst::MessageType) -> gst::Message {
        let bound = gst::ClockTime::from_seconds(BOUND.as_secs());
        self.pipeline.bus().unwrap().timed_pop_filtered(bound, &[kind]).unwrap()
    }

    fn pull(&self) -> Vec<FrameReport> {
        let bound = gst::ClockTime::from_seconds(BOUND.as_secs());
        standin::reports(&self.sink.try_pull_sample(bound).unwrap().buffer_owned().unwrap())
    }

    fn pass(&self, buffer: gst::Buffer) -> Vec<FrameReport> {
        self.source.push_buffer(buffer).unwrap();
        self.pull()
    }

    fn end(self) {
        self.control.open_gate();
        let (pipeline, source, sink) =
            (self.pipeline.clone(), self.source.clone(), self.sink.clone());
        drop(self);
        drop((source, sink));
        assert_no_leak(pipeline);
    }
}

/// A batch of pictures of these sizes, all full of red: one vehicle in each cell.
fn batch(standin: &StandIn, number: u64, sizes: &[(u32, u32)]) -> gst::Buffer {
    let frames: Vec<_> = sizes
        .iter()
        .zip(0..)
        .map(|(&size, index)| FrameSpec {
            tensors: 0,
            red: 255,
            size,
            pts: number * 100_000_000,
            ..FrameSpec::new(index, index, 1, &[0.0])
        })
        .collect();
    standin.buffer(&BatchSpec { room: 8, ..BatchSpec::default() }, &frames)
}

/// Columns and rows, where the map covers all of the picture and each cell has its vehicle.
fn grid(report: &FrameReport) -> (usize, usize) {
    let map = report.density.as_ref().expect("attached by default");
    let (columns, rows) = (map.grid.columns, map.grid.rows);
    let (count, cells) = (report.count.unwrap().raw, (columns * rows) as f64);
    assert!((count - cells).abs() < 1e-3, "{}: {count} in {cells} cells", report.camera);
    let rect = map.grid.rect;
    assert_eq!((rect.x, rect.y, rect.width, rect.height), (0.0, 0.0, 1.0, 1.0));
    assert!(!report.stale);
    (columns, rows)
}

// One test: DeepStream is one for the whole process.
#[test]
fn pictures_of_several_sizes_go_into_inputs_of_their_own_shapes() {
    init();
    let standin = StandIn::load(Path::new(env!("CARGO_TARGET_TMPDIR")), (9, 1));
    let (wide, square, tall) = ((176, 96), (64, 64), (48, 88));
    let grid_of = |size| match size {
        (176, 96) => (11, 6),
        (64, 64) => (8, 8),
        _ => (6, 11),
    };

    // Sources of three shapes in one batch, the same shape more than once, and sources that change
    // their size.
    let stage = Stage::new("nvmm-shapes", "batch-size=4");
    for (number, sizes) in [
        vec![wide, square, tall, wide, square],
        vec![wide, square, tall, wide, square],
        vec![tall, wide, square, square, wide],
        vec![square],
        vec![tall, tall, tall, tall, tall, tall],
    ]
    .iter()
    .enumerate()
    {
        let reports = stage.pass(batch(&standin, number as u64, sizes));
        let grids: Vec<_> = reports.iter().map(grid).collect();
        let expected: Vec<_> = sizes.iter().map(|&size| grid_of(size)).collect();
        assert_eq!(grids, expected, "batch {number}");
        for (report, index) in reports.iter().zip(0..) {
            assert_eq!(*report.camera, *format!("camera-{index}"));
        }
    }
    assert_eq!(stage.control.openings(), 3, "each shape is opened once");
    stage.end();

    // One size for all.
    let stage = Stage::new("nvmm-fixed", "input-size=64x64");
    let reports = stage.pass(batch(&standin, 0, &[wide, square, tall]));
    for report in &reports {
        let map = report.density.as_ref().unwrap();
        assert_eq!((map.grid.columns, map.grid.rows), (8, 8));
    }
    assert_eq!(stage.control.openings(), 1);
    stage.end();

    // A shape that does not open is said once, and its pictures go into another one.
    let stage = Stage::new("nvmm-refused", "");
    stage.control.refuse_openings("no room");
    for number in 0..3 {
        let reports = stage.pass(batch(&standin, number, &[square, wide]));
        let map = reports[0].density.as_ref().unwrap();
        assert_eq!((map.grid.columns, map.grid.rows, reports[0].stale), (11, 6, false));
        assert_eq!(grid(&reports[1]), (11, 6));
    }
    let message = stage.message(gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = message.view() else { panic!("{message:?}") };
    let text = warning.error().to_string();
    assert!(text.contains("64x64") && text.contains("no room"), "{text}");
    drop(message);
    let more = stage.pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Warning]);
    assert!(more.is_none(), "{more:?}");
    assert_eq!(stage.control.openings(), 2);
    stage.end();

    // An element that stops does not wait for the opening of a shape.
    let stage = Stage::new("nvmm-stop", "");
    assert_eq!(grid(&stage.pass(batch(&standin, 0, &[wide]))[0]), (11, 6));
    stage.control.hold_openings();
    stage.source.push_buffer(batch(&standin, 1, &[tall])).unwrap();
    while stage.control.openings() < 2 {
        std::thread::yield_now();
    }
    stage.pipeline.set_state(gst::State::Null).unwrap();
    stage.end();
}
