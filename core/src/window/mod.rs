//! What was counted over windows of time: 10 s, 1 min, 15 min, 1 h, each aligned to its length
//! since 1970 (UTC).
//!
//! A count holds until the next one comes, but not longer than a given time. What lies between is
//! not covered: it is a gap, and never counts as zero vehicles. A window of which nothing is
//! covered has no record. All times are arguments, seconds since 1970.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::count::Counts;
use crate::region::Level;

/// Lengths of the windows, seconds.
pub const WINDOWS: [u32; 4] = [10, 60, 15 * 60, 60 * 60];

/// What was counted in one window on one camera, in its whole frame or in one region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WindowRecord {
    /// The camera.
    pub camera: String,
    /// The region; absent: the whole frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where the window begins, seconds since 1970 (UTC).
    pub start: u64,
    /// Its length, seconds.
    pub window: u32,
    /// Seconds of it for which there was a count. All else here is about those alone.
    pub covered: f64,
    /// Share of the covered time whose count was stale.
    pub stale: f64,
    /// Mean number of vehicles over the covered time.
    pub mean: f64,
    /// The highest count.
    pub max: f64,
    /// For 95 % of the covered time there were at most so many vehicles, to within [`RESOLUTION`].
    pub p95: f64,
    /// Share of the covered time by level; the shares add up to 1.
    pub levels: LevelShares,
}

/// Share of time by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelShares {
    /// Of [`Level::Free`].
    pub free: f64,
    /// Of [`Level::Moderate`].
    pub moderate: f64,
    /// Of [`Level::Dense`].
    pub dense: f64,
    /// Of [`Level::Jammed`].
    pub jammed: f64,
}

impl LevelShares {
    fn of_mut(&mut self, level: Level) -> &mut f64 {
        match level {
            Level::Free => &mut self.free,
            Level::Moderate => &mut self.moderate,
            Level::Dense => &mut self.dense,
            Level::Jammed => &mut self.jammed,
        }
    }
}

/// Counts are told apart by this share of themselves when their distribution is kept, and by
/// [`FINEST`] below 5 vehicles, so that memory does not grow with time.
pub const RESOLUTION: f64 = 0.01;

/// The finest step in which counts are told apart.
pub const FINEST: f64 = 0.05;

/// Times that are out of order by less than this, seconds, are no clock that was set back.
pub const SLACK: f64 = 5.0;

/// The step of the distribution that a count falls into.
fn step(count: f64) -> u32 {
    let from = FINEST / RESOLUTION;
    if count < from {
        return (count.max(0.0) / FINEST).round() as u32;
    }
    (from / FINEST + (count / from).ln() / (1.0 + RESOLUTION).ln()).round() as u32
}

/// The count that a step stands for.
fn count_of(step: u32) -> f64 {
    let from = FINEST / RESOLUTION;
    let above = f64::from(step) - from / FINEST;
    if above < 0.0 { f64::from(step) * FINEST } else { from * (1.0 + RESOLUTION).powf(above) }
}

/// A count and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct HeldCount {
    count: f64,
    level: Level,
    stale: bool,
}

/// What one window has gathered of one frame or region.
#[derive(Clone, Debug, Default)]
struct Tally {
    covered: f64,
    stale: f64,
    /// Vehicles times seconds.
    sum: f64,
    max: f64,
    levels: LevelShares,
    /// Seconds by step of the count.
    steps: BTreeMap<u32, f64>,
}

