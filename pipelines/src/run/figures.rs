//! Figures of a camera that are not told frame by frame: its pace, and what became of what the
//! counter took.

use std::time::{Duration, Instant};

use gst::prelude::*;

use super::board::Camera;

/// How often they are taken.
const PERIOD: Duration = Duration::from_secs(2);

/// Takes figures from the counter of a camera, whose own begin at zero with every pipeline.
pub struct Figures {
    counter: gst::Element,
    dropped_before: u64,
    failed_before: u64,
    inferred: u64,
    then: Instant,
    received: u64,
}

impl Figures {
    /// The figures of a pipeline that begins.
    pub fn new(counter: gst::Element, camera: &Camera, now: Instant) -> Self {
        let status = camera.status();
        Self {
            counter,
            dropped_before: status.dropped,
            failed_before: status.failed,
            inferred: 0,
            then: now,
            received: status.received,
        }
    }

    /// Puts them on the board, where it is time to.
    pub fn take(&mut self, camera: &Camera, now: Instant) {
        let elapsed = now.saturating_duration_since(self.then);
        if elapsed < PERIOD {
            return;
        }
        let [dropped, failed, inferred] = counted(&self.counter);
        let mut status = camera.status();
        status.fps = status.received.saturating_sub(self.received) as f64 / elapsed.as_secs_f64();
        status.dropped = self.dropped_before + dropped;
        status.failed = self.failed_before + failed;
        if inferred > self.inferred {
            // Also where counts come after their pictures have left.
            (status.progress, status.owed) = (Some(now), None);
            self.inferred = inferred;
        }
        (self.then, self.received) = (now, status.received);
    }
}

/// Frames of the counter's only camera that were dropped, failed, and were counted.
fn counted(counter: &gst::Element) -> [u64; 3] {
    let statistics = counter.property::<gst::Structure>("statistics");
    let cameras = statistics.get::<gst::Array>("cameras").ok();
    let camera = cameras.as_ref().and_then(|cameras| cameras.first());
    let camera = camera.and_then(|camera| camera.get::<gst::Structure>().ok());
    ["dropped", "failed", "inferred"].map(|name| {
        camera.as_ref().and_then(|camera| camera.get::<u64>(name).ok()).unwrap_or_default()
    })
}
