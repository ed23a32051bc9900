//! The rule as a table: machines, models, presets.

use super::*;
use crate::engine::EngineKind::{OnnxRuntime, OpenVino, TensorRt};
use crate::machine::{Abilities, Machine};
use crate::model::DEFAULT_MODEL;
use crate::preprocess::InputSize;

const GIB: u64 = 1 << 30;

fn machine(arch: &str, processors: usize, abilities: Abilities, gib: u64) -> Machine {
    Machine { arch: arch.to_owned(), processors, abilities, memory: Some(gib * GIB) }
}

/// Two processors without VNNI, 4 GiB.
fn small_box() -> Surroundings {
    let machine = machine("x86_64", 2, Abilities::default(), 4);
    Surroundings { machine, gpu: None, engines: vec![OpenVino, OnnxRuntime] }
}

/// 64 processors with AMX, 256 GiB.
fn server() -> Surroundings {
    let abilities = Abilities { int8: true, bf16: true, matrices: true };
    let machine = machine("x86_64", 64, abilities, 256);
    Surroundings { machine, gpu: None, engines: vec![OpenVino, OnnxRuntime] }
}

/// The server with a GPU of so many GiB.
fn with_gpu(gib: u64) -> Surroundings {
    let gpu = Some(Gpu { name: "A GPU".to_owned(), memory: gib * GIB });
    Surroundings { gpu, engines: vec![TensorRt, OpenVino, OnnxRuntime], ..server() }
}

/// A Jetson: ARM, 6 processors, memory shared with the GPU.
fn jetson() -> Surroundings {
    let abilities = Abilities { int8: true, bf16: false, matrices: false };
    let gpu = Some(Gpu { name: "Orin".to_owned(), memory: 7 * GIB });
    let machine = machine("aarch64", 6, abilities, 7);
    Surroundings { machine, gpu, engines: vec![TensorRt, OnnxRuntime] }
}

/// An ARM board without a GPU.
fn board() -> Surroundings {
    Surroundings { gpu: None, engines: vec![OnnxRuntime], ..jetson() }
}

/// A model: megabytes of its INT8 file, and error in percent, images a second and milliseconds of
/// INT8 at 256, 384 and 512 pixels. FP32 errs a little less, takes twice the time and 4 times the
/// room.
fn model(name: &str, megabytes: f64, figures: [(f64, f64, f64); 3]) -> Vec<Candidate> {
    let mut all = Vec::new();
    for (precision, share, engines, size, error) in [
        ("fp32", 0.5, vec![OpenVino, OnnxRuntime], 4.0, 0.99),
        ("int8", 1.0, vec![OpenVino, TensorRt], 1.0, 1.0),
    ] {
        for (side, (percent, rate, milliseconds)) in [256, 384, 512].into_iter().zip(figures) {
            let own = side == 384;
            all.push(Candidate {
                model: name.to_owned(),
                file: format!("{name}-{precision}.onnx"),
                precision: precision.to_owned(),
                engines: engines.clone(),
                measured: InputSize { width: side, height: side },
                input: if own { InputChoice::Auto(None) } else { InputChoice::Auto(Some(side)) },
                only_settled: false,
                size: Some((megabytes * size * 1e6) as u64),
                error: Some(percent / 100.0 * error),
                images_per_second: Some(rate * share),
                milliseconds: Some(milliseconds / share),
            });
        }
    }
    all
}

fn installed(models: &[Vec<Candidate>]) -> Installed {
    let told = "2 threads of a Xeon, 2026-11-29".to_owned();
    let measured = Some(Measured { told, is_here: false, int8: true });
    Installed { candidates: models.concat(), measured }
}

/// The default model.
fn large() -> Vec<Candidate> {
    model(DEFAULT_MODEL, 1.8, [(28.4, 655.0, 3.1), (17.6, 327.0, 6.7), (15.7, 192.0, 11.3)])
}

/// A faster, smaller one that errs more.
fn small() -> Vec<Candidate> {
    model("small", 0.7, [(40.0, 1500.0, 1.4), (23.0, 750.0, 2.9), (21.0, 400.0, 5.0)])
}

/// A slower one that errs less.
fn heavy() -> Vec<Candidate> {
    model("heavy", 25.0, [(20.0, 100.0, 20.0), (13.0, 45.0, 45.0), (11.0, 25.0, 81.0)])
}

fn choice(preset: Preset, on: &Surroundings, models: &[Vec<Candidate>]) -> Choice {
    choose(preset, on, &installed(models), &Settled::default())
}

