//! A picture and a camera's regions, as an engine on a GPU takes them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::cuda::{
    Context, CudaError, DeviceBuffer, Event, ForeignStream, PictureOrder, PinnedBuffer,
};
use crate::frame::{FrameFormat, FrameView};
use crate::preprocess::Placement;

/// Planes begin at multiples of this in staging memory, as CUDA's own allocations do.
const ALIGNMENT: usize = 256;

/// A picture on its way to a GPU: staged in pinned memory of its own, or lent where it lies on the
/// GPU.
pub struct Picture {
    context: Arc<Context>,
    pub(super) staging: Option<PinnedBuffer>,
    pub(super) format: Option<(FrameFormat, Placement)>,
    pub(super) content: Content,
    /// Happens when a lent picture has been written; made when the first producer is named, and
    /// used again.
    pub(super) written: Option<Event>,
}

/// Of each plane: where it is, bytes from row to row, bytes in all.
pub(super) type Planes = [(u64, usize, usize); 3];

pub(super) enum Content {
    Nothing,
    /// Offsets into the staging, and the bytes used of it.
    Host(Planes, usize),
    /// Addresses on the GPU, whether `written` is to be waited for, and what keeps them.
    Device(
        Planes,
        bool,
        #[allow(dead_code, reason = "held until the batch is done")] Box<dyn Any + Send>,
    ),
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.content {
            Content::Nothing => "nowhere",
            Content::Host(..) => "host",
            Content::Device(..) => "device",
        };
        f.debug_struct("Picture")
            .field("format", &self.format)
            .field("place", &place)
            .finish_non_exhaustive()
    }
}

impl Picture {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, staging: None, format: None, content: Content::Nothing, written: None }
    }

    /// Takes a copy of a picture in host memory.
    pub fn stage(&mut self, frame: &FrameView<'_>, placement: Placement) -> Result<(), CudaError> {
        let format = frame.format();
        let mut planes = Planes::default();
        let mut bytes = 0;
        for (index, plane) in planes.iter_mut().enumerate().take(format.pixels.planes()) {
            let (samples, rows, size) = format.plane_size(index);
            *plane = (bytes as u64, samples * size, samples * size * rows);
            bytes += plane.2.next_multiple_of(ALIGNMENT);
        }
        self.clear();
        let staging = match self.staging.take().filter(|held| held.bytes() >= bytes) {
            Some(held) => held,
            None => PinnedBuffer::new(&self.context, bytes, "staging of a frame")?,
        };
        let staging = self.staging.insert(staging);
        let memory = staging.values_mut::<u8>();
        for (index, &(offset, stride, length)) in
            planes.iter().enumerate().take(format.pixels.planes())
        {
            let plane = &mut memory[offset as usize..][..length];
            for (y, row) in plane.chunks_exact_mut(stride).enumerate() {
                row.copy_from_slice(frame.row(index, y));
            }
        }
        self.format = Some((format, placement));
        self.content = Content::Host(planes, bytes);
        Ok(())
    }

    /// Takes a picture that lies on the GPU; of each plane its address, the bytes from row to row,
    /// and the bytes in all. It is read where it is; `keep` is dropped when it has been.
    ///
    /// Where the picture may still be being written, `producer` is the stream on which that
    /// happens: the batch waits, on the GPU, for what has been put on it so far. `None` is for a
    /// picture that is complete.
    ///
    /// # Safety
    /// The planes hold the picture, in memory that the engine's context reaches, as long as `keep`
    /// lives. `producer` is a living stream of that context.
    pub unsafe fn lend(
        &mut self,
        format: FrameFormat,
        placement: Placement,
        planes: &[(u64, usize, usize)],
        producer: Option<ForeignStream>,
        keep: Box<dyn Any + Send>,
    ) -> Result<(), CudaError> {
        self.clear();
        // Checks them.
        PictureOrder::new(format, placement, planes, 0)?;
        if let Some(producer) = producer {
            let written = match self.written.take() {
                Some(held) => held,
                None => Event::marker(&self.context)?,
            };
            // SAFETY: the caller's word.
            unsafe { self.written.insert(written).record_on(producer)? };
        }
        let mut held = Planes::default();
        held[..planes.len()].copy_from_slice(planes);
        self.format = Some((format, placement));
        self.content = Content::Device(held, producer.is_some(), keep);
        Ok(())
    }

    /// Lets go of what was lent. Staging memory is kept for the next picture.
    pub fn clear(&mut self) {
        self.format = None;
        self.content = Content::Nothing;
    }

    /// The context that it is for.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

/// The regions of one camera as weights on the GPU: with them, the engine counts there and the map
/// stays there.
pub struct RegionWeights {
    pub(super) buffer: DeviceBuffer,
    pub(super) regions: usize,
}

impl fmt::Debug for RegionWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionWeights").field("regions", &self.regions).finish_non_exhaustive()
    }
}
