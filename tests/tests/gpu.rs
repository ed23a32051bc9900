//! The whole way on a simulated GPU: `vehiclecounter engine=tensorrt` over stand-ins for the driver
//! (tests/gpu-sim) and for TensorRT (tests/tensorrt-sim), from frames in host memory and in GPU
//! memory to counts, through faults, and with nothing left behind.
//!
//! The stand-in's network is that of the scripted engine, the mean of the red samples: the scripted
//! engine is the reference.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use gst_video::prelude::*;
use vehiclecount_core::cuda::{Driver, PinnedBuffer, Stream};
use vehiclecount_core::report::FrameReport;
use vehiclecount_gpu_sim::{Figure, GstCuda, Turn, turn};
use vehiclecount_tensorrt_sim::Family;
use vehiclecount_tests::{Reports, assert_no_leak, drive, init, run_to_end};

/// `None` where TensorRT's headers were not at hand.
fn device() -> Option<Turn> {
    let turn = turn();
    static CACHE: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| {
        let families = [Family::TensorRt10, Family::TensorRt11, Family::TensorRtRtx];
        let family = families.into_iter().find(|family| family.runtime().is_some())?;
        let cache = tempfile::tempdir().unwrap();
        // SAFETY: before any other thread of this process is started: every test begins here, and
        // waits for the first.
        unsafe {
            if std::env::var_os("VEHICLECOUNT_TEST_RUNTIME").is_none() {
                std::env::set_var("VEHICLECOUNT_RUNTIME", family.runtime()?);
            }
            std::env::set_var("VEHICLECOUNT_CACHE", cache.path());
        }
        GstCuda::install();
        init();
        Some(cache)
    });
    if CACHE.is_none() {
        eprintln!("skipped: no headers of TensorRT");
        return None;
    }
    turn.sim.configure(1, 12040, 0);
    Some(turn)
}

const REGIONS: &str = r#"{"regions": [
    {"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
    {"name": "wedge", "polygon": [[0.2, 0.9], [0.5, 0.1], [0.9, 0.9]]}]}"#;

/// Waits for the end of `pipeline`'s stream; the warnings on the way there.
fn warnings_to_end(pipeline: &gst::Pipeline) -> Vec<String> {
    let mut warnings = Vec::new();
    drive(pipeline, "the end of the stream", |message, _| {
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => true,
            Some(gst::MessageView::Warning(warning)) => {
                warnings.push(warning.error().to_string());
                false
            }
            Some(gst::MessageView::Error(error)) => panic!("{}", error.error()),
            _ => false,
        }
    });
    warnings
}

fn counter(engine: &str) -> gst::Element {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/engines/tiny.json");
    gst::ElementFactory::make("vehiclecounter")
        .property_from_str("engine", engine)
        .property("engine-id", "on the simulated GPU")
        .property("model", model.display().to_string())
        .property("input-size", "128x96")
        .property("smoothing", 0.0)
        .property("batch-size", 4u32)
        .property("regions", REGIONS)
        .build()
        .unwrap()
}

/// What cameras of all kinds send.
const CAMERAS: [&str; 6] = [
    "video/x-raw,format=NV12,width=320,height=180,framerate=25/1",
    "video/x-raw,format=I420,width=322,height=242,framerate=25/1",
    "video/x-raw,format=RGB,width=640,height=360,framerate=25/1",
    "video/x-raw,format=BGRx,width=101,height=77,framerate=25/1",
    "video/x-raw,format=GRAY8,width=128,height=96,framerate=25/1",
    "video/x-raw,format=NV12,width=1280,height=720,framerate=25/1,colorimetry=bt709",
];

fn pipeline(counter: &gst::Element, frames: u32) -> (gst::Pipeline, Reports) {
    let pipeline = gst::Pipeline::new();
    pipeline.add(counter).unwrap();
    let reports = Reports::default();
    for (index, caps) in CAMERAS.iter().enumerate() {
        let description = format!(
            "videotestsrc num-buffers={frames} pattern=smpte75 ! videoconvert ! capsfilter caps=\"{caps}\""
        );
        let source = gst::parse::bin_from_description(&description, true).unwrap();
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
        pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink]).unwrap();
        source.link_pads(Some("src"), counter, Some(&format!("sink_{index}"))).unwrap();
        counter.link_pads(Some(&format!("src_{index}")), &sink, Some("sink")).unwrap();
        reports.collect(&counter.static_pad(&format!("src_{index}")).unwrap());
    }
    (pipeline, reports)
}

