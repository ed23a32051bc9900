//! What happens with a batch: frames are found, their densities read or asked for, and what was counted is attached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vehiclecount_core::account::{Density, Departure, Finding, FrameTime, Measurement, ReportSettings};
use vehiclecount_core::density::{DensityMap, Grid};
use vehiclecount_core::report::{FrameReport, unix_nanoseconds};

use super::OsdMode;
use super::imp::Settings;
use super::source::{Config, Notices, Source};
use super::work::{Outcomes, Work, WorkError};
use crate::deepstream::abi::custom_message_type;
use crate::deepstream::batch::{Batch, Frame, Locked, PoolExhausted};
use crate::deepstream::display::{self, DisplayLayout, Style};
use crate::deepstream::meta::{self, Piece};
use crate::deepstream::picture::PictureError;
use crate::deepstream::surface::Surfaces;
use crate::deepstream::tensor::{self, TensorError};
use crate::deepstream::{Api, DeepStreamError};

/// Sources that are remembered at most; beyond, the one that was away longest is forgotten.
const MAX_SOURCES: usize = 1024;

/// Batches without a tensor, from the start on, after which that is said.
const PATIENCE: u64 = 100;

/// What the stream made: from start to stop.
pub struct State {
    /// DeepStream's functions.
    pub api: &'static Api,
    /// What is set for the sources.
    pub config: Config,
    /// With `source=engine`.
    pub work: Option<Work>,
    /// By their numbers.
    pub sources: BTreeMap<u32, Source>,
    /// Batches so far.
    pub batches: u64,
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

/// A frame on its way through the element.
pub struct Order<'a> {
    frame: Frame<'a>,
    departure: Departure,
    /// Where its finding is.
    pub finding: Found,
}

/// Where a frame's finding is.
pub enum Found {
    /// Here.
    Here(Finding),
    /// Under this ticket in the engine; the density will lie there.
    Waiting(u64, Grid),
}

/// What ends the stream.
pub enum Fatal {
    /// Something about the batch.
    DeepStream(DeepStreamError),
    /// Something else.
    Other(String),
    /// Nothing is wrong: the stream flushes or ends.
    Flushing,
}

impl From<DeepStreamError> for Fatal {
    fn from(error: DeepStreamError) -> Self {
        Self::DeepStream(error)
    }
}

/// When a batch came.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchTime {
    /// On the pipeline's clock.
    pub arrival: Duration,
    /// How long a frame lasts, where that is known.
    pub duration: Option<Duration>,
    /// Whether the sources are live.
    pub live: bool,
}

impl State {
    /// Nothing has come yet.
    pub fn new(api: &'static Api, config: Config, work: Option<Work>) -> Self {
        Self {
            api,
            config,
            work,
            sources: BTreeMap::new(),
            batches: 0,
            tensors_seen: false,
            said: BTreeSet::new(),
            display: None,
            message_type: None,
        }
    }

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

    /// The source has ended, and what comes under its number next is another stream; `gone`: its pad has been
    /// removed.
    pub fn source_ended(&mut self, id: u32, gone: bool) {
        if gone {
            self.sources.remove(&id);
            self.work.iter_mut().for_each(|work| work.forget(id));
        } else if let Some(source) = self.sources.get_mut(&id) {
            source.account.flush();
        }
    }

