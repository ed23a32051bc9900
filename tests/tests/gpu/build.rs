//! Plans that are built: first use, sharing, ends and failures.

use super::*;

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
