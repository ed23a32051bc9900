//! What was counted over windows of time: 10 s, 1 min, 15 min, 1 h, each aligned to its length
//! since 1970 (UTC).
//!
//! A count holds until the next one comes, but not longer than a given time. What lies between is
//! not covered: it is a gap, and never counts as zero vehicles. A window of which nothing is
//! covered has no record. All times are arguments, seconds since 1970.

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
struct Held {
    count: f64,
    level: Level,
    stale: bool,
}

/// What one window has gathered of one frame or region.
#[derive(Clone, Debug, Default)]
struct Gathered {
    covered: f64,
    stale: f64,
    /// Vehicles times seconds.
    sum: f64,
    max: f64,
    levels: LevelShares,
    /// Seconds by step of the count.
    steps: BTreeMap<u32, f64>,
}

impl Gathered {
    fn add(&mut self, held: &Held, seconds: f64) {
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
    held: Option<Held>,
    gathered: [Gathered; WINDOWS.len()],
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
            track.held =
                counted.map(|counted| Held { count: counted.raw, level: counted.level, stale });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Counted;

    /// A time at which a window of every length begins.
    const BEGIN: f64 = 1_800_000_000.0;

    fn windows() -> Windows {
        Windows::new("north", &["left".to_owned()], 2.0)
    }

    /// Counts of the frame and, half as many, of the region.
    fn counts(count: f64) -> Counts {
        let level = if count >= 5.0 { Level::Moderate } else { Level::Free };
        let counted = |raw: f64| Counted { raw, smoothed: raw, level };
        Counts { total: counted(count), regions: Some(vec![counted(count / 2.0)]) }
    }

    /// The records of the whole frame with windows of this length.
    fn frame(records: &[WindowRecord], window: u32) -> Vec<&WindowRecord> {
        records.iter().filter(|record| record.window == window && record.region.is_none()).collect()
    }

    #[test]
    fn steady_camera_gives_a_record_of_each_window_for_frame_and_region() {
        let mut windows = windows();
        let mut records = Vec::new();
        for second in 0..=3600 {
            records.extend(windows.count(BEGIN + f64::from(second), &counts(4.0), false));
        }
        for (window, number) in [(10, 360), (60, 60), (900, 4), (3600, 1)] {
            let of_frame = frame(&records, window);
            assert_eq!(of_frame.len(), number, "windows of {window} s");
            for (index, record) in of_frame.iter().enumerate() {
                assert_eq!(record.start, BEGIN as u64 + index as u64 * u64::from(window));
                assert_eq!((record.covered, record.stale), (f64::from(window), 0.0));
                assert!(
                    (record.mean - 4.0).abs() < 1e-9 && (record.p95 - 4.0).abs() < 1e-9,
                    "{record:?}"
                );
                assert_eq!((record.max, record.levels.free), (4.0, 1.0));
            }
        }
        let region =
            records.iter().find(|record| record.window == 3600 && record.region.is_some()).unwrap();
        assert_eq!((region.region.as_deref(), region.max), (Some("left"), 2.0));
        assert!((region.mean - 2.0).abs() < 1e-9);
    }

    #[test]
    fn mean_weighs_counts_by_the_time_for_which_they_held() {
        let mut windows = windows();
        windows.count(BEGIN, &counts(2.0), false);
        windows.count(BEGIN + 2.0, &counts(8.0), true);
        windows.count(BEGIN + 3.0, &counts(0.0), false);
        // It holds for 2 s, and 5 s are missing.
        let records = windows.advance(BEGIN + 11.0);
        let record = frame(&records, 10)[0];
        assert_eq!((record.covered, record.max), (5.0, 8.0));
        assert!((record.mean - (2.0 * 2.0 + 8.0) / 5.0).abs() < 1e-9, "{record:?}");
        assert!(
            (record.stale - 0.2).abs() < 1e-9 && (record.levels.moderate - 0.2).abs() < 1e-9,
            "{record:?}"
        );
        assert!((record.levels.free - 0.8).abs() < 1e-9, "{record:?}");
    }

    #[test]
    fn missing_time_is_a_gap_and_never_zero_vehicles() {
        let mut windows = windows();
        windows.count(BEGIN + 1.0, &counts(6.0), false);
        windows.count(BEGIN + 2.0, &counts(6.0), false);
        let mut records = windows.lose(BEGIN + 3.0);
        records.extend(windows.advance(BEGIN + 50.0));
        records.extend(windows.count(BEGIN + 55.0, &counts(6.0), false));
        records.extend(windows.advance(BEGIN + 120.0));
        let tens: Vec<_> = frame(&records, 10)
            .iter()
            .map(|record| (record.start - BEGIN as u64, record.covered))
            .collect();
        assert_eq!(tens, [(0, 2.0), (50, 2.0)]);
        let minute = frame(&records, 60)[0];
        assert_eq!(minute.covered, 4.0);
        assert!((minute.mean - 6.0).abs() < 1e-9);
        assert_eq!(frame(&records, 60).len(), 1, "an empty minute has no record");
    }

    #[test]
    fn regions_that_are_not_known_are_a_gap_of_theirs_alone() {
        let mut windows = windows();
        windows.count(BEGIN, &counts(4.0), false);
        windows.count(BEGIN + 1.0, &Counts { regions: None, ..counts(4.0) }, false);
        let records = windows.finish(BEGIN + 2.0);
        let covered: Vec<_> = records
            .iter()
            .filter(|record| record.window == 10)
            .map(|record| record.covered)
            .collect();
        assert_eq!(covered, [2.0, 1.0]);
    }

    #[test]
    fn count_that_holds_over_the_end_of_a_window_is_shared_between_both() {
        let mut windows = windows();
        windows.count(BEGIN + 9.5, &counts(3.0), false);
        let mut records = windows.advance(BEGIN + 10.0);
        records.extend(windows.finish(BEGIN + 11.0));
        let covered: Vec<_> = frame(&records, 10).iter().map(|record| record.covered).collect();
        assert_eq!(covered, [0.5, 1.0]);
    }

    #[test]
    fn percentile_agrees_with_sorted_counts() {
        let mut windows = windows();
        // Every second another count: 0 to 59.9, in an order of their own.
        let all: Vec<f64> = (0..600).map(|index| f64::from(index * 7 % 600) / 10.0).collect();
        let mut records = Vec::new();
        for (index, count) in all.iter().enumerate() {
            records.extend(windows.count(BEGIN + index as f64, &counts(*count), false));
        }
        records.extend(windows.finish(BEGIN + all.len() as f64));
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let record = frame(&records, 900)[0];
        let exact = sorted[569];
        assert!(
            (record.p95 - exact).abs() <= exact * RESOLUTION,
            "{} instead of {exact}",
            record.p95
        );
        assert_eq!(record.max, 59.9);
    }

    #[test]
    fn distribution_keeps_counts_to_within_its_resolution() {
        for index in 0..100_000 {
            let count = f64::from(index) / 50.0;
            let kept = count_of(step(count));
            assert!(
                (kept - count).abs() <= (count * RESOLUTION).max(FINEST) / 2.0 + 1e-9,
                "{count} became {kept}"
            );
        }
        assert_eq!(step(-1.0), 0);
    }

    #[test]
    fn clock_that_is_set_forward_leaves_a_gap_and_back_ends_the_windows() {
        let mut windows = windows();
        windows.count(BEGIN, &counts(4.0), false);
        windows.count(BEGIN + 1.0, &counts(4.0), false);
        let year = 365.25 * 86_400.0;
        let forward = windows.count(BEGIN + year, &counts(9.0), false);
        assert_eq!(
            frame(&forward, 3600).iter().map(|record| record.covered).collect::<Vec<_>>(),
            [3.0]
        );
        windows.advance(BEGIN + year + 1.0);
        let back = windows.count(BEGIN + 100.0, &counts(1.0), false);
        assert_eq!(frame(&back, 10)[0].start, (BEGIN + year) as u64 / 10 * 10);
        let after = windows.finish(BEGIN + 101.0);
        assert_eq!((frame(&after, 10)[0].covered, frame(&after, 10)[0].max), (1.0, 1.0));
    }

    #[test]
    fn times_that_are_a_little_out_of_order_end_no_window() {
        let mut windows = windows();
        windows.count(BEGIN + 1.0, &counts(4.0), false);
        windows.advance(BEGIN + 2.2);
        assert_eq!(windows.count(BEGIN + 2.0, &counts(6.0), false), []);
        windows.count(BEGIN + 3.2, &counts(6.0), false);
        let records = windows.finish(BEGIN + 4.2);
        let record = frame(&records, 10)[0];
        assert!((record.covered - 3.2).abs() < 1e-6, "{record:?}");
        assert!((record.mean - (4.0 * 1.2 + 6.0 * 2.0) / 3.2).abs() < 1e-6, "{record:?}");
    }

    #[test]
    fn windows_hold_no_more_after_a_day_than_after_an_hour() {
        let mut windows = windows();
        let mut most = 0;
        for second in 0..86_400u32 {
            windows.count(BEGIN + f64::from(second), &counts(f64::from(second % 1000)), false);
            most = most.max(
                windows
                    .tracks
                    .iter()
                    .flat_map(|track| &track.gathered)
                    .map(|g| g.steps.len())
                    .max()
                    .unwrap(),
            );
        }
        assert!(most < 700, "{most} steps");
    }
}
