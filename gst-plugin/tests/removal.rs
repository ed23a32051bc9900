//! Cameras that are removed while what stands behind them does not move.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Mutex, mpsc};

use common::{BOUND, init};
use gst::prelude::*;
use gstvehiclecount::meta;

/// A pipeline with simulated cameras, each with a sink of its own.
struct Stage {
    pipeline: gst::Pipeline,
    counter: gst::Element,
    sources: Vec<gst::Element>,
    sinks: Vec<gst::Element>,
}

fn element(factory: &str) -> gst::Element {
    gst::ElementFactory::make(factory).build().unwrap()
}

impl Stage {
    /// With a `sink` for each camera, whose properties `configure` sets.
    fn new(
        name: &str,
        live: bool,
        cameras: usize,
        sink: &str,
        configure: impl Fn(&gst::Element),
    ) -> Self {
        Self::with(name, live, cameras, |_| {
            let sink = element(sink);
            configure(&sink);
            sink
        })
    }

    /// With the sink that `make` makes for each camera.
    fn with(name: &str, live: bool, cameras: usize, make: impl Fn(usize) -> gst::Element) -> Self {
        init();
        let pipeline = gst::Pipeline::new();
        let counter = element("vehiclecounter");
        counter.set_property_from_str("engine", "scripted");
        counter.set_property("engine-id", name);
        pipeline.add(&counter).unwrap();
        let mut stage = Self { pipeline, counter, sources: Vec::new(), sinks: Vec::new() };
        for camera in 0..cameras {
            let source = element("videotestsrc");
            source.set_property("is-live", live);
            let sink = make(camera);
            stage.pipeline.add_many([&source, &sink]).unwrap();
            source.link_pads(Some("src"), &stage.counter, Some(&format!("sink_{camera}"))).unwrap();
            stage.counter.link_pads(Some(&format!("src_{camera}")), &sink, Some("sink")).unwrap();
            stage.sources.push(source);
            stage.sinks.push(sink);
        }
        stage
    }

    fn start(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
        let (result, ..) = self.pipeline.state(gst::ClockTime::try_from(BOUND).unwrap());
        result.unwrap();
    }

    /// Removes a camera, in a thread of its own: that may not come back.
    fn release(&self, camera: usize) {
        let pad = self.counter.static_pad(&format!("sink_{camera}")).unwrap();
        let counter = self.counter.clone();
        let (done, end) = mpsc::channel();
        std::thread::spawn(move || {
            counter.release_request_pad(&pad);
            let _ = done.send(());
        });
        end.recv_timeout(BOUND).expect("the camera is removed");
        assert!(self.counter.static_pad(&format!("src_{camera}")).is_none());
        // The source is linked to nothing now; its thread ends with an error of its own.
        self.sources[camera].set_state(gst::State::Null).unwrap();
        // Else it would be started again, and end again.
        self.pipeline.remove(&self.sources[camera]).unwrap();
    }

    /// Waits for a frame that reaches the sink of `camera` from now on.
    fn see_a_frame(&self, camera: usize) {
        let pad = self.sinks[camera].static_pad("sink").unwrap();
        let (send, receive) = mpsc::channel();
        let probe = pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let _ = send.send(meta::count::read(info.buffer().unwrap()).is_some());
            gst::PadProbeReturn::Ok
        });
        assert!(receive.recv_timeout(BOUND).expect("a frame comes"));
        pad.remove_probe(probe.unwrap());
    }

    fn end(self) {
        let Self { pipeline, counter, sources, sinks } = self;
        pipeline.set_state(gst::State::Null).unwrap();
        drop((counter, sources, sinks));
        let weak = pipeline.downgrade();
        drop(pipeline);
        common::assert_gone(&weak, "the pipeline");
    }
}

#[test]
fn camera_is_removed_while_its_sink_is_prerolled() {
    for live in [false, true] {
        let stage =
            Stage::new("prerolled", live, 2, "fakesink", |sink| sink.set_property("sync", true));
        // A live pipeline does not preroll: it plays first.
        if live {
            stage.start(gst::State::Playing);
            stage.see_a_frame(0);
        }
        stage.start(gst::State::Paused);
        stage.release(0);
        stage.sinks[0].set_state(gst::State::Null).unwrap();
        stage.pipeline.remove(&stage.sinks[0]).unwrap();
        stage.start(gst::State::Playing);
        stage.see_a_frame(1);
        stage.end();
    }
}

#[test]
fn camera_is_removed_while_its_downstream_is_blocked() {
    // At the sink, and at the counter's own pad.
    for own in [false, true] {
        let stage =
            Stage::new("blocked", false, 2, "fakesink", |sink| sink.set_property("async", false));
        let pad =
            if own { stage.counter.static_pad("src_0") } else { stage.sinks[0].static_pad("sink") };
        let (send, receive) = mpsc::channel();
        pad.unwrap().add_probe(
            gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER,
            move |_, _| {
                let _ = send.send(());
                gst::PadProbeReturn::Ok
            },
        );
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        receive.recv_timeout(BOUND).expect("a frame is blocked");
        stage.see_a_frame(1);
        stage.release(0);
        stage.see_a_frame(1);
        stage.end();
    }
}

