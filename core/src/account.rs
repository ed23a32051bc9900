//! The account of one camera: which count belongs to which of its frames.
//!
//! The account is kept by order. Frames are numbered as they come ([`Account::begin`]), and a count
//! belongs to the frame with whose number it was taken; no time decides over that. A frame leaves
//! with a report ([`Account::report`]):
//!
//! * A frame that was due and counted carries its own count: `stale` is false and `age` is 0.
//! * A frame that was due and was not counted carries the last count: `stale` is true.
//! * A frame that was not due carries the last count. It is stale where that is not the count of
//!   the last frame that was due.
//! * A frame that was due and does not differ from the picture that was handed to the engine last
//!   carries the count of that one, as if it had been counted anew: `confirmed` is true and `stale`
//!   false, unless that picture was not counted.
//! * Before the first count there is none, and `stale` is true.
//! * A count that comes after its frame has left ([`Account::late`]) becomes the last count, unless
//!   a later frame has been counted.
//!
//! Time decides over two things only: how much a count weighs in the smoothed one (and so in the
//! level), and how old a count is on another frame. Both follow the frames' own times where they
//! have any, and else their arrival: [`FrameTime`] says how. The account begins anew after a
//! [`flush`](Account::flush) and where the frames' own times go back: the next frame is due,
//! smoothing starts with its count, and the last count is forgotten.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::count::{CountSettings, Counter, Counts};
use crate::density::Grid;
use crate::region::Coverage;
use crate::report::{FrameReport, RegionReport};

mod confirmation;
mod device;
mod failures;
mod measurement;
mod statistics;
mod timeline;

pub use confirmation::CONFIRMED_FOR;
pub use device::DeviceRegions;
pub use failures::FailureEdge;
pub use measurement::{Density, GridPlacement, Measurement};
pub use statistics::Statistics;
pub use timeline::FrameTime;

use confirmation::Reference;
use failures::Failures;
use timeline::{Moment, Timeline};

/// Number of late frames that are remembered: far more than an engine can hold of one camera.
const LATE_LIMIT: usize = 64;

/// Names that stand in every report of a camera.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The camera's id.
    pub camera: Arc<str>,
    /// The model's name.
    pub model: Arc<str>,
    /// The engine's name.
    pub engine: Arc<str>,
}

/// What is asked of every report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportSettings {
    /// The counter's unique id.
    pub unique_id: u32,
    /// Whether the density map goes in.
    pub density: bool,
}

/// The place of a frame in its camera's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameStamp {
    /// Number of the frame, from 0.
    pub sequence: u64,
    /// Whether the frame is to be counted.
    pub due: bool,
    moment: Moment,
}

/// A frame that leaves, and what it says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// From [`Account::begin`].
    pub stamp: FrameStamp,
    /// Its presentation time, nanoseconds.
    pub pts: Option<u64>,
    /// When the camera took the picture, nanoseconds since 1970 (UTC).
    pub capture_time: Option<u64>,
    /// When it was received, nanoseconds since 1970 (UTC).
    pub received_time: u64,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// No count of it was asked for.
    NotDue,
    /// It was due and was not counted.
    Missed,
    /// It was due and leaves before its count. [`Account::late`] takes that under this ticket.
    Late {
        /// Number under which the engine has the frame.
        ticket: u64,
        /// Where the density will lie.
        placement: GridPlacement,
    },
    /// It was counted.
    Counted(Measurement),
    /// It was due and does not differ from the frame with this number
    /// ([`Account::confirmable`]).
    Confirmed(u64),
}

/// The last picture that was counted.
struct Latest {
    stamp: FrameStamp,
    /// Number of the last frame that was due and that the count holds for: its own, or one that
    /// does not differ.
    holds_for: u64,
    density: Density,
    counts: Counts,
    inference_time: Duration,
}

/// A frame that left before its count.
struct LateFrame {
    ticket: u64,
    stamp: FrameStamp,
    placement: GridPlacement,
}

