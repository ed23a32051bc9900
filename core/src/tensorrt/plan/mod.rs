//! A plan that has been loaded, and the contexts in which it runs.

mod context;
mod kernels;

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

pub use context::Context;
use kernels::Kernels;
use parking_lot::Mutex;

use super::ffi::{Dims, Tensor};
use super::{Flavour, Library, TensorRtError, log};
use crate::digest;

/// `nvinfer1::DataType::kFLOAT`.
const FLOAT: i32 = 0;
const HALF: i32 = 1;

/// `nvinfer1::TensorFormat::kLINEAR`: row by row, plane by plane.
const LINEAR: i32 = 0;

/// A network that was built for a kind of GPU, loaded onto one: one input of raw RGB, one output of
/// vehicles per cell, both f32.
pub struct Plan {
    library: Arc<Library>,
    runtime: *mut c_void,
    engine: *mut c_void,
    input: CString,
    output: CString,
    profiles: Vec<Profile>,
    /// Rows and columns of the density grid.
    cells: [usize; 2],
    /// Of the plan's bytes; with TensorRT-RTX alone.
    digest: String,
    kernels: Mutex<Option<Kernels>>,
}

/// The batches and the size that a plan was built for.
#[derive(Clone, Copy, Debug)]
struct Profile {
    batches: [usize; 2],
    /// Channels, height, width.
    size: [usize; 3],
}

// SAFETY: TensorRT documents its runtime and its engine as safe to use from several threads; they
// are read and make contexts here.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("library", &self.library)
            .field("profiles", &self.profiles)
            .finish_non_exhaustive()
    }
}

impl Library {
    /// Loads a plan onto the GPU whose context is current. `bytes` are not needed afterwards.
    pub fn load(self: &Arc<Self>, bytes: &[u8]) -> Result<Arc<Plan>, TensorRtError> {
        let runtime = self.runtime()?;
        log::forget();
        // SAFETY: the runtime was just made, and the bytes live through the call.
        let engine = unsafe { (self.shim.engine)(runtime, bytes.as_ptr().cast(), bytes.len()) };
        // From here on `plan` owns both, and drops them in the right order.
        let mut plan = Plan {
            library: self.clone(),
            runtime,
            engine,
            input: CString::default(),
            output: CString::default(),
            profiles: Vec::new(),
            cells: [0; 2],
            digest: if self.flavour() == Flavour::TensorRtRtx {
                digest::sha256(bytes)
            } else {
                String::new()
            },
            kernels: Mutex::new(None),
        };
        if engine.is_null() {
            return Err(TensorRtError::Load {
                library: self.to_string(),
                reason: log::with_reason(""),
            });
        }
        plan.read_shapes()?;
        Ok(Arc::new(plan))
    }
}

impl Plan {
    /// Fills in names and shapes, or says why this is no density network.
    fn read_shapes(&mut self) -> Result<(), TensorRtError> {
        let shim = self.library.shim;
        let expected = "one f32 input of N x 3 x height x width and one f32 output of N x 1 x rows x columns, both linear (trtexec: --inputIOFormats=fp32:chw --outputIOFormats=fp32:chw)";
        let wrong = |what: String| TensorRtError::Shape { what, expected: expected.to_owned() };
        let mut tensors = Vec::new();
        // SAFETY: the engine lives; the shim fills a tensor whose name is the engine's own text.
        let count = unsafe { (shim.engine_tensors)(self.engine) };
        for index in 0..count {
            let mut tensor = MaybeUninit::<Tensor>::zeroed();
            // SAFETY: as above; all bytes zero is a valid tensor. The name is copied before the
            // engine can go.
            let (tensor, name) = unsafe {
                if (shim.engine_tensor)(self.engine, index, tensor.as_mut_ptr()) == 0 {
                    continue;
                }
                let tensor = tensor.assume_init();
                let name = CStr::from_ptr(tensor.name).to_owned();
                (tensor, name)
            };
            tensors.push((name, tensor));
        }
        let described = || {
            let each = tensors.iter().map(|(name, tensor)| {
                let kind = if tensor.input != 0 { "an input" } else { "an output" };
                format!(
                    "{kind} {name:?} of {}{} {:?}",
                    type_name(tensor.data_type),
                    if tensor.format == LINEAR { "" } else { " that is not linear in memory" },
                    tensor.dims.sizes().unwrap_or_default()
                )
            });
            each.collect::<Vec<_>>().join(", ")
        };
        let [(first, one), (second, two)] = tensors.as_slice() else {
            return Err(wrong(described()));
        };
        let (input, output) = match (one.input != 0, two.input != 0) {
            (true, false) => ((first, one), (second, two)),
            (false, true) => ((second, two), (first, one)),
            _ => return Err(wrong(described())),
        };
        let four = |tensor: &Tensor| {
            tensor.data_type == FLOAT && tensor.format == LINEAR && tensor.dims.count == 4
        };
        if !four(input.1) || !four(output.1) || input.1.dims.at[1] != 3 || output.1.dims.at[1] != 1
        {
            return Err(wrong(described()));
        }
        // SAFETY: the engine lives.
        let count = unsafe { (shim.engine_profiles)(self.engine) };
        let size = |dims: &Dims, at: usize| usize::try_from(dims.at[at]).unwrap_or(0);
        for index in 0..count {
            // SAFETY: the engine lives, and the name is one of its own.
            let [least, most] = [0, 2].map(|which| unsafe {
                (shim.engine_profile)(self.engine, input.0.as_ptr(), index, which)
            });
            let profile = Profile {
                batches: [size(&least, 0), size(&most, 0)],
                size: [size(&most, 1), size(&most, 2), size(&most, 3)],
            };
            if least.count == 4 && most.count == 4 && profile.batches[1] > 0 {
                self.profiles.push(profile);
            }
        }
        let Some(profile) = self.profiles.first() else {
            return Err(wrong(format!("{} and no profile", described())));
        };
        let [channels, height, width] = profile.size;
        let dims = Dims::of([profile.batches[1], channels, height, width]);
        log::forget();
        // SAFETY: the engine lives, the names are its own, and the sizes live through the call.
        let made =
            unsafe { (shim.engine_shape)(self.engine, input.0.as_ptr(), &dims, output.0.as_ptr()) };
        self.cells = [2, 3].map(|at| size(&made, at));
        if self.cells.contains(&0) {
            return Err(wrong(format!(
                "{} whose size is not to be had: {}",
                described(),
                log::with_reason("")
            )));
        }
        (self.input, self.output) = (input.0.clone(), output.0.clone());
        Ok(())
    }

