//! DeepStream's batches in GPU memory: pictures are lent to an engine on the GPU, tensors copied
//! from it. The GPU, TensorRT and DeepStream are all stood in for; the scripted engine on host
//! memory is the reference.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use gst::prelude::*;
use gstvehiclecount::deepstream::meta;
use vehiclecount_core::cuda::{Context, DeviceBuffer, Driver};
use vehiclecount_core::report::FrameReport;
use vehiclecount_gpu_sim::{Figure, Sim};
use vehiclecount_tensorrt_sim::Family;
use vehiclecount_tests::standin::{self, BatchSpec, FrameSpec, StandIn};
use vehiclecount_tests::{BOUND, assert_no_leak, error_of, init};

/// NVBUF_MEM_CUDA_DEVICE, _UNIFIED, _SURFACE_ARRAY and _SYSTEM.
const DEVICE: i32 = 2;
const UNIFIED: i32 = 3;
const SURFACE_ARRAY: i32 = 4;
const SYSTEM: i32 = 6;

struct Stage {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
}

impl Stage {
    fn new(properties: &str) -> Self {
        let description = format!(
            "appsrc name=in format=time caps=\"video/x-raw(memory:NVMM),format=RGBA,width=64,height=32,framerate=10/1\" \
             ! vehiclecounternvmm {properties} ! appsink name=out sync=false"
        );
        let pipeline =
            gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        let by_name = |name| pipeline.by_name(name).unwrap();
        let stage = Self {
            source: by_name("in").downcast().unwrap(),
            sink: by_name("out").downcast().unwrap(),
            pipeline,
        };
        if stage.pipeline.set_state(gst::State::Playing).is_err() {
            panic!("{:?}", stage.error());
        }
        stage
    }

    fn error(&self) -> String {
        error_of(&self.pipeline)
    }

    /// Waits for the message that a build has begun.
    fn await_build(&self) {
        let bound = gst::ClockTime::from_seconds(BOUND.as_secs());
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(bound, &[gst::MessageType::Progress])
            .unwrap();
        let gst::MessageView::Progress(progress) = message.view() else { panic!("{message:?}") };
        assert!(progress.text().starts_with("building tiny in int8"), "{}", progress.text());
    }

    fn pass(&self, buffer: gst::Buffer) -> Vec<FrameReport> {
        self.source.push_buffer(buffer).unwrap();
        let sample = self.sink.try_pull_sample(gst::ClockTime::from_seconds(BOUND.as_secs()));
        let Some(sample) = sample else { panic!("nothing came out: {}", self.error()) };
        standin::reports(&sample.buffer_owned().unwrap())
    }

    fn end(self) {
        let Self { pipeline, source, sink } = self;
        drop((source, sink));
        assert_no_leak(pipeline);
    }
}

fn engine(kind: &str) -> Stage {
    engine_of_size(kind, "128x96")
}

fn engine_of_size(kind: &str, size: &str) -> Stage {
    engine_with(kind, &format!("input-size={size}"))
}

fn engine_with(kind: &str, properties: &str) -> Stage {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/engines/tiny.json");
    Stage::new(&format!(
        "source=engine engine={kind} engine-id=gpu model={} {properties} batch-size=4 smoothing=0",
        model.display()
    ))
}

/// The stand-in's RGBA picture of that red, on the GPU.
fn on_gpu(context: &Arc<Context>, red: u8) -> DeviceBuffer {
    let pixels: Vec<u8> = [red, 0, 0, 0].repeat(64 * 32);
    DeviceBuffer::holding(context, &pixels, "a picture").unwrap()
}

