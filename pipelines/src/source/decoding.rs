//! Which decoders a source takes, and what is known of the one at work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use gst::prelude::*;
use parking_lot::Mutex;

use super::reason::Reason;
use super::skip::Skip;

/// Threads of a decoder of libav, which takes as many as there are processors unless told.
const THREADS: i32 = 2;

/// Which decoders are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one of the highest rank, as GStreamer has it.
    #[default]
    Auto,
    /// None of hardware.
    Software,
    /// Those of hardware, also where GStreamer ranks them lower, as far as there are any.
    Hardware,
}

/// How the pictures of a source are decoded. Copies are one.
#[derive(Clone, Default)]
pub struct Decoding {
    /// Which decoders are taken.
    choice: Choice,
    /// Pictures that it does not want are not decoded.
    pub skip: Option<Skip>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// A decoder of hardware has failed: no other one is tried.
    has_failed: AtomicBool,
    /// One of software was passed over.
    passed_over: AtomicBool,
    decoder: Mutex<Option<Decoder>>,
}

/// A decoder at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// The element, such as `avdec_h264`.
    pub name: String,
    /// Whether it is one of hardware.
    pub is_hardware: bool,
}

impl From<Option<Skip>> for Decoding {
    fn from(skip: Option<Skip>) -> Self {
        Self::new(Choice::Auto, skip)
    }
}

impl Decoding {
    /// Decoding by such decoders.
    pub fn new(choice: Choice, skip: Option<Skip>) -> Self {
        if choice == Choice::Hardware {
            raise_hardware();
        }
        Self { choice, skip, state: Arc::default() }
    }

    /// The decoder at work.
    pub fn decoder(&self) -> Option<Decoder> {
        self.state.decoder.lock().clone()
    }

    /// Chooses among the decoders that `decodebin` makes, and watches them.
    pub fn watch(&self, decodebin: &gst::Element) {
        if let Some(skip) = &self.skip {
            skip.clone().watch(decodebin);
        }
        let Some(bin) = decodebin.downcast_ref::<gst::Bin>() else { return };
        let state = self.state.clone();
        bin.connect_deep_element_added(move |_, _, element| {
            // What a decoder is made of is its own affair.
            let is_inner = element.parent().is_some_and(|parent| is_inside_hardware(&parent));
            if let Some(factory) = element.factory().filter(is_decoder).filter(|_| !is_inner) {
                if element.has_property_with_type("max-threads", i32::static_type()) {
                    element.set_property("max-threads", THREADS);
                }
                let (name, is_hardware) = (factory.name().to_string(), is_hardware(&factory));
                *state.decoder.lock() = Some(Decoder { name, is_hardware });
            }
        });
        // The element's own type, in which 0 is to try a factory, and 2 to skip it.
        let answers = glib::Type::from_name("GstAutoplugSelectResult");
        let Some(answers) = answers.and_then(glib::EnumClass::with_type) else { return };
        let decoding = self.clone();
        decodebin.connect("autoplug-select", false, move |values| {
            let caps = values.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
            let factory =
                values.get(3).and_then(|factory| factory.get::<gst::ElementFactory>().ok());
            let is_skipped = caps.zip(factory).is_some_and(|(caps, factory)| {
                is_decoder(&factory) && !decoding.takes(&factory, &caps)
            });
            answers.to_value(if is_skipped { 2 } else { 0 })
        });
    }

    /// Whether a decoder is taken for such a stream.
    fn takes(&self, factory: &gst::ElementFactory, caps: &gst::Caps) -> bool {
        let may_be_hardware =
            self.choice != Choice::Software && !self.state.has_failed.load(Ordering::Relaxed);
        if is_hardware(factory) {
            return may_be_hardware;
        }
        let is_passed_over = self.choice == Choice::Hardware
            && may_be_hardware
            && decoders(gst::Rank::MARGINAL)
                .any(|other| is_hardware(&other) && other.can_sink_any_caps(caps));
        self.state.passed_over.fetch_or(is_passed_over, Ordering::Relaxed);
        !is_passed_over
    }

    /// Whether a decoder of hardware is to blame for an error, `has_played` where pictures have
    /// come before: software takes its place from then on. Gives what is told of it.
    pub fn fall_back(&self, error: &gst::message::Error, has_played: bool) -> Option<String> {
        let decoder = self.decoder();
        let hardware = decoder.as_ref().filter(|decoder| decoder.is_hardware);
        let reason = Reason::of(error);
        let is_its_own = error.src().is_some_and(is_inside_hardware);
        // The stream stops where a decoder takes no form of it, and another element says so.
        let is_its_fault = hardware.is_some()
            && (is_its_own || (!has_played && matches!(reason, Reason::Flow(_))));
        let has_none =
            self.state.passed_over.load(Ordering::Relaxed) && matches!(reason, Reason::Missing(_));
        if !(is_its_fault || has_none) || self.state.has_failed.swap(true, Ordering::Relaxed) {
            return None;
        }
        let name = hardware.map_or("none that opens", |decoder| decoder.name.as_str());
        Some(format!("its hardware decoder, {name}, failed ({reason}); software decodes instead"))
    }
}

fn is_decoder(factory: &gst::ElementFactory) -> bool {
    let class = factory.metadata(gst::ELEMENT_METADATA_KLASS).unwrap_or_default();
    class.contains("Decoder") && (class.contains("Video") || class.contains("Image"))
}

fn is_hardware(factory: &gst::ElementFactory) -> bool {
    factory.metadata(gst::ELEMENT_METADATA_KLASS).is_some_and(|class| class.contains("Hardware"))
}

/// Whether `object` is a decoder of hardware, or a part of one.
fn is_inside_hardware(object: &gst::Object) -> bool {
    let own = object.downcast_ref::<gst::Element>().and_then(|element| element.factory());
    own.is_some_and(|factory| is_decoder(&factory) && is_hardware(&factory))
        || object.parent().is_some_and(|parent| is_inside_hardware(&parent))
}

/// All decoders of pictures from a rank on.
fn decoders(rank: gst::Rank) -> impl Iterator<Item = gst::ElementFactory> {
    let kinds = gst::ElementFactoryType::DECODER;
    gst::ElementFactory::factories_with_type(kinds, rank).into_iter().filter(is_decoder)
}

/// Those of hardware that GStreamer ranks too low to be tried, as VA's of 1.22, are tried.
fn raise_hardware() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for factory in decoders(gst::Rank::NONE).filter(is_hardware) {
            if factory.rank() < gst::Rank::MARGINAL {
                factory.set_rank(gst::Rank::MARGINAL);
            }
        }
    });
}
