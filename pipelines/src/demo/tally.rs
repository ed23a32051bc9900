//! What is seen of one camera behind the counter.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use gst::prelude::*;
use gstvehiclecount::meta;
use parking_lot::{Mutex, MutexGuard};
use vehiclecount_core::report::FrameReport;

use crate::server::Truths;

/// What was seen so far.
#[derive(Default)]
pub struct Tally {
    /// When the last frame came.
    pub last: Option<Instant>,
    /// When the last frame came that was decoded, where not all are.
    pub decoded: Option<Instant>,
    /// What the last frame said.
    pub report: Option<FrameReport>,
    /// Frames, and those of them that carried a count, and those without one of their own.
    pub frames: u64,
    pub counted: u64,
    pub stale: u64,
    /// Frames that came and were not to be counted (`--rate`), not decoded and decoded; they are
    /// not among `frames`.
    pub skipped: u64,
    pub thinned: u64,
    /// Frames since the table was last drawn, those that were left out among them.
    pub recent: u64,
    /// Sums over frames whose truth is known: frames, absolute error, error, truth.
    pub errors: (u64, f64, f64, f64),
}

/// Shared with the streaming thread.
#[derive(Clone, Default)]
pub struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock()
    }

    /// Notes what leaves the counter on `src_{index}`. `frame` is the distance of frames in
    /// seconds.
    pub fn watch(
        &self,
        counter: &gst::Element,
        index: usize,
        truths: Option<Truths>,
        frame: f64,
    ) -> Result<()> {
        let pad = counter
            .static_pad(&format!("src_{index}"))
            .context("each sink pad has its source pad")?;
        let seen = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(report) = info.buffer().and_then(|buffer| meta::count::read(buffer)) {
                let capture = report.capture_time.zip(truths.as_ref());
                let truth = capture.and_then(|(time, truths)| truths.at(time as f64 / 1e9, frame));
                seen.lock().note(report, truth);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }
}

impl Tally {
    fn note(&mut self, report: FrameReport, truth: Option<u32>) {
        if let (Some(truth), Some(count)) = (truth, report.count.filter(|_| !report.stale)) {
            let error = count.raw - f64::from(truth);
            let (frames, absolute, sum, truths) = self.errors;
            self.errors =
                (frames + 1, absolute + error.abs(), sum + error, truths + f64::from(truth));
        }
        self.frames += 1;
        self.recent += 1;
        self.counted += u64::from(report.count.is_some());
        self.stale += u64::from(report.stale);
        self.last = Some(Instant::now());
        self.report = Some(report);
    }
}
