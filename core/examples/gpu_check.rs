//! The GPU path on a machine that has a GPU: does it count right, how fast is it, does it leak?
//! `./run gpu-check` runs it.
//!
//! ```text
//! gpu_check [--model MODEL] [--gpu INDEX] [--max-batch N] [--seconds S] [--batches N] [--out FILE]
//! ```
//!
//! It needs the driver and, for the engine, TensorRT; neither GStreamer nor a compiler. Every part
//! is tried, and what fails is said in the JSON that it writes, which bears the card's name. The
//! exit code is 0 if nothing failed, 3 if nothing failed and TensorRT is not there, so that no
//! network ran (`skipped`), else 1.

use std::any::Any;
use std::iter;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vehiclecount_core::cuda::{
    Context, CountOrder, DeviceBuffer, Driver, Event, Kernels, PictureOrder, Stream,
};
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::engine::{
    self, Engine, EngineError, EngineKind, EngineRequest, Output, Slot,
};
use vehiclecount_core::frame::{
    ColorMatrix, ColorRange, FrameFormat, FrameView, PixelFormat, Plane,
};
use vehiclecount_core::golden::Reference;
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputSize, Placement, Preprocessor, Resize};
use vehiclecount_core::region::Coverage;
use vehiclecount_core::tensorrt;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Batches for which throughput is measured.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// How far a preprocessed sample may lie from the processor's, in levels of 255: the processor
/// works in fixed point, the GPU in f32.
const LEVELS: f32 = 0.05;

/// How far a sum may lie from the exact one, of the whole: f32 sums of thousands of cells.
const SUM: f64 = 1e-4;

struct Options {
    model: String,
    gpu: u32,
    /// Throughput is measured up to it.
    max_batch: usize,
    seconds: f64,
    batches: usize,
    out: Option<String>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        model: String::new(),
        gpu: 0,
        max_batch: 64,
        seconds: 1.0,
        batches: 10_000,
        out: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--model" => options.model = value,
            "--gpu" => options.gpu = value.parse()?,
            "--max-batch" => options.max_batch = value.parse::<usize>()?.max(4),
            "--seconds" => options.seconds = value.parse()?,
            "--batches" => options.batches = value.parse()?,
            "--out" => options.out = Some(value),
            _ => {
                return Err(format!(
                    "{argument} is not one of --model, --gpu, --max-batch, --seconds, --batches and --out"
                )
                .into());
            }
        }
    }
    Ok(options)
}

/// What was found, and what failed.
struct Report {
    parts: serde_json::Map<String, Value>,
    failures: Vec<String>,
    /// Parts for which something is not on this machine.
    skipped: Vec<String>,
}

