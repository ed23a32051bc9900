//! From nvinfer's output tensor to a density map.

use half::f16;
use vehiclecount_core::cuda::{CudaError, Driver, Stream};
use vehiclecount_core::density::Grid;
use vehiclecount_core::preprocess::{InputSize, Placement};

use super::batch::{Frame, Padding, Place, Tensor, Tensors};
use super::library::REPORT;

/// Name of the output of our models.
const DENSITY: &str = "density";

/// `NvDsInferDataType`.
const FLOAT: i32 = 0;
const HALF: i32 = 1;

/// Why a density could not be read.
#[derive(Debug)]
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

/// The values of `tensor`, as `f32`; of what is on a GPU, that is GPU `gpu`.
pub fn read(tensor: &Tensor, gpu: i32) -> Result<Vec<f32>, TensorError> {
    let name = &tensor.name;
    let setup = |reason| Err(TensorError::Setup(reason));
    let bytes = match tensor.data_type {
        FLOAT => 4,
        HALF => 2,
        other => {
            return setup(format!(
                "output {name:?} has the data type {other}; a density is float (0) or half (1)"
            ));
        }
    };
    let raw = match tensor.place {
        // SAFETY: nvinfer fills `elements` values of the type at this address, and keeps them as
        // long as the buffer is held.
        Some(Place::Host(pointer)) => unsafe {
            std::slice::from_raw_parts(
                pointer.as_ptr().cast::<u8>().cast_const(),
                tensor.elements * bytes,
            )
            .to_vec()
        },
        Some(Place::Device(address)) => match download(gpu, address, tensor.elements * bytes) {
            Ok(raw) => raw,
            Err(error) => {
                return setup(format!(
                    "output {name:?} is in GPU memory only ({error}); set disable-output-host-copy=0 in nvinfer's configuration"
                ));
            }
        },
        None => return setup(format!("output {name:?} has no values")),
    };
    let values: Vec<f32> = match bytes {
        4 => raw.as_chunks::<4>().0.iter().map(|value| f32::from_ne_bytes(*value)).collect(),
        _ => {
            raw.as_chunks::<2>().0.iter().map(|value| f16::from_ne_bytes(*value).to_f32()).collect()
        }
    };
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(TensorError::Value(format!("the density has a cell of {value}"))),
        None => Ok(values),
    }
}

/// A copy of what nvinfer left on a GPU.
fn download(gpu: i32, address: u64, bytes: usize) -> Result<Vec<u8>, CudaError> {
    let context = Driver::open()?.context(u32::try_from(gpu).unwrap_or(0))?;
    let stream = Stream::new(&context)?;
    let mut raw = vec![0u8; bytes];
    // SAFETY: nvinfer has filled that many bytes at this address of the GPU, in its primary
    // context, and keeps them as long as the buffer is held; the host's side stays until the stream
    // has been waited for.
    unsafe { stream.download(raw.as_mut_ptr(), address, bytes)? };
    stream.synchronize()?;
    Ok(raw)
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
