//! The batch on a buffer: its frames, and what is attached to them.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use glib::ffi::GList;

use super::abi::{
    BATCH_META, BatchMeta, CopyFunc, FrameMeta, InferLayerInfo, InferTensorMeta, MetaPool,
    TENSOR_OUTPUT_META, UserMeta,
};
use super::library::{Api, DeepStreamError, REPORT};
use super::meta::{self, Piece};

/// Frames in a batch at most: lists that are longer are not lists.
const MAX_FRAMES: usize = 4096;

/// The batch of a buffer, valid as long as the buffer is held.
pub struct Batch<'a> {
    api: &'static Api,
    meta: NonNull<BatchMeta>,
    buffer: PhantomData<&'a gst::BufferRef>,
}

/// Why nothing could be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolExhausted;

impl<'a> Batch<'a> {
    /// The batch of `buffer`.
    pub fn of(api: &'static Api, buffer: &'a gst::BufferRef) -> Result<Self, DeepStreamError> {
        // SAFETY: the function only looks through the buffer's metadata; it takes no reference and
        // changes nothing.
        let meta = unsafe { (api.get_batch)(buffer.as_ptr().cast_mut()) };
        let meta = NonNull::new(meta).ok_or(DeepStreamError::NoBatch)?;
        let batch = Self { api, meta, buffer: PhantomData };
        let Figures { meta_type, frames, room, .. } = batch.figures();
        // Muxers leave the type 0 or set it; `nvds_create_batch_meta` leaves the room to whoever
        // calls it, who may leave it 0.
        let crowded = room != 0 && frames > room;
        if ![0, BATCH_META].contains(&meta_type)
            || crowded
            || frames.max(room) as usize > MAX_FRAMES
        {
            return Err(DeepStreamError::Layout {
                what: "the batch's metadata".to_owned(),
                found: format!("of type {meta_type} with {frames} frames of {room}"),
                expected: format!(
                    "type 0 or {BATCH_META} and no more frames than there is room for, {MAX_FRAMES} at most"
                ),
                remedy: REPORT,
            });
        }
        Ok(batch)
    }

    /// Numbers that tell whether this is the structure that it is taken for.
    pub fn figures(&self) -> Figures {
        // SAFETY: the batch lives as long as the buffer; its head and its pools are written before
        // it travels.
        unsafe {
            let meta = self.meta.as_ref();
            let size =
                |pool: *mut MetaPool| pool.as_ref().map_or(0, |pool| pool.element_size as usize);
            Figures {
                meta_type: meta.base.meta_type,
                frames: meta.num_frames_in_batch,
                room: meta.max_frames_in_batch,
                frame_size: size(meta.frame_pool),
                user_size: size(meta.user_pool),
                display_size: size(meta.display_pool),
            }
        }
    }

    /// Takes the metadata's lock, which other elements' threads respect.
    pub fn lock(&self) -> BatchGuard<'_, 'a> {
        // SAFETY: the lock is in the batch and recursive.
        unsafe { (self.api.lock)(self.meta.as_ptr()) };
        BatchGuard { batch: self }
    }
}

/// See [`Batch::figures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Type of the batch's metadata.
    pub meta_type: i32,
    /// Frames in it.
    pub frames: u32,
    /// Room for so many.
    pub room: u32,
    /// Bytes of a frame's metadata, 0 where it is not told.
    pub frame_size: usize,
    /// Bytes of user metadata.
    pub user_size: usize,
    /// Bytes of display metadata.
    pub display_size: usize,
}

/// The metadata's lock, held until dropped.
pub struct BatchGuard<'b, 'a> {
    batch: &'b Batch<'a>,
}

impl Drop for BatchGuard<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: it was taken when this was made.
        unsafe { (self.batch.api.unlock)(self.batch.meta.as_ptr()) };
    }
}

/// One frame of a batch.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    meta: NonNull<FrameMeta>,
    /// Its camera.
    pub source_id: u32,
    /// Its place in the batch.
    pub batch_id: u32,
    /// Nanoseconds; `None` where it has none.
    pub pts: Option<u64>,
    /// Nanoseconds since 1970; `None` where it is not known.
    pub ntp: Option<u64>,
    /// Width and height of the picture in the batch; before the muxer where that is not told.
    pub size: (u32, u32),
    /// The first, if it is told.
    pub pipeline_size: Option<(u32, u32)>,
    buffer: PhantomData<&'a gst::BufferRef>,
}

