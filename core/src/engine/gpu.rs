//! Batches of pictures on an NVIDIA GPU: staging, preprocessing, the network, counting, all on one
//! stream for each lane.
//!
//! What runs the network is behind [`Network`]; everything else is here. A lane is a stream with
//! memory of its own, so that one lane copies while another infers. For a batch, a lane
//!
//! 1. copies host pictures from their pinned staging to the GPU; pictures that lie on the GPU stay
//!    where they are;
//! 2. preprocesses all pictures in one launch, into the batch;
//! 3. runs the network;
//! 4. sums the maps, for the whole and for each region, in one launch;
//! 5. copies the sums to the host, and the maps where somebody asks for one;
//! 6. waits, asleep.
//!
//! A batch is filled up to one of a few sizes: the powers of two, and the largest. A new lane runs
//! each of them once, so that whatever the network compiles or allocates for a size is there before
//! the first frame. Steps 2 to 5 are recorded as a CUDA graph when a size is first needed, and
//! replayed from then on.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::EngineError;
use super::info::EngineInfo;
use super::interface::{Engine, Lane};
use super::picture::{Content, Planes};
pub use super::picture::{Picture, RegionWeights};
use super::slot::{Input, Slot};
use crate::cuda::{
    Context, CountOrder, CudaError, DeviceBuffer, Event, Graph, Kernels, MAX_REGIONS, PictureOrder,
    PinnedBuffer, Stream,
};
use crate::region::Coverage;

/// Sums of one frame: the whole, then the regions.
const SUMS: usize = MAX_REGIONS + 1;

/// The network of one lane. Whoever calls it has entered the engine's context.
pub trait Network: Send {
    /// The smallest batch that it takes; smaller ones are filled up.
    fn min_batch(&self) -> usize;

    /// The next [`enqueue`](Self::enqueue) takes `batch` inputs at `input`, `[3, height, width]`
    /// each, and leaves as many maps at `output`, all f32 on the GPU.
    fn set_batch(&mut self, batch: usize, input: u64, output: u64) -> Result<(), String>;

    /// Puts the run on `stream`, a `CUstream`, which may be recording a graph.
    ///
    /// # Safety
    /// The addresses given to [`set_batch`](Self::set_batch) hold what they should and stay until
    /// the stream has passed the run.
    unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), String>;
}

/// Makes the network of a lane.
pub type Networks = Box<dyn Fn() -> Result<Box<dyn Network>, EngineError> + Send + Sync>;

struct Shared {
    info: EngineInfo,
    context: Arc<Context>,
    kernels: Kernels,
    max_batch: usize,
    /// The GPU is gone: nothing is tried any more.
    lost: AtomicBool,
}

impl Shared {
    fn failed(&self, error: CudaError) -> EngineError {
        if error.is_lost() {
            self.lost.store(true, Ordering::Relaxed);
        }
        EngineError::Gpu { kind: self.info.kind, error }
    }

    fn cells(&self) -> usize {
        self.info.columns * self.info.rows
    }
}

/// An engine on a GPU.
pub struct GpuEngine {
    shared: Arc<Shared>,
    networks: Networks,
    plan: Option<String>,
}

impl GpuEngine {
    /// An engine in `context` that takes batches of `max_batch` at most.
    pub fn new(
        info: EngineInfo,
        context: Arc<Context>,
        max_batch: usize,
        networks: Networks,
    ) -> Result<Self, EngineError> {
        let kernels =
            Kernels::load(&context).map_err(|error| EngineError::Gpu { kind: info.kind, error })?;
        let lost = AtomicBool::new(false);
        let shared = Arc::new(Shared { info, context, kernels, max_batch: max_batch.max(1), lost });
        Ok(Self { shared, networks, plan: None })
    }

    /// Says that the network is that of the plan with this SHA-256.
    pub fn of_plan(mut self, sha256: String) -> Self {
        self.plan = Some(sha256);
        self
    }
}