/// Runs all cameras through `engine`.
fn count(engine: &str, frames: u32, with_map: bool) -> BTreeMap<String, Vec<FrameReport>> {
    let counter = counter(engine);
    counter.set_property("density-map", with_map);
    let (pipeline, reports) = pipeline(&counter, frames);
    run_to_end(&pipeline);
    drop(counter);
    assert_no_leak(pipeline);
    reports.all()
}

#[track_caller]
fn assert_same(
    got: &BTreeMap<String, Vec<FrameReport>>,
    expected: &BTreeMap<String, Vec<FrameReport>>,
) {
    assert_eq!(got.len(), expected.len());
    for (camera, reports) in got {
        let expected = &expected[camera];
        assert_eq!(reports.len(), expected.len(), "{camera}");
        for (got, expected) in reports.iter().zip(expected) {
            assert_eq!((got.sequence, got.stale), (expected.sequence, false), "{camera}");
            let close = |a: f64, b: f64| {
                assert!((a - b).abs() < 2e-3 * b.max(1.0), "{camera}: {a}, not {b}")
            };
            close(got.count.unwrap().raw, expected.count.unwrap().raw);
            assert_eq!(got.regions.len(), 2);
            for (got, expected) in got.regions.iter().zip(&expected.regions) {
                close(got.count.unwrap().raw, expected.count.unwrap().raw);
            }
        }
    }
}

#[test]
fn cameras_of_all_kinds_count_on_the_gpu_as_on_the_processor() {
    let Some(device) = device() else { return };
    let expected = count("scripted", 20, true);
    let launches = device.sim.figure(Figure::Launches);
    let got = count("tensorrt", 20, true);
    assert!(device.sim.figure(Figure::Launches) > launches);
    assert_same(&got, &expected);
    assert!(
        got.values()
            .flatten()
            .all(|report| report.engine == "tensorrt" && report.density.is_some())
    );
}

#[test]
fn without_density_maps_only_counts_leave_the_gpu() {
    let Some(device) = device() else { return };
    let expected = count("scripted", 12, true);
    let downloaded = device.sim.figure(Figure::DownloadedBytes);
    let got = count("tensorrt", 12, false);
    assert_same(&got, &expected);
    assert!(got.values().flatten().all(|report| report.density.is_none()));
    // 32 sums of 4 bytes for each frame; the golden check and the choice of precision, whose maps
    // do come back, are not made here anew.
    let frames = 12 * CAMERAS.len() as i64;
    let bytes = device.sim.figure(Figure::DownloadedBytes) - downloaded;
    let map = 16 * 12 * 4;
    assert!(bytes < frames * map, "{bytes} bytes for {frames} frames");
}

#[test]
fn counter_that_starts_again_and_again_leaves_nothing_on_the_gpu() {
    let Some(device) = device() else { return };
    for _ in 0..5 {
        count("tensorrt", 3, true);
        assert_eq!(device.sim.alive(), []);
    }
}

#[test]
fn gpu_that_is_lost_in_mid_stream_stops_the_counts_and_not_the_video() {
    let Some(device) = device() else { return };
    let counter = counter("tensorrt");
    let (pipeline, reports) = pipeline(&counter, 60);
    let sim = device.sim;
    let pad = counter.static_pad("src_0").unwrap();
    // The pad's thread loses the GPU after its tenth frame.
    let seen = AtomicUsize::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if seen.fetch_add(1, Ordering::Relaxed) == 10 {
            sim.lose(719);
        }
        gst::PadProbeReturn::Ok
    });
    let _ = pipeline.set_state(gst::State::Playing);
    let warnings = warnings_to_end(&pipeline);
    let reports = reports.all();
    for (camera, reports) in &reports {
        assert_eq!(reports.len(), 60, "{camera}");
        assert!(reports.last().unwrap().stale, "{camera}");
    }
    assert!(reports["camera-0"].iter().any(|report| !report.stale));
    assert!(warnings.iter().any(|warning| warning.contains("the GPU is lost")), "{warnings:?}");
    drop(counter);
    assert_no_leak(pipeline);
}

