//! Pictures on the GPU, and slots that hold them.

use std::any::Any;
use std::sync::Arc;

use vehiclecount_core::cuda::{Context, DeviceBuffer, PictureOrder};
use vehiclecount_core::engine::{Engine, Slot};
use vehiclecount_core::frame::{ColorMatrix, ColorRange, FrameFormat, PixelFormat};
use vehiclecount_core::preprocess::{Placement, Preprocessor, Resize};

use super::Failure;

/// Bytes that look like nothing.
pub(super) fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A picture on the GPU, and in host memory.
pub(super) struct Picture {
    pub format: FrameFormat,
    pub planes: Vec<(Vec<u8>, usize)>,
    pub device: Vec<(Arc<DeviceBuffer>, usize)>,
}

impl Picture {
    pub fn new(
        context: &Arc<Context>,
        pixels: PixelFormat,
        width: usize,
        height: usize,
        seed: usize,
    ) -> Result<Self, Failure> {
        let format = FrameFormat {
            matrix: ColorMatrix::Bt709,
            range: ColorRange::Limited,
            ..FrameFormat::new(pixels, width, height)
        };
        let (mut planes, mut device) = (Vec::new(), Vec::new());
        for plane in 0..pixels.planes() {
            let (samples, rows, size) = format.plane_size(plane);
            let stride = samples * size;
            let bytes = noise(seed + plane, stride * rows);
            device.push((Arc::new(DeviceBuffer::holding(context, &bytes, "a plane")?), stride));
            planes.push((bytes, stride));
        }
        Ok(Self { format, planes, device })
    }

    /// Addresses, strides and lengths on the GPU.
    pub fn on_device(&self) -> Vec<(u64, usize, usize)> {
        self.device
            .iter()
            .map(|(buffer, stride)| (buffer.address(), *stride, buffer.bytes()))
            .collect()
    }

    pub fn order(&self, placement: Placement, slot: usize) -> Result<PictureOrder, Failure> {
        Ok(PictureOrder::new(self.format, placement, &self.on_device(), slot)?)
    }
}

/// Slots of pictures that lie on the GPU.
pub(super) struct Frames {
    pictures: Vec<Picture>,
    pub slots: Vec<Slot>,
    pub placement: Placement,
}

impl Frames {
    pub fn new(engine: &dyn Engine, context: &Arc<Context>, batch: usize) -> Result<Self, Failure> {
        let pictures: Result<Vec<_>, Failure> = (0..batch)
            .map(|seed| Picture::new(context, PixelFormat::Nv12, 1280, 720, seed))
            .collect();
        let pictures = pictures?;
        let placement =
            Preprocessor::new(pictures[0].format, Resize::Letterbox, engine.info().input)
                .placement();
        let slots = (0..batch).map(|_| Slot::best_for(engine)).collect();
        Ok(Self { pictures, slots, placement })
    }

    /// Puts the pictures into the slots, as a camera's frames come.
    pub fn fill(&mut self) -> Result<&mut [Slot], Failure> {
        for (slot, picture) in self.slots.iter_mut().zip(&self.pictures) {
            let room = slot.input.picture_mut().ok_or("the engine takes no pictures")?;
            let keep: Vec<_> = picture.device.iter().map(|(buffer, _)| buffer.clone()).collect();
            let keep: Box<dyn Any + Send> = Box::new(keep);
            // SAFETY: the planes are those of the buffers that `keep` keeps.
            unsafe { room.lend(picture.format, self.placement, &picture.on_device(), None, keep)? };
        }
        Ok(&mut self.slots)
    }
}
