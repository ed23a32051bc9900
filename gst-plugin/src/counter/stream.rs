//! What one camera's stream has made so far: the frames that are held, the last count, and the figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vehiclecount_core::batch::Outcome;
use vehiclecount_core::count::{CountSettings, Counter, Counts};
use vehiclecount_core::density::{DensityMap, Grid};
use vehiclecount_core::engine::{EngineError, Output};
use vehiclecount_core::frame::FrameFormat;
use vehiclecount_core::region::Coverage;
use vehiclecount_core::report::{FrameReport, RegionReport};

/// A frame between the camera and whoever is downstream.
pub struct Frame {
    /// The frame itself, untouched.
    pub buffer: gst::Buffer,
    /// Its number in the camera's stream.
    pub sequence: u64,
    /// Its running time.
    pub time: Duration,
    /// When it came.
    pub arrival: Instant,
    /// The same by the system clock, nanoseconds since 1970.
    pub received_time: u64,
    /// Clock time at which it is let go uncounted; `None` waits as long as it takes.
    pub deadline: Option<gst::ClockTime>,
    /// Where the density grid lies in it.
    pub place: Option<Place>,
    /// What is known of its count.
    pub state: FrameState,
}

/// Where the density grid lies in a frame, and which regions it is counted in.
#[derive(Clone, Copy)]
pub struct Place {
    /// The grid.
    pub grid: Grid,
    /// [`Stream::generation`] when the frame came.
    pub generation: u64,
}

/// What is known of a frame's count.
pub enum FrameState {
    /// Skipped by `interval`: it takes the last count.
    NotDue,
    /// The engine has it, under this ticket.
    Waiting(u64),
    /// It should have been counted and was not.
    Missed,
    /// Counted.
    Counted(Measured),
}

/// What the engine made of a frame.
pub struct Measured {
    density: Density,
    inference_time: Duration,
}

/// The density map, or its sums where nobody wants the map.
enum Density {
    Map(DensityMap),
    Sums { total: f64, regions: Vec<f64>, generation: u64 },
}

/// What goes through the camera's queue, in order.
#[allow(clippy::large_enum_variant, reason = "nearly every item is a frame")]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// A serialized event.
    Event(gst::Event),
}

/// The last picture that was counted.
struct Latest {
    time: Duration,
    counts: Counts,
    map: Option<DensityMap>,
    inference_time: Duration,
}

/// A frame that left before its count came.
struct Late {
    ticket: u64,
    time: Duration,
    place: Place,
}

/// Names that stand in every report.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The camera's id.
    pub camera: String,
    /// The model's name.
    pub model: String,
    /// The engine's name.
    pub engine: String,
}

/// Figures since the stream began.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Frames that came in.
    pub received: u64,
    /// Frames that the engine counted.
    pub inferred: u64,
    /// Frames that left with an older count than they should have had.
    pub stale: u64,
    /// Frames that the engine never saw, because a newer one took their place.
    pub dropped: u64,
    /// Frames that the engine failed on, or whose memory could not be read.
    pub failed: u64,
    latencies: VecDeque<Duration>,
}

/// Number of frames over which percentiles are taken.
const LATENCY_WINDOW: usize = 1024;

/// Late frames that are remembered: far more than an engine can hold of one camera.
const LATE_LIMIT: usize = 64;

impl Figures {
    fn note_latency(&mut self, latency: Duration) {
        if self.latencies.len() == LATENCY_WINDOW {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }

    /// The time that `shares` (0..1) of the last frames stayed under between their coming and going, by the nearest-rank method.
    pub fn latency<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(shares.map(|share| sorted[((share * sorted.len() as f64).ceil() as usize).saturating_sub(1).min(last)]))
    }
}

/// See the module.
pub struct Stream {
    /// In the order in which they leave.
    pub items: VecDeque<Item>,
    /// Frames among the items.
    pub frames: usize,
    /// An item has been taken and is being pushed.
    pub pushing: bool,
    /// Nothing goes in or out.
    pub flushing: bool,
    /// The pusher ends.
    pub stopped: bool,
    /// What downstream said last.
    pub flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// The camera has ended.
    pub eos: bool,
    /// The engine is still being opened.
    pub opening: bool,
    /// Frames in GPU memory are copied through the host; said once.
    pub through_host: bool,
    /// Whether the camera is live; `None` until it was asked.
    pub live: Option<bool>,
    /// The queue is full: the frame at its head leaves now, counted or not.
    pub hurry: bool,
    /// The pusher's wait for the head's deadline.
    pub alarm: Option<gst::SingleShotClockId>,
    /// The format of the frames that come in, and whether they come in GPU memory.
    pub format: Option<(gst_video::VideoInfo, FrameFormat, bool)>,
    /// For running times.
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    /// Names for the reports.
    pub labels: Labels,
    /// Figures since the stream began.
    pub figures: Figures,
    /// The engine fails on this camera's frames; said once.
    failing: bool,
    /// Frames to skip before the next one is due.
    skip: u32,
    next_ticket: u64,
    next_sequence: u64,
    /// Tickets below belong to a time before a flush.
    first_ticket: u64,
    /// The last frame that was due has its own count.
    fresh: bool,
    counter: Counter,
    /// Grows when the settings change: counts in old regions are told from those in new ones.
    generation: u64,
    latest: Option<Latest>,
    late: VecDeque<Late>,
}

