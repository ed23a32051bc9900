//! Frames in GPU memory, as GStreamer's own CUDA decoders make them (`memory:CUDAMemory`, GStreamer
//! 1.22 and later).
//!
//! `libgstcuda-1.0` is opened at run time: where it is not there, or no driver is, nothing of this
//! is offered. A frame is read where it lies: mapping it for CUDA gives its address on the GPU. For
//! that, decoder and engine must work in one CUDA context, which GStreamer passes on as
//! `gst.cuda.context`. Where the application or another element has one when the counter asks
//! (before it starts, or before it answers another element's query), the engine works in that. Else
//! it works in the GPU's primary one, which answers queries and goes to the whole pipeline when the
//! counter starts. A frame of another context is copied through host memory.
//!
//! From GStreamer 1.24 on, an element pushes a frame that its GPU is still writing, and mapping
//! does not wait for that. The engine's stream waits for the one that the memory names
//! ([`FrameLoan::producer`]), on the GPU, before it reads the frame.

use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock};

use glib::translate::FromGlibPtrFull;
use gst_video::prelude::*;
use libloading::Library;
use vehiclecount_core::cuda::{Context, Driver, ForeignStream};

/// The caps feature of frames in GPU memory.
pub const FEATURE: &str = "memory:CUDAMemory";

/// The type of the context that is shared.
pub const CONTEXT: &str = "gst.cuda.context";

/// Under this name, an object that is handed out keeps the context.
const OWN: &str = "vehiclecount-context";

/// `GST_MAP_CUDA`: map for the GPU.
const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// The functions of libgstcuda that are used: part of its interface since 1.22 and, for streams,
/// since 1.24.
struct GstCuda {
    is_cuda_memory: unsafe extern "C" fn(*mut gst::ffi::GstMemory) -> glib::ffi::gboolean,
    context_new_wrapped:
        unsafe extern "C" fn(*mut c_void, c_int) -> *mut glib::gobject_ffi::GObject,
    context_get_handle: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    context_new: unsafe extern "C" fn(*mut glib::gobject_ffi::GObject) -> *mut gst::ffi::GstContext,
    streams: Option<Streams>,
}

/// Since 1.24 elements push frames that are still being written, on a stream that the memory names.
/// Before, they wait for the end of the writing, and there is nothing to ask for.
#[derive(Clone, Copy)]
struct Streams {
    memory_get_stream: unsafe extern "C" fn(*mut gst::ffi::GstMemory) -> *mut c_void,
    stream_get_handle: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
}

/// What every `GstCudaMemory` begins with.
#[repr(C)]
struct CudaMemory {
    memory: gst::ffi::GstMemory,
    context: *mut c_void,
}

impl GstCuda {
    fn open() -> Option<Self> {
        // SAFETY: a library made to be opened so; it stays, for it registers types with GLib, and
        // the functions have these types.
        unsafe {
            let library = Library::new("libgstcuda-1.0.so.0").ok()?;
            let load = *library
                .get::<unsafe extern "C" fn() -> glib::ffi::gboolean>(b"gst_cuda_load_library\0")
                .ok()?;
            let init =
                *library.get::<unsafe extern "C" fn()>(b"gst_cuda_memory_init_once\0").ok()?;
            let functions = Self {
                is_cuda_memory: *library.get(b"gst_is_cuda_memory\0").ok()?,
                context_new_wrapped: *library.get(b"gst_cuda_context_new_wrapped\0").ok()?,
                context_get_handle: *library.get(b"gst_cuda_context_get_handle\0").ok()?,
                context_new: *library.get(b"gst_context_new_cuda_context\0").ok()?,
                streams: match (
                    library.get(b"gst_cuda_memory_get_stream\0"),
                    library.get(b"gst_cuda_stream_get_handle\0"),
                ) {
                    (Ok(get), Ok(handle)) => {
                        Some(Streams { memory_get_stream: *get, stream_get_handle: *handle })
                    }
                    _ => None,
                },
            };
            mem::forget(library);
            if load() == glib::ffi::GFALSE {
                return None;
            }
            init();
            Some(functions)
        }
    }
}

