//! The bench measures every section, and the planner reads what it has written.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use vehiclecount_tests::{engine, init, system};

/// Runs the command with `arguments`; its outcome, and all that it says.
fn run(arguments: &[&str]) -> (Output, String) {
    let output = system::command().args(arguments).output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8(said).unwrap())
}

/// The bench's own program of the source tree lies beside the command, where it was built.
fn bench() -> Option<Command> {
    let command = system::command();
    let program = Path::new(command.get_program()).with_file_name("vehiclecount-bench");
    program.is_file().then(|| {
        let mut bench = Command::new(program);
        bench.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bench
    })
}

#[test]
fn quick_bench_measures_every_section_and_writes_them() {
    init();
    if engine() == "scripted" {
        eprintln!("not tested: the bench, for want of an engine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("bench.json");
    let arguments = ["bench", "--quick", "--json", json.to_str().unwrap()];
    let cache = folder.path().join("cache");
    let output =
        system::command().args(arguments).env("VEHICLECOUNT_CACHE", &cache).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");

    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let sections: BTreeSet<_> =
        figures.iter().map(|figure| figure["section"].as_str().unwrap()).collect();
    let all =
        ["limit", "element", "preprocess", "files", "rtsp", "rate", "memory", "overlay", "publish"];
    assert_eq!(sections, BTreeSet::from(all), "{said}");
    for figure in figures {
        let (low, high) = (figure["lowest"].as_f64().unwrap(), figure["highest"].as_f64().unwrap());
        let median = figure["median"].as_f64().unwrap();
        assert!(low <= median && median <= high && median.is_finite(), "{figure}");
        let name = figure["name"].as_str().unwrap();
        assert!(said.contains(name), "the table lacks {name}: {said}");
    }
    assert_eq!((&report["schema"], &report["quick"]), (&1.into(), &true.into()));
    let left_out = report["left-out"].as_array().unwrap();
    assert!(left_out.iter().any(|left| left.as_str().unwrap().starts_with("allocations")));

    // Nothing is planned on figures that measure nothing.
    let (output, said) = run(&["plan", "--bench", json.to_str().unwrap()]);
    assert!(!output.status.success() && said.contains("--quick"), "{said}");
}

#[test]
fn section_is_measured_alone_and_the_source_tree_compares_more() {
    init();
    let Some(mut bench) = bench().filter(|_| engine() != "scripted") else {
        eprintln!("not tested: vehiclecount-bench, which is not built, or for want of an engine");
        return;
    };
    let output = bench.args(["--quick", "--only", "preprocess,allocations"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["ours, 1280x720 I420", "fast_image_resize", "preprocess and engine", "element"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("decoder,") && !said.contains("overlay"), "{said}");
}

/// What a bench of a machine of round figures writes: decoding 1 ms (720p) and 2 ms (1080p), a
/// count 5 ms, a camera of 1080p 0.04 cores at one count a second.
fn round_figures() -> Value {
    let figure = |section: &str, unit: &str, value: f64, busy: Option<f64>, subject: Value| {
        let mut figure = json!({
            "section": section, "name": format!("ours, {section}"), "unit": unit,
            "median": value, "lowest": value, "highest": value, "subject": subject,
        });
        if let Some(busy) = busy {
            figure["processor-ms"] = busy.into();
        }
        figure
    };
    let (small, full) = ([1280, 720], [1920, 1080]);
    let clip = |size| json!({"codec": "h264", "size": size});
    let camera =
        |rate| json!({"codec": "h264", "size": full, "rate": rate, "fps": 25.0, "cameras": 4});
    let picture = |size| json!({"format": "I420", "input": "512x288", "size": size});
    let element = json!({"cameras": 4, "input": "512x288", "size": small});
    let engine = json!({
        "kind": "openvino", "version": "1", "device": "CPU", "model": "m 1", "precision": "int8",
        "lanes": 2, "batch": 1,
    });
    json!({
        "schema": 1, "version": "0.1.0", "date": "2026-11-29", "machine": "round figures",
        "processors": 2, "load": [0.1, 1.9], "quick": false, "rounds": 5, "seconds": 2.0,
        "engine": engine, "left-out": [], "goals": [],
        "figures": [
            figure("limit", "frames/s", 2000.0, Some(1.0), clip(small)),
            figure("limit", "frames/s", 1000.0, Some(2.0), clip(full)),
            figure("element", "frames/s", 400.0, Some(5.0), element),
            figure("preprocess", "ms", 0.2, None, picture(small)),
            figure("preprocess", "ms", 0.3, None, picture(full)),
            figure("rate", "cores", 0.04, None, camera(1.0)),
            figure("rate", "cores", 0.021, None, camera(0.05)),
        ],
    })
}

#[test]
fn plan_has_a_line_for_each_camera_measured_and_computed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.json");
    fs::write(&file, round_figures().to_string()).unwrap();
    let file = file.to_str().unwrap();
    let asked = "--resolution 1080p,2160p --rate 1,5 --load 0.805 --gpu l4 --cameras 20";
    let asked: Vec<&str> = ["plan", "--bench", file].into_iter().chain(asked.split(' ')).collect();
    let (output, said) = run(&asked);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("computed, not measured: cameras on one NVIDIA L4"), "{said}");
    let lines: Vec<Vec<&str>> = said
        .lines()
        .filter(|line| line.contains("1920x1080    H.264"))
        .map(|line| line.split_whitespace().skip(2).collect())
        .collect();
    // Measured cameras, 1.61 processors over 0.04 and over 0.0955; what 20 of them take; and on
    // the GPU, where this machine's processors, of which a camera takes 0.02 to be received, are
    // the bound.
    assert_eq!(lines[0], ["40", "16"], "{said}");
    assert_eq!(lines[1], ["0.80", "1.91!"], "{said}");
    assert_eq!(lines[2], ["80p", "80p"], "{said}");
    // H.265 was not measured.
    assert!(said.lines().any(|line| line.contains("H.265") && line.ends_with('-')), "{said}");
}

#[test]
fn plan_says_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.json");
    for (text, wrong) in [
        ("{\"schema\": 1}", "it is no file of `vehicle-count bench --json`"),
        ("frames/s 200", "it is no file of `vehicle-count bench --json`"),
    ] {
        fs::write(&file, text).unwrap();
        let (output, said) = run(&["plan", "--bench", file.to_str().unwrap()]);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(wrong) && said.contains("other.json"), "{said}");
    }
    let (output, said) = run(&["plan", "--bench", folder.path().join("none").to_str().unwrap()]);
    assert!(!output.status.success() && said.contains("cannot be read"), "{said}");
}
