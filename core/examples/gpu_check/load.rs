//! Many batches: how fast they are counted, and whether memory stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vehiclecount_core::cuda::Context;
use vehiclecount_core::engine::Engine;

use super::picture::Frames;
use super::{Failure, Options};

/// Batches for which throughput is measured.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

fn quantile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

/// Frames per second from pictures on the GPU with all lanes, and the time of a batch with one.
pub(super) fn throughput(
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
            "one-lane": {
                "median-ms": quantile(&times, 0.5), "p99-ms": quantile(&times, 0.99),
                "batches": times.len(),
            } }));
    }
    Ok(json!({ "frames": "1280x720 NV12 on the GPU", "rows": rows }))
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Many batches, with lanes that come and go among them: memory must stay as it is.
pub(super) fn leaks(
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
