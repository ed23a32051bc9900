//! The element: its settings, and the way of a batch through it.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::{Mutex, MutexGuard};
use vehiclecount_core::account::FrameTime;
use vehiclecount_core::preprocess::InputScale;
use vehiclecount_core::region::RegionsFile;
use vehiclecount_core::region::nvdsanalytics::SourcesFile;

use super::DensitySource;
use super::batch::{Fatal, FindingState, State};
use super::latency::HoldTime;
use super::settings::Settings;
use super::source::{Config, Notice, Notices, check};
use super::tensors;
use super::work::{Results, Work};
use crate::counting::CountingSettings;
use crate::deepstream::Api;
use crate::deepstream::batch::Batch;
use crate::deepstream::tensor::TensorReader;
use crate::engine::{OpenedEngine, PendingEngine, Start, announce_preset, open_shape};
use crate::time::{self, ArrivalClock, duration_of};

/// The log category of the element.
pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vehiclecounternvmm",
        gst::DebugColorFlags::empty(),
        Some("Counts vehicles inside DeepStream pipelines"),
    )
});

/// See [`super::VehicleCounterNvmm`]. Lock order: `state`, `settings`, `results`' own; `holding`,
/// `timing`, `reader` and `opening` are held with none of them. None is held while posting, opening
/// an engine or waiting for it; `reader` alone while tensors are copied from a GPU.
#[derive(Default)]
pub struct VehicleCounterNvmm {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    results: Arc<Results>,
    /// The engine's opening, where it takes long.
    opening: Mutex<Option<PendingEngine>>,
    holding: Mutex<HoldTime>,
    timing: Mutex<Timing>,
    /// Of nvinfer's tensors; used by the streaming thread alone.
    reader: Mutex<TensorReader>,
}

