//! An engine that opens but counts wrongly is caught when it is opened.

mod slots;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use slots::{density, values};
use vehiclecount_core::engine::{
    self, Device, Engine, EngineError, EngineKind, EngineRequest, Slot,
};
use vehiclecount_core::golden::Reference;
use vehiclecount_core::model::Model;
use vehiclecount_core::preprocess::InputSize;

mod child;

/// The engines that run the model's files as they are.
fn kinds() -> impl DoubleEndedIterator<Item = EngineKind> {
    EngineKind::networks().filter(|kind| kind.device() == Some(Device::Cpu))
}

/// The size of the small network's golden picture.
const SIZE: InputSize = InputSize { width: 96, height: 64 };

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn request(kind: EngineKind, model: &Arc<Model>, input: Option<InputSize>) -> EngineRequest {
    EngineRequest { input, ..EngineRequest::new(kind, model.clone()) }
}

/// What opening gives, or `None` where the engine's library is not there.
fn present<T>(result: Result<T, EngineError>) -> Option<Result<T, EngineError>> {
    match result {
        Err(error @ EngineError::Library { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        other => Some(other),
    }
}

fn rgb(x: usize, y: usize) -> [u8; 3] {
    [(x * 2 + y * 3) % 256, (x * 3 + y + 71) % 256, (x + y * 2 + 142) % 256]
        .map(|level| level as u8)
}

/// A folder with the network `bytes` and a golden picture on which `expected` vehicles are counted.
fn golden_model(
    bytes: &[u8],
    precision: &str,
    expected: f64,
    density: &[f32],
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = fs::read_to_string(here().join("tests/engines/tiny.json"))
        .expect("the fixture is committed");
    let mut manifest: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = json!({
        "file": "small.onnx", "precision": precision, "sha256": digest,
        "engines": ["openvino", "onnxruntime"],
    });
    manifest["files"] = json!([file]);
    manifest["golden"] = json!({
        "picture": "golden.png", "density": "density.json",
        "width": SIZE.width, "height": SIZE.height,
        "files": { "small.onnx": { "count": expected, "tolerance": expected * 0.02 } },
    });
    let rows: Vec<_> = density.chunks(SIZE.width / 8).collect();
    let density = json!({ "cell-tolerance": 0.05 * expected / 96.0, "density": rows });
    let cells = json!({ "files": { "small.onnx": density } });
    fs::write(folder.path().join("density.json"), cells.to_string())
        .expect("the folder can be written");
    fs::write(folder.path().join("small.onnx"), bytes).expect("the folder can be written");
    let path = folder.path().join("small.json");
    fs::write(&path, manifest.to_string()).expect("the folder can be written");
    let mut pixels = Vec::new();
    for y in 0..SIZE.height {
        (0..SIZE.width).for_each(|x| pixels.extend(rgb(x, y)));
    }
    let picture =
        fs::File::create(folder.path().join("golden.png")).expect("the folder can be written");
    let mut encoder = png::Encoder::new(picture, SIZE.width as u32, SIZE.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("the folder can be written");
    writer.write_image_data(&pixels).expect("the folder can be written");
    writer.finish().expect("the folder can be written");
    (folder, path)
}

fn model(path: &Path) -> Arc<Model> {
    Arc::new(Model::open(&path.display().to_string(), &[]).expect("a manifest"))
}

fn tiny(name: &str) -> Vec<u8> {
    fs::read(here().join("tests/engines").join(name)).expect("the fixture is committed")
}

/// Density of the golden picture by an engine that has only been opened.
fn density_of(engine: &dyn Engine) -> Vec<f32> {
    let mut slot = Slot::new(engine.info());
    for (index, value) in values(&mut slot).iter_mut().enumerate() {
        let (plane, place) =
            (index / (SIZE.width * SIZE.height), index % (SIZE.width * SIZE.height));
        *value = f32::from(rgb(place % SIZE.width, place / SIZE.width)[plane]);
    }
    engine.lane().expect("a lane").infer(std::slice::from_mut(&mut slot)).expect("an inference");
    density(&slot).to_vec()
}

/// What the small INT8 network makes of the golden picture, on ONNX Runtime or, where that is not
/// there, on OpenVINO.
fn expected_of(bytes: &[u8]) -> Option<(f64, Vec<f32>)> {
    let (_folder, path) = golden_model(bytes, "int8", 1.0, &[]);
    let model = model(&path);
    let engine = kinds().rev().find_map(|kind| {
        present(engine::open_unchecked(&request(kind, &model, Some(SIZE)), kind))
            .map(|opened| opened.expect("the small network opens"))
    })?;
    let density = density_of(&*engine);
    Some((density.iter().map(|&cell| f64::from(cell)).sum(), density))
}

// ---- protobuf, as far as it takes to break a network ----

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

/// The fields of a message that have a length: number, first byte and end of each.
fn fields(bytes: &[u8], from: usize, to: usize) -> Vec<(u64, usize, usize)> {
    let (mut at, mut found) = (from, Vec::new());
    while at < to {
        let key = varint(bytes, &mut at);
        match key & 7 {
            0 => drop(varint(bytes, &mut at)),
            1 => at += 8,
            2 => {
                let length = varint(bytes, &mut at) as usize;
                found.push((key >> 3, at, at + length));
                at += length;
            }
            5 => at += 4,
            kind => panic!("wire type {kind}"),
        }
    }
    found
}

/// Sets the constants of an ONNX file whose name `chosen` wants to zero, and tells how many there
/// were.
fn zero(bytes: &mut [u8], chosen: impl Fn(&str) -> bool) -> usize {
    let mut zeroed = 0;
    // ModelProto.graph, GraphProto.initializer, TensorProto.name, .float_data, .raw_data: fields 7,
    // 5, 8, 4 and 9.
    for (_, from, to) in fields(bytes, 0, bytes.len()).into_iter().filter(|field| field.0 == 7) {
        for (_, from, to) in fields(bytes, from, to).into_iter().filter(|field| field.0 == 5) {
            let tensor = fields(bytes, from, to);
            let named = |&&(number, from, to): &&(u64, usize, usize)| {
                number == 8 && std::str::from_utf8(&bytes[from..to]).is_ok_and(&chosen)
            };
            if tensor.iter().any(|field| named(&field)) {
                zeroed += 1;
                for (_, from, to) in tensor.into_iter().filter(|field| field.0 == 9 || field.0 == 4)
                {
                    bytes[from..to].fill(0);
                }
            }
        }
    }
    zeroed
}

// ---- what is caught ----

#[test]
fn shipped_files_pass_on_every_engine_that_takes_them() {
    let model = Arc::new(
        Model::open(
            &here().join("../engines/models/mobilenetv3-large.json").display().to_string(),
            &[],
        )
        .expect("the shipped model is committed"),
    );
    for file in &model.manifest.files {
        let reference =
            Reference::read(&model, file).expect("golden values").expect("each file has them");
        let model = Arc::new(model.with_file(file));
        for kind in kinds().filter(|kind| file.engines.contains(kind)) {
            let request = request(kind, &model, Some(reference.size()));
            let Some(engine) = present(engine::open_unchecked(&request, kind)) else { continue };
            let engine = engine.expect("it opens");
            let comparison = reference.compare(&*engine).expect("an inference");
            eprintln!("{} on {kind}: {comparison:?}", file.file);
            assert!(
                comparison.agrees() && comparison.cell.is_some(),
                "{} on {kind}: {comparison:?}",
                file.file
            );
        }
    }
}

/// Opens the model and gives its error in words. Every engine whose library is there must refuse
/// it.
#[track_caller]
fn assert_caught(path: &Path, input: Option<InputSize>, words: &[&str]) {
    let model = model(path);
    for kind in kinds() {
        let Some(result) = present(engine::open(&request(kind, &model, input))) else { continue };
        let error = result.err().expect("a broken network does not open");
        let said = error.to_string();
        eprintln!("{said}");
        assert!(matches!(error, EngineError::Golden { .. }), "{said}");
        for word in ["small.onnx", kind.name(), "golden.png", "expected"].iter().chain(words) {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    }
}

#[test]
fn quantized_file_that_lost_its_scales_is_caught() {
    let Some((count, density)) = expected_of(&tiny("tiny-int8.onnx")) else { return };
    let (folder, path) = golden_model(&tiny("tiny-int8.onnx"), "int8", count, &density);
    for kind in kinds() {
        if let Some(opened) = present(engine::open(&request(kind, &model(&path), Some(SIZE)))) {
            opened.expect("the sound file opens");
        }
    }
    let mut broken = tiny("tiny-int8.onnx");
    // Of the weights alone: scales of activations divide, and some engines do not open a network
    // that divides by zero.
    let lost = zero(&mut broken, |name| name.ends_with(".w_scale"));
    assert!(lost >= 4, "{lost} scales");
    drop(folder);
    let (_folder, path) = golden_model(&broken, "int8", count, &density);
    let expected = format!("{count:.2} within");
    assert_caught(&path, Some(SIZE), &[&expected, "96x64"]);
}

#[test]
fn broken_file_is_caught_at_another_input_size_too() {
    let Some((count, density)) = expected_of(&tiny("tiny-int8.onnx")) else { return };
    let sizes = [InputSize { width: 192, height: 128 }, InputSize { width: 64, height: 64 }];
    let (_folder, path) = golden_model(&tiny("tiny-int8.onnx"), "int8", count, &density);
    for (kind, size) in kinds().flat_map(|kind| sizes.map(|size| (kind, size))) {
        if let Some(opened) = present(engine::open(&request(kind, &model(&path), Some(size)))) {
            assert_eq!(opened.expect("the sound file opens").engine.info().input, size);
        }
    }
    let mut broken = tiny("tiny-int8.onnx");
    zero(&mut broken, |name| name.ends_with(".w_scale"));
    let (_folder, path) = golden_model(&broken, "int8", count, &density);
    for size in sizes {
        // It is compared in the size for which the expectation holds.
        assert_caught(&path, Some(size), &["96x64"]);
    }
}

#[test]
fn density_in_the_wrong_place_is_caught_although_the_count_is_right() {
    let Some((count, mut density)) = expected_of(&tiny("tiny-int8.onnx")) else { return };
    density.reverse();
    // Another expectation than that of the other tests: what agreed with theirs is remembered.
    let (_folder, path) = golden_model(&tiny("tiny-int8.onnx"), "int8", count * 1.001, &density);
    let model = model(&path);
    for kind in kinds() {
        let Some(result) = present(engine::open(&request(kind, &model, Some(SIZE)))) else {
            continue;
        };
        let said = result.err().expect("the density differs").to_string();
        assert!(said.contains("a cell of the density is off by"), "{said}");
    }
}

#[test]
fn auto_passes_a_broken_file_over_and_says_why() {
    let Some((count, density)) = expected_of(&tiny("tiny-int8.onnx")) else { return };
    let mut broken = tiny("tiny-int8.onnx");
    zero(&mut broken, |name| name.ends_with(".w_scale"));
    let (folder, path) = golden_model(&broken, "int8", count, &density);
    // The same model with a sound file for ONNX Runtime.
    let sound = tiny("tiny-int8.onnx");
    let digest: String = Sha256::digest(&sound).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.path().join("sound.onnx"), sound).expect("the folder can be written");
    let mut manifest: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("JSON");
    manifest["files"][0]["engines"] = json!(["openvino"]);
    let files = manifest["files"].as_array_mut().expect("a list");
    files.push(json!({
        "file": "sound.onnx", "precision": "int8", "sha256": digest, "engines": ["onnxruntime"],
    }));
    fs::write(&path, manifest.to_string()).expect("the folder can be written");
    let model = model(&path);
    if kinds().any(|kind| {
        present(engine::open_unchecked(&request(kind, &model, Some(SIZE)), kind)).is_none()
    }) {
        return;
    }
    let opened =
        engine::open(&request(EngineKind::Auto, &model, Some(SIZE))).expect("one engine opens");
    assert_eq!(opened.engine.info().kind, EngineKind::OnnxRuntime);
    let (_, reason) = opened
        .passed_over
        .iter()
        .find(|(kind, _)| *kind == EngineKind::OpenVino)
        .expect("it is told");
    assert!(reason.contains("golden.png"), "{reason}");
}

// ---- what is remembered ----

/// Opens the model named in the environment and tells how that went. Runs alone in a process, with
/// a cache folder of its own.
fn say_how_the_model_opens() {
    let path = std::env::var("MODEL").expect("the test names the model");
    let model = model(Path::new(&path));
    for kind in kinds() {
        match engine::open(&request(kind, &model, Some(SIZE))) {
            Ok(_) => println!("<{kind} opens>"),
            Err(error) => println!("<{error}>"),
        }
    }
}

fn say_with(test: &str, cache: &Path, model: &Path) -> String {
    child::run(child::command(test).env("VEHICLECOUNT_CACHE", cache).env("MODEL", model))
}

#[test]
fn what_has_agreed_is_not_compared_again() {
    if child::is_this() {
        return say_how_the_model_opens();
    }
    let Some((count, density)) = expected_of(&tiny("tiny-int8.onnx")) else { return };
    let (folder, path) = golden_model(&tiny("tiny-int8.onnx"), "int8", count, &density);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let opens = |said: &str| said.matches(" opens>").count();
    let engines = opens(&say_with(child::this_test!(), cache.path(), &path));
    assert!(engines > 0);
    let state =
        fs::read_to_string(cache.path().join("golden.jsonl")).expect("what agreed is written down");
    assert_eq!(state.lines().count(), engines, "{state}");
    // The picture is not even read the second time. With another cache it is missed, and named.
    fs::remove_file(folder.path().join("golden.png")).expect("the picture can be removed");
    assert_eq!(opens(&say_with(child::this_test!(), cache.path(), &path)), engines);
    let said = say_with(child::this_test!(), &cache.path().join("another"), &path);
    assert_eq!(opens(&said), 0);
    assert!(said.contains("golden.png"), "{said}");
}

#[test]
fn cache_that_cannot_be_written_is_no_reason_not_to_count() {
    if child::is_this() {
        return say_how_the_model_opens();
    }
    let Some((count, density)) = expected_of(&tiny("tiny-int8.onnx")) else { return };
    let (folder, path) = golden_model(&tiny("tiny-int8.onnx"), "int8", count, &density);
    // No folder can be made below a file.
    let cache = folder.path().join("small.onnx/cache");
    for _ in 0..2 {
        let said = say_with(child::this_test!(), &cache, &path);
        assert!(said.contains(" opens>"), "{said}");
    }
    // A state file of nonsense, likewise.
    let cache = tempfile::tempdir().expect("a temporary folder");
    fs::write(cache.path().join("golden.jsonl"), b"{\"file\": 7}\nnonsense\n\xff")
        .expect("the folder can be written");
    assert!(say_with(child::this_test!(), cache.path(), &path).contains(" opens>"));
}
