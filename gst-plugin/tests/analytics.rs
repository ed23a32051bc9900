//! The counts as GStreamer's own analytics metadata, behind a whole pipeline.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "analytics")]

use gst::prelude::*;
use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsODMtd, AnalyticsRelationMeta};

#[test]
fn every_frame_behind_the_counter_has_analytics_metadata_of_its_size() {
    gst::init().unwrap();
    gstvehiclecount::plugin_register_static().unwrap();
    let pipeline = gst::parse::launch(
        "vehicletestsrc num-buffers=5 ! video/x-raw,format=I420,width=320,height=180 \
         ! vehiclecounter engine=scripted density-map=true ! videoconvert ! appsink name=out sync=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let out = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for _ in 0..5 {
        let sample = out.try_pull_sample(gst::ClockTime::from_seconds(60)).unwrap();
        let buffer = sample.buffer().unwrap();
        let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        let place = meta.iter::<AnalyticsODMtd>().next().unwrap().location().unwrap();
        assert_eq!((place.x, place.y, place.w, place.h), (0, 0, 320, 180));
        #[cfg(feature = "analytics-tensors")]
        assert_eq!(buffer.meta::<gst_analytics::TensorMeta>().unwrap().as_slice().len(), 2);
    }
    pipeline.set_state(gst::State::Null).unwrap();
}
