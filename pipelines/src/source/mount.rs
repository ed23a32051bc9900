//! What all sources have in common: a place in a pipeline, and when they are tried again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;

use super::SILENCE;
use super::decode::element;
use crate::stop::stop;

/// Waits between two attempts: doubled each time, up to the last, give or take a fifth.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The message by which a source tells its end.
pub const ENDED: &str = "camera-ended";

/// How long to wait for the next attempt.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF.0)
    }
}

impl Backoff {
    /// When to try again. Cameras that fail together do not come back together.
    pub fn after(&mut self, now: Instant) -> Instant {
        let wait = self.0.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.0 = (self.0 * 2).min(BACKOFF.1);
        now + wait
    }

    /// The next wait is the longest: a camera locks out those who try wrong passwords.
    pub fn lengthen(&mut self) {
        self.0 = BACKOFF.1;
    }
}

/// When a source is connected, and connected again.
#[derive(Debug)]
pub struct Attempts {
    backoff: Backoff,
    /// When the next attempt is made.
    next: Option<Instant>,
    /// When the last one was made.
    since: Instant,
    /// How long no frame may come.
    silence: Duration,
    /// Whether the present connection has led to a frame.
    is_up: bool,
    /// Connections that had led to a frame and broke.
    broken: u64,
}

impl Attempts {
    /// The first attempt is made `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            backoff: Backoff::default(),
            next: Some(now),
            since: now,
            silence: SILENCE,
            is_up: false,
            broken: 0,
        }
    }

    /// No frame may come for so long, instead of [`SILENCE`].
    pub fn allow_silence(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// How long no frame may come, in words.
    pub fn silence(&self) -> String {
        format!("{} s", self.silence.as_secs_f64())
    }

    /// Whether it is time for an attempt, which is made `now` then.
    pub fn begin(&mut self, now: Instant) -> bool {
        let is_due = self.next.take_if(|next| now >= *next).is_some();
        if is_due {
            self.since = now;
        }
        is_due
    }

    /// Whether the last attempt has led to a frame, of which the last one was `heard` then. The
    /// waits begin anew where it has.
    pub fn has_succeeded(&mut self, heard: Option<Instant>) -> bool {
        let has_succeeded = heard.is_some_and(|heard| heard > self.since);
        if has_succeeded {
            self.backoff = Backoff::default();
            self.is_up = true;
        }
        has_succeeded
    }

    /// Whether the last frame, and the last attempt, are longer ago than is allowed.
    pub fn is_silent(&self, heard: Option<Instant>, now: Instant) -> bool {
        let last = heard.map_or(self.since, |heard| heard.max(self.since));
        now.saturating_duration_since(last) > self.silence
    }

    /// The connection failed or broke: the next attempt is made after a wait.
    pub fn wait(&mut self, now: Instant) {
        self.broken += u64::from(std::mem::take(&mut self.is_up));
        self.next = Some(self.backoff.after(now));
    }

    /// How many connections had led to a frame and broke.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// The next wait is the longest, as [`Backoff::lengthen`] has it.
    pub fn lengthen(&mut self) {
        self.backoff.lengthen();
    }

    /// The next attempt is made at once.
    pub fn hurry(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// No other attempt is made.
    pub fn end(&mut self) {
        self.next = None;
    }
}

/// The place of a camera in a pipeline, before `sink`. A source is put there and taken out.
pub struct Mount {
    pipeline: gst::Pipeline,
    sink: gst::Pad,
    source: Option<gst::Bin>,
}

impl Mount {
    /// An empty place.
    pub fn new(pipeline: &gst::Pipeline, sink: gst::Pad) -> Self {
        Self { pipeline: pipeline.clone(), sink, source: None }
    }

    /// Whether a source is there.
    pub fn is_taken(&self) -> bool {
        self.source.is_some()
    }

    /// Lets what leaves `bin` at `end` leave at its own speed. Gives where it leaves then.
    ///
    /// # Errors
    /// The element that is missing.
    pub fn pace(&self, bin: &gst::Bin, end: &gst::Pad) -> Result<gst::Pad> {
        let pace = element("clocksync")?;
        bin.add(&pace)?;
        // It begins now, not when the pipeline began.
        let offset = self.pipeline.current_running_time().unwrap_or_default();
        end.set_offset(offset.nseconds() as i64);
        end.link(&pace.static_pad("sink").context("a filter has a sink pad")?)?;
        pace.static_pad("src").context("a filter has a source pad")
    }

    /// Whether `object` is a part of the source.
    pub fn owns(&self, object: &gst::Object) -> bool {
        self.source.as_ref().is_some_and(|source| {
            object == source.upcast_ref::<gst::Object>() || object.has_as_ancestor(source)
        })
    }

    /// Puts a source in and starts it; `end` is where its pictures leave. Its end of stream becomes
    /// the element message [`ENDED`].
    ///
    /// # Errors
    /// What keeps it from starting. It is there nonetheless, to be taken out.
    pub fn put(&mut self, bin: &gst::Bin, end: &gst::Pad) -> Result<()> {
        let pad = gst::GhostPad::with_target(end).context("the source's end is linked")?;
        // The end of a camera is not the end of its place in the pipeline.
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |pad, info| {
            match info.event().map(|event| event.type_()) {
                Some(gst::EventType::Eos) => {
                    if let Some(bin) = pad.parent_element() {
                        let message = gst::Structure::new_empty(ENDED);
                        let _ = bin.post_message(
                            gst::message::Element::builder(message).src(&bin).build(),
                        );
                    }
                    // Not `Drop`: GStreamer then releases the event once more than there are
                    // references.
                    gst::PadProbeReturn::Handled
                }
                _ => gst::PadProbeReturn::Ok,
            }
        });
        pad.set_active(true).context("the source's end can be activated")?;
        bin.add_pad(&pad).context("the source has one end")?;
        self.pipeline.add(bin).context("the source is put into the pipeline")?;
        self.source = Some(bin.clone());
        pad.link(&self.sink).context("the source is linked to the counter")?;
        // Its preroll is its own affair: otherwise each new camera takes the whole pipeline back to
        // PAUSED, and one that is put in meanwhile would stay there and never send its PLAY.
        bin.set_property("async-handling", true);
        bin.set_state(gst::State::Playing).context("the source cannot start")?;
        Ok(())
    }

    /// Takes the source out.
    pub fn take_out(&mut self) {
        let Some(source) = self.source.take() else { return };
        if let Some(pad) = self.sink.peer() {
            let _ = pad.unlink(&self.sink);
        }
        // A source that was removed posts no message of its end.
        let _ = source.set_locked_state(true);
        stop(&source);
        let _ = self.pipeline.remove(&source);
    }

    /// Takes the source out and ends the camera's stream.
    pub fn end(&mut self) {
        self.take_out();
        let _ = self.sink.send_event(gst::event::Eos::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_that_had_a_frame_and_broke_is_counted_once() {
        let now = Instant::now();
        let mut attempts = Attempts::new(now);
        // One that leads to nothing is none that broke.
        assert!(attempts.begin(now) && !attempts.has_succeeded(None));
        attempts.wait(now);
        assert_eq!(attempts.broken(), 0);
        for number in 1..3 {
            let later = now + Duration::from_secs(100 * number);
            assert!(attempts.begin(later));
            let heard = Some(later + Duration::from_millis(5));
            assert!(attempts.has_succeeded(heard) && attempts.has_succeeded(heard));
            attempts.wait(later);
            attempts.wait(later);
            assert_eq!(attempts.broken(), number);
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_differ_between_cameras() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = (backoff.after(now) - now).as_secs_f64();
            assert!(
                (seconds * 0.8..=seconds * 1.2).contains(&wait),
                "{wait} s instead of {seconds}"
            );
        }
        let waits: Vec<_> = (0..8).map(|_| Backoff::default().after(now)).collect();
        assert!(waits.iter().any(|wait| wait != &waits[0]));
        let mut refused = Backoff::default();
        refused.lengthen();
        assert!(refused.after(now) - now >= BACKOFF.1.mul_f64(0.8));
    }
}
