//! Networks converted to FP16.

use super::choice::road;
use super::*;

/// The networks that TensorRT is given in FP16 are run here by the engines of the processor: that
/// they count the same shows that they were converted rightly. FP16 has 11 bits, and errors add up
/// over layers: 1 percent of the count, as its golden picture allows; 3 with INT8. That is the mean
/// over four roads: on a single one, version 0.3.0 in INT8 moves by 3.3.
#[test]
fn networks_in_half_precision_count_what_they_counted_before() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    for (manifest, file) in [
        ("tests/engines/tiny.json", "tiny.onnx"),
        ("../engines/models/mobilenetv3-large.json", "mobilenetv3-large.onnx"),
        ("tests/engines/tiny.json", "tiny-int8.onnx"),
        ("../engines/models/mobilenetv3-large.json", "mobilenetv3-large-int8.onnx"),
    ] {
        let path = source.join(manifest);
        let half = vehiclecount_core::tensorrt::half::to_half(
            &fs::read(path.with_file_name(file)).unwrap(),
        )
        .unwrap();
        let mut value: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let sha256: String =
            sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&half))
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
        value["files"] = serde_json::json!([{
            "file": file, "precision": "fp16", "sha256": sha256,
            "engines": ["onnxruntime", "openvino"],
        }]);
        value.as_object_mut().unwrap().remove("golden");
        fs::write(folder.path().join(file), half).unwrap();
        let converted = folder.path().join("model.json");
        fs::write(&converted, value.to_string()).unwrap();
        for kind in on_processor() {
            let count = |manifest: &Path, file: &str| {
                let model =
                    Model::open(manifest.with_file_name(file).to_str().unwrap(), &[]).unwrap();
                let input = Some(InputSize { width: 384, height: 384 });
                let request = EngineRequest { input, ..EngineRequest::new(kind, Arc::new(model)) };
                let engine = engine::open_unchecked(&request, kind)?;
                let mut lane = engine.lane()?;
                let mut counts = Vec::new();
                for seed in 4..8 {
                    let mut slot = Slot::new(engine.info());
                    road(values(&mut slot), 384, 384, seed);
                    lane.infer(std::slice::from_mut(&mut slot))?;
                    counts.push(slot.output.total());
                }
                Ok::<Vec<f64>, EngineError>(counts)
            };
            match count(&path, file) {
                Ok(before) => {
                    let after = match count(&converted, file) {
                        Ok(after) => after,
                        // Quantizers with FP16 scales are not for every engine.
                        Err(error) if file.contains("int8") => {
                            eprintln!("skipped: {error}");
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    // In INT8, what was rounded one way is rounded another way now and then.
                    let tolerance = if file.contains("int8") { 0.03 } else { 0.01 };
                    let moved: f64 = before
                        .iter()
                        .zip(&after)
                        .map(|(before, after)| (before - after).abs())
                        .sum();
                    let most = tolerance * before.iter().sum::<f64>();
                    assert!(
                        moved <= most,
                        "{kind} {file} in FP16 counts {after:?}, where {before:?} is expected"
                    );
                }
                Err(error) => eprintln!("skipped: {error}"),
            }
        }
    }
}