/// What a report from the engine changes for the camera as a whole.
#[derive(Clone, Debug)]
pub enum Turn {
    /// The engine has begun to fail.
    Failing(EngineError),
    /// It counts again.
    Recovered,
}

impl Stream {
    /// A stream that has not begun.
    pub fn new() -> Self {
        Self {
            items: VecDeque::new(),
            frames: 0,
            pushing: false,
            flushing: true,
            stopped: true,
            flow: Ok(gst::FlowSuccess::Ok),
            eos: false,
            opening: false,
            through_host: false,
            live: None,
            hurry: false,
            alarm: None,
            format: None,
            segment: gst::FormattedSegment::new(),
            labels: Labels::default(),
            figures: Figures::default(),
            failing: false,
            skip: 0,
            next_ticket: 0,
            next_sequence: 0,
            first_ticket: 0,
            fresh: false,
            counter: Counter::new(CountSettings::default()),
            generation: 0,
            latest: None,
            late: VecDeque::new(),
        }
    }

    /// What is held is let go, and what was counted before says nothing of what comes.
    pub fn flush(&mut self) {
        self.items.clear();
        self.frames = 0;
        self.flow = Ok(gst::FlowSuccess::Ok);
        self.eos = false;
        self.hurry = false;
        self.segment = gst::FormattedSegment::new();
        self.skip = 0;
        self.first_ticket = self.next_ticket;
        self.fresh = false;
        self.counter.reset();
        self.latest = None;
        self.late.clear();
    }

    /// As after [`Stream::new`], but for the settings.
    pub fn restart(&mut self) {
        self.flush();
        self.live = None;
        self.through_host = false;
        self.format = None;
        self.figures = Figures::default();
        self.failing = false;
        self.next_sequence = 0;
    }

    /// Takes new settings; where they are the old ones, smoothing goes on. The last picture is counted anew.
    pub fn configure(&mut self, settings: CountSettings) {
        if *self.counter.settings() == settings {
            return;
        }
        self.counter = Counter::new(settings);
        self.generation += 1;
        match &mut self.latest {
            Some(Latest { map: Some(map), counts, time, .. }) => *counts = self.counter.update(map, *time),
            // Without its map the last picture cannot be counted anew.
            _ => self.latest = None,
        }
    }

    /// Which settings it counts with.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The share of each cell of `grid` in each region.
    pub fn coverage(&mut self, grid: &Grid) -> Vec<Coverage> {
        self.counter.coverage(grid).to_vec()
    }

