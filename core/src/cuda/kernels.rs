//! The kernels: their code, what they are told, and how they are launched.
//!
//! `preprocess/kernel.cu` and `density.cu` are the sources; the PTX beside them was made from them
//! by NVRTC 12.0 for compute capability 7.5, which every driver since 525 loads and compiles for
//! the GPU at hand. A test makes it anew and compares.

use std::ffi::{CString, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::Arc;

use super::{Context, CudaError, DeviceBuffer, Plain, Stream, sys};
use crate::frame::{Components, FrameFormat, Layout, Samples};
use crate::preprocess::color::Color;
use crate::preprocess::{InputSize, Placement};

/// `preprocess/kernel.cu`, compiled.
pub const PREPROCESS_PTX: &str = include_str!("../preprocess/kernel.ptx");

/// `density.cu`, compiled.
pub const COUNT_PTX: &str = include_str!("../density.ptx");

/// Regions of one frame that are counted on the GPU at most.
pub const MAX_REGIONS: usize = 31;

/// As in kernel.cu: columns of the input for each block.
const TILE: usize = 128;

/// Largest side of a picture: with inputs up to 4096 the kernel's integers have room up to here.
const MAX_SIDE: usize = 32768;

/// Threads of a block, for both kernels.
const THREADS: u32 = 128;

/// Blocks that share the regions of a frame.
const COUNT_BLOCKS: u32 = 4;

/// What the kernel is told of one picture: `Picture` in kernel.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PictureOrder {
    planes: [PlaneOrder; 3],
    components: [ComponentOrder; 3],
    kind: i32,
    bytes: i32,
    shift: i32,
    width: i32,
    height: i32,
    left: i32,
    top: i32,
    fit_width: i32,
    fit_height: i32,
    luma_gain: f32,
    luma_offset: f32,
    red_v: f32,
    green_u: f32,
    green_v: f32,
    blue_u: f32,
    slot: i32,
    padding: i32,
}

/// `Plane` in kernel.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PlaneOrder {
    address: u64,
    stride: i32,
    group: i32,
    covers: i32,
    phase: i32,
}

/// `Component` in kernel.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ComponentOrder {
    plane: i32,
    offset: i32,
    step: i32,
    covers: i32,
    phase: i32,
}

const _: () = assert!(size_of::<PictureOrder>() == 200 && offset_of!(PictureOrder, slot) == 192);

// SAFETY: numbers without gaps between them, as the size says.
unsafe impl Plain for PictureOrder {}

impl PictureOrder {
    /// A picture of `format`, placed as `placement` says, goes to input `slot` of the batch. Of
    /// each plane: its address on the GPU, the bytes from row to row, and how many bytes there are.
    pub fn new(
        format: FrameFormat,
        placement: Placement,
        planes: &[(u64, usize, usize)],
        slot: usize,
    ) -> Result<Self, CudaError> {
        let FrameFormat { pixels, width, height, .. } = format;
        let refused = |what: String| Err(CudaError::Picture(what));
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return refused(format!(
                "picture of {width}x{height}: sides go from 1 to {MAX_SIDE} pixels on the GPU"
            ));
        }
        if planes.len() != pixels.planes() {
            return refused(format!(
                "{pixels:?} picture with {} planes: it needs {}",
                planes.len(),
                pixels.planes()
            ));
        }
        let Layout { kind, components, depth } = pixels.layout();
        let color = Color::new(format);
        let mut order = Self {
            kind: match kind {
                Components::Gray => 0,
                Components::Rgb => 1,
                Components::Yuv => 2,
            },
            bytes: depth.bytes as i32,
            shift: depth.shift as i32,
            width: width as i32,
            height: height as i32,
            left: placement.left as i32,
            top: placement.top as i32,
            fit_width: placement.width as i32,
            fit_height: placement.height as i32,
            luma_gain: color.luma_gain,
            luma_offset: color.luma_offset,
            red_v: color.red_v,
            green_u: color.green_u,
            green_v: color.green_v,
            blue_u: color.blue_u,
            slot: slot as i32,
            ..Self::default()
        };
        for (index, &(address, stride, bytes)) in planes.iter().enumerate() {
            let (groups, rows, size) = format.plane_size(index);
            let row = groups * size;
            let Ok(held) = i32::try_from(stride) else {
                return refused(format!("plane {index}: stride of {stride} bytes"));
            };
            if stride < row {
                return refused(format!(
                    "plane {index}: stride of {stride} bytes is shorter than a row of {row} bytes"
                ));
            }
            let need = stride * (rows - 1) + row;
            if bytes < need || address == 0 {
                return refused(format!(
                    "plane {index}: {bytes} bytes of memory where {need} are needed"
                ));
            }
            let group = (size / depth.bytes) as i32;
            order.planes[index] =
                PlaneOrder { address, stride: held, group, ..PlaneOrder::default() };
        }
        for (index, component) in order.components.iter_mut().enumerate().take(components.len()) {
            let Samples { plane, offset, step, covers, phase, .. } = format.samples(index);
            *component = ComponentOrder {
                plane: plane as i32,
                offset: offset as i32,
                step: step as i32,
                covers: covers.0 as i32,
                phase: phase.0 as i32,
            };
            (order.planes[plane].covers, order.planes[plane].phase) =
                (covers.1 as i32, phase.1 as i32);
        }
        Ok(order)
    }

    /// Input `slot` has been filled otherwise: nothing is done.
    pub fn nothing(slot: usize) -> Self {
        Self { kind: -1, slot: slot as i32, ..Self::default() }
    }
}

