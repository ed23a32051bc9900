//! The element: its settings, and the way of a batch through it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use vehiclecount_core::density::{DensityMap, Grid};
use vehiclecount_core::region::RegionsFile;
use vehiclecount_core::region::nvdsanalytics::SourcesFile;
use vehiclecount_core::report::FrameReport;

use super::source::{Config, Finding, Labels, Passed, Source};
use super::work::{Choice, Outcomes, Results, Work, WorkError};
use super::{DensitySource, OsdMode};
use crate::counter::EngineChoice;
use crate::deepstream::abi::custom_message_type;
use crate::deepstream::batch::{Batch, Frame, Locked};
use crate::deepstream::display::{self, DisplayLayout, Style};
use crate::deepstream::meta::{self, Piece};
use crate::deepstream::surface::Surfaces;
use crate::deepstream::tensor::{self, TensorError};
use crate::deepstream::{Api, DeepStreamError};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vehiclecounternvmm",
        gst::DebugColorFlags::empty(),
        Some("Counts vehicles inside DeepStream pipelines"),
    )
});

/// Sources that are remembered at most; beyond, the one that was away longest is forgotten.
const MAX_SOURCES: usize = 1024;

/// Batches without a tensor, from the start on, after which that is said.
const PATIENCE: u64 = 100;

/// What the user chose.
#[derive(Clone, Debug)]
struct Settings {
    source: DensitySource,
    model: String,
    engine: EngineChoice,
    engine_id: String,
    input_size: String,
    batch_size: u32,
    gpu_id: u32,
    infer_on_gie_id: u32,
    tensor_layer: String,
    config_file_path: String,
    regions: String,
    interval: u32,
    smoothing: Duration,
    density_map: bool,
    unique_id: u32,
    misc_index: i32,
    misc_scale: f64,
    message_blob: bool,
    osd_mode: OsdMode,
    display_font_size: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: DensitySource::default(),
            model: String::new(),
            engine: EngineChoice::default(),
            engine_id: String::new(),
            input_size: String::new(),
            batch_size: 0,
            gpu_id: 0,
            infer_on_gie_id: 1,
            tensor_layer: String::new(),
            config_file_path: String::new(),
            regions: String::new(),
            interval: 0,
            smoothing: Duration::from_secs(1),
            density_map: true,
            unique_id: 0,
            misc_index: 0,
            misc_scale: 1000.0,
            message_blob: false,
            osd_mode: OsdMode::default(),
            display_font_size: 12,
        }
    }
}

/// What the stream made: from start to stop.
struct State {
    api: &'static Api,
    config: Config,
    /// With `source=engine`.
    work: Option<Work>,
    sources: BTreeMap<u32, Source>,
    batches: u64,
    /// A tensor of the nvinfer asked for has come.
    tensors_seen: bool,
    /// Said once each.
    said: BTreeSet<Trouble>,
    display: Option<DisplayLayout>,
    message_type: Option<i32>,
}

/// What is said once, and does not stop the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    NoTensor,
    ForeignTensor,
    PoolExhausted,
    Display,
    MessageType,
}

/// See [`super::VehicleCounterNvmm`]. Lock order: `state`, `settings`, `results`' own. None is held while posting, opening an engine or
/// waiting for it.
#[derive(Default)]
pub struct VehicleCounterNvmm {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    results: Arc<Results>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame on its way through the element.
struct Order<'a> {
    frame: Frame<'a>,
    passed: Passed,
    finding: Found,
}

/// Where a frame's finding is.
enum Found {
    Here(Finding),
    /// Under this ticket in the engine; the density will lie there.
    Waiting(u64, Grid),
}

/// What ends the stream.
enum Fatal {
    DeepStream(DeepStreamError),
    Other(String),
    Flushing,
}

impl From<DeepStreamError> for Fatal {
    fn from(error: DeepStreamError) -> Self {
        Self::DeepStream(error)
    }
}

