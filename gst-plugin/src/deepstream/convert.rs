//! Copies of pictures that cannot be read where they lie: Jetson's picture buffers, which have no
//! address, are often block-linear, and come in formats that we do not read.
//!
//! As nvinfer does it: `NvBufSurfTransform` (on Jetson's VIC) turns the picture into one of a few
//! surfaces of our own, pitch-linear RGBA of the same size. An engine on the GPU reads that through
//! an EGL image, which is made once for each surface; an engine on the processor maps it. A surface
//! goes back to the others when the engine has read it. On boards whose GPU has the driver of
//! discrete ones (Thor), the surface is GPU memory and needs no EGL image.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use parking_lot::Mutex;
use vehiclecount_core::cuda::{Context, EglPicture};
use vehiclecount_core::frame::{FrameFormat, PixelFormat};

use super::abi::{
    COLOR_RGBA, Surface, SurfaceCreateParams, SurfaceLayout, SurfaceParams, TRANSFORM_FILTER,
    TransformConfig, TransformParams, memory,
};
use super::library::{DeepStreamError, TransformApi};
use super::picture::{CONVERT, Picture, PictureError, Place};

/// `NVBUF_DRIVER_TYPE_RM`: the driver of discrete GPUs.
const DRIVER_RM: i32 = 2;

/// Bytes of a pixel.
const PIXEL: usize = 4;

/// Makes the copies, for one element.
pub struct Converter {
    context: Option<Arc<Context>>,
    home: Arc<Mutex<Home>>,
    /// It has succeeded: what fails from now on may succeed again.
    worked: bool,
}

/// Where surfaces wait.
#[derive(Default)]
struct Home {
    free: Vec<OwnSurface>,
    /// Those that are out, too.
    made: usize,
    closed: bool,
}

/// A copy, until dropped.
pub struct SurfaceCopy {
    own: Option<OwnSurface>,
    home: Arc<Mutex<Home>>,
}

impl Drop for SurfaceCopy {
    fn drop(&mut self) {
        let mut home = self.home.lock();
        let gone = match self.own.take() {
            Some(own) if !home.closed => {
                home.free.push(own);
                None
            }
            own => {
                home.made -= 1;
                own
            }
        };
        drop(home);
        // Given back to DeepStream with no lock held.
        drop(gone);
    }
}

impl Converter {
    /// For an engine on the GPU of `context`, or on the processor.
    pub fn new(context: Option<Arc<Context>>) -> Self {
        Self { context, home: Arc::default(), worked: false }
    }

    /// Whether copies are read by a GPU.
    pub fn is_for_gpu(&self) -> bool {
        self.context.is_some()
    }

    /// A copy of the picture `params` of `surface`, which lies in memory as `layout` says.
    pub(super) fn convert(
        &mut self,
        surface: NonNull<Surface>,
        params: NonNull<SurfaceParams>,
        layout: SurfaceLayout,
    ) -> Result<Picture, PictureError> {
        let api = TransformApi::get()?;
        // SAFETY: the picture lies in a batch, which the caller holds.
        let (SurfaceParams { width, height, color_format, layout: blocks, .. }, batch) =
            unsafe { (params.as_ref(), surface.as_ref()) };
        let worked = self.worked;
        let failed = |what: String| {
            let what = format!(
                "{what}; a picture of {width}x{height}, {}, colour format {color_format}, cannot be made readable",
                if *blocks == 0 { "pitch-linear" } else { "block-linear" }
            );
            if worked {
                PictureError::Now(what)
            } else {
                PictureError::Setup(DeepStreamError::Unreadable { what, remedy: CONVERT })
            }
        };
        // As many as a batch has room for, and as many again that an engine may still have after a
        // flush.
        let most = 2 * batch.batch_size as usize;
        let (mut copy, spare) = self.take(most, (*width, *height)).ok_or_else(|| {
            PictureError::Now(format!(
                "all {most} surfaces for copies of pictures are still with the engine"
            ))
        })?;
        drop(spare);
        let own = match copy.own.take() {
            Some(own) => own,
            None => OwnSurface::new(api, self.context.as_ref(), batch.gpu_id, (*width, *height))
                .map_err(failed)?,
        };
        let own = copy.own.insert(own);
        own.fill(surface, params, layout).map_err(failed)?;
        let picture = own.picture();
        self.worked = true;
        Ok(Picture { converted: Some(Arc::new(copy)), ..picture })
    }

