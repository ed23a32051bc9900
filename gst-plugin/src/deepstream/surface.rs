//! The pictures of a batch.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vehiclecount_core::engine::gpu;
use vehiclecount_core::frame::{ColorMatrix, ColorRange, FrameFormat, FrameView, PixelFormat, Plane};

use vehiclecount_core::preprocess::Placement;

use super::abi::{Surface, SurfaceLayout, SurfaceParams, memory};
use super::convert::{Converted, Converter};
use super::library::{DeepStreamError, REPORT, SurfaceApi};

/// Pictures in a batch at most, and pixels of a side: what lies beyond is not a surface.
const MAX_BATCH: u32 = 4096;
const MAX_SIDE: u32 = 16384;

/// The pictures of a buffer, as long as it is mapped.
pub struct Surfaces<'a> {
    _map: gst::BufferMap<'a, gst::buffer::Readable>,
    surface: NonNull<Surface>,
    layout: SurfaceLayout,
}

/// One picture, its planes checked against its size.
pub struct Picture {
    /// Layout, size and colours.
    pub format: FrameFormat,
    /// Of each plane: bytes from the beginning, bytes from row to row, bytes in all.
    pub(super) planes: Vec<(usize, usize, usize)>,
    pub(super) place: Place,
    /// The copy that this is the picture of, where the batch's own cannot be read.
    pub(super) converted: Option<Arc<Converted>>,
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
    /// Where only a mapping makes it visible to the processor; on this GPU too, where it has an address there.
    Mapped(NonNull<Surface>, NonNull<SurfaceParams>, i32, Option<(u32, u64)>),
}

impl<'a> Surfaces<'a> {
    /// The pictures of `buffer`, once size, version and, where there are two of them, the second picture agree about their layout.
    pub fn of(buffer: &'a gst::BufferRef, version: Option<(u32, u32)>) -> Result<Self, DeepStreamError> {
        let map = buffer.map_readable().map_err(|_| DeepStreamError::Unreadable {
            what: "the batch cannot be mapped".to_owned(),
            remedy: "put vehiclecounternvmm behind nvstreammux, before anything that leaves video/x-raw(memory:NVMM)",
        })?;
        let layout = layout(map.size(), version)?;
        let surface = NonNull::new(map.as_ptr().cast_mut().cast::<Surface>()).expect("mapped memory has an address");
        let surfaces = Self { _map: map, surface, layout };
        surfaces.verify()?;
        Ok(surfaces)
    }

    fn surface(&self) -> &Surface {
        // SAFETY: the buffer is mapped and holds at least this structure, as its size says; nobody writes it while it travels.
        unsafe { self.surface.as_ref() }
    }

    /// How the pictures lie in memory.
    pub fn layout(&self) -> SurfaceLayout {
        self.layout
    }

    /// Pictures in the batch.
    pub fn filled(&self) -> u32 {
        self.surface().num_filled
    }

    fn params(&self, index: u32) -> Option<NonNull<SurfaceParams>> {
        let offset = index as usize * self.layout.stride();
        (index < self.filled()).then(|| NonNull::new(self.surface().list.wrapping_byte_add(offset))).flatten()
    }

    fn verify(&self) -> Result<(), DeepStreamError> {
        let surface = self.surface();
        let (room, filled) = (surface.batch_size, surface.num_filled);
        if room == 0 || room > MAX_BATCH || filled > room || surface.list.is_null() || !surface.list.is_aligned() {
            return Err(DeepStreamError::Layout {
                what: "the batch's surface".to_owned(),
                found: format!("of {filled} pictures with room for {room}"),
                expected: format!("1 to {MAX_BATCH} pictures and no more than there is room for"),
                remedy: REPORT,
            });
        }
        // The second picture tells whether the distance between pictures is right.
        for index in 0..filled.min(2) {
            let params = self.params(index).expect("it is filled");
            // SAFETY: there is room for that many pictures, so that what is read lies inside the list, whichever layout it has: the second
            // one ends before twice the smaller stride.
            let SurfaceParams { width, height, pitch, layout, .. } = *unsafe { params.as_ref() };
            // SAFETY: as above.
            let planes = unsafe { params.as_ref() }.planes.num_planes;
            let sides = 1..=MAX_SIDE;
            if !sides.contains(&width)
                || !sides.contains(&height)
                || pitch < width.min(16)
                || !(1..=4).contains(&planes)
                || !(0..2).contains(&layout)
            {
                return Err(DeepStreamError::Layout {
                    what: format!("picture {index} of the batch, {} bytes per picture,", self.layout.stride()),
                    found: format!("{width}x{height} with {planes} planes of {pitch} bytes per row"),
                    expected: format!("a picture (layout of {})", self.layout.name()),
                    remedy: REPORT,
                });
            }
        }
        Ok(())
    }

