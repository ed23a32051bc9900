//! A lane: one stream of work, batch by batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::buffers::{LaneBuffers, SUMS, set_batch};
use super::{Network, Shared};
use crate::cuda::{CountOrder, CudaError, DeviceBuffer, Event, Graph, PictureOrder, Stream};
use crate::engine::error::EngineError;
use crate::engine::interface::Lane;
use crate::engine::picture::{Content, Planes};
use crate::engine::slot::{Input, Slot};

/// One stream of work.
pub(super) struct GpuLane {
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
    pub fn new(shared: Arc<Shared>, network: Box<dyn Network>) -> Result<Self, EngineError> {
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
            // A GPU that is lost is the reason of whatever failed, and the wait says so.
            self.stream.synchronize().map_err(failed)?;
            run?;
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