impl Engine for GpuEngine {
    fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        Ok(Box::new(GpuLane::new(self.shared.clone(), (self.networks)()?)?))
    }

    fn plan(&self) -> Option<&str> {
        self.plan.as_deref()
    }

    fn picture(&self) -> Option<Picture> {
        Some(Picture::new(self.shared.context.clone()))
    }

    fn weights(&self, regions: &[Coverage]) -> Option<Result<Arc<RegionWeights>, EngineError>> {
        if regions.len() > MAX_REGIONS {
            return None;
        }
        let cells = self.shared.cells();
        let mut weights = vec![0.0f32; cells * regions.len()];
        for (coverage, weights) in regions.iter().zip(weights.chunks_exact_mut(cells)) {
            coverage.cells().iter().for_each(|&(cell, share)| weights[cell as usize] = share);
        }
        let buffer = DeviceBuffer::holding(&self.shared.context, &weights, "weights of regions");
        let buffer = buffer.map_err(|error| self.shared.failed(error));
        Some(buffer.map(|buffer| Arc::new(RegionWeights { buffer, regions: regions.len() })))
    }
}

/// The memory of a lane, at places that do not change: graphs name them.
struct LaneBuffers {
    shared: Arc<Shared>,
    inputs: DeviceBuffer,
    maps: DeviceBuffer,
    sums: DeviceBuffer,
    picture_orders: DeviceBuffer,
    count_orders: DeviceBuffer,
    /// The host's side of what is copied.
    host: Host,
}

struct Host {
    picture_orders: PinnedBuffer,
    count_orders: PinnedBuffer,
    maps: PinnedBuffer,
    sums: PinnedBuffer,
}

impl Host {
    /// There are no pictures at these places of the batch: the network runs on what its input has
    /// there.
    fn nothing(&mut self, places: Range<usize>) {
        for place in places {
            self.picture_orders.values_mut::<PictureOrder>()[place] = PictureOrder::nothing(place);
            self.count_orders.values_mut::<CountOrder>()[place] = CountOrder::new(0, 0);
        }
    }
}

/// Tells `network` the size of the next batch, which lies in `buffers`.
fn set_batch(
    shared: &Shared,
    network: &mut dyn Network,
    buffers: &LaneBuffers,
    batch: usize,
) -> Result<(), EngineError> {
    let set = network.set_batch(batch, buffers.inputs.address(), buffers.maps.address());
    set.map_err(|reason| EngineError::Infer { kind: shared.info.kind, reason })
}

impl LaneBuffers {
    /// Memory for `batch` pictures.
    fn new(shared: Arc<Shared>, batch: usize) -> Result<Self, CudaError> {
        let (values, cells, context) =
            (shared.info.input.values(), shared.cells(), shared.context.clone());
        let device = |bytes, what| DeviceBuffer::new(&context, bytes * batch, what);
        let pinned = |bytes, what| PinnedBuffer::new(&context, bytes * batch, what);
        // Inputs that only fill up a batch must be numbers.
        let inputs =
            DeviceBuffer::holding(&context, &vec![0.0f32; values * batch], "model inputs")?;
        let maps = device(4 * cells, "density maps")?;
        let sums = device(4 * SUMS, "counts")?;
        let picture_orders = device(size_of::<PictureOrder>(), "orders")?;
        let count_orders = device(size_of::<CountOrder>(), "orders")?;
        let host = Host {
            picture_orders: pinned(size_of::<PictureOrder>(), "orders")?,
            count_orders: pinned(size_of::<CountOrder>(), "orders")?,
            maps: pinned(4 * cells, "density maps")?,
            sums: pinned(4 * SUMS, "counts")?,
        };
        Ok(Self { shared, inputs, maps, sums, picture_orders, count_orders, host })
    }

    /// Where the input of picture `index` of a batch lies.
    fn input(&self, index: usize) -> u64 {
        self.inputs.address() + (4 * self.shared.info.input.values() * index) as u64
    }

