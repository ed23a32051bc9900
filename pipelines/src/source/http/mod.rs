//! One camera that is read over HTTP: Motion JPEG, JPEG pictures one by one, HTTP Live Streaming,
//! or a stream of bytes that GStreamer's elements take apart.
//!
//! The client is not GStreamer's: `hlsdemux` fetches its playlists without user name and password,
//! `multipartdemux` gathers without a bound where no boundary comes, and why a certificate is not
//! trusted is told by neither. All cameras share one thread for it.

mod cipher;
mod client;
mod digest;
mod jpeg;
mod playlist;
mod reader;
mod trust;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Health;
use super::address::Address;
use super::decode::{decoder, element};
use super::decoding::Decoding;
use super::mount::{Attempts, ENDED, Mount};
use super::reason::Reason;
use client::Client;
use reader::{Kind, Progress, Reader};

/// Pictures that are asked for one by one come as often as they are counted, within these bounds:
/// a camera without a picture for longer is taken for one that has stalled.
const PERIODS: (Duration, Duration) = (Duration::from_millis(40), Duration::from_secs(2));

/// How a camera is read.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// Take every certificate of an `https` server, also one that nothing vouches for.
    pub insecure: bool,
    /// Pictures a second where each one is asked for.
    pub rate: f64,
}

/// One camera that is read over HTTP. As [`RtspSource`](super::RtspSource), it is connected,
/// watched, taken out and put back.
pub struct HttpSource {
    address: Address,
    options: HttpOptions,
    mount: Mount,
    decoding: Decoding,
    work: Option<Work>,
    progress: Arc<Mutex<Progress>>,
    /// The segment of a playlist with which the next connection begins.
    next: Option<u64>,
    was_live: bool,
    health: Health,
    is_refused: bool,
    attempts: Attempts,
}