#[test]
fn sink_of_a_removed_camera_serves_another_one() {
    let stage = Stage::new("heir", false, 1, "fakesink", |sink| sink.set_property("sync", true));
    stage.start(gst::State::Paused);
    stage.release(0);
    // A new camera in the place of the old one.
    let source = element("videotestsrc");
    stage.pipeline.add(&source).unwrap();
    source.link_pads(Some("src"), &stage.counter, Some("sink_0")).unwrap();
    stage.counter.link_pads(Some("src_0"), &stage.sinks[0], Some("sink")).unwrap();
    source.sync_state_with_parent().unwrap();
    stage.start(gst::State::Playing);
    stage.see_a_frame(0);
    stage.end();
}

#[test]
fn camera_is_removed_while_a_full_queue_holds_it() {
    let stage = Stage::new("full", true, 2, "appsink", |sink| {
        sink.set_property("max-buffers", 1u32);
        sink.set_property("sync", false);
    });
    let (send, receive) = mpsc::channel();
    let sink = stage.sinks[0].clone().downcast::<gst_app::AppSink>().unwrap();
    sink.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let _ = send.send(());
        gst::PadProbeReturn::Ok
    });
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    // The first is taken, the second fills the sink, the third waits.
    (0..2).for_each(|_| receive.recv_timeout(BOUND).unwrap());
    stage.release(0);
    drop(sink);
    stage.end();
}

#[test]
fn camera_is_removed_while_downstream_does_not_answer() {
    let stage = Stage::new("unanswered", false, 1, "fakesink", |_| {});
    let pad = stage.sinks[0].static_pad("sink").unwrap();
    let (send, receive) = mpsc::channel();
    pad.add_probe(
        gst::PadProbeType::BLOCK | gst::PadProbeType::QUERY_DOWNSTREAM,
        move |_, info| match info.query().map(|query| query.type_()) {
            Some(gst::QueryType::Allocation) => {
                let _ = send.send(());
                gst::PadProbeReturn::Ok
            }
            _ => gst::PadProbeReturn::Pass,
        },
    );
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    receive.recv_timeout(BOUND).expect("a query is blocked");
    stage.release(0);
    stage.end();
}

/// Whether `event` ends a flush.
fn ends_flush(event: Option<&gst::Event>) -> bool {
    event.is_some_and(|event| event.type_() == gst::EventType::FlushStop)
}

/// A bin with a sink pad that blocks on its first frame, as a driver does that has lost its device,
/// and takes no notice of events.
fn deaf(entered: mpsc::Sender<()>, gate: mpsc::Receiver<()>) -> gst::Element {
    let gate = Mutex::new(gate);
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .name("sink")
        .chain_function(move |_, _, _| {
            let _ = entered.send(());
            let _ = gate.lock().unwrap().recv();
            Err(gst::FlowError::Eos)
        })
        .event_function(|_, _, _| true)
        .build();
    let bin = gst::Bin::new();
    bin.add_pad(&pad).unwrap();
    bin.upcast()
}

/// A sink that blocks on its first frame, with a lock held that flushing takes.
fn locked(entered: mpsc::Sender<()>, gate: mpsc::Receiver<()>) -> gst::Element {
    let sink = element("fakesink");
    sink.set_property("async", false);
    sink.set_property("signal-handoffs", true);
    let gate = Mutex::new(gate);
    sink.connect("handoff", false, move |_| {
        let _ = entered.send(());
        let _ = gate.lock().unwrap().recv();
        None
    });
    sink
}

#[test]
fn camera_is_removed_while_downstream_ignores_the_flush_and_ends_when_that_lets_go() {
    for (name, block) in
        [("deaf", deaf as fn(mpsc::Sender<()>, mpsc::Receiver<()>) -> _), ("locked", locked)]
    {
        let (entered, enters) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let gate = Mutex::new(Some(gate));
        let stage = Stage::with(name, false, 2, |camera| match camera {
            0 => block(entered.clone(), gate.lock().unwrap().take().unwrap()),
            _ => {
                let sink = element("fakesink");
                sink.set_property("async", false);
                sink
            }
        });
        let (send, flushed) = mpsc::channel();
        let pad = stage.sinks[0].static_pad("sink").unwrap();
        let flushes = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(flushes, move |_, info| {
            if ends_flush(info.event()) {
                let _ = send.send(());
            }
            gst::PadProbeReturn::Ok
        });
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        enters.recv_timeout(BOUND).expect("a frame is held");
        stage.see_a_frame(1);

        stage.release(0);
        let bus = stage.pipeline.bus().unwrap();
        let text =
            bus.pop_filtered(&[gst::MessageType::Warning]).map(|warning| match warning.view() {
                gst::MessageView::Warning(warning) => warning.error().to_string(),
                _ => unreachable!(),
            });
        let text = text.expect("a warning is posted before the pad is released");
        assert!(text.contains("camera-0") && text.contains("does not react"), "{text}");
        stage.see_a_frame(1);

        // The number is free again at once.
        let again = stage.counter.request_pad_simple("sink_0").unwrap();
        stage.counter.release_request_pad(&again);

        // What stood behind it can be used again when it has let go.
        assert!(flushed.try_recv().is_err());
        drop(open);
        flushed.recv_timeout(BOUND).expect("the flush ends");
        let counter = stage.counter.downgrade();
        stage.end();
        common::assert_gone(&counter, "the counter");
    }
}
