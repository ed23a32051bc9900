//! What presets choose of the models in a folder, as a person sees it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes a model of the engine onnxruntime: its error in percent and its images a second at
/// 256x256 and 384x384.
fn model(folder: &Path, name: &str, figures: [(f64, f64); 2]) -> Vec<serde_json::Value> {
    let file = format!("{name}.onnx");
    fs::write(folder.join(&file), name).unwrap();
    let sides = [256, 384].into_iter().zip(figures);
    let accuracy: Vec<_> = sides
        .clone()
        .map(|(side, (percent, _))| {
            serde_json::json!({"file": file, "width": side, "height": side,
                               "relative": percent / 100.0})
        })
        .collect();
    let manifest = serde_json::json!({
        "schema": 1, "name": name, "version": "1", "licence": "MIT",
        "input": {"name": "images", "width": 384, "height": 384, "multiple-of": 32},
        "output": {"name": "density", "stride": 8},
        "files": [{"file": file, "precision": "fp32", "sha256": "0".repeat(64),
                   "engines": ["onnxruntime"]}],
        "accuracy": accuracy,
    });
    fs::write(folder.join(format!("{name}.json")), manifest.to_string()).unwrap();
    let speed = |(side, (_, rate)): (u32, (f64, f64))| {
        serde_json::json!({"file": file, "width": side, "height": side, "engine": "onnxruntime",
                           "images-per-second": rate, "milliseconds": 1000.0 / rate})
    };
    sides.map(speed).collect()
}

#[test]
fn presets_choose_among_the_models_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let presets = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vehicle-count"))
            .arg("presets")
            .args(arguments)
            .args(["--engine", "onnxruntime"])
            .env("VEHICLECOUNT_MODELS", folder.path())
            .env("VEHICLECOUNT_CACHE", folder.path().join("cache"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // Models of the source tree may be found, too: they err ten times as much.
    let mut speeds = model(folder.path(), "mobilenetv3-large", [(2.0, 90.0), (1.2, 40.0)]);
    speeds.extend(model(folder.path(), "quick", [(3.0, 900.0), (1.8, 400.0)]));
    speeds.extend(model(folder.path(), "careful", [(1.5, 20.0), (1.0, 9.0)]));
    let write = |name: &str, machine: &str, speeds: &[serde_json::Value]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = serde_json::json!([
            {"machine": machine, "int8": false, "date": "2026-01-01", "speeds": speeds}
        ]);
        fs::write(path, text.to_string()).unwrap();
    };
    write("speeds.json", "another machine", &speeds);

    let all = presets(&[]);
    for name in ["highest-fps", "lowest-latency", "edge", "server", "accuracy"] {
        assert!(all.contains(name), "{all}");
    }
    for (preset, chosen) in [
        ("highest-fps", "model=quick input-size=auto precision=auto batch-size=1"),
        ("lowest-latency", "model=mobilenetv3-large input-size=auto "),
        ("server", "model=mobilenetv3-large input-size=auto "),
        ("accuracy", "model=careful input-size=auto "),
    ] {
        let said = presets(&[preset]);
        assert!(said.contains(chosen), "{preset}: {said}");
        for why in ["another machine", "batch-size 1: ", "max-latency "] {
            assert!(said.contains(why), "{preset}: {said}");
        }
    }
    let said = presets(&["highest-fps", "--model", "careful"]);
    assert!(said.contains("model=careful input-size=auto:256 "), "{said}");
    // Speeds that were measured on another machine do not count as this one's.
    let mut other = speeds.clone();
    other.iter_mut().for_each(|speed| speed["images-per-second"] = 1.0.into());
    write("cache/speeds.json", "a third machine", &other);
    assert!(presets(&["server"]).contains("another machine"));
}

#[test]
fn preset_of_no_name_and_model_of_no_place_are_said() {
    for (arguments, word) in [
        (["presets", "fastest", "--gpu", "0"], "highest-fps"),
        (["presets", "edge", "--model", "no-such-model"], "no-such-model"),
        (["eval", "--preset", "fastest", "--data=."], "lowest-latency"),
        (["bench", "--preset", "fastest", "--rounds=1"], "lowest-latency"),
        (["demo", "--preset", "fastest", "--no-video"], "lowest-latency"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_vehicle-count")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
    }
}