impl Streams {
    /// The stream on which `memory`, a GstCudaMemory, is written. `None` of memory that is written
    /// on the default stream, whose writers wait for the end themselves.
    ///
    /// # Safety
    /// `memory` is a living GstCudaMemory, and the functions are those of its library.
    unsafe fn producer(self, memory: *mut gst::ffi::GstMemory) -> Option<ForeignStream> {
        // SAFETY: the caller's; the memory holds its GstCudaStream, and the handle lives as long.
        unsafe {
            let stream = NonNull::new((self.memory_get_stream)(memory))?;
            let handle = NonNull::new((self.stream_get_handle)(stream.as_ptr()))?;
            Some(ForeignStream(handle.as_ptr()))
        }
    }
}

impl GstCuda {
    /// A GstCudaContext of `cuda`, which it does not keep, and the context in which GStreamer
    /// passes that on.
    fn wrap(&self, cuda: &Context) -> Option<(glib::Object, gst::Context)> {
        // SAFETY: a living context of that device; the object does not destroy it.
        let object =
            unsafe { (self.context_new_wrapped)(cuda.handle(), cuda.device().index as c_int) };
        if object.is_null() {
            return None;
        }
        // SAFETY: the object was just made, and is owned from here on.
        let object: glib::Object = unsafe { glib::Object::from_glib_full(object) };
        // SAFETY: returns a new context that holds the object.
        let context = unsafe { gst::Context::from_glib_full((self.context_new)(object.as_ptr())) };
        Some((object, context))
    }
}

/// `cuda` as GStreamer passes it on, kept by `keep`, which the object holds under `key`. `None`
/// where there is no libgstcuda.
///
/// # Safety
/// Under `key`, every object holds a value of this type.
#[cfg(feature = "cudarc")]
pub unsafe fn wrap<T: 'static>(cuda: &Context, key: &str, keep: T) -> Option<gst::Context> {
    let (object, context) = library()?.wrap(cuda)?;
    // SAFETY: the caller's.
    unsafe { object.set_data(key, keep) };
    Some(context)
}

/// The GstCudaContext in `context`, its `CUcontext` and its GPU; `None` where it holds none.
#[cfg(feature = "cudarc")]
pub fn unwrap(context: &gst::Context) -> Option<(glib::Object, *mut c_void, u32)> {
    let library = library()?;
    let object = context.structure().get::<glib::Object>(CONTEXT).ok()?;
    if object.type_().name() != "GstCudaContext" {
        return None;
    }
    // SAFETY: the object is a GstCudaContext.
    let handle = unsafe { (library.context_get_handle)(object.as_ptr().cast()) };
    // A signed number in old versions.
    let index = object.property_value("cuda-device-id");
    let index = index.get::<u32>().ok().or_else(|| u32::try_from(index.get::<i32>().ok()?).ok())?;
    Some((object, handle, index))
}

fn library() -> Option<&'static GstCuda> {
    static LIBRARY: LazyLock<Option<GstCuda>> = LazyLock::new(GstCuda::open);
    // The driver first: what is missing today may be there when the next pipeline starts.
    Driver::open().ok().and_then(|_| LIBRARY.as_ref())
}

/// What to do so that frames stay on the GPU.
pub const REMEDY: &str =
    "set gst.cuda.context on the pipeline before it goes to PAUSED, on the GPU of gpu-id";

/// Whether frames in GPU memory can be taken at all on this machine.
pub fn is_available() -> bool {
    library().is_some()
}

/// An engine's CUDA context, as GStreamer's elements take it.
pub struct SharedContext {
    cuda: Arc<Context>,
    /// It has another owner.
    foreign: bool,
    context: gst::Context,
    library: &'static GstCuda,
}

