//! What elements and cameras share: engines, and ids by mistake.

#![allow(clippy::unwrap_used)]

mod common;

use common::Rig;
use gst::prelude::*;

#[test]
fn different_batches_of_a_shared_engine_are_told_with_both_values() {
    let first = Rig::new("batches", 1, |element| {
        element.set_property("batch-size", 8u32);
        element.set_property("batched-push-timeout", 500u32);
    });
    let second = Rig::new("batches", 1, |element| element.set_property("batch-size", 2u32));
    let text = second.warning();
    for value in
        ["batch-size=2", "batched-push-timeout=0", "batch-size=8", "batched-push-timeout=500"]
    {
        assert!(text.contains(value), "{text}");
    }
    // Who leaves it to the engine, or asks for the same, is told nothing.
    let third =
        Rig::new("batches", 1, |element| element.set_property("batched-push-timeout", 500u32));
    let zero = gst::ClockTime::ZERO;
    for rig in [&first, &third] {
        assert!(rig.bus.timed_pop_filtered(zero, &[gst::MessageType::Warning]).is_none());
    }
    [first, second, third].into_iter().for_each(Rig::end);
}

#[test]
fn cameras_of_one_id_are_told_apart_by_a_warning() {
    let mut rig = Rig::new("namesakes", 3, |_| {});
    let pad = |index: u32| rig.element.static_pad(&format!("sink_{index}")).unwrap();
    pad(0).set_property("camera-id", "gate");
    pad(2).set_property("camera-id", "gate");
    let text = rig.warning();
    assert!(text.contains("\"gate\"") && text.contains("sink_0, sink_2"), "{text}");
    // Once, until they were told apart.
    pad(1).set_property("scale-factor", 2.0);
    let zero = gst::ClockTime::ZERO;
    assert!(rig.bus.timed_pop_filtered(zero, &[gst::MessageType::Warning]).is_none());
    pad(2).set_property("camera-id", "yard");
    // A name that another one has by default.
    pad(2).set_property("camera-id", "camera-1");
    assert!(rig.warning().contains("sink_1, sink_2"));
    rig.push(0, 255, 0);
    rig.pull(0);
    rig.end();
}

#[test]
fn counters_in_a_row_are_told_apart_by_their_unique_ids() {
    common::init();
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=1 ! vehiclecounter name=first engine=scripted engine-id=row \
         ! vehiclecounter name=second engine=scripted engine-id=row ! fakesink",
    );
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    let warnings = || {
        pipeline.set_state(gst::State::Paused).unwrap();
        let done = [gst::MessageType::AsyncDone, gst::MessageType::Warning];
        let bound = gst::ClockTime::try_from(common::BOUND).unwrap();
        let messages = std::iter::from_fn(|| bus.timed_pop_filtered(bound, &done));
        let texts: Vec<_> = messages
            .map_while(|message| match message.view() {
                gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
                _ => None,
            })
            .collect();
        pipeline.set_state(gst::State::Ready).unwrap();
        texts
    };
    let texts = warnings();
    let [text] = texts.as_slice() else { panic!("{texts:?}") };
    assert!(text.contains("\"camera-0\": sink_0, second.sink_0"), "{text}");
    pipeline.by_name("second").unwrap().set_property("unique-id", 1u32);
    assert_eq!(warnings(), Vec::<String>::new());
    pipeline.set_state(gst::State::Null).unwrap();
}