#[test]
fn counter_without_memory_does_not_start_and_says_why() {
    let Some(device) = device() else { return };
    // The plan and the choice are in the cache from here on.
    count("tensorrt", 1, true);
    let before = device.sim.figure(Figure::AllAllocations);
    count("tensorrt", 1, true);
    let all = device.sim.figure(Figure::AllAllocations) - before;
    for nth in [1, 2, all / 2] {
        device.sim.fail_allocation(nth);
        let counter = counter("tensorrt");
        let (pipeline, _) = pipeline(&counter, 1);
        if pipeline.set_state(gst::State::Paused).is_err() {
            let bus = pipeline.bus().unwrap();
            let errors = bus.iter().filter_map(|message| match message.view() {
                gst::MessageView::Error(error) => Some(error.error().to_string()),
                _ => None,
            });
            let text = errors.last().unwrap();
            assert!(text.contains("memory"), "{text}");
        }
        device.sim.fail_allocation(0);
        drop(counter);
        assert_no_leak(pipeline);
        assert_eq!(device.sim.alive(), [], "allocation {nth}");
    }
}

#[test]
fn frames_in_gpu_memory_are_refused_by_an_engine_on_the_processor() {
    let Some(_device) = device() else { return };
    let counter = counter("scripted");
    let pad = counter.request_pad_simple("sink_0").unwrap();
    counter.set_state(gst::State::Paused).unwrap();
    let features = "memory:CUDAMemory";
    let cuda =
        |caps: &gst::Caps| caps.iter_with_features().any(|(_, held)| held.contains(features));
    assert!(!cuda(&pad.query_caps(None)));
    let caps: gst::Caps =
        "video/x-raw(memory:CUDAMemory),format=NV12,width=64,height=48,framerate=25/1"
            .parse()
            .unwrap();
    assert!(!pad.query_accept_caps(&caps));
    counter.set_state(gst::State::Null).unwrap();
}

// ---- the first use, which builds a plan ----

/// The stand-in for TensorRT, whose builds can be held until the test ends.
struct Builder(vehiclecount_tensorrt_sim::Sim);

impl Drop for Builder {
    fn drop(&mut self) {
        self.0.hold_builds(false);
    }
}

impl std::ops::Deref for Builder {
    type Target = vehiclecount_tensorrt_sim::Sim;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

fn tensorrt() -> Builder {
    let families = [Family::TensorRt10, Family::TensorRt11, Family::TensorRtRtx];
    let family = families.into_iter().find(|family| family.runtime().is_some()).unwrap();
    Builder(vehiclecount_tensorrt_sim::install(family).unwrap())
}

/// A counter that has no plan yet: no other test has an input of that size.
fn new_counter(size: &str) -> gst::Element {
    let counter = counter("tensorrt");
    counter.set_property("input-size", size);
    counter.set_property("engine-id", size);
    counter
}

/// Adds a test picture in front of `counter`'s `sink_INDEX`, live or not.
fn add_camera(
    pipeline: &gst::Pipeline,
    counter: &gst::Element,
    index: u32,
    frames: i32,
    live: bool,
) {
    let text = format!(
        "videotestsrc num-buffers={frames} is-live={live} pattern=white ! capsfilter caps=\"video/x-raw,format=I420,width=64,height=48,framerate=50/1\""
    );
    let source = gst::parse::bin_from_description(&text, true).unwrap();
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink]).unwrap();
    source.link_pads(Some("src"), counter, Some(&format!("sink_{index}"))).unwrap();
    counter.link_pads(Some(&format!("src_{index}")), &sink, Some("sink")).unwrap();
}

/// Waits for a progress message of that type, and returns its text.
fn progress(pipeline: &gst::Pipeline, wanted: gst::ProgressType) -> String {
    let mut found = String::new();
    drive(pipeline, "progress", |message, _| match message.map(|message| message.view()) {
        Some(gst::MessageView::Progress(progress)) if progress.type_() == wanted => {
            assert_eq!(progress.code(), "vehiclecount-engine");
            found = progress.text().to_string();
            true
        }
        Some(gst::MessageView::Error(error)) => panic!("{}", error.error()),
        _ => false,
    });
    found
}

