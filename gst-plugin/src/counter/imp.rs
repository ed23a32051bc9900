//! The element: its pads, its properties and its states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use vehiclecount_core::batch::Dispatcher;
use vehiclecount_core::preprocess::Resize;

use super::VehicleCounterPad;
use super::camera::Camera;
use super::formats::{FORMATS, GPU_FORMATS};
use super::settings::Settings;
use crate::counting::CountingSettings;
use crate::cuda::{self, SharedContext};
use crate::engine::PendingEngine;
use crate::ranked::{Guard, Ranked};
use crate::time;

/// The log category of the element and its cameras.
pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vehiclecounter",
        gst::DebugColorFlags::empty(),
        Some("Counts vehicles on many cameras"),
    )
});

/// How far the element is.
#[derive(Clone, Default)]
pub(super) enum Phase {
    /// READY or NULL.
    #[default]
    Stopped,
    /// Its engine is being opened: live cameras pass uncounted, files wait.
    Opening,
    /// Its engine has not opened: cameras end with an error.
    Failed,
    /// It counts.
    Running(State),
}

impl Phase {
    pub fn running(&self) -> Option<&State> {
        if let Self::Running(state) = self { Some(state) } else { None }
    }
}

/// What the stream made: from READY to PAUSED and back.
#[derive(Clone)]
pub(super) struct State {
    /// The engine, and its threads.
    pub dispatcher: Arc<Dispatcher>,
    /// How pictures are fitted into the model's input.
    pub resize: Resize,
    /// The engine's CUDA context, where frames in GPU memory can be taken.
    pub cuda: Option<Arc<SharedContext>>,
}

/// The order of the locks of the element, its cameras and their pads.
pub(super) mod rank {
    pub const CAMERAS: u8 = 0;
    pub const STATE: u8 = 1;
    /// Of a camera.
    pub const CAMERA_STATE: u8 = 2;
    /// Of a camera.
    pub const LINK: u8 = 3;
    /// Under which no other is taken.
    pub const LAST: u8 = 4;
}

/// See [`super::VehicleCounter`]. Locks are taken in the order of [`rank`]. None is held while
/// posting, adding or activating pads, or opening an engine.
#[derive(Default)]
pub struct VehicleCounter {
    cameras: Ranked<BTreeMap<u32, Arc<Camera>>, { rank::CAMERAS }>,
    pub(super) state: Ranked<Phase, { rank::STATE }>,
    /// The engine's opening, where it takes long.
    pub(super) opening: Ranked<Option<PendingEngine>, { rank::LAST }>,
    pub(super) settings: Ranked<Settings, { rank::LAST }>,
    /// Ids that several cameras have; said once.
    pub(super) shared_ids: Ranked<BTreeSet<String>, { rank::LAST }>,
    /// The CUDA context for decoders, from the first that asks for it, or the start, until NULL.
    pub(super) cuda: Ranked<Option<Arc<SharedContext>>, { rank::LAST }>,
}

/// Locks `mutex`.
pub(super) fn lock<T, const RANK: u8>(mutex: &Ranked<T, RANK>) -> Guard<'_, T> {
    mutex.lock()
}

impl VehicleCounter {
    /// The settings of the counts.
    pub fn counting(&self) -> CountingSettings {
        lock(&self.settings).counting
    }

    /// How long a live frame is held.
    pub fn max_latency(&self) -> Duration {
        lock(&self.settings).max_latency
    }

    /// Whether frames that do not differ from the last counted one keep its count.
    pub(super) fn skip_unchanged(&self) -> bool {
        lock(&self.settings).skip_unchanged
    }

    #[cfg(test)]
    pub(super) fn camera(&self, index: u32) -> Option<Arc<Camera>> {
        lock(&self.cameras).get(&index).cloned()
    }

    /// The cameras, in the order of their numbers.
    pub(super) fn cameras(&self) -> Vec<Arc<Camera>> {
        lock(&self.cameras).values().cloned().collect()
    }