    /// The place of the frame at `batch_id`, and its picture. nvstreamdemux leaves one picture, and, before 9.0, the batch id of the whole
    /// batch.
    fn find(&self, batch_id: u32) -> Result<(u32, NonNull<SurfaceParams>), DeepStreamError> {
        let index = if self.filled() == 1 { 0 } else { batch_id };
        let found = self.params(index).ok_or_else(|| DeepStreamError::Unreadable {
            what: format!("a frame has batch_id {batch_id} in a batch of {} pictures", self.filled()),
            remedy: REPORT,
        })?;
        Ok((index, found))
    }

    /// Width and height of the picture of a frame at `batch_id`.
    pub fn size(&self, batch_id: u32) -> Result<(u32, u32), DeepStreamError> {
        let (_, found) = self.find(batch_id)?;
        // SAFETY: the picture lies in the list, which the buffer holds.
        let params = unsafe { found.as_ref() };
        Ok((params.width, params.height))
    }

    /// The picture of a frame at `batch_id`, or `converter`'s copy of it.
    pub fn picture(&self, batch_id: u32, converter: &mut Converter) -> Result<Picture, PictureError> {
        let (index, found) = self.find(batch_id)?;
        // SAFETY: the picture lies in the list, which the buffer holds.
        let params = unsafe { found.as_ref() };
        let (kind, data) = (self.surface().memory_type, NonNull::new(params.data.cast::<u8>()));
        // Jetson's picture buffers have no address. Which are pitch-linear and of a format of ours, the processor can map; a GPU reads a copy.
        let array = match kind {
            memory::SURFACE_ARRAY | memory::HANDLE => true,
            memory::DEFAULT => data.is_none(),
            _ => false,
        };
        if array && (converter.is_for_gpu() || params.layout != 0 || format(params).is_err()) {
            return converter.convert(self.surface, found, self.layout);
        }
        if params.layout != 0 {
            return Err(PictureError::Setup(DeepStreamError::Unreadable {
                what: "the pictures are block-linear".to_owned(),
                remedy: CONVERT,
            }));
        }
        let format = format(params)?;
        let mut planes = Vec::new();
        for plane in 0..format.pixels.planes() {
            let (samples, rows, bytes) = format.plane_size(plane);
            let (offset, pitch) = (params.planes.offset[plane] as usize, params.planes.pitch[plane] as usize);
            let length = pitch * (rows - 1) + samples * bytes;
            let data_size = params.data_size as usize;
            if pitch < samples * bytes || (data_size != 0 && offset + length > data_size) {
                return Err(PictureError::Setup(DeepStreamError::Layout {
                    what: format!("plane {plane} of a picture of {}x{}", format.width, format.height),
                    found: format!("{length} bytes at {offset}, {pitch} in a row"),
                    expected: format!("at least {} in a row, inside {data_size} bytes", samples * bytes),
                    remedy: REPORT,
                }));
            }
            planes.push((offset, pitch, length));
        }
        let place = match (kind, data) {
            _ if array => Place::Mapped(self.surface, found, index as i32, None),
            (memory::CUDA_PINNED | memory::SYSTEM, Some(data)) => Place::Host(data),
            (memory::DEFAULT | memory::CUDA_DEVICE, Some(data)) => {
                Place::Device(self.surface().gpu_id, data.as_ptr().addr() as u64)
            }
            (memory::CUDA_UNIFIED, data) => {
                let on_gpu = data.map(|data| (self.surface().gpu_id, data.as_ptr().addr() as u64));
                Place::Mapped(self.surface, found, index as i32, on_gpu)
            }
            (kind, _) => {
                return Err(PictureError::Setup(DeepStreamError::Unreadable {
                    what: format!("the pictures are in memory of type {kind}, or have no address"),
                    remedy: "set nvbuf-memory-type of nvstreammux to 1 (pinned), 2 (device) or 3 (unified)",
                }));
            }
        };
        Ok(Picture { format, planes, place, converted: None })
    }
}