/// What is to be said once no lock is held.
type Remarks = Vec<String>;

impl VehicleCounterNvmm {
    fn parse(settings: &Settings) -> Result<Config, String> {
        let regions = RegionsFile::parse(&settings.regions).map_err(|error| error.to_string())?;
        let sources = match settings.config_file_path.as_str() {
            "" => SourcesFile::default(),
            path => SourcesFile::read(Path::new(path)).map_err(|error| error.to_string())?,
        };
        Ok(Config { regions, sources, interval: settings.interval, smoothing: settings.smoothing })
    }

    /// A setting changed. While the element runs, what cannot be used is said and left as it was.
    fn configure_while_running(&self) {
        let settings = lock(&self.settings).clone();
        let mut state = lock(&self.state);
        let Some(running) = state.as_mut() else { return };
        match Self::parse(&settings) {
            Ok(config) => {
                running.config = config;
                for (&id, source) in &mut running.sources {
                    source.configure(id, &running.config);
                }
            }
            Err(error) => {
                drop(state);
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("{error}; the settings stay as they were")
                );
            }
        }
    }

    /// A batch: find the density of each frame, count, and attach.
    fn count(&self, buffer: &gst::Buffer, remarks: &mut Remarks) -> Result<(), Fatal> {
        let settings = lock(&self.settings).clone();
        let (batch, mut orders) = {
            let mut guard = lock(&self.state);
            let Some(state) = guard.as_mut() else { return Ok(()) };
            let batch = Batch::of(state.api, buffer)?;
            state.batches += 1;
            let orders = match settings.source {
                DensitySource::TensorMeta => state.read_tensors(&batch, buffer, &settings, remarks)?,
                DensitySource::Engine => state.submit(&batch, buffer)?,
            };
            (batch, orders)
        };
        let tickets: Vec<_> = orders
            .iter()
            .filter_map(|order| match order.finding {
                Found::Waiting(ticket, _) => Some(ticket),
                Found::Here(_) => None,
            })
            .collect();
        let outcomes = self.results.wait(&tickets);
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else { return Err(Fatal::Flushing) };
        let Some(outcomes) = outcomes else {
            state.work.iter().for_each(Work::cancel);
            return Err(Fatal::Flushing);
        };
        state.take_in(&mut orders, outcomes, remarks);
        state.finish(&batch, orders, &settings, remarks);
        Ok(())
    }

    /// Opens the engine of ours, where it is asked for.
    fn open_engine(&self, settings: &Settings) -> Result<Option<Work>, gst::ErrorMessage> {
        if settings.source != DensitySource::Engine {
            return Ok(None);
        }
        let choice = Choice {
            model: settings.model.clone(),
            kind: settings.engine.into(),
            engine_id: settings.engine_id.clone(),
            input_size: settings.input_size.clone(),
            batch_size: settings.batch_size as usize,
            gpu: settings.gpu_id,
        };
        let work = Work::open(&choice, self.results.clone());
        let work = work.map_err(|error| gst::error_msg!(gst::LibraryError::Init, ("{error}")))?;
        self.announce(&work);
        Ok(Some(work))
    }

    /// Says which engine runs.
    fn announce(&self, work: &Work) {
        let info = work.dispatcher().info();
        let passed: Vec<_> = work.passed_over.iter().map(|(kind, reason)| format!("{kind}: {reason}")).collect();
        if !passed.is_empty() {
            gst::element_imp_info!(
                self,
                gst::LibraryError::Init,
                ("Counting with {} {} on {}; passed over: {}", info.kind, info.version, info.device, passed.join("; "))
            );
        }
        let message = gst::Structure::builder("vehiclecount-engine")
            .field("engine", info.kind.name())
            .field("version", &info.version)
            .field("device", &info.device)
            .field("model", &info.model)
            .field("precision", &info.precision)
            .field("input-width", info.input.width as u32)
            .field("input-height", info.input.height as u32)
            .field("batch-size", work.dispatcher().settings().batch_size as u32)
            .field("shared", work.shared)
            .field("passed-over", passed.join("; "))
            .build();
        let element = self.obj();
        let _ = element.post_message(gst::message::Element::builder(message).src(&*element).build());
    }

    fn statistics(&self) -> gst::Structure {
        let state = lock(&self.state);
        let sources = state.iter().flat_map(|state| &state.sources).map(|(&id, source)| {
            let figures = source.figures;
            gst::Structure::builder("camera")
                .field("camera", &source.camera)
                .field("source-id", id)
                .field("received", figures.received)
                .field("inferred", figures.inferred)
                .field("stale", figures.stale)
                .field("failed", figures.failed)
                .field("unattached", figures.unattached)
                .build()
        });
        gst::Structure::builder("vehiclecount-statistics")
            .field("cameras", gst::Array::new(sources))
            .field("batches", state.as_ref().map_or(0, |state| state.batches))
            .build()
    }
}

