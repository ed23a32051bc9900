//! The element: its settings, its pads, and the engine that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use vehiclecount_core::batch::Dispatcher;
use vehiclecount_core::count::CountSettings;
use vehiclecount_core::preprocess::Resize;
use vehiclecount_core::region::RegionsFile;

use super::VehicleCounterPad;
use super::camera::Camera;
use super::formats::{FORMATS, GPU_FORMATS};
use crate::cuda::{self, SharedContext};
use crate::engine::{Choice, Opened, Opening, Start};

/// The log category of the element and its cameras.
pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("vehiclecounter", gst::DebugColorFlags::empty(), Some("Counts vehicles on many cameras"))
});

/// What the user chose.
#[derive(Clone, Debug)]
struct Settings {
    choice: Choice,
    regions: String,
    timing: Timing,
}

/// The part of the settings that is read for every frame.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Frames skipped between two counted ones.
    pub interval: u32,
    /// How long a live frame is held.
    pub max_latency: gst::ClockTime,
    /// Whether density maps go into the metadata.
    pub density_map: bool,
    /// Goes into the metadata.
    pub unique_id: u32,
    /// Time constant of the smoothing.
    pub smoothing: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: Choice::default(),
            regions: String::new(),
            timing: Timing {
                interval: 0,
                max_latency: gst::ClockTime::from_mseconds(200),
                density_map: true,
                unique_id: 0,
                smoothing: Duration::from_secs(1),
            },
        }
    }
}

/// How far the element is.
#[derive(Default)]
enum Phase {
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
    fn running(&self) -> Option<&State> {
        if let Self::Running(state) = self { Some(state) } else { None }
    }
}

/// What the stream made: from READY to PAUSED and back.
struct State {
    dispatcher: Arc<Dispatcher>,
    resize: Resize,
    cuda: Option<Arc<SharedContext>>,
}

/// See [`super::VehicleCounter`]. Lock order: `cameras`, `state`, a camera's own, then `settings`,
/// `shared_ids` or `cuda`, under which no other is taken; `opening` is held with none of them. None is held while
/// posting, adding or activating pads, or opening an engine.
#[derive(Default)]
pub struct VehicleCounter {
    cameras: Mutex<BTreeMap<u32, Arc<Camera>>>,
    state: Mutex<Phase>,
    /// The engine's opening, where it takes long.
    opening: Mutex<Option<Opening>>,
    settings: Mutex<Settings>,
    /// Ids that several cameras have; said once.
    shared_ids: Mutex<BTreeSet<String>>,
    /// The CUDA context for decoders, from the first that asks for it, or the start, until NULL.
    cuda: Mutex<Option<Arc<SharedContext>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VehicleCounter {
    /// The settings that are read for every frame.
    pub fn timing(&self) -> Timing {
        lock(&self.settings).timing
    }

    /// The pipeline's clock, or the system's where there is none yet.
    pub fn clock(&self) -> gst::Clock {
        self.obj().clock().unwrap_or_else(gst::SystemClock::obtain)
    }

    #[cfg(test)]
    pub(super) fn camera(&self, index: u32) -> Option<Arc<Camera>> {
        lock(&self.cameras).get(&index).cloned()
    }

    fn cameras(&self) -> Vec<Arc<Camera>> {
        lock(&self.cameras).values().cloned().collect()
    }

    /// Opens the engine, or joins elements that have it open, and lets the cameras in: now, or when it is open.
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let regions = self
            .parse_regions(&settings)
            .map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{error}")))?;
        *lock(&self.state) = Phase::Opening;
        for camera in self.cameras() {
            camera.await_engine();
            self.apply(&camera, &regions, settings.timing.smoothing);
        }
        self.tell_shared_ids();
        let mut choice = settings.choice.clone();
        choice.context = self.adopted(&choice).and_then(|shared| shared.foreign().cloned());
        let element = self.obj().downgrade();
        let done = move |opened| {
            if let Some(element) = element.upgrade() {
                element.imp().opened_later(opened);
            }
        };
        match choice.open(self.obj().upcast_ref(), done) {
            Ok(Start::Opened(opened)) => self.run(opened),
            Ok(Start::Later(opening)) => *lock(&self.opening) = Some(opening),
            Err(error) => {
                self.stop();
                return Err(error);
            }
        }
        Ok(())
    }