    fn statistics(&self) -> gst::Structure {
        let cameras = self.cameras().into_iter().map(|camera| {
            let id = camera.id();
            let (figures, live) =
                camera.with_state(|state| (state.account.statistics.clone(), state.live));
            let mut entry = gst::Structure::builder("camera")
                .field("camera", id)
                .field("pad", camera.index)
                .field("live", live.unwrap_or(false))
                .field("received", figures.received)
                .field("inferred", figures.inferred)
                .field("confirmed", figures.confirmed)
                .field("stale", figures.stale)
                .field("dropped", figures.dropped)
                .field("failed", figures.failed);
            if let Some(link) = camera.link() {
                entry = entry.field("input-size", link.seat.instance().info().input.to_string());
            }
            if let Some(latencies) = figures.latency([0.5, 0.95, 0.99]) {
                for (name, latency) in
                    ["latency-p50", "latency-p95", "latency-p99"].into_iter().zip(latencies)
                {
                    entry = entry.field(name, latency.as_nanos() as u64);
                }
            }
            entry.build()
        });
        let totals = lock(&self.state).running().map(|state| state.dispatcher.totals());
        let totals = totals.unwrap_or_default();
        gst::Structure::builder("vehiclecount-statistics")
            .field("cameras", gst::Array::new(cameras))
            .field("batches", totals.batches)
            .field("batch-frames", totals.frames)
            .field("batch-sizes", gst::Array::new(totals.sizes))
            .field("busy", totals.busy.as_nanos() as u64)
            .field("lanes", totals.lanes as u32)
            .field("waiting", totals.waiting as u32)
            .build()
    }

    fn active_engine(&self) -> Option<&'static str> {
        lock(&self.state).running().map(|state| state.dispatcher.info().kind.name())
    }
}

#[glib::object_subclass]
impl ObjectSubclass for VehicleCounter {
    const NAME: &'static str = "GstVehicleCounter";
    type Type = super::VehicleCounter;
    type ParentType = gst::Element;
    type Interfaces = (gst::ChildProxy,);
}

impl ObjectImpl for VehicleCounter {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::properties);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
        match pspec.name() {
            "regions" | "smoothing" => self.configure_while_running(),
            "max-latency" => time::post_latency(self.obj().upcast_ref()),
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "active-engine" => self.active_engine().to_value(),
            "statistics" => self.statistics().to_value(),
            _ => lock(&self.settings).get(pspec.name()),
        }
    }
}

impl GstObjectImpl for VehicleCounter {}

