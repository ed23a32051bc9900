//! One RTSP camera in a pipeline: it may fail, end or fall silent at any time; it is taken out and
//! put back, and nothing else in the pipeline notices.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Result;
use gst::prelude::*;
use parking_lot::Mutex;

use super::address::Address;
use super::decode::{decoder, element};
use super::decoding::Decoding;
use super::mount::{Attempts, ENDED, Mount};
use super::reason::{self, Reason};

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

/// How a camera is read.
#[derive(Clone, Copy, Debug)]
pub struct RtspOptions {
    /// The jitter buffer, milliseconds.
    pub latency: u32,
    /// Take every certificate of an `rtsps` server, also one that nothing vouches for.
    pub insecure: bool,
    /// Ask for UDP packets instead of data inside the connection.
    pub udp: bool,
}

impl Default for RtspOptions {
    fn default() -> Self {
        Self { latency: 200, insecure: false, udp: false }
    }
}

/// What a session offers, as the server describes it.
#[derive(Clone, Debug)]
struct Offer {
    /// "video", "audio", "application".
    media: String,
    /// "H264", "H265", "JPEG".
    encoding: String,
    /// Whether it is the stream that is read.
    taken: bool,
}

/// What one connection has told of itself so far.
#[derive(Default)]
struct SessionState {
    offers: Vec<Offer>,
    /// Why the certificate of the server is not trusted.
    certificate: Option<String>,
    /// What GStreamer has no element for.
    missing: Option<String>,
    /// The session is set up.
    opened: bool,
}

type SharedSession = Arc<Mutex<SessionState>>;

/// One camera: its address, and its source while there is one.
pub struct RtspSource {
    /// Its id.
    pub name: String,
    address: Address,
    options: RtspOptions,
    mount: Mount,
    decoding: Decoding,
    told: SharedSession,
    /// How it is.
    pub health: Health,
    refused: bool,
    attempts: Attempts,
    probe: Option<Receiver<String>>,
}

impl RtspSource {
    /// A camera that will feed `sink`, from `now` on.
    pub fn new(
        name: String,
        address: Address,
        options: RtspOptions,
        pipeline: &gst::Pipeline,
        sink: gst::Pad,
        now: Instant,
    ) -> Self {
        Self {
            name,
            address,
            options,
            mount: Mount::new(pipeline, sink),
            decoding: Decoding::default(),
            told: SharedSession::default(),
            health: Health::Connecting,
            refused: false,
            attempts: Attempts::new(now),
            probe: None,
        }
    }

    /// It is decoded so.
    pub fn with_decoding(self, decoding: Decoding) -> Self {
        Self { decoding, ..self }
    }

    /// No picture may come for so long, instead of [`SILENCE`].
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.attempts.allow_silence(silence);
        self
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connects where it is time to. `heard` is when its last frame came.
    pub fn tick(&mut self, now: Instant, heard: Option<Instant>) {
        self.hear(heard);
        if self.mount.is_taken() && self.attempts.is_silent(heard, now) {
            self.fall_silent(now);
        }
        if let (Some(probe), Health::Failed(_)) = (&self.probe, &self.health) {
            match probe.try_recv() {
                Ok(reason) => (self.health, self.probe) = (Health::Failed(reason), None),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.probe = None,
            }
        }
        if self.attempts.begin(now)
            && let Err(error) = self.connect()
        {
            self.fail(&format!("{error:#}"), now);
        }
    }

    fn hear(&mut self, heard: Option<Instant>) {
        if self.mount.is_taken() && self.attempts.has_succeeded(heard) {
            self.health = Health::Playing;
            self.refused = false;
        }
    }

    /// Whether it failed for a reason that does not pass by itself.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether `health` is the last word for now: no better reason for a failure is sought.
    pub fn is_settled(&self) -> bool {
        self.probe.is_none()
    }