/// A list's data, at most [`MAX_FRAMES`] of them.
///
/// # Safety
/// `list` is null or a `GList` that does not change meanwhile.
unsafe fn items(mut list: *mut GList) -> Vec<*mut c_void> {
    let mut found = Vec::new();
    // SAFETY: as the caller says.
    while let (Some(item), true) = (unsafe { list.as_ref() }, found.len() < MAX_FRAMES) {
        found.push(item.data);
        list = item.next;
    }
    found
}

impl<'a> BatchGuard<'_, 'a> {
    /// The frames, in the batch's order.
    pub fn frames(&self) -> Vec<Frame<'a>> {
        // SAFETY: the lock is held; the list holds frames.
        let list = unsafe { items(self.batch.meta.as_ref().frame_list) };
        let frames = list.into_iter().filter_map(|data| {
            let meta = NonNull::new(data.cast::<FrameMeta>())?;
            // SAFETY: frames live in the batch's pool, as long as the buffer.
            let frame = unsafe { meta.as_ref() };
            let FrameMeta { source_id, batch_id, buf_pts, ntp_timestamp, .. } = *frame;
            let pipeline_size = match (frame.pipeline_width, frame.pipeline_height) {
                (0, _) | (_, 0) => None,
                size => Some(size),
            };
            let size = pipeline_size.unwrap_or((frame.source_width, frame.source_height));
            Some(Frame {
                meta,
                source_id,
                batch_id,
                pts: (buf_pts != u64::MAX).then_some(buf_pts),
                ntp: (ntp_timestamp != 0 && ntp_timestamp != u64::MAX).then_some(ntp_timestamp),
                size,
                pipeline_size,
                buffer: PhantomData,
            })
        });
        frames.collect()
    }

    /// User metadata of `frame`: type and data.
    pub fn user_metas(&self, frame: &Frame<'a>) -> Vec<(i32, *mut c_void)> {
        // SAFETY: the lock is held, the frame lives, and its list holds user metadata.
        unsafe {
            let list = items(frame.meta.as_ref().user_list);
            let metas = list.into_iter().filter_map(|data| data.cast::<UserMeta>().as_ref());
            metas.map(|meta| (meta.base.meta_type, meta.data)).collect()
        }
    }

    /// Tensors that nvinfer left on `frame`.
    pub fn tensors(&self, frame: &Frame<'a>) -> Vec<Tensors<'a>> {
        let metas =
            self.user_metas(frame).into_iter().filter(|(kind, _)| *kind == TENSOR_OUTPUT_META);
        metas
            .filter_map(|(_, data)| {
                Some(Tensors { meta: NonNull::new(data.cast())?, buffer: PhantomData })
            })
            .collect()
    }

    /// Hangs `piece` on `frame` as metadata of type `kind`.
    pub fn attach(
        &self,
        frame: &Frame<'a>,
        kind: i32,
        piece: Piece,
        copy: CopyFunc,
    ) -> Result<(), PoolExhausted> {
        let Batch { api, meta, .. } = self.batch;
        // SAFETY: the lock is held; a meta from the pool belongs to the batch, and is filled before
        // it is added.
        unsafe {
            let user = (api.acquire_user)(meta.as_ptr()).as_mut().ok_or(PoolExhausted)?;
            user.data = piece.into_raw();
            user.base.meta_type = kind;
            user.base.batch_meta = meta.as_ptr();
            user.base.copy_func = Some(copy);
            user.base.release_func = Some(meta::release);
            (api.add_user)(frame.meta.as_ptr(), user);
        }
        Ok(())
    }

    /// Says that an inference was done on `frame`.
    pub fn set_inferred(&self, frame: &Frame<'a>) {
        // SAFETY: the lock is held, and the frame lives.
        unsafe { (*frame.meta.as_ptr()).infer_done = glib::ffi::GTRUE };
    }

    /// Writes a number into the frame's `misc_frame_info[index]`, `index` being 0 to 3.
    pub fn set_misc(&self, frame: &Frame<'a>, index: usize, value: i64) {
        // SAFETY: the lock is held, and the frame lives; the index is checked.
        unsafe { (*frame.meta.as_ptr()).misc_frame_info[index] = value };
    }

    pub(super) fn api(&self) -> &'static Api {
        self.batch.api
    }

    pub(super) fn batch_meta(&self) -> *mut BatchMeta {
        self.batch.meta.as_ptr()
    }

    /// The frame itself, for what has no function here.
    pub fn frame_meta(&self, frame: &Frame<'a>) -> *mut FrameMeta {
        frame.meta.as_ptr()
    }
}