    /// Puts a batch's work on `stream`: everything but the pictures' own copies.
    ///
    /// # Safety
    /// Nobody touches this memory, or what the orders in it name, until the stream has passed the
    /// work.
    unsafe fn run(
        &self,
        network: &mut dyn Network,
        stream: &Stream,
        batch: usize,
        with_maps: bool,
    ) -> Result<(), EngineError> {
        let Shared { info, kernels, .. } = &*self.shared;
        let failed = |error| self.shared.failed(error);
        let cells = self.shared.cells();
        let orders = [
            (&self.picture_orders, &self.host.picture_orders, size_of::<PictureOrder>()),
            (&self.count_orders, &self.host.count_orders, size_of::<CountOrder>()),
        ];
        for (to, from, size) in orders {
            // SAFETY: both have room for the largest batch; the rest is the caller's.
            unsafe { stream.upload(to.address(), from.pointer(), size * batch) }.map_err(failed)?;
        }
        // SAFETY: so many orders were just put there, checked when they were made, for inputs of
        // this size.
        unsafe {
            kernels.preprocess(
                stream,
                self.picture_orders.address(),
                batch,
                self.inputs.address(),
                info.input,
            )
        }
        .map_err(failed)?;
        // SAFETY: the inputs are there, and room for the maps; see `GpuLane::run` for the batch.
        unsafe { network.enqueue(stream.handle()) }
            .map_err(|reason| EngineError::Infer { kind: info.kind, reason })?;
        let (maps, sums) = (self.maps.address(), self.sums.address());
        // SAFETY: so many orders, maps and results have room.
        unsafe { kernels.count(stream, self.count_orders.address(), batch, maps, sums, cells) }
            .map_err(failed)?;
        // SAFETY: both sides have room for the largest batch.
        unsafe { stream.download(self.host.sums.pointer(), sums, 4 * SUMS * batch) }
            .map_err(failed)?;
        if with_maps {
            // SAFETY: as above.
            unsafe { stream.download(self.host.maps.pointer(), maps, 4 * cells * batch) }
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// One stream of work.
struct GpuLane {
    /// Work by batch size and whether maps are copied; `None` where it cannot be recorded. Goes
    /// before what it names.
    graphs: HashMap<(usize, bool), Option<Graph>>,
    /// Batch sizes that are run, ascending.
    sizes: Vec<usize>,
    network: Box<dyn Network>,
    stream: Stream,
    begin: Event,
    end: Event,
    buffers: LaneBuffers,
    /// Where host pictures of a batch lie on the GPU, each as large as the largest that came.
    staged: Vec<Option<DeviceBuffer>>,
    shared: Arc<Shared>,
}

/// The powers of two from `least` on, and `least` and `most` themselves.
fn batch_sizes(least: usize, most: usize) -> Vec<usize> {
    let (least, most) = (least.max(1), most.max(least).max(1));
    let powers = (0..usize::BITS).map(|power| 1 << power).skip_while(|&size| size <= least);
    let between = powers.take_while(|&size| size < most);
    let mut sizes: Vec<_> = std::iter::once(least).chain(between).chain([most]).collect();
    sizes.dedup();
    sizes
}

impl GpuLane {
    fn new(shared: Arc<Shared>, network: Box<dyn Network>) -> Result<Self, EngineError> {
        let failed = |error| shared.failed(error);
        let context = &shared.context;
        let stream = Stream::new(context).map_err(failed)?;
        let (begin, end) =
            (Event::new(context).map_err(failed)?, Event::new(context).map_err(failed)?);
        let sizes = batch_sizes(network.min_batch(), shared.max_batch);
        let most = sizes.last().copied().unwrap_or(1);
        let buffers = LaneBuffers::new(shared.clone(), most).map_err(failed)?;
        let staged = (0..shared.max_batch).map(|_| None).collect();
        let mut lane = Self {
            graphs: HashMap::new(),
            sizes,
            network,
            stream,
            begin,
            end,
            buffers,
            staged,
            shared,
        };
        if !lane.shared.lost.load(Ordering::Relaxed) {
            lane.warm_up()?;
        }
        Ok(lane)
    }

    /// Runs each batch size once, on inputs of zeros.
    fn warm_up(&mut self) -> Result<(), EngineError> {
        let shared = self.shared.clone();
        let failed = |error| shared.failed(error);
        let _entered = shared.context.enter().map_err(failed)?;
        let most = self.buffers.host.picture_orders.values::<PictureOrder>().len();
        self.buffers.host.nothing(0..most);
        for &size in &self.sizes {
            set_batch(&shared, &mut *self.network, &self.buffers, size)?;
            // SAFETY: the buffers are this lane's alone, and nothing of them is used before the
            // wait.
            let run = unsafe { self.buffers.run(&mut *self.network, &self.stream, size, true) };
            let waited = self.stream.synchronize().map_err(failed);
            run.and(waited)?;
        }
        // Tells the network that the last run is done.
        set_batch(&shared, &mut *self.network, &self.buffers, self.sizes[0])
    }

    fn batch(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        let done = self.run(slots);
        // Whatever happened: when this returns, nothing of the batch is in use. A stream that
        // cannot be waited for does nothing any more.
        let waited = self.stream.synchronize().map_err(|error| self.shared.failed(error));
        for picture in slots.iter_mut().filter_map(|slot| slot.input.picture_mut()) {
            picture.clear();
        }
        waited?;
        done?;
        self.collect(slots)
    }

    /// Does the work of a batch and waits for its end.
    fn run(&mut self, slots: &[Slot]) -> Result<(), EngineError> {
        let shared = self.shared.clone();
        let failed = |error| shared.failed(error);
        let entered = shared.context.enter().map_err(failed)?;
        self.begin.record(&self.stream).map_err(failed)?;
        for (index, slot) in slots.iter().enumerate() {
            let order = self.upload(index, slot)?;
            self.buffers.host.picture_orders.values_mut::<PictureOrder>()[index] = order;
            let weights = slot.weights.as_ref();
            let (address, regions) =
                weights.map_or((0, 0), |weights| (weights.buffer.address(), weights.regions));
            self.buffers.host.count_orders.values_mut::<CountOrder>()[index] =
                CountOrder::new(address, regions);
        }
        let batch =
            self.sizes.iter().copied().find(|&size| size >= slots.len()).unwrap_or(slots.len());
        self.buffers.host.nothing(slots.len()..batch);
        let with_maps = slots.iter().any(|slot| slot.weights.is_none());
        let Self { graphs, network, stream, buffers, .. } = self;
        let network = &mut **network;
        match graphs.get(&(batch, with_maps)) {
            // SAFETY: the buffers are this lane's alone, and are not touched before the wait below;
            // pictures and weights are the slots'.
            Some(Some(graph)) => unsafe { stream.replay(graph) }.map_err(failed)?,
            Some(None) => {
                set_batch(&shared, network, buffers, batch)?;
                // SAFETY: as above.
                unsafe { buffers.run(network, stream, batch, with_maps)? };
            }
            None => {
                set_batch(&shared, network, buffers, batch)?;
                // SAFETY: as above; the graph goes before the buffers do.
                let graph = unsafe {
                    stream.capture(|stream| buffers.run(network, stream, batch, with_maps), failed)
                };
                let graph = match graph {
                    Ok(graph) => Some(graph),
                    Err(error) if shared.lost.load(Ordering::Relaxed) => return Err(error),
                    Err(_) => None,
                };
                match &graph {
                    // SAFETY: as above.
                    Some(graph) => unsafe { stream.replay(graph) }.map_err(failed)?,
                    // SAFETY: as above.
                    None => unsafe { buffers.run(network, stream, batch, with_maps)? },
                }
                graphs.insert((batch, with_maps), graph);
            }
        }
        drop(entered);
        self.end.record(&self.stream).map_err(failed)?;
        self.end.synchronize().map_err(failed)
    }

    /// Brings one picture to the GPU, if it is not there, and says what is to be done with it.
    fn upload(&mut self, index: usize, slot: &Slot) -> Result<PictureOrder, EngineError> {
        let failed = |error| self.shared.failed(error);
        let Input::Picture(picture) = &slot.input else {
            let values = slot.values(&self.shared.info)?;
            // SAFETY: one input on both sides, which the batch waits for.
            unsafe {
                self.stream.upload(
                    self.buffers.input(index),
                    values.as_ptr().cast(),
                    size_of_val(values),
                )
            }
            .map_err(failed)?;
            return Ok(PictureOrder::nothing(index));
        };
        let Some((format, placement)) = picture.format else {
            let reason = "a slot came without its picture".to_owned();
            return Err(EngineError::Infer { kind: self.shared.info.kind, reason });
        };
        let count = format.pixels.planes();
        let planes = match &picture.content {
            Content::Device(planes, is_pending, _) => {
                if let Some(written) = picture.written.as_ref().filter(|_| *is_pending) {
                    self.stream.wait_for(written).map_err(failed)?;
                }
                *planes
            }
            Content::Nothing => Planes::default(),
            Content::Host(planes, bytes) => {
                let held = self.staged[index].take().filter(|held| held.bytes() >= *bytes);
                let held = held
                    .map_or_else(|| DeviceBuffer::new(&self.shared.context, *bytes, "a frame"), Ok);
                let buffer = self.staged[index].insert(held.map_err(failed)?);
                if let Some(staging) = &picture.staging {
                    // SAFETY: so many bytes on both sides; the slot stays as it is until the batch
                    // is done.
                    unsafe { self.stream.upload(buffer.address(), staging.pointer(), *bytes) }
                        .map_err(failed)?;
                }
                planes.map(|(offset, stride, length)| (buffer.address() + offset, stride, length))
            }
        };
        PictureOrder::new(format, placement, &planes[..count], index).map_err(failed)
    }

    /// Hands out what came back.
    fn collect(&self, slots: &mut [Slot]) -> Result<(), EngineError> {
        let cells = self.shared.cells();
        let sums = self.buffers.host.sums.values::<f32>().chunks_exact(SUMS);
        if let Some(whole) =
            sums.clone().take(slots.len()).map(|sums| sums[0]).find(|whole| !whole.is_finite())
        {
            let reason = format!("a density map sums to {whole}");
            return Err(EngineError::Infer { kind: self.shared.info.kind, reason });
        }
        let maps = self.buffers.host.maps.values::<f32>().chunks_exact(cells);
        for ((slot, sums), map) in slots.iter_mut().zip(sums).zip(maps) {
            match &slot.weights {
                Some(weights) => slot.output.set_sums(&sums[..=weights.regions]),
                None => slot.output.map_of(cells).copy_from_slice(map),
            }
        }
        Ok(())
    }
}

/// What the device still does, it does with memory that goes next.
impl Drop for GpuLane {
    fn drop(&mut self) {
        // A stream that cannot be waited for does nothing any more.
        let _ = self.stream.synchronize();
    }
}

impl Lane for GpuLane {
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        if self.shared.lost.load(Ordering::Relaxed) {
            let reason = "it was lost before".to_owned();
            let error = CudaError::Lost { call: "no call is made any more", reason };
            return Err(EngineError::Gpu { kind: self.shared.info.kind, error });
        }
        let max_batch = self.shared.max_batch;
        slots.chunks_mut(max_batch).try_for_each(|slots| self.batch(slots))
    }

    fn device_time(&self) -> Option<Duration> {
        self.end.since(&self.begin).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::batch_sizes;

    #[test]
    fn few_sizes_serve_every_batch() {
        assert_eq!(batch_sizes(1, 16), [1, 2, 4, 8, 16]);
        assert_eq!(batch_sizes(1, 256), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(batch_sizes(1, 12), [1, 2, 4, 8, 12]);
        assert_eq!((batch_sizes(1, 1), batch_sizes(0, 0)), (vec![1], vec![1]));
        // A network that takes no fewer than three.
        assert_eq!((batch_sizes(3, 16), batch_sizes(3, 2)), (vec![3, 4, 8, 16], vec![3]));
        assert_eq!(batch_sizes(16, 16), [16]);
    }
}
