//! Counting with an engine of ours: pictures go in, densities come back, in the time of one batch.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use vehiclecount_core::account::GridPlacement;
use vehiclecount_core::batch::{Dispatcher, Instance, Outcome, Seat};
use vehiclecount_core::engine::{EngineInfo, Input, Output};
use vehiclecount_core::preprocess::{InputSize, Placement, Preprocessor};

use super::source::{Notices, Source};
use crate::deepstream::DeepStreamError;
use crate::deepstream::convert::Converter;
use crate::deepstream::picture::PictureError;
use crate::deepstream::surface::Surfaces;
use crate::engine::OpenedEngine;

/// What came of a picture.
pub type Outcomes = Result<(Output, Duration), String>;

/// Where the engine's threads leave what they counted, and the streaming thread waits for it.
#[derive(Default)]
pub struct Results {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    flushing: bool,
    /// The engine is still being opened.
    opening: bool,
    done: BTreeMap<u64, Outcomes>,
}

impl Results {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// While flushing, no thread waits.
    pub fn set_flushing(&self, flushing: bool) {
        self.lock().flushing = flushing;
        self.changed.notify_all();
    }

    /// While the engine is being opened, batches wait for it.
    pub fn set_opening(&self, opening: bool) {
        self.lock().opening = opening;
        self.changed.notify_all();
    }

    /// Waits for the engine. `false` when flushing.
    pub fn wait_for_engine(&self) -> bool {
        let waiting = |inner: &mut Inner| !inner.flushing && inner.opening;
        let mut inner = self.lock();
        self.changed.wait_while(&mut inner, waiting);
        !inner.flushing
    }

    fn put(&self, ticket: u64, outcome: &Outcome<'_>) {
        let result = match outcome {
            Outcome::Counted { output, inference_time } => Ok(((*output).clone(), *inference_time)),
            Outcome::Dropped => Err("a newer frame took its place".to_owned()),
            Outcome::Failed(error) => Err(error.to_string()),
        };
        self.lock().done.insert(ticket, result);
        self.changed.notify_all();
    }

    /// What came of `tickets`, in their order; what belongs to others is forgotten. `None` when
    /// flushing.
    pub fn wait(&self, tickets: &[u64]) -> Option<Vec<Outcomes>> {
        let waiting = |inner: &mut Inner| {
            !inner.flushing && tickets.iter().any(|ticket| !inner.done.contains_key(ticket))
        };
        let mut inner = self.lock();
        self.changed.wait_while(&mut inner, waiting);
        if inner.flushing {
            return None;
        }
        let found = tickets.iter().filter_map(|ticket| inner.done.remove(ticket)).collect();
        inner.done.clear();
        Some(found)
    }
}

/// Sizes of pictures that are remembered at most; beyond, they are looked up again.
const MAX_SIZES: usize = 256;

/// One source's seat at the engine.
struct SourceSeat {
    seat: Seat,
    preprocessor: Option<Preprocessor>,
}

/// A picture in a batch.
pub struct Picture<'a> {
    /// The number of its source.
    pub source: u32,
    /// The pictures of the batch.
    pub surfaces: &'a Surfaces<'a>,
    /// Its place among them.
    pub batch_id: u32,
    /// The batch.
    pub buffer: &'a gst::Buffer,
}

/// The engine, and each source's seat at it.
pub struct Work {
    opened: OpenedEngine,
    results: Arc<Results>,
    seats: BTreeMap<u32, SourceSeat>,
    /// The engine at the input size for pictures of a width and height.
    instances: HashMap<(usize, usize), Arc<Instance>>,
    next_ticket: u64,
    converter: Option<Converter>,
}

/// Why a picture did not go in.
#[derive(Debug)]
pub enum WorkError {
    /// It will be so for every picture.
    Setup(String),
    /// It is so for this one.
    Now(String),
}

impl From<PictureError> for WorkError {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Setup(error) => setup(error),
            PictureError::Now(reason) => Self::Now(reason),
        }
    }
}

fn setup(error: impl Display) -> WorkError {
    WorkError::Setup(error.to_string())
}

impl Work {
    /// No source has a seat yet.
    pub fn new(opened: OpenedEngine, results: Arc<Results>) -> Self {
        let (seats, instances) = (BTreeMap::new(), HashMap::new());
        Self { opened, results, seats, instances, next_ticket: 0, converter: None }
    }