/// What the kernel is told of one density map: `Order` in density.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CountOrder {
    weights: u64,
    regions: i32,
    padding: i32,
}

// SAFETY: numbers without gaps between them.
unsafe impl Plain for CountOrder {}

impl CountOrder {
    /// Counts `regions` regions whose weights, region by region, lie at `weights`, beside the
    /// whole.
    ///
    /// # Panics
    /// With more than [`MAX_REGIONS`].
    pub fn new(weights: u64, regions: usize) -> Self {
        assert!(regions <= MAX_REGIONS, "{regions} regions");
        Self { weights, regions: regions as i32, padding: 0 }
    }
}

/// The kernels, loaded for one context.
pub struct Kernels {
    context: Arc<Context>,
    modules: [sys::ModuleHandle; 2],
    preprocess: sys::FunctionHandle,
    count: sys::FunctionHandle,
}

// SAFETY: modules and functions may be used from any thread; they are not changed.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

impl Kernels {
    /// Loads the kernels, which the driver compiles for the GPU if it has not done so before.
    pub fn load(context: &Arc<Context>) -> Result<Self, CudaError> {
        let null = ptr::null_mut();
        let mut kernels =
            Self { context: context.clone(), modules: [null; 2], preprocess: null, count: null };
        (kernels.modules[0], kernels.preprocess) = load(context, PREPROCESS_PTX, c"preprocess")?;
        (kernels.modules[1], kernels.count) = load(context, COUNT_PTX, c"count")?;
        Ok(kernels)
    }

    /// Turns `count` pictures into model inputs, `inputs` being the address of the batch of f32
    /// `[3, height, width]`.
    ///
    /// # Safety
    /// `orders` is the address of so many [`PictureOrder`]s on the GPU; they and what they name
    /// stay until the stream has passed this.
    pub unsafe fn preprocess(
        &self,
        stream: &Stream,
        orders: u64,
        count: usize,
        inputs: u64,
        input: InputSize,
    ) -> Result<(), CudaError> {
        let (mut orders, mut inputs) = (orders, inputs);
        let (mut width, mut height) = (input.width as c_int, input.height as c_int);
        let mut arguments =
            [pointer(&mut orders), pointer(&mut inputs), pointer(&mut width), pointer(&mut height)];
        let grid = (input.width.div_ceil(TILE) as u32, input.height as u32, count as u32);
        // SAFETY: the types of the kernel's arguments, which are copied now; the rest is the
        // caller's.
        unsafe { stream.launch(self.preprocess, grid, THREADS, &mut arguments) }
    }