impl State {
    fn source(&mut self, id: u32) -> &mut Source {
        if !self.sources.contains_key(&id) && self.sources.len() >= MAX_SOURCES {
            let oldest = self.sources.iter().min_by_key(|(_, source)| source.last_batch).map(|(&id, _)| id);
            if let Some(oldest) = oldest {
                self.sources.remove(&oldest);
                self.work.iter_mut().for_each(|work| work.forget(oldest));
            }
        }
        let source = self.sources.entry(id).or_insert_with(|| Source::new(id, &self.config));
        source.last_batch = self.batches;
        source
    }

    /// The frames of the batch, each taken in by its source: whether it is due, too.
    fn begin<'a>(&mut self, locked: &Locked<'_, 'a>, buffer: &gst::BufferRef) -> Vec<(Frame<'a>, Passed, bool)> {
        let frames = locked.frames().into_iter().map(|frame| {
            let pts = frame.pts.or_else(|| buffer.pts().map(gst::ClockTime::nseconds));
            let (sequence, time, due) = self.source(frame.source_id).begin(pts);
            (frame, Passed { sequence, time, pts, ntp: frame.ntp }, due)
        });
        frames.collect()
    }

    /// Reads what nvinfer left.
    fn read_tensors<'a>(
        &mut self,
        batch: &Batch<'a>,
        buffer: &gst::BufferRef,
        settings: &Settings,
        remarks: &mut Remarks,
    ) -> Result<Vec<Order<'a>>, Fatal> {
        let locked = batch.lock();
        let frames = self.begin(&locked, buffer);
        let orders = frames.into_iter().map(|(frame, passed, due)| {
            let finding = if due { self.tensor(&locked, &frame, settings, remarks)? } else { Finding::NotDue };
            Ok(Order { frame, passed, finding: Found::Here(finding) })
        });
        orders.collect()
    }

    /// Hands the pictures of the frames that are due to the engine.
    fn submit<'a>(&mut self, batch: &Batch<'a>, buffer: &gst::Buffer) -> Result<Vec<Order<'a>>, Fatal> {
        let frames = self.begin(&batch.lock(), buffer);
        let Some(work) = self.work.as_mut() else { return Ok(Vec::new()) };
        let surfaces = Surfaces::of(buffer, self.api.version)?;
        let keep = frames.len();
        let orders = frames.into_iter().map(|(frame, passed, due)| {
            let finding = if due {
                let picture = surfaces.picture(frame.batch_id)?;
                let submitted = work.submit(frame.source_id, &picture, buffer, keep);
                let (ticket, grid) = submitted.map_err(|error| match error {
                    WorkError::Picture(error) => Fatal::DeepStream(error),
                    WorkError::Engine(reason) => Fatal::Other(reason),
                })?;
                Found::Waiting(ticket, grid)
            } else {
                Found::Here(Finding::NotDue)
            };
            Ok(Order { frame, passed, finding })
        });
        orders.collect()
    }

    /// Takes in what the engine counted.
    fn take_in(&mut self, orders: &mut [Order<'_>], outcomes: Vec<Outcomes>, remarks: &mut Remarks) {
        let mut outcomes = outcomes.into_iter();
        for order in orders {
            let Found::Waiting(_, grid) = order.finding else { continue };
            let source = self.source(order.frame.source_id);
            let finding = match outcomes.next() {
                Some(Ok((cells, inference_time))) => {
                    source.failing = false;
                    Finding::Counted(DensityMap { grid, cells }, inference_time)
                }
                Some(Err(reason)) => {
                    source.figures.failed += 1;
                    if !std::mem::replace(&mut source.failing, true) {
                        remarks.push(format!("{}: {reason}; its frames keep the last count", source.camera));
                    }
                    Finding::Missed
                }
                None => Finding::Missed,
            };
            order.finding = Found::Here(finding);
        }
    }

    /// Whether `trouble` has not been said yet.
    fn first(&mut self, trouble: Trouble) -> bool {
        self.said.insert(trouble)
    }

    /// Reads the density that nvinfer left on `frame`.
    fn tensor<'a>(
        &mut self,
        locked: &Locked<'_, 'a>,
        frame: &Frame<'a>,
        settings: &Settings,
        remarks: &mut Remarks,
    ) -> Result<Finding, Fatal> {
        let all = locked.tensors(frame);
        let Some(tensors) = all.iter().find(|tensors| tensors.unique_id() == settings.infer_on_gie_id) else {
            self.say_what_is_missing(&all.iter().map(|tensors| tensors.unique_id()).collect(), settings, remarks);
            return Ok(Finding::NotDue);
        };
        self.tensors_seen = true;
        let outputs = tensors.outputs();
        let version = self.api.version;
        let read = tensor::choose(&outputs, &settings.tensor_layer).map_err(TensorError::Setup).and_then(|output| {
            let grid = tensor::grid(output, tensors, frame.size, version).map_err(TensorError::Setup)?;
            Ok(DensityMap { grid, cells: Arc::from(tensor::read(output, tensors.gpu_id())?) })
        });
        let id = settings.infer_on_gie_id;
        match read {
            Ok(map) => {
                self.source(frame.source_id).failing = false;
                Ok(Finding::Counted(map, Duration::ZERO))
            }
            Err(TensorError::Setup(reason)) => {
                Err(Fatal::Other(format!("The tensors of nvinfer with gie-unique-id={id} cannot be read: {reason}")))
            }
            Err(TensorError::Value(reason)) => {
                let source = self.source(frame.source_id);
                source.figures.failed += 1;
                if !std::mem::replace(&mut source.failing, true) {
                    remarks.push(format!("{}: {reason}; its frames keep the last count", source.camera));
                }
                Ok(Finding::Missed)
            }
        }
    }

    fn say_what_is_missing(&mut self, foreign: &BTreeSet<u32>, settings: &Settings, remarks: &mut Remarks) {
        let id = settings.infer_on_gie_id;
        if self.tensors_seen {
            return;
        }
        if !foreign.is_empty() {
            if self.first(Trouble::ForeignTensor) {
                remarks.push(format!(
                    "Frames carry tensors of nvinfer with gie-unique-id {foreign:?}, none of {id}: set infer-on-gie-id"
                ));
            }
        } else if self.batches >= PATIENCE && self.first(Trouble::NoTensor) {
            remarks.push(format!(
                "{PATIENCE} batches came without a tensor of nvinfer with gie-unique-id={id}: it needs output-tensor-meta=1 and network-type=100, \
                 and must stand before this element"
            ));
        }
    }

    /// Counts and attaches.
    fn finish(&mut self, batch: &Batch<'_>, orders: Vec<Order<'_>>, settings: &Settings, remarks: &mut Remarks) {
        let info = self.work.as_ref().map(|work| work.dispatcher().info());
        let labels = Labels {
            model: info.map_or_else(|| format!("gie-{}", settings.infer_on_gie_id), |info| info.model.clone()),
            engine: info.map_or("nvinfer", |info| info.kind.name()).to_owned(),
            unique_id: settings.unique_id,
            density: settings.density_map,
        };
        self.choose_layouts(batch, settings, remarks);
        let reports: Vec<_> = orders
            .into_iter()
            .map(|Order { frame, passed, finding }| {
                let finding = match finding {
                    Found::Here(finding) => finding,
                    Found::Waiting(..) => Finding::Missed,
                };
                let inferred = matches!(finding, Finding::Counted(..));
                let report = self.source(frame.source_id).report(passed, finding, &labels);
                // What costs time is made before the lock is taken.
                let message = self.message_type.filter(|_| settings.message_blob && report.count.is_some());
                let message = message.and_then(|kind| {
                    Some((kind, Piece::message(&serde_json::to_string(&report.to_json(false)).ok()?)))
                });
                (frame, Piece::count(&report, frame.source_id), report, message, inferred)
            })
            .collect();
        let locked = batch.lock();
        for (frame, piece, report, message, inferred) in reports {
            if inferred {
                locked.set_inferred(&frame);
            }
            if let (Some(count), Ok(index)) = (report.count, usize::try_from(settings.misc_index)) {
                locked.set_misc(&frame, index, (count.raw * settings.misc_scale).round() as i64);
            }
            let mut attached = locked.attach(&frame, self.api.count_type, piece, meta::copy_count);
            if let Some((kind, piece)) = message {
                attached = attached.and(locked.attach(&frame, kind, piece, meta::copy_message));
            }
            attached = attached.and(self.draw(&locked, &frame, &report, settings));
            if attached.is_err() {
                self.source(frame.source_id).figures.unattached += 1;
                if self.first(Trouble::PoolExhausted) {
                    remarks.push(
                        "The batch's pool of metadata is exhausted: frames pass without a count, see `unattached` in `statistics`; \
                         nvstreammux's max-user-meta, or fewer elements that attach, would help"
                            .to_owned(),
                    );
                }
            }
        }
    }

    fn draw<'a>(
        &self,
        locked: &Locked<'_, 'a>,
        frame: &Frame<'a>,
        report: &FrameReport,
        settings: &Settings,
    ) -> Result<(), crate::deepstream::batch::PoolExhausted> {
        let (Some(layout), true) = (self.display, settings.osd_mode != OsdMode::Off) else { return Ok(()) };
        let style = Style { counts: settings.osd_mode == OsdMode::Counts, font_size: settings.display_font_size };
        display::attach(locked, frame, layout, style, report)
    }

    /// Settles what depends on the version, when it is first asked for.
    fn choose_layouts(&mut self, batch: &Batch<'_>, settings: &Settings, remarks: &mut Remarks) {
        if settings.osd_mode != OsdMode::Off && self.display.is_none() && !self.said.contains(&Trouble::Display) {
            match DisplayLayout::verify(&batch.figures(), self.api.version) {
                Ok(layout) => self.display = Some(layout),
                Err(error) => {
                    self.first(Trouble::Display);
                    remarks.push(format!("Nothing is drawn: {error}"));
                }
            }
        }
        if settings.message_blob && self.message_type.is_none() && self.first(Trouble::MessageType) {
            self.message_type = self.api.version.and_then(custom_message_type);
            if self.message_type.is_none() {
                let version = self.api.version.map_or("of no known version".to_owned(), |(a, b)| format!("{a}.{b}"));
                remarks.push(format!(
                    "No messages are attached: the number of NVDS_CUSTOM_MSG_BLOB in DeepStream {version} is not known"
                ));
            }
        }
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
        // Batches are read-only and pass as they are; only their metadata, which has a lock of its own, is added to.
        self.obj().set_passthrough(true);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            vec![
                glib::ParamSpecEnum::builder_with_default("source", defaults.source)
                    .nick("Source")
                    .blurb("Where the density comes from")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("model")
                    .nick("Model")
                    .blurb("Name of an installed model, its manifest (.json), or an .onnx file beside its manifest (empty: mobilenetv3-large); source=engine")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("engine", defaults.engine)
                    .nick("Engine")
                    .blurb("What runs the model; source=engine")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("engine-id")
                    .nick("Engine id")
                    .blurb("Elements of one process with the same model, engine, input size, GPU and engine id share one engine; source=engine")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("input-size")
                    .nick("Input size")
                    .blurb("Size of the model's input in pixels, as WIDTHxHEIGHT (empty: the manifest's); source=engine")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("batch-size")
                    .nick("Batch size")
                    .blurb("Frames in a batch of the engine at most (0: what suits the engine); source=engine")
                    .maximum(256)
                    .default_value(defaults.batch_size)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("gpu-id")
                    .nick("GPU id")
                    .blurb("Index of the GPU, for engines that run on one; source=engine")
                    .default_value(defaults.gpu_id)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("infer-on-gie-id")
                    .nick("Infer on GIE id")
                    .blurb("Read the tensors of the nvinfer with this gie-unique-id (source=tensor-meta)")
                    .default_value(defaults.infer_on_gie_id)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("tensor-layer")
                    .nick("Tensor layer")
                    .blurb("Name of nvinfer's output that is the density (empty: its only output, or the one called density)")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("config-file-path")
                    .nick("Configuration file")
                    .blurb("Regions of each source in nvdsanalytics' form, and in [vehiclecount-stream-N] its camera-id, scale-factor, interval and levels")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("regions")
                    .nick("Regions")
                    .blurb("Regions of sources without any in config-file-path, as a JSON file's path or inline JSON")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("interval")
                    .nick("Interval")
                    .blurb("Frames of each source skipped between two counted ones; they carry the last count")
                    .maximum(i32::MAX as u32)
                    .default_value(defaults.interval)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("smoothing")
                    .nick("Smoothing")
                    .blurb("Time constant of the smoothed counts in seconds (0: not smoothed)")
                    .minimum(0.0)
                    .maximum(3600.0)
                    .default_value(defaults.smoothing.as_secs_f64())
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("density-map")
                    .nick("Density map")
                    .blurb("Attach the density map to the metadata")
                    .default_value(defaults.density_map)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("unique-id")
                    .nick("Unique id")
                    .blurb("Goes into the metadata, to tell counters in one pipeline apart")
                    .default_value(defaults.unique_id)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecInt::builder("misc-index")
                    .nick("Index in misc_frame_info")
                    .blurb("Write the count times misc-scale into this entry of the frame's misc_frame_info (-1: into none)")
                    .minimum(-1)
                    .maximum(3)
                    .default_value(defaults.misc_index)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("misc-scale")
                    .nick("Scale in misc_frame_info")
                    .blurb("The count is multiplied by this and rounded before it goes into misc_frame_info")
                    .minimum(1.0)
                    .maximum(1e9)
                    .default_value(defaults.misc_scale)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("message-blob")
                    .nick("Message blob")
                    .blurb("Attach the report as JSON (NVDS_CUSTOM_MSG_BLOB), which nvmsgconv puts into its payload")
                    .default_value(defaults.message_blob)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("osd-mode", defaults.osd_mode)
                    .nick("OSD mode")
                    .blurb("What nvdsosd draws")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("display-font-size")
                    .nick("Font size")
                    .blurb("Size of what nvdsosd writes, in points")
                    .minimum(4)
                    .maximum(100)
                    .default_value(defaults.display_font_size)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
                    .nick("Statistics")
                    .blurb("Per source: frames received, inferred, stale, failed, and unattached (the metadata's pool was exhausted)")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPED: &str = "type checked upstream";
        let text = || value.get::<Option<String>>().expect(TYPED).unwrap_or_default();
        let mut settings = lock(&self.settings);
        match pspec.name() {
            "source" => settings.source = value.get().expect(TYPED),
            "model" => settings.model = text(),
            "engine" => settings.engine = value.get().expect(TYPED),
            "engine-id" => settings.engine_id = text(),
            "input-size" => settings.input_size = text(),
            "batch-size" => settings.batch_size = value.get().expect(TYPED),
            "gpu-id" => settings.gpu_id = value.get().expect(TYPED),
            "infer-on-gie-id" => settings.infer_on_gie_id = value.get().expect(TYPED),
            "tensor-layer" => settings.tensor_layer = text(),
            "config-file-path" => settings.config_file_path = text(),
            "regions" => settings.regions = text(),
            "interval" => settings.interval = value.get().expect(TYPED),
            "smoothing" => settings.smoothing = Duration::from_secs_f64(value.get().expect(TYPED)),
            "density-map" => settings.density_map = value.get().expect(TYPED),
            "unique-id" => settings.unique_id = value.get().expect(TYPED),
            "misc-index" => settings.misc_index = value.get().expect(TYPED),
            "misc-scale" => settings.misc_scale = value.get().expect(TYPED),
            "message-blob" => settings.message_blob = value.get().expect(TYPED),
            "osd-mode" => settings.osd_mode = value.get().expect(TYPED),
            "display-font-size" => settings.display_font_size = value.get().expect(TYPED),
            _ => unimplemented!("property {}", pspec.name()),
        }
        drop(settings);
        if matches!(pspec.name(), "config-file-path" | "regions" | "interval" | "smoothing") {
            self.configure_while_running();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "statistics" {
            return self.statistics().to_value();
        }
        let settings = lock(&self.settings);
        match pspec.name() {
            "source" => settings.source.to_value(),
            "model" => settings.model.to_value(),
            "engine" => settings.engine.to_value(),
            "engine-id" => settings.engine_id.to_value(),
            "input-size" => settings.input_size.to_value(),
            "batch-size" => settings.batch_size.to_value(),
            "gpu-id" => settings.gpu_id.to_value(),
            "infer-on-gie-id" => settings.infer_on_gie_id.to_value(),
            "tensor-layer" => settings.tensor_layer.to_value(),
            "config-file-path" => settings.config_file_path.to_value(),
            "regions" => settings.regions.to_value(),
            "interval" => settings.interval.to_value(),
            "smoothing" => settings.smoothing.as_secs_f64().to_value(),
            "density-map" => settings.density_map.to_value(),
            "unique-id" => settings.unique_id.to_value(),
            "misc-index" => settings.misc_index.to_value(),
            "misc-scale" => settings.misc_scale.to_value(),
            "message-blob" => settings.message_blob.to_value(),
            "osd-mode" => settings.osd_mode.to_value(),
            "display-font-size" => settings.display_font_size.to_value(),
            _ => unimplemented!("property {}", pspec.name()),
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
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).expect("a valid template")
            };
            vec![pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
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
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let config =
            Self::parse(&settings).map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{error}")))?;
        let api = Api::get().map_err(|error| gst::error_msg!(gst::LibraryError::Init, ("{error}")))?;
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
        let work = self.open_engine(&settings)?;
        *lock(&self.state) = Some(State {
            api,
            config,
            work,
            sources: BTreeMap::new(),
            batches: 0,
            tensors_seen: false,
            said: BTreeSet::new(),
            display: None,
            message_type: None,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = lock(&self.state).take();
        // Waits for the engine's threads where this was its last user, with no lock held.
        drop(state);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStart => self.results.set_flushing(true),
            gst::EventType::FlushStop => {
                self.results.set_flushing(false);
                if let Some(state) = lock(&self.state).as_mut() {
                    state.sources.values_mut().for_each(Source::flush);
                }
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut remarks = Remarks::new();
        let result = self.count(buffer, &mut remarks);
        for remark in remarks {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{remark}"));
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
