//! Where the frames of one camera lie in time.

use std::time::Duration;

/// How long a frame lasts where nothing says it: 25 frames a second.
const USUAL_DURATION: Duration = Duration::from_millis(40);

/// Frames whose times are out of order by no more than so many frames have not gone back: decoders
/// reorder frames, and cameras jitter.
const REORDERED_FRAMES: u32 = 3;

/// The longest step back that is taken for reordering.
const REORDERING_LIMIT: Duration = Duration::from_secs(1);

/// What is known of a frame's time when it comes.
///
/// From one frame to the next, time passes as their own times (`stream`) say. Where one of them has
/// none, or where it does not go on, time passes as the arrivals say; of a source that is not live,
/// which sends as fast as it is read, at least one frame's duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameTime {
    /// The frame's own time in its stream, nanoseconds; `None` where it has none.
    pub stream: Option<i128>,
    /// When it came, on a clock that does not go back.
    pub arrival: Duration,
    /// How long it lasts, where that is known.
    pub duration: Option<Duration>,
    /// Whether its source is live.
    pub live: bool,
}

impl FrameTime {
    fn duration(&self) -> Duration {
        self.duration.filter(|duration| !duration.is_zero()).unwrap_or(USUAL_DURATION)
    }
}

/// A frame's place on the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Never less than that of the frame before.
    pub position: Duration,
    /// Number of the beginning that it belongs to.
    pub epoch: u64,
}

/// Lays frames one behind the other, whatever their times say.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    position: Duration,
    epoch: u64,
    /// When the last frame came; `None` before the first.
    arrival: Option<Duration>,
    /// The last frame whose own time went on: that time, and its position.
    anchor: Option<(i128, Duration)>,
    /// The greatest time of its own that a frame had since the beginning.
    greatest: Option<i128>,
}

impl Timeline {
    /// What comes now has nothing to do with what came.
    pub fn begin_anew(&mut self) {
        self.epoch += 1;
        self.anchor = None;
        self.greatest = None;
    }

    /// The moment of the frame that comes now, and whether the timeline has begun anew with it
    /// because time went back.
    pub fn advance(&mut self, time: FrameTime) -> (Moment, bool) {
        let arrived = self.arrival.map(|last| {
            let passed = time.arrival.saturating_sub(last);
            if time.live { passed } else { passed.max(time.duration()) }
        });
        self.arrival = Some(time.arrival);
        let by_arrival = self.position.saturating_add(arrived.unwrap_or_default());
        let tolerance = (time.duration().saturating_mul(REORDERED_FRAMES)).min(REORDERING_LIMIT);
        let back = |own: i128| {
            self.greatest.is_some_and(|greatest| own < greatest - tolerance.as_nanos() as i128)
        };
        let anew = time.stream.is_some_and(back);
        if anew {
            self.begin_anew();
        }
        self.position = match time.stream {
            None => by_arrival,
            Some(own) => {
                self.greatest = Some(self.greatest.map_or(own, |greatest| greatest.max(own)));
                let by_itself = match self.anchor {
                    Some((since, position)) => position.saturating_add(nanoseconds(own - since)),
                    None => by_arrival,
                };
                if self.anchor.is_none() || by_itself > self.position {
                    self.anchor = Some((own, by_itself));
                    by_itself
                } else {
                    by_arrival
                }
            }
        };
        (Moment { position: self.position, epoch: self.epoch }, anew)
    }
}

/// `nanoseconds` as a duration; nothing where it is negative.
fn nanoseconds(nanoseconds: i128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let nanoseconds = nanoseconds.max(0).unsigned_abs();
    Duration::new(
        u64::try_from(nanoseconds / SECOND).unwrap_or(u64::MAX),
        (nanoseconds % SECOND) as u32,
    )
}
