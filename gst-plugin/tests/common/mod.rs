//! What the tests of `vehiclecounter` share.

#![allow(clippy::unwrap_used, dead_code)]

use std::ops::Deref;
use std::sync::Once;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_check::Harness;
use gstvehiclecount::meta;
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::report::FrameReport;

/// Frames of 64x64 pixels, 25 a second.
pub const CAPS: &str = "video/x-raw, format=RGB, width=64, height=64, framerate=25/1";
/// The time from one frame to the next.
pub const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// How long a test waits for what must come: only a broken element makes it wait that long.
pub const BOUND: Duration = Duration::from_secs(20);

/// GStreamer and the plugin are ready.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvehiclecount::plugin_register_static().unwrap();
    });
}

/// A picture of 64x64 pixels, all of one red: the scripted engine counts `red / 255` vehicles in
/// each of 64 cells.
pub fn picture(red: u8, number: u64) -> gst::Buffer {
    frame([red, 0, 0].repeat(64 * 64), number)
}

/// The picture in `data` as the frame of that number.
pub fn frame(data: Vec<u8>, number: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(data);
    let header = buffer.get_mut().unwrap();
    header.set_pts(number * FRAME);
    header.set_duration(FRAME);
    buffer
}

/// The engine's gate, which opens when a test ends, however it ends: a closed one would hold it.
pub struct Gate(Control);

impl Deref for Gate {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.open_gate();
    }
}

/// One counter with its cameras, each with a source and a sink of the test's own. Upstream is live,
/// time stands still until it is moved.
pub struct Rig {
    /// Dropped first.
    pub control: Gate,
    pub cameras: Vec<Harness>,
    pub element: gst::Element,
    pub bus: gst::Bus,
}

impl Rig {
    /// `name` must be the test's own: it names the engine, which is shared within the process.
    pub fn new(name: &str, cameras: usize, configure: impl FnOnce(&gst::Element)) -> Self {
        init();
        let control = Gate(Control::of(name));
        let element = gst::ElementFactory::make("vehiclecounter")
            .property_from_str("engine", "scripted")
            .property("engine-id", name)
            .property("smoothing", 0.0)
            .build()
            .unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        configure(&element);
        let cameras = (0..cameras)
            .map(|index| {
                let (sink, src) = (format!("sink_{index}"), format!("src_{index}"));
                let mut camera = Harness::with_element(&element, Some(&sink), Some(&src));
                camera.set_src_caps_str(CAPS);
                camera.play();
                camera
            })
            .collect();
        let mut rig = Self { cameras, control, element, bus };
        rig.cameras[0].use_testclock();
        rig
    }

    pub fn push(&mut self, camera: usize, red: u8, number: u64) {
        assert_eq!(self.cameras[camera].push(picture(red, number)), Ok(gst::FlowSuccess::Ok));
    }

    pub fn pull(&mut self, camera: usize) -> FrameReport {
        let buffer = self.cameras[camera].pull().expect("a frame leaves");
        meta::count::read(&buffer).expect("every frame carries a report")
    }

    /// Waits until the frame at the head is held, and lets its deadline come.
    pub fn pass_the_deadline(&mut self) {
        self.cameras[0].crank_single_clock_wait().unwrap();
    }

    pub fn statistic(&self, camera: usize, name: &str) -> u64 {
        let statistics = self.element.property::<gst::Structure>("statistics");
        let cameras = statistics.get::<gst::ArrayRef>("cameras").unwrap();
        cameras.as_slice()[camera].get::<gst::Structure>().unwrap().get(name).unwrap()
    }

    pub fn message(&self, kind: gst::MessageType) -> gst::Message {
        let bound = gst::ClockTime::try_from(BOUND).unwrap();
        self.bus
            .timed_pop_filtered(bound, &[kind])
            .unwrap_or_else(|| panic!("no {kind:?} message came"))
    }

    /// The text of the next warning. The message itself holds the element, so it is not kept.
    pub fn warning(&self) -> String {
        match self.message(gst::MessageType::Warning).view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Takes everything down and checks that nothing of it is left.
    pub fn end(self) {
        let Self { cameras, control, element, bus } = self;
        control.open_gate();
        let weak = element.downgrade();
        drop(cameras);
        element.set_state(gst::State::Null).unwrap();
        element.set_bus(None);
        bus.set_flushing(true);
        drop(element);
        assert_gone(&weak, "the element");
    }
}

/// The raw count.
pub fn counted(report: &FrameReport) -> f64 {
    report.count.expect("counted").raw
}

/// Nothing holds what `weak` points to. A thread of GStreamer's that carried out the last change of
/// state may let go a moment later.
pub fn assert_gone(weak: &glib::WeakRef<impl IsA<glib::Object>>, what: &str) {
    let begin = Instant::now();
    while weak.upgrade().is_some() && begin.elapsed() < BOUND {
        std::thread::yield_now();
    }
    assert!(weak.upgrade().is_none(), "{what} is leaked");
}
