//! One suite for every engine that this machine can open: the same picture gives the same count.
//!
//! Engines whose library is not there are skipped, with the reason on standard error. Where they
//! must not be, `VEHICLECOUNT_REQUIRE_ENGINES=openvino,onnxruntime` makes a skipped one a failure.
//! The networks in `engines/` are small and hold random weights (`engines/fixture.py`); the default
//! model takes the same tests where it is installed.

#[path = "../child/mod.rs"]
mod child;
mod choice;
mod half;
mod refusals;
mod scripted;
#[path = "../slots/mod.rs"]
mod slots;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use slots::{density, values};
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::engine::{
    self, Device, Engine, EngineError, EngineKind, EngineRequest, Input, Slot,
};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::InputSize;
use vehiclecount_core::scene::{Scene, SceneSettings, Viewpoint, Weather};
use vehiclecount_core::tensorrt::Precision;

/// The engines that run networks, which is all that these tests know of them.
fn kinds() -> impl Iterator<Item = EngineKind> {
    EngineKind::networks()
}

/// Those of them that run on the processor.
fn on_processor() -> impl Iterator<Item = EngineKind> {
    kinds().filter(|kind| kind.device() == Some(Device::Cpu))
}

/// Largest difference of a count, of its whole, between FP32 engines: they sum in different orders.
const FP32: f64 = 1e-3;

/// Largest difference of a count, of its whole, between INT8 and FP32. The small network's layers
/// were not trained to be quantized.
const INT8: f64 = 0.02;

const BOUND: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Expected {
    width: usize,
    height: usize,
    seed: usize,
    count: f64,
    left: f64,
    right: f64,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines")
}

/// What ONNX's reference evaluator counts on `picture`.
fn expected() -> Vec<Expected> {
    let text =
        fs::read_to_string(fixtures().join("expected.json")).expect("the fixture is committed");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn model(name: &str) -> Arc<Model> {
    Arc::new(
        Model::open(&fixtures().join(name).display().to_string(), &[])
            .expect("the fixture is a model"),
    )
}

fn request(kind: EngineKind, model: &Arc<Model>, width: usize, height: usize) -> EngineRequest {
    let input = Some(InputSize { width, height });
    EngineRequest { input, max_batch: 4, ..EngineRequest::new(kind, model.clone()) }
}

/// The engine, or `None` where it cannot be had on this machine.
fn open(request: &EngineRequest) -> Option<Arc<dyn Engine>> {
    let reason = match engine::open(request) {
        Ok(opened) => return Some(opened.engine),
        Err(error) if error.is_absence() => error.to_string(),
        Err(error) => panic!("{error}"),
    };
    let required = std::env::var("VEHICLECOUNT_REQUIRE_ENGINES").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == request.kind.name()), "{reason}");
    eprintln!("skipped: {reason}");
    None
}

/// The error of an engine that must not open; `None` where its library is not there.
fn refusal(request: &EngineRequest) -> Option<EngineError> {
    match engine::open(request) {
        Ok(_) => panic!("{} opens what it must refuse", request.kind),
        Err(error) if error.is_absence() => None,
        Err(error) => Some(error),
    }
}

/// Runs `test` on every engine that opens.
fn on_every_engine(
    model: &Arc<Model>,
    (width, height): (usize, usize),
    mut test: impl FnMut(&dyn Engine),
) {
    for kind in kinds() {
        if let Some(engine) = open(&request(kind, model, width, height)) {
            test(&*engine);
        }
    }
}

/// The picture of `picture()` in `fixture.py`.
fn picture(engine: &dyn Engine, seed: usize) -> Slot {
    let mut slot = Slot::new(engine.info());
    let InputSize { width, height } = engine.info().input;
    for (index, value) in values(&mut slot).iter_mut().enumerate() {
        let (c, y, x) = (index / (width * height), index / width % height, index % width);
        *value = ((x * (2 + seed) + y * 3 + c * 71 + x * y / (32 + seed)) % 256) as f32;
    }
    slot
}

