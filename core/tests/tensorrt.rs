//! TensorRT through the shim, with stand-ins for the libraries (tests/tensorrt-sim): what its absence is called, each kind apart, and building.
//!
//! A process opens a library once: each test is a process of its own, this program again.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use vehiclecount_core::preprocess::InputSize;
use vehiclecount_core::tensorrt::{Build, Flavour, Library, Progress, TensorRtError};
use vehiclecount_tensorrt_sim::Family;

/// What the test `name` of this file prints after "SAID " in a process that finds the stand-in of `family`.
fn said(name: &str, family: Option<Family>, settings: &[(&str, &str)]) -> Option<Vec<String>> {
    let empty = std::env::temp_dir();
    let runtime = match family.map(Family::runtime) {
        Some(None) => {
            eprintln!("skipped: built without the headers of {family:?}");
            return None;
        }
        Some(Some(folder)) => folder,
        None => empty.clone(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--ignored"]);
    command.env("VEHICLECOUNT_RUNTIME", runtime).env("LD_LIBRARY_PATH", empty).envs(settings.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text.lines().filter_map(|line| Some(line.split_once("SAID ")?.1.to_owned())).collect())
}

fn onnx() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.onnx")).unwrap()
}

fn ask<'a>(onnx: &'a [u8], capabilities: &'a [u32]) -> Build<'a> {
    let input = InputSize { width: 96, height: 64 };
    Build { onnx, input, max_batch: 4, half: false, calibration: None, capabilities, detailed: false }
}

#[test]
#[ignore = "run by the others, in processes of its own"]
fn opens() {
    let flavour = std::env::var("FLAVOUR").unwrap().parse().unwrap();
    match Library::open_to_build(flavour) {
        Ok(library) => println!("SAID {library}"),
        Err(error) => println!("SAID {error}"),
    }
}

#[test]
fn libraries_of_other_families_are_refused_by_name() {
    let refused = |family, flavour, number: &str, words: &[&str]| {
        let settings = [("FLAVOUR", flavour), ("VEHICLECOUNT_SIM_TENSORRT_VERSION", number)];
        let Some(said) = said("opens", Some(family), &settings) else { return };
        for word in words {
            assert!(said[0].contains(word), "{word} in {said:?}");
        }
    };
    refused(
        Family::TensorRtRtx,
        "tensorrt-rtx",
        "10400",
        &["is TensorRT-RTX 1.4.0, where TensorRT-RTX 1.5 or a later 1.x"],
    );
    refused(
        Family::TensorRt11,
        "tensorrt",
        "120000",
        &["libnvinfer.so.11 is TensorRT 12.0.0, where TensorRT 11 is needed"],
    );
    refused(Family::TensorRt10, "tensorrt", "8601", &["is TensorRT 8.6.1, where TensorRT 10 is needed"]);
    // Older and newer ones of the family are taken.
    refused(Family::TensorRt10, "tensorrt", "100001", &["TensorRT 10.0.1"]);
    refused(Family::TensorRt11, "auto", "119900", &["TensorRT 11.99.0"]);
}

#[test]
fn absent_libraries_are_named_with_places_and_remedy() {
    let said = said("opens", None, &[("FLAVOUR", "tensorrt")]).unwrap();
    if vehiclecount_core::tensorrt::headers().is_empty() {
        assert!(said[0].contains("built without the headers of TensorRT"), "{said:?}");
        return;
    }
    for word in ["libnvinfer.so.11 or libnvinfer.so.10 was not found", "the system's libraries", "VEHICLECOUNT_RUNTIME"]
    {
        assert!(said[0].contains(word), "{word} in {said:?}");
    }
}

#[test]
#[ignore = "run by the others, in processes of its own"]
fn builds() {
    let library = Library::open_to_build(Flavour::TensorRtRtx).unwrap();
    let told = Mutex::new(Vec::new());
    let watch = |progress: Progress<'_>| {
        told.lock().unwrap().push(format!("{progress:?}"));
        true
    };
    let onnx = onnx();
    let plan = library.build(&ask(&onnx, &[86, 120]), &watch).unwrap();
    println!("SAID {}", String::from_utf8_lossy(&plan).replace('\n', " "));
    println!("SAID {}", told.lock().unwrap().first().unwrap());
    let failed = |build: &Build<'_>, goes_on: bool| {
        let error: TensorRtError = library.build(build, &|_| goes_on).unwrap_err();
        println!("SAID {error}");
    };
    failed(&ask(&onnx, &[86]), false);
    failed(&ask(&onnx, &[90]), true);
    failed(&ask(b"no network", &[86]), true);
    failed(&ask(&onnx[..onnx.len() / 2], &[86]), true);
    failed(&Build { half: true, ..ask(&onnx, &[86]) }, true);
    // Nothing to build for: neither a GPU nor a capability.
    failed(&ask(&onnx, &[]), true);
}

#[test]
fn plans_are_built_watched_and_refused_with_reasons() {
    let Some(said) = said("builds", Some(Family::TensorRtRtx), &[]) else { return };
    let expected = [
        "simulated plan",
        "Begin { phase: \"Building engine\", parent: None, steps: 3 }",
        "the build was ended",
        "builds nothing for compute capability 9.0",
        "not an ONNX file",
        "simulated:",
        "only TensorRT 10 takes a calibration table",
        "no current CUDA context to build for",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, word) in said.iter().zip(expected) {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(said[0].contains("86,120 images density 3 64 96 8 12 1 4"), "{said:?}");
}
