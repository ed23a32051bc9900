//! Kernels against their twins on the processor, and the time that they take.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vehiclecount_core::cuda::{Context, CountOrder, DeviceBuffer, Event, Kernels, Stream};
use vehiclecount_core::frame::{FrameView, PixelFormat, Plane};
use vehiclecount_core::preprocess::{InputSize, Preprocessor, Resize};

use super::Failure;
use super::picture::{Picture, noise};

/// How far a preprocessed sample may lie from the processor's, in levels of 255: the processor
/// works in fixed point, the GPU in f32.
const LEVELS: f32 = 0.05;

/// How far a sum may lie from the exact one, of the whole: f32 sums of thousands of cells.
const SUM: f64 = 1e-4;

/// Kernels against their twins on the processor, and the time that they take.
pub(super) fn kernels(
    context: &Arc<Context>,
    max_batch: usize,
    faults: &mut Vec<String>,
) -> Result<Value, Failure> {
    let kernels = Kernels::load(context)?;
    let input = InputSize { width: 384, height: 384 };
    let mut differences = serde_json::Map::new();
    for pixels in PixelFormat::ALL {
        let (mut pictures, mut expected, mut orders) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (width, height)) in
            [(1920, 1080), (641, 361), (300, 900)].into_iter().enumerate()
        {
            let picture = Picture::new(context, pixels, width, height, index)?;
            let views: Vec<_> = picture
                .planes
                .iter()
                .map(|(data, stride)| Plane { data, stride: *stride })
                .collect();
            let mut twin = Preprocessor::new(picture.format, Resize::Letterbox, input);
            let mut values = vec![0.0; input.values()];
            twin.run(&FrameView::new(picture.format, &views)?, &mut values);
            expected.extend(values);
            orders.push(picture.order(twin.placement(), index)?);
            pictures.push(picture);
        }
        let got = kernels.preprocess_now(&orders, input)?;
        let far = got
            .iter()
            .zip(&expected)
            .map(|(got, expected)| (got - expected).abs())
            .fold(0.0, f32::max);
        if far > LEVELS || got.iter().any(|value| !value.is_finite()) {
            faults.push(format!(
                "{pixels:?} pictures lie {far} levels from the processor's, where {LEVELS} is the bound"
            ));
        }
        differences.insert(format!("{pixels:?}"), json!(far));
    }
    let cells = 48 * 48;
    let density: Vec<f32> =
        noise(9, cells * 3).iter().map(|&value| f32::from(value) / 2550.0).collect();
    let counts = kernels.count_now(
        &[CountOrder::new(0, 0), CountOrder::new(0, 0), CountOrder::new(0, 0)],
        &density,
        cells,
    )?;
    for (map, count) in density.chunks_exact(cells).zip(&counts) {
        let exact: f64 = map.iter().map(|&cell| f64::from(cell)).sum();
        if (f64::from(count[0]) - exact).abs() > exact * SUM {
            faults.push(format!("a map of {exact} vehicles is counted as {}", count[0]));
        }
    }
    let batch = max_batch.min(32);
    let pictures: Result<Vec<_>, Failure> =
        (0..batch).map(|seed| Picture::new(context, PixelFormat::Nv12, 1920, 1080, seed)).collect();
    let pictures = pictures?;
    let placement = Preprocessor::new(pictures[0].format, Resize::Letterbox, input).placement();
    let orders: Result<Vec<_>, Failure> =
        pictures.iter().enumerate().map(|(slot, picture)| picture.order(placement, slot)).collect();
    let told = DeviceBuffer::holding(context, &orders?, "orders")?;
    let inputs = DeviceBuffer::new(context, 4 * input.values() * batch, "model inputs")?;
    let stream = Stream::new(context)?;
    let (begin, end) = (Event::new(context)?, Event::new(context)?);
    let mut best = Duration::MAX;
    for _ in 0..if max_batch < 16 { 3 } else { 50 } {
        begin.record(&stream)?;
        // SAFETY: the orders, the pictures that they name and the inputs live until the stream has
        // been waited for below.
        unsafe { kernels.preprocess(&stream, told.address(), batch, inputs.address(), input)? };
        end.record(&stream)?;
        stream.synchronize()?;
        best = best.min(end.since(&begin)?);
    }
    // What must move at the least: each picture once, each input once.
    let bytes = batch * (1920 * 1080 * 3 / 2 + 4 * input.values());
    Ok(json!({ "largest-difference-levels": differences, "bound-levels": LEVELS,
        "preprocess": {
            "from": "1920x1080 NV12", "to": "384x384", "batch": batch,
            "microseconds": best.as_secs_f64() * 1e6,
            "gigabytes-per-second": bytes as f64 / best.as_secs_f64() / 1e9,
        } }))
}
