//! From nvinfer's output tensor to a density map.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use half::f16;
use vehiclecount_core::cuda::{CudaError, Driver, Stream};
use vehiclecount_core::density::{DensityMap, Grid};
use vehiclecount_core::preprocess::{InputSize, Placement};

use super::batch::{Frame, Padding, Place, Tensor, Tensors};
use super::library::REPORT;

/// Name of the output of our models.
const DENSITY: &str = "density";

/// `NvDsInferDataType`.
const FLOAT: i32 = 0;
const HALF: i32 = 1;

/// Why a density could not be read.
#[derive(Clone, Debug)]
pub enum TensorError {
    /// It will be so for every frame.
    Setup(String),
    /// It is so for this one.
    Value(String),
}

/// Chooses the output that is called `layer`; where none is named, the only one, or the one that is
/// called as our models call theirs.
pub fn choose<'t>(outputs: &'t [Tensor], layer: &str) -> Result<&'t Tensor, String> {
    let named = |name: &str| outputs.iter().find(|tensor| tensor.name == name);
    let found = match (layer, outputs) {
        ("", [only]) => Some(only),
        ("", _) => named(DENSITY),
        (layer, _) => named(layer),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = outputs.iter().map(|tensor| tensor.name.as_str()).collect();
        let wanted = if layer.is_empty() { DENSITY } else { layer };
        format!(
            "no output is called {wanted:?}, there are: {}; name the density in `tensor-layer`",
            names.join(", ")
        )
    })
}

/// Sides of a network's input, in pixels, that are believed.
const MAX_SIDE: u32 = 16384;

/// The density's shape and where it lies in `frame`, whose picture in the batch has `size` pixels.
pub fn grid(
    tensor: &Tensor,
    tensors: &Tensors<'_>,
    frame: &Frame<'_>,
    size: (u32, u32),
    version: Option<(u32, u32)>,
) -> Result<Grid, String> {
    let shape = &tensor.shape;
    let (lead, [rows, columns]) = shape.split_last_chunk::<2>().ok_or_else(|| {
        format!("output {:?} has the shape {shape:?}; a density is 1 x rows x columns", tensor.name)
    })?;
    let cells = u64::from(*rows) * u64::from(*columns);
    if lead.iter().any(|&side| side != 1)
        || cells == 0
        || cells != tensor.elements as u64
        || cells > 1 << 24
    {
        return Err(format!(
            "output {:?} has the shape {shape:?} and {} values; a density is 1 x rows x columns",
            tensor.name, tensor.elements
        ));
    }
    let (width, height) = tensors.network();
    if width < *columns || height < *rows || width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!(
            "output {:?} has {columns}x{rows} cells, and the network's input is said to be {width}x{height} pixels; {REPORT}",
            tensor.name
        ));
    }
    let padding = tensors.padding(version).map_err(|found| {
        format!("nvinfer's padding is told as {found}, where 0 or 1 was expected; {REPORT}")
    })?;
    // nvinfer fits in what lay in the batch, and so do we; but not where that has changed its shape
    // since.
    let (picture, told) = (size, frame.pipeline_size.unwrap_or(size));
    if padding != Padding::None && !alike(picture, told) {
        return Err(format!(
            "the picture has {}x{} pixels, and its metadata says {}x{}: with maintain-aspect-ratio=1 the place of the density depends on it; put \
             vehiclecounternvmm directly behind nvinfer, before anything that changes the size",
            picture.0, picture.1, told.0, told.1
        ));
    }
    Ok(place((width, height), padding, size).grid(*columns as usize, *rows as usize))
}

/// Whether two sizes have the same shape, to a hundredth.
fn alike(one: (u32, u32), other: (u32, u32)) -> bool {
    let (a, b) = (f64::from(one.0) * f64::from(other.1), f64::from(one.1) * f64::from(other.0));
    (a - b).abs() <= 0.01 * a.max(b)
}

/// Where nvinfer puts a picture of `size` pixels in its input of `network` pixels: sides are cut to
/// whole pixels, as it does.
fn place(network: (u32, u32), padding: Padding, size: (u32, u32)) -> Placement {
    let side = |side: u32| side.max(1) as usize;
    let input = InputSize { width: side(network.0), height: side(network.1) };
    let whole = Placement { left: 0, top: 0, width: input.width, height: input.height, input };
    if padding == Padding::None || size.0 == 0 || size.1 == 0 {
        return whole;
    }
    let height = input.width as f64 * f64::from(size.1) / f64::from(size.0);
    let width = input.height as f64 * f64::from(size.0) / f64::from(size.1);
    let (width, height) = if height <= input.height as f64 {
        (input.width, (height as usize).max(1))
    } else {
        ((width as usize).max(1), input.height)
    };
    let (left, top) = match padding {
        Padding::Symmetric => ((input.width - width) / 2, (input.height - height) / 2),
        Padding::None | Padding::BottomRight => (0, 0),
    };
    Placement { left, top, width, height, input }
}

/// A density that nvinfer left on a frame, and that has not been read: valid as long as the buffer
/// is held, with no lock.
#[derive(Debug)]
pub struct Unread<'a> {
    name: String,
    grid: Grid,
    elements: usize,
    kind: ValueType,
    place: UnreadPlace,
    buffer: PhantomData<&'a gst::BufferRef>,
}

#[derive(Clone, Copy, Debug)]
enum ValueType {
    Single,
    Half,
}