    /// Number of optimization profiles, at least 1.
    pub fn profiles(&self) -> usize {
        self.profiles.len()
    }

    /// The largest batch of the first profile.
    pub fn max_batch(&self) -> usize {
        self.profiles[0].batches[1]
    }

    /// The smallest batch of the first profile: 1 with a plan of ours, more perhaps with one of
    /// trtexec's.
    pub fn min_batch(&self) -> usize {
        self.profiles[0].batches[0]
    }

    /// Channels, height and width of the first profile's input.
    pub fn input_shape(&self) -> [usize; 3] {
        self.profiles[0].size
    }

    /// Channels (1), rows and columns of the output.
    pub fn output_shape(&self) -> [usize; 3] {
        [1, self.cells[0], self.cells[1]]
    }

    /// Bytes of GPU memory that each context needs beside the weights.
    pub fn context_memory(&self) -> u64 {
        // SAFETY: the engine lives.
        unsafe { (self.library.shim.engine_memory)(self.engine) }.max(0).unsigned_abs()
    }

    /// Number of layers after fusion.
    pub fn layers(&self) -> usize {
        // SAFETY: the engine lives.
        usize::try_from(unsafe { (self.library.shim.engine_layers)(self.engine) }).unwrap_or(0)
    }

    /// What TensorRT tells of the layers, as its JSON. Names alone, unless the plan was built with
    /// details.
    pub fn inspect(&self) -> Result<String, TensorRtError> {
        log::forget();
        let mut json = Vec::<u8>::new();
        // SAFETY: the engine lives, and `append` gets the `Vec` that it is made for.
        let told = unsafe {
            (self.library.shim.engine_inspect)(self.engine, ptr::from_mut(&mut json).cast(), append)
        };
        if told == 0 {
            return Err(self.failed("it tells nothing of the plan"));
        }
        Ok(String::from_utf8_lossy(&json).into_owned())
    }

    fn failed(&self, what: &str) -> TensorRtError {
        TensorRtError::Run { library: self.library.to_string(), reason: log::with_reason(what) }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.write_kernels();
        if let Some(kernels) = self.kernels().take() {
            // SAFETY: no context is left that uses them.
            unsafe { (self.library.shim.kernels_drop)(kernels.cache) };
        }
        // SAFETY: no context is left, as each holds the plan; both are this plan's own and dropped
        // once, the engine before its runtime.
        unsafe {
            if !self.engine.is_null() {
                (self.library.shim.engine_drop)(self.engine);
            }
            (self.library.shim.runtime_drop)(self.runtime);
        }
    }
}

/// Appends to the `Vec<u8>` that `user` is.
///
/// # Safety
///
/// `user` is a `*mut Vec<u8>` that is not used elsewhere meanwhile, and `text` is `length` bytes
/// long.
pub(super) unsafe extern "C" fn append(user: *mut c_void, text: *const c_char, length: usize) {
    // SAFETY: the caller's word.
    unsafe {
        (*user.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(text.cast(), length))
    }
}

fn type_name(data_type: i32) -> &'static str {
    match data_type {
        FLOAT => "f32",
        HALF => "f16",
        2 => "int8",
        3 => "int32",
        _ => "another type",
    }
}
