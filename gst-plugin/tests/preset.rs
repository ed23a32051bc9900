//! The property `preset`: what it chooses at the start, and that what is set beats it.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{BOUND, Rig, assert_gone, counted, init};
use gst::prelude::*;

/// What the message about the preset says.
fn told(bus: &gst::Bus) -> gst::Structure {
    let bound = gst::ClockTime::try_from(BOUND).unwrap();
    loop {
        let message = bus
            .timed_pop_filtered(bound, &[gst::MessageType::Element])
            .expect("a message about the preset");
        if message.has_name("vehiclecount-preset") {
            return message.structure().unwrap().to_owned();
        }
    }
}

fn text(structure: &gst::Structure, field: &str) -> String {
    structure.get(field).unwrap()
}

fn reasons(structure: &gst::Structure) -> Vec<String> {
    let reasons = structure.get::<gst::ArrayRef>("reasons").unwrap();
    reasons.as_slice().iter().map(|reason| reason.get().unwrap()).collect()
}

#[test]
fn preset_sets_what_is_not_set_and_says_so() {
    let mut rig = Rig::new("preset", 1, |element| {
        element.set_property_from_str("preset", "lowest-latency");
        // Nothing is chosen before the start.
        assert_eq!(element.property::<u32>("batch-size"), 0);
    });
    let message = told(&rig.bus);
    assert_eq!(text(&message, "preset"), "lowest-latency");
    for (property, value) in [("batch-size", 1), ("batched-push-timeout", 0), ("max-latency", 100)]
    {
        assert_eq!(rig.element.property::<u32>(property), value, "{property}");
        assert_eq!(text(&message, property), value.to_string());
        assert!(reasons(&message).iter().any(|reason| reason.starts_with(property)), "{message}");
    }
    rig.push(0, 255, 0);
    assert_eq!(counted(&rig.pull(0)), 64.0);
    rig.end();
}

#[test]
fn property_that_is_set_beats_the_preset_in_any_order() {
    let set = |element: &gst::Element| {
        element.set_property("batch-size", 7u32);
        element.set_property("max-latency", 333u32);
        element.set_property("batched-push-timeout", 250u32);
    };
    for (name, before) in [("set-before", true), ("set-after", false)] {
        let rig = Rig::new(name, 1, |element| {
            if before {
                set(element);
            }
            element.set_property_from_str("preset", "lowest-latency");
            if !before {
                set(element);
            }
        });
        let message = told(&rig.bus);
        let properties = ["batch-size", "max-latency", "batched-push-timeout"];
        for (property, value) in properties.into_iter().zip([7, 333, 250]) {
            assert_eq!(rig.element.property::<u32>(property), value, "{name}: {property}");
            assert_eq!(text(&message, property), value.to_string());
        }
        let reasons = reasons(&message);
        assert!(!reasons.iter().any(|reason| reason.starts_with("batch-size")), "{reasons:?}");
        assert!(reasons.last().unwrap().starts_with("set, and kept: batch-size"), "{reasons:?}");
        rig.end();
    }
}

#[test]
fn another_preset_and_none_take_the_place_of_the_first() {
    let rig = Rig::new("another preset", 1, |element| {
        element.set_property_from_str("preset", "lowest-latency");
    });
    assert_eq!(rig.element.property::<u32>("max-latency"), 100);
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_property_from_str("preset", "edge");
    rig.element.set_state(gst::State::Paused).unwrap();
    assert_eq!(rig.element.property::<u32>("max-latency"), 200);
    assert_eq!(rig.element.property::<u32>("batch-size"), 1);
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_property_from_str("preset", "none");
    assert_eq!(rig.element.property::<u32>("batch-size"), 0);
    rig.end();
}

#[test]
fn without_a_preset_nothing_is_chosen() {
    let rig = Rig::new("no preset", 1, |_| {});
    let zero = gst::ClockTime::ZERO;
    while let Some(message) = rig.bus.timed_pop_filtered(zero, &[gst::MessageType::Element]) {
        assert!(!message.has_name("vehiclecount-preset"));
    }
    assert_eq!(rig.element.property::<u32>("max-latency"), 200);
    rig.end();
}