#[derive(Clone, Copy, Debug)]
enum UnreadPlace {
    Host(NonNull<u8>),
    /// The GPU, and the address there.
    Device(u32, u64),
}

impl<'a> Unread<'a> {
    /// The values of `tensor`, one of `tensors`, which are the densities of `grid`; the error says
    /// why they are not.
    pub fn new(tensor: &Tensor, tensors: &Tensors<'a>, grid: Grid) -> Result<Self, String> {
        let name = tensor.name.clone();
        let kind = match tensor.data_type {
            FLOAT => ValueType::Single,
            HALF => ValueType::Half,
            other => {
                return Err(format!(
                    "output {name:?} has the data type {other}; a density is float (0) or half (1)"
                ));
            }
        };
        let place = match tensor.place {
            Some(Place::Host(pointer)) => UnreadPlace::Host(pointer.cast()),
            Some(Place::Device(address)) => {
                UnreadPlace::Device(u32::try_from(tensors.gpu_id()).unwrap_or(0), address)
            }
            None => return Err(format!("output {name:?} has no values")),
        };
        Ok(Self { name, grid, elements: tensor.elements, kind, place, buffer: PhantomData })
    }

    fn bytes(&self) -> usize {
        let bytes = match self.kind {
            ValueType::Single => size_of::<f32>(),
            ValueType::Half => size_of::<f16>(),
        };
        self.elements * bytes
    }

    fn map(&self, raw: &[u8]) -> Result<DensityMap, TensorError> {
        let cells: Arc<[f32]> = match self.kind {
            ValueType::Single => {
                raw.as_chunks::<4>().0.iter().map(|value| f32::from_ne_bytes(*value)).collect()
            }
            ValueType::Half => raw
                .as_chunks::<2>()
                .0
                .iter()
                .map(|value| f16::from_ne_bytes(*value).to_f32())
                .collect(),
        };
        match cells.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(TensorError::Value(format!("the density has a cell of {value}"))),
            None => Ok(DensityMap { grid: self.grid, cells }),
        }
    }
}

/// Reads densities. What it needs of a GPU is opened when a density there is first read, and kept.
#[derive(Default)]
pub struct TensorReader {
    /// By the GPU's index.
    streams: BTreeMap<u32, Stream>,
}

impl TensorReader {
    /// The densities, in their order. Of those on a GPU, all are copied before one is waited for.
    pub fn read(&mut self, unread: &[&Unread<'_>]) -> Vec<Result<DensityMap, TensorError>> {
        let mut by_gpu = BTreeMap::<u32, Vec<(u64, usize)>>::new();
        for tensor in unread {
            if let UnreadPlace::Device(gpu, address) = tensor.place {
                by_gpu.entry(gpu).or_default().push((address, tensor.bytes()));
            }
        }
        let mut copies: BTreeMap<_, _> = by_gpu
            .into_iter()
            .map(|(gpu, pieces)| (gpu, self.download(gpu, &pieces).map(Vec::into_iter)))
            .collect();
        let maps = unread.iter().map(|tensor| match tensor.place {
            UnreadPlace::Host(pointer) => {
                // SAFETY: nvinfer fills that many bytes at this address, and keeps them as long as
                // the buffer is held.
                let raw = unsafe { std::slice::from_raw_parts(pointer.as_ptr(), tensor.bytes()) };
                tensor.map(raw)
            }
            UnreadPlace::Device(gpu, _) => match copies.get_mut(&gpu) {
                Some(Ok(copies)) => tensor.map(&copies.next().expect("one for each tensor")),
                Some(Err(error)) => Err(TensorError::Setup(format!(
                    "output {:?} is in GPU memory only ({error}); set disable-output-host-copy=0 in nvinfer's configuration",
                    tensor.name
                ))),
                None => unreachable!("every GPU has its copies"),
            },
        });
        maps.collect()
    }

    /// Copies of what nvinfer left on a GPU: addresses and bytes.
    fn download(&mut self, gpu: u32, pieces: &[(u64, usize)]) -> Result<Vec<Vec<u8>>, CudaError> {
        let stream = match self.streams.entry(gpu) {
            Entry::Occupied(stream) => stream.into_mut(),
            Entry::Vacant(place) => place.insert(Stream::new(&Driver::open()?.context(gpu)?)?),
        };
        let mut copies: Vec<_> = pieces.iter().map(|&(_, bytes)| vec![0u8; bytes]).collect();
        let begun = copies.iter_mut().zip(pieces).try_for_each(|(copy, &(address, bytes))| {
            // SAFETY: nvinfer has filled that many bytes at this address of the GPU, in its primary
            // context, and keeps them as long as the buffer is held; the host's side stays until
            // the stream has been waited for.
            unsafe { stream.download(copy.as_mut_ptr(), address, bytes) }
        });
        // Also where one copy was refused: those before it are on their way.
        let done = stream.synchronize();
        begun.and(done).map(|()| copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_picture_lies_at_the_top_or_in_the_middle_as_nvinfer_was_told() {
        let at = |padding| {
            let Placement { left, top, width, height, .. } =
                place((384, 384), padding, (1920, 1080));
            (left, top, width, height)
        };
        assert_eq!(at(Padding::None), (0, 0, 384, 384));
        assert_eq!(at(Padding::BottomRight), (0, 0, 384, 216));
        assert_eq!(at(Padding::Symmetric), (0, 84, 384, 216));
        let tall = place((384, 384), Padding::Symmetric, (1080, 1920));
        assert_eq!((tall.left, tall.width, tall.height), (84, 216, 384));
    }
}