#[test]
fn first_use_builds_while_live_cameras_pass_and_files_wait() {
    let Some(_device) = device() else { return };
    let tensorrt = tensorrt();
    tensorrt.hold_builds(true);
    let counter = new_counter("96x64");
    let pipeline = gst::Pipeline::new();
    pipeline.add(&counter).unwrap();
    let reports = Reports::default();
    for (index, frames, live) in [(0, -1, true), (1, 10, false)] {
        add_camera(&pipeline, &counter, index, frames, live);
        reports.collect(&counter.static_pad(&format!("src_{index}")).unwrap());
    }
    let began = pipeline.set_state(gst::State::Playing).unwrap();
    assert_ne!(began, gst::StateChangeSuccess::Async, "nothing waits for the build");
    let text = progress(&pipeline, gst::ProgressType::Start);
    for words in [
        "building tiny in int8, 96x64, batches to 4, by TensorRT",
        "the next start takes it from the cache",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(counter.property::<Option<String>>("active-engine"), None);
    drive(&pipeline, "live frames", |_, _| reports.frames("camera-0") > 5);
    assert_eq!((reports.frames("camera-1"), reports.fresh("camera-0")), (0, 0));
    assert!(reports.all()["camera-0"].iter().all(|report| report.stale && report.count.is_none()));
    // Another camera joins meanwhile.
    add_camera(&pipeline, &counter, 2, -1, true);
    reports.collect(&counter.static_pad("src_2").unwrap());
    pipeline
        .iterate_elements()
        .into_iter()
        .flatten()
        .for_each(|element| element.sync_state_with_parent().unwrap());
    drive(&pipeline, "live frames", |_, _| reports.frames("camera-2") > 2);

    tensorrt.hold_builds(false);
    let mut choice = String::new();
    drive(&pipeline, "the engine", |message, _| match message.map(|message| message.view()) {
        Some(gst::MessageView::Element(message)) => {
            let told = message.structure().filter(|told| told.name() == "vehiclecount-engine");
            choice = told.map(|told| told.get("precision-choice").unwrap()).unwrap_or_default();
            told.is_some()
        }
        Some(gst::MessageView::Error(error)) => panic!("{}", error.error()),
        _ => false,
    });
    assert!(choice.contains("int8 takes ") && choice.contains("fp16 takes "), "{choice}");
    drive(&pipeline, "counts", |_, _| {
        reports.fresh("camera-1") == 10
            && reports.fresh("camera-0") > 5
            && reports.fresh("camera-2") > 5
    });
    // No frame of the file was lost, and each was counted itself.
    assert_eq!(reports.frames("camera-1"), 10);
    assert_eq!(counter.property::<Option<String>>("active-engine").as_deref(), Some("tensorrt"));
    pipeline.set_state(gst::State::Null).unwrap();

    // The second start finds everything.
    let builds = tensorrt.figure(vehiclecount_tensorrt_sim::Figure::Builds);
    pipeline.set_state(gst::State::Paused).unwrap();
    assert_eq!(counter.property::<Option<String>>("active-engine").as_deref(), Some("tensorrt"));
    let told =
        pipeline.bus().unwrap().iter().any(|message| message.type_() == gst::MessageType::Progress);
    assert!(!told && tensorrt.figure(vehiclecount_tensorrt_sim::Figure::Builds) == builds);
    drop(counter);
    assert_no_leak(pipeline);
}

#[test]
fn elements_that_share_an_engine_wait_for_its_build_together() {
    let Some(_device) = device() else { return };
    let tensorrt = tensorrt();
    tensorrt.hold_builds(true);
    let builds = tensorrt.figure(vehiclecount_tensorrt_sim::Figure::Builds);
    let pipelines = [(); 2].map(|()| {
        let counter = new_counter("64x96");
        let pipeline = gst::Pipeline::new();
        pipeline.add(&counter).unwrap();
        add_camera(&pipeline, &counter, 0, 5, false);
        pipeline.set_state(gst::State::Playing).unwrap();
        progress(&pipeline, gst::ProgressType::Start);
        pipeline
    });
    tensorrt.hold_builds(false);
    for pipeline in &pipelines {
        let text = progress(pipeline, gst::ProgressType::Complete);
        assert!(text.starts_with("the engine is open after"), "{text}");
    }
    // One for each precision.
    assert_eq!(tensorrt.figure(vehiclecount_tensorrt_sim::Figure::Builds) - builds, 2);
    pipelines.into_iter().for_each(assert_no_leak);
}

#[test]
fn going_to_null_ends_a_build() {
    let Some(device) = device() else { return };
    let tensorrt = tensorrt();
    for target in [gst::State::Ready, gst::State::Null] {
        tensorrt.hold_builds(true);
        let counter = new_counter("32x96");
        let pipeline = gst::Pipeline::new();
        pipeline.add(&counter).unwrap();
        add_camera(&pipeline, &counter, 0, 100, false);
        add_camera(&pipeline, &counter, 1, 100, true);
        pipeline.set_state(gst::State::Playing).unwrap();
        progress(&pipeline, gst::ProgressType::Start);
        pipeline.set_state(target).unwrap();
        if target == gst::State::Ready {
            assert!(
                progress(&pipeline, gst::ProgressType::Canceled)
                    .contains("ended before the engine was open")
            );
        }
        assert_eq!(tensorrt.figure(vehiclecount_tensorrt_sim::Figure::Builders), 0);
        assert_eq!(device.sim.alive(), []);
        tensorrt.hold_builds(false);
        drop(counter);
        assert_no_leak(pipeline);
    }
}

#[test]
fn build_that_fails_is_an_error_on_the_bus() {
    let Some(_device) = device() else { return };
    let tensorrt = tensorrt();
    tensorrt.fail(vehiclecount_tensorrt_sim::Fault::Build, 1);
    let counter = new_counter("96x32");
    counter.set_property_from_str("precision", "fp16");
    let pipeline = gst::Pipeline::new();
    pipeline.add(&counter).unwrap();
    add_camera(&pipeline, &counter, 0, 100, false);
    let _ = pipeline.set_state(gst::State::Playing);
    let (mut ended, mut text) = (false, String::new());
    drive(&pipeline, "the error", |message, _| {
        match message.map(|message| message.view()) {
            Some(gst::MessageView::Progress(progress)) => {
                ended |= progress.type_() == gst::ProgressType::Error
            }
            Some(gst::MessageView::Error(error)) if text.is_empty() => {
                text = error.error().to_string()
            }
            _ => {}
        }
        !text.is_empty()
    });
    assert!(
        ended && text.contains("builds no plan: ") && text.contains("the build fails"),
        "{text}"
    );
    drop(counter);
    assert_no_leak(pipeline);
}

#[test]
fn precision_is_a_property() {
    let Some(_device) = device() else { return };
    let told = |engine: &str, precision: &str| {
        let counter = counter(engine);
        counter.set_property_from_str("precision", precision);
        let pipeline = gst::Pipeline::new();
        pipeline.add(&counter).unwrap();
        let _ = pipeline.set_state(gst::State::Paused);
        let mut said = String::new();
        drive(&pipeline, "the engine", |message, _| {
            match message.map(|message| message.view()) {
                Some(gst::MessageView::Element(message)) => {
                    let told =
                        message.structure().filter(|told| told.name() == "vehiclecount-engine");
                    said = told.map(|told| told.get("precision").unwrap()).unwrap_or_default();
                }
                Some(gst::MessageView::Error(error)) => said = error.error().to_string(),
                _ => {}
            }
            !said.is_empty()
        });
        drop(counter);
        assert_no_leak(pipeline);
        said
    };
    for precision in ["fp32", "fp16", "int8"] {
        assert_eq!(told("tensorrt", precision), precision);
    }
    assert!(["fp16", "int8"].contains(&told("tensorrt", "auto").as_str()));
    let refused = told("scripted", "int8");
    assert!(
        refused.contains("it does not run tiny in int8")
            && refused.contains("leave precision at auto"),
        "{refused}"
    );
}

// ---- frames in GPU memory ----

/// Says that a test is skipped, unless VEHICLECOUNT_REQUIRE_GSTCUDA asks for it.
fn skip_without_libgstcuda() {
    assert!(
        std::env::var_os("VEHICLECOUNT_REQUIRE_GSTCUDA").is_none(),
        "there is no libgstcuda-1.0"
    );
    eprintln!("skipped: no libgstcuda");
}

/// A function of libgstcuda; `None` where that is not there.
fn libgstcuda<T: Copy>(name: &str) -> Option<T> {
    // SAFETY: GStreamer's library, which stays; the caller knows the function's type.
    unsafe {
        let library = libloading::Library::new("libgstcuda-1.0.so.0").ok()?;
        let function = *library.get::<T>(name.as_bytes()).unwrap();
        std::mem::forget(library);
        Some(function)
    }
}

/// A CUDA context that an application makes by itself on GPU `index`, and that context as GStreamer
/// passes it on.
fn application_context(index: u32) -> Option<(glib::Object, gst::Context)> {
    use glib::translate::{FromGlibPtrFull, ToGlibPtr};
    type New = unsafe extern "C" fn(u32) -> *mut glib::gobject_ffi::GObject;
    type Wrap = unsafe extern "C" fn(*mut glib::gobject_ffi::GObject) -> *mut gst::ffi::GstContext;
    let load: unsafe extern "C" fn() -> i32 = libgstcuda("gst_cuda_load_library")?;
    let (new, wrap) = (
        libgstcuda::<New>("gst_cuda_context_new")?,
        libgstcuda::<Wrap>("gst_context_new_cuda_context")?,
    );
    // SAFETY: the functions have these types; each returns something that is ours.
    unsafe {
        assert_ne!(load(), 0);
        let object = glib::Object::from_glib_full(new(index));
        let context = gst::Context::from_glib_full(wrap(object.to_glib_none().0));
        Some((object, context))
    }
}

/// The CUDA context that the counter hands out; `None` where there is no libgstcuda.
fn counters_context() -> Option<glib::Object> {
    let counter = counter("tensorrt");
    let pad = counter.request_pad_simple("sink_0").unwrap();
    counter.set_state(gst::State::Paused).unwrap();
    let mut query = gst::query::Context::new("gst.cuda.context");
    let object = pad.query(&mut query).then(|| {
        query.context().unwrap().structure().get::<glib::Object>("gst.cuda.context").unwrap()
    });
    counter.set_state(gst::State::Null).unwrap();
    object
}

/// When the application sets its context.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Never,
    Before,
    WhenAsked,
    Late,
}

