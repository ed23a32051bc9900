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
        (&["eval", "--data", "no-such-folder"], "no-such-folder/annotations.jsonl"),
        (&["eval", "--data", ".", "--input-size", "big"], "384x384"),
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

#[test]
fn eval_writes_lines_and_pictures_and_the_same_table_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let synth = ["synth", "--images", "9", "--width", "160", "--split", "test", "--out"];
    assert!(command().args(synth).arg(&data).status().unwrap().success());
    let eval = |lines: &str| {
        let mut command = command();
        command.args(["eval", "--engine", "scripted", "--split", "test", "--per-scene", "--worst", "5", "--data"]);
        command.arg(&data).arg("--json").arg(folder.path().join(lines)).arg("--plot").arg(folder.path().join("plots"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = eval("a.jsonl");
    assert_eq!(said.replace("a.jsonl", "b.jsonl"), eval("b.jsonl"));
    for word in ["highway", "  synth_", "all", "MAE", "GAME 3", "95 % intervals"] {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
    let lines = fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
    assert_eq!(lines, fs::read_to_string(folder.path().join("b.jsonl")).unwrap());
    assert_eq!(lines.lines().count(), 9);
    for line in lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let [count, truth, game] = ["count", "truth", "game0"].map(|key| line[key].as_f64().unwrap());
        // Equal but for the last digit of a number that was read from text.
        assert!((game - (count - truth).abs()).abs() < 1e-9, "{line}");
        assert!(line["game3"].as_f64().unwrap() >= game - 1e-9, "{line}");
    }
    for name in ["scatter.png", "errors.png", "worst.png"] {
        let picture = image::open(folder.path().join("plots").join(name)).unwrap().into_rgb8();
        let colors: std::collections::BTreeSet<_> = picture.pixels().map(|pixel| pixel.0).collect();
        assert!(picture.width() > 600 && colors.len() > 50, "{name}: {} colours", colors.len());
    }
}
