//! What is gathered over a window: times, sums, and how the counts are distributed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LevelShares, WindowRecord};
use crate::region::Level;

/// Counts are told apart by this share of themselves when their distribution is kept, and by
/// [`FINEST`] below 5 vehicles, so that memory does not grow with time.
pub const RESOLUTION: f64 = 0.01;

/// The finest step in which counts are told apart.
pub const FINEST: f64 = 0.05;

/// The step of the distribution that a count falls into.
pub(super) fn step(count: f64) -> u32 {
    let from = FINEST / RESOLUTION;
    if count < from {
        return (count.max(0.0) / FINEST).round() as u32;
    }
    (from / FINEST + (count / from).ln() / (1.0 + RESOLUTION).ln()).round() as u32
}

/// The count that a step stands for.
pub(super) fn count_of(step: u32) -> f64 {
    let from = FINEST / RESOLUTION;
    let above = f64::from(step) - from / FINEST;
    if above < 0.0 { f64::from(step) * FINEST } else { from * (1.0 + RESOLUTION).powf(above) }
}

/// A count and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HeldCount {
    pub(super) count: f64,
    pub(super) level: Level,
    pub(super) stale: bool,
}

/// What one window has gathered of one frame or region. That of a longer window is the sum of those
/// of the shorter ones in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub(super) covered: f64,
    stale: f64,
    /// Vehicles times seconds.
    sum: f64,
    max: f64,
    levels: LevelShares,
    /// Seconds by step of the count.
    pub(super) steps: BTreeMap<u32, f64>,
}

impl Tally {
    /// A count held for so many seconds.
    pub(super) fn add(&mut self, held: &HeldCount, seconds: f64) {
        self.covered += seconds;
        self.stale += if held.stale { seconds } else { 0.0 };
        self.sum += held.count * seconds;
        self.max = self.max.max(held.count);
        *self.levels.of_mut(held.level) += seconds;
        *self.steps.entry(step(held.count)).or_default() += seconds;
    }

    /// What another part of the window has gathered.
    pub(super) fn merge(&mut self, other: &Self) {
        self.covered += other.covered;
        self.stale += other.stale;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        self.levels.free += other.levels.free;
        self.levels.moderate += other.levels.moderate;
        self.levels.dense += other.levels.dense;
        self.levels.jammed += other.levels.jammed;
        for (step, seconds) in &other.steps {
            *self.steps.entry(*step).or_default() += seconds;
        }
    }

    /// The record of the window of that length and start, where something was counted in it.
    pub(super) fn record(
        &self,
        camera: &str,
        region: Option<&str>,
        window: u32,
        start: u64,
    ) -> Option<WindowRecord> {
        if self.covered <= 0.0 {
            return None;
        }
        let share = |seconds: f64| seconds / self.covered;
        Some(WindowRecord {
            camera: camera.to_owned(),
            region: region.map(str::to_owned),
            start,
            window,
            covered: self.covered,
            stale: share(self.stale),
            mean: share(self.sum),
            max: self.max,
            p95: self.p95(),
            levels: LevelShares {
                free: share(self.levels.free),
                moderate: share(self.levels.moderate),
                dense: share(self.levels.dense),
                jammed: share(self.levels.jammed),
            },
        })
    }

    fn p95(&self) -> f64 {
        let mut below = 0.0;
        let reached = self.steps.iter().find(|(_, seconds)| {
            below += **seconds;
            below >= 0.95 * self.covered * (1.0 - 1e-9)
        });
        reached.map_or(0.0, |(step, _)| count_of(*step).min(self.max))
    }
}