/// What reads. It ends when it is dropped.
struct Work {
    task: JoinHandle<()>,
    /// Tells it where the bytes go.
    opened: Option<oneshot::Sender<glib::WeakRef<gst_app::AppSrc>>>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HttpSource {
    /// A camera that will feed `sink`, from `now` on.
    pub fn new(
        address: Address,
        options: HttpOptions,
        pipeline: &gst::Pipeline,
        sink: gst::Pad,
        now: Instant,
    ) -> Self {
        Self {
            address,
            options,
            mount: Mount::new(pipeline, sink),
            decoding: Decoding::default(),
            work: None,
            progress: Arc::default(),
            next: None,
            was_live: false,
            health: Health::Connecting,
            is_refused: false,
            attempts: Attempts::new(now),
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

    /// Begins to read. The source is made once it is known what comes.
    fn connect(&mut self) -> Result<()> {
        self.progress = Arc::default();
        let (send, ready) = oneshot::channel();
        let period = Duration::from_secs_f64(1.0 / self.options.rate);
        let reader = Reader {
            client: Client::new(self.options.insecure),
            address: self.address.clone(),
            end: glib::WeakRef::new(),
            ready: Some(ready),
            dropped: self.decoding.skip.as_ref().map(|skip| skip.skipped.clone()),
            period: period.clamp(PERIODS.0, PERIODS.1),
            progress: self.progress.clone(),
            key: None,
            next: self.next.take(),
            was_live: self.was_live,
        };
        self.work = Some(Work { task: runtime()?.spawn(reader.run()), opened: Some(send) });
        Ok(())
    }

    /// Puts in the source of what comes.
    fn open(&mut self, kind: Kind) -> Result<()> {
        let opened = self.work.as_mut().and_then(|work| work.opened.take());
        let Some(opened) = opened else { return Ok(()) };
        let bin = gst::Bin::new();
        let bytes = element("appsrc")?.downcast::<gst_app::AppSrc>();
        let bytes = bytes.ok().context("appsrc is what it is called")?;
        // What it holds is bounded by what is pushed.
        bytes.set_max_bytes(0);
        bin.add(&bytes)?;
        let (decoder, mut end) = decoder(&bin, self.decoding.clone())?;
        bytes.link(&decoder)?;
        if kind == Kind::Pictures {
            bytes.set_format(gst::Format::Time);
            bytes.set_caps(Some(&gst::Caps::new_empty_simple("image/jpeg")));
        } else {
            end = self.mount.pace(&bin, &end)?;
        }
        self.mount.put(&bin, &end)?;
        // The reader may have failed meanwhile.
        let _ = opened.send(bytes.downgrade());
        Ok(())
    }

    fn disconnect(&mut self) {
        self.work = None;
        self.mount.take_out();
    }

    fn fail(&mut self, reason: &Reason, now: Instant) {
        if reason.is_login() {
            self.attempts.lengthen();
        }
        self.fail_with(reason.to_string(), now);
        self.is_refused = reason.is_lasting();
    }

    fn fail_with(&mut self, reason: String, now: Instant) {
        self.disconnect();
        self.health = Health::Failed(reason);
        self.is_refused = false;
        self.attempts.wait(now);
    }

    fn fall_silent(&mut self, now: Instant) {
        let failure = self.progress.lock().failure.take();
        if let Some(reason) = failure {
            return self.fail(&reason, now);
        }
        let time = self.attempts.silence();
        let kind = self.progress.lock().kind;
        let reason = match (&self.health, kind) {
            (Health::Playing, _) => format!("silent for {time}"),
            (_, None) => format!("no answer for {time}"),
            (_, Some(Kind::Pictures)) => {
                format!("connected, but no JPEG picture came for {time}")
            }
            (_, Some(Kind::Stream)) => {
                format!("connected, but no picture came for {time}")
            }
        };
        self.fail_with(reason, now);
    }

    fn hear(&mut self, heard: Option<Instant>) {
        if self.work.is_some() && self.attempts.has_succeeded(heard) {
            self.health = Health::Playing;
            self.is_refused = false;
        }
    }

    /// The stream is at its end.
    fn ended(&mut self, now: Instant) {
        let progress = std::mem::take(&mut *self.progress.lock());
        self.was_live |= progress.was_live;
        if let Some(reason) = progress.failure {
            return self.fail(&reason, now);
        }
        match (self.health == Health::Playing, progress.kind) {
            (true, Some(Kind::Stream)) if progress.next.is_some() || !self.was_live => {
                // On with the next part, or again from the beginning.
                self.disconnect();
                self.next = progress.next;
                self.attempts.hurry(now);
            }
            (true, _) => self.fail_with("it ended".to_owned(), now),
            (false, _) => self.fail_with("it ended without a picture".to_owned(), now),
        }
    }
}

impl super::Source for HttpSource {
    fn tick(&mut self, now: Instant, heard: Option<Instant>) {
        self.hear(heard);
        if self.work.is_some() {
            let (failure, kind) = {
                let mut progress = self.progress.lock();
                self.was_live |= progress.was_live;
                // What came before it is shown first.
                let failure = if progress.is_ending { None } else { progress.failure.take() };
                (failure, progress.kind)
            };
            if let Some(reason) = failure {
                self.fail(&reason, now);
            } else if self.attempts.is_silent(heard, now) {
                self.fall_silent(now);
            } else if let Some(kind) = kind
                && let Err(error) = self.open(kind)
            {
                self.fail_with(format!("{error:#}"), now);
            }
        }
        if self.attempts.begin(now)
            && let Err(error) = self.connect()
        {
            self.fail_with(format!("{error:#}"), now);
        }
    }

    fn handle(&mut self, message: &gst::MessageRef, now: Instant, heard: Option<Instant>) -> bool {
        if !message.src().is_some_and(|object| self.mount.owns(object)) {
            return false;
        }
        self.hear(heard);
        match message.view() {
            gst::MessageView::Error(error) => {
                let has_played = self.health == Health::Playing;
                let failure = self.progress.lock().failure.take();
                if let Some(reason) = failure {
                    // What came before it is in parts.
                    self.fail(&reason, now);
                } else if let Some(reason) = self.decoding.fall_back(error, has_played) {
                    self.fail_with(reason, now);
                    self.attempts.hurry(now);
                } else {
                    self.fail(&Reason::of(error), now);
                }
            }
            gst::MessageView::Element(element) if element.has_name(ENDED) => self.ended(now),
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
        self.work = None;
        self.mount.end();
        self.attempts.end();
    }
}

/// What reads all cameras: one thread, which begins with the first of them.
///
/// # Errors
/// No thread can be made.
fn runtime() -> Result<Handle> {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = RUNTIME.get() {
        return Ok(handle.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    // One that comes second has no thread, and ends here.
    if RUNTIME.set(handle).is_ok() {
        thread::Builder::new()
            .name("http-cameras".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .context("no thread for cameras of HTTP")?;
    }
    RUNTIME.get().cloned().context("it was set")
}
