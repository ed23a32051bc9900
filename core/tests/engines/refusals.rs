//! Models and libraries that are refused, and why.

use super::*;

/// A folder with a model of the tiny network's manifest, `change`d, and a file of `bytes`.
pub(super) fn model_of(
    bytes: &[u8],
    change: impl FnOnce(&mut serde_json::Value),
) -> (tempfile::TempDir, Arc<Model>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = fs::read_to_string(fixtures().join("tiny.json")).expect("the fixture is committed");
    let mut manifest: serde_json::Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    manifest["files"] = serde_json::json!([
        {
            "file": "broken.onnx", "precision": "fp32", "sha256": digest,
            "engines": ["openvino", "onnxruntime"],
        }
    ]);
    change(&mut manifest);
    fs::write(folder.path().join("broken.onnx"), bytes).expect("the folder can be written");
    let path = folder.path().join("broken.json");
    fs::write(&path, manifest.to_string()).expect("the folder can be written");
    let model = Model::open(&path.display().to_string(), &[]).expect("a manifest");
    (folder, Arc::new(model))
}

pub(super) fn tiny() -> Vec<u8> {
    fs::read(fixtures().join("tiny.onnx")).expect("the fixture is committed")
}

/// Every engine refuses the model with one line that names the file and has `words`.
fn assert_refused(model: &Arc<Model>, words: &[&str]) {
    for kind in on_processor() {
        let Some(error) = refusal(&request(kind, model, 256, 256)) else { continue };
        let text = error.to_string();
        eprintln!("{text}");
        for word in [kind.name(), "broken.onnx"].iter().chain(words) {
            assert!(text.contains(word), "{text:?} does not say {word:?}");
        }
        assert!(!text.contains('\n'), "{text:?} is more than a line");
    }
}

#[test]
fn damaged_file_is_named() {
    let (_folder, model) = model_of(&tiny()[..4000], |_| {});
    assert_refused(&model, &["cannot open"]);
    let (_folder, model) = model_of(b"this is no network", |_| {});
    assert_refused(&model, &["cannot open"]);
    let (_folder, model) = model_of(b"", |_| {});
    assert_refused(&model, &["cannot open"]);
}

#[test]
fn file_that_its_manifest_does_not_know_is_refused() {
    let (_folder, model) =
        model_of(&tiny(), |manifest| manifest["files"][0]["sha256"] = "00".repeat(32).into());
    assert_refused(&model, &["SHA-256", "install the model again"]);
}

#[test]
fn file_that_changes_is_checked_again() {
    let (folder, model) = model_of(&tiny(), |_| {});
    let file = &model.manifest.files[0];
    model.verify_once(file).expect("the file is right");
    fs::write(folder.path().join("broken.onnx"), b"another").expect("the folder can be written");
    assert!(model.verify_once(file).is_err());
}

#[test]
fn missing_file_is_named() {
    let (folder, model) = model_of(&tiny(), |_| {});
    fs::remove_file(folder.path().join("broken.onnx")).expect("the file can be removed");
    assert_refused(&model, &["No such file"]);
}

#[test]
fn input_and_output_must_have_their_names() {
    let (_folder, model) =
        model_of(&tiny(), |manifest| manifest["input"]["name"] = "pictures".into());
    assert_refused(&model, &["\"images\"", "\"pictures\"", "is needed"]);
    let (_folder, model) =
        model_of(&tiny(), |manifest| manifest["output"]["name"] = "boxes".into());
    assert_refused(&model, &["\"density\"", "\"boxes\"", "is needed"]);
}

#[test]
fn stride_must_be_that_of_the_manifest() {
    let (_folder, model) = model_of(&tiny(), |manifest| manifest["output"]["stride"] = 16.into());
    assert_refused(&model, &["[1, 1, 32, 32]", "[1, 1, 16, 16]", "is needed"]);
}

#[test]
fn input_size_must_suit_the_model() {
    for kind in on_processor().chain([EngineKind::Scripted]) {
        let Some(error) = refusal(&request(kind, &model("tiny.onnx"), 250, 256)) else { continue };
        assert!(error.to_string().contains("multiples of 32"), "{error}");
    }
}

#[test]
fn engine_without_a_file_says_which_engines_have_one() {
    let (_folder, model) = model_of(&tiny(), |manifest| {
        manifest["files"][0]["engines"] = serde_json::json!(["tensorrt"])
    });
    for kind in on_processor() {
        let error =
            refusal(&request(kind, &model, 256, 256)).expect("no library is needed to see that");
        assert!(
            matches!(error, EngineError::NoFile { .. })
                && error.to_string().ends_with("files for tensorrt"),
            "{error}"
        );
    }
}

/// Opens every engine and prints what they say. Runs alone in a process, since a library stays open
/// once it is.
fn say_how_engines_open() {
    for kind in kinds() {
        match engine::open(&request(kind, &model("tiny.onnx"), 256, 256)) {
            Ok(_) => println!("<{kind} opens>"),
            Err(error) => println!("<{error}>"),
        }
    }
}

/// What the engines say in a process of `test` with `runtime` as the folder of their libraries.
fn say_with(test: &str, runtime: &Path) -> String {
    child::run(child::command(test).env("VEHICLECOUNT_RUNTIME", runtime))
}

#[test]
fn damaged_library_is_named_and_nothing_panics() {
    if child::is_this() {
        return say_how_engines_open();
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (engine, library) in
        [("openvino", "libopenvino_c.so"), ("onnxruntime", "libonnxruntime.so")]
    {
        fs::create_dir(folder.path().join(engine)).expect("the folder can be written");
        fs::write(folder.path().join(engine).join(library), b"no library")
            .expect("the folder can be written");
    }
    let said = say_with(child::this_test!(), folder.path());
    for library in ["openvino/libopenvino_c.so", "onnxruntime/libonnxruntime.so"] {
        let line = format!("cannot open {}", folder.path().join(library).display());
        assert!(said.contains(&line), "{said:?} does not say {line:?}");
    }
}

#[test]
fn folder_without_libraries_is_no_reason_to_look_nowhere_else() {
    if child::is_this() {
        return say_how_engines_open();
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = say_with(child::this_test!(), folder.path());
    for engine in ["openvino", "onnxruntime"] {
        // Where none is installed, the error says what to do.
        let opens = said.contains(&format!("<{engine} opens>"));
        assert!(
            opens || said.contains(&format!("engine {engine}: ")) && said.contains("./run runtime"),
            "{said:?}"
        );
    }
}
