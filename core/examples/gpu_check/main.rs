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

mod engine;
mod kernels;
mod load;
mod picture;

use std::process::ExitCode;

use serde_json::{Value, json};
use vehiclecount_core::cuda::Driver;
use vehiclecount_core::engine::EngineError;
use vehiclecount_core::tensorrt;

type Failure = Box<dyn std::error::Error + Send + Sync>;

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
        let card = json!({
            "name": device.name,
            "compute-capability": format!("{major}.{minor}"),
            "memory-bytes": device.memory,
            "multiprocessors": device.multiprocessors,
            "driver-cuda": driver.cuda_version(),
        });
        context = Some(found);
        Ok(card)
    });
    if let Some(context) = &context {
        report.part("kernels", |faults| kernels::kernels(context, options.max_batch, faults));
        let mut opened = None;
        report.part("engine", |faults| {
            let (engine, value) = engine::open(&options, faults)?;
            opened = Some(engine);
            Ok(value)
        });
        if let Some(engine) = &opened {
            report.part("regions", |faults| engine::regions(engine, context, faults));
            report.part("throughput", |_| load::throughput(engine, context, &options));
            report.part("leaks", |faults| load::leaks(engine, context, options.batches, faults));
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