/// Model, input, precision asked for, batch, timeout (ms), max-latency (ms).
fn told(choice: &Choice) -> (&str, String, &str, usize, u128, u128) {
    (
        choice.model.as_deref().unwrap_or("-"),
        choice.input.map_or("-".to_owned(), |input| input.to_string()),
        choice.precision.map_or("-", Precision::name),
        choice.batch_size,
        choice.batch_timeout.as_millis(),
        choice.max_latency.as_millis(),
    )
}

#[test]
fn every_preset_has_a_choice_on_every_machine() {
    use Preset::{Accuracy, Edge, HighestFps, LowestLatency, Server};
    const L: &str = DEFAULT_MODEL;
    let all = [large(), small(), heavy()];
    let two = [large(), small()];
    let one = [large()];
    for (preset, name, on, models, expected) in [
        // The model that ships alone.
        (HighestFps, "box", small_box(), &one[..], (L, "auto:256", "auto", 1, 0, 200)),
        (LowestLatency, "box", small_box(), &one, (L, "auto", "auto", 1, 0, 100)),
        (Edge, "box", small_box(), &one, (L, "auto", "auto", 1, 0, 200)),
        (Server, "box", small_box(), &one, (L, "auto", "auto", 1, 0, 200)),
        (Accuracy, "box", small_box(), &one, (L, "auto:512", "auto", 1, 0, 200)),
        // With memory, frames may wait longer.
        (HighestFps, "server", server(), &one, (L, "auto:256", "auto", 1, 0, 200)),
        (Server, "server", server(), &one, (L, "auto", "auto", 1, 0, 500)),
        (Accuracy, "server", server(), &one, (L, "auto:512", "auto", 1, 0, 1000)),
        // A smaller model takes over where its error is allowed.
        (HighestFps, "server", server(), &two, ("small", "auto", "auto", 1, 0, 200)),
        (LowestLatency, "server", server(), &two, ("small", "auto", "auto", 1, 0, 100)),
        (Edge, "box", small_box(), &two, ("small", "auto", "auto", 1, 0, 200)),
        (Server, "server", server(), &two, (L, "auto", "auto", 1, 0, 500)),
        // One that errs less raises what is asked of the others.
        (HighestFps, "server", server(), &all, ("small", "auto:512", "auto", 1, 0, 200)),
        (LowestLatency, "server", server(), &all, (L, "auto:512", "auto", 1, 0, 100)),
        (Server, "server", server(), &all, ("heavy", "auto", "auto", 1, 0, 500)),
        (Accuracy, "server", server(), &all, ("heavy", "auto:512", "auto", 1, 0, 1000)),
        // A GPU makes batches; the precision is left to a trial on it.
        (HighestFps, "GPU", with_gpu(24), &one, (L, "auto:256", "auto", 32, 5, 200)),
        (LowestLatency, "GPU", with_gpu(24), &one, (L, "auto", "auto", 1, 0, 100)),
        (Edge, "GPU", with_gpu(24), &one, (L, "auto", "auto", 4, 0, 200)),
        (Server, "GPU", with_gpu(24), &one, (L, "auto", "auto", 32, 5, 500)),
        (Server, "small GPU", with_gpu(4), &one, (L, "auto", "auto", 16, 5, 500)),
        (Accuracy, "GPU", with_gpu(24), &one, (L, "auto:512", "auto", 16, 0, 1000)),
        (Edge, "Jetson", jetson(), &two, ("small", "auto", "auto", 4, 0, 200)),
        (Server, "Jetson", jetson(), &two, (L, "auto", "auto", 16, 5, 200)),
        // ONNX Runtime takes FP32 alone.
        (HighestFps, "board", board(), &one, (L, "auto:256", "auto", 1, 0, 200)),
        (LowestLatency, "board", board(), &one, (L, "auto", "auto", 1, 0, 100)),
        (Accuracy, "board", board(), &all, ("heavy", "auto:512", "auto", 1, 0, 650)),
    ] {
        let choice = choice(preset, &on, models);
        let (model, input, precision, batch, timeout, latency) = expected;
        let expected = (model, input.to_owned(), precision, batch, timeout, latency);
        assert_eq!(told(&choice), expected, "{preset} on {name}: {:#?}", choice.reasons);
        assert!(
            choice.reasons.len() >= 6 && choice.reasons.iter().all(|why| !why.is_empty()),
            "{:#?}",
            choice.reasons
        );
    }
}

