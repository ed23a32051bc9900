//! What was counted over windows of time: 10 s, 1 min, 15 min, 1 h, each aligned to its length
//! since 1970 (UTC).
//!
//! A count holds until the next one comes, but not longer than a given time. What lies between is
//! not covered: it is a gap, and never counts as zero vehicles. A window of which nothing is
//! covered has no record. All times are arguments, seconds since 1970.

mod tally;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::count::Counts;
use crate::region::Level;

use tally::HeldCount;
pub use tally::{FINEST, RESOLUTION, Tally};

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

/// Times that are out of order by less than this, seconds, are no clock that was set back.
pub const SLACK: f64 = 5.0;

/// What a shortest window has gathered. Windows that were interrupted go on from these
/// ([`Windows::resume`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The region; absent: the whole frame.
    pub region: Option<String>,
    /// Where the window begins, seconds since 1970 (UTC).
    pub start: u64,
    /// What it has gathered.
    pub tally: Tally,
}

/// What is to be kept of windows, for as long as the longest one is open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Frame or regions whose windows were ended early, all of them: their pieces count no more.
    pub forgotten: Vec<Option<String>>,
    /// Pieces that came later.
    pub pieces: Vec<Piece>,
}

/// The windows of one frame or region.
#[derive(Clone, Debug)]
struct Track {
    region: Option<String>,
    held: Option<HeldCount>,
    gathered: [Tally; WINDOWS.len()],
}

impl Track {
    fn new(region: Option<String>) -> Self {
        Self { region, held: None, gathered: Default::default() }
    }
}

/// The frame, and each region by its name.
fn names(regions: &[String]) -> impl Iterator<Item = Option<String>> {
    std::iter::once(None).chain(regions.iter().cloned().map(Some))
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
    changes: Changes,
}

impl Windows {
    /// Windows of a camera with these regions, whose counts hold for `hold` seconds at most.
    pub fn new(camera: &str, regions: &[String], hold: f64) -> Self {
        Self {
            camera: camera.to_owned(),
            hold,
            tracks: names(regions).map(Track::new).collect(),
            now: None,
            until: 0.0,
            changes: Changes::default(),
        }
    }

    /// Windows of a camera that go on after an interruption: they had come to `time`, and `pieces`
    /// were kept. Regions are those of the pieces, until [`change`](Self::change).
    pub fn resume(camera: &str, time: f64, pieces: &[Piece]) -> Self {
        let mut windows = Self { now: Some(time), ..Self::new(camera, &[], 0.0) };
        for piece in pieces {
            let found = windows.tracks.iter().position(|track| track.region == piece.region);
            let index = found.unwrap_or_else(|| {
                windows.tracks.push(Track::new(piece.region.clone()));
                windows.tracks.len() - 1
            });
            for (gathered, window) in windows.tracks[index].gathered.iter_mut().zip(WINDOWS) {
                if piece.start >= start_of(time, window) {
                    gathered.merge(&piece.tally);
                }
            }
        }
        windows
    }

    /// The camera has these regions from `time` on, and its counts hold for `hold` seconds. Windows
    /// of the frame and of regions that stay, by their names, go on. Gives the records of those
    /// that have ended, at `time` too.
    pub fn change(&mut self, time: f64, regions: &[String], hold: f64) -> Vec<WindowRecord> {
        let mut records = self.lose(time);
        self.hold = hold;
        let mut old = std::mem::take(&mut self.tracks);
        let kept = names(regions).map(|name| {
            let found = old.iter().position(|track| track.region == name);
            found.map_or_else(|| Track::new(name), |index| old.remove(index))
        });
        let kept = kept.collect();
        self.tracks = old;
        self.end_all(time, &mut records);
        self.tracks = kept;
        records
    }

    /// Up to when all is gathered.
    pub fn now(&self) -> Option<f64> {
        self.now
    }

    /// What is to be kept since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The shortest windows that are open, as far as they have come. They are kept in the place of
    /// others of the same region and start.
    pub fn open_pieces(&self) -> Vec<Piece> {
        let Some(now) = self.now else { return Vec::new() };
        let start = start_of(now, WINDOWS[0]);
        let gathered = self.tracks.iter().filter(|track| track.gathered[0].covered > 0.0);
        let piece = |track: &Track| Piece {
            region: track.region.clone(),
            start,
            tally: track.gathered[0].clone(),
        };
        gathered.map(piece).collect()
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
            self.end_all(now, &mut records);
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

    /// Ends all windows where they are, as when the camera is removed.
    pub fn finish(&mut self, time: f64) -> Vec<WindowRecord> {
        let mut records = self.lose(time);
        self.end_all(time, &mut records);
        records
    }

    /// Ends the windows of all tracks early.
    fn end_all(&mut self, time: f64, records: &mut Vec<WindowRecord>) {
        for index in 0..WINDOWS.len() {
            self.end(index, time, records);
        }
        let Changes { forgotten, pieces } = &mut self.changes;
        for Track { region, .. } in &self.tracks {
            pieces.retain(|piece| piece.region != *region);
            forgotten.push(region.clone());
        }
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
        let start = start_of(time, window);
        for track in &mut self.tracks {
            let gathered = std::mem::take(&mut track.gathered[index]);
            let region = track.region.as_deref();
            let Some(record) = gathered.record(&self.camera, region, window, start) else {
                continue;
            };
            records.push(record);
            if index == 0 {
                let region = track.region.clone();
                self.changes.pieces.push(Piece { region, start, tally: gathered });
            }
        }
    }
}

/// Where the window of that length begins that `time` lies in.
fn start_of(time: f64, window: u32) -> u64 {
    (time / f64::from(window)).floor() as u64 * u64::from(window)
}

/// The next end of a shortest window after `time`. All others end where one of these does.
fn next_end(time: f64) -> f64 {
    let window = f64::from(WINDOWS[0]);
    ((time / window).floor() + 1.0) * window
}