impl Report {
    /// Tries a part; its failure is one line, and the next part is tried.
    fn part(&mut self, name: &str, part: impl FnOnce(&mut Vec<String>) -> Result<Value, Failure>) {
        eprintln!("{name} ...");
        let mut faults = Vec::new();
        match part(&mut faults) {
            Ok(value) => {
                self.parts.insert(name.to_owned(), value);
            }
            Err(error) if error.downcast_ref().is_some_and(EngineError::is_absence) => {
                eprintln!("  skipped: {error}");
                self.skipped.push(format!("{name}: {error}"));
            }
            Err(error) => faults.push(error.to_string()),
        }
        for fault in faults {
            eprintln!("  FAILED: {fault}");
            self.failures.push(format!("{name}: {fault}"));
        }
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("gpu_check: {error}");
            return ExitCode::from(2);
        }
    };
    let mut report =
        Report { parts: serde_json::Map::new(), failures: Vec::new(), skipped: Vec::new() };
    let mut context = None;
    report.part("card", |_| {
        let driver = Driver::open()?;
        let found = driver.context(options.gpu)?;
        let device = found.device();
        let (major, minor) = device.compute_capability;
        let card = json!({ "name": device.name, "compute-capability": format!("{major}.{minor}"), "memory-bytes": device.memory,
            "multiprocessors": device.multiprocessors, "driver-cuda": driver.cuda_version() });
        context = Some(found);
        Ok(card)
    });
    if let Some(context) = &context {
        report.part("kernels", |faults| kernels(context, options.max_batch, faults));
        let mut opened = None;
        report.part("engine", |faults| {
            let (engine, value) = open(&options, faults)?;
            opened = Some(engine);
            Ok(value)
        });
        if let Some(engine) = &opened {
            report.part("regions", |faults| regions(engine, context, faults));
            report.part("throughput", |_| throughput(engine, context, &options));
            report.part("leaks", |faults| leaks(engine, context, options.batches, faults));
        }
    }
    report.parts.insert("program".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    report.parts.insert("tensorrt-headers".to_owned(), json!(tensorrt::headers()));
    report.parts.insert("skipped".to_owned(), json!(report.skipped));
    report.parts.insert("failures".to_owned(), json!(report.failures));
    let text = format!("{:#}\n", Value::Object(report.parts));
    match &options.out {
        Some(path) => {
            if let Err(error) = std::fs::write(path, text) {
                eprintln!("gpu_check: {path}: {error}");
                return ExitCode::FAILURE;
            }
        }
        None => print!("{text}"),
    }
    match (report.failures.is_empty(), report.skipped.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

/// Bytes that look like nothing.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A picture on the GPU, and in host memory.
struct Picture {
    format: FrameFormat,
    planes: Vec<(Vec<u8>, usize)>,
    device: Vec<(Arc<DeviceBuffer>, usize)>,
}

impl Picture {
    fn new(
        context: &Arc<Context>,
        pixels: PixelFormat,
        width: usize,
        height: usize,
        seed: usize,
    ) -> Result<Self, Failure> {
        let format = FrameFormat {
            matrix: ColorMatrix::Bt709,
            range: ColorRange::Limited,
            ..FrameFormat::new(pixels, width, height)
        };
        let (mut planes, mut device) = (Vec::new(), Vec::new());
        for plane in 0..pixels.planes() {
            let (samples, rows, size) = format.plane_size(plane);
            let stride = samples * size;
            let bytes = noise(seed + plane, stride * rows);
            device.push((Arc::new(DeviceBuffer::holding(context, &bytes, "a plane")?), stride));
            planes.push((bytes, stride));
        }
        Ok(Self { format, planes, device })
    }

    /// Addresses, strides and lengths on the GPU.
    fn on_device(&self) -> Vec<(u64, usize, usize)> {
        self.device
            .iter()
            .map(|(buffer, stride)| (buffer.address(), *stride, buffer.bytes()))
            .collect()
    }

    fn order(&self, placement: Placement, slot: usize) -> Result<PictureOrder, Failure> {
        Ok(PictureOrder::new(self.format, placement, &self.on_device(), slot)?)
    }
}

/// Kernels against their twins on the processor, and the time that they take.
fn kernels(
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
        "preprocess": { "from": "1920x1080 NV12", "to": "384x384", "batch": batch, "microseconds": best.as_secs_f64() * 1e6,
            "gigabytes-per-second": bytes as f64 / best.as_secs_f64() / 1e9 } }))
}

/// Opens the engine, building its plan if there is none, and compares its count with what is known.
fn open(options: &Options, faults: &mut Vec<String>) -> Result<(Arc<dyn Engine>, Value), Failure> {
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
        golden = json!({ "count": comparison.count, "expected": comparison.expected.count, "tolerance": comparison.expected.tolerance });
    }
    let value = json!({ "model": info.model, "library": info.version, "device": info.device, "precision": info.precision, "precision-choice": info.choice,
        "input": format!("{}x{}", info.input.width, info.input.height), "opened-in-seconds": opened, "golden": golden });
    Ok((engine, value))
}

/// Slots of pictures that lie on the GPU.
struct Frames {
    pictures: Vec<Picture>,
    slots: Vec<Slot>,
    placement: Placement,
}

impl Frames {
    fn new(engine: &dyn Engine, context: &Arc<Context>, batch: usize) -> Result<Self, Failure> {
        let pictures: Result<Vec<_>, Failure> = (0..batch)
            .map(|seed| Picture::new(context, PixelFormat::Nv12, 1280, 720, seed))
            .collect();
        let pictures = pictures?;
        let placement =
            Preprocessor::new(pictures[0].format, Resize::Letterbox, engine.info().input)
                .placement();
        let slots = (0..batch).map(|_| Slot::best_for(engine)).collect();
        Ok(Self { pictures, slots, placement })
    }