/// See the module.
pub struct Account {
    /// Names for the reports.
    pub labels: Labels,
    /// Figures since the stream began.
    pub statistics: Statistics,
    failures: Failures,
    timeline: Timeline,
    next_sequence: u64,
    /// Frames to skip before the next one is due.
    skip: u32,
    counter: Counter,
    /// The beginning that the counter's smoothing belongs to.
    counter_epoch: u64,
    /// Grows when the settings change: counts in old regions are told from those in new ones.
    generation: u64,
    latest: Option<Latest>,
    /// Number of the last frame that left and was due.
    last_due: Option<u64>,
    late: VecDeque<LateFrame>,
    /// The picture that was handed to the engine last.
    reference: Option<Reference>,
}

impl Default for Account {
    fn default() -> Self {
        Self::new(CountSettings::default())
    }
}

impl Account {
    /// The account of a camera of which nothing has come.
    pub fn new(settings: CountSettings) -> Self {
        Self {
            labels: Labels::default(),
            statistics: Statistics::default(),
            failures: Failures::default(),
            timeline: Timeline::default(),
            next_sequence: 0,
            skip: 0,
            counter: Counter::new(settings),
            counter_epoch: 0,
            generation: 0,
            latest: None,
            last_due: None,
            late: VecDeque::new(),
            reference: None,
        }
    }

    /// Begins anew: what was counted before says nothing of the frames that come. Frames that came
    /// before and have not left yet may still be reported.
    pub fn flush(&mut self) {
        self.timeline.begin_anew();
        self.skip = 0;
    }

    /// Begins anew, with the numbers and the figures too. Labels and settings stay.
    pub fn restart(&mut self) {
        let (labels, settings, generation) =
            (std::mem::take(&mut self.labels), self.counter.settings().clone(), self.generation);
        *self = Self { labels, generation, ..Self::new(settings) };
    }

    // ---- settings ----

    /// Takes new settings. Equal ones change nothing. The last picture is counted anew; where only
    /// its sums are known, its regions have no count until the next frame, which is due.
    pub fn configure(&mut self, settings: CountSettings) {
        if *self.counter.settings() == settings {
            return;
        }
        self.counter = Counter::new(settings);
        self.generation += 1;
        if let Some(mut latest) = self.latest.take() {
            self.counter_epoch = latest.stamp.moment.epoch;
            latest.counts = self.count(&latest.density, latest.stamp.moment);
            if matches!(latest.density, Density::Sums { .. }) {
                self.skip = 0;
            }
            self.latest = Some(latest);
        }
    }

    /// The settings.
    pub fn settings(&self) -> &CountSettings {
        self.counter.settings()
    }

    /// Tells settings apart: another number after each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The share of each cell of `grid` in each region.
    pub fn coverage(&mut self, grid: &Grid) -> &[Coverage] {
        self.counter.coverage(grid)
    }

    // ---- frames that come ----