/// Eight frames that libgstcuda makes on the GPU, in the context `object`, through a counter: what
/// it warned of, and how many bytes went to the host. Each is counted right.
fn through_the_counter(
    device: &Turn,
    object: &glib::Object,
    context: Option<&gst::Context>,
    set: Set,
) -> (Vec<String>, i64) {
    let counter = counter("tensorrt");
    let text = "video/x-raw(memory:CUDAMemory),format=NV12,width=320,height=180,framerate=25/1,colorimetry=bt709";
    let caps: gst::Caps = text.parse().unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &counter, &sink]).unwrap();
    source.link_pads(Some("src"), &counter, Some("sink_0")).unwrap();
    counter.link_pads(Some("src_0"), &sink, Some("sink")).unwrap();
    let reports = Reports::default();
    reports.collect(&counter.static_pad("src_0").unwrap());
    match (set, context) {
        (Set::Before, Some(context)) => pipeline.set_context(context),
        (Set::WhenAsked, Some(context)) => {
            let context = context.clone();
            pipeline.bus().unwrap().set_sync_handler(move |_, message| {
                if let gst::MessageView::NeedContext(need) = message.view() {
                    assert_eq!(need.context_type(), "gst.cuda.context");
                    let element = message.src().unwrap().downcast_ref::<gst::Element>().unwrap();
                    element.set_context(&context);
                }
                gst::BusSyncReply::Pass
            });
        }
        _ => {}
    }
    let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
    let pool = cuda_pool(object, &caps, &info);
    pool.set_active(true).unwrap();
    for frame in 0..8u64 {
        let mut buffer = pool.acquire_buffer(None).unwrap();
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(frame * gst::ClockTime::from_mseconds(40));
            let mut picture =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info).unwrap();
            picture.plane_data_mut(0).unwrap().fill(60 + 10 * frame as u8);
            picture.plane_data_mut(1).unwrap().fill(128);
        }
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let downloaded = device.sim.figure(Figure::DownloadedBytes);
    if let (Set::Late, Some(context)) = (set, context) {
        pipeline.set_state(gst::State::Paused).unwrap();
        counter.set_context(context);
    }
    let _ = pipeline.set_state(gst::State::Playing);
    let warnings = warnings_to_end(&pipeline);
    pipeline.bus().unwrap().unset_sync_handler();
    pipeline.set_state(gst::State::Null).unwrap();
    let downloaded = device.sim.figure(Figure::DownloadedBytes) - downloaded;
    let reports = reports.all().remove("camera-0").unwrap();
    assert_eq!(reports.len(), 8);
    for (frame, report) in reports.iter().enumerate() {
        // 320x180 fills 72 of 96 rows; the border of 114 the rest. Grey of limited range.
        let grey = (60.0 + 10.0 * frame as f64 - 16.0) * 255.0 / 219.0;
        let expected = (16.0 * 9.0 * grey + 16.0 * 3.0 * 114.0) / 255.0;
        let got = report.count.unwrap().raw;
        assert!(
            !report.stale && (got - expected).abs() < 1e-2,
            "frame {frame}: {got}, not {expected}"
        );
    }
    pool.set_active(false).unwrap();
    drop((pool, source, sink, counter));
    assert_no_leak(pipeline);
    (warnings, downloaded)
}

