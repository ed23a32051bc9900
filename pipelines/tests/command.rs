//! The command as a person calls it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// The manifest of the model that ships.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/models/mobilenetv3-large.json");

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
        (&["engine", "verify", "no-such-model"], "no-such-model"),
        (&["engine", "verify", "--engine", "abacus"], "abacus"),
        (&["engine", "verify", "--engine", "scripted", MODEL], "runs no network"),
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

#[test]
fn verify_compares_every_engine_that_opens_and_fails_on_a_wrong_count() {
    let output = command().args(["engine", "verify", MODEL]).output().unwrap();
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    if complaint.contains("no engine opens") {
        return eprintln!("skipped: {complaint}");
    }
    assert!(output.status.success(), "{said}{complaint}");
    assert!(said.contains("agrees") && !said.contains("FAILS"), "{said}");

    // The same files, of which more vehicles are expected.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(Path::new(MODEL).parent().unwrap()).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension != "pt") {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let mut wrong: serde_json::Value = serde_json::from_str(&fs::read_to_string(MODEL).unwrap()).unwrap();
    for file in wrong["golden"]["files"].as_object_mut().unwrap().values_mut() {
        file["count"] = 20.into();
    }
    let path = folder.path().join("mobilenetv3-large.json");
    fs::write(&path, wrong.to_string()).unwrap();
    let output = command().args(["engine", "verify"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAILS") && text(&output.stdout).contains("20.000"));
    assert!(text(&output.stderr).contains("do not count what mobilenetv3-large must"), "{}", text(&output.stderr));
}
