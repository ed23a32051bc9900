//! The check of a machine with a GPU, on a simulated one: its parts work, and a fault fails it.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vehiclecount_tensorrt_sim::Family;

/// The program, where cargo has built the examples too.
fn program() -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap().parent()?.parent()?.join("examples/gpu_check");
    program.is_file().then_some(program)
}

/// Runs the check with that of the stand-ins' faults, and reads what it writes.
fn check(faults: &str) -> Option<(bool, Value)> {
    let (Some(program), Some(runtime)) = (program(), Family::TensorRt11.runtime()) else {
        eprintln!("skipped: the example gpu_check, or the headers of TensorRT, are not there");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("check.json");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.json");
    let mut command = Command::new(program);
    command.args(["--max-batch", "4", "--seconds", "0.01", "--batches", "20", "--out"]).arg(&out);
    command
        .arg("--model")
        .arg(model)
        .env("VEHICLECOUNT_RUNTIME", runtime)
        .env("VEHICLECOUNT_CACHE", folder.path());
    command.env("LD_LIBRARY_PATH", Path::new(vehiclecount_gpu_sim::LIBRARY).parent().unwrap());
    let output = command.env("VEHICLECOUNT_SIM_TENSORRT", faults).output().unwrap();
    let text = std::fs::read_to_string(out)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Some((output.status.success(), serde_json::from_str(&text).unwrap()))
}

#[test]
fn check_of_a_simulated_gpu_finds_nothing_wrong() {
    let Some((good, report)) = check("") else { return };
    assert!(good && report["failures"].as_array().unwrap().is_empty(), "{report:#}");
    assert!(report["card"]["name"].as_str().unwrap().starts_with("Simulated GPU 0"), "{report:#}");
    let batches: Vec<_> =
        report["throughput"]["rows"].as_array().unwrap().iter().map(|row| &row["batch"]).collect();
    assert_eq!(batches, [1, 2, 4]);
    assert!(report["regions"]["largest-difference"].as_f64().unwrap() < 1e-5, "{report:#}");
    assert_eq!(report["leaks"]["batches"], 20);
}

#[test]
fn check_without_tensorrt_checks_the_kernels_and_says_what_it_left_out() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("check.json");
    // Away from the source tree, in whose .runtime there may be a TensorRT-RTX.
    let alone = folder.path().join("gpu_check");
    std::fs::copy(program, &alone).unwrap();
    let mut command = Command::new(alone);
    command.args(["--max-batch", "4", "--out"]).arg(&out).env("VEHICLECOUNT_CACHE", folder.path());
    command
        .arg("--model")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.json"));
    let driver = Path::new(vehiclecount_gpu_sim::LIBRARY).parent().unwrap();
    command.env("LD_LIBRARY_PATH", driver).env("VEHICLECOUNT_RUNTIME", folder.path());
    let output = command.output().unwrap();
    let report: Value = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
    // Not on a machine that has TensorRT among its libraries.
    if report["engine"].is_null() {
        assert_eq!(output.status.code(), Some(3), "{report:#}");
        assert!(
            report["skipped"][0].as_str().unwrap().starts_with("engine: engine tensorrt: "),
            "{report:#}"
        );
        assert!(
            report["kernels"].is_object() && report["failures"].as_array().unwrap().is_empty(),
            "{report:#}"
        );
    }
}

#[test]
fn fault_fails_the_check_and_stands_in_the_report() {
    // Beyond the runs by which the precision is chosen: there, a fault only rules one out.
    let Some((good, report)) = check("nan:60") else { return };
    let failures = report["failures"].to_string();
    assert!(!good && failures.contains("throughput: "), "{report:#}");
    // The parts before it were done all the same.
    assert!(report["kernels"]["largest-difference-levels"].is_object(), "{report:#}");
}
