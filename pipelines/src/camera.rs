//! One RTSP camera in a pipeline: it may fail, end or fall silent at any time; it is taken out and put back, and nobody else notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;

/// Waits between two attempts: doubled each time, up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A camera that has sent nothing for this long is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(8);

/// How a camera is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not heard of yet.
    Connecting,
    /// Frames come.
    Playing,
    /// It failed, for this reason, and is tried again.
    Failed(String),
}

/// One camera: its address, and its source while there is one.
pub struct Camera {
    /// Its id.
    pub name: String,
    url: String,
    latency: u32,
    pipeline: gst::Pipeline,
    sink: gst::Pad,
    source: Option<gst::Bin>,
    /// How it is.
    pub health: Health,
    backoff: Duration,
    retry: Option<Instant>,
    since: Instant,
}

impl Camera {
    /// A camera that will feed `sink`. `latency` is the jitter buffer's, milliseconds.
    pub fn new(
        name: String,
        url: String,
        latency: u32,
        pipeline: &gst::Pipeline,
        sink: gst::Pad,
        now: Instant,
    ) -> Self {
        Self {
            name,
            url,
            latency,
            pipeline: pipeline.clone(),
            sink,
            source: None,
            health: Health::Connecting,
            backoff: BACKOFF.0,
            retry: Some(now),
            since: now,
        }
    }

    /// Connects where it is time to. `heard` is when its last frame came.
    pub fn tick(&mut self, now: Instant, heard: Option<Instant>) {
        if self.source.is_some() {
            match heard {
                Some(heard) if heard > self.since => {
                    self.health = Health::Playing;
                    self.backoff = BACKOFF.0;
                }
                _ => {}
            }
            let last = heard.map_or(self.since, |heard| heard.max(self.since));
            if now.saturating_duration_since(last) > SILENCE {
                self.fail(&format!("silent for {} s", SILENCE.as_secs()), now);
            }
        }
        if self.retry.is_some_and(|retry| now >= retry) {
            self.retry = None;
            self.since = now;
            if let Err(error) = self.connect() {
                self.fail(&format!("{error:#}"), now);
            }
        }
    }

    /// Whether a message of `object` is this camera's.
    pub fn owns(&self, object: &gst::Object) -> bool {
        self.source
            .as_ref()
            .is_some_and(|source| object == source.upcast_ref::<gst::Object>() || object.has_as_ancestor(source))
    }

    /// The camera is gone, for this reason; it is tried again later.
    pub fn fail(&mut self, reason: &str, now: Instant) {
        self.disconnect();
        self.health = Health::Failed(reason.to_owned());
        self.retry = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn connect(&mut self) -> Result<()> {
        // The decoder of libav or, where that is missing, whatever else decodes H.264.
        let bin = gst::parse::bin_from_description(
            "rtspsrc name=rtsp protocols=tcp ! rtph264depay ! h264parse ! decodebin ! videoconvert name=out",
            false,
        )
        .context("an element that reads RTSP is missing; `vehicle-count doctor` tells which")?;
        let rtsp = bin.by_name("rtsp").context("the source has an rtspsrc")?;
        rtsp.set_property("location", &self.url);
        rtsp.set_property("latency", self.latency);
        if rtsp.has_property("add-reference-timestamp-meta") {
            rtsp.set_property("add-reference-timestamp-meta", true);
        }
        let out = bin.by_name("out").and_then(|out| out.static_pad("src")).context("the source has an end")?;
        let pad = gst::GhostPad::with_target(&out).context("the source's end is linked")?;
        // The end of a camera is not the end of its place in the pipeline.
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |pad, info| match info.event().map(|event| event.type_()) {
            Some(gst::EventType::Eos) => {
                if let Some(bin) = pad.parent_element() {
                    let message = gst::Structure::new_empty("camera-ended");
                    let _ = bin.post_message(gst::message::Element::builder(message).src(&bin).build());
                }
                // Not `Drop`: GStreamer then releases the event once more than there are references.
                gst::PadProbeReturn::Handled
            }
            _ => gst::PadProbeReturn::Ok,
        });
        pad.set_active(true).context("the source's end can be activated")?;
        bin.add_pad(&pad).context("the source has one end")?;
        self.pipeline.add(&bin).context("the source is put into the pipeline")?;
        self.source = Some(bin.clone());
        pad.link(&self.sink).context("the source is linked to the counter")?;
        // Its preroll is its own affair: otherwise each new camera takes the whole pipeline back to PAUSED, and one that is put in
        // meanwhile would stay there and never send its PLAY.
        bin.set_property("async-handling", true);
        bin.set_state(gst::State::Playing).context("the source cannot start")?;
        Ok(())
    }

    /// Takes the source out.
    pub fn disconnect(&mut self) {
        let Some(source) = self.source.take() else { return };
        if let Some(pad) = self.sink.peer() {
            let _ = pad.unlink(&self.sink);
        }
        // A source that was removed tells nobody of its end.
        let _ = source.set_locked_state(true);
        let _ = source.set_state(gst::State::Null);
        let _ = self.pipeline.remove(&source);
    }

    /// Takes the source out and ends this camera's stream.
    pub fn end(&mut self) {
        self.disconnect();
        self.retry = None;
        let _ = self.sink.send_event(gst::event::Eos::new());
    }
}
