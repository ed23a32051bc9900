//! NVIDIA's driver: whether it is there, and which GPUs it has.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use libloading::Library;
use once_cell::sync::OnceCell;

use super::CudaError;
use super::fault::fatal;
use super::sys::{self, Code, Table};
use crate::places::loader_said;

/// The CUDA version that a driver must offer at least: 12.0, driver 525, the oldest that loads the
/// kernels that ship.
pub const OLDEST_DRIVER: i32 = 12000;

/// The driver's file name: the same for every version of it on Linux.
const LIBRARY: &str = "libcuda.so.1";

/// The driver, opened and started.
pub struct Driver {
    pub(super) table: Table,
    version: i32,
}

/// What is known of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its place in the driver's order.
    pub index: u32,
    /// Its name, such as "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// Its compute capability, such as (9, 0).
    pub compute_capability: (u32, u32),
    /// Its memory in bytes.
    pub memory: usize,
    /// Its streaming multiprocessors.
    pub multiprocessors: u32,
}

impl DeviceInfo {
    /// Its model: name, multiprocessors and memory. Cards of one compute capability differ in all
    /// three, and what is fast or works on one may not be or do so on another.
    pub fn model(&self) -> String {
        let gib = (self.memory as f64 / f64::from(1 << 30)).round();
        format!("{}, {} SMs, {gib} GiB", self.name, self.multiprocessors)
    }
}

/// Opened once in a process; where that fails, the next one to ask tries again.
static DRIVER: OnceCell<Driver> = OnceCell::new();

impl Driver {
    /// The driver of this machine.
    pub fn open() -> Result<&'static Self, CudaError> {
        DRIVER.get_or_try_init(|| {
            // SAFETY: the driver's library is made to be opened so.
            let library = unsafe { Library::new(LIBRARY) };
            let library =
                library.map_err(|error| CudaError::NoDriver { said: loader_said(&error) })?;
            // SAFETY: only NVIDIA's driver has this name.
            let table = unsafe { Table::find(library) };
            let table = table
                .map_err(|missing| CudaError::OldDriver { what: format!("it has no {missing}") })?;
            let mut driver = Self { table, version: 0 };
            // SAFETY: no arguments but the flags, which must be 0.
            match unsafe { (driver.table.init)(0) } {
                sys::SUCCESS => {}
                sys::ERROR_NO_DEVICE => return Err(CudaError::NoDevice),
                sys::ERROR_STUB_LIBRARY => {
                    let reason =
                        "the libcuda.so.1 that was found is the CUDA toolkit's stub for linking"
                            .to_owned();
                    return Err(CudaError::Init { reason });
                }
                code => return Err(CudaError::Init { reason: driver.describe(code) }),
            }
            let mut version = 0;
            // SAFETY: writes one integer.
            driver.check("cuDriverGetVersion", unsafe {
                (driver.table.driver_get_version)(&mut version)
            })?;
            driver.version = version;
            if driver.version < OLDEST_DRIVER {
                return Err(CudaError::OldDriver {
                    what: format!("it offers CUDA {}", driver.cuda_version()),
                });
            }
            Ok(driver)
        })
    }

    /// The newest CUDA version that it offers, such as "12.4".
    pub fn cuda_version(&self) -> String {
        format!("{}.{}", self.version / 1000, self.version % 1000 / 10)
    }

    /// Number of GPUs.
    pub fn device_count(&self) -> Result<u32, CudaError> {
        let mut count: c_int = 0;
        // SAFETY: writes one integer.
        self.check("cuDeviceGetCount", unsafe { (self.table.device_get_count)(&mut count) })?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// What is known of GPU `index`.
    pub fn device(&self, index: u32) -> Result<DeviceInfo, CudaError> {
        self.describe_device(self.device_handle(index)?, index)
    }

    pub(super) fn device_handle(&self, index: u32) -> Result<sys::Device, CudaError> {
        let count = self.device_count()?;
        if count == 0 {
            return Err(CudaError::NoDevice);
        }
        if index >= count {
            return Err(CudaError::NoSuchDevice { index, count });
        }
        let mut device = 0;
        // SAFETY: writes one handle, for an index below the count.
        self.check("cuDeviceGet", unsafe { (self.table.device_get)(&mut device, index as c_int) })?;
        Ok(device)
    }

    pub(super) fn describe_device(
        &self,
        device: sys::Device,
        index: u32,
    ) -> Result<DeviceInfo, CudaError> {
        let mut name = [0 as c_char; 256];
        // SAFETY: writes at most 255 characters and a zero.
        self.check("cuDeviceGetName", unsafe {
            (self.table.device_get_name)(name.as_mut_ptr(), 255, device)
        })?;
        let attribute = |attribute| {
            let mut value: c_int = 0;
            // SAFETY: writes one integer.
            let code = unsafe { (self.table.device_get_attribute)(&mut value, attribute, device) };
            self.check("cuDeviceGetAttribute", code).map(|()| u32::try_from(value).unwrap_or(0))
        };
        let mut memory = 0;
        // SAFETY: writes one size.
        self.check("cuDeviceTotalMem", unsafe {
            (self.table.device_total_mem)(&mut memory, device)
        })?;
        Ok(DeviceInfo {
            index,
            // SAFETY: the driver ends the name with a zero inside the array, whose last byte it
            // cannot reach.
            name: unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned(),
            compute_capability: (
                attribute(sys::ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(sys::ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            memory,
            multiprocessors: attribute(sys::ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        })
    }

    /// Name, text and number of a result.
    pub(super) fn describe(&self, code: Code) -> String {
        let text = |function: unsafe extern "C" fn(Code, *mut *const c_char) -> Code| {
            let mut text = ptr::null();
            // SAFETY: writes a pointer to a constant of the driver, or null for a number that it
            // does not know.
            let found = unsafe { function(code, &mut text) } == sys::SUCCESS && !text.is_null();
            // SAFETY: see above: a zero-terminated constant.
            found.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (text(self.table.get_error_name), text(self.table.get_error_string)) {
            (Some(name), Some(string)) => format!("{string} ({name}, {code})"),
            // A driver may return a result that a library which is newer than itself has brought
            // along.
            _ => fatal(code).map_or_else(
                || format!("error {code}"),
                |name| format!("CUDA_ERROR_{name}, {code}"),
            ),
        }
    }

    /// The error that `code` is, if it is one.
    pub(super) fn check(&self, call: &'static str, code: Code) -> Result<(), CudaError> {
        match code {
            sys::SUCCESS => Ok(()),
            code if fatal(code).is_some() => {
                Err(CudaError::Lost { call, reason: self.describe(code) })
            }
            code => Err(CudaError::Call { call, reason: self.describe(code) }),
        }
    }

    /// As [`check`](Self::check), for a call that takes `bytes` of memory for `what`.
    pub(super) fn check_memory(
        &self,
        call: &'static str,
        code: Code,
        what: &'static str,
        bytes: usize,
    ) -> Result<(), CudaError> {
        if code == sys::ERROR_OUT_OF_MEMORY {
            Err(CudaError::OutOfMemory { what, bytes })
        } else {
            self.check(call, code)
        }
    }
}
