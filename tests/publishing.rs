//! Pipelines that count and publish.

use gst::prelude::*;

use crate::BOUND;

/// A pipeline that counts on `frames` frames, `rate` a second, and publishes to `location`.
///
/// # Panics
/// When one of its elements is missing.
pub fn pipeline(frames: u32, rate: u32, location: &str) -> gst::Pipeline {
    let line = format!(
        "videotestsrc num-buffers={frames} is-live=true pattern=red \
         ! video/x-raw,format=I420,width=64,height=64,framerate={rate}/1 \
         ! vehiclecounter engine=scripted input-size=64x64 sink_0::camera-id=north/gate \
         ! vehiclecountpublish name=publish queue-size=100000 location={location} \
         ! fakesink sync=false"
    );
    let pipeline = gst::parse::launch(&line).expect("its elements are there");
    pipeline.downcast().expect("it is a pipeline")
}

/// The first message of one of these types.
///
/// # Panics
/// When none comes within [`BOUND`].
pub fn message(pipeline: &gst::Pipeline, types: &[gst::MessageType]) -> gst::Message {
    let bound = gst::ClockTime::try_from(BOUND).expect("it is not too long");
    let bus = pipeline.bus().expect("a pipeline has a bus");
    bus.timed_pop_filtered(bound, types).expect("a message comes")
}

/// Waits for the end of the stream, and ends the pipeline, of which nothing is left. Gives the
/// statistics of its publisher.
///
/// # Panics
/// On an error, when the end does not come within [`BOUND`], and when something is leaked.
pub fn finish(pipeline: gst::Pipeline) -> gst::Structure {
    let end = message(&pipeline, &[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let publish = pipeline.by_name("publish").expect("it has a publisher");
    // The last of them may not be acknowledged yet: the end waits for that.
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    let statistics: gst::Structure = publish.property("statistics");
    let weak = (pipeline.downgrade(), publish.downgrade());
    drop((pipeline, publish, end));
    assert!(weak.0.upgrade().is_none() && weak.1.upgrade().is_none(), "something is leaked");
    statistics
}

/// The error with which a pipeline does not start, and its details.
///
/// # Panics
/// When it starts.
pub fn refusal(pipeline: &gst::Pipeline) -> String {
    assert!(pipeline.set_state(gst::State::Playing).is_err(), "it starts");
    let error = message(pipeline, &[gst::MessageType::Error]);
    let gst::MessageView::Error(error) = error.view() else { panic!("{error:?}") };
    let said = format!("{} {:?}", error.error(), error.debug());
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    said
}