/// Bytes of four frames: with less, no frame went to the host, but maps and counts.
const FEW: i64 = 4 * 320 * 180 * 3 / 2;

/// A camera in GPU memory: GStreamer's own libgstcuda makes the frames, in the context that the
/// counter hands out.
#[test]
fn frames_in_gpu_memory_are_read_where_they_lie() {
    let Some(device) = device() else { return };
    // The plan is there, so that building makes no traffic.
    count("tensorrt", 1, true);
    let Some(object) = counters_context() else {
        skip_without_libgstcuda();
        return;
    };
    let (warnings, downloaded) = through_the_counter(&device, &object, None, Set::Never);
    assert!(warnings.is_empty() && downloaded < FEW, "{warnings:?}, {downloaded} bytes");
    drop(object);
}

#[test]
fn context_of_the_application_is_the_engines_too() {
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    let Some((object, context)) = application_context(0) else {
        skip_without_libgstcuda();
        return;
    };
    for set in [Set::Before, Set::WhenAsked, Set::Before] {
        let (warnings, downloaded) = through_the_counter(&device, &object, Some(&context), set);
        assert!(warnings.is_empty() && downloaded < FEW, "{warnings:?}, {downloaded} bytes");
    }
    drop((context, object));
    // With the last one who holds it, the context goes.
    assert_eq!(device.sim.alive(), []);
}