/// Writes a manifest with errors into `folder`, beside empty files.
fn manifest(folder: &Path) -> String {
    let entry = |file: &str, side: usize, relative: f64| {
        serde_json::json!({"file": file, "width": side, "height": side,
                           "relative": relative})
    };
    let file = |name: &str, precision: &str, engines: &[&str]| {
        std::fs::write(folder.join(name), "").unwrap();
        serde_json::json!({"file": name, "precision": precision, "sha256": "0".repeat(64),
                           "engines": engines})
    };
    let manifest = serde_json::json!({
        "schema": 1, "name": "mine", "version": "1", "licence": "MIT",
        "input": {"name": "images", "width": 384, "height": 384, "multiple-of": 32},
        "output": {"name": "density", "stride": 8},
        "files": [file("mine.onnx", "fp32", &["openvino", "onnxruntime"]),
                  file("mine-int8.onnx", "int8", &["openvino"])],
        "accuracy": [entry("mine.onnx", 384, 0.2), entry("mine.onnx", 512, 0.1),
                     entry("mine-int8.onnx", 384, 0.21), entry("mine-int8.onnx", 512, 0.15)],
    });
    let path = folder.join("mine.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    path.display().to_string()
}

/// What `element` chooses at its start. Its model cannot be opened, which is the next thing that
/// it says.
fn start(element: &gst::Element) -> gst::Structure {
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let message = told(&bus);
    element.set_state(gst::State::Null).unwrap();
    element.set_bus(None);
    bus.set_flushing(true);
    message
}

#[test]
fn preset_chooses_shape_and_precision_of_a_model_that_is_named() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let model = manifest(folder.path());
    for (engine, precision, input, expected) in [
        // What FP32 errs less is worth it, and auto would take INT8.
        ("openvino", None, None, ("fp32", "auto:512", "mine.onnx")),
        // This engine takes FP32 by itself.
        ("onnxruntime", None, None, ("auto", "auto:512", "mine.onnx")),
        ("openvino", Some("int8"), None, ("int8", "auto:512", "mine-int8.onnx")),
        ("openvino", None, Some("auto"), ("fp32", "auto", "mine.onnx")),
        ("openvino", Some("int8"), Some("384x384"), ("int8", "384x384", "mine-int8.onnx")),
    ] {
        let element = gst::ElementFactory::make("vehiclecounter").build().unwrap();
        if let Some(input) = input {
            element.set_property("input-size", input);
        }
        element.set_property_from_str("preset", "accuracy");
        element.set_property_from_str("engine", engine);
        element.set_property("model", &model);
        if let Some(precision) = precision {
            element.set_property_from_str("precision", precision);
        }
        let message = start(&element);
        let told = ["precision", "input-size", "file"].map(|field| text(&message, field));
        assert_eq!(told, [expected.0, expected.1, expected.2], "{engine} {precision:?} {input:?}");
        assert_eq!(element.property::<String>("input-size"), expected.1);
        assert_eq!(element.property::<String>("model"), model, "what is set stays");
        let weak = element.downgrade();
        drop((element, message));
        assert_gone(&weak, "the element");
    }
}

#[test]
fn model_that_is_not_there_is_an_error_that_names_it() {
    init();
    let element = gst::ElementFactory::make("vehiclecounter")
        .property_from_str("preset", "server")
        .property("model", "no-such-model")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let bound = gst::ClockTime::try_from(BOUND).unwrap();
    let message = bus.timed_pop_filtered(bound, &[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
    assert!(error.error().to_string().contains("no-such-model"), "{error:?}");
    element.set_state(gst::State::Null).unwrap();
    element.set_bus(None);
    drop(message);
    bus.set_flushing(true);
    let weak = element.downgrade();
    drop(element);
    assert_gone(&weak, "the element");
}
