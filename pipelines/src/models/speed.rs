//! How fast the files of the models are on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use vehiclecount_core::engine::{self, Engine, EngineKind, EngineRequest, Slot};
use vehiclecount_core::model::{Model, Speed, Speeds};

use super::Line;
use crate::bench::median;
use crate::table::say;

/// Rounds in which all files take turns: a machine that grows slower meanwhile favours none.
const ROUNDS: u32 = 5;

/// A file on the engine that is the fastest that takes it here.
struct Candidate<'a> {
    line: &'a Line,
    engine: Arc<dyn Engine>,
    /// Images a second in each round.
    rates: Vec<f64>,
    /// Milliseconds for one picture in each round.
    latencies: Vec<f64>,
}

/// Measures all `lines` whose file is here, in turns.
pub(super) fn measure(lines: &[Line], seconds: f64) -> Result<Speeds> {
    let mut candidates = Vec::new();
    for line in lines.iter().filter(|line| line.size.is_some()) {
        match open(line) {
            Ok(engine) => candidates.push(Candidate {
                line,
                engine,
                rates: Vec::new(),
                latencies: Vec::new(),
            }),
            Err(error) => say(format_args!("{}: not measured: {error:#}", line.file)),
        }
    }
    let window = Duration::from_secs_f64(seconds / f64::from(ROUNDS) / 2.0);
    for round in 0..=ROUNDS {
        for candidate in &mut candidates {
            let latency = latency(&*candidate.engine, window)?;
            let rate = rate(&candidate.engine, window)?;
            // The first round warms up.
            if round > 0 {
                candidate.latencies.push(latency);
                candidate.rates.push(rate);
            }
        }
    }
    let speeds = candidates.into_iter().map(|mut candidate| Speed {
        file: candidate.line.file.clone(),
        width: candidate.line.input.width,
        height: candidate.line.input.height,
        engine: candidate.engine.info().kind.name().to_owned(),
        images_per_second: rounded(median(&mut candidate.rates)),
        milliseconds: rounded(median(&mut candidate.latencies)),
    });
    Ok(Speeds { date: today(), speeds: speeds.collect(), ..Speeds::here() })
}

/// The first engine of `auto`'s preference that takes the file of `line`.
fn open(line: &Line) -> Result<Arc<dyn Engine>> {
    let model = Arc::new(Model::open(&line.path.to_string_lossy(), &[])?);
    let mut reasons = Vec::new();
    for kind in EngineKind::preference().into_iter().filter(|kind| line.engines.contains(kind)) {
        let request = EngineRequest {
            input: Some(line.input),
            name: "models".to_owned(),
            max_batch: 1,
            ..EngineRequest::new(kind, model.clone())
        };
        match engine::open(&request) {
            Ok(opened) => return Ok(opened.engine),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(anyhow!("{}", reasons.join("; ")))
}

/// A slot with a picture of noise.
fn slot(engine: &dyn Engine) -> Slot {
    let mut slot = Slot::preprocessed_for(engine);
    let mut random = fastrand::Rng::with_seed(7);
    slot.input.set_levels(|_| random.u8(..));
    slot
}

/// Milliseconds for one picture with nothing beside it: the median within `window`.
fn latency(engine: &dyn Engine, window: Duration) -> Result<f64> {
    let (mut lane, mut slots) = (engine.lane()?, [slot(engine)]);
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || begin.elapsed() < window {
        let since = Instant::now();
        lane.infer(&mut slots)?;
        times.push(since.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&mut times))
}

/// Images a second with all lanes at work, for `window`.
fn rate(engine: &Arc<dyn Engine>, window: Duration) -> Result<f64> {
    let (counted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut lanes = Vec::new();
        for _ in 0..engine.info().lanes.max(1) {
            let (mut lane, mut slots) = (engine.lane()?, [slot(&**engine)]);
            let (counted, over) = (&counted, &over);
            lanes.push(scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    lane.infer(&mut slots)?;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, engine::EngineError>(())
            }));
        }
        let begin = Instant::now();
        thread::sleep(window);
        let images = counted.load(Ordering::Relaxed);
        let seconds = begin.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        for lane in lanes {
            lane.join().map_err(|_| anyhow!("a lane panicked"))??;
        }
        Ok(images as f64 / seconds)
    })
}

/// Three digits, as the measurement has.
fn rounded(value: f64) -> f64 {
    let scale = 10f64.powf(2.0 - value.abs().max(1e-9).log10().floor());
    (value * scale).round() / scale
}

pub(crate) fn today() -> String {
    let text = glib::DateTime::now_utc().and_then(|now| now.format("%F"));
    text.map_or_else(|_| "an unknown day".to_owned(), |text| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept() {
        let all = [1234.0, 12.345, 0.012345].map(rounded);
        assert_eq!(all, [1230.0, 12.3, 0.0123]);
    }
}