    /// Counts in `count` density maps of `cells` cells each, one behind the other at `density`.
    /// Frame by frame, `MAX_REGIONS + 1` results are written to `results`: the whole, then the
    /// regions. The whole is finite only if every cell is.
    ///
    /// # Safety
    /// `orders` is the address of so many [`CountOrder`]s on the GPU; they and what they name stay
    /// until the stream has passed this.
    pub unsafe fn count(
        &self,
        stream: &Stream,
        orders: u64,
        count: usize,
        density: u64,
        results: u64,
        cells: usize,
    ) -> Result<(), CudaError> {
        let (mut orders, mut density, mut results) = (orders, density, results);
        let (mut cells, mut stride) = (cells as c_int, (MAX_REGIONS + 1) as c_int);
        let mut arguments = [
            pointer(&mut orders),
            pointer(&mut density),
            pointer(&mut results),
            pointer(&mut cells),
            pointer(&mut stride),
        ];
        // SAFETY: the types of the kernel's arguments, which are copied now; the rest is the
        // caller's.
        unsafe {
            stream.launch(self.count, (COUNT_BLOCKS, count as u32, 1), THREADS, &mut arguments)
        }
    }

    /// The model inputs of `orders`, as values: for tests and checks, which wait for each batch.
    pub fn preprocess_now(
        &self,
        orders: &[PictureOrder],
        input: InputSize,
    ) -> Result<Vec<f32>, CudaError> {
        let stream = Stream::new(&self.context)?;
        let told = DeviceBuffer::holding(&self.context, orders, "orders")?;
        let inputs =
            DeviceBuffer::new(&self.context, 4 * input.values() * orders.len(), "model inputs")?;
        // SAFETY: both buffers are as long as they are said to be, and stay until the stream has
        // been waited for.
        unsafe { self.preprocess(&stream, told.address(), orders.len(), inputs.address(), input)? };
        stream.synchronize()?;
        inputs.read()
    }

    /// The counts of `density`, maps of `cells` cells one behind the other, whole first: for tests
    /// and checks, which wait for each batch.
    pub fn count_now(
        &self,
        orders: &[CountOrder],
        density: &[f32],
        cells: usize,
    ) -> Result<Vec<Vec<f32>>, CudaError> {
        let stream = Stream::new(&self.context)?;
        let told = DeviceBuffer::holding(&self.context, orders, "orders")?;
        let maps = DeviceBuffer::holding(&self.context, density, "density maps")?;
        let stride = MAX_REGIONS + 1;
        let zeros = vec![0.0f32; stride * orders.len()];
        let results = DeviceBuffer::holding(&self.context, &zeros, "counts")?;
        // SAFETY: the buffers are as long as they are said to be, and stay until the stream has
        // been waited for.
        unsafe {
            self.count(
                &stream,
                told.address(),
                orders.len(),
                maps.address(),
                results.address(),
                cells,
            )?
        };
        stream.synchronize()?;
        let results = results.read::<f32>()?;
        let rows = results.chunks_exact(stride).zip(orders);
        Ok(rows.map(|(row, order)| row[..=order.regions as usize].to_vec()).collect())
    }

    /// The context that they are loaded for.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        let Ok(_entered) = self.context.enter() else { return };
        for module in self.modules.into_iter().filter(|module| !module.is_null()) {
            // SAFETY: loaded in `load`; every launch was waited for by its caller.
            unsafe { (self.context.driver.table.module_unload)(module) };
        }
    }
}

fn load(
    context: &Arc<Context>,
    ptx: &str,
    name: &std::ffi::CStr,
) -> Result<(sys::ModuleHandle, sys::FunctionHandle), CudaError> {
    let driver = context.driver;
    let _entered = context.enter()?;
    let text = CString::new(ptx)
        .map_err(|_| CudaError::Picture("a kernel's PTX has a zero in it".to_owned()))?;
    let mut module = ptr::null_mut();
    // SAFETY: writes one handle; the text ends with a zero.
    let code = unsafe { (driver.table.module_load_data)(&mut module, text.as_ptr().cast()) };
    driver.check_memory("cuModuleLoadData", code, "the kernels", 0)?;
    let mut function = ptr::null_mut();
    // SAFETY: writes one handle, of a function of the module just loaded.
    let code = unsafe { (driver.table.module_get_function)(&mut function, module, name.as_ptr()) };
    if let Err(error) = driver.check("cuModuleGetFunction", code) {
        // SAFETY: loaded above, not in use.
        unsafe { (driver.table.module_unload)(module) };
        return Err(error);
    }
    Ok((module, function))
}

fn pointer<T>(value: &mut T) -> *mut c_void {
    ptr::from_mut(value).cast()
}
