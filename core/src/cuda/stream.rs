//! Streams of work, the events between them, and graphs of work recorded once.

use std::any::Any;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, CudaError, sys};

/// Work that is done in order, beside that of other streams.
pub struct Stream {
    context: Arc<Context>,
    handle: sys::StreamHandle,
    /// Keeps a stream that another library made, which destroys it.
    lender: Option<Box<dyn Any + Send + Sync>>,
}

/// A `CUstream` that another library made, as a handle; null is the context's default stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignStream(pub *mut c_void);

// SAFETY: streams may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: the driver locks what it does on a stream.
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream that waits for no other.
    pub fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        let _entered = context.enter()?;
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle; destroyed in `drop`.
        let code =
            unsafe { (context.driver.table.stream_create)(&mut handle, sys::STREAM_NON_BLOCKING) };
        context.driver.check_memory("cuStreamCreate", code, "a stream", 0)?;
        Ok(Self { context: context.clone(), handle, lender: None })
    }

    /// A stream that another library made; `keep` is held as long as it is used.
    ///
    /// # Safety
    /// `handle` is a `CUstream` of `context` that lives as long as `keep` does.
    #[cfg(feature = "cudarc")]
    pub(super) unsafe fn lent(
        context: Arc<Context>,
        handle: *mut c_void,
        keep: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self { context, handle, lender: Some(keep) }
    }

    /// What keeps a stream that was lent.
    #[cfg(feature = "cudarc")]
    pub(super) fn lender(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.lender.as_deref()
    }

    /// The context that it belongs to.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The `CUstream`, which is a `cudaStream_t` too.
    pub fn handle(&self) -> *mut c_void {
        self.handle
    }

    /// Waits until all that was put on it is done.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: a living stream.
        driver
            .check("cuStreamSynchronize", unsafe { (driver.table.stream_synchronize)(self.handle) })
    }

    /// Copies `bytes` bytes to the GPU when their turn has come.
    ///
    /// # Safety
    /// Both sides hold that many bytes. Until the stream has passed the copy, both stay and `from`
    /// does not change.
    pub unsafe fn upload(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: the caller's.
        let code = unsafe { (driver.table.memcpy_htod_async)(to, from.cast(), bytes, self.handle) };
        driver.check("cuMemcpyHtoDAsync", code)
    }

    /// Copies `bytes` bytes from the GPU when their turn has come.
    ///
    /// # Safety
    /// Both sides hold that many bytes and stay until the stream has passed the copy; until then
    /// `to` is neither read nor written.
    pub unsafe fn download(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: the caller's.
        let code = unsafe { (driver.table.memcpy_dtoh_async)(to.cast(), from, bytes, self.handle) };
        driver.check("cuMemcpyDtoHAsync", code)
    }

    /// What comes after waits for `event`, recorded on another stream.
    pub fn wait_for(&self, event: &Event) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: a living stream and a living event.
        driver.check("cuStreamWaitEvent", unsafe {
            (driver.table.stream_wait_event)(self.handle, event.handle, 0)
        })
    }

    /// Launches `function` on a grid of blocks of `threads` threads.
    ///
    /// # Safety
    /// `arguments` point to the function's arguments, and what these point to stays until the
    /// stream has passed the launch.
    pub(super) unsafe fn launch(
        &self,
        function: sys::FunctionHandle,
        grid: (u32, u32, u32),
        threads: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: the caller's.
        let code = unsafe {
            (driver.table.launch_kernel)(
                function,
                grid.0,
                grid.1,
                grid.2,
                threads,
                1,
                1,
                0,
                self.handle,
                arguments.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        driver.check("cuLaunchKernel", code)
    }

    /// Records what `record` puts on the stream, without doing it. `failed` makes an error of the
    /// driver one of the caller's.
    ///
    /// # Safety
    /// What `record` names must stay, at its place, as long as the graph.
    pub unsafe fn capture<E>(
        &self,
        record: impl FnOnce(&Self) -> Result<(), E>,
        failed: impl Fn(CudaError) -> E,
    ) -> Result<Graph, E> {
        let driver = self.context.driver;
        let _entered = self.context.enter().map_err(&failed)?;
        // SAFETY: a living stream; ended below on every path.
        let code =
            unsafe { (driver.table.stream_begin_capture)(self.handle, sys::CAPTURE_THREAD_LOCAL) };
        driver.check("cuStreamBeginCapture", code).map_err(&failed)?;
        let recorded = record(self);
        let mut graph = ptr::null_mut();
        // SAFETY: ends the capture that was begun above, also one that something has spoilt.
        let ended = unsafe { (driver.table.stream_end_capture)(self.handle, &mut graph) };
        let mut handle = ptr::null_mut();
        let made = recorded.and_then(|()| {
            driver.check("cuStreamEndCapture", ended).map_err(&failed)?;
            // SAFETY: writes one handle; destroyed in `drop`.
            let code = unsafe { (driver.table.graph_instantiate)(&mut handle, graph, 0) };
            driver.check_memory("cuGraphInstantiate", code, "a graph", 0).map_err(&failed)
        });
        if !graph.is_null() {
            // SAFETY: made by the capture, destroyed once.
            unsafe { (driver.table.graph_destroy)(graph) };
        }
        made.map(|()| Graph { context: self.context.clone(), handle })
    }

    /// Does what `graph` recorded.
    ///
    /// # Safety
    /// What the graph names is not used otherwise until the stream has passed it.
    pub unsafe fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: the caller's.
        driver.check("cuGraphLaunch", unsafe {
            (driver.table.graph_launch)(graph.handle, self.handle)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.lender.is_some() {
            return;
        }
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: made in `new`. Work that is still on it is waited for, so that what it uses
            // may go.
            unsafe {
                (self.context.driver.table.stream_synchronize)(self.handle);
                (self.context.driver.table.stream_destroy)(self.handle);
            }
        }
    }
}

/// A point on a stream that has a time.
pub struct Event {
    context: Arc<Context>,
    handle: sys::EventHandle,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: the driver locks what it does on an event.
unsafe impl Sync for Event {}

impl Event {
    /// An event that has a time, and on which a waiting thread sleeps.
    pub fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        Self::with_flags(context, sys::EVENT_BLOCKING_SYNC)
    }

    /// An event without a time, for one stream to wait for another.
    pub fn marker(context: &Arc<Context>) -> Result<Self, CudaError> {
        Self::with_flags(context, sys::EVENT_DISABLE_TIMING)
    }

    fn with_flags(context: &Arc<Context>, flags: u32) -> Result<Self, CudaError> {
        let _entered = context.enter()?;
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle; destroyed in `drop`.
        let code = unsafe { (context.driver.table.event_create)(&mut handle, flags) };
        context.driver.check_memory("cuEventCreate", code, "an event", 0)?;
        Ok(Self { context: context.clone(), handle })
    }

    /// Happens when `stream` comes to this point.
    pub fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: a living stream.
        unsafe { self.record_on(ForeignStream(stream.handle)) }
    }

    /// Happens when `stream`, which another library made, comes to this point.
    ///
    /// # Safety
    /// `stream` is a living stream of the event's context.
    pub unsafe fn record_on(&self, stream: ForeignStream) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: a living event; the rest is the caller's.
        driver.check("cuEventRecord", unsafe { (driver.table.event_record)(self.handle, stream.0) })
    }

    /// Waits, asleep, until it has happened.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        // SAFETY: a living event.
        driver.check("cuEventSynchronize", unsafe { (driver.table.event_synchronize)(self.handle) })
    }

    /// Time on the GPU from `earlier` to this; both must have happened.
    pub fn since(&self, earlier: &Self) -> Result<Duration, CudaError> {
        let _entered = self.context.enter()?;
        let driver = self.context.driver;
        let mut milliseconds = 0.0f32;
        // SAFETY: writes one number, for two living events.
        let code = unsafe {
            (driver.table.event_elapsed_time)(&mut milliseconds, earlier.handle, self.handle)
        };
        driver.check("cuEventElapsedTime", code)?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: made in `new`.
            unsafe { (self.context.driver.table.event_destroy)(self.handle) };
        }
    }
}

/// Work that was recorded, ready to be done again and again.
pub struct Graph {
    context: Arc<Context>,
    handle: sys::GraphExecHandle,
}

// SAFETY: a graph may be launched from any thread; it is not changed.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: made in `capture`.
            unsafe { (self.context.driver.table.graph_exec_destroy)(self.handle) };
        }
    }
}
