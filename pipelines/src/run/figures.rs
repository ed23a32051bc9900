//! Figures of a camera that are not told frame by frame: its pace, and what the counter dropped.

use std::time::{Duration, Instant};

use gst::prelude::*;

use super::board::Camera;

/// How often they are taken.
const PERIOD: Duration = Duration::from_secs(2);

/// Takes figures from the counter of a camera, whose own begin at zero with every pipeline.
pub struct Figures {
    counter: gst::Element,
    dropped_before: u64,
    then: Instant,
    received: u64,
}

impl Figures {
    /// The figures of a pipeline that begins.
    pub fn new(counter: gst::Element, camera: &Camera, now: Instant) -> Self {
        let status = camera.status();
        Self { counter, dropped_before: status.dropped, then: now, received: status.received }
    }

    /// Puts them on the board, where it is time to.
    pub fn take(&mut self, camera: &Camera, now: Instant) {
        let elapsed = now.saturating_duration_since(self.then);
        if elapsed < PERIOD {
            return;
        }
        let dropped = dropped(&self.counter);
        let mut status = camera.status();
        status.fps = status.received.saturating_sub(self.received) as f64 / elapsed.as_secs_f64();
        status.dropped = self.dropped_before + dropped;
        (self.then, self.received) = (now, status.received);
    }
}

/// Frames that the counter's only camera lost.
fn dropped(counter: &gst::Element) -> u64 {
    let statistics = counter.property::<gst::Structure>("statistics");
    let cameras = statistics.get::<gst::Array>("cameras").ok();
    let camera = cameras.as_ref().and_then(|cameras| cameras.first());
    let camera = camera.and_then(|camera| camera.get::<gst::Structure>().ok());
    camera.and_then(|camera| camera.get::<u64>("dropped").ok()).unwrap_or_default()
}
