//! So many pictures a second are counted (`--rate`), and those that no count needs are not decoded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::Mutex;

use super::tally::SharedTally;
use crate::source::{SILENCE, Skip, Turns};

/// Leaves compressed pictures out that are not counted. Nobody looks at any.
pub fn skip(rate: f64, seen: &SharedTally) -> Skip {
    let noted = seen.clone();
    // A camera of which nothing can be decoded is not heard.
    let trust = Duration::from_secs_f64(2.0 / rate) + SILENCE;
    let note = move || {
        let mut seen = noted.lock();
        seen.skipped += 1;
        seen.recent += 1;
        let now = Instant::now();
        if seen.decoded.is_some_and(|decoded| now.saturating_duration_since(decoded) < trust) {
            seen.last = Some(now);
        }
    };
    Skip { rate, is_paused: Arc::new(|| false), skipped: Arc::new(note) }
}

/// Lets `rate` pictures a second through to the counter behind `sink`.
pub fn thin(sink: &gst::Pad, rate: f64, seen: &SharedTally) {
    let seen = seen.clone();
    let turns = Mutex::new(Turns::new(rate));
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let time =
            info.buffer().and_then(|buffer| buffer.pts()).map(|time| time.nseconds() as f64 / 1e9);
        let is_due = time.is_none_or(|time| turns.lock().is_due(time, false));
        let mut seen = seen.lock();
        seen.decoded = Some(Instant::now());
        seen.last = seen.decoded;
        if is_due {
            return gst::PadProbeReturn::Ok;
        }
        seen.thinned += 1;
        seen.recent += 1;
        // Not `Drop`, which is for ends of streams, too.
        gst::PadProbeReturn::Handled
    });
}
