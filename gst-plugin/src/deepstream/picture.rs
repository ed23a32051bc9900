//! One picture of a batch, and its way to an engine.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use vehiclecount_core::engine::gpu;
use vehiclecount_core::frame::{FrameFormat, FrameView, Plane};
use vehiclecount_core::preprocess::Placement;

use super::abi::{Surface, SurfaceParams};
use super::library::{DeepStreamError, REPORT, SurfaceApi};

/// One picture, its planes checked against its size.
pub struct Picture {
    /// Layout, size and colours.
    pub format: FrameFormat,
    /// Of each plane: bytes from the beginning, bytes from row to row, bytes in all.
    pub(super) planes: Vec<(usize, usize, usize)>,
    pub(super) place: Place,
    /// The copy that this is the picture of, where the batch's own cannot be read.
    pub(super) converted: Option<Arc<dyn Any + Send + Sync>>,
}

/// Why a picture cannot be read.
#[derive(Debug)]
pub enum PictureError {
    /// It will be so for every picture.
    Setup(DeepStreamError),
    /// It is so for this one.
    Now(String),
}

impl From<DeepStreamError> for PictureError {
    fn from(error: DeepStreamError) -> Self {
        Self::Setup(error)
    }
}

/// What to do about pictures in a form that is not read.
pub(super) const CONVERT: &str = "put `nvvideoconvert ! video/x-raw(memory:NVMM),format=RGBA` before vehiclecounternvmm, or count with source=tensor-meta";

/// A picture in a GPU's memory.
#[derive(Clone, Debug)]
pub struct OnGpu {
    /// Which GPU.
    pub gpu: u32,
    /// Of each plane: its address, bytes from row to row, bytes in all.
    pub planes: Vec<(u64, usize, usize)>,
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In host memory.
    Host(NonNull<u8>),
    /// On this GPU.
    Device(u32, u64),
    /// Where only a mapping makes it visible to the processor; on this GPU too, where it has an
    /// address there.
    Mapped(NonNull<Surface>, NonNull<SurfaceParams>, i32, Option<(u32, u64)>),
}

impl Picture {
    /// Where the picture lies on a GPU; `None` where a GPU cannot see it.
    pub fn on_gpu(&self) -> Option<OnGpu> {
        let (Place::Device(gpu, data) | Place::Mapped(_, _, _, Some((gpu, data)))) = self.place
        else {
            return None;
        };
        let planes = self
            .planes
            .iter()
            .map(|&(offset, pitch, length)| (data + offset as u64, pitch, length));
        Some(OnGpu { gpu, planes: planes.collect() })
    }

    /// Lends the picture to an engine on the GPU that it lies on; `buffer`, which it comes from, or
    /// the copy is kept until it has been read. `None` where it does not lie there.
    pub fn lend(
        &self,
        to: &mut gpu::Picture,
        placement: Placement,
        buffer: &gst::Buffer,
    ) -> Option<Result<(), DeepStreamError>> {
        let OnGpu { gpu, planes } = self.on_gpu()?;
        if gpu != to.context().device().index {
            return None;
        }
        let keep: Box<dyn Any + Send> = match &self.converted {
            Some(converted) => Box::new(converted.clone()),
            None => Box::new(buffer.clone()),
        };
        // SAFETY: the planes were checked against the picture's size. DeepStream allocates in the
        // GPU's primary context, which is the engine's too, has finished writing when it pushes a
        // buffer, and does not write again as long as the buffer is held; a copy is written once
        // and kept as well.
        let lent = unsafe { to.lend(self.format, placement, &planes, None, keep) };
        Some(lent.map_err(|error| DeepStreamError::Unreadable {
            what: error.to_string(),
            remedy: REPORT,
        }))
    }

    /// Shows the picture to `read`, mapped where that is needed. `None` where only a GPU can see
    /// it.
    pub fn view<T>(
        &self,
        read: impl FnOnce(&FrameView<'_>) -> T,
    ) -> Result<Option<T>, DeepStreamError> {
        match self.place {
            Place::Device(..) => Ok(None),
            Place::Host(data) => {
                let begin =
                    |plane: usize| data.as_ptr().wrapping_add(self.planes[plane].0).cast_const();
                self.show(begin, read).map(Some)
            }
            Place::Mapped(surface, params, index, _) => {
                let _mapped = SurfaceMapping::new(surface, params, index)?;
                // SAFETY: the picture lies in the batch, which is held; the mapping has written its
                // planes' addresses.
                let addresses = unsafe { params.as_ref() }.mapped;
                self.show(|plane| addresses[plane].cast::<u8>().cast_const(), read).map(Some)
            }
        }
    }

    fn show<T>(
        &self,
        begin: impl Fn(usize) -> *const u8,
        read: impl FnOnce(&FrameView<'_>) -> T,
    ) -> Result<T, DeepStreamError> {
        let mut planes = Vec::new();
        for (index, &(_, stride, length)) in self.planes.iter().enumerate() {
            let begin = begin(index);
            if begin.is_null() {
                return Err(unmappable(-1));
            }
            // SAFETY: DeepStream's picture has that many bytes there, as its own figures say and
            // `picture` has checked, in memory that the processor sees as long as the batch is held
            // and mapped.
            let data = unsafe { std::slice::from_raw_parts(begin, length) };
            planes.push(Plane { data, stride });
        }
        let view = FrameView::new(self.format, &planes).map_err(|error| {
            DeepStreamError::Unreadable { what: error.to_string(), remedy: REPORT }
        })?;
        Ok(read(&view))
    }
}

/// A picture made visible to the processor, until dropped.
struct SurfaceMapping {
    api: &'static SurfaceApi,
    surface: NonNull<Surface>,
    index: i32,
    /// It was mapped already, and stays so.
    foreign: bool,
    _alone: MutexGuard<'static, ()>,
}

/// Mapping writes into the batch's surface: two of our elements on branches of a tee do not meet
/// there.
static MAPPING: Mutex<()> = Mutex::new(());

fn unmappable(code: i32) -> DeepStreamError {
    DeepStreamError::Unreadable {
        what: format!("NvBufSurfaceMap says {code}: the processor cannot see the pictures"),
        remedy: "set nvbuf-memory-type of nvstreammux to 3 (unified) on a discrete GPU, or count with source=tensor-meta",
    }
}

impl SurfaceMapping {
    const ALL_PLANES: i32 = -1;
    const READ: i32 = 0;

    fn new(
        surface: NonNull<Surface>,
        params: NonNull<SurfaceParams>,
        index: i32,
    ) -> Result<Self, DeepStreamError> {
        let api = SurfaceApi::get()?;
        let alone = MAPPING.lock();
        // SAFETY: the batch is held; the functions write nothing but the mapping's addresses.
        unsafe {
            let foreign = !params.as_ref().mapped[0].is_null();
            if !foreign {
                let code = (api.map)(surface.as_ptr(), index, Self::ALL_PLANES, Self::READ);
                if code != 0 {
                    return Err(unmappable(code));
                }
            }
            let mapped = Self { api, surface, index, foreign, _alone: alone };
            // Where the caches of processor and GPU are coherent, there is nothing to synchronise,
            // and the call says so with a code.
            (api.sync_for_cpu)(surface.as_ptr(), index, Self::ALL_PLANES);
            Ok(mapped)
        }
    }
}

impl Drop for SurfaceMapping {
    fn drop(&mut self) {
        if !self.foreign {
            // SAFETY: mapped in `new`.
            unsafe { (self.api.unmap)(self.surface.as_ptr(), self.index, Self::ALL_PLANES) };
        }
    }
}
