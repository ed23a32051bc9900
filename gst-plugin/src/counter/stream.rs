//! What one camera's stream has made so far: the frames that are held, and the account of their counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vehiclecount_core::account::{
    Account, Density, Departure, FailureEdge, Finding, FrameStamp, FrameTime, GridPlacement, Measurement,
    ReportSettings,
};
use vehiclecount_core::batch::Outcome;
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::engine::Output;
use vehiclecount_core::frame::FrameFormat;
use vehiclecount_core::report::FrameReport;

use super::holding::Holding;
use crate::time::{ArrivalClock, StreamTime};

/// A frame between the camera and whoever is downstream.
pub struct Frame {
    /// The frame itself, untouched.
    pub buffer: gst::Buffer,
    /// Its place in the camera's stream.
    pub stamp: FrameStamp,
    /// When it came.
    pub arrival: Instant,
    /// The same by the system clock, nanoseconds since 1970.
    pub received_time: u64,
    /// When it is let go uncounted; `None` waits as long as it takes.
    pub deadline: Option<Deadline>,
    /// Where the density grid lies in it.
    pub placement: Option<GridPlacement>,
    /// What is known of its count.
    pub state: FrameState,
}

/// When a frame is let go uncounted.
#[derive(Clone)]
pub struct Deadline {
    /// The clock that was the pipeline's when the frame came.
    pub clock: gst::Clock,
    /// Time on that clock.
    pub time: gst::ClockTime,
    /// How long the frame is held till then.
    pub held: Duration,
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
    Counted(Measurement),
}

/// What goes through the camera's queue, in order.
#[allow(clippy::large_enum_variant, reason = "nearly every item is a frame")]
pub enum Item {
    /// A frame.
    Frame(Box<Frame>),
    /// A serialized event.
    Event(gst::Event),
}

/// See the module.
pub struct Stream {
    /// In the order in which they leave.
    pub items: VecDeque<Item>,
    /// Frames among the items.
    pub frames: usize,
    /// An item has been taken and is being pushed.
    pub pushing: bool,
    /// Downstream is being asked something in the place of a frame.
    pub querying: bool,
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
    /// Frames a second, where the caps say it.
    pub fps: Option<f64>,
    /// The `max-latency` that cannot be held, and the frames that are held instead; said once.
    pub limit_said: Option<(Duration, usize)>,
    /// How the times on buffers become times of the stream.
    pub time: StreamTime,
    /// When frames came.
    pub arrivals: ArrivalClock,
    /// Which count belongs to which frame.
    pub account: Account,
    next_ticket: u64,
    /// Tickets below belong to a time before a flush.
    first_ticket: u64,
}

impl Stream {
    /// A stream that has not begun.
    pub fn new() -> Self {
        Self {
            items: VecDeque::new(),
            frames: 0,
            pushing: false,
            querying: false,
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
            fps: None,
            limit_said: None,
            time: StreamTime::default(),
            arrivals: ArrivalClock::default(),
            account: Account::default(),
            next_ticket: 0,
            first_ticket: 0,
        }
    }

    /// What is held is let go, and what was counted before says nothing of what comes.
    pub fn flush(&mut self) {
        self.items.clear();
        self.frames = 0;
        self.flow = Ok(gst::FlowSuccess::Ok);
        self.eos = false;
        self.hurry = false;
        self.time = StreamTime::default();
        self.first_ticket = self.next_ticket;
        self.account.flush();
        self.account.forget_late();
    }

    /// As after [`Stream::new`], but for the settings.
    pub fn restart(&mut self) {
        self.flush();
        self.live = None;
        self.through_host = false;
        self.format = None;
        self.fps = None;
        self.limit_said = None;
        self.account.restart();
    }

    /// A frame comes now, by `clock`: its place in the stream.
    pub fn begin(&mut self, buffer: &gst::BufferRef, clock: &gst::Clock, interval: u32) -> FrameStamp {
        let duration = buffer.duration().map(Duration::from);
        let duration = duration.or_else(|| self.fps.map(|fps| Duration::from_secs_f64(1.0 / fps)));
        let time = FrameTime {
            stream: self.time.of_buffer(buffer),
            arrival: self.arrivals.now(clock),
            duration,
            live: self.live.unwrap_or(false),
        };
        self.account.begin(time, interval)
    }

    /// A new ticket for a frame that goes to the engine.
    pub fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Events among the items.
    pub fn events(&self) -> usize {
        self.items.len() - self.frames
    }

    /// How frames of a live camera are held for `max_latency`.
    pub fn holding(&self, max_latency: Duration) -> Holding {
        Holding::new(max_latency, self.fps, self.format.as_ref().map(|(info, ..)| info.size()))
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

    /// The engine says what became of the frame with `ticket`. Says whether failures begin or end with that.
    pub fn report(&mut self, ticket: u64, outcome: &Outcome<'_>, now: Instant) -> Option<FailureEdge> {
        if ticket < self.first_ticket {
            return None;
        }
        let edge = match outcome {
            Outcome::Counted { .. } => self.account.note_counted(),
            Outcome::Dropped => {
                self.account.statistics.dropped += 1;
                None
            }
            Outcome::Failed(_) => self.account.note_failed(),
        };
        let measured = |placement: GridPlacement| match outcome {
            Outcome::Counted { output, inference_time } => {
                let density = match output {
                    Output::Map(cells) => {
                        Density::Map(DensityMap { grid: placement.grid, cells: cells.as_slice().into() })
                    }
                    Output::Sums { total, regions } => {
                        Density::Sums { total: *total, regions: regions.clone(), generation: placement.generation }
                    }
                };
                Some(Measurement { density, inference_time: *inference_time })
            }
            Outcome::Dropped | Outcome::Failed(_) => None,
        };
        let held = self.items.iter_mut().find_map(|item| match item {
            Item::Frame(frame) if matches!(frame.state, FrameState::Waiting(waiting) if waiting == ticket) => {
                Some(frame)
            }
            _ => None,
        });
        match held {
            Some(frame) => {
                frame.state = frame.placement.and_then(measured).map_or(FrameState::Missed, FrameState::Counted);
                self.account.statistics.note_latency(now - frame.arrival);
            }
            None => {
                self.account.late(ticket, measured);
            }
        }
        edge
    }

    /// What is said of a frame that leaves now.
    pub fn leave(&mut self, frame: &mut Frame, settings: ReportSettings, now: Instant) -> FrameReport {
        let finding = match (std::mem::replace(&mut frame.state, FrameState::Missed), frame.placement) {
            (FrameState::NotDue, _) => Finding::NotDue,
            (FrameState::Waiting(ticket), Some(placement)) => {
                // Downstream may have kept it longer than that.
                let held = frame.deadline.as_ref().map_or(Duration::MAX, |deadline| deadline.held);
                self.account.statistics.note_latency((now - frame.arrival).min(held));
                Finding::Late { ticket, placement }
            }
            (FrameState::Waiting(_) | FrameState::Missed, _) => Finding::Missed,
            (FrameState::Counted(measurement), _) => Finding::Counted(measurement),
        };
        let departure = Departure {
            stamp: frame.stamp,
            pts: frame.buffer.pts().map(gst::ClockTime::nseconds),
            capture_time: capture_time(&frame.buffer),
            received_time: frame.received_time,
        };
        self.account.report(departure, finding, settings)
    }
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
