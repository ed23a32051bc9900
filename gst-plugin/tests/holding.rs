//! How many frames of a camera are held, for how long, and what its neighbours are told of that.

#![allow(clippy::unwrap_used)]

mod common;

use common::{BOUND, CAPS, Rig};
use gst::prelude::*;

#[test]
fn frames_are_held_for_the_whole_of_a_long_latency() {
    let mut rig =
        Rig::new("long-latency", 1, |element| element.set_property("max-latency", 5000u32));
    rig.control.hold();
    for number in 0..125 {
        rig.push(0, 255, number);
        // The first is at the engine: none takes its place there.
        assert!(number > 0 || rig.control.wait_for_waiting(1, BOUND));
    }
    assert_eq!(rig.cameras[0].buffers_received(), 0, "none leaves before its time");
    assert_eq!(rig.cameras[0].query_latency(), Some(gst::ClockTime::from_seconds(5)));
    // The first of them at its deadline.
    rig.pass_the_deadline();
    assert_eq!(rig.cameras[0].testclock().unwrap().time(), gst::ClockTime::from_seconds(5));
    assert_eq!(rig.pull(0).sequence, 0);
    rig.end();
}

#[test]
fn latency_that_does_not_fit_into_memory_is_limited_and_told() {
    let mut rig =
        Rig::new("limited-latency", 1, |element| element.set_property("max-latency", 60_000u32));
    // 48 MiB a frame.
    rig.cameras[0]
        .set_src_caps_str("video/x-raw, format=RGB, width=4096, height=4096, framerate=10/1");
    while rig.bus.pop_filtered(&[gst::MessageType::Latency]).is_some() {}
    for _ in 0..3 {
        rig.cameras[0].push(gst::Buffer::from_mut_slice([0u8; 10])).unwrap();
        rig.pull(0);
    }
    let text = rig.warning();
    assert!(
        text.contains("max-latency=60000") && text.contains("10 frames") && text.contains("800 ms"),
        "{text}"
    );
    rig.message(gst::MessageType::Latency);
    assert_eq!(rig.cameras[0].query_latency(), Some(gst::ClockTime::from_mseconds(800)));
    rig.end();
}

/// Asks how frames for the camera are to be allocated: the pools of the answer, as minimum and
/// maximum.
fn allocation(rig: &Rig) -> Vec<(u32, u32)> {
    let caps = CAPS.parse::<gst::Caps>().unwrap();
    let mut query = gst::query::Allocation::new(Some(&caps), true);
    assert!(rig.element.static_pad("sink_0").unwrap().query(query.query_mut()));
    query
        .allocation_pools()
        .map(|(_, size, min, max)| {
            assert_eq!(size, 64 * 64 * 3);
            (min, max)
        })
        .collect()
}

#[test]
fn frames_that_are_held_are_announced_to_those_who_allocate_them() {
    let mut rig = Rig::new("allocation", 1, |element| element.set_property("max-latency", 1000u32));
    // Downstream offers nothing.
    assert_eq!(allocation(&rig), [(27, 0)]);
    // So many can be held, and no more.
    rig.control.hold();
    for number in 0..27 {
        rig.push(0, 255, number);
        // The first is at the engine: none takes its place there.
        assert!(number > 0 || rig.control.wait_for_waiting(1, BOUND));
    }
    assert_eq!(rig.cameras[0].buffers_received(), 0);
    rig.push(0, 255, 27);
    assert_eq!(rig.pull(0).sequence, 0);
    rig.control.open_gate();
    (1..28).for_each(|_| drop(rig.pull(0)));
    // Downstream offers pools.
    rig.element.static_pad("src_0").unwrap().add_probe(
        gst::PadProbeType::QUERY_DOWNSTREAM,
        |_, info| {
            if let Some(gst::QueryViewMut::Allocation(allocation)) =
                info.query_mut().map(|query| query.view_mut())
            {
                allocation.add_allocation_pool(None::<&gst::BufferPool>, 64 * 64 * 3, 2, 4);
                allocation.add_allocation_pool(None::<&gst::BufferPool>, 64 * 64 * 3, 1, 0);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        },
    );
    assert_eq!(allocation(&rig), [(29, 31), (28, 0)]);
    rig.end();
}