/// Jetson's block-linear picture buffers reach the GPU as copies, by way of EGL images.
fn jetson(sim: &Sim, standin: &StandIn, expected: &[FrameReport]) {
    let batch = BatchSpec { memory_type: SURFACE_ARRAY, layout: 1, ..BatchSpec::default() };
    let frames: Vec<_> = [255, 64]
        .into_iter()
        .zip(0..)
        .map(|(red, index)| FrameSpec {
            tensors: 0,
            red,
            ..FrameSpec::new(index, index, 1, &[0.0])
        })
        .collect();
    let count = |stage: &Stage| {
        let reports = stage.pass(standin.buffer(&batch, &frames));
        for (got, expected) in reports.iter().zip(expected) {
            let (got, expected) = (got.count.unwrap().raw, expected.count.unwrap().raw);
            assert!(
                (got - expected).abs() < 2e-3 * expected.max(1.0),
                "copied: {got}, not {expected}"
            );
        }
    };
    let stage = engine("tensorrt");
    for _ in 0..1000 {
        count(&stage);
    }
    // A surface for each frame of the batch, and one more where the engine lets go a moment after
    // it has reported.
    let (surfaces, images) = standin.live_surfaces();
    assert!((2..=8).contains(&surfaces), "{surfaces} surfaces");
    assert_eq!((images, sim.figure(Figure::Images)), (surfaces, i64::from(surfaces)));
    stage.end();
    assert_eq!((standin.live_surfaces(), sim.figure(Figure::Images)), ((0, 0), 0));

    // A board with the driver of discrete GPUs: the copy lies in GPU memory.
    standin.set_driver(2);
    let stage = engine("tensorrt");
    count(&stage);
    assert_eq!(standin.live_surfaces().1, 0);
    stage.end();
    standin.set_driver(1);

    let fails = || {
        let stage = engine("tensorrt");
        stage.source.push_buffer(standin.buffer(&batch, &frames)).unwrap();
        let error = stage.error();
        stage.end();
        assert_eq!((standin.live_surfaces(), sim.figure(Figure::Images)), ((0, 0), 0));
        assert!(error.starts_with("camera-0: ") && error.contains("nvvideoconvert"), "{error}");
        error
    };
    sim.fail_image(1);
    assert!(fails().contains("cuGraphicsEGLRegisterImage: "));
    standin.limit_surfaces(-1, 0, 1);
    assert!(fails().contains("NvBufSurfaceMapEglImage says -1"));
    standin.limit_surfaces(-1, -1, 0);
    let array = fails();
    assert!(
        array.contains("type 0, where 64x32, 1 plane, 256 bytes or more, type 1 were expected"),
        "{array}"
    );
    standin.limit_surfaces(-1, -1, 1);
}

/// Without density maps, the regions of each source are summed on the GPU, and only the sums leave
/// it.
fn without_maps(sim: &Sim, host: gst::Buffer, device: impl Fn() -> gst::Buffer) {
    let regions = r#"regions="{\"regions\": [{\"name\": \"left\", \"polygon\": [[0, 0], [0.4, 0], [0.4, 1], [0, 1]]}]}""#;
    let stage = engine_with("scripted", &format!("input-size=128x96 {regions}"));
    let expected = stage.pass(host);
    stage.end();
    let stage = engine_with("tensorrt", &format!("input-size=128x96 density-map=false {regions}"));
    for _ in 0..3 {
        let downloaded = sim.figure(Figure::DownloadedBytes);
        let reports = stage.pass(device());
        let bytes = sim.figure(Figure::DownloadedBytes) - downloaded;
        let map = 16 * 12 * 4;
        assert!(bytes < 2 * map, "{bytes} bytes for two frames");
        for (got, expected) in reports.iter().zip(&expected) {
            let values = |report: &FrameReport| {
                [report.count, report.regions[0].count].map(|count| count.unwrap().raw)
            };
            for (got, expected) in values(got).into_iter().zip(values(expected)) {
                assert!((got - expected).abs() < 2e-3 * expected.max(1.0), "{got}, not {expected}");
            }
            assert!(!got.stale && got.density.is_none());
        }
    }
    stage.end();
}

/// Tensors that nvinfer did not copy to the host are copied by the element, all of a batch at once,
/// on a stream that is kept until the stop.
fn tensors_on_gpu(sim: &Sim, standin: &StandIn, context: &Arc<Context>) {
    let batch = BatchSpec { memory_type: DEVICE, ..BatchSpec::default() };
    let cells = [1.5f32, 0.0, 2.0, 0.25];
    let single = DeviceBuffer::holding(context, &cells, "a tensor").unwrap();
    // 0.5, 0, 1 and 0.25 in half precision.
    let halves: Vec<u8> = [0x3800u16, 0, 0x3c00, 0x3400].map(u16::to_ne_bytes).concat();
    let half = DeviceBuffer::holding(context, &halves, "a tensor").unwrap();
    let broken = DeviceBuffer::holding(context, &[f32::NAN; 4], "a tensor").unwrap();
    let frame = |number, tensor: &DeviceBuffer| FrameSpec {
        place: 1,
        address: tensor.address(),
        ..FrameSpec::new(number, number, 2, &cells)
    };
    // The host's among them; one that is no number costs its own frame the count.
    let frames = [
        frame(0, &single),
        FrameSpec { data_type: 1, ..frame(1, &half) },
        FrameSpec::new(2, 2, 2, &[0.0, 0.0, 0.0, 7.0]),
        frame(3, &broken),
    ];
    let before = [Figure::Streams, Figure::Contexts].map(|figure| sim.figure(figure));
    for starts in 1..=2 {
        let made = sim.figure(Figure::AllStreams);
        let stage = Stage::new("source=tensor-meta");
        for _ in 0..20 {
            let reports = stage.pass(standin.buffer(&batch, &frames));
            let counts: Vec<_> =
                reports.iter().map(|report| report.count.map(|count| count.raw)).collect();
            assert_eq!(counts, [Some(3.75), Some(1.75), Some(7.0), None]);
        }
        assert_eq!(sim.figure(Figure::AllStreams) - made, 1, "start {starts}: one for all batches");
        stage.end();
        let after = [Figure::Streams, Figure::Contexts].map(|figure| sim.figure(figure));
        assert_eq!(after, before, "nothing of the GPU outlives the stop");
    }
}