    /// A frame comes: its place in the stream, and whether it is due, `interval` frames being
    /// skipped after each that is.
    pub fn begin(&mut self, time: FrameTime, interval: u32) -> FrameStamp {
        let (moment, anew) = self.timeline.advance(time);
        if anew {
            self.skip = 0;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.statistics.received += 1;
        let due = self.skip == 0;
        self.skip = if due { interval } else { (self.skip - 1).min(interval) };
        FrameStamp { sequence, due, moment }
    }

    // ---- what became of them ----

    /// The engine counted a frame. Says whether failures have ended by that.
    pub fn note_counted(&mut self) -> Option<FailureEdge> {
        self.statistics.inferred += 1;
        self.failures.note(true)
    }

    /// A frame that was due could not be counted. Says whether failures begin with that.
    pub fn note_failed(&mut self) -> Option<FailureEdge> {
        self.statistics.failed += 1;
        self.failures.note(false)
    }

    /// A frame leaves. Frames leave in the order in which they came.
    pub fn report(
        &mut self,
        frame: Departure,
        finding: Finding,
        settings: ReportSettings,
    ) -> FrameReport {
        let stamp = frame.stamp;
        if !matches!(finding, Finding::NotDue) {
            self.last_due = Some(stamp.sequence);
        }
        let mut confirmed = false;
        match finding {
            Finding::NotDue | Finding::Missed => {}
            Finding::Confirmed(of) => confirmed = self.confirm(of, stamp),
            Finding::Late { ticket, placement } => {
                if self.late.len() == LATE_LIMIT {
                    self.late.pop_front();
                }
                self.late.push_back(LateFrame { ticket, stamp, placement });
            }
            Finding::Counted(measurement) => {
                self.take(stamp, measurement);
            }
        }
        let latest =
            self.latest.as_ref().filter(|latest| latest.stamp.moment.epoch == stamp.moment.epoch);
        let stale = latest.is_none_or(|latest| Some(latest.holds_for) != self.last_due);
        self.statistics.stale += u64::from(stale);
        let regions = self.counter.settings().regions.regions.iter().enumerate();
        let regions = regions.map(|(index, region)| RegionReport {
            name: region.name.clone(),
            polygon: region.polygon.clone(),
            count: latest.and_then(|latest| latest.counts.regions.as_ref()?.get(index)).copied(),
        });
        FrameReport {
            camera: self.labels.camera.clone(),
            sequence: stamp.sequence,
            unique_id: settings.unique_id,
            pts: frame.pts,
            capture_time: frame.capture_time,
            received_time: frame.received_time,
            count: latest.map(|latest| latest.counts.total),
            stale,
            confirmed,
            age: latest.map_or(0, |latest| age(&stamp, &latest.stamp)),
            regions: regions.collect(),
            density: latest.filter(|_| settings.density).and_then(|latest| match &latest.density {
                Density::Map(map) => Some(map.clone()),
                Density::Sums { .. } => None,
            }),
            model: self.labels.model.clone(),
            engine: self.labels.engine.clone(),
            inference_time: latest.map_or(0, |latest| nanoseconds(latest.inference_time)),
        }
    }

    /// The count of a frame that has left already under `ticket`, or `None` where there will be
    /// none. Says whether the frame was waited for: the number of the frame.
    pub fn late(
        &mut self,
        ticket: u64,
        measurement: impl FnOnce(GridPlacement) -> Option<Measurement>,
    ) -> Option<u64> {
        let index = self.late.iter().position(|late| late.ticket == ticket)?;
        let LateFrame { stamp, placement, .. } = self.late.remove(index)?;
        if let Some(measurement) = measurement(placement) {
            self.take(stamp, measurement);
        }
        Some(stamp.sequence)
    }

    /// Frames that have left are no longer waited for.
    pub fn forget_late(&mut self) {
        self.late.clear();
    }

    /// Takes in the count of a frame, unless a later frame has been counted.
    fn take(&mut self, stamp: FrameStamp, measurement: Measurement) {
        if self.latest.as_ref().is_some_and(|latest| latest.stamp.sequence > stamp.sequence) {
            return;
        }
        if self.counter_epoch != stamp.moment.epoch {
            self.counter_epoch = stamp.moment.epoch;
            self.counter.reset();
        }
        let Measurement { density, inference_time } = measurement;
        let counts = self.count(&density, stamp.moment);
        let holds_for = stamp.sequence;
        self.latest = Some(Latest { stamp, holds_for, density, counts, inference_time });
    }

    /// Counts `density`. Sums in regions of other settings say nothing of the present regions,
    /// which then have no count.
    fn count(&mut self, density: &Density, moment: Moment) -> Counts {
        match density {
            Density::Map(map) => self.counter.update(map, moment.position),
            Density::Sums { total, regions, generation } => {
                let regions = (*generation == self.generation).then_some(regions.as_slice());
                self.counter.update_sums(*total, regions, moment.position)
            }
        }
    }
}

/// How much older than the frame `on` the counted picture is, nanoseconds: 0 for a frame's own
/// count, and for no other.
fn age(on: &FrameStamp, counted: &FrameStamp) -> u64 {
    match nanoseconds(on.moment.position.saturating_sub(counted.moment.position)) {
        0 if on.sequence != counted.sequence => 1,
        age => age,
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
