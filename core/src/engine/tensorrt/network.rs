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
pub(super) struct Inside<T> {
    value: Option<T>,
    pub context: Arc<Context>,
}

impl<T> Inside<T> {
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

impl<T> Drop for Inside<T> {
    fn drop(&mut self) {
        let _entered = self.context.enter();
        drop(self.value.take());
    }
}

/// The plan at work in one lane. A graph that a lane records goes with the context that it was
/// recorded from, which must not be changed afterwards: so each batch size has its own, all in the
/// same scratch memory, as one runs at a time.
pub(super) struct TensorRtNetwork {
    contexts: HashMap<usize, Inside<tensorrt::Context>>,
    /// Batch of the next run.
    batch: usize,
    /// A batch size has run for the first time: TensorRT-RTX has compiled kernels, which takes far
    /// longer than writing them.
    compiled: bool,
    plan: Inside<Arc<Plan>>,
    scratch: DeviceBuffer,
}

impl TensorRtNetwork {
    pub fn new(plan: &Arc<Plan>, context: &Arc<Context>) -> Result<Self, EngineError> {
        let bytes = usize::try_from(plan.context_memory()).unwrap_or(usize::MAX).max(256);
        let scratch = DeviceBuffer::new(context, bytes, "TensorRT's scratch memory");
        let scratch = scratch.map_err(|error| EngineError::Gpu { kind: KIND, error })?;
        let plan = Inside::new(plan.clone(), context);
        let mut network =
            Self { contexts: HashMap::new(), batch: 0, compiled: false, plan, scratch };
        // Whether there is a context at all shows now.
        network.context(network.min_batch()).map_err(EngineError::from)?;
        Ok(network)
    }

    /// The context for batches of that size.
    fn context(&mut self, batch: usize) -> Result<&mut tensorrt::Context, TensorRtError> {
        let Self { contexts, plan, scratch, .. } = self;
        let held = match contexts.entry(batch) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => {
                let made = plan.value().context_sharing(0, scratch.address(), scratch.bytes())?;
                place.insert(Inside::new(made, &plan.context))
            }
        };
        Ok(held.value_mut())
    }
}

impl Network for TensorRtNetwork {
    fn min_batch(&self) -> usize {
        self.plan.value().min_batch()
    }

    fn set_batch(&mut self, batch: usize, input: u64, output: u64) -> Result<(), String> {
        // The last batch is done: what it compiled is there.
        if std::mem::take(&mut self.compiled) {
            self.plan.value().write_kernels();
        }
        self.compiled = !self.contexts.contains_key(&batch);
        self.batch = batch;
        let context = self.context(batch);
        context
            .and_then(|context| context.set_batch(batch, input, output))
            .map_err(|error| error.to_string())
    }

    unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), String> {
        let plan = self.plan.value().clone();
        let _alone = self.compiled.then(|| plan.compiling());
        let context = self.context(self.batch);
        // SAFETY: the caller's; the scratch memory stays as long as the contexts.
        context
            .and_then(|context| unsafe { context.enqueue(stream) })
            .map_err(|error| error.to_string())
    }
}
