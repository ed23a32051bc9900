//! The command as a person calls it.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vehicle-count"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_calls_name_what_is_wrong() {
    for (arguments, word) in [
        (&["demo", "--input", "no-such-clip.mp4"][..], "no-such-clip.mp4"),
        (&["demo", "--rtsp", "http://camera"], "rtsp://"),
        (&["serve", "--address", "everywhere"], "address"),
        (&["demo", "--engine", "abacus"], "openvino"),
        (&["demo", "--engine", "openvino", "--model", "no-such-model", "--duration", "1"], "no-such-model"),
        (&["bench", "--engine", "scripted"], "scripted"),
        (&["bench", "--cameras", "0"], "0"),
        (&["doctor", "--model", "no-such-model"], "model"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = command().args(arguments).current_dir(&folder).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} succeeds");
        assert!(said.contains(word), "{arguments:?} says: {said}");
        assert!(!said.contains("panicked"), "{arguments:?} says: {said}");
    }
}

#[test]
fn doctor_lists_what_it_looked_at_with_remedies() {
    let output = command().arg("doctor").output().unwrap();
    let said = text(&output.stdout);
    for word in ["machine", "GStreamer", "plugin", "model", "engines", "openvino", "onnxruntime", "tensorrt"] {
        assert!(said.contains(word) || !output.status.success(), "nothing about {word}:\n{said}");
    }
    // What is missing has its remedy.
    if said.contains("MISSING") {
        assert!(said.contains("->"), "{said}");
    }
}