    /// Takes in a message of the pipeline's bus. `heard` is when its last frame came. Gives whether
    /// it is this camera's own.
    pub fn handle(
        &mut self,
        message: &gst::MessageRef,
        now: Instant,
        heard: Option<Instant>,
    ) -> bool {
        if !message.src().is_some_and(|object| self.mount.owns(object)) {
            return false;
        }
        self.hear(heard);
        match message.view() {
            gst::MessageView::Error(error) => {
                let has_played = self.health == Health::Playing;
                if let Some(reason) = self.decoding.fall_back(error, has_played) {
                    self.fail(&reason, now);
                    self.attempts.hurry(now);
                } else {
                    self.fail_for(Reason::of(error), now);
                }
            }
            gst::MessageView::Element(element) if element.has_name(ENDED) => {
                self.fail("it ended", now)
            }
            gst::MessageView::Element(element) if element.has_name("missing-plugin") => {
                let what =
                    element.structure().and_then(|structure| structure.get::<String>("name").ok());
                self.told.lock().missing = what;
            }
            gst::MessageView::Progress(progress) => {
                let (kind, code, _) = progress.get();
                self.told.lock().opened |= kind == gst::ProgressType::Complete && code == "open";
            }
            _ => {}
        }
        true
    }

    /// The camera is gone, for this reason; it is tried again later.
    pub fn fail(&mut self, reason: &str, now: Instant) {
        self.mount.take_out();
        self.probe = None;
        self.health = Health::Failed(reason.to_owned());
        self.refused = false;
        self.attempts.wait(now);
    }

    /// Says no more than is known: what the server offered, what is missing, how far it came.
    fn fail_for(&mut self, reason: Reason, now: Instant) {
        let told = std::mem::take(&mut *self.told.lock());
        let taken = told.offers.iter().find(|offer| offer.taken);
        let untrusted = told.certificate.clone().map(Reason::Certificate);
        let text = match (&reason, taken) {
            (Reason::Connection(_), _) if untrusted.is_some() => {
                untrusted.as_ref().map(Reason::to_string).unwrap_or_default()
            }
            (Reason::Unauthorized, _) if self.address.credentials().is_none() => {
                Reason::NoLogin("rtsp").to_string()
            }
            (Reason::Missing(_), None) if !told.offers.is_empty() => nothing_to_take(&told.offers),
            (Reason::Missing(words), taken) => {
                let sends = taken
                    .map_or(String::new(), |offer| format!("it sends {}, and ", offer.encoding));
                let what = told.missing.unwrap_or_else(|| words.clone());
                format!("{sends}no installed GStreamer element decodes it: {what}")
            }
            (Reason::Flow(_), Some(offer)) => format!("{reason} ({})", offer.encoding),
            _ => reason.to_string(),
        };
        if reason == Reason::Unauthorized {
            self.attempts.lengthen();
        }
        self.fail(&text, now);
        let is_connection = matches!(reason, Reason::Connection(_));
        self.refused = reason.is_lasting() || (is_connection && untrusted.is_some());
        if is_connection {
            self.probe = Some(reason::probe(&self.address));
        }
    }

    fn fall_silent(&mut self, now: Instant) {
        let (time, playing) = (self.attempts.silence(), self.health == Health::Playing);
        let opened = self.told.lock().opened;
        match (playing, opened) {
            (true, _) => self.fail(&format!("silent for {time}"), now),
            (false, true) => self.fail(&format!("connected, but no picture came for {time}"), now),
            (false, false) => {
                self.fail(&format!("no answer for {time}"), now);
                self.probe = Some(reason::probe(&self.address));
            }
        }
    }