    /// Number of the frame that comes now, and whether it is due, `interval` frames being skipped after each counted one.
    pub fn number(&mut self, interval: u32) -> (u64, bool) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.figures.received += 1;
        let due = self.skip == 0;
        self.skip = if due { interval } else { (self.skip - 1).min(interval) };
        (sequence, due)
    }

    /// A new ticket for a frame that goes to the engine.
    pub fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Appends to the queue.
    pub fn push(&mut self, item: Item) {
        self.frames += usize::from(matches!(item, Item::Frame(_)));
        self.items.push_back(item);
    }

    /// Takes the head of the queue.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        self.frames -= usize::from(matches!(item, Some(Item::Frame(_))));
        item
    }

    /// The engine says what became of the frame with `ticket`.
    pub fn report(&mut self, ticket: u64, outcome: &Outcome<'_>) -> Option<Turn> {
        if ticket < self.first_ticket {
            return None;
        }
        let mut turn = None;
        match outcome {
            Outcome::Counted { .. } => {
                self.figures.inferred += 1;
                turn = std::mem::take(&mut self.failing).then_some(Turn::Recovered);
            }
            Outcome::Dropped => self.figures.dropped += 1,
            Outcome::Failed(error) => {
                self.figures.failed += 1;
                turn = (!std::mem::replace(&mut self.failing, true)).then(|| Turn::Failing((*error).clone()));
            }
        }
        let measured = |place: Place| match outcome {
            Outcome::Counted { output, inference_time } => {
                let density = match output {
                    Output::Map(cells) => Density::Map(DensityMap { grid: place.grid, cells: cells.as_slice().into() }),
                    Output::Sums { total, regions } => {
                        Density::Sums { total: *total, regions: regions.clone(), generation: place.generation }
                    }
                };
                Some(Measured { density, inference_time: *inference_time })
            }
            Outcome::Dropped | Outcome::Failed(_) => None,
        };
        let held = self.items.iter_mut().find_map(|item| match item {
            Item::Frame(frame) if matches!(frame.state, FrameState::Waiting(waiting) if waiting == ticket) => {
                Some(frame)
            }
            _ => None,
        });
        if let Some(frame) = held {
            frame.state = frame.place.and_then(measured).map_or(FrameState::Missed, FrameState::Counted);
        } else if let Some(index) = self.late.iter().position(|late| late.ticket == ticket) {
            let late = self.late.remove(index).expect("the index was found in this queue");
            if let Some(measured) = measured(late.place) {
                self.learn(measured, late.time);
            }
        }
        turn
    }

    /// Takes a count in, unless a newer picture has been counted.
    fn learn(&mut self, measured: Measured, time: Duration) {
        if self.latest.as_ref().is_some_and(|latest| latest.time > time) {
            return;
        }
        let Measured { density, inference_time } = measured;
        let (counts, map) = match density {
            Density::Map(map) => (self.counter.update(&map, time), Some(map)),
            Density::Sums { generation, .. } if generation != self.generation => return,
            Density::Sums { total, regions, .. } => (self.counter.update_sums(total, &regions, time), None),
        };
        self.latest = Some(Latest { time, counts, map, inference_time });
    }

    /// What is said of a frame that leaves now.
    pub fn leave(&mut self, frame: &mut Frame, with_density: bool, unique_id: u32, now: Instant) -> FrameReport {
        match std::mem::replace(&mut frame.state, FrameState::Missed) {
            FrameState::NotDue => {}
            FrameState::Waiting(ticket) => {
                self.fresh = false;
                if let Some(place) = frame.place {
                    if self.late.len() == LATE_LIMIT {
                        self.late.pop_front();
                    }
                    self.late.push_back(Late { ticket, time: frame.time, place });
                }
            }
            FrameState::Missed => self.fresh = false,
            FrameState::Counted(measured) => {
                self.learn(measured, frame.time);
                self.fresh = true;
            }
        }
        self.figures.stale += u64::from(!self.fresh);
        self.figures.note_latency(now - frame.arrival);
        let regions = &self.counter.settings().regions.regions;
        let regions = regions.iter().enumerate().map(|(index, region)| RegionReport {
            name: region.name.clone(),
            polygon: region.polygon.clone(),
            count: self.latest.as_ref().and_then(|latest| latest.counts.regions.get(index)).copied(),
        });
        FrameReport {
            camera: self.labels.camera.clone(),
            sequence: frame.sequence,
            unique_id,
            pts: frame.buffer.pts().map(gst::ClockTime::nseconds),
            capture_time: capture_time(&frame.buffer),
            received_time: frame.received_time,
            count: self.latest.as_ref().map(|latest| latest.counts.total),
            stale: !self.fresh,
            age: self.latest.as_ref().map_or(0, |latest| nanoseconds(frame.time.saturating_sub(latest.time))),
            regions: regions.collect(),
            density: self.latest.as_ref().filter(|_| with_density).and_then(|latest| latest.map.clone()),
            model: self.labels.model.clone(),
            engine: self.labels.engine.clone(),
            inference_time: self.latest.as_ref().map_or(0, |latest| nanoseconds(latest.inference_time)),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds from 1900, NTP's epoch, to 1970 (RFC 868).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// When the camera took the picture, nanoseconds since 1970 (UTC): from the reference timestamp that `rtspsrc` takes from RTCP sender
/// reports (`add-reference-timestamp-meta`, GStreamer 1.22).
fn capture_time(buffer: &gst::BufferRef) -> Option<u64> {
    buffer.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        let time = meta.timestamp().nseconds();
        match meta.reference().structure(0)?.name().as_str() {
            "timestamp/x-unix" => Some(time),
            "timestamp/x-ntp" => time.checked_sub(NTP_TO_UNIX * 1_000_000_000),
            _ => None,
        }
    })
}