impl SharedContext {
    /// The primary context of GPU `index`; `None` where there is none, or no libgstcuda.
    pub fn primary(index: u32) -> Option<Arc<Self>> {
        library()?;
        Self::new(Driver::open().ok()?.context(index).ok()?)
    }

    /// `cuda` for others to use; `None` where there is no libgstcuda.
    pub fn new(cuda: Arc<Context>) -> Option<Arc<Self>> {
        let library = library()?;
        let (object, context) = library.wrap(&cuda)?;
        // SAFETY: the object keeps the context as long as it lives itself; the value is read by
        // `adopt` alone.
        unsafe { object.set_data(OWN, cuda.clone()) };
        Some(Arc::new(Self { cuda, foreign: false, context, library }))
    }

    /// The one in `context`, which the application or another element made; the error says why it
    /// cannot be used. `None` where it is of another kind.
    pub fn adopt(context: &gst::Context) -> Option<Result<Arc<Self>, String>> {
        let library = library()?;
        let object = context.structure().get::<glib::Object>(CONTEXT).ok()?;
        if object.type_().name() != "GstCudaContext" {
            return Some(Err(format!(
                "a {} where a GstCudaContext is needed",
                object.type_().name()
            )));
        }
        // SAFETY: `new` alone sets this value, to an `Arc<Context>`, and never changes it.
        let own = unsafe { object.data::<Arc<Context>>(OWN).map(|own| own.as_ref().clone()) };
        let foreign = own.is_none();
        let lent = || {
            // SAFETY: the object is a GstCudaContext.
            let handle = unsafe { (library.context_get_handle)(object.as_ptr().cast()) };
            let driver = Driver::open().map_err(|error| error.to_string())?;
            // SAFETY: the context lives as long as the object, which `context` holds.
            unsafe { Context::lent(driver, handle, Box::new(context.clone())) }
                .map_err(|error| error.to_string())
        };
        let cuda = own.map_or_else(lent, Ok);
        Some(cuda.map(|cuda| Arc::new(Self { cuda, foreign, context: context.clone(), library })))
    }

    /// The context, where it has another owner.
    pub fn foreign(&self) -> Option<&Arc<Context>> {
        self.foreign.then_some(&self.cuda)
    }

    /// The context itself.
    pub fn cuda(&self) -> &Arc<Context> {
        &self.cuda
    }

    /// The context for queries and messages.
    pub fn context(&self) -> &gst::Context {
        &self.context
    }

    /// The frame in `buffer`, mapped where it lies; the error says why it cannot be read there.
    pub fn map(
        &self,
        buffer: &gst::Buffer,
        info: &gst_video::VideoInfo,
        planes: usize,
    ) -> Result<FrameLoan, String> {
        if buffer.n_memory() != 1 {
            return Err(format!("a frame in {} pieces of memory", buffer.n_memory()));
        }
        let memory = buffer.peek_memory(0).as_mut_ptr();
        // SAFETY: the buffer's memory.
        if unsafe { (self.library.is_cuda_memory)(memory) } == glib::ffi::GFALSE {
            return Err("a frame that is not in the GPU's memory".to_owned());
        }
        // SAFETY: as was just asked, it is a GstCudaMemory, which begins so and holds its context.
        let handle =
            unsafe { (self.library.context_get_handle)((*memory.cast::<CudaMemory>()).context) };
        if handle != self.cuda.handle() {
            return Err(format!("a frame of another CUDA context than the engine's; {REMEDY}"));
        }
        let mut map = MaybeUninit::<gst::ffi::GstMapInfo>::uninit();
        // SAFETY: the memory lives with the buffer, which is kept until it is unmapped.
        if unsafe {
            gst::ffi::gst_memory_map(memory, map.as_mut_ptr(), gst::ffi::GST_MAP_READ | MAP_CUDA)
        } == glib::ffi::GFALSE
        {
            return Err("a frame that cannot be mapped on the GPU".to_owned());
        }
        // SAFETY: it was mapped.
        let map = unsafe { map.assume_init() };
        let lent = FrameMapping { _buffer: buffer.clone(), memory, map };
        let meta = buffer.meta::<gst_video::VideoMeta>();
        let (offsets, strides) = meta
            .as_ref()
            .map_or((info.offset(), info.stride()), |meta| (meta.offset(), meta.stride()));
        let mut placed = Vec::with_capacity(planes);
        for (&offset, &stride) in offsets.iter().zip(strides).take(planes) {
            let stride =
                usize::try_from(stride).map_err(|_| format!("stride of {stride} bytes"))?;
            let bytes = lent.map.size.saturating_sub(offset);
            placed.push((lent.map.data as u64 + offset as u64, stride, bytes));
        }
        // After the mapping, which may have put a copy from the host on the stream.
        // SAFETY: a GstCudaMemory, as was asked above, which is kept.
        let producer = self.library.streams.and_then(|streams| unsafe { streams.producer(memory) });
        Ok(FrameLoan { planes: placed, producer, keep: Box::new(lent) })
    }
}