impl ElementImpl for VehicleCounter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Vehicle counter",
                "Filter/Analyzer/Video",
                "Counts vehicles in the frames of many cameras and attaches the counts to them",
                "The vehiclecount authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = gst_video::VideoCapsBuilder::new()
                .format_list(FORMATS.map(|(format, _)| format))
                .build();
            let gpu = gst_video::VideoCapsBuilder::new()
                .features([cuda::FEATURE])
                .format_list(GPU_FORMATS)
                .build();
            caps.make_mut().append(gpu);
            // Counting needs no rate, and applications push frames whose caps have none.
            caps.make_mut().iter_mut().for_each(|structure| structure.remove_field("framerate"));
            let sink = gst::PadTemplate::with_gtype(
                "sink_%u",
                gst::PadDirection::Sink,
                gst::PadPresence::Request,
                &caps,
                VehicleCounterPad::static_type(),
            );
            let src = gst::PadTemplate::new(
                "src_%u",
                gst::PadDirection::Src,
                gst::PadPresence::Sometimes,
                &caps,
            );
            vec![sink.expect("a valid template"), src.expect("a valid template")]
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let element = self.obj();
        let source = element.pad_template("src_%u").expect("the template is in the class");
        let camera = {
            let mut cameras = lock(&self.cameras);
            let index = match name.and_then(|name| name.strip_prefix("sink_")) {
                Some(number) => number.parse().ok()?,
                None => (0..).find(|index| !cameras.contains_key(index))?,
            };
            if cameras.contains_key(&index) {
                gst::error!(CAT, imp = self, "sink_{index} is taken");
                return None;
            }
            let camera = Camera::new(&element, index, template, &source);
            cameras.insert(index, camera.clone());
            camera
        };
        let phase = {
            let phase = lock(&self.state);
            match *phase {
                Phase::Opening => camera.await_engine(),
                Phase::Failed => camera.give_up(),
                Phase::Stopped | Phase::Running(_) => {}
            }
            phase.clone()
        };
        if let Phase::Running(state) = &phase {
            camera.join(state);
        }
        if matches!(phase, Phase::Opening | Phase::Running(_)) {
            self.configure_while_running();
        }
        let sinkpad = camera.sinkpad.clone().upcast::<gst::Pad>();
        // Both are activated where the element runs already, the source pad first: it must be ready
        // for the first frame.
        if element.add_pad(&camera.srcpad).is_err() || element.add_pad(&sinkpad).is_err() {
            lock(&self.cameras).remove(&camera.index);
            camera.leave();
            return None;
        }
        element.child_added(&camera.sinkpad, &sinkpad.name());
        Some(sinkpad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let camera = {
            let mut cameras = lock(&self.cameras);
            let index = cameras
                .iter()
                .find(|(_, camera)| camera.sinkpad.upcast_ref::<gst::Pad>() == pad)
                .map(|(&i, _)| i);
            index.and_then(|index| cameras.remove(&index))
        };
        let Some(camera) = camera else { return };
        let element = self.obj();
        let ended = camera.release(element.current_state() == gst::State::Playing);
        camera.leave();
        let _ = element.remove_pad(pad);
        let _ = element.remove_pad(&camera.srcpad);
        element.child_removed(&camera.sinkpad, &pad.name());
        if !ended {
            gst::element_imp_warning!(
                self,
                gst::CoreError::Pad,
                (
                    "Camera {}: what stands behind it holds a frame and does not react to a flush; the camera is \
                     removed, and its thread ends when the frame is given back",
                    camera.id()
                )
            );
        }
        self.tell_shared_ids();
    }

    fn set_context(&self, context: &gst::Context) {
        self.parent_set_context(context);
        if context.context_type() != cuda::CONTEXT || matches!(*lock(&self.state), Phase::Stopped) {
            return;
        }
        // The engine works in one already.
        let held = lock(&self.cuda).clone();
        let other = match (SharedContext::adopt(context), held) {
            (Some(Ok(given)), Some(held)) => given.cuda().handle() != held.cuda().handle(),
            _ => false,
        };
        if other {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                (
                    "The CUDA context that was set comes too late: the engine works in another one. Its frames are copied through host memory; {}",
                    cuda::REMEDY
                )
            );
        }
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            self.start().map_err(|error| {
                self.post_error_message(error);
                gst::StateChangeError
            })?;
        }
        let result = self.parent_change_state(transition);
        if transition == gst::StateChange::PausedToReady
            || (transition == gst::StateChange::ReadyToPaused && result.is_err())
        {
            self.stop();
        }
        if transition == gst::StateChange::ReadyToNull {
            let held = lock(&self.cuda).take();
            drop(held);
        }
        result
    }
}

impl ChildProxyImpl for VehicleCounter {
    fn children_count(&self) -> u32 {
        lock(&self.cameras).len() as u32
    }

    fn child_by_name(&self, name: &str) -> Option<glib::Object> {
        let camera = self.cameras().into_iter().find(|camera| camera.sinkpad.name() == name);
        camera.map(|camera| camera.sinkpad.clone().upcast())
    }

    fn child_by_index(&self, index: u32) -> Option<glib::Object> {
        self.cameras().get(index as usize).map(|camera| camera.sinkpad.clone().upcast())
    }
}