// One test: the GPU, the engine's cache and DeepStream are each one for the whole process.
#[test]
fn batches_in_gpu_memory_are_counted_where_they_lie() {
    let sim = vehiclecount_gpu_sim::install();
    sim.configure(1, 12040, 0);
    let cache = tempfile::tempdir().unwrap();
    let families = [Family::TensorRt10, Family::TensorRt11, Family::TensorRtRtx];
    let family = families.into_iter().find(|family| family.runtime().is_some());
    // SAFETY: no other thread of this process has been started.
    unsafe {
        std::env::set_var("VEHICLECOUNT_CACHE", cache.path());
        if let Some(runtime) = family.and_then(Family::runtime) {
            std::env::set_var("VEHICLECOUNT_RUNTIME", runtime);
        }
    }
    init();
    let standin = StandIn::load(Path::new(env!("CARGO_TARGET_TMPDIR")), (9, 1));
    let context = Driver::open().unwrap().context(0).unwrap();
    let batch = |memory_type| BatchSpec { memory_type, ..BatchSpec::default() };

    tensors_on_gpu(sim, &standin, &context);

    // Pictures on the GPU are nothing for an engine on the processor.
    let pictures = [on_gpu(&context, 255), on_gpu(&context, 64)];
    let frames: Vec<_> = [255u32, 64]
        .into_iter()
        .zip(&pictures)
        .enumerate()
        .map(|(index, (red, picture))| FrameSpec {
            tensors: 0,
            red,
            address: picture.address(),
            ..FrameSpec::new(index as u32, index as u32, 1, &[0.0])
        })
        .collect();
    let stage = engine("scripted");
    stage.source.push_buffer(standin.buffer(&batch(DEVICE), &frames)).unwrap();
    let error = stage.error();
    assert!(error.contains("in the memory of GPU 0, which engine scripted cannot read"), "{error}");
    stage.end();

    if let Some(family) = family {
        // While the plan is built batches wait, and the end of the element ends the build.
        let tensorrt = vehiclecount_tensorrt_sim::install(family).unwrap();
        for end in [true, false] {
            tensorrt.hold_builds(true);
            let stage = engine_of_size("tensorrt", "96x64");
            stage.await_build();
            stage.source.push_buffer(standin.buffer(&batch(DEVICE), &frames)).unwrap();
            assert!(stage.sink.try_pull_sample(gst::ClockTime::ZERO).is_none());
            if end {
                stage.end();
                continue;
            }
            tensorrt.hold_builds(false);
            let waited = stage.sink.try_pull_sample(gst::ClockTime::from_seconds(BOUND.as_secs()));
            assert!(waited.is_some(), "{:?}", stage.error());
            drop(waited);
            stage.end();
        }
        let host: Vec<_> =
            frames.iter().map(|frame| FrameSpec { address: 0, ..frame.clone() }).collect();
        let stage = engine("scripted");
        let expected = stage.pass(standin.buffer(&batch(SYSTEM), &host));
        stage.end();
        let stage = engine("tensorrt");
        // Lent where they lie, twice over; staged from host memory; lent in unified memory.
        for (memory_type, frames) in
            [(DEVICE, &frames), (DEVICE, &frames), (SYSTEM, &host), (UNIFIED, &frames)]
        {
            let reports = stage.pass(standin.buffer(&batch(memory_type), frames));
            assert_eq!(reports.len(), 2);
            for (got, expected) in reports.iter().zip(&expected) {
                let (got, expected) = (got.count.unwrap().raw, expected.count.unwrap().raw);
                assert!(
                    (got - expected).abs() < 2e-3 * expected.max(1.0),
                    "memory {memory_type}: {got}, not {expected}"
                );
            }
        }
        stage.end();
        jetson(sim, &standin, &expected);
        let device = || standin.buffer(&batch(DEVICE), &frames);
        without_maps(sim, standin.buffer(&batch(SYSTEM), &host), device);
    } else {
        eprintln!("skipped: no headers of TensorRT");
    }
    drop(pictures);
    drop(context);
    assert_eq!((sim.alive(), meta::live(), standin.live_batches()), (vec![], 0, 0));
}