    /// The frames of the batch, each taken in by its source: whether it is due, too.
    fn begin<'a>(
        &mut self,
        locked: &Locked<'_, 'a>,
        buffer: &gst::BufferRef,
        time: BatchTime,
    ) -> Vec<(Frame<'a>, Departure)> {
        let received_time = unix_nanoseconds(SystemTime::now());
        let frames = locked.frames().into_iter().map(|frame| {
            let pts = frame.pts.or_else(|| buffer.pts().map(gst::ClockTime::nseconds));
            let BatchTime { arrival, duration, live } = time;
            let time = FrameTime { stream: pts.map(i128::from), arrival, duration, live };
            let stamp = self.source(frame.source_id).begin(time);
            (frame, Departure { stamp, pts, capture_time: frame.ntp, received_time })
        });
        frames.collect()
    }

    /// Reads what nvinfer left.
    pub fn read_tensors<'a>(
        &mut self,
        batch: &Batch<'a>,
        buffer: &gst::BufferRef,
        time: BatchTime,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Result<Vec<Order<'a>>, Fatal> {
        // Also tells whether this DeepStream has the layouts that its version has.
        let surfaces = Surfaces::of(buffer, self.api.version)?;
        let locked = batch.lock();
        let frames = self.begin(&locked, buffer, time);
        let orders = frames.into_iter().map(|(frame, departure)| {
            let finding = if departure.stamp.due {
                self.tensor(&locked, &frame, &surfaces, settings, notices)?
            } else {
                Finding::NotDue
            };
            Ok(Order { frame, departure, finding: Found::Here(finding) })
        });
        orders.collect()
    }

    /// Hands the pictures of the frames that are due to the engine.
    pub fn submit<'a>(
        &mut self,
        batch: &Batch<'a>,
        buffer: &gst::Buffer,
        time: BatchTime,
        notices: &mut Notices,
    ) -> Result<Vec<Order<'a>>, Fatal> {
        let frames = self.begin(&batch.lock(), buffer, time);
        if self.work.is_none() {
            return Ok(Vec::new());
        }
        let surfaces = Surfaces::of(buffer, self.api.version)?;
        let keep = frames.len();
        let mut orders = Vec::with_capacity(keep);
        for (frame, departure) in frames {
            let finding = if departure.stamp.due {
                self.hand_over(&frame, &surfaces, buffer, keep, notices)?
            } else {
                Found::Here(Finding::NotDue)
            };
            orders.push(Order { frame, departure, finding });
        }
        Ok(orders)
    }

    /// Hands the picture of `frame` to the engine. What is wrong with it now and may be right again costs the frame its count.
    fn hand_over(
        &mut self,
        frame: &Frame<'_>,
        surfaces: &Surfaces<'_>,
        buffer: &gst::Buffer,
        keep: usize,
        notices: &mut Notices,
    ) -> Result<Found, Fatal> {
        let Some(work) = self.work.as_mut() else { return Ok(Found::Here(Finding::NotDue)) };
        let submitted = work.submit(frame.source_id, (surfaces, frame.batch_id), buffer, keep);
        let reason = match submitted {
            Ok((ticket, grid)) => return Ok(Found::Waiting(ticket, grid)),
            Err(WorkError::Picture(PictureError::Now(reason))) => reason,
            Err(error) => {
                let camera = self.source(frame.source_id).camera();
                return Err(Fatal::Other(match error {
                    WorkError::Picture(PictureError::Setup(error)) => format!("{camera}: {error}"),
                    WorkError::Picture(PictureError::Now(reason)) | WorkError::Engine(reason) => {
                        format!("{camera}: {reason}")
                    }
                }));
            }
        };
        self.source(frame.source_id).note_failed(&reason, notices);
        Ok(Found::Here(Finding::Missed))
    }

    /// Takes in what the engine counted.
    pub fn take_in(&mut self, orders: &mut [Order<'_>], outcomes: Vec<Outcomes>, notices: &mut Notices) {
        let mut outcomes = outcomes.into_iter();
        for order in orders {
            let Found::Waiting(_, grid) = order.finding else { continue };
            let source = self.source(order.frame.source_id);
            let finding = match outcomes.next() {
                Some(Ok((cells, inference_time))) => {
                    source.note_counted(notices);
                    let density = Density::Map(DensityMap { grid, cells });
                    Finding::Counted(Measurement { density, inference_time })
                }
                Some(Err(reason)) => {
                    source.note_failed(&reason, notices);
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
        surfaces: &Surfaces<'_>,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Result<Finding, Fatal> {
        let all = locked.tensors(frame);
        let Some(tensors) = all.iter().find(|tensors| tensors.unique_id() == settings.infer_on_gie_id) else {
            self.say_what_is_missing(&all.iter().map(|tensors| tensors.unique_id()).collect(), settings, notices);
            return Ok(Finding::NotDue);
        };
        self.tensors_seen = true;
        let outputs = tensors.outputs();
        let version = self.api.version;
        let size = surfaces.size(frame.batch_id)?;
        let read = tensor::choose(&outputs, &settings.tensor_layer).map_err(TensorError::Setup).and_then(|output| {
            let grid = tensor::grid(output, tensors, frame, size, version).map_err(TensorError::Setup)?;
            Ok(DensityMap { grid, cells: Arc::from(tensor::read(output, tensors.gpu_id())?) })
        });
        let id = settings.infer_on_gie_id;
        match read {
            Ok(map) => {
                self.source(frame.source_id).note_counted(notices);
                Ok(Finding::Counted(Measurement { density: Density::Map(map), inference_time: Duration::ZERO }))
            }
            Err(TensorError::Setup(reason)) => {
                let camera = self.source(frame.source_id).camera();
                Err(Fatal::Other(format!(
                    "{camera}: the tensors of nvinfer with gie-unique-id={id} cannot be read: {reason}"
                )))
            }
            Err(TensorError::Value(reason)) => {
                self.source(frame.source_id).note_failed(&reason, notices);
                Ok(Finding::Missed)
            }
        }
    }

    fn say_what_is_missing(&mut self, foreign: &BTreeSet<u32>, settings: &Settings, notices: &mut Notices) {
        let id = settings.infer_on_gie_id;
        if self.tensors_seen {
            return;
        }
        if !foreign.is_empty() {
            if self.first(Trouble::ForeignTensor) {
                notices.warn(format!(
                    "Frames carry tensors of nvinfer with gie-unique-id {foreign:?}, none of {id}: set infer-on-gie-id"
                ));
            }
        } else if self.batches >= PATIENCE && self.first(Trouble::NoTensor) {
            notices.warn(format!(
                "{PATIENCE} batches came without a tensor of nvinfer with gie-unique-id={id}: it needs output-tensor-meta=1 and network-type=100, \
                 and must stand before this element"
            ));
        }
    }

    /// Counts and attaches.
    pub fn finish(&mut self, batch: &Batch<'_>, orders: Vec<Order<'_>>, settings: &Settings, notices: &mut Notices) {
        let info = self.work.as_ref().map(Work::info);
        let model = info.map_or_else(|| format!("gie-{}", settings.infer_on_gie_id), |info| info.model.clone());
        let engine = info.map_or("nvinfer", |info| info.kind.name());
        let asked = ReportSettings { unique_id: settings.unique_id, density: settings.density_map };
        self.choose_layouts(batch, settings, notices);
        let reports: Vec<_> = orders
            .into_iter()
            .map(|Order { frame, departure, finding }| {
                let finding = match finding {
                    Found::Here(finding) => finding,
                    Found::Waiting(..) => Finding::Missed,
                };
                let inferred = matches!(finding, Finding::Counted(..));
                let source = self.source(frame.source_id);
                source.label(&model, engine);
                let report = source.account.report(departure, finding, asked);
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
                self.source(frame.source_id).unattached += 1;
                if self.first(Trouble::PoolExhausted) {
                    notices.warn(
                        "The batch's pool of metadata is exhausted: frames pass without a count, see `unattached` in `statistics`; \
                         let fewer elements attach user metadata, or turn message-blob or osd-mode off"
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
    ) -> Result<(), PoolExhausted> {
        let (Some(layout), true) = (self.display, settings.osd_mode != OsdMode::Off) else { return Ok(()) };
        let style = Style { counts: settings.osd_mode == OsdMode::Counts, font_size: settings.display_font_size };
        display::attach(locked, frame, layout, style, report)
    }

    /// Settles what depends on the version, when it is first asked for.
    fn choose_layouts(&mut self, batch: &Batch<'_>, settings: &Settings, notices: &mut Notices) {
        if settings.osd_mode != OsdMode::Off && self.display.is_none() && !self.said.contains(&Trouble::Display) {
            match DisplayLayout::verify(&batch.figures(), self.api.version) {
                Ok(layout) => self.display = Some(layout),
                Err(error) => {
                    self.first(Trouble::Display);
                    notices.warn(format!("Nothing is drawn: {error}"));
                }
            }
        }
        if settings.message_blob && self.message_type.is_none() && self.first(Trouble::MessageType) {
            self.message_type = match settings.message_type {
                0 => self.api.version.and_then(custom_message_type),
                given => i32::try_from(given).ok(),
            };
            if self.message_type.is_none() {
                let version = self.api.version.map_or("of no known version".to_owned(), |(a, b)| format!("{a}.{b}"));
                notices.warn(format!(
                    "No messages are attached: the number of NVDS_CUSTOM_MSG_BLOB in DeepStream {version} is not known; take it from nvdsmeta.h and set \
                     message-type"
                ));
            }
        }
    }
}