/// From GStreamer 1.24 on, a decoder pushes a frame that its GPU is still writing.
#[test]
fn frame_that_the_gpu_still_writes_is_counted_as_it_is_when_it_is_written() {
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    let (Some(gstcuda), Some(object)) = (GstCuda::install(), counters_context()) else {
        skip_without_libgstcuda();
        return;
    };
    let context = Driver::open().unwrap().context(0).unwrap();
    let producer = Stream::new(&context).unwrap();
    let counter = counter("tensorrt");
    let text = "video/x-raw(memory:CUDAMemory),format=NV12,width=320,height=180,framerate=25/1,colorimetry=bt709";
    let caps: gst::Caps = text.parse().unwrap();
    let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &counter, &sink]).unwrap();
    source.link_pads(Some("src"), &counter, Some("sink_0")).unwrap();
    counter.link_pads(Some("src_0"), &sink, Some("sink")).unwrap();
    let reports = Reports::default();
    reports.collect(&counter.static_pad("src_0").unwrap());
    let pool = cuda_pool(&object, &caps, &info);
    pool.set_active(true).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bound = std::time::Duration::from_secs(20);
    for frame in 0..4u64 {
        let mut buffer = pool.acquire_buffer(None).unwrap();
        let (address, bytes) = {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(frame * gst::ClockTime::from_mseconds(40));
            let mut picture =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info).unwrap();
            // Black, until the GPU has written it.
            picture.plane_data_mut(0).unwrap().fill(16);
            picture.plane_data_mut(1).unwrap().fill(128);
            let bytes = picture.plane_stride()[0] as usize * 180;
            drop(picture);
            (gpu_address(buffer), bytes)
        };
        let mut luma = PinnedBuffer::new(&context, bytes, "a frame").unwrap();
        luma.values_mut::<u8>().fill(60 + 40 * frame as u8);
        device.sim.hold_stream(producer.handle());
        // SAFETY: the plane has so many bytes; buffer and memory stay until the stream has been
        // waited for.
        unsafe { producer.upload(address, luma.pointer(), bytes).unwrap() };
        gstcuda.write_on(producer.handle());
        source.push_buffer(buffer.clone()).unwrap();
        // The copy, the mark behind it, and behind its wait the lane's own work.
        let waits = device.sim.wait_for_waiting(2 + 2, bound);
        device.sim.release_stream(producer.handle());
        producer.synchronize().unwrap();
        assert!(waits, "nothing waits for frame {frame}");
    }
    source.end_of_stream().unwrap();
    let warnings = warnings_to_end(&pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    gstcuda.write_on(std::ptr::null_mut());
    assert!(warnings.is_empty(), "{warnings:?}");
    for (frame, report) in reports.all().remove("camera-0").unwrap().iter().enumerate() {
        let grey = (60.0 + 40.0 * frame as f64 - 16.0) * 255.0 / 219.0;
        let expected = (16.0 * 9.0 * grey + 16.0 * 3.0 * 114.0) / 255.0;
        let got = report.count.unwrap().raw;
        assert!((got - expected).abs() < 1e-2, "frame {frame}: {got}, not {expected}");
    }
    pool.set_active(false).unwrap();
    drop((pool, source, sink, counter, producer, context, object));
    assert_no_leak(pipeline);
}

