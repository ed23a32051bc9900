//! Plans from every model that ships, parsed and built by the real TensorRT-RTX, which needs no GPU
//! for it.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// `vehicle-count engine` with `arguments`, its cache in `cache`: whether it went well, and all
/// that it said.
fn engine(cache: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vehicle-count"));
    command.arg("engine").args(arguments).env("VEHICLECOUNT_CACHE", cache);
    let output = command
        .env("VEHICLECOUNT_MODELS", Path::new(SOURCE).join("engines/models"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// Whether TensorRT-RTX is there. Where it must be, on processors of that name, its absence is a
/// failure.
fn there(cache: &Path) -> bool {
    let (built, said) = engine(
        cache,
        &["build", "--runtime", "tensorrt-rtx", "--compute-capability", "8.9", "nothing"],
    );
    assert!(!built, "{said}");
    let (_, said) = engine(
        cache,
        &["build", "--runtime", "tensorrt-rtx", "--compute-capability", "9.9", "--batch", "1"],
    );
    let absent = said.contains("was not found") || said.contains("built without the headers");
    if absent {
        eprintln!("skipped: {said}");
        assert_ne!(
            std::env::var("VEHICLECOUNT_REQUIRE_TENSORRT_RTX").as_deref(),
            Ok(std::env::consts::ARCH),
            "{said}"
        );
    }
    !absent
}

fn models() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(SOURCE).join("engines/models")).unwrap();
    let manifests = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        path.extension().is_some_and(|end| end == "json")
            && std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"licence\""))
    });
    manifests.collect()
}

#[test]
fn every_model_that_ships_builds_for_three_generations_of_gpus() {
    let folder = tempfile::tempdir().unwrap();
    if !there(folder.path()) {
        return;
    }
    let models = models();
    assert!(!models.is_empty());
    for model in models {
        // Some ship in INT8 alone: nothing else is made of that.
        let has_floats = std::fs::read_to_string(&model).unwrap().contains("\"fp32\"");
        for precision in ["int8", "fp16", "fp32"] {
            let plan = folder.path().join(format!("{precision}.plan"));
            let arguments = [
                "build",
                model.to_str().unwrap(),
                "--runtime",
                "tensorrt-rtx",
                "--precision",
                precision,
            ];
            let more = [
                "--compute-capability",
                "8.6",
                "--compute-capability",
                "8.9",
                "--compute-capability",
                "12.0",
            ];
            let out = ["--batch", "16", "--out", plan.to_str().unwrap()];
            let (built, said) = engine(folder.path(), &[&arguments[..], &more, &out].concat());
            if precision != "int8" && !has_floats {
                assert!(!built && said.contains(&format!("no file for {precision}")), "{said}");
                continue;
            }
            assert!(built, "{}: {said}", model.display());
            assert!(
                said.contains(precision) && said.contains("compute capability 8.6, 8.9, 12.0"),
                "{said}"
            );
            assert!(std::fs::metadata(&plan).unwrap().len() > 100_000, "{said}");
            // Without a GPU, the label at least can be read.
            let (_, said) = engine(folder.path(), &["inspect", plan.to_str().unwrap()]);
            assert!(
                said.contains(&format!("in {precision}, "))
                    && said.contains("built by TensorRT-RTX 1."),
                "{said}"
            );
        }
    }
}

#[test]
fn plans_are_kept_explained_and_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    if !there(folder.path()) {
        return;
    }
    let tiny = Path::new(SOURCE).join("core/tests/engines/tiny.json");
    let build = |batch: &str| {
        let arguments = [
            "build",
            tiny.to_str().unwrap(),
            "--runtime",
            "tensorrt-rtx",
            "--precision",
            "fp16",
            "--batch",
            batch,
        ];
        let (built, said) =
            engine(folder.path(), &[&arguments[..], &["--compute-capability", "8.9"]].concat());
        assert!(built, "{said}");
        said
    };
    let said = build("4");
    assert!(!said.contains("there already") && !said.contains("built anew"), "{said}");
    assert!(build("4").contains("it was there already"));
    // Another profile: the one that is there is named, with what it is for.
    let said = build("8");
    assert!(
        said.contains("built anew: ")
            && said.contains("is for another use (largest batch 4, now 8)"),
        "{said}"
    );
    let plans = || {
        let entries = std::fs::read_dir(folder.path().join("engines")).unwrap();
        let plans = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "plan"));
        plans.collect::<Vec<_>>()
    };
    assert_eq!(plans().len(), 2);
    // A plan that was cut off, by a full disk perhaps, is noticed.
    for plan in plans() {
        let bytes = std::fs::read(&plan).unwrap();
        std::fs::write(&plan, &bytes[..bytes.len() / 2]).unwrap();
    }
    let said = build("4");
    assert!(
        said.contains("is damaged: its SHA-256 is not the one that was written beside it"),
        "{said}"
    );
    assert!(build("4").contains("it was there already"));
}

#[test]
fn processes_that_need_the_same_plan_build_it_once() {
    let folder = tempfile::tempdir().unwrap();
    if !there(folder.path()) {
        return;
    }
    let tiny = Path::new(SOURCE).join("core/tests/engines/tiny.json");
    let arguments = [
        "build",
        tiny.to_str().unwrap(),
        "--runtime",
        "tensorrt-rtx",
        "--precision",
        "fp16",
        "--compute-capability",
        "8.6",
    ];
    let said: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..4).map(|_| scope.spawn(|| engine(folder.path(), &arguments))).collect();
        all.into_iter()
            .map(|one| one.join().unwrap())
            .map(|(built, said)| {
                assert!(built, "{said}");
                said
            })
            .collect()
    });
    let kept = said.iter().filter(|said| said.contains("it was there already")).count();
    assert_eq!(kept, 3, "{said:?}");
}

#[test]
fn wishes_that_cannot_be_met_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], word: &str| {
        let (built, said) = engine(folder.path(), arguments);
        assert!(!built && said.contains(word), "{said}");
    };
    refused(&["build", "--compute-capability", "89"], "not a compute capability such as 8.9");
    refused(&["build", "--precision", "int4"], "is not one of auto, fp32, fp16 and int8");
    refused(&["build", "no-such-model"], "was not found");
    refused(&["inspect", "no-such.plan"], "no-such.plan cannot be read");
    if !there(folder.path()) {
        return;
    }
    let rtx = ["build", "--runtime", "tensorrt-rtx"];
    refused(
        &[&rtx[..], &["--compute-capability", "9.0"]].concat(),
        "builds nothing for compute capability 9.0",
    );
    refused(
        &[&rtx[..], &["--compute-capability", "8.9", "--calibration", "table"]].concat(),
        "takes no calibration table",
    );
}