impl Tally {
    fn add(&mut self, held: &HeldCount, seconds: f64) {
        self.covered += seconds;
        self.stale += if held.stale { seconds } else { 0.0 };
        self.sum += held.count * seconds;
        self.max = self.max.max(held.count);
        *self.levels.of_mut(held.level) += seconds;
        *self.steps.entry(step(held.count)).or_default() += seconds;
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

/// The windows of one frame or region.
#[derive(Clone, Debug)]
struct Track {
    region: Option<String>,
    held: Option<HeldCount>,
    gathered: [Tally; WINDOWS.len()],
}

/// The windows of one camera.
#[derive(Clone, Debug)]
pub struct Windows {
    camera: String,
    /// How long a count holds, seconds.
    hold: f64,
    tracks: Vec<Track>,
    /// Up to here all is gathered.
    now: Option<f64>,
    /// When the held counts come to their end.
    until: f64,
}

impl Windows {
    /// Windows of a camera with these regions, whose counts hold for `hold` seconds at most.
    pub fn new(camera: &str, regions: &[String], hold: f64) -> Self {
        let names = std::iter::once(None).chain(regions.iter().cloned().map(Some));
        let track = |region| Track { region, held: None, gathered: Default::default() };
        Self {
            camera: camera.to_owned(),
            hold,
            tracks: names.map(track).collect(),
            now: None,
            until: 0.0,
        }
    }

    /// Takes in what was counted at `time`, `regions` in their order. Gives the records of the
    /// windows that have ended.
    pub fn count(&mut self, time: f64, counts: &Counts, stale: bool) -> Vec<WindowRecord> {
        let records = self.advance(time);
        let known = counts.all().map(Some).chain(std::iter::repeat(None));
        for (track, counted) in self.tracks.iter_mut().zip(known) {
            track.held = counted.map(|counted| HeldCount {
                count: counted.raw,
                level: counted.level,
                stale,
            });
        }
        self.until = time + self.hold;
        records
    }

    /// There is no count from `time` on: the camera is lost. Gives what [`count`](Self::count)
    /// gives.
    pub fn lose(&mut self, time: f64) -> Vec<WindowRecord> {
        let records = self.advance(time);
        for track in &mut self.tracks {
            track.held = None;
        }
        records
    }

    /// Goes on to `time`. Gives the records of the windows that have ended, in the order of their
    /// ends. A clock that was set back ends all windows and begins anew; one that was set forward
    /// leaves a gap.
    pub fn advance(&mut self, time: f64) -> Vec<WindowRecord> {
        let mut records = Vec::new();
        let Some(mut now) = self.now else {
            self.now = Some(time);
            return records;
        };
        if time < now && now - time < SLACK {
            return records;
        }
        self.now = Some(time);
        if time < now {
            for index in 0..WINDOWS.len() {
                self.end(index, now, &mut records);
            }
            // What was held began at a time that does not exist any more.
            self.tracks.iter_mut().for_each(|track| track.held = None);
            return records;
        }
        while now < time {
            let next = next_end(now);
            // Nothing happens in a gap but that windows end, and none of them need to be gone
            // through.
            let covered = self.tracks.iter().any(|track| track.held.is_some()) && now < self.until;
            let to = match covered {
                true => time.min(next).min(self.until),
                false if self.is_empty() => time,
                false => time.min(next),
            };
            if covered {
                self.gather(to - now);
            }
            for (index, length) in WINDOWS.iter().enumerate() {
                if (to / f64::from(*length)).floor() > (now / f64::from(*length)).floor() {
                    self.end(index, now, &mut records);
                }
            }
            now = to;
        }
        records
    }

    /// Ends all windows where they are, as at the end of the service.
    pub fn finish(&mut self, time: f64) -> Vec<WindowRecord> {
        let mut records = self.lose(time);
        for index in 0..WINDOWS.len() {
            self.end(index, time, &mut records);
        }
        records
    }

    fn is_empty(&self) -> bool {
        self.tracks.iter().flat_map(|track| &track.gathered).all(|gathered| gathered.covered == 0.0)
    }

    fn gather(&mut self, seconds: f64) {
        for Track { held, gathered, .. } in &mut self.tracks {
            let Some(held) = held else { continue };
            gathered.iter_mut().for_each(|gathered| gathered.add(held, seconds));
        }
    }

    /// Makes the records of the window of length `index` that `time` lies in, where there is
    /// something in it.
    fn end(&mut self, index: usize, time: f64, records: &mut Vec<WindowRecord>) {
        let window = WINDOWS[index];
        for track in &mut self.tracks {
            let gathered = std::mem::take(&mut track.gathered[index]);
            if gathered.covered <= 0.0 {
                continue;
            }
            let share = |seconds: f64| seconds / gathered.covered;
            records.push(WindowRecord {
                camera: self.camera.clone(),
                region: track.region.clone(),
                start: (time / f64::from(window)).floor() as u64 * u64::from(window),
                window,
                covered: gathered.covered,
                stale: share(gathered.stale),
                mean: share(gathered.sum),
                max: gathered.max,
                p95: gathered.p95(),
                levels: LevelShares {
                    free: share(gathered.levels.free),
                    moderate: share(gathered.levels.moderate),
                    dense: share(gathered.levels.dense),
                    jammed: share(gathered.levels.jammed),
                },
            });
        }
    }
}

/// The next end of a shortest window after `time`. All others end where one of these does.
fn next_end(time: f64) -> f64 {
    let window = f64::from(WINDOWS[0]);
    ((time / window).floor() + 1.0) * window
}
