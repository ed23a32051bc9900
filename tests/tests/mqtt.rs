//! `vehiclecountpublish` with a real MQTT broker, which is killed and started again under load.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gst::prelude::*;
use vehiclecount_core::report::JsonReport;
use vehiclecount_tests::broker::{Broker, Gate, Listener, Message, Rules};
use vehiclecount_tests::init;
use vehiclecount_tests::publishing::{self, message};

fn count(statistics: &gst::Structure, name: &str) -> u64 {
    statistics.get(name).unwrap()
}

#[test]
fn counts_reach_a_broker_that_is_killed_under_load_in_order_and_without_loss() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(folder.path(), &Rules::default());
    let gate = Gate::open_to(broker.port);
    let frames = 2000;
    let pipeline =
        publishing::pipeline(frames, 500, &format!("mqtt://127.0.0.1:{}/site", gate.port));
    let mut listener = Listener::start(broker.port, None);
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut sequences = Vec::new();
    let mut take = |message: Message| {
        assert_eq!(message.topic, "site/north%2Fgate/count");
        assert!(!message.retain);
        let report: JsonReport = serde_json::from_str(&message.payload).unwrap();
        // Doubles come again after what was acknowledged; nothing is left out.
        let next = sequences.iter().max().map_or(0, |last| last + 1);
        assert!(report.sequence <= next, "{} comes where {next} is missing", report.sequence);
        sequences.push(report.sequence);
        report.sequence
    };
    let is_count = |message: &Message| message.topic != "site/status";
    for kill in [300, 900] {
        while take(listener.until("counts come", is_count)) < kill {}
        // Nothing gets through until the listener is back, who would miss it.
        gate.set_open(false);
        // What the broker has acknowledged it may not have passed on yet.
        while let Ok(message) = listener.messages.recv_timeout(Duration::from_millis(300)) {
            if is_count(&message) {
                take(message);
            }
        }
        broker.kill();
        for message in listener.messages.iter().filter(is_count) {
            take(message);
        }
        broker.restart();
        listener = Listener::start(broker.port, None);
        gate.set_open(true);
    }
    while take(listener.until("counts come", is_count)) < u64::from(frames) - 1 {}
    let statistics = publishing::finish(pipeline);
    assert_eq!(count(&statistics, "delivered"), u64::from(frames), "{statistics}");
    let late = Listener::start(broker.port, None);
    let status = late.until("the status is kept", |m| m.topic == "site/status");
    assert_eq!((status.payload.as_str(), status.retain), ("offline", true));
}

#[test]
fn broker_that_is_not_there_is_warned_of_once_and_a_wrong_password_refused() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let login = Some(("me".to_owned(), "right".to_owned()));
    let broker = Broker::start(folder.path(), &Rules { login, ..Rules::default() });
    let refused = format!("mqtt://me:s3cret@127.0.0.1:{}/site", broker.port);
    let said = publishing::refusal(&publishing::pipeline(10, 500, &refused));
    assert!(said.contains("the broker refuses the user name or the password"), "{said}");
    assert!(said.contains("mqtt://***@127.0.0.1") && !said.contains("s3cret"), "{said}");

    let alone = publishing::pipeline(10, 500, "mqtt://127.0.0.1:1/site");
    let begin = std::time::Instant::now();
    alone.set_state(gst::State::Playing).unwrap();
    let warning = message(&alone, &[gst::MessageType::Warning, gst::MessageType::Error]);
    let gst::MessageView::Warning(warning) = warning.view() else { panic!("{warning:?}") };
    let said = warning.error().to_string();
    assert!(said.contains("mqtt://127.0.0.1:1/site"), "{said}");
    message(&alone, &[gst::MessageType::Eos]);
    let statistics: gst::Structure = alone.by_name("publish").unwrap().property("statistics");
    assert_eq!(count(&statistics, "waiting"), 10, "{statistics}");
    alone.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
