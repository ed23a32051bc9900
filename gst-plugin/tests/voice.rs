//! `GST_DEBUG=vehiclecounter:6` tells each decision about each frame.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::Rig;
use gst::prelude::*;

/// What the counter has logged since the last look.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn listen() -> Self {
        gst::init().unwrap();
        let log = Self::default();
        let lines = log.0.clone();
        gst::log::remove_default_log_function();
        gst::log::add_log_function(
            move |category, _level, _file, _function, _line, _object, message| {
                if category.name() == "vehiclecounter" {
                    lines.lock().unwrap().push(message.get().unwrap().to_string());
                }
            },
        );
        gst::log::set_threshold_for_name("vehiclecounter", gst::DebugLevel::Log);
        log
    }

    /// What was logged about frame `number`.
    fn of(&self, number: u64) -> Vec<String> {
        let begin = format!("Frame {number}: ");
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter_map(|line| line.strip_prefix(&begin).map(str::to_owned))
            .collect()
    }
}

#[track_caller]
fn assert_says(lines: &[String], expected: &[&str]) {
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line:?}, not {expected:?}, in {lines:#?}");
    }
}

// One test: the log is one for the whole process.
#[test]
fn log_tells_each_decision_about_each_frame() {
    let log = Log::listen();
    let mut rig = Rig::new("voice", 1, |element| element.set_property("interval", 1u32));
    // Counted, and one that is skipped.
    rig.push(0, 255, 0);
    rig.pull(0);
    rig.push(0, 255, 1);
    rig.pull(0);
    // Left at its deadline; its count comes late.
    rig.control.hold();
    rig.push(0, 255, 2);
    rig.pass_the_deadline();
    rig.pull(0);
    // One takes the other's place at the engine.
    rig.element.set_property("interval", 0u32);
    (3..6).for_each(|number| rig.push(0, 255, number));
    rig.control.open_gate();
    (3..6).for_each(|_| drop(rig.pull(0)));
    // Not to be read.
    rig.cameras[0].push(gst::Buffer::from_mut_slice([0u8; 10])).unwrap();
    rig.pull(0);
    // The engine fails.
    rig.control.fail_next("a fuse has blown");
    rig.push(0, 255, 7);
    rig.pull(0);
    rig.end();

    let counted = "counted 64.00 in ";
    let leaves = "leaves with its count: 64.00, smoothed 64.00, age 0:00:00";
    assert_says(
        &log.of(0),
        &["to the engine, ticket 0; 1 frames held", counted, leaves, "downstream returned Ok"],
    );
    assert_says(
        &log.of(1),
        &["skipped, interval=1", "leaves with the last count: 64.00", "downstream returned Ok"],
    );
    let late = log.of(2);
    assert_says(
        &late,
        &[
            "to the engine, ticket 1",
            "leaves uncounted, its deadline has come: 64.00",
            "downstream",
            counted,
        ],
    );
    assert!(
        late[1].contains("stale, age 0:00:00.08") && late[3].ends_with("after it has left"),
        "{late:#?}"
    );
    let fates: Vec<_> = (3..6).map(|number| log.of(number)).collect();
    let dropped = fates
        .iter()
        .filter(|fate| fate.iter().any(|line| line == "dropped for a newer one"))
        .count();
    assert!(dropped > 0, "{fates:#?}");
    for fate in &fates {
        assert_eq!(fate.iter().filter(|line| line.starts_with("leaves ")).count(), 1, "{fate:#?}");
    }
    assert_says(
        &log.of(6),
        &["uncounted, a frame of 10 bytes", "leaves uncounted: 64.00", "downstream"],
    );
    assert_says(
        &log.of(7),
        &["to the engine", "failed: ", "leaves uncounted: 64.00", "downstream"],
    );
    assert!(log.of(7)[1].contains("a fuse has blown"));
}
