//! What comes in: the streaming thread of a camera's source hands frames to the engine and queues
//! them. Events take their places between them.

use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;
use gst::subclass::prelude::*;
use vehiclecount_core::report::unix_nanoseconds;

use super::VehicleCounterPad;
use super::camera::{Camera, Link};
use super::confirmation::Confirmation;
use super::formats::StreamFormat;
use super::holding::HoldLimits;
use super::imp::{CAT, VehicleCounter};
use super::queue::{Deadline, Frame, FrameState, Item};
use super::state::CameraState;
use crate::ranked::Guard;
use crate::time::{self, StreamTime};

/// Frames of a file that are held at most: enough to fill two batches for each lane, within reason
/// for full-size frames.
pub const MAX_FRAMES: usize = 32;

/// Events that are held at most.
const MAX_EVENTS: usize = 256;

impl Camera {
    /// A frame comes.
    pub(super) fn chain(
        &self,
        imp: &VehicleCounter,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (arrival, received_time) = (Instant::now(), unix_nanoseconds(SystemTime::now()));
        let counting = imp.counting();
        let live = self.is_live();
        let clock = time::clock_of(imp.obj().upcast_ref());
        let came = clock.time();
        let link = match self.await_link(live)? {
            Some(link) if self.fit_shape(imp, &link, live)? => Some(link),
            _ => None,
        };
        let interval = u32::try_from(self.sinkpad.imp().interval()).unwrap_or(counting.interval);
        let skips = self.sinkpad.imp().skip_unchanged().unwrap_or_else(|| imp.skip_unchanged());

        let holding = live.then(|| self.holding(imp, imp.max_latency()));
        let limit = holding.map_or_else(
            || link.as_ref().map_or(MAX_FRAMES, |link| self.depth(link)),
            |holding| holding.frames,
        );
        let deadline = holding.map(|HoldLimits { latency, .. }| Deadline {
            time: came + gst::ClockTime::from_nseconds(latency.as_nanos() as u64),
            clock: clock.clone(),
            held: latency,
        });
        let mut state = self.wait_for_room(limit, live)?;
        let Some(format) = state.format.clone() else {
            return Err(gst::FlowError::NotNegotiated);
        };
        let stamp = state.begin(&buffer, &clock, interval);
        let compared = skips
            .then(|| Confirmation { number: stamp.sequence, of: state.account.confirmable(stamp) });
        drop(state);

        // The picture is read here and nowhere else: what is queued is never mapped again.
        let number = stamp.sequence;
        let (mut input, mut confirmed) = (None, None);
        match &link {
            _ if !stamp.due => {
                gst::log!(CAT, obj = self.sinkpad, "Frame {number}: skipped, interval={interval}")
            }
            None => gst::log!(
                CAT,
                obj = self.sinkpad,
                "Frame {number}: uncounted, the engine is not open for it yet"
            ),
            Some(link) => {
                match self.input(imp, link, &format, &buffer, compared, counting.density_map) {
                    Ok(Some(made)) => input = Some(made),
                    Ok(None) => confirmed = compared.and_then(|compared| compared.of),
                    Err(reason) => self.complain(imp, number, &reason),
                }
            }
        }

        let mut state = self.lock();
        if state.flushing {
            gst::log!(CAT, obj = self.sinkpad, "Frame {number}: dropped, the camera flushes");
            return Err(gst::FlowError::Flushing);
        }
        let (found, order) = match input {
            Some((slot, placement)) => {
                let ticket = state.ticket();
                state.account.hand_over(stamp, placement.generation);
                (FrameState::Waiting(ticket, placement), Some((ticket, slot)))
            }
            None if stamp.due => {
                (confirmed.map_or(FrameState::Missed, FrameState::Confirmed), None)
            }
            None => (FrameState::NotDue, None),
        };
        let frame = Frame { buffer, stamp, arrival, received_time, deadline, state: found };
        state.queue.push(Item::Frame(frame));
        let held = state.queue.frames();
        self.wake(&mut state);
        drop(state);
        if let (Some((ticket, slot)), Some(link)) = (order, &link) {
            gst::log!(
                CAT,
                obj = self.sinkpad,
                "Frame {number}: to the engine, ticket {ticket}; {held} frames held"
            );
            // A file waits for room in its own queue: none of its frames is dropped here.
            slot.submit(&link.seat, ticket, if live { 1 } else { MAX_FRAMES });
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Frames of a file that are held at most, fewer where each of them is several inputs.
    fn depth(&self, link: &Link) -> usize {
        let depth = link.depth();
        (depth / self.looks.lock().inputs()).max(depth.min(2))
    }

    /// The camera's seat at the engine. While that is being opened, a live frame goes without, and
    /// others wait.
    fn await_link(&self, live: bool) -> Result<Option<Link>, gst::FlowError> {
        let mut state = self.lock();
        loop {
            if state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if let Some(link) = self.link() {
                return Ok(Some(link));
            }
            state.flow?;
            match (state.opening, live) {
                (false, _) => return Err(gst::FlowError::Flushing),
                (true, true) => return Ok(None),
                (true, false) => state = self.wait(state),
            }
        }
    }

    /// Waits until the queue takes another frame. The head of a full live queue leaves uncounted:
    /// the video goes on.
    fn wait_for_room(
        &self,
        limit: usize,
        live: bool,
    ) -> Result<Guard<'_, CameraState>, gst::FlowError> {
        let mut state = self.lock();
        loop {
            if state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            state.flow?;
            if state.eos {
                return Err(gst::FlowError::Eos);
            }
            if state.queue.frames() < limit && state.queue.events() < MAX_EVENTS {
                state.hurry = false;
                return Ok(state);
            }
            if live && !state.hurry {
                gst::log!(
                    CAT,
                    obj = self.sinkpad,
                    "{limit} frames are held: the first of them leaves now"
                );
                state.hurry = true;
                self.wake(&mut state);
            }
            state = self.wait(state);
        }
    }

    /// How frames of a live camera are held for `max_latency`. Where they cannot be held that long,
    /// a warning says so, once for each `max_latency` and format.
    fn holding(&self, imp: &VehicleCounter, max_latency: Duration) -> HoldLimits {
        let mut state = self.lock();
        let holding = HoldLimits::of(max_latency, state.format.as_ref());
        let said = holding.limited.map(|_| (max_latency, holding.frames));
        let changed = std::mem::replace(&mut state.limit_said, said) != said;
        drop(state);
        if changed {
            if let Some((bytes, rate)) = holding.limited {
                gst::element_imp_warning!(
                    imp,
                    gst::ResourceError::Settings,
                    (
                        "Camera {}: max-latency={} does not fit: {} frames of {bytes} bytes are held at most, at \
                         {rate} frames a second {} ms; then they leave with the last count",
                        self.id(),
                        max_latency.as_millis(),
                        holding.frames,
                        holding.latency.as_millis()
                    )
                );
            }
            time::post_latency(imp.obj().upcast_ref());
        }
        holding
    }

    /// Asks upstream once whether it is live.
    pub(super) fn is_live(&self) -> bool {
        if let Some(live) = self.lock().live {
            return live;
        }
        let live = time::is_live(&self.sinkpad);
        gst::debug!(
            CAT,
            obj = self.sinkpad,
            "The camera is {}",
            if live { "live" } else { "not live" }
        );
        self.lock().live = Some(live);
        live
    }

    /// A frame that cannot be read is passed on uncounted: a warning when that begins.
    fn complain(&self, imp: &VehicleCounter, number: u64, reason: &str) {
        gst::log!(CAT, obj = self.sinkpad, "Frame {number}: uncounted, {reason}");
        if self.with_state(|state| state.account.note_failed()).is_some() {
            gst::element_imp_warning!(
                imp,
                gst::StreamError::Failed,
                ("Camera {}: {reason}; it is passed on uncounted", self.id())
            );
        }
    }

    /// An event comes. A source that is being stopped is told that the camera flushes: of a mere
    /// failure it makes an error of its own.
    pub(super) fn sink_event(
        &self,
        pad: &VehicleCounterPad,
        event: gst::Event,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::log!(CAT, obj = pad, "Handling {event:?}");
        let passed =
            |taken| if taken { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Error) };
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.set_flushing(true);
                if let Some(link) = self.link() {
                    link.seat.cancel();
                }
                passed(self.srcpad.push_event(event))
            }
            gst::EventView::FlushStop(_) => {
                // What the pusher had in hand comes back as soon as downstream flushes; it must not
                // arrive after the flush.
                let mut state = self.lock();
                while state.pushing {
                    if state.stopped {
                        return Err(gst::FlowError::Flushing);
                    }
                    state = self.wait(state);
                }
                drop(state);
                let taken = self.srcpad.push_event(event);
                let mut state = self.lock();
                gst::log!(CAT, obj = pad, "Flushed: {} frames dropped", state.queue.frames());
                // What describes the stream outlives a flush, also where it had not been pushed
                // yet: it is not sent again.
                for held in state.flush() {
                    let _ = self.srcpad.store_sticky_event(&held);
                }
                state.flushing = false;
                self.wake(&mut state);
                passed(taken)
            }
            _ if !event.is_serialized() => passed(self.srcpad.push_event(event)),
            _ => self.enqueue(event),
        }
    }

    /// A serialized event takes its place behind the frames that came before it.
    fn enqueue(&self, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.lock();
        while !state.flushing && state.flow.is_ok() && state.queue.events() >= MAX_EVENTS {
            state = self.wait(state);
        }
        match event.view() {
            gst::EventView::StreamStart(_) => {
                state.eos = false;
                state.live = None;
                state.account.flush();
                if state.flow == Err(gst::FlowError::Eos) {
                    state.flow = Ok(gst::FlowSuccess::Ok);
                }
            }
            gst::EventView::Caps(caps) => {
                state.format = StreamFormat::of(caps.caps());
                if state.format.is_none() {
                    gst::warning!(CAT, obj = self.sinkpad, "Cannot read frames of {}", caps.caps());
                    return Err(gst::FlowError::NotNegotiated);
                }
            }
            gst::EventView::Segment(segment) => state.time = StreamTime::of(segment.segment()),
            gst::EventView::Eos(_) => state.eos = true,
            _ => {}
        }
        if state.flushing {
            return Err(gst::FlowError::Flushing);
        }
        state.flow?;
        state.queue.push(Item::Event(event));
        self.wake(&mut state);
        Ok(gst::FlowSuccess::Ok)
    }
}
