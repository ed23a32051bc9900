//! What one camera's stream has made so far.

use std::time::{Duration, Instant};

use vehiclecount_core::account::{
    Account, Departure, FailureEdge, Finding, FrameStamp, FrameTime, Measurement, ReportSettings,
};
use vehiclecount_core::batch::Outcome;
use vehiclecount_core::preprocess::InputScale;
use vehiclecount_core::report::FrameReport;

use super::formats::StreamFormat;
use super::queue::{Frame, FrameState, Queue};
use super::shape::Shown;
use crate::time::{ArrivalClock, StreamTime};

/// What became of a frame at the engine.
pub struct Return {
    /// Number of the frame; `None` where it was not waited for any more.
    pub sequence: Option<u64>,
    /// Whether the frame had left before.
    pub late: bool,
    /// Whether failures begin or end with that.
    pub edge: Option<FailureEdge>,
}

/// See the module.
pub struct CameraState {
    /// What is held.
    pub queue: Queue,
    /// Events that describe the stream, which were being pushed when a flush began.
    pub unsent: Vec<gst::Event>,
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
    /// The engine is being opened at the input size for the camera's pictures.
    pub shape_opening: bool,
    /// The pictures for which it did not open last.
    pub shape_refused: Option<Shown>,
    /// How large the pictures are shown to the network.
    pub input_scale: InputScale,
    /// Frames in GPU memory are copied through the host; said once.
    pub through_host: bool,
    /// Whether the camera is live; `None` until it was asked.
    pub live: Option<bool>,
    /// The queue is full: the frame at its head leaves now, counted or not.
    pub hurry: bool,
    /// The pusher's wait for the head's deadline.
    pub alarm: Option<gst::SingleShotClockId>,
    /// The format of the frames that come in.
    pub format: Option<StreamFormat>,
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

impl CameraState {
    /// A stream that has not begun.
    pub fn new() -> Self {
        Self {
            queue: Queue::default(),
            unsent: Vec::new(),
            pushing: false,
            querying: false,
            flushing: true,
            stopped: true,
            flow: Ok(gst::FlowSuccess::Ok),
            eos: false,
            opening: false,
            shape_opening: false,
            shape_refused: None,
            input_scale: InputScale::NORMAL,
            through_host: false,
            live: None,
            hurry: false,
            alarm: None,
            format: None,
            limit_said: None,
            time: StreamTime::default(),
            arrivals: ArrivalClock::default(),
            account: Account::default(),
            next_ticket: 0,
            first_ticket: 0,
        }
    }

    /// What is held is dropped, and what was counted before says nothing of what comes. Returns the
    /// events that describe the stream and had not been pushed.
    pub fn flush(&mut self) -> Vec<gst::Event> {
        let mut events = std::mem::take(&mut self.unsent);
        events.extend(self.queue.clear());
        self.flow = Ok(gst::FlowSuccess::Ok);
        self.eos = false;
        self.hurry = false;
        self.time = StreamTime::default();
        self.first_ticket = self.next_ticket;
        self.account.flush();
        self.account.forget_late();
        events
    }

    /// As after [`CameraState::new`], but for the settings.
    pub fn restart(&mut self) {
        self.flush();
        self.live = None;
        self.through_host = false;
        (self.shape_opening, self.shape_refused) = (false, None);
        self.format = None;
        self.limit_said = None;
        self.account.restart();
    }

    /// A frame comes now, by `clock`: its place in the stream.
    pub fn begin(
        &mut self,
        buffer: &gst::BufferRef,
        clock: &gst::Clock,
        interval: u32,
    ) -> FrameStamp {
        let duration = buffer.duration().map(Duration::from);
        let duration =
            duration.or_else(|| Some(Duration::from_secs_f64(1.0 / self.format.as_ref()?.rate?)));
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

    /// Whether the count of `frame`, which leaves next, may still come.
    pub fn is_awaited(&self, frame: &Frame) -> bool {
        match frame.state {
            FrameState::Waiting(..) => true,
            FrameState::Confirmed(of) => self.account.is_late(of),
            FrameState::NotDue | FrameState::Missed | FrameState::Counted(_) => false,
        }
    }

    /// The engine says what became of the frame with `ticket`.
    pub fn report(&mut self, ticket: u64, outcome: &Outcome<'_>, now: Instant) -> Return {
        if ticket < self.first_ticket {
            return Return { sequence: None, late: false, edge: None };
        }
        let edge = match outcome {
            Outcome::Counted { .. } => self.account.note_counted(),
            Outcome::Dropped => {
                self.account.statistics.dropped += 1;
                None
            }
            Outcome::Failed(_) => self.account.note_failed(),
        };
        let is_counted = matches!(outcome, Outcome::Counted { .. });
        let measured = |placement| match outcome {
            Outcome::Counted { output, inference_time } => {
                Some(Measurement::new(output, *inference_time, placement))
            }
            Outcome::Dropped | Outcome::Failed(_) => None,
        };
        let Some((frame, placement)) = self.queue.waiting(ticket) else {
            let sequence = self.account.late(ticket, measured);
            if let Some(sequence) = sequence.filter(|_| !is_counted) {
                self.account.forget_reference(sequence);
            }
            return Return { sequence, late: true, edge };
        };
        frame.state = measured(placement).map_or(FrameState::Missed, FrameState::Counted);
        let (sequence, latency) = (frame.stamp.sequence, now - frame.arrival);
        self.account.statistics.note_latency(latency);
        if !is_counted {
            self.account.forget_reference(sequence);
        }
        Return { sequence: Some(sequence), late: false, edge }
    }

    /// What is said of a frame that leaves now.
    pub fn leave(
        &mut self,
        frame: &mut Frame,
        settings: ReportSettings,
        now: Instant,
    ) -> FrameReport {
        let finding = match std::mem::replace(&mut frame.state, FrameState::Missed) {
            FrameState::NotDue => Finding::NotDue,
            FrameState::Waiting(ticket, placement) => {
                // Downstream may have kept it longer than that.
                let held = frame.deadline.as_ref().map_or(Duration::MAX, |deadline| deadline.held);
                self.account.statistics.note_latency((now - frame.arrival).min(held));
                Finding::Late { ticket, placement }
            }
            FrameState::Missed => Finding::Missed,
            FrameState::Counted(measurement) => Finding::Counted(measurement),
            FrameState::Confirmed(of) => Finding::Confirmed(of),
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

/// When the camera took the picture, nanoseconds since 1970 (UTC): from the reference timestamp
/// that `rtspsrc` takes from RTCP sender reports (`add-reference-timestamp-meta`, GStreamer 1.22).
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
