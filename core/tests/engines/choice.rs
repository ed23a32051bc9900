//! Which engine opens, and in which precision.

use super::refusals::{model_of, tiny};
use super::*;

#[test]
fn auto_opens_an_engine_and_tells_what_it_passed_over() {
    let model = model("tiny.json");
    let opened = match engine::open(&request(EngineKind::Auto, &model, 256, 256)) {
        Ok(opened) => opened,
        Err(EngineError::None { tried }) => return eprintln!("skipped: {tried}"),
        Err(error) => panic!("{error}"),
    };
    let kind = opened.engine.info().kind;
    assert!(kind != EngineKind::Auto && kind != EngineKind::Scripted);
    assert!(
        opened
            .passed_over
            .iter()
            .all(|(other, reason)| *other != kind && reason.contains(other.name()))
    );
    assert!(opened.passed_over.iter().any(|(other, _)| *other == EngineKind::TensorRt));
    assert_close(count(&*opened.engine, 0).output.total(), expected()[0].count, FP32, kind.name());
}

#[test]
fn auto_falls_back_where_the_first_engine_has_no_file() {
    let (_folder, model) = model_of(&tiny(), |manifest| {
        manifest["files"][0]["engines"] = serde_json::json!(["onnxruntime"])
    });
    if open(&request(EngineKind::OnnxRuntime, &model, 256, 256)).is_none() {
        return;
    }
    let opened = engine::open(&request(EngineKind::Auto, &model, 256, 256)).expect("one opens");
    assert_eq!(opened.engine.info().kind, EngineKind::OnnxRuntime);
}

#[test]
fn tensorrt_without_a_gpu_says_what_is_missing() {
    match engine::open(&request(EngineKind::TensorRt, &model("tiny.json"), 256, 256)) {
        Ok(_) => eprintln!("skipped: there is a GPU"),
        Err(error) => {
            assert!(error.is_absence(), "{error}");
            assert!(error.to_string().starts_with("engine tensorrt: "), "{error}");
        }
    }
}

/// A simulated road as a model's input. On noise, which no model was trained for, quantization
/// shows more than it does on roads.
pub(super) fn road(input: &mut [f32], width: usize, height: usize, seed: u64) {
    let (viewpoint, weather) = (Viewpoint::Highway, Weather::Day);
    let mut scene =
        Scene::new(SceneSettings { viewpoint, weather, seed, width, height, traffic: 1.5 });
    let mut rgb = vec![0; width * height * 3];
    scene.render(20.0, &mut rgb);
    for (channel, plane) in input.chunks_exact_mut(width * height).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(rgb.chunks_exact(3)) {
            *value = f32::from(pixel[channel]);
        }
    }
}

#[test]
fn default_model_counts_the_same_on_every_engine() {
    let folders = [Path::new(env!("CARGO_MANIFEST_DIR")).join("../engines/models")]
        .into_iter()
        .chain(model::folders());
    let model = match Model::open("", &folders.collect::<Vec<_>>()) {
        Ok(model) => Arc::new(model),
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut first: Option<(EngineKind, String, f64)> = None;
    for size in [(256, 256), (384, 384), (640, 384)] {
        on_every_engine(&model, size, |engine| {
            let info = engine.info();
            let mut slot = Slot::new(info);
            road(values(&mut slot), info.input.width, info.input.height, 4);
            engine
                .lane()
                .expect("a lane")
                .infer(std::slice::from_mut(&mut slot))
                .expect("an inference");
            let got: f64 = slot.output.total();
            match first.take() {
                Some((kind, precision, expected)) => {
                    // Both FP32: sums differ in order alone. INT8 was measured within 3 percent on
                    // the golden picture; a single other one may differ by more.
                    let same = precision == info.precision;
                    let allowed = if same {
                        FP32 * expected.abs() + 0.01
                    } else {
                        0.5 + 0.1 * expected.abs()
                    };
                    assert!(
                        (got - expected).abs() <= allowed,
                        "{} counts {got}, {kind} {expected}",
                        info.kind
                    );
                }
                None => first = Some((info.kind, info.precision.clone(), got)),
            }
        });
        first = None;
    }
}

#[test]
fn precision_that_an_engine_does_not_have_is_refused_with_what_it_has() {
    let model = model("tiny.json");
    for kind in on_processor() {
        let asked = |precision| EngineRequest { precision, ..request(kind, &model, 256, 256) };
        let error = engine::open(&asked(Precision::Fp16)).err().unwrap().to_string();
        let words = format!(
            "engine {kind}: it does not run tiny in fp16: its manifest has files for {kind} in fp32;"
        );
        assert!(
            error.starts_with(&words) && error.contains("engine=tensorrt makes every precision"),
            "{error}"
        );
        if let Some(engine) = open(&asked(Precision::Fp32)) {
            assert_eq!(engine.info().precision, "fp32");
        }
    }
    let scripted = EngineRequest {
        precision: Precision::Int8,
        ..EngineRequest::new(EngineKind::Scripted, Arc::new(Model::scripted()))
    };
    let error = engine::open(&scripted).err().unwrap().to_string();
    assert_eq!(
        error,
        "engine scripted: it does not run scripted in int8: it runs no network: leave precision at auto"
    );
}
