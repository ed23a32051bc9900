//! What there is of NVIDIA on this machine: the driver and its GPUs. Asked before any call of TensorRT, which without a driver answers
//! with nonsense.

use std::ffi::{CStr, c_char, c_int};

use super::TensorRtError;

/// A GPU, as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name, such as "NVIDIA L4".
    pub name: String,
    /// Compute capability times ten: 89 for 8.9.
    pub capability: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// CUDA version that the driver offers, such as "12.4".
    pub cuda: String,
}

type Plain = unsafe extern "C" fn(c_int) -> c_int;
type ToInt = unsafe extern "C" fn(*mut c_int) -> c_int;
type ToHandle = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type ToName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type ToAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
type ToSize = unsafe extern "C" fn(*mut usize, c_int) -> c_int;

const LIBRARY: &str = "libcuda.so.1";
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];
/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: c_int = 100;

/// All GPUs that the driver shows, never none.
pub fn devices() -> Result<Vec<Device>, TensorRtError> {
    let broken = |error: &dyn std::fmt::Display| TensorRtError::NoDriver { reason: error.to_string() };
    // SAFETY: the driver's library, made to be opened so. It is never closed: other users of it in this process are not its last.
    let driver = unsafe { libloading::Library::new(LIBRARY) }.map_err(|error| {
        broken(&std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
    })?;
    let driver = Box::leak(Box::new(driver));
    // SAFETY: each name is looked up with the signature that the CUDA driver API has given it since CUDA 4.
    let (init, version, count, handle, name, attribute, memory) = unsafe {
        (
            driver.get::<Plain>(b"cuInit\0").map_err(|error| broken(&error))?,
            driver.get::<ToInt>(b"cuDriverGetVersion\0").map_err(|error| broken(&error))?,
            driver.get::<ToInt>(b"cuDeviceGetCount\0").map_err(|error| broken(&error))?,
            driver.get::<ToHandle>(b"cuDeviceGet\0").map_err(|error| broken(&error))?,
            driver.get::<ToName>(b"cuDeviceGetName\0").map_err(|error| broken(&error))?,
            driver.get::<ToAttribute>(b"cuDeviceGetAttribute\0").map_err(|error| broken(&error))?,
            driver.get::<ToSize>(b"cuDeviceTotalMem_v2\0").map_err(|error| broken(&error))?,
        )
    };
    let check = |call: &str, code: c_int| match code {
        0 => Ok(()),
        NO_DEVICE => Err(TensorRtError::NoDevice),
        code => Err(TensorRtError::NoDriver { reason: format!("{call} says error {code}") }),
    };
    let (mut cuda, mut number) = (0, 0);
    // SAFETY: `cuInit` takes no flags but 0; the others write one number each.
    let (begun, told, counted) = unsafe { (init(0), version(&mut cuda), count(&mut number)) };
    check("cuInit", begun)?;
    check("cuDriverGetVersion", told)?;
    check("cuDeviceGetCount", counted)?;
    let cuda = format!("{}.{}", cuda / 1000, cuda % 1000 / 10);
    let mut found = Vec::new();
    for index in 0..number {
        let (mut device, mut text, mut bytes, mut capability) = (0, [0; 256], 0, [0; 2]);
        // SAFETY: the driver has been started and has this device; each call writes to the one place given, the name at most `text`.
        unsafe {
            check("cuDeviceGet", handle(&mut device, index))?;
            check("cuDeviceGetName", name(text.as_mut_ptr(), text.len() as c_int - 1, device))?;
            check("cuDeviceTotalMem", memory(&mut bytes, device))?;
            for (to, which) in capability.iter_mut().zip(CAPABILITY) {
                check("cuDeviceGetAttribute", attribute(to, which, device))?;
            }
        }
        // SAFETY: the last byte of `text` is never written, and is zero.
        let name = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
        let [major, minor] = capability.map(|part| part.unsigned_abs());
        found.push(Device {
            index: index.unsigned_abs(),
            name,
            capability: major * 10 + minor,
            memory: bytes as u64,
            cuda: cuda.clone(),
        });
    }
    if found.is_empty() { Err(TensorRtError::NoDevice) } else { Ok(found) }
}

/// The GPU with `index`.
pub fn device(index: u32) -> Result<Device, TensorRtError> {
    let mut all = devices()?;
    let count = all.len();
    match all.iter().position(|device| device.index == index) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(TensorRtError::NoSuchDevice { index, count }),
    }
}