    fn connect(&mut self) -> Result<()> {
        self.told = SharedSession::default();
        let bin = gst::Bin::new();
        let rtsp = element("rtspsrc")?;
        rtsp.set_property_from_str("protocols", if self.options.udp { "udp" } else { "tcp" });
        rtsp.set_property("location", self.address.location());
        // Apart from the location, they are in no message of GStreamer's.
        if let Some((user, password)) = self.address.credentials() {
            rtsp.set_property("user-id", user);
            rtsp.set_property("user-pw", password);
        }
        rtsp.set_property("latency", self.options.latency);
        if rtsp.has_property("add-reference-timestamp-meta") {
            rtsp.set_property("add-reference-timestamp-meta", true);
        }
        bin.add(&rtsp)?;
        let (decoder, end) = decoder(&bin, self.decoding.clone())?;
        self.listen(&rtsp, &decoder);

        self.mount.put(&bin, &end)
    }

    /// Takes the first video stream that can be read, and nothing else, and notes what is offered.
    fn listen(&self, rtsp: &gst::Element, decoder: &gst::Element) {
        let told = self.told.clone();
        rtsp.connect("select-stream", false, move |values| {
            let caps = values.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
            let mut told = told.lock();
            let taken = caps.is_some_and(|caps| {
                let word = |name: &str| {
                    let value = caps.structure(0).and_then(|caps| caps.get::<String>(name).ok());
                    value.unwrap_or_default()
                };
                let (media, encoding) = (word("media"), word("encoding-name"));
                let first = media == "video" && told.offers.iter().all(|offer| !offer.taken);
                let taken = first && has_depayloader(&caps);
                told.offers.push(Offer { media, encoding, taken });
                taken
            });
            Some(taken.to_value())
        });
        let sink = decoder.static_pad("sink").map(|pad| pad.downgrade());
        rtsp.connect_pad_added(move |_, pad| {
            let sink =
                sink.as_ref().and_then(|sink| sink.upgrade()).filter(|sink| !sink.is_linked());
            if let Some(sink) = sink {
                // A stream that is not linked ends, and rtspsrc says so.
                let _ = pad.link(&sink);
            }
        });
        let (told, insecure) = (self.told.clone(), self.options.insecure);
        rtsp.connect("accept-certificate", false, move |values| {
            let flags = values.get(3).and_then(glib::FlagsValue::from_value);
            let wrong = flags.map(|(_, flags)| {
                flags.iter().map(|flag| flag.nick()).collect::<Vec<_>>().join(", ")
            });
            told.lock().certificate = wrong.filter(|_| !insecure);
            Some(insecure.to_value())
        });
    }

    /// Takes the source out and ends this camera's stream.
    pub fn end(&mut self) {
        self.mount.end();
        self.attempts.end();
    }
}

impl super::Source for RtspSource {
    fn tick(&mut self, now: Instant, heard: Option<Instant>) {
        self.tick(now, heard);
    }

    fn handle(&mut self, message: &gst::MessageRef, now: Instant, heard: Option<Instant>) -> bool {
        self.handle(message, now, heard)
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn broken(&self) -> u64 {
        self.attempts.broken()
    }

    fn is_refused(&self) -> bool {
        self.is_refused()
    }

    fn is_settled(&self) -> bool {
        self.is_settled()
    }

    fn end(&mut self) {
        self.end();
    }
}

/// Whether an element that takes such packets is installed. The description of a session has the
/// fields of RTP, and a name of its own.
fn has_depayloader(caps: &gst::CapsRef) -> bool {
    let Some(mut packets) = caps.structure(0).map(|caps| caps.to_owned()) else { return false };
    packets.set_name("application/x-rtp");
    let caps = gst::Caps::from_iter([packets]);
    let kind = gst::ElementFactoryType::DEPAYLOADER;
    let factories = gst::ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL);
    factories.iter().any(|factory| factory.can_sink_any_caps(&caps))
}

/// Why none of the streams that are offered is taken.
fn nothing_to_take(offers: &[Offer]) -> String {
    let list = |video: bool| {
        let of_kind = offers.iter().filter(|offer| (offer.media == "video") == video);
        of_kind
            .map(|offer| format!("{} {}", offer.media, offer.encoding))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match list(true) {
        videos if videos.is_empty() => format!("it sends no video, only {}", list(false)),
        videos => format!("it sends {videos}, which no installed GStreamer element reads"),
    }
}