/// What nvinfer left on a frame: valid as long as the buffer is held.
pub struct Tensors<'a> {
    meta: NonNull<InferTensorMeta>,
    buffer: PhantomData<&'a gst::BufferRef>,
}

/// Where the values of a tensor are.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// In host memory.
    Host(NonNull<c_void>),
    /// On a GPU.
    Device(u64),
}

/// One output of the network, for one frame.
#[derive(Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// 0: float, 1: half, 2: int8, 3: int32.
    pub data_type: i32,
    /// Its shape, without the batch.
    pub shape: Vec<u32>,
    /// Number of values.
    pub elements: usize,
    /// Its values; `None` where there are none.
    pub place: Option<Place>,
}

/// Host pointers below are offsets from nowhere: nvinfer adds each frame's offset to a buffer that
/// it did not fill.
const LOWEST_ADDRESS: usize = 16 << 20;

/// Layers of a network at most.
const MAX_LAYERS: usize = 256;

impl Tensors<'_> {
    fn meta(&self) -> &InferTensorMeta {
        // SAFETY: the metadata lives as long as the buffer, and nvinfer does not change it any
        // more.
        unsafe { self.meta.as_ref() }
    }

    /// `gie-unique-id` of the nvinfer.
    pub fn unique_id(&self) -> u32 {
        self.meta().unique_id
    }

    /// Index of the GPU that they are on.
    pub fn gpu_id(&self) -> i32 {
        self.meta().gpu_id
    }

    /// Width and height of the network's input.
    pub fn network(&self) -> (u32, u32) {
        (self.meta().network_width, self.meta().network_height)
    }

    /// How the picture lies in the network's input, in a DeepStream of `version`; the error is what
    /// a field that is yes or no says else.
    pub fn padding(&self, version: Option<(u32, u32)>) -> Result<Padding, i32> {
        let yes = |field: i32| match field {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(other),
        };
        let Some(version) = version else { return Ok(Padding::None) };
        if version < (6, 1) || !yes(self.meta().maintain_aspect_ratio)? {
            return Ok(Padding::None);
        }
        // Before 7.0 the structure ends before this field.
        let symmetric = version >= (7, 0) && yes(self.meta().symmetric_padding)?;
        Ok(if symmetric { Padding::Symmetric } else { Padding::BottomRight })
    }

    /// The outputs.
    pub fn outputs(&self) -> Vec<Tensor> {
        let meta = self.meta();
        let count = (meta.num_layers as usize).min(MAX_LAYERS);
        if meta.layers.is_null() {
            return Vec::new();
        }
        // SAFETY: nvinfer fills `num_layers` of each.
        unsafe {
            let layers: &[InferLayerInfo] = std::slice::from_raw_parts(meta.layers, count);
            let at = |list: *const *const c_void, index: usize| {
                if list.is_null() { 0 } else { (*list.add(index)).addr() }
            };
            let outputs = layers.iter().enumerate().map(|(index, layer)| {
                let host = at(meta.host, index);
                let device = at(meta.device, index);
                let place = if host >= LOWEST_ADDRESS {
                    NonNull::new((*meta.host.add(index)).cast_mut()).map(Place::Host)
                } else {
                    (device >= LOWEST_ADDRESS).then_some(Place::Device(device as u64))
                };
                let dims = &layer.dims;
                let name = if layer.name.is_null() { c"" } else { CStr::from_ptr(layer.name) };
                Tensor {
                    name: name.to_string_lossy().into_owned(),
                    data_type: layer.data_type,
                    shape: dims.d[..(dims.num_dims as usize).min(dims.d.len())].to_vec(),
                    elements: dims.num_elements as usize,
                    place,
                }
            });
            outputs.collect()
        }
    }
}

/// How nvinfer fits pictures in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Stretched (`maintain-aspect-ratio=0`).
    None,
    /// Top left, the rest black.
    BottomRight,
    /// In the middle (`symmetric-padding=1`).
    Symmetric,
}
