//! The pictures of a batch.

use std::ptr::NonNull;

use vehiclecount_core::frame::{ColorMatrix, ColorRange, FrameFormat, PixelFormat};

use super::abi::{Surface, SurfaceLayout, SurfaceParams, memory};
use super::convert::Converter;
use super::library::{DeepStreamError, REPORT};
use super::picture::{CONVERT, Picture, PictureError, Place};

/// Pictures in a batch at most, and pixels of a side: what lies beyond is not a surface.
const MAX_BATCH: u32 = 4096;
const MAX_SIDE: u32 = 16384;

/// The pictures of a buffer, as long as it is mapped.
pub struct Surfaces<'a> {
    _map: gst::BufferMap<'a, gst::buffer::Readable>,
    surface: NonNull<Surface>,
    layout: SurfaceLayout,
}

impl<'a> Surfaces<'a> {
    /// The pictures of `buffer`, once size, version and, where there are two of them, the second
    /// picture agree about their layout.
    pub fn of(
        buffer: &'a gst::BufferRef,
        version: Option<(u32, u32)>,
    ) -> Result<Self, DeepStreamError> {
        let map = buffer.map_readable().map_err(|_| DeepStreamError::Unreadable {
            what: "the batch cannot be mapped".to_owned(),
            remedy: "put vehiclecounternvmm behind nvstreammux, before anything that leaves video/x-raw(memory:NVMM)",
        })?;
        let layout = layout(map.size(), version)?;
        let surface = NonNull::new(map.as_ptr().cast_mut().cast::<Surface>())
            .expect("mapped memory has an address");
        let surfaces = Self { _map: map, surface, layout };
        surfaces.verify()?;
        Ok(surfaces)
    }

    fn surface(&self) -> &Surface {
        // SAFETY: the buffer is mapped and holds at least this structure, as its size says; nobody
        // writes it while it travels.
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
        (index < self.filled())
            .then(|| NonNull::new(self.surface().list.wrapping_byte_add(offset)))
            .flatten()
    }

    fn verify(&self) -> Result<(), DeepStreamError> {
        let surface = self.surface();
        let (room, filled) = (surface.batch_size, surface.num_filled);
        if room == 0
            || room > MAX_BATCH
            || filled > room
            || surface.list.is_null()
            || !surface.list.is_aligned()
        {
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
            // SAFETY: there is room for that many pictures, so that what is read lies inside the
            // list, whichever layout it has: the second one ends before twice the smaller stride.
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
                    what: format!(
                        "picture {index} of the batch, {} bytes per picture,",
                        self.layout.stride()
                    ),
                    found: format!(
                        "{width}x{height} with {planes} planes of {pitch} bytes per row"
                    ),
                    expected: format!("a picture (layout of {})", self.layout.name()),
                    remedy: REPORT,
                });
            }
        }
        Ok(())
    }

    /// The place of the frame at `batch_id`, and its picture. nvstreamdemux leaves one picture,
    /// and, before 9.0, the batch id of the whole batch.
    fn find(&self, batch_id: u32) -> Result<(u32, NonNull<SurfaceParams>), DeepStreamError> {
        let index = if self.filled() == 1 { 0 } else { batch_id };
        let found = self.params(index).ok_or_else(|| DeepStreamError::Unreadable {
            what: format!(
                "a frame has batch_id {batch_id} in a batch of {} pictures",
                self.filled()
            ),
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
    pub fn picture(
        &self,
        batch_id: u32,
        converter: &mut Converter,
    ) -> Result<Picture, PictureError> {
        let (index, found) = self.find(batch_id)?;
        // SAFETY: the picture lies in the list, which the buffer holds.
        let params = unsafe { found.as_ref() };
        let (kind, data) = (self.surface().memory_type, NonNull::new(params.data.cast::<u8>()));
        // Jetson's picture buffers have no address. Which are pitch-linear and of a format of ours,
        // the processor can map; a GPU reads a copy.
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
            let (offset, pitch) =
                (params.planes.offset[plane] as usize, params.planes.pitch[plane] as usize);
            let length = pitch * (rows - 1) + samples * bytes;
            let data_size = params.data_size as usize;
            if pitch < samples * bytes || (data_size != 0 && offset + length > data_size) {
                return Err(PictureError::Setup(DeepStreamError::Layout {
                    what: format!(
                        "plane {plane} of a picture of {}x{}",
                        format.width, format.height
                    ),
                    found: format!("{length} bytes at {offset}, {pitch} in a row"),
                    expected: format!(
                        "at least {} in a row, inside {data_size} bytes",
                        samples * bytes
                    ),
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
                    format!(
                        "{}, the size of NvBufSurface in DeepStream {major}.{minor},",
                        layout.surface_size()
                    )
                }
                _ => format!(
                    "{} or {}, the sizes of NvBufSurface,",
                    old.surface_size(),
                    new.surface_size()
                ),
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
        assert!(
            mixed.contains("72 bytes") && mixed.contains("64") && mixed.contains("DeepStream 7.1"),
            "{mixed}"
        );
        assert!(error(80, None).contains("80 bytes") && error(80, None).contains("64 or 72"));
    }
}
