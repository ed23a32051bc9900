//! What goes out: the pusher, the source pad's task, takes items from the queue in order, each
//! frame when it is counted or when its deadline has come.

use std::time::Instant;

use gst::prelude::*;
use gst::subclass::prelude::*;
use vehiclecount_core::account::FailureEdge;
use vehiclecount_core::batch::Outcome;
use vehiclecount_core::report::FrameReport;

use super::camera::Camera;
use super::imp::{CAT, VehicleCounter};
use super::queue::{Deadline, Frame, FrameState, Item};
use super::state::{CameraState, Return};
use crate::meta;
use crate::ranked::Guard;

impl Camera {
    /// The engine says what became of the frame with `ticket`.
    pub(super) fn report(&self, ticket: u64, outcome: &Outcome<'_>) {
        let mut state = self.lock();
        let returned = state.report(ticket, outcome, Instant::now());
        // Before the pusher sees it, so that the log has the order in which things happened.
        self.log_return(ticket, &returned, outcome);
        self.wake(&mut state);
        drop(state);
        let (Some(edge), Some(element)) = (returned.edge, self.element.upgrade()) else { return };
        match (edge, outcome) {
            (FailureEdge::Begin, Outcome::Failed(error)) => gst::element_warning!(
                element,
                gst::LibraryError::Failed,
                ("Camera {}: {error}; its last count is passed on, marked stale", self.id())
            ),
            (FailureEdge::Begin, _) => {}
            (FailureEdge::End, _) => {
                gst::element_info!(
                    element,
                    gst::LibraryError::Failed,
                    ("Camera {}: counting again", self.id())
                );
            }
        }
    }

    fn log_return(&self, ticket: u64, returned: &Return, outcome: &Outcome<'_>) {
        let Some(number) = returned.sequence else {
            gst::log!(CAT, obj = self.srcpad, "Ticket {ticket}: not waited for any more");
            return;
        };
        let when = if returned.late { ", after it has left" } else { "" };
        match outcome {
            Outcome::Counted { output, inference_time } => {
                let total = output.total();
                gst::log!(
                    CAT,
                    obj = self.srcpad,
                    "Frame {number}: counted {total:.2} in {inference_time:?}{when}"
                );
            }
            Outcome::Dropped => {
                gst::log!(CAT, obj = self.srcpad, "Frame {number}: dropped for a newer one{when}");
            }
            Outcome::Failed(error) => {
                gst::log!(CAT, obj = self.srcpad, "Frame {number}: failed{when}: {error}")
            }
        }
    }

    pub(super) fn start_pusher(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        {
            let mut state = self.lock();
            state.stopped = false;
            state.flushing = false;
        }
        let camera = self.me.clone();
        let task = move || {
            let Some(camera) = camera.upgrade() else { return };
            let Some(element) = camera.element.upgrade() else { return };
            if camera.contain(|| camera.push_next(element.imp())) != Some(true) {
                // Called again it would do nothing, and at once, until the pad is deactivated.
                let _ = camera.srcpad.pause_task();
            }
        };
        pad.start_task(task)
            .map_err(|error| gst::loggable_error!(CAT, "Cannot start the pusher: {error}"))
    }

    pub(super) fn stop_pusher(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        {
            let mut state = self.lock();
            state.stopped = true;
            state.flushing = true;
            self.wake(&mut state);
        }
        pad.stop_task()
            .map_err(|error| gst::loggable_error!(CAT, "Cannot stop the pusher: {error}"))
    }

    /// Pushes the next item when it may go. `false` where the pusher ends.
    fn push_next(&self, imp: &VehicleCounter) -> bool {
        let Some(item) = self.take_next() else { return false };
        let result = match item {
            (Item::Event(event), state) => {
                drop(state);
                gst::log!(CAT, obj = self.srcpad, "Pushing {event:?}");
                let sent = self.srcpad.push_event(event.clone());
                if !sent && event.is_sticky() {
                    let mut state = self.lock();
                    if state.flushing {
                        state.unsent.push(event);
                    }
                }
                None
            }
            (Item::Frame(frame), state) => Some(self.push_frame(imp, frame, state)),
        };
        let mut state = self.lock();
        state.pushing = false;
        if let Some(result) = result {
            state.flow = result;
        }
        self.wake(&mut state);
        true
    }

    /// Waits until the item at the head of the queue may go, and takes it; `None` where the pusher
    /// ends.
    fn take_next(&self) -> Option<(Item, Guard<'_, CameraState>)> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if state.flushing || state.flow.is_err() {
                state = self.wait(state);
                continue;
            }
            let deadline = match state.queue.front() {
                Some(Item::Frame(frame)) if state.is_awaited(frame) && !state.hurry => {
                    frame.deadline.clone()
                }
                Some(_) => break,
                None => None,
            };
            let Some(Deadline { clock, time, .. }) = deadline else {
                state = self.wait(state);
                continue;
            };
            if clock.time() >= time {
                break;
            }
            let alarm = clock.new_single_shot_id(time);
            state.alarm = Some(alarm.clone());
            drop(state);
            // Ended early by `wake`, also when that comes before the wait.
            let _ = alarm.wait();
            state = self.lock();
            state.alarm = None;
        }
        state.pushing = true;
        Some((state.queue.pop().expect("the front was just seen"), state))
    }

    /// Attaches the report to a frame and pushes it.
    fn push_frame(
        &self,
        imp: &VehicleCounter,
        mut frame: Frame,
        mut state: Guard<'_, CameraState>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = imp.counting().report();
        let why = match (&frame.state, state.hurry) {
            (FrameState::Counted(_), _) => "with its count",
            (FrameState::NotDue, _) => "with the last count",
            (FrameState::Waiting(..), true) => "uncounted, the queue is full",
            (FrameState::Waiting(..), false) => "uncounted, its deadline has come",
            (FrameState::Missed, _) => "uncounted",
            (FrameState::Confirmed(_), _) => "unchanged",
        };
        // In one with taking it from the queue: its count may come at any time.
        let report = state.leave(&mut frame, settings, Instant::now());
        drop(state);
        self.log_departure(&report, why);
        let mut buffer = frame.buffer;
        // Copies the buffer's header where others hold it too, never the picture.
        meta::count::attach(buffer.make_mut(), &report);
        #[cfg(feature = "analytics")]
        if let Some(info) =
            self.srcpad.current_caps().and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok())
        {
            meta::analytics::attach(buffer.make_mut(), &report, info.width(), info.height());
        }
        let result = self.srcpad.push(buffer);
        gst::log!(
            CAT,
            obj = self.srcpad,
            "Frame {}: downstream returned {result:?}",
            report.sequence
        );
        result
    }

    fn log_departure(&self, report: &FrameReport, why: &str) {
        let (number, age) = (report.sequence, gst::ClockTime::from_nseconds(report.age));
        let stale = match (report.stale, report.confirmed) {
            (true, _) => ", stale",
            (false, true) => ", confirmed",
            (false, false) => "",
        };
        match report.count {
            Some(count) => {
                let (raw, smoothed) = (count.raw, count.smoothed);
                gst::log!(
                    CAT,
                    obj = self.srcpad,
                    "Frame {number}: leaves {why}: {raw:.2}, smoothed {smoothed:.2}{stale}, age {age}"
                );
            }
            None => gst::log!(
                CAT,
                obj = self.srcpad,
                "Frame {number}: leaves {why}; nothing is counted yet"
            ),
        }
    }
}