    /// Room for a copy, with a surface in it where one of that size is free; and a surface of
    /// another size whose place it takes. `None` where `most` are out.
    fn take(&self, most: usize, size: (u32, u32)) -> Option<(SurfaceCopy, Option<OwnSurface>)> {
        let mut home = self.home.lock();
        let (own, spare) = match home.free.iter().position(|own| own.size == size) {
            Some(at) => (Some(home.free.swap_remove(at)), None),
            None if home.made < most => {
                home.made += 1;
                (None, None)
            }
            None => (None, Some(home.free.pop()?)),
        };
        Some((SurfaceCopy { own, home: self.home.clone() }, spare))
    }
}

impl Drop for Converter {
    fn drop(&mut self) {
        let mut home = self.home.lock();
        home.closed = true;
        home.made -= home.free.len();
        let free = std::mem::take(&mut home.free);
        drop(home);
        drop(free);
    }
}

/// A surface of ours with room for one picture.
struct OwnSurface {
    api: &'static TransformApi,
    surface: NonNull<Surface>,
    size: (u32, u32),
    /// Mapped as an EGL image.
    mapped: bool,
    egl: Option<EglPicture>,
    pitch: usize,
    place: Place,
}

// SAFETY: a surface may be used from any thread.
unsafe impl Send for OwnSurface {}
// SAFETY: what is shared has been filled, and is only read.
unsafe impl Sync for OwnSurface {}

impl OwnSurface {
    fn new(
        api: &'static TransformApi,
        context: Option<&Arc<Context>>,
        gpu_id: u32,
        size: (u32, u32),
    ) -> Result<Self, String> {
        let memory_type = match context {
            Some(_) if driver_type(api) == DRIVER_RM => memory::CUDA_DEVICE,
            _ => memory::SURFACE_ARRAY,
        };
        let (width, height) = size;
        let mut asked = SurfaceCreateParams {
            gpu_id,
            width,
            height,
            size: 0,
            is_contiguous: true,
            color_format: COLOR_RGBA,
            layout: 0,
            memory_type,
            reserved: [0; 4],
        };
        let mut made = ptr::null_mut();
        // SAFETY: writes one pointer; destroyed in `drop`.
        let code = unsafe { (api.create)(&mut made, 1, &mut asked) };
        let surface = NonNull::new(made).filter(|_| code == 0);
        let surface = surface
            .ok_or_else(|| format!("NvBufSurfaceCreate says {code}: no memory for a copy"))?;
        // SAFETY: it was just made, with room for one picture.
        let list = unsafe {
            (*surface.as_ptr()).num_filled = 1;
            NonNull::new((*surface.as_ptr()).list)
        };
        let place = Place::Mapped(surface, list.unwrap_or(NonNull::dangling()), 0, None);
        let mut own = Self { api, surface, size, mapped: false, egl: None, pitch: 0, place };
        let list = list.ok_or("NvBufSurfaceCreate gives a surface without pictures")?;
        // SAFETY: the picture of the surface that was just made.
        let (pitch, data) = unsafe { (list.as_ref().planes.pitch[0], list.as_ref().data) };
        own.pitch = pitch as usize;
        match context {
            Some(context) if memory_type == memory::CUDA_DEVICE => {
                own.place = Place::Device(context.device().index, data.addr() as u64);
            }
            Some(context) => own.share(context, list)?,
            None => {}
        }
        let row = width as usize * PIXEL;
        if own.pitch < row || matches!(own.place, Place::Device(_, 0)) {
            return Err(format!(
                "a copy has rows of {} bytes, where {row} were expected, or no address",
                own.pitch
            ));
        }
        Ok(own)
    }