/// What is known of the time of batches.
#[derive(Default)]
struct Timing {
    arrivals: ArrivalClock,
    /// How long a frame lasts, as the caps say.
    duration: Option<Duration>,
    /// Whether the sources are live; `None` until that was asked.
    live: Option<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl VehicleCounterNvmm {
    fn parse(settings: &Settings) -> Result<Config, String> {
        let regions = RegionsFile::parse(&settings.regions).map_err(|error| error.to_string())?;
        check(&regions)?;
        let sources = match settings.config_file_path.as_str() {
            "" => SourcesFile::default(),
            path => SourcesFile::read(Path::new(path)).map_err(|error| error.to_string())?,
        };
        let CountingSettings { interval, smoothing, .. } = settings.counting;
        Ok(Config { regions, sources, interval, smoothing })
    }

    /// A setting changed. While the element runs, what cannot be used is said and left as it was.
    fn configure_while_running(&self) {
        if lock(&self.state).is_none() {
            return;
        }
        let settings = lock(&self.settings).clone();
        // Reads files: no lock is held meanwhile.
        match Self::parse(&settings) {
            Ok(config) => {
                self.tell_shared_ids(&config);
                let mut state = lock(&self.state);
                let Some(running) = state.as_mut() else { return };
                running.config = config;
                for (&id, source) in &mut running.sources {
                    source.configure(id, &running.config);
                }
            }
            Err(error) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("{error}; the settings stay as they were")
                );
            }
        }
    }

    /// Warns of ids that several sources have.
    fn tell_shared_ids(&self, config: &Config) {
        for (id, sources) in config.shared_ids() {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("Several sources have the camera-id {id:?}: {sources:?}; nothing tells their counts apart: give each its own")
            );
        }
    }

    /// A batch: find the density of each frame, count, and attach.
    fn count(&self, buffer: &gst::Buffer, notices: &mut Notices) -> Result<(), Fatal> {
        let settings = lock(&self.settings).clone();
        if settings.source == DensitySource::Engine && !self.results.wait_for_engine() {
            return Err(Fatal::Flushing);
        }
        self.open_shapes(buffer)?;
        // The engine's opening is no part of what every batch takes.
        let clock = time::clock_of(self.obj().upcast_ref());
        let came = clock.time();
        let time = self.batch_time(buffer, &clock);
        let (batch, mut orders) = {
            let mut guard = lock(&self.state);
            let Some(state) = guard.as_mut() else { return Ok(()) };
            if settings.source == DensitySource::Engine && state.work.is_none() {
                return Err(Fatal::Other(
                    "there is no engine: see the error before this one".to_owned(),
                ));
            }
            let batch = Batch::of(state.api, buffer)?;
            state.batches += 1;
            let orders = match settings.source {
                DensitySource::TensorMeta => {
                    state.find_tensors(&batch, buffer, time, &settings, notices)?
                }
                DensitySource::Engine => {
                    state.submit(&batch, buffer, time, settings.counting.density_map, notices)?
                }
            };
            (batch, orders)
        };
        let tickets: Vec<_> = orders
            .iter()
            .filter_map(|order| match order.finding {
                FindingState::Waiting(ticket, _) => Some(ticket),
                FindingState::Here(_) | FindingState::Unread(_) => None,
            })
            .collect();
        let maps = tensors::read(&orders, &mut lock(&self.reader));
        let outcomes = self.results.wait(&tickets);
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else { return Err(Fatal::Flushing) };
        let Some(outcomes) = outcomes else {
            state.work.iter().for_each(Work::cancel);
            return Err(Fatal::Flushing);
        };
        state.take_in_tensors(&mut orders, maps, &settings, notices)?;
        state.take_in(&mut orders, outcomes, notices);
        state.finish(&batch, orders, &settings, notices);
        drop(guard);
        if settings.source == DensitySource::Engine {
            let held = clock.time().saturating_sub(came);
            if lock(&self.holding).note(held.into()) {
                time::post_latency(self.obj().upcast_ref());
            }
        }
        Ok(())
    }

    /// What is known of the time of the batch that comes now.
    fn batch_time(&self, buffer: &gst::BufferRef, clock: &gst::Clock) -> FrameTime {
        let live = lock(&self.timing).live;
        let live = live.unwrap_or_else(|| time::is_live(self.obj().sink_pad()));
        let mut timing = lock(&self.timing);
        timing.live = Some(live);
        let duration = buffer.duration().map(Duration::from).or(timing.duration);
        FrameTime { stream: None, arrival: timing.arrivals.now(clock), duration, live }
    }

    /// Opens the engine of ours, where it is asked for: now, or in a thread of its own, for which
    /// batches wait.
    fn open_engine(&self, settings: &Settings) -> Result<(), gst::ErrorMessage> {
        if settings.source != DensitySource::Engine {
            return Ok(());
        }
        let mut engine = settings.choice.clone();
        // Reads files: no lock is held meanwhile.
        if let Some(choice) = engine.choose()? {
            engine.take(&choice);
            // The frames of a batch come together, and no others would fill it.
            engine.batched_push_timeout = settings.choice.batched_push_timeout;
            lock(&self.settings).choice = engine.clone();
            announce_preset(self.obj().upcast_ref(), &engine, &choice);
        }
        self.results.set_opening(true);
        let element = self.obj().downgrade();
        let done = move |opened| {
            if let Some(element) = element.upgrade() {
                element.imp().opened_later(opened);
            }
        };
        match engine.open(self.obj().upcast_ref(), done) {
            Ok(Start::Opened(opened)) => self.run(opened),
            Ok(Start::Later(opening)) => *lock(&self.opening) = Some(opening),
            Err(error) => {
                self.results.set_opening(false);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The engine is open: batches go to it.
    fn run(&self, opened: OpenedEngine) {
        opened.announce(self.obj().upcast_ref());
        let work = Work::new(opened, self.results.clone());
        if let Some(state) = lock(&self.state).as_mut() {
            state.work = Some(work);
        }
        self.results.set_opening(false);
    }

    /// The engine has opened after the state change, or has not.
    fn opened_later(&self, opened: Result<OpenedEngine, gst::ErrorMessage>) {
        match opened {
            Ok(opened) => self.run(opened),
            Err(error) => {
                self.post_error_message(error);
                self.results.set_opening(false);
            }
        }
    }

    /// Opens the engine at the input sizes for the pictures of `buffer`, where it is not open at
    /// them. The batch waits for that.
    fn open_shapes(&self, buffer: &gst::Buffer) -> Result<(), Fatal> {
        loop {
            let unopened = match lock(&self.state).as_mut() {
                Some(state) => state.unopened(buffer)?,
                None => None,
            };
            let Some((dispatcher, size)) = unopened else { return Ok(()) };
            self.results.set_opening(true);
            let element = self.obj().downgrade();
            let done = move |opened| {
                if let Some(element) = element.upgrade() {
                    element.imp().shape_opened(size, opened);
                }
            };
            let element = self.obj();
            let scale = InputScale::NORMAL;
            let before = match open_shape(element.upcast_ref(), &dispatcher, scale, size, done) {
                Ok(Start::Later(opening)) => lock(&self.opening).replace(opening),
                Ok(Start::Opened(())) => {
                    self.shape_opened(size, Ok(()));
                    None
                }
                Err(error) => {
                    self.shape_opened(size, Err(error));
                    None
                }
            };
            // Its thread has ended.
            drop(before);
            if !self.results.wait_for_engine() {
                return Err(Fatal::Flushing);
            }
        }
    }

    /// The engine is open at the input size for pictures of `size`, or does not open there.
    fn shape_opened(&self, size: (usize, usize), opened: Result<(), gst::ErrorMessage>) {
        if let Err(error) = opened {
            if let Some(work) = lock(&self.state).as_mut().and_then(|state| state.work.as_mut()) {
                work.refuse(size);
            }
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Init,
                ("{error}; such pictures go into another input size, with borders")
            );
        }
        self.results.set_opening(false);
    }

    fn statistics(&self) -> gst::Structure {
        let state = lock(&self.state);
        let work = state.as_ref().and_then(|state| state.work.as_ref());
        let sources = state.iter().flat_map(|state| &state.sources).map(|(&id, source)| {
            let figures = &source.account.statistics;
            let input = work.and_then(|work| work.input_of(id)).map(|size| size.to_string());
            gst::Structure::builder("camera")
                .field("camera", source.camera())
                .field("source-id", id)
                .field("received", figures.received)
                .field("inferred", figures.inferred)
                .field("stale", figures.stale)
                .field("failed", figures.failed)
                .field("unattached", source.unattached)
                .field_if_some("input-size", input)
                .build()
        });
        gst::Structure::builder("vehiclecount-statistics")
            .field("cameras", gst::Array::new(sources))
            .field("batches", state.as_ref().map_or(0, |state| state.batches))
            .build()
    }
}

#[glib::object_subclass]
impl ObjectSubclass for VehicleCounterNvmm {
    const NAME: &'static str = "GstVehicleCounterNvmm";
    type Type = super::VehicleCounterNvmm;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for VehicleCounterNvmm {
    fn constructed(&self) {
        self.parent_constructed();
        // Batches are read-only and pass as they are; only their metadata, which has a lock of its
        // own, is added to.
        self.obj().set_passthrough(true);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::properties);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
        if matches!(pspec.name(), "config-file-path" | "regions" | "interval" | "smoothing") {
            self.configure_while_running();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "statistics" => self.statistics().to_value(),
            _ => lock(&self.settings).get(pspec.name()),
        }
    }
}

impl GstObjectImpl for VehicleCounterNvmm {}

impl ElementImpl for VehicleCounterNvmm {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Vehicle counter for DeepStream",
                "Filter/Analyzer/Video",
                "Counts vehicles in the batches of a DeepStream pipeline and attaches the counts to their frames",
                "The vehiclecount authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder("video/x-raw").features(["memory:NVMM"]).build();
            let pad = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid template")
            };
            vec![pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => self.results.set_flushing(false),
            // The streaming thread may wait for the engine.
            gst::StateChange::PausedToReady => self.results.set_flushing(true),
            _ => {}
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for VehicleCounterNvmm {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let config = Self::parse(&settings)
            .map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{error}")))?;
        let api =
            Api::get().map_err(|error| gst::error_msg!(gst::LibraryError::Init, ("{error}")))?;
        gst::info!(CAT, imp = self, "DeepStream {:?}: {:?}", api.version, api.libraries);
        for left_out in &config.sources.left_out {
            gst::warning!(CAT, imp = self, "{}: left out {left_out}", settings.config_file_path);
        }
        if !config.sources.left_out.is_empty() {
            gst::element_imp_info!(
                self,
                gst::ResourceError::Settings,
                ("{}: left out {}", settings.config_file_path, config.sources.left_out.join("; "))
            );
        }
        self.tell_shared_ids(&config);
        *lock(&self.state) = Some(State::new(api, config));
        self.open_engine(&settings).inspect_err(|_| drop(lock(&self.state).take()))
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let opening = lock(&self.opening).take();
        // Ends the opening, and waits for its thread.
        drop(opening);
        self.results.set_opening(false);
        let state = lock(&self.state).take();
        *lock(&self.holding) = HoldTime::default();
        *lock(&self.timing) = Timing::default();
        *lock(&self.reader) = TensorReader::default();
        // Waits for the engine's threads where this was its last user, with no lock held.
        drop(state);
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let fps = incaps.structure(0).and_then(|structure| structure.get("framerate").ok());
        lock(&self.timing).duration = fps.and_then(duration_of);
        self.parent_set_caps(incaps, outcaps)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if let (gst::PadDirection::Src, gst::QueryViewMut::Latency(latency)) =
            (direction, query.view_mut())
        {
            let (live, min, max) = latency.result();
            if live {
                // Nothing comes in meanwhile, so nothing is kept here that others would have to
                // make room for.
                let own =
                    gst::ClockTime::from_nseconds(lock(&self.holding).told().as_nanos() as u64);
                latency.set(live, min + own, max.map(|max| max + own));
            }
        }
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStart => self.results.set_flushing(true),
            gst::EventType::FlushStop => {
                self.results.set_flushing(false);
                if let Some(state) = lock(&self.state).as_mut() {
                    state.sources.values_mut().for_each(|source| source.account.flush());
                }
            }
            gst::EventType::StreamStart => lock(&self.timing).live = None,
            _ => {
                if let (Some((id, gone)), Some(state)) =
                    (source_ended(&event), lock(&self.state).as_mut())
                {
                    gst::log!(
                        CAT,
                        imp = self,
                        "Source {id}: {}",
                        if gone { "removed" } else { "another stream begins" }
                    );
                    state.source_ended(id, gone);
                }
            }
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(
        &self,
        buffer: &gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut notices = Notices::default();
        let result = self.count(buffer, &mut notices);
        for notice in notices {
            match notice {
                Notice::Warning(text) => {
                    gst::element_imp_warning!(self, gst::StreamError::Failed, ("{text}"));
                }
                Notice::Log(text) => gst::log!(CAT, imp = self, "{text}"),
                Notice::Info(text) => {
                    gst::element_imp_info!(self, gst::StreamError::Failed, ("{text}"));
                }
            }
        }
        let error = match result {
            Ok(()) => return Ok(gst::FlowSuccess::Ok),
            Err(Fatal::Flushing) => return Err(gst::FlowError::Flushing),
            Err(Fatal::DeepStream(error)) => error.to_string(),
            Err(Fatal::Other(error)) => error,
        };
        gst::element_imp_error!(self, gst::StreamError::Format, ("{error}"));
        Err(gst::FlowError::Error)
    }
}

/// The source whose stream has ended with `event`, and whether its pad has been removed:
/// nvstreammux says so by events of its own (`GST_NVEVENT_PAD_ADDED` and so on, gst-nvevent.h).
fn source_ended(event: &gst::EventRef) -> Option<(u32, bool)> {
    let id = event.structure().and_then(|structure| structure.get::<u32>("source-id").ok());
    match gst::glib::translate::IntoGlib::into_glib(event.type_()) >> gst::ffi::GST_EVENT_NUM_SHIFT
    {
        // Pad added, stream ended, reset, started.
        400 | 402 | 404 | 405 => Some((id?, false)),
        401 => Some((id?, true)),
        _ => None,
    }
}