fn count(engine: &dyn Engine, seed: usize) -> Slot {
    let mut slot = picture(engine, seed);
    engine.lane().expect("a lane").infer(std::slice::from_mut(&mut slot)).expect("an inference");
    slot
}

fn sum(cells: impl IntoIterator<Item = f32>) -> f64 {
    cells.into_iter().map(f64::from).sum()
}

#[track_caller]
fn assert_close(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (got - expected).abs() <= tolerance * expected.abs(),
        "{what}: {got}, where {expected} is expected"
    );
}

fn agrees_with_the_reference(file: &str, tolerance: f64) {
    let model = model(file);
    for size in [(256, 256), (384, 384), (640, 384)] {
        on_every_engine(&model, size, |engine| {
            let info = engine.info();
            assert_eq!((info.columns, info.rows), (size.0 / 8, size.1 / 8));
            for case in expected().iter().filter(|case| (case.width, case.height) == size) {
                let slot = count(engine, case.seed);
                let what = format!("{} {file} {size:?} picture {}", info.kind, case.seed);
                let half = |left: bool| {
                    sum(density(&slot).iter().enumerate().filter_map(|(index, &cell)| {
                        ((index % info.columns < info.columns / 2) == left).then_some(cell)
                    }))
                };
                assert_close(slot.output.total(), case.count, tolerance, &what);
                assert_close(half(true), case.left, tolerance, &what);
                assert_close(half(false), case.right, tolerance, &what);
            }
        });
    }
}

#[test]
fn same_picture_gives_the_same_count_as_the_reference() {
    agrees_with_the_reference("tiny.onnx", FP32);
}

#[test]
fn quantized_model_counts_nearly_the_same() {
    agrees_with_the_reference("tiny-int8.onnx", INT8);
}

#[test]
fn model_that_takes_one_frame_at_a_time_takes_batches() {
    on_every_engine(&model("tiny-single.onnx"), (256, 256), |engine| {
        let mut batch: Vec<_> = (0..3).map(|seed| picture(engine, seed)).collect();
        engine.lane().expect("a lane").infer(&mut batch).expect("an inference");
        assert_close(batch[2].output.total(), expected()[2].count, FP32, "third of a batch");
    });
}

#[test]
fn batch_equals_its_frames_one_by_one() {
    on_every_engine(&model("tiny.onnx"), (256, 256), |engine| {
        let alone: Vec<_> = (0..4).map(|seed| density(&count(engine, seed)).to_vec()).collect();
        let mut lane = engine.lane().expect("a lane");
        // Full, in part, and full again: nothing of an earlier batch is left.
        for size in [4, 1, 3, 4, 0] {
            let mut batch: Vec<_> = (0..size).map(|seed| picture(engine, seed)).collect();
            lane.infer(&mut batch).expect("an inference");
            for (slot, alone) in batch.iter().zip(&alone) {
                for (&got, &expected) in density(slot).iter().zip(alone) {
                    assert!(
                        (got - expected).abs() <= 1e-6,
                        "{}: {got}, alone {expected}",
                        engine.info().kind
                    );
                }
            }
        }
    });
}

#[test]
fn lanes_at_the_same_time_give_what_one_gives() {
    on_every_engine(&model("tiny.onnx"), (256, 256), |engine| {
        let alone: Vec<_> = (0..4).map(|seed| density(&count(engine, seed)).to_vec()).collect();
        let lanes: Vec<_> =
            (0..engine.info().lanes + 2).map(|_| engine.lane().expect("a lane")).collect();
        thread::scope(|scope| {
            for (index, mut lane) in lanes.into_iter().enumerate() {
                let alone = &alone;
                scope.spawn(move || {
                    for round in 0..20 {
                        let seed = (index + round) % alone.len();
                        let mut slot = picture(engine, seed);
                        lane.infer(std::slice::from_mut(&mut slot)).expect("an inference");
                        assert_eq!(
                            density(&slot),
                            alone[seed],
                            "{} lane {index}",
                            engine.info().kind
                        );
                    }
                });
            }
        });
    });
}