    /// Makes it readable on the GPU of `context`, by way of an EGL image.
    fn share(
        &mut self,
        context: &Arc<Context>,
        list: NonNull<SurfaceParams>,
    ) -> Result<(), String> {
        let egl = self.api.egl.ok_or("libnvbufsurface.so has no NvBufSurfaceMapEglImage")?;
        // SAFETY: the surface is ours, and has one picture; unmapped in `drop`.
        let code = unsafe { (egl.map)(self.surface.as_ptr(), 0) };
        if code != 0 {
            return Err(format!(
                "NvBufSurfaceMapEglImage says {code}: without a screen, EGL needs DISPLAY unset and access to the GPU's device files"
            ));
        }
        self.mapped = true;
        // SAFETY: mapping has written the image, which stays until it is unmapped; the resource
        // goes before, in `drop`.
        let made = unsafe {
            let image = list.as_ref().egl_image;
            if image.is_null() {
                return Err("NvBufSurfaceMapEglImage gives no image".to_owned());
            }
            EglPicture::register(context, image, self.size, PIXEL)
        };
        let picture = made.map_err(|error| error.to_string())?;
        self.pitch = picture.pitch();
        self.place = Place::Device(context.device().index, picture.address());
        self.egl = Some(picture);
        Ok(())
    }

    /// Copies the picture `params` of `surface` into it, converted.
    fn fill(
        &self,
        surface: NonNull<Surface>,
        params: NonNull<SurfaceParams>,
        layout: SurfaceLayout,
    ) -> Result<(), String> {
        // A batch of that one picture. It is as long as the longer layout; what the shorter one
        // lacks is zeros.
        let mut one = [0u64; SurfaceLayout::New.surface_size() / 8];
        let mut config = TransformConfig {
            compute_mode: 0,
            gpu_id: 0,
            stream: ptr::null_mut(),
            reserved: [0; 4],
        };
        // Nearest: the sizes are the same.
        let mut order = TransformParams {
            flags: TRANSFORM_FILTER,
            flip: 0,
            filter: 0,
            from: ptr::null_mut(),
            to: ptr::null_mut(),
            reserved: [0; 4],
        };
        // SAFETY: the batch is held and has as many bytes as its layout says, which fit; both
        // surfaces have one picture, and stay until the call returns, when the work is done. The
        // session belongs to the thread, and other elements on it set theirs before they work.
        unsafe {
            ptr::copy_nonoverlapping(
                surface.as_ptr().cast::<u8>(),
                one.as_mut_ptr().cast(),
                layout.surface_size(),
            );
            let one = &mut *one.as_mut_ptr().cast::<Surface>();
            (one.batch_size, one.num_filled, one.list) = (1, 1, params.as_ptr());
            config.gpu_id = one.gpu_id as i32;
            let code = (self.api.set_session)(&mut config);
            if code != 0 {
                return Err(format!(
                    "NvBufSurfTransformSetSessionParams says {code} ({})",
                    describe(code)
                ));
            }
            match (self.api.transform)(one, self.surface.as_ptr(), &mut order) {
                0 => Ok(()),
                code => Err(format!("NvBufSurfTransform says {code} ({})", describe(code))),
            }
        }
    }

    /// What was copied into it.
    fn picture(&self) -> Picture {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let format = FrameFormat::new(PixelFormat::Rgba, width, height);
        let length = self.pitch * (height - 1) + width * PIXEL;
        Picture {
            format,
            planes: vec![(0, self.pitch, length)],
            place: self.place,
            converted: None,
        }
    }
}

impl Drop for OwnSurface {
    fn drop(&mut self) {
        // CUDA lets go of the image before EGL does.
        self.egl = None;
        // SAFETY: made in `new`, mapped in `share`; its reader is done.
        unsafe {
            if let Some(egl) = self.api.egl.filter(|_| self.mapped) {
                (egl.unmap)(self.surface.as_ptr(), 0);
            }
            (self.api.destroy)(self.surface.as_ptr());
        }
    }
}

/// Which driver the GPU has; 0 where the library does not tell, as before it knew more than one.
fn driver_type(api: &TransformApi) -> i32 {
    let Some(ask) = api.device_info else { return 0 };
    // More than the structure has in any version.
    let mut info = [0i32; 64];
    // SAFETY: it writes less than this.
    match unsafe { ask(info.as_mut_ptr()) } {
        0 => info[0],
        _ => 0,
    }
}

/// `NvBufSurfTransform_Error` in words.
fn describe(code: i32) -> &'static str {
    match code {
        -1 => "not supported",
        -2 => "failed on the way",
        -3 => "wrong parameters",
        -4 => "wrong rectangle",
        _ => "unknown",
    }
}
