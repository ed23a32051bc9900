//! What happens with a batch: frames are found, their densities read or asked for, and what was
//! counted is attached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use vehiclecount_core::account::{Departure, Finding, FrameTime, GridPlacement, Measurement};
use vehiclecount_core::batch::Dispatcher;
use vehiclecount_core::report::unix_nanoseconds;

use super::settings::Settings;
use super::source::{Config, Notices, Source};
use super::work::{Outcomes, Picture, Work, WorkError};
use crate::deepstream::batch::{Batch, BatchGuard, Frame};
use crate::deepstream::display::DisplayLayout;
use crate::deepstream::surface::Surfaces;
use crate::deepstream::tensor::Unread;
use crate::deepstream::{Api, DeepStreamError};

/// Sources that are remembered at most; beyond, the one that was away longest is forgotten.
const MAX_SOURCES: usize = 1024;

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
    pub(super) tensors_seen: bool,
    /// Said once each.
    pub(super) said: BTreeSet<Trouble>,
    pub(super) display: Option<DisplayLayout>,
    pub(super) message_type: Option<i32>,
}

/// What is said once, and does not stop the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    NoTensor,
    ForeignTensor,
    PoolExhausted,
    Display,
    MessageType,
}

/// A frame on its way through the element.
pub struct Order<'a> {
    /// The frame.
    pub frame: Frame<'a>,
    /// What it says of itself.
    pub departure: Departure,
    /// Where its finding is.
    pub finding: FindingState<'a>,
}

