//! How fast frames are counted, and the processor time that they take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::turns::Sample;

/// Before each measurement: what waited meanwhile has gone, and the caches are warm.
pub(super) const LEAD: Duration = Duration::from_millis(300);

/// What a measurement gives.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    /// Frames a second.
    pub frames: f64,
    /// Seconds of processor time a frame; what else runs on the machine hardly changes it.
    pub processor: f64,
}

impl From<Rate> for Sample {
    fn from(rate: Rate) -> Self {
        Self { value: rate.frames, processor: Some(rate.processor) }
    }
}

/// How fast `counted` grows, and what that takes.
pub(super) fn rate(counted: &AtomicU64, window: Duration) -> Rate {
    thread::sleep(LEAD);
    let (begin, before, busy) = (Instant::now(), counted.load(Ordering::Relaxed), processor_time());
    thread::sleep(window);
    let frames = (counted.load(Ordering::Relaxed) - before) as f64;
    Rate {
        frames: frames / begin.elapsed().as_secs_f64(),
        processor: (processor_time() - busy) / frames.max(1.0),
    }
}

/// Seconds that this process has kept processors busy; zero where the system does not say.
pub(super) fn processor_time() -> f64 {
    processor_time_of(std::process::id())
}

/// The same of another process.
pub(super) fn processor_time_of(id: u32) -> f64 {
    // proc(5): user and system time are fields 14 and 15, in ticks, of which Linux has 100 a second
    // wherever it counts for users. The second field, the program's name in parentheses, may have
    // spaces inside.
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Sorts, too.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
