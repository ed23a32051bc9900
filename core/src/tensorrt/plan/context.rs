//! Contexts: a plan at work in one stream.

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::Plan;
use crate::tensorrt::ffi::Dims;
use crate::tensorrt::{TensorRtError, log};

impl Plan {
    /// A context with its own scratch memory on the GPU, for one stream of work, with the profile
    /// of that index.
    pub fn context(self: &Arc<Self>, profile: usize) -> Result<Context, TensorRtError> {
        self.context_in(profile, 0, 0)
    }

    /// A context whose scratch memory is at `memory` on the GPU, aligned to 256 bytes:
    /// [`context_memory`](Self::context_memory) bytes, which several contexts may share that never
    /// run at the same time. The memory outlives the context: a part of the promise of
    /// [`Context::enqueue`].
    ///
    /// A CUDA graph goes with the context that it was recorded from, and with its batch: TensorRT
    /// does not allow the context to be changed afterwards. So each batch size whose run is
    /// recorded has a context of its own, and all of them the same memory.
    pub fn context_sharing(
        self: &Arc<Self>,
        profile: usize,
        memory: u64,
        bytes: usize,
    ) -> Result<Context, TensorRtError> {
        if memory == 0 || (bytes as u64) < self.context_memory() {
            return Err(self.failed(&format!(
                "{bytes} bytes of scratch memory, where {} are needed",
                self.context_memory()
            )));
        }
        self.context_in(profile, memory, bytes)
    }

    fn context_in(
        self: &Arc<Self>,
        profile: usize,
        memory: u64,
        bytes: usize,
    ) -> Result<Context, TensorRtError> {
        let Some(limits) = self.profiles.get(profile) else {
            return Err(self.failed(&format!("the plan has no profile {profile}")));
        };
        log::forget();
        let size = i64::try_from(bytes).unwrap_or(i64::MAX);
        let held = self.kernels();
        let kernels = held.as_ref().map_or(ptr::null_mut(), |kernels| kernels.cache);
        // SAFETY: the engine lives, which `plan` keeps alive longer than the context, and so do its
        // kernels, until it goes; the memory is only noted.
        let context = unsafe {
            (self.library.shim.context)(self.engine, memory as *mut c_void, size, kernels)
        };
        drop(held);
        if context.is_null() {
            return Err(self.failed("no context, perhaps for want of GPU memory"));
        }
        let context = Context {
            plan: self.clone(),
            context,
            batches: limits.batches,
            size: limits.size,
            batch: 0,
            addresses: [0; 2],
        };
        if profile != 0 {
            let index = i32::try_from(profile).unwrap_or(i32::MAX);
            // SAFETY: the context was just made; the null stream is the device's own.
            if unsafe {
                (self.library.shim.context_profile)(context.context, index, ptr::null_mut())
            } == 0
            {
                return Err(self.failed(&format!("profile {profile} is refused")));
            }
        }
        Ok(context)
    }
}

/// A plan at work in one stream.
pub struct Context {
    plan: Arc<Plan>,
    context: *mut c_void,
    batches: [usize; 2],
    size: [usize; 3],
    /// What was set last; 0: nothing.
    batch: usize,
    /// Those of input and output that were set last.
    addresses: [u64; 2],
}

// SAFETY: a context may move between threads; it is used by one at a time, as its methods take it
// mutably.
unsafe impl Send for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("batches", &self.batches)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Says where the next run finds its `batch` inputs, one after the other, and leaves its
    /// densities, both f32 on the GPU. A captured CUDA graph keeps the addresses and the batch that
    /// it was captured with.
    pub fn set_batch(
        &mut self,
        batch: usize,
        input: u64,
        output: u64,
    ) -> Result<(), TensorRtError> {
        if batch < self.batches[0] || batch > self.batches[1] {
            let [least, most] = self.batches;
            return Err(self.plan.failed(&format!(
                "a batch of {batch}, where the plan was built for {least} to {most}"
            )));
        }
        log::forget();
        let shim = self.plan.library.shim;
        if batch != self.batch {
            self.batch = 0;
            let [channels, height, width] = self.size;
            let dims = Dims::of([batch, channels, height, width]);
            // SAFETY: the context lives, and name and sizes live through the call.
            if unsafe { (shim.context_shape)(self.context, self.plan.input.as_ptr(), &dims) } == 0 {
                return Err(self.plan.failed(&format!("a batch of {batch} is refused")));
            }
            self.batch = batch;
        }
        // What stays is not set again: a recorded graph may rest on it.
        if self.addresses == [input, output] {
            return Ok(());
        }
        self.addresses = [0; 2];
        for (name, address) in [(&self.plan.input, input), (&self.plan.output, output)] {
            // SAFETY: the context lives; the address is a number to it until `enqueue`.
            if unsafe {
                (shim.context_address)(self.context, name.as_ptr(), address as *mut c_void)
            } == 0
            {
                return Err(self.plan.failed(&format!("the address of {name:?} is refused")));
            }
        }
        self.addresses = [input, output];
        Ok(())
    }

    /// Puts the run into `stream`, and returns before it is done. The first run of a batch size
    /// does more than later ones, so it comes before a capture.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of the current CUDA context; the addresses given to [`Self::set_batch`]
    /// stay valid, hold as many values as the batch needs, and are touched by no one else until the
    /// stream has come past this run.
    pub unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), TensorRtError> {
        log::forget();
        // SAFETY: the context lives; the rest is the caller's word.
        if unsafe { (self.plan.library.shim.context_enqueue)(self.context, stream) } == 0 {
            return Err(self.plan.failed("the run was refused"));
        }
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: this context's own, dropped once, while its engine lives.
        unsafe { (self.plan.library.shim.context_drop)(self.context) }
    }
}