/// A frame in GPU memory.
pub struct FrameLoan {
    /// Of each plane: its address, the bytes from row to row, and the bytes that follow.
    pub planes: Vec<(u64, usize, usize)>,
    /// The `CUstream` on which it is being written; `None` where it is complete.
    pub producer: Option<ForeignStream>,
    /// Keeps it mapped.
    pub keep: Box<dyn std::any::Any + Send>,
}

struct FrameMapping {
    _buffer: gst::Buffer,
    memory: *mut gst::ffi::GstMemory,
    map: gst::ffi::GstMapInfo,
}

// SAFETY: buffers and their mappings go from thread to thread.
unsafe impl Send for FrameMapping {}

impl Drop for FrameMapping {
    fn drop(&mut self) {
        // SAFETY: mapped once, and kept by the buffer until now.
        unsafe { gst::ffi::gst_memory_unmap(self.memory, &mut self.map) }
    }
}

/// `caps` without frames in GPU memory.
pub fn without(caps: &gst::Caps) -> gst::Caps {
    let host = caps.iter_with_features().filter(|(_, features)| !features.contains(FEATURE));
    host.map(|(structure, features)| (structure.to_owned(), features.to_owned())).collect()
}

/// Whether `caps` are of frames in GPU memory.
pub fn is_in(caps: &gst::CapsRef) -> bool {
    caps.features(0).is_some_and(|features| features.contains(FEATURE))
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    /// A memory's stream, as the test says it; the "memory" is its address.
    unsafe extern "C" fn stream_of(memory: *mut gst::ffi::GstMemory) -> *mut c_void {
        // SAFETY: the test's own pointer to a pointer.
        unsafe { *memory.cast::<*mut c_void>() }
    }

    /// The handle of a "stream", which is its content.
    unsafe extern "C" fn handle_of(stream: *mut c_void) -> *mut c_void {
        // SAFETY: as above.
        unsafe { *stream.cast::<*mut c_void>() }
    }

    #[test]
    fn producer_of_a_frame_is_the_stream_that_its_memory_names() {
        let streams = Streams { memory_get_stream: stream_of, stream_get_handle: handle_of };
        let producer = |mut stream: *mut c_void| {
            // SAFETY: the functions above take it for a memory.
            unsafe { streams.producer(ptr::from_mut(&mut stream).cast()) }
        };
        let (mut named, mut default) =
            (ptr::dangling_mut::<u64>().cast::<c_void>(), ptr::null_mut::<c_void>());
        assert_eq!(producer(ptr::from_mut(&mut named).cast()), Some(ForeignStream(named)));
        // The default stream, in both forms in which GStreamer names it.
        assert_eq!(producer(ptr::from_mut(&mut default).cast()), None);
        assert_eq!(producer(ptr::null_mut()), None);
    }
}