    /// The engine is open: the cameras are let in.
    fn run(&self, opened: Opened) {
        opened.announce(self.obj().upcast_ref());
        let Opened { dispatcher, resize, .. } = opened;
        gst::info!(CAT, imp = self, "Counting with {:?}, {:?}", dispatcher.info(), dispatcher.settings());
        let cuda = dispatcher.engine().picture().and_then(|picture| {
            let context = picture.context();
            let held = lock(&self.cuda).clone().filter(|held| held.cuda().handle() == context.handle());
            held.or_else(|| SharedContext::new(context.clone()))
        });
        if let Some(cuda) = &cuda {
            *lock(&self.cuda) = Some(cuda.clone());
            // The pipeline hands it to decoders that come later.
            let element = self.obj();
            let message = gst::message::HaveContext::builder(cuda.context().clone()).src(&*element).build();
            let _ = element.post_message(message);
        }
        {
            let mut state = lock(&self.state);
            if !matches!(*state, Phase::Opening) {
                return;
            }
            *state = Phase::Running(State { dispatcher: dispatcher.clone(), resize, cuda: cuda.clone() });
        }
        for camera in self.cameras() {
            camera.join(&dispatcher, resize, cuda.clone());
        }
    }

    /// The engine has opened after the state change, or has not.
    fn opened_later(&self, opened: Result<Opened, gst::ErrorMessage>) {
        match opened {
            Ok(opened) => self.run(opened),
            Err(error) => {
                {
                    let mut state = lock(&self.state);
                    if !matches!(*state, Phase::Opening) {
                        return;
                    }
                    *state = Phase::Failed;
                }
                self.post_error_message(error);
                self.cameras().iter().for_each(|camera| camera.give_up());
            }
        }
    }

    /// The CUDA context of the engine, which may open later, for whoever asks for a context of type `asked`; `None` where it is none of ours.
    pub fn shared_context(&self, asked: &str) -> Option<gst::Context> {
        if asked != cuda::CONTEXT {
            return None;
        }
        let choice = lock(&self.settings).choice.clone();
        if !on_gpu(&choice) {
            return None;
        }
        let shared = self.adopted(&choice).or_else(|| SharedContext::primary(choice.gpu))?;
        let context = shared.context().clone();
        lock(&self.cuda).get_or_insert(shared);
        Some(context)
    }