    /// What the engine is opened with at further input sizes.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.opened.dispatcher
    }

    /// Width and height of the first pictures for which the engine must be opened at another input
    /// size.
    pub fn unopened(
        &mut self,
        surfaces: &Surfaces<'_>,
    ) -> Result<Option<(usize, usize)>, DeepStreamError> {
        for index in 0..surfaces.filled() {
            let (width, height) = surfaces.size(index)?;
            let size = (width as usize, height as usize);
            if self.instances.contains_key(&size) {
                continue;
            }
            match self.opened.dispatcher.instance(size.0, size.1) {
                Some(instance) => self.note(size, instance),
                None => return Ok(Some(size)),
            }
        }
        Ok(None)
    }

    /// The input size for the pictures of a source, where it has a seat.
    pub fn input_of(&self, source: u32) -> Option<InputSize> {
        self.seats.get(&source).map(|held| held.seat.instance().info().input)
    }

    fn note(&mut self, size: (usize, usize), instance: Arc<Instance>) {
        if self.instances.len() >= MAX_SIZES {
            self.instances.clear();
        }
        self.instances.insert(size, instance);
    }

    /// The engine cannot be opened at the input size for these pictures: they go into another one.
    pub fn refuse(&mut self, size: (usize, usize)) {
        let dispatcher = &self.opened.dispatcher;
        let instance = dispatcher.instance(size.0, size.1);
        let instance = instance.unwrap_or_else(|| dispatcher.first().clone());
        self.note(size, instance);
    }

    /// What the engine says of itself.
    pub fn info(&self) -> &EngineInfo {
        self.opened.dispatcher.info()
    }

    /// Hands a picture to the engine, of whose source's frames `keep` wait at most: its ticket, and
    /// where the density will lie. `with_map`: the density map is asked for.
    pub fn submit(
        &mut self,
        Picture { source: id, surfaces, batch_id, buffer }: Picture<'_>,
        keep: usize,
        source: &mut Source,
        with_map: bool,
        notices: &mut Notices,
    ) -> Result<(u64, GridPlacement), WorkError> {
        let (dispatcher, results, resize) =
            (&self.opened.dispatcher, &self.results, self.opened.resize);
        let held = self.seats.entry(id).or_insert_with(|| {
            let results = results.clone();
            let seat = dispatcher.join(move |ticket, outcome| results.put(ticket, &outcome));
            SourceSeat { seat, preprocessor: None }
        });
        let converter = self.converter.get_or_insert_with(|| {
            let room = dispatcher.engine().picture();
            Converter::new(room.map(|room| room.context().clone()))
        });
        let picture = surfaces.picture(batch_id, converter)?;
        let size = (picture.format.width, picture.format.height);
        if let Some(instance) = self.instances.get(&size) {
            held.seat.move_to(instance);
        }
        let instance = held.seat.instance();
        let &EngineInfo { input, columns, rows, kind, .. } = instance.info();
        let mut slot = held.seat.slot();
        let placement = Placement::new(resize, picture.format.width, picture.format.height, input);
        let read = match &mut slot.input {
            // An engine on a GPU preprocesses by itself, and reads the picture where it lies, or a
            // copy.
            Input::Picture(room) => match picture.lend(room, placement, buffer) {
                Some(lent) => lent.map(Some).map_err(setup),
                None => match picture.view(|frame| room.stage(frame, placement)) {
                    Ok(staged) => staged.transpose().map_err(setup),
                    Err(error) => Err(setup(error)),
                },
            },
            preprocessed => {
                let held = &mut held.preprocessor;
                let preprocessor = Preprocessor::held(held, picture.format, resize, input);
                picture.view(|frame| preprocessed.preprocess(preprocessor, frame)).map_err(setup)
            }
        };
        if read?.is_none() {
            return Err(WorkError::Setup(format!(
                "The pictures are in the memory of GPU {}, which engine {kind} cannot read: take engine=tensorrt with that gpu-id, set \
                 nvbuf-memory-type of nvstreammux to 1 (pinned) or 3 (unified), or count with source=tensor-meta",
                picture.on_gpu().map_or(0, |on_gpu| on_gpu.gpu)
            )));
        }
        let grid = placement.grid(columns, rows);
        let generation = source.account.generation();
        let mut asked = GridPlacement { grid, generation };
        // An engine on a GPU sums the density there, where no map is asked for.
        if !with_map && matches!(slot.input, Input::Picture(_)) {
            let Source { account, device_regions, .. } = source;
            let coverage = || (generation, account.coverage(&grid).to_vec());
            match device_regions.of(instance.engine(), &grid, generation, coverage) {
                Ok((weights, generation)) => {
                    slot.weights = weights;
                    asked.generation = generation;
                }
                Err(error) => {
                    let camera = source.camera();
                    notices.warn(format!(
                        "{camera}: {error}; its regions are counted on the processor"
                    ));
                }
            }
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        held.seat.submit(ticket, slot, keep);
        Ok((ticket, asked))
    }

    /// Takes back what waits.
    pub fn cancel(&self) {
        self.seats.values().for_each(|held| held.seat.cancel());
    }

    /// The source is gone.
    pub fn forget(&mut self, source: u32) {
        self.seats.remove(&source);
    }
}
