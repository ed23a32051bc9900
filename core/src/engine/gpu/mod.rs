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
//! 5. copies the sums to the host, and the maps where one is asked for;
//! 6. waits, asleep.
//!
//! A batch is filled up to one of a few sizes: the powers of two, and the largest. A new lane runs
//! each of them once, so that whatever the network compiles or allocates for a size is there before
//! the first frame. Steps 2 to 5 are recorded as a CUDA graph when a size is first needed, and
//! replayed from then on.

mod buffers;
mod lane;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lane::GpuLane;

use super::error::EngineError;
use super::info::EngineInfo;
use super::interface::{Engine, Lane};
pub use super::picture::{Picture, RegionWeights};
use crate::cuda::{Context, CudaError, DeviceBuffer, Kernels, MAX_REGIONS};
use crate::region::Coverage;

/// The network of one lane. The caller has entered the engine's context.
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
