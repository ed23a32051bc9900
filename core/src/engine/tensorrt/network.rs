//! A plan at work in a lane: a context for each size of batch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::Arc;

use super::KIND;
use crate::cuda::{Context, DeviceBuffer};
use crate::engine::error::EngineError;
use crate::engine::gpu::Network;
use crate::tensorrt::{self, Plan, TensorRtError};

/// Something of TensorRT's, which must be let go inside the CUDA context that it lives in.
pub(super) struct InContext<T> {
    value: Option<T>,
    pub context: Arc<Context>,
}

impl<T> InContext<T> {
    pub fn new(value: T, context: &Arc<Context>) -> Self {
        Self { value: Some(value), context: context.clone() }
    }

    pub fn value(&self) -> &T {
        self.value.as_ref().expect("taken in drop alone")
    }

    fn value_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("taken in drop alone")
    }
}

impl<T> Drop for InContext<T> {
    fn drop(&mut self) {
        let _entered = self.context.enter();
        drop(self.value.take());
    }
}

/// The context of one batch size.
struct BatchContext {
    context: InContext<tensorrt::Context>,
    /// It has run: TensorRT-RTX has compiled the kernels that it needs.
    has_run: bool,
}

/// The plan at work in one lane. A graph that a lane records goes with the context that it was
/// recorded from, which must not be changed afterwards: so each batch size has its own, all in the
/// same scratch memory, as one runs at a time.
pub(super) struct TensorRtNetwork {
    contexts: HashMap<usize, BatchContext>,
    /// Batch of the next run.
    batch: usize,
    /// A batch size has run for the first time since kernels were written: compiling them takes far
    /// longer than writing them.
    has_compiled: bool,
    plan: InContext<Arc<Plan>>,
    scratch: DeviceBuffer,
}

impl TensorRtNetwork {
    pub fn new(plan: &Arc<Plan>, context: &Arc<Context>) -> Result<Self, EngineError> {
        let bytes = usize::try_from(plan.context_memory()).unwrap_or(usize::MAX).max(256);
        let scratch = DeviceBuffer::new(context, bytes, "TensorRT's scratch memory");
        let scratch = scratch.map_err(|error| EngineError::Gpu { kind: KIND, error })?;
        let plan = InContext::new(plan.clone(), context);
        let mut network =
            Self { contexts: HashMap::new(), batch: 0, has_compiled: false, plan, scratch };
        // Whether there is a context at all shows now.
        network.context(network.min_batch()).map_err(EngineError::from)?;
        Ok(network)
    }

    /// The context for batches of that size.
    fn context(&mut self, batch: usize) -> Result<&mut BatchContext, TensorRtError> {
        let Self { contexts, plan, scratch, .. } = self;
        Ok(match contexts.entry(batch) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => {
                let made = plan.value().context_sharing(0, scratch.address(), scratch.bytes())?;
                let context = InContext::new(made, &plan.context);
                place.insert(BatchContext { context, has_run: false })
            }
        })
    }
}

impl Network for TensorRtNetwork {
    fn min_batch(&self) -> usize {
        self.plan.value().min_batch()
    }

    fn set_batch(&mut self, batch: usize, input: u64, output: u64) -> Result<(), String> {
        // The last batch is done: what it compiled is there.
        if std::mem::take(&mut self.has_compiled) {
            self.plan.value().write_kernels();
        }
        self.batch = batch;
        self.context(batch)
            .and_then(|held| held.context.value_mut().set_batch(batch, input, output))
            .map_err(|error| error.to_string())
    }

    unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), String> {
        let plan = self.plan.value().clone();
        let held = self.context(self.batch).map_err(|error| error.to_string())?;
        let is_first = !held.has_run;
        let _alone = is_first.then(|| plan.compiling());
        // SAFETY: the caller's; the scratch memory stays as long as the contexts.
        unsafe { held.context.value_mut().enqueue(stream) }.map_err(|error| error.to_string())?;
        held.has_run = true;
        self.has_compiled |= is_first;
        Ok(())
    }
}