/// Where a frame's finding is.
pub enum FindingState<'a> {
    /// Here.
    Here(Finding),
    /// Under this ticket in the engine; the density will lie there.
    Waiting(u64, GridPlacement),
    /// In a tensor of nvinfer.
    Unread(Unread<'a>),
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

/// What opens the engine at another input size, and the width and height of the pictures for which
/// it must be opened.
pub type UnopenedShape = (Arc<Dispatcher>, (usize, usize));

impl State {
    /// Nothing has come yet.
    pub fn new(api: &'static Api, config: Config) -> Self {
        Self {
            api,
            config,
            work: None,
            sources: BTreeMap::new(),
            batches: 0,
            tensors_seen: false,
            said: BTreeSet::new(),
            display: None,
            message_type: None,
        }
    }

    /// The source of that number.
    pub(super) fn source(&mut self, id: u32) -> &mut Source {
        if !self.sources.contains_key(&id) && self.sources.len() >= MAX_SOURCES {
            let oldest =
                self.sources.iter().min_by_key(|(_, source)| source.last_batch).map(|(&id, _)| id);
            if let Some(oldest) = oldest {
                self.sources.remove(&oldest);
                self.work.iter_mut().for_each(|work| work.forget(oldest));
            }
        }
        let source = self.sources.entry(id).or_insert_with(|| Source::new(id, &self.config));
        source.last_batch = self.batches;
        source
    }

    /// The source has ended, and what comes under its number next is another stream; `gone`: its
    /// pad has been removed.
    pub fn source_ended(&mut self, id: u32, gone: bool) {
        if gone {
            self.sources.remove(&id);
            self.work.iter_mut().for_each(|work| work.forget(id));
        } else if let Some(source) = self.sources.get_mut(&id) {
            source.account.flush();
        }
    }

    /// The frames of the batch, each taken in by its source: whether it is due, too. `time` is that
    /// of the batch; frames have times of their own in their streams.
    fn begin<'a>(
        &mut self,
        locked: &BatchGuard<'_, 'a>,
        buffer: &gst::BufferRef,
        time: FrameTime,
    ) -> Vec<(Frame<'a>, Departure)> {
        let received_time = unix_nanoseconds(SystemTime::now());
        let frames = locked.frames().into_iter().map(|frame| {
            let pts = frame.pts.or_else(|| buffer.pts().map(gst::ClockTime::nseconds));
            let time = FrameTime { stream: pts.map(i128::from), ..time };
            let stamp = self.source(frame.source_id).begin(time);
            (frame, Departure { stamp, pts, capture_time: frame.ntp, received_time })
        });
        frames.collect()
    }

    /// Finds what nvinfer left.
    pub fn find_tensors<'a>(
        &mut self,
        batch: &Batch<'a>,
        buffer: &gst::BufferRef,
        time: FrameTime,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Result<Vec<Order<'a>>, Fatal> {
        // Also tells whether this DeepStream has the layouts that its version has.
        let surfaces = Surfaces::of(buffer, self.api.version)?;
        let locked = batch.lock();
        let frames = self.begin(&locked, buffer, time);
        let orders = frames.into_iter().map(|(frame, departure)| {
            let finding = if departure.stamp.due {
                self.find_tensor(&locked, &frame, &surfaces, settings, notices)?
            } else {
                FindingState::Here(Finding::NotDue)
            };
            Ok(Order { frame, departure, finding })
        });
        orders.collect()
    }

    /// Width and height of pictures of `buffer` for which the engine must be opened at another
    /// input size, and what opens it.
    pub fn unopened(&mut self, buffer: &gst::BufferRef) -> Result<Option<UnopenedShape>, Fatal> {
        let Some(work) = &mut self.work else { return Ok(None) };
        // Whether it is a batch at all shows first.
        Batch::of(self.api, buffer)?;
        let size = work.unopened(&Surfaces::of(buffer, self.api.version)?)?;
        Ok(size.map(|size| (work.dispatcher().clone(), size)))
    }

    /// Hands the pictures of the frames that are due to the engine. `with_map`: their density maps
    /// are asked for.
    pub fn submit<'a>(
        &mut self,
        batch: &Batch<'a>,
        buffer: &gst::Buffer,
        time: FrameTime,
        with_map: bool,
        notices: &mut Notices,
    ) -> Result<Vec<Order<'a>>, Fatal> {
        let frames = self.begin(&batch.lock(), buffer, time);
        let surfaces = Surfaces::of(buffer, self.api.version)?;
        let keep = frames.len();
        let mut orders = Vec::with_capacity(keep);
        for (frame, departure) in frames {
            let finding = if departure.stamp.due {
                self.hand_over(&frame, (&surfaces, buffer, keep), with_map, notices)?
            } else {
                FindingState::Here(Finding::NotDue)
            };
            orders.push(Order { frame, departure, finding });
        }
        Ok(orders)
    }

    /// Hands the picture of `frame` to the engine. What is wrong with it now and may be right again
    /// costs the frame its count.
    fn hand_over<'a>(
        &mut self,
        frame: &Frame<'_>,
        (surfaces, buffer, keep): (&Surfaces<'_>, &gst::Buffer, usize),
        with_map: bool,
        notices: &mut Notices,
    ) -> Result<FindingState<'a>, Fatal> {
        let (Some(work), Some(source)) =
            (self.work.as_mut(), self.sources.get_mut(&frame.source_id))
        else {
            return Ok(FindingState::Here(Finding::NotDue));
        };
        let picture =
            Picture { source: frame.source_id, surfaces, batch_id: frame.batch_id, buffer };
        let reason = match work.submit(picture, keep, source, with_map, notices) {
            Ok((ticket, placement)) => {
                notices.log(|| format!("{}: to the engine, ticket {ticket}", source.camera()));
                return Ok(FindingState::Waiting(ticket, placement));
            }
            Err(WorkError::Now(reason)) => reason,
            Err(WorkError::Setup(reason)) => {
                return Err(Fatal::Other(format!("{}: {reason}", source.camera())));
            }
        };
        source.note_failed(&reason, notices);
        Ok(FindingState::Here(Finding::Missed))
    }

    /// Takes in what the engine counted.
    pub fn take_in(
        &mut self,
        orders: &mut [Order<'_>],
        outcomes: Vec<Outcomes>,
        notices: &mut Notices,
    ) {
        let mut outcomes = outcomes.into_iter();
        for order in orders {
            let FindingState::Waiting(ticket, placement) = order.finding else { continue };
            let source = self.source(order.frame.source_id);
            let finding = match outcomes.next() {
                Some(Ok((output, inference_time))) => {
                    source.note_counted(notices);
                    let (camera, total) = (source.camera(), output.total());
                    notices.log(|| {
                        format!(
                            "{camera}: ticket {ticket} counted, {total:.2} in {inference_time:?}"
                        )
                    });
                    Finding::Counted(Measurement::new(&output, inference_time, placement))
                }
                Some(Err(reason)) => {
                    source.note_failed(&reason, notices);
                    Finding::Missed
                }
                None => Finding::Missed,
            };
            order.finding = FindingState::Here(finding);
        }
    }

    /// Whether `trouble` has not been said yet.
    pub(super) fn first(&mut self, trouble: Trouble) -> bool {
        self.said.insert(trouble)
    }
}
