//! The bench measures every section, and the planner reads what it has written.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
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

#[test]
fn plan_of_the_bench_that_is_kept_has_a_line_for_each_camera() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engines/results/bench.json");
    let kept = kept.to_str().unwrap();
    let asked = ["--resolution", "1080p,2160p", "--rate", "1,5", "--gpu", "l4", "--cameras", "10"];
    let (output, said) = run(&[&["plan", "--bench", kept][..], &asked].concat());
    assert!(output.status.success(), "{said}");
    assert!(said.contains("computed, not measured: cameras on one NVIDIA L4"), "{said}");
    let lines: Vec<Vec<&str>> = said
        .lines()
        .filter(|line| line.contains("1920x1080  H.264"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    // Measured cameras, processors of ten of them, and cameras on the GPU.
    assert_eq!(lines.len(), 3, "{said}");
    let number = |word: &str| word.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<f64>();
    let (once, often) = (number(lines[0][2]).unwrap(), number(lines[0][3]).unwrap());
    assert!(once >= often && often >= 1.0, "{said}");
    let (once, often) = (number(lines[1][2]).unwrap(), number(lines[1][3]).unwrap());
    assert!(once <= often && once > 0.0, "{said}");
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
