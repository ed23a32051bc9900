//! An engine in a loop, with nothing around it: what the whole plugin is measured against.
//!
//! ```text
//! cargo run --release -p vehiclecount-core --example bare_engine -- [ENGINE[:FILE.onnx]...] [--size WxH] [--seconds S] [--rounds N]
//! ```
//!
//! The engines take turns in rounds, so that whatever else the machine does hits all of them alike.
//! Each is driven by all of its lanes (frames/s, and the median time of a frame) and by one lane
//! alone (the time of a frame that has the machine to itself). The processor's time per frame
//! hardly depends on what else runs.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use vehiclecount_core::engine::{self, Engine, EngineRequest, Lane, Slot};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::InputSize;

struct Options {
    engines: Vec<(String, String)>,
    size: Option<InputSize>,
    seconds: f64,
    rounds: usize,
}

fn options() -> Result<Options, Box<dyn std::error::Error>> {
    let mut options = Options { engines: Vec::new(), size: None, seconds: 1.0, rounds: 5 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--size" => options.size = Some(value()?.parse()?),
            "--seconds" => options.seconds = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            engine => {
                let (kind, model) = engine.split_once(':').unwrap_or((engine, ""));
                options.engines.push((kind.to_owned(), model.to_owned()));
            }
        }
    }
    if options.engines.is_empty() {
        options.engines =
            ["openvino", "onnxruntime"].map(|kind| (kind.to_owned(), String::new())).into();
    }
    Ok(options)
}

/// An engine and what was measured of it, round by round.
struct Bench {
    name: String,
    engine: Arc<dyn Engine>,
    lanes: Vec<Box<dyn Lane>>,
    rates: Vec<f64>,
    busy: Vec<f64>,
    alone: Vec<f64>,
    processor: Vec<f64>,
}

/// Runs `lanes` for `seconds`. Times of all frames, and the time that passed.
fn drive(engine: &dyn Engine, lanes: &mut [Box<dyn Lane>], seconds: f64) -> (Vec<f64>, f64) {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let times = thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                scope.spawn(move || {
                    let mut slot = Slot::preprocessed_for(engine);
                    slot.input.set_levels(|index| (index * 7919 % 256) as u8);
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let begin = Instant::now();
                        lane.infer(std::slice::from_mut(&mut slot))
                            .expect("an engine that opened infers");
                        times.push(begin.elapsed().as_secs_f64());
                    }
                    times
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no lane panics")).collect()
    });
    (times, begin.elapsed().as_secs_f64())
}

/// Seconds that this process has spent on processors.
fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes `time`, which is of the type that it takes.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let mut benches = Vec::new();
    for (kind, model) in &options.engines {
        let model = Arc::new(Model::open(model, &model::folders())?);
        let request = EngineRequest {
            input: options.size,
            name: "bare-engine".to_owned(),
            ..EngineRequest::new(kind.parse()?, model)
        };
        let engine = engine::open(&request)?.engine;
        let info = engine.info();
        let InputSize { width, height } = info.input;
        let name = format!(
            "{} {} {} {width}x{height}, {} lanes",
            info.kind, info.version, info.precision, info.lanes
        );
        let mut lanes = (0..info.lanes).map(|_| engine.lane()).collect::<Result<Vec<_>, _>>()?;
        drive(&*engine, &mut lanes, 0.2);
        let (rates, busy, alone, processor) = Default::default();
        benches.push(Bench { name, engine, lanes, rates, busy, alone, processor });
    }
    for _ in 0..options.rounds {
        for bench in &mut benches {
            let before = processor_time();
            let (mut times, passed) = drive(&*bench.engine, &mut bench.lanes, options.seconds);
            bench.processor.push((processor_time() - before) / times.len() as f64);
            bench.rates.push(times.len() as f64 / passed);
            bench.busy.push(median(&mut times));
            let (mut times, _) =
                drive(&*bench.engine, &mut bench.lanes[..1], options.seconds / 2.0);
            bench.alone.push(median(&mut times));
        }
    }
    println!("median (best) of {} rounds", options.rounds);
    for bench in &mut benches {
        let best = bench.rates.iter().copied().fold(0.0, f64::max);
        println!(
            "{:45} {:6.1} ({best:.1}) frames/s, {:5.1} ms a frame with all lanes, {:5.1} ms with one, {:5.1} ms of processor",
            bench.name,
            median(&mut bench.rates),
            median(&mut bench.busy) * 1e3,
            median(&mut bench.alone) * 1e3,
            median(&mut bench.processor) * 1e3,
        );
    }
    Ok(())
}