/// Where the frame in `buffer`, a GstCudaMemory, lies on the GPU; what the host has written goes
/// there first.
fn gpu_address(buffer: &gst::BufferRef) -> u64 {
    let memory = buffer.peek_memory(0).as_mut_ptr();
    let mut map = std::mem::MaybeUninit::<gst::ffi::GstMapInfo>::uninit();
    let flags = gst::ffi::GST_MAP_READ | gst::ffi::GST_MAP_FLAG_LAST << 1;
    // SAFETY: the buffer's memory, mapped on the GPU and unmapped once; the address stays as long
    // as the memory.
    unsafe {
        assert_ne!(gst::ffi::gst_memory_map(memory, map.as_mut_ptr(), flags), 0);
        let mut map = map.assume_init();
        let address = map.data as u64;
        gst::ffi::gst_memory_unmap(memory, &mut map);
        address
    }
}

/// An application in Rust makes its context with cudarc.
#[cfg(feature = "cudarc")]
#[test]
fn context_of_cudarc_is_the_engines_too_and_comes_back() {
    use std::sync::Arc;

    use cudarc::driver::CudaContext;
    use gstvehiclecount::interop::{context_from_cudarc, context_to_cudarc};
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    let Some(counters) = counters_context() else {
        skip_without_libgstcuda();
        return;
    };
    let mut held = gst::Context::new("gst.cuda.context", true);
    for application in [CudaContext::new_non_primary(0, 0).unwrap(), CudaContext::new(0).unwrap()] {
        let context = context_from_cudarc(&application).unwrap();
        assert!(Arc::ptr_eq(&context_to_cudarc(&context).unwrap(), &application));
        let object = context.structure().get::<glib::Object>("gst.cuda.context").unwrap();
        let (warnings, downloaded) =
            through_the_counter(&device, &object, Some(&context), Set::Before);
        assert!(warnings.is_empty() && downloaded < FEW, "{warnings:?}, {downloaded} bytes");
    }
    // The counter's own context, for cudarc.
    // SAFETY: a GstCudaContext may be used in any thread.
    let value = unsafe {
        use glib::translate::{FromGlibPtrNone, ToGlibPtr};
        glib::SendValue::from_glib_none(counters.to_value().to_glib_none().0)
    };
    held.get_mut().unwrap().structure_mut().set_value("gst.cuda.context", value);
    let primary = CudaContext::new(0).unwrap();
    assert_eq!(context_to_cudarc(&held).unwrap().cu_ctx(), primary.cu_ctx());
    // One of a third library.
    let (object, context) = application_context(0).unwrap();
    let error = context_to_cudarc(&context).unwrap_err().to_string();
    assert!(error.contains("make the context with cudarc"), "{error}");
    drop((object, context, primary, counters, held));
    assert_eq!(device.sim.alive(), []);
}

#[test]
fn context_that_cannot_be_the_engines_is_told_and_its_frames_go_through_the_host() {
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    device.sim.configure(2, 12040, 0);
    let Some((object, context)) = application_context(0) else {
        skip_without_libgstcuda();
        return;
    };
    let (mut warnings, _) = through_the_counter(&device, &object, Some(&context), Set::Late);
    // Frames come while it is set, or after.
    warnings.sort();
    assert!(warnings.len() == 2 && warnings[1].contains("comes too late"), "{warnings:?}");
    assert!(
        warnings[0].contains("Camera camera-0: its frames are copied through host memory"),
        "{warnings:?}"
    );
    let (other, elsewhere) = application_context(1).unwrap();
    let (warnings, _) = through_the_counter(&device, &other, Some(&elsewhere), Set::Before);
    assert!(warnings[0].contains("it is on GPU 1, and gpu-id is 0"), "{warnings:?}");
    drop((context, object, elsewhere, other));
    device.sim.configure(1, 12040, 0);
}

/// A pool of frames on the GPU, of libgstcuda's own.
fn cuda_pool(
    context: &glib::Object,
    caps: &gst::Caps,
    info: &gst_video::VideoInfo,
) -> gst::BufferPool {
    use glib::translate::{FromGlibPtrFull, ToGlibPtr};
    type New =
        unsafe extern "C" fn(*mut glib::gobject_ffi::GObject) -> *mut gst::ffi::GstBufferPool;
    let new: New = libgstcuda("gst_cuda_buffer_pool_new").unwrap();
    // SAFETY: the function has this type, takes the context of that library, and returns a pool
    // that is ours.
    let pool: gst::BufferPool =
        unsafe { gst::BufferPool::from_glib_full(new(context.to_glib_none().0)) };
    let mut config = pool.config();
    config.set_params(Some(caps), info.size() as u32, 0, 0);
    pool.set_config(config).unwrap();
    pool
}