/// The layout that the size of the mapped buffer and the version agree on.
pub fn layout(size: usize, version: Option<(u32, u32)>) -> Result<SurfaceLayout, DeepStreamError> {
    let (old, new) = (SurfaceLayout::Old, SurfaceLayout::New);
    let expected = version.map(|(major, _)| SurfaceLayout::from_version(major));
    match (SurfaceLayout::from_surface_size(size), expected) {
        (Some(layout), None) => Ok(layout),
        (Some(layout), Some(expected)) if layout == expected => Ok(layout),
        _ => Err(DeepStreamError::Layout {
            what: "the batch's buffer".to_owned(),
            found: format!("{size} bytes"),
            expected: match (expected, version) {
                (Some(layout), Some((major, minor))) => {
                    format!("{}, the size of NvBufSurface in DeepStream {major}.{minor},", layout.surface_size())
                }
                _ => format!("{} or {}, the sizes of NvBufSurface,", old.surface_size(), new.surface_size()),
            },
            remedy: REPORT,
        }),
    }
}

/// `NvBufSurfaceColorFormat` in our words.
fn format(params: &SurfaceParams) -> Result<FrameFormat, DeepStreamError> {
    use ColorMatrix::{Bt601, Bt709};
    use ColorRange::{Full, Limited};
    let (pixels, matrix, range) = match params.color_format {
        1 => (PixelFormat::Gray8, Bt601, Full),
        2 => (PixelFormat::I420, Bt601, Limited),
        4 => (PixelFormat::I420, Bt601, Full),
        6 => (PixelFormat::Nv12, Bt601, Limited),
        7 => (PixelFormat::Nv12, Bt601, Full),
        19 => (PixelFormat::Rgba, Bt601, Full),
        20 => (PixelFormat::Bgra, Bt601, Full),
        21 => (PixelFormat::Argb, Bt601, Full),
        22 => (PixelFormat::Abgr, Bt601, Full),
        23 => (PixelFormat::Rgbx, Bt601, Full),
        24 => (PixelFormat::Bgrx, Bt601, Full),
        25 => (PixelFormat::Xrgb, Bt601, Full),
        26 => (PixelFormat::Xbgr, Bt601, Full),
        27 => (PixelFormat::Rgb, Bt601, Full),
        28 => (PixelFormat::Bgr, Bt601, Full),
        31 => (PixelFormat::I420, Bt709, Limited),
        32 => (PixelFormat::I420, Bt709, Full),
        33 => (PixelFormat::Nv12, Bt709, Limited),
        34 => (PixelFormat::Nv12, Bt709, Full),
        other => {
            return Err(DeepStreamError::Unreadable {
                what: format!("the pictures have NvBufSurface's colour format {other}"),
                remedy: CONVERT,
            });
        }
    };
    let (width, height) = (params.width as usize, params.height as usize);
    Ok(FrameFormat { matrix, range, ..FrameFormat::new(pixels, width, height) })
}

impl Picture {
    /// Where the picture lies on a GPU; `None` where a GPU cannot see it.
    pub fn on_gpu(&self) -> Option<OnGpu> {
        let (Place::Device(gpu, data) | Place::Mapped(_, _, _, Some((gpu, data)))) = self.place else { return None };
        let planes = self.planes.iter().map(|&(offset, pitch, length)| (data + offset as u64, pitch, length));
        Some(OnGpu { gpu, planes: planes.collect() })
    }

