//! Sources of this machine, which go on for ever: a device, a file that begins again at its end,
//! and simulated traffic.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;

use super::decode::element;
use super::decoding::Decoding;
use super::mount::{Attempts, ENDED, Mount};
use super::reason::Reason;
use super::{Health, device, file};

/// How long the message of an element that does not start is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// The video of a file, at its own speed.
    File(PathBuf),
    /// A camera, by Video4Linux.
    Device(PathBuf),
    /// The element `vehicletestsrc` with this viewpoint, and so many pictures a second.
    Simulated(String, i32),
}

/// One source of this machine. As [`RtspSource`](super::RtspSource), it is connected, watched,
/// taken out and put back.
pub struct LocalSource {
    what: Local,
    mount: Mount,
    decoding: Decoding,
    health: Health,
    is_refused: bool,
    attempts: Attempts,
    /// Why it did not start, where no element says so until then.
    unstarted: Option<(Instant, String)>,
}

impl LocalSource {
    /// A source that will feed `sink`, from `now` on.
    pub fn new(what: Local, pipeline: &gst::Pipeline, sink: gst::Pad, now: Instant) -> Self {
        let mount = Mount::new(pipeline, sink);
        Self {
            what,
            mount,
            decoding: Decoding::default(),
            health: Health::Connecting,
            is_refused: false,
            attempts: Attempts::new(now),
            unstarted: None,
        }
    }

    /// It is decoded so.
    pub fn with_decoding(self, decoding: Decoding) -> Self {
        Self { decoding, ..self }
    }

    /// No picture may come for so long, instead of [`SILENCE`](super::SILENCE).
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.attempts.allow_silence(silence);
        self
    }

    fn connect(&mut self) -> Result<()> {
        let bin = gst::Bin::new();
        let end = match &self.what {
            Local::File(path) => {
                let source = file::source(path, self.decoding.clone())?;
                bin.add(&source)?;
                let end = source.static_pad("src").context("a source has an end")?;
                Some(self.mount.pace(&bin, &end)?)
            }
            Local::Device(path) => {
                let (source, end) = device::source(path, self.decoding.clone())?;
                return self.mount.put(&source, &end);
            }
            Local::Simulated(view, rate) => {
                let source = element("vehicletestsrc")?;
                source.set_property("is-live", true);
                source.set_property_from_str("viewpoint", view);
                let filter = element("capsfilter")?;
                let rate = gst::Fraction::new(*rate, 1);
                let caps = gst::Caps::builder("video/x-raw").field("framerate", rate).build();
                filter.set_property("caps", caps);
                bin.add_many([&source, &filter])?;
                source.link(&filter)?;
                filter.static_pad("src")
            }
        };
        self.mount.put(&bin, &end.context("a source has an end")?)
    }

    /// Whether another decoder takes the place of one that failed.
    fn falls_back(&mut self, error: &gst::message::Error, now: Instant) -> bool {
        let has_played = self.health == Health::Playing;
        let Some(reason) = self.decoding.fall_back(error, has_played) else { return false };
        self.fail(reason, now);
        self.attempts.hurry(now);
        true
    }

    fn hear(&mut self, heard: Option<Instant>) {
        if self.mount.is_taken() && self.attempts.has_succeeded(heard) {
            self.health = Health::Playing;
            self.is_refused = false;
        }
    }

    fn fail(&mut self, reason: String, now: Instant) {
        self.fail_for(&Reason::Other(reason), now);
    }

    fn fail_for(&mut self, reason: &Reason, now: Instant) {
        self.mount.take_out();
        self.unstarted = None;
        self.health = Health::Failed(reason.to_string());
        self.is_refused = reason.is_lasting();
        self.attempts.wait(now);
    }
}

impl super::Source for LocalSource {
    fn tick(&mut self, now: Instant, heard: Option<Instant>) {
        self.hear(heard);
        if self.mount.is_taken() && self.attempts.is_silent(heard, now) {
            self.fail(format!("silent for {}", self.attempts.silence()), now);
        }
        if let Some((_, error)) = self.unstarted.take_if(|(patience, _)| now >= *patience) {
            self.fail(error, now);
        }
        if self.attempts.begin(now) {
            let checked = match &self.what {
                Local::Device(path) => device::check(path),
                _ => Ok(()),
            };
            if let Err(reason) = checked {
                self.fail_for(&reason, now);
            } else if let Err(error) = self.connect() {
                // Its element has told the reason by a message, which comes before that time.
                self.unstarted = Some((now + PATIENCE, format!("{error:#}")));
            }
        }
    }

    fn handle(&mut self, message: &gst::MessageRef, now: Instant, heard: Option<Instant>) -> bool {
        if !message.src().is_some_and(|object| self.mount.owns(object)) {
            return false;
        }
        self.hear(heard);
        match message.view() {
            gst::MessageView::Error(error) if self.falls_back(error, now) => {}
            gst::MessageView::Error(error) => match &self.what {
                Local::Device(path) => self.fail_for(&device::reason(path, error), now),
                // A file may be written at the moment.
                _ => self.fail(Reason::of(error).to_string(), now),
            },
            gst::MessageView::Element(element) if element.has_name(ENDED) => {
                self.mount.take_out();
                match (&self.health, &self.what) {
                    // Again from the beginning.
                    (Health::Playing, Local::File(_)) => self.attempts.hurry(now),
                    (Health::Playing, _) => self.fail("it ended".to_owned(), now),
                    _ => self.fail("it ended without a picture".to_owned(), now),
                }
            }
            _ => {}
        }
        true
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn broken(&self) -> u64 {
        self.attempts.broken()
    }

    fn is_refused(&self) -> bool {
        self.is_refused
    }

    fn end(&mut self) {
        self.mount.end();
        self.attempts.end();
    }
}
