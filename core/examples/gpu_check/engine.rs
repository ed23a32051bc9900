//! The engine: opened, compared with its golden picture, and counting in regions.

use std::iter;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use vehiclecount_core::cuda::Context;
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::engine::{self, Engine, EngineKind, EngineRequest, Output, Slot};
use vehiclecount_core::golden::Reference;
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::region::Coverage;
use vehiclecount_core::tensorrt;

use super::picture::Frames;
use super::{Failure, Options};

/// Opens the engine, building its plan if there is none, and compares its count with what is known.
pub(super) fn open(
    options: &Options,
    faults: &mut Vec<String>,
) -> Result<(Arc<dyn Engine>, Value), Failure> {
    let model = Arc::new(Model::open(&options.model, &model::folders())?);
    let request = EngineRequest {
        max_batch: options.max_batch,
        gpu: options.gpu,
        name: "gpu-check".to_owned(),
        ..EngineRequest::new(EngineKind::TensorRt, model.clone())
    };
    let since = Instant::now();
    let engine = engine::open_unchecked(&request, EngineKind::TensorRt)?;
    let opened = since.elapsed().as_secs_f64();
    let info = engine.info().clone();
    let file = info
        .precision
        .parse::<tensorrt::Precision>()
        .ok()
        .and_then(|precision| precision.file(&model));
    let mut golden = Value::Null;
    if let Some(reference) = file.map(|file| Reference::read(&model, file)).transpose()?.flatten() {
        let comparison = reference.in_precision(&info.precision).compare(&*engine)?;
        if !comparison.agrees() {
            faults.push(format!(
                "the golden picture counts {:.3}, where {:?} is expected",
                comparison.count, comparison.expected
            ));
        }
        golden = json!({
            "count": comparison.count,
            "expected": comparison.expected.count,
            "tolerance": comparison.expected.tolerance,
        });
    }
    let value = json!({
        "model": info.model,
        "library": info.version,
        "device": info.device,
        "precision": info.precision,
        "precision-choice": info.choice,
        "input": format!("{}x{}", info.input.width, info.input.height),
        "opened-in-seconds": opened,
        "golden": golden,
    });
    Ok((engine, value))
}

/// Regions counted on the GPU against their twin: the map of the same frames, weighed on the
/// processor.
pub(super) fn regions(
    engine: &Arc<dyn Engine>,
    context: &Arc<Context>,
    faults: &mut Vec<String>,
) -> Result<Value, Failure> {
    let mut frames = Frames::new(&**engine, context, 2)?;
    let mut lane = engine.lane()?;
    let info = engine.info();
    let grid = frames.placement.grid(info.columns, info.rows);
    let left = Coverage::new(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]], &grid);
    let wedge = Coverage::new(&[[0.2, 0.9], [0.5, 0.1], [0.9, 0.9]], &grid);
    let regions = [left, wedge];
    let weights = engine.weights(&regions).ok_or("the engine counts in no regions")??;
    lane.infer(frames.fill()?)?;
    let map = |slot: &Slot| slot.output.map().map(|cells| DensityMap { grid, cells: cells.into() });
    let maps: Vec<_> = frames.slots.iter().filter_map(map).collect();
    let mut largest = 0.0f64;
    // Plainly, recorded, and replayed.
    for _ in 0..3 {
        for slot in frames.fill()? {
            slot.weights = Some(weights.clone());
        }
        lane.infer(&mut frames.slots)?;
        for (slot, map) in frames.slots.iter_mut().zip(&maps) {
            let expected = [map.count(), regions[0].count(map), regions[1].count(map)];
            let Output::Sums { total, regions } = &slot.output else {
                faults.push("a map came, where sums were asked for".to_owned());
                continue;
            };
            let got: Vec<f64> = iter::once(total).chain(regions).copied().collect();
            for (got, expected) in got.iter().zip(expected) {
                largest = largest.max((got - expected).abs() / map.count().abs().max(1.0));
            }
            if got.len() != expected.len() {
                faults.push(format!(
                    "{} counts came, where {} were asked for",
                    got.len(),
                    expected.len()
                ));
            }
            slot.weights = None;
        }
    }
    // Two runs of the network itself may differ in FP16.
    if largest > 1e-3 {
        faults.push(format!("a region is off by {largest:e} of its frame's count"));
    }
    Ok(json!({ "largest-difference": largest, "bound": 1e-3 }))
}