    /// Lends the picture to an engine on the GPU that it lies on; `buffer`, which it comes from, or the copy is kept until it has been read. `None`
    /// where it does not lie there.
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
        // SAFETY: the planes were checked against the picture's size. DeepStream allocates in the GPU's primary context, which is the engine's
        // too, has finished writing when it pushes a buffer, and does not write again as long as the buffer is held; a copy is written once
        // and kept as well.
        let lent = unsafe { to.lend(self.format, placement, &planes, None, keep) };
        Some(lent.map_err(|error| DeepStreamError::Unreadable { what: error.to_string(), remedy: REPORT }))
    }

    /// Shows the picture to `read`, mapped where that is needed. `None` where only a GPU can see it.
    pub fn view<T>(&self, read: impl FnOnce(&FrameView<'_>) -> T) -> Result<Option<T>, DeepStreamError> {
        match self.place {
            Place::Device(..) => Ok(None),
            Place::Host(data) => {
                let begin = |plane: usize| data.as_ptr().wrapping_add(self.planes[plane].0).cast_const();
                self.show(begin, read).map(Some)
            }
            Place::Mapped(surface, params, index, _) => {
                let _mapped = Mapped::new(surface, params, index)?;
                // SAFETY: the picture lies in the batch, which is held; the mapping has written its planes' addresses.
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
            // SAFETY: DeepStream's picture has that many bytes there, as its own figures say and `picture` has checked, in memory that the
            // processor sees as long as the batch is held and mapped.
            planes.push(Plane { data: unsafe { std::slice::from_raw_parts(begin, length) }, stride });
        }
        let view = FrameView::new(self.format, &planes)
            .map_err(|error| DeepStreamError::Unreadable { what: error.to_string(), remedy: REPORT })?;
        Ok(read(&view))
    }
}

/// A picture made visible to the processor, until dropped.
struct Mapped {
    api: &'static SurfaceApi,
    surface: NonNull<Surface>,
    index: i32,
    /// Somebody else had it mapped already: it stays so.
    foreign: bool,
    _alone: MutexGuard<'static, ()>,
}

/// Mapping writes into the batch's surface: two of our elements on branches of a tee do not meet there.
static MAPPING: Mutex<()> = Mutex::new(());

fn unmappable(code: i32) -> DeepStreamError {
    DeepStreamError::Unreadable {
        what: format!("NvBufSurfaceMap says {code}: the processor cannot see the pictures"),
        remedy: "set nvbuf-memory-type of nvstreammux to 3 (unified) on a discrete GPU, or count with source=tensor-meta",
    }
}

impl Mapped {
    const ALL_PLANES: i32 = -1;
    const READ: i32 = 0;

    fn new(surface: NonNull<Surface>, params: NonNull<SurfaceParams>, index: i32) -> Result<Self, DeepStreamError> {
        let api = SurfaceApi::get()?;
        let alone = MAPPING.lock().unwrap_or_else(PoisonError::into_inner);
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
            // Where the caches of processor and GPU are coherent, there is nothing to synchronise, and the call says so with a code.
            (api.sync_for_cpu)(surface.as_ptr(), index, Self::ALL_PLANES);
            Ok(mapped)
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if !self.foreign {
            // SAFETY: mapped in `new`.
            unsafe { (self.api.unmap)(self.surface.as_ptr(), self.index, Self::ALL_PLANES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_what_size_and_version_agree_on_and_else_both_figures_are_named() {
        assert_eq!(layout(64, Some((7, 1))).unwrap(), SurfaceLayout::Old);
        assert_eq!(layout(72, Some((9, 1))).unwrap(), SurfaceLayout::New);
        assert_eq!(layout(72, None).unwrap(), SurfaceLayout::New);
        let error = |size, version| layout(size, version).unwrap_err().to_string();
        let mixed = error(72, Some((7, 1)));
        assert!(mixed.contains("72 bytes") && mixed.contains("64") && mixed.contains("DeepStream 7.1"), "{mixed}");
        assert!(error(80, None).contains("80 bytes") && error(80, None).contains("64 or 72"));
    }
}