    /// The CUDA context that is held already, or that the application or another element has: asked for once.
    fn adopted(&self, choice: &Choice) -> Option<Arc<SharedContext>> {
        if let Some(held) = lock(&self.cuda).clone() {
            return Some(held);
        }
        if !on_gpu(choice) || !cuda::is_available() {
            return None;
        }
        let element = self.obj();
        let given = element.context(cuda::CONTEXT).or_else(|| {
            // Who has one sets it before this returns.
            let message = gst::message::NeedContext::builder(cuda::CONTEXT).src(&*element).build();
            let _ = element.post_message(message);
            element.context(cuda::CONTEXT)
        })?;
        let adopted = SharedContext::adopt(&given)?.and_then(|shared| {
            let gpu = shared.cuda().device().index;
            if gpu == choice.gpu {
                Ok(shared)
            } else {
                Err(format!("it is on GPU {gpu}, and gpu-id is {}", choice.gpu))
            }
        });
        match adopted {
            Ok(shared) => Some(lock(&self.cuda).get_or_insert(shared).clone()),
            Err(reason) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    (
                        "The CUDA context that was set is not used: {reason}. Its frames are copied through host memory; {}",
                        cuda::REMEDY
                    )
                );
                None
            }
        }
    }

    fn stop(&self) {
        let state = std::mem::take(&mut *lock(&self.state));
        let opening = lock(&self.opening).take();
        // Ends the opening, and waits for its thread.
        drop(opening);
        for camera in self.cameras() {
            camera.leave();
        }
        lock(&self.shared_ids).clear();
        // Waits for the engine's threads where this was its last user, with no lock held.
        drop(state);
    }

    // ---- regions, scale, smoothing ----

    /// The element's regions and each camera's own.
    fn parse_regions(&self, settings: &Settings) -> Result<Regions, String> {
        let common = RegionsFile::parse(&settings.regions).map_err(|error| error.to_string())?;
        let mut own = BTreeMap::new();
        for camera in self.cameras() {
            let text = camera.sinkpad.imp().settings().regions;
            if !text.is_empty() {
                let file = RegionsFile::parse(&text).map_err(|error| format!("camera {}: {error}", camera.id()))?;
                own.insert(camera.index, file);
            }
        }
        Ok(Regions { common, own })
    }

    fn apply(&self, camera: &Camera, regions: &Regions, smoothing: Duration) {
        let id = camera.id();
        let regions = regions.own.get(&camera.index).unwrap_or(&regions.common).for_camera(&id);
        let scale = camera.sinkpad.imp().settings().scale_factor;
        camera.with_stream(|stream| {
            stream.account.labels.camera = id;
            stream.account.configure(CountSettings { regions, scale, smoothing });
        });
    }

    /// Warns of each id that several cameras have, when it begins to be so: of this element, or of
    /// others of the pipeline that run and have its unique id.
    fn tell_shared_ids(&self) {
        let mut pads = BTreeMap::<String, Vec<String>>::new();
        for camera in self.cameras() {
            pads.entry(camera.id()).or_default().push(camera.sinkpad.name().to_string());
        }
        for other in self.others() {
            for camera in other.imp().cameras() {
                if let Some(pads) = pads.get_mut(&camera.id()) {
                    pads.push(format!("{}.{}", other.name(), camera.sinkpad.name()));
                }
            }
        }
        pads.retain(|_, pads| pads.len() > 1);
        let before = std::mem::replace(&mut *lock(&self.shared_ids), pads.keys().cloned().collect());
        for (id, pads) in pads.iter().filter(|(id, _)| !before.contains(*id)) {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                (
                    "Several cameras have the camera-id {id:?}: {}; nothing tells their counts apart: give each its \
                     own, or counters in a row another unique-id",
                    pads.join(", ")
                )
            );
        }
    }

    /// The other counters of the pipeline that run and have the unique id of this one.
    fn others(&self) -> Vec<super::VehicleCounter> {
        let own = self.obj();
        let Some(pipeline) = std::iter::successors(own.parent(), GstObjectExt::parent).last() else {
            return Vec::new();
        };
        let Ok(pipeline) = pipeline.downcast::<gst::Bin>() else { return Vec::new() };
        let counters = pipeline.iterate_all_by_element_factory_name("vehiclecounter").into_iter().flatten();
        let counters = counters.filter_map(|element| element.downcast::<super::VehicleCounter>().ok());
        let unique_id = self.timing().unique_id;
        let runs = |other: &super::VehicleCounter| !matches!(*lock(&other.imp().state), Phase::Stopped);
        counters.filter(|other| *other != *own && other.imp().timing().unique_id == unique_id && runs(other)).collect()
    }

    /// A setting changed. Before the element runs there is nothing to do; while it runs, what cannot be used is said and left as it was.
    pub fn configure_while_running(&self) {
        if matches!(*lock(&self.state), Phase::Stopped) {
            return;
        }
        let settings = lock(&self.settings).clone();
        match self.parse_regions(&settings) {
            Ok(regions) => {
                for camera in self.cameras() {
                    self.apply(&camera, &regions, settings.timing.smoothing);
                }
                self.tell_shared_ids();
            }
            Err(error) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("{error}; the regions stay as they were")
                );
            }
        }
    }

    // ---- figures ----

    fn statistics(&self) -> gst::Structure {
        let cameras = self.cameras().into_iter().map(|camera| {
            let id = camera.id();
            let (figures, live) = camera.with_stream(|stream| (stream.account.statistics.clone(), stream.live));
            let mut entry = gst::Structure::builder("camera")
                .field("camera", id)
                .field("pad", camera.index)
                .field("live", live.unwrap_or(false))
                .field("received", figures.received)
                .field("inferred", figures.inferred)
                .field("stale", figures.stale)
                .field("dropped", figures.dropped)
                .field("failed", figures.failed);
            if let Some(latencies) = figures.latency([0.5, 0.95, 0.99]) {
                for (name, latency) in ["latency-p50", "latency-p95", "latency-p99"].into_iter().zip(latencies) {
                    entry = entry.field(name, latency.as_nanos() as u64);
                }
            }
            entry.build()
        });
        let totals = lock(&self.state).running().map(|state| state.dispatcher.totals());
        let (batches, frames) = totals.unwrap_or_default();
        gst::Structure::builder("vehiclecount-statistics")
            .field("cameras", gst::Array::new(cameras))
            .field("batches", batches)
            .field("batch-frames", frames)
            .build()
    }

    fn active_engine(&self) -> Option<&'static str> {
        lock(&self.state).running().map(|state| state.dispatcher.info().kind.name())
    }
}

/// Whether the engine may be one on a GPU.
fn on_gpu(choice: &Choice) -> bool {
    choice.may_use_gpu()
}

