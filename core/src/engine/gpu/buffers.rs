//! The memory of a lane, and the work that a batch does in it.

use std::ops::Range;
use std::sync::Arc;

use super::{Network, Shared};
use crate::cuda::{
    CountOrder, CudaError, DeviceBuffer, MAX_REGIONS, PictureOrder, PinnedBuffer, Stream,
};
use crate::engine::error::EngineError;

/// Sums of one frame: the whole, then the regions.
pub(super) const SUMS: usize = MAX_REGIONS + 1;

/// The memory of a lane, at places that do not change: graphs name them.
pub(super) struct LaneBuffers {
    pub shared: Arc<Shared>,
    pub inputs: DeviceBuffer,
    pub maps: DeviceBuffer,
    pub sums: DeviceBuffer,
    pub picture_orders: DeviceBuffer,
    pub count_orders: DeviceBuffer,
    /// The host's side of what is copied.
    pub host: Host,
}

pub(super) struct Host {
    pub picture_orders: PinnedBuffer,
    pub count_orders: PinnedBuffer,
    pub maps: PinnedBuffer,
    pub sums: PinnedBuffer,
}

impl Host {
    /// There are no pictures at these places of the batch: the network runs on what its input has
    /// there.
    pub fn nothing(&mut self, places: Range<usize>) {
        for place in places {
            self.picture_orders.values_mut::<PictureOrder>()[place] = PictureOrder::nothing(place);
            self.count_orders.values_mut::<CountOrder>()[place] = CountOrder::new(0, 0);
        }
    }
}

/// Tells `network` the size of the next batch, which lies in `buffers`.
pub(super) fn set_batch(
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
    pub fn new(shared: Arc<Shared>, batch: usize) -> Result<Self, CudaError> {
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
    pub fn input(&self, index: usize) -> u64 {
        self.inputs.address() + (4 * self.shared.info.input.values() * index) as u64
    }

    /// Puts a batch's work on `stream`: everything but the pictures' own copies.
    ///
    /// # Safety
    /// This memory, and what the orders in it name, is not touched until the stream has passed the
    /// work.
    pub unsafe fn run(
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