#[test]
fn precision_is_the_one_that_the_engine_takes() {
    let on = |on: &Surroundings, preset| {
        let choice = choice(preset, on, &[large()]);
        let candidate = choice.candidate.clone().expect("a model is installed");
        (choice.engine, candidate.precision)
    };
    assert_eq!(on(&server(), Preset::HighestFps), (Some(OpenVino), "int8".to_owned()));
    assert_eq!(on(&board(), Preset::HighestFps), (Some(OnnxRuntime), "fp32".to_owned()));
    assert_eq!(on(&with_gpu(24), Preset::HighestFps).0, Some(TensorRt));
    // Where FP32 errs so much less that it is worth it, it is asked for by name.
    let mut models = large();
    for int8 in models.iter_mut().filter(|each| each.precision == "int8") {
        int8.error = int8.error.map(|error| error * 1.2);
    }
    let on_gpu = choice(Preset::Accuracy, &with_gpu(24), std::slice::from_ref(&models));
    assert_eq!(on_gpu.precision, Some(Precision::Fp16));
    let choice = choice(Preset::Accuracy, &server(), &[models]);
    assert_eq!(
        (choice.precision, choice.input),
        (Some(Precision::Fp32), Some("auto:512".parse().expect("a size")))
    );
}

#[test]
fn int8_counts_for_less_without_its_instructions() {
    // An INT8 file of one model is a little faster than the FP32 file of another, where the
    // processor has the instructions.
    let mut quantized = large();
    quantized.retain(|each| each.precision == "int8");
    let mut plain =
        model("plain", 1.8, [(28.4, 1200.0, 3.3), (17.6, 600.0, 7.2), (15.7, 350.0, 12.0)]);
    plain.retain(|each| each.precision == "fp32");
    let models = [quantized, plain];
    let fast = |on: &Surroundings| choice(Preset::HighestFps, on, &models);
    assert_eq!(fast(&server()).model.as_deref(), Some(DEFAULT_MODEL));
    let choice = fast(&small_box());
    assert_eq!(choice.model.as_deref(), Some("plain"));
    assert!(choice.reasons.iter().any(|why| why.starts_with("INT8: ")), "{:#?}", choice.reasons);
    // Speeds of this very machine need no correction, nor do those of one that lacks them, too.
    for (is_here, int8) in [(true, true), (true, false), (false, false)] {
        let measured = Some(Measured { told: "a machine".to_owned(), is_here, int8 });
        let own = Installed { measured, ..installed(&models) };
        let choice = choose(Preset::HighestFps, &small_box(), &own, &Settled::default());
        assert_eq!(choice.model.as_deref(), Some(DEFAULT_MODEL));
        assert!(choice.reasons.iter().all(|why| !why.starts_with("INT8: ")));
    }
}

#[test]
fn what_is_settled_stays_and_the_rest_suits_it() {
    let all = installed(&[large(), small(), heavy()]);
    let with = |settled| choose(Preset::HighestFps, &server(), &all, &settled);
    let fp32 = with(Settled { precision: Some(Precision::Fp32), ..Settled::default() });
    let candidate = fp32.candidate.as_ref().expect("there are FP32 files");
    assert_eq!((candidate.precision.as_str(), fp32.precision), ("fp32", None));
    let input = Some("auto:512".parse().expect("a size"));
    let large = with(Settled { input, ..Settled::default() });
    assert_eq!((large.model.as_deref(), large.input), (Some("small"), input));
    let ort = with(Settled { engine: OnnxRuntime, ..Settled::default() });
    assert_eq!(ort.candidate.map(|each| each.precision), Some("fp32".to_owned()));
    // A size that was never measured stays, too; what was measured at the models' own size decides.
    let odd = Some("640x352".parse().expect("a size"));
    let choice = with(Settled { input: odd, ..Settled::default() });
    assert_eq!((choice.input, choice.model.as_deref()), (odd, Some("small")));
}

#[test]
fn file_that_is_not_there_is_not_chosen() {
    let mut models = [large(), heavy()];
    for missing in models[1].iter_mut().filter(|each| each.precision == "fp32") {
        missing.size = None;
    }
    let choice = choice(Preset::Accuracy, &board(), &models);
    assert_eq!(choice.model.as_deref(), Some(DEFAULT_MODEL), "{:#?}", choice.reasons);
}

#[test]
fn models_without_figures_leave_the_default_one() {
    let mut models = [large(), small()];
    for each in models.iter_mut().flatten() {
        (each.error, each.images_per_second, each.milliseconds) = (None, None, None);
    }
    for preset in Preset::ALL {
        let choice = choice(preset, &server(), &models);
        assert_eq!(choice.model.as_deref(), Some(DEFAULT_MODEL));
        assert_eq!(choice.input, Some(InputChoice::default()));
        let why = choice.reasons.join("; ");
        assert!(why.contains("no installed model has a measured error"), "{why}");
    }
    // With errors, and speeds of one alone, the other is taken for the slowest, and that is said.
    let mut models = [large(), small()];
    for each in &mut models[1] {
        (each.images_per_second, each.milliseconds) = (None, None);
    }
    let choice = choice(Preset::HighestFps, &server(), &models);
    assert_eq!(choice.model.as_deref(), Some(DEFAULT_MODEL));
    assert!(choice.reasons.iter().any(|why| why.contains("speed unknown of small")));
}