    /// Puts the pictures into the slots, as a camera's frames come.
    fn fill(&mut self) -> Result<&mut [Slot], Failure> {
        for (slot, picture) in self.slots.iter_mut().zip(&self.pictures) {
            let room = slot.input.picture_mut().ok_or("the engine takes no pictures")?;
            let keep: Vec<_> = picture.device.iter().map(|(buffer, _)| buffer.clone()).collect();
            let keep: Box<dyn Any + Send> = Box::new(keep);
            // SAFETY: the planes are those of the buffers that `keep` keeps.
            unsafe { room.lend(picture.format, self.placement, &picture.on_device(), None, keep)? };
        }
        Ok(&mut self.slots)
    }
}

/// Regions counted on the GPU against their twin: the map of the same frames, weighed on the
/// processor.
fn regions(
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

fn quantile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

/// Frames per second from pictures on the GPU with all lanes, and the time of a batch with one.
fn throughput(
    engine: &Arc<dyn Engine>,
    context: &Arc<Context>,
    options: &Options,
) -> Result<Value, Failure> {
    let seconds = options.seconds;
    let mut rows = Vec::new();
    for batch in BATCHES.into_iter().filter(|&batch| batch <= options.max_batch) {
        let mut lane = engine.lane()?;
        let mut frames = Frames::new(&**engine, context, batch)?;
        // Plans, graphs and clocks are warm after some.
        for _ in 0..10 {
            lane.infer(frames.fill()?)?;
        }
        let mut times = Vec::new();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while times.len() < 10 || Instant::now() < until {
            let since = Instant::now();
            lane.infer(frames.fill()?)?;
            times.push(since.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        drop((lane, frames));
        let done = AtomicUsize::new(0);
        let work = || -> Result<(), Failure> {
            let mut lane = engine.lane()?;
            let mut frames = Frames::new(&**engine, context, batch)?;
            lane.infer(frames.fill()?)?;
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                lane.infer(frames.fill()?)?;
                done.fetch_add(batch, Ordering::Relaxed);
            }
            Ok(())
        };
        let since = Instant::now();
        let results: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = (0..engine.info().lanes).map(|_| scope.spawn(work)).collect();
            all.into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err("a lane panicked".into())))
                .collect()
        });
        // The lanes' own beginning is in it, which makes it a little less than it is.
        let taken = since.elapsed().as_secs_f64();
        results.into_iter().collect::<Result<(), Failure>>()?;
        let rate = done.load(Ordering::Relaxed) as f64 / taken;
        eprintln!(
            "  batch {batch:>2}: {rate:>9.0} frames/s, {:.3} ms a batch",
            quantile(&times, 0.5)
        );
        rows.push(json!({ "batch": batch, "lanes": engine.info().lanes, "frames-per-second": rate,
            "one-lane": { "median-ms": quantile(&times, 0.5), "p99-ms": quantile(&times, 0.99), "batches": times.len() } }));
    }
    Ok(json!({ "frames": "1280x720 NV12 on the GPU", "rows": rows }))
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Many batches, with lanes that come and go among them: memory must stay as it is.
fn leaks(
    engine: &Arc<dyn Engine>,
    context: &Arc<Context>,
    batches: usize,
    faults: &mut Vec<String>,
) -> Result<Value, Failure> {
    let mut frames = Frames::new(&**engine, context, 4)?;
    let mut run = |count: usize| -> Result<(), Failure> {
        for round in 0..count.div_ceil(500) {
            let mut lane = engine.lane()?;
            for _ in round * 500..count.min((round + 1) * 500) {
                lane.infer(frames.fill()?)?;
            }
        }
        Ok(())
    };
    run(batches / 10 + 1)?;
    let (free, before) = (context.memory()?.0, resident());
    run(batches)?;
    let (left, after) = (context.memory()?.0, resident());
    let (device, host) = (free as i64 - left as i64, after as i64 - before as i64);
    // Pools of driver and allocator move a little; what leaks with every batch moves far.
    for (what, grown, bound) in [("GPU", device, 16 << 20), ("host", host, 32 << 20)] {
        if grown > bound {
            faults.push(format!("{what} memory grew by {grown} bytes over {batches} batches"));
        }
    }
    Ok(json!({ "batches": batches, "gpu-bytes-grown": device, "host-bytes-grown": host }))
}