#[test]
fn lane_outlives_its_engine() {
    for kind in kinds() {
        let Some(engine) = open(&request(kind, &model("tiny.onnx"), 256, 256)) else { continue };
        let mut slot = picture(&*engine, 0);
        let mut lane = engine.lane().expect("a lane");
        drop(engine);
        lane.infer(std::slice::from_mut(&mut slot)).expect("an inference");
        assert_close(slot.output.total(), expected()[0].count, FP32, kind.name());
    }
}

#[test]
fn slot_that_does_not_fit_is_an_error() {
    on_every_engine(&model("tiny.onnx"), (256, 256), |engine| {
        let mut unfit = vec![Input::Values(vec![0.0; 5]), Input::Levels(vec![0; 5])];
        if !engine.takes_levels() {
            unfit.push(Input::Levels(vec![0; engine.info().input.values()]));
        }
        for input in unfit {
            let mut slot = Slot { input, ..picture(engine, 0) };
            let error =
                engine.lane().expect("a lane").infer(std::slice::from_mut(&mut slot)).unwrap_err();
            assert!(matches!(error, EngineError::Infer { .. }), "{error}");
            assert!(error.to_string().contains("196608 preprocessed values"), "{error}");
        }
    });
}

#[test]
fn whole_levels_count_as_the_same_numbers_do() {
    on_every_engine(&model("tiny.onnx"), (256, 256), |engine| {
        let expected = density(&count(engine, 1)).to_vec();
        let numbers = picture(engine, 1);
        let numbers = numbers.input.values().expect("made for values");
        let mut slot = Slot::preprocessed_for(engine);
        assert_eq!(matches!(slot.input, Input::Levels(_)), engine.takes_levels());
        assert!(engine.takes_levels() || matches!(slot.input, Input::Values(_)));
        slot.input.set_levels(|at| numbers[at] as u8);
        engine.lane().expect("a lane").infer(std::slice::from_mut(&mut slot)).expect("inference");
        assert_eq!(density(&slot), expected, "{}", engine.info().kind);
        // Between two levels, an engine may take the nearer one: the count is nearly the same.
        let mut slot = picture(engine, 1);
        values(&mut slot).iter_mut().for_each(|value| *value = (*value + 0.4).min(255.0));
        engine.lane().expect("a lane").infer(std::slice::from_mut(&mut slot)).expect("inference");
        assert_close(slot.output.total(), sum(expected), 0.02, engine.info().kind.name());
    });
}

#[test]
fn picture_that_is_no_number_is_an_error_and_the_lane_goes_on() {
    on_every_engine(&model("tiny.onnx"), (256, 256), |engine| {
        let mut lane = engine.lane().expect("a lane");
        let mut slot = picture(engine, 0);
        values(&mut slot).fill(f32::NAN);
        // An engine may make a number of it (a rectifier takes the larger of 0 and NaN), but must
        // not hand NaN on.
        if lane.infer(std::slice::from_mut(&mut slot)).is_ok() {
            assert!(density(&slot).iter().all(|cell| cell.is_finite()));
        }
        let mut slot = picture(engine, 0);
        lane.infer(std::slice::from_mut(&mut slot)).expect("an inference");
        assert_close(slot.output.total(), expected()[0].count, FP32, engine.info().kind.name());
    });
}

#[test]
fn engine_says_what_it_is() {
    on_every_engine(&model("tiny.json"), (384, 256), |engine| {
        let info = engine.info();
        assert!(
            info.version.split('.').count() >= 2
                && info.version.starts_with(|c: char| c.is_ascii_digit()),
            "{info:?}"
        );
        assert_eq!((info.model.as_str(), info.precision.as_str()), ("tiny", "fp32"));
        assert_eq!(
            (info.input.width, info.input.height, info.columns, info.rows),
            (384, 256, 48, 32)
        );
        assert!(info.lanes >= 1 && !info.device.is_empty(), "{info:?}");
    });
}