struct Regions {
    common: RegionsFile,
    own: BTreeMap<u32, RegionsFile>,
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
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            let mut properties = Choice::properties("");
            properties.extend([
                glib::ParamSpecUInt::builder("batch-size")
                    .nick("Batch size")
                    .blurb("Frames in a batch at most (0: what suits the engine)")
                    .maximum(256)
                    .default_value(defaults.choice.batch_size)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("batched-push-timeout")
                    .nick("Batched push timeout")
                    .blurb("Microseconds that a frame waits for its batch to fill while the engine is free (0: it goes at once)")
                    .maximum(10_000_000)
                    .default_value(defaults.choice.batched_push_timeout.as_micros() as u32)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("interval")
                    .nick("Interval")
                    .blurb("Frames of each camera skipped between two counted ones; they carry the last count")
                    .maximum(i32::MAX as u32)
                    .default_value(defaults.timing.interval)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("max-latency")
                    .nick("Maximum latency")
                    .blurb("Milliseconds that a frame of a live camera is held for its count; then it leaves with the last one, marked stale")
                    .maximum(60_000)
                    .default_value(defaults.timing.max_latency.mseconds() as u32)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("regions")
                    .nick("Regions")
                    .blurb("Regions of all cameras, as a JSON file's path or inline JSON")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("smoothing")
                    .nick("Smoothing")
                    .blurb("Time constant of the smoothed counts in seconds (0: not smoothed)")
                    .minimum(0.0)
                    .maximum(3600.0)
                    .default_value(defaults.timing.smoothing.as_secs_f64())
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("density-map")
                    .nick("Density map")
                    .blurb("Attach the density map to the metadata")
                    .default_value(defaults.timing.density_map)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("unique-id")
                    .nick("Unique id")
                    .blurb("Goes into the metadata, to tell counters in one pipeline apart")
                    .default_value(defaults.timing.unique_id)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("active-engine")
                    .nick("Active engine")
                    .blurb("The engine that runs (null: none)")
                    .read_only()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
                    .nick("Statistics")
                    .blurb("Per camera: frames received, inferred, stale, dropped, failed; latency percentiles (ns) of the last frames")
                    .read_only()
                    .build(),
            ]);
            properties
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPED: &str = "type checked upstream";
        let number = || value.get::<u32>().expect(TYPED);
        let mut settings = lock(&self.settings);
        if settings.choice.set(pspec.name(), value) {
            return;
        }
        match pspec.name() {
            "batched-push-timeout" => {
                settings.choice.batched_push_timeout = Duration::from_micros(number().into());
            }
            "interval" => settings.timing.interval = number(),
            "max-latency" => settings.timing.max_latency = gst::ClockTime::from_mseconds(number().into()),
            "regions" => settings.regions = value.get::<Option<String>>().expect(TYPED).unwrap_or_default(),
            "smoothing" => settings.timing.smoothing = Duration::from_secs_f64(value.get().expect(TYPED)),
            "density-map" => settings.timing.density_map = value.get().expect(TYPED),
            "unique-id" => settings.timing.unique_id = number(),
            _ => unimplemented!("property {}", pspec.name()),
        }
        drop(settings);
        match pspec.name() {
            "regions" | "smoothing" => self.configure_while_running(),
            "max-latency" => {
                let element = self.obj();
                let _ = element.post_message(gst::message::Latency::builder().src(&*element).build());
            }
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "active-engine" => return self.active_engine().to_value(),
            "statistics" => return self.statistics().to_value(),
            _ => {}
        }
        let settings = lock(&self.settings);
        if let Some(value) = settings.choice.get(pspec.name()) {
            return value;
        }
        match pspec.name() {
            "batched-push-timeout" => (settings.choice.batched_push_timeout.as_micros() as u32).to_value(),
            "interval" => settings.timing.interval.to_value(),
            "max-latency" => (settings.timing.max_latency.mseconds() as u32).to_value(),
            "regions" => settings.regions.to_value(),
            "smoothing" => settings.timing.smoothing.as_secs_f64().to_value(),
            "density-map" => settings.timing.density_map.to_value(),
            "unique-id" => settings.timing.unique_id.to_value(),
            _ => unimplemented!("property {}", pspec.name()),
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
            let mut caps = gst_video::VideoCapsBuilder::new().format_list(FORMATS.map(|(format, _)| format)).build();
            let gpu = gst_video::VideoCapsBuilder::new().features([cuda::FEATURE]).format_list(GPU_FORMATS).build();
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
            let src = gst::PadTemplate::new("src_%u", gst::PadDirection::Src, gst::PadPresence::Sometimes, &caps);
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
        // Both are activated where the element runs already, the source pad first: it must be ready for the first frame.
        let joined = match &*lock(&self.state) {
            Phase::Stopped => None,
            Phase::Opening => {
                camera.await_engine();
                Some(None)
            }
            Phase::Failed => {
                camera.give_up();
                None
            }
            Phase::Running(state) => Some(Some((state.dispatcher.clone(), state.resize, state.cuda.clone()))),
        };
        if let Some(running) = joined {
            if let Some((dispatcher, resize, cuda)) = running {
                camera.join(&dispatcher, resize, cuda);
            }
            self.configure_while_running();
        }
        let sinkpad = camera.sinkpad.clone().upcast::<gst::Pad>();
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
            let index =
                cameras.iter().find(|(_, camera)| camera.sinkpad.upcast_ref::<gst::Pad>() == pad).map(|(&i, _)| i);
            index.and_then(|index| cameras.remove(&index))
        };
        let Some(camera) = camera else { return };
        let element = self.obj();
        camera.release(element.current_state() == gst::State::Playing);
        camera.leave();
        let _ = element.remove_pad(pad);
        let _ = element.remove_pad(&camera.srcpad);
        element.child_removed(&camera.sinkpad, &pad.name());
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

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
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