#[test]
fn nothing_installed_is_no_panic() {
    for preset in Preset::ALL {
        for on in [Surroundings::default(), server(), jetson()] {
            let choice = choose(preset, &on, &Installed::default(), &Settled::default());
            assert_eq!((choice.model, choice.engine), (None, None));
            assert!(choice.batch_size >= 1 && !choice.max_latency.is_zero());
        }
        let no_engine = Surroundings { engines: Vec::new(), ..server() };
        let choice = choice(preset, &no_engine, &[large()]);
        assert!(choice.reasons[0].starts_with("no engine"), "{:?}", choice.reasons);
    }
}

#[test]
fn frame_is_held_until_a_slow_machine_can_have_counted_it() {
    let mut slow = large();
    for each in &mut slow {
        each.milliseconds = each.milliseconds.map(|time| time * 30.0);
    }
    let choice = choice(Preset::LowestLatency, &small_box(), &[slow]);
    assert!(choice.max_latency >= Duration::from_millis(800), "{:?}", choice.max_latency);
}

#[test]
fn names_are_read_back_and_others_are_refused() {
    for preset in Preset::ALL {
        assert_eq!(preset.name().parse(), Ok(preset));
        assert!(!preset.title().is_empty() && preset.to_string() == preset.name());
    }
    let error = "fastest".parse::<Preset>().unwrap_err().to_string();
    for preset in Preset::ALL {
        assert!(error.contains(preset.name()), "{error}");
    }
}

#[test]
fn models_of_a_folder_are_candidates_with_the_speeds_beside_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, value: serde_json::Value| {
        std::fs::write(folder.path().join(name), value.to_string()).expect("it is written")
    };
    let accuracy = serde_json::json!([
        {"file": "net.onnx", "width": 384, "height": 384, "images": 9, "relative": 0.2},
        {"file": "net.onnx", "width": 512, "height": 288, "images": 9, "relative": 0.19},
        {"file": "net.onnx", "width": 256, "height": 256, "images": 9, "relative": 0.3},
        {"file": "net.onnx", "width": 512, "height": 512, "images": 9},
    ]);
    write(
        "net.json",
        serde_json::json!({
            "schema": 1, "name": "net", "version": "1", "task": "vehicle-density",
            "input": {"name": "images", "width": 384, "height": 384, "multiple-of": 32},
            "output": {"name": "density", "stride": 8},
            "files": [{"file": "net.onnx", "precision": "fp32", "sha256": "0".repeat(64),
                       "engines": ["onnxruntime"]}],
            "licence": "MIT", "accuracy": accuracy,
        }),
    );
    std::fs::write(folder.path().join("net.onnx"), [0; 10]).expect("it is written");
    write(
        "speeds.json",
        serde_json::Value::from_iter([(true, 50.0), (false, 30.0)].map(|(int8, rate)| {
            serde_json::json!({"machine": "another", "int8": int8, "date": "2026-01-01", "speeds": [
                {"file": "net.onnx", "width": 256, "height": 256, "engine": "onnxruntime",
                 "images-per-second": rate, "milliseconds": 20.0}]})
        })),
    );
    // Of the machines that the file tells of, the one that is most like this one counts.
    let int8 = Machine::here().abilities.int8;
    let rate = if int8 { 50.0 } else { 30.0 };
    let installed = Installed::of(crate::model::Model::installed(&[folder.path().to_owned()]));
    let told: Vec<_> = installed
        .candidates
        .iter()
        .map(|each| (each.input.to_string(), each.size, each.error, each.images_per_second))
        .collect();
    assert_eq!(
        told,
        [
            // What 16:9 cameras get.
            ("auto".to_owned(), Some(10), Some(0.19), None),
            ("384x384".to_owned(), Some(10), Some(0.2), None),
            ("auto:256".to_owned(), Some(10), Some(0.3), Some(rate)),
            ("auto:512".to_owned(), Some(10), None, None),
        ]
    );
    // The square at the model's own size is judged by its own figures, where it is settled, and is
    // not offered otherwise.
    let error = |input: Option<&str>| {
        let input = input.map(|size| size.parse().expect("a size"));
        let settled = Settled { input, ..Settled::default() };
        let board = Surroundings { engines: vec![OnnxRuntime], ..small_box() };
        choose(Preset::Accuracy, &board, &installed, &settled).candidate.and_then(|each| each.error)
    };
    assert_eq!([None, Some("384x384"), Some("512x288")].map(error), [0.19, 0.2, 0.19].map(Some));
    let measured = installed.measured.expect("speeds were found");
    assert_eq!((measured.is_here, measured.int8), (false, int8));
    assert!(measured.told.starts_with("another, with"), "{}", measured.told);
}
