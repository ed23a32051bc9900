//! Decoders of hardware, for which elements stand in that are registered here: which one is taken,
//! and what happens where it fails.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gst::prelude::*;
use vehicle_count::source::{Choice, Decoding, Health, Local, LocalSource, Source};
use vehiclecount_tests::{assert_no_leak, drive, init, run_to_end};

use standin::{Fault, StandIn};

mod standin {
    //! A decoder of JPEG that says that it is one of hardware.

    use std::sync::Mutex;

    use gst::subclass::prelude::*;

    /// What is wrong with it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        None,
        DoesNotOpen,
        FailsLater,
    }

    /// What is wrong with those that are made from now on.
    pub static FAULT: Mutex<Fault> = Mutex::new(Fault::None);

    glib::wrapper! {
        pub struct StandIn(ObjectSubclass<imp::StandIn>)
            @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
    }

    mod imp {
        use std::sync::LazyLock;

        use gst::prelude::*;

        use super::*;

        pub struct StandIn(Fault);

        #[glib::object_subclass]
        impl ObjectSubclass for StandIn {
            const NAME: &'static str = "VehicleCountStandInDecoder";
            type Type = super::StandIn;
            type ParentType = gst::Bin;

            fn new() -> Self {
                Self(*FAULT.lock().unwrap())
            }
        }

        impl ObjectImpl for StandIn {
            fn constructed(&self) {
                self.parent_constructed();
                let bin = self.obj();
                let decoder = gst::ElementFactory::make("jpegdec").build().unwrap();
                let end = gst::ElementFactory::make("identity").build().unwrap();
                if self.0 == Fault::FailsLater {
                    end.set_property("error-after", 3);
                }
                bin.add_many([&decoder, &end]).unwrap();
                decoder.link(&end).unwrap();
                for (name, element) in [("sink", &decoder), ("src", &end)] {
                    let template = bin.pad_template(name).unwrap();
                    let target = element.static_pad(name).unwrap();
                    let pad = gst::GhostPad::builder_from_template_with_target(&template, &target);
                    bin.add_pad(&pad.unwrap().build()).unwrap();
                }
            }
        }

        impl GstObjectImpl for StandIn {}

        impl ElementImpl for StandIn {
            fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
                static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                    let class = "Codec/Decoder/Video/Hardware";
                    gst::subclass::ElementMetadata::new("Stand-in", class, "Decodes", "Tests")
                });
                Some(&METADATA)
            }

            fn pad_templates() -> &'static [gst::PadTemplate] {
                static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                    let always = gst::PadPresence::Always;
                    [
                        ("src", gst::PadDirection::Src, "video/x-raw"),
                        ("sink", gst::PadDirection::Sink, "image/jpeg"),
                    ]
                    .map(|(name, direction, caps)| {
                        let caps = gst::Caps::new_empty_simple(caps);
                        gst::PadTemplate::new(name, direction, always, &caps).unwrap()
                    })
                    .into()
                });
                &TEMPLATES
            }

            fn change_state(
                &self,
                change: gst::StateChange,
            ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
                if self.0 == Fault::DoesNotOpen && change == gst::StateChange::NullToReady {
                    return Err(gst::StateChangeError);
                }
                self.parent_change_state(change)
            }
        }

        impl BinImpl for StandIn {}
    }
}

/// The name of the stand-in.
const NAME: &str = "vehiclecountstandindec";

/// Makes those that follow so, and ranks them so, until the result is dropped: ranks are the
/// process's.
fn stand_in(fault: Fault, rank: gst::Rank) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    init();
    *standin::FAULT.lock().unwrap() = fault;
    match gst::ElementFactory::find(NAME) {
        Some(factory) => factory.set_rank(rank),
        None => gst::Element::register(None, NAME, rank, StandIn::static_type()).unwrap(),
    }
    turn
}

/// Writes a clip of a second.
fn clip(path: &Path) {
    let line = "videotestsrc num-buffers=30 ! \
                video/x-raw,format=I420,width=64,height=48,framerate=30/1 ! jpegenc ! avimux ! \
                filesink name=end";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("end").unwrap().set_property("location", path);
    run_to_end(&pipeline);
    assert_no_leak(pipeline);
}

/// Reads a clip, again and again, until the decoder `last` has given more pictures in a row than
/// the clip has. Gives what was told of failures.
fn decode(choice: Choice, last: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.avi");
    clip(&path);
    let pipeline = gst::Pipeline::new();
    let end = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    pipeline.add(&end).unwrap();
    let sink = end.static_pad("sink").unwrap();
    let frames = Arc::new(AtomicUsize::new(0));
    let heard = Arc::new(Mutex::new(None));
    let (count, hear) = (frames.clone(), heard.clone());
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        *hear.lock().unwrap() = Some(Instant::now());
        gst::PadProbeReturn::Ok
    });
    let decoding = Decoding::new(choice, None);
    let source = LocalSource::new(Local::File(path), &pipeline, sink, Instant::now());
    let mut source = source.with_decoding(decoding.clone());
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut told = Vec::new();
    let mut since = None;
    drive(&pipeline, &format!("{last} decodes"), |message, now| {
        if let Some(message) = message {
            source.handle(message, now, *heard.lock().unwrap());
        }
        source.tick(now, *heard.lock().unwrap());
        if let Health::Failed(reason) = source.health()
            && told.last() != Some(reason)
        {
            told.push(reason.clone());
        }
        let decoder = decoding.decoder();
        let is_last = decoder.as_ref().is_some_and(|decoder| decoder.name == last);
        assert!(decoder.is_none_or(|decoder| decoder.is_hardware == (decoder.name == NAME)));
        let now = frames.load(Ordering::Relaxed);
        let begun = *since.get_or_insert(now);
        if !is_last {
            since = None;
        }
        // Beyond the end of the clip: what was chosen is chosen again.
        is_last && now > begun + 40
    });
    source.end();
    drop((source, end));
    pipeline.set_state(gst::State::Null).unwrap();
    assert_no_leak(pipeline);
    told
}

#[test]
fn decoder_of_the_highest_rank_is_taken_unless_software_is_asked_for() {
    let _turn = stand_in(Fault::None, gst::Rank::PRIMARY + 100);
    assert_eq!(decode(Choice::Auto, NAME), [""; 0]);
    assert_eq!(decode(Choice::Software, "jpegdec"), [""; 0]);
}

#[test]
fn hardware_that_is_asked_for_is_taken_before_software_of_a_higher_rank() {
    let _turn = stand_in(Fault::None, gst::Rank::MARGINAL);
    assert_eq!(decode(Choice::Auto, "jpegdec"), [""; 0]);
    assert_eq!(decode(Choice::Hardware, NAME), [""; 0]);
}

#[test]
fn hardware_that_does_not_open_leaves_it_to_software() {
    let _turn = stand_in(Fault::DoesNotOpen, gst::Rank::PRIMARY + 100);
    assert_eq!(decode(Choice::Auto, "jpegdec"), [""; 0]);
    let told = decode(Choice::Hardware, "jpegdec");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("software decodes instead"), "{told:?}");
}

#[test]
fn hardware_that_fails_gives_way_to_software_once_and_that_is_told() {
    let _turn = stand_in(Fault::FailsLater, gst::Rank::PRIMARY + 100);
    for choice in [Choice::Auto, Choice::Hardware] {
        let told = decode(choice, "jpegdec");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(NAME) && told[0].contains("software decodes instead"), "{told:?}");
    }
}
