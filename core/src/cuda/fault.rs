//! Results of the driver after which nothing of this process works on the GPU any more.

use super::sys::Code;

/// Each such result, by its number and name in `cuda.h`. NVIDIA's documentation says of them that
/// the process must be terminated and launched again, that the context cannot be used, or that the
/// fault stays until the GPU is reset; 4 is what the driver returns while the process ends. Results
/// that are missing here concern one call alone.
const FATAL: [(Code, &str); 19] = [
    (4, "DEINITIALIZED"),
    (46, "DEVICE_UNAVAILABLE"),
    (214, "ECC_UNCORRECTABLE"),
    (220, "NVLINK_UNCORRECTABLE"),
    // CUDA 12.8.
    (226, "CONTAINED"),
    (700, "ILLEGAL_ADDRESS"),
    (702, "LAUNCH_TIMEOUT"),
    (709, "CONTEXT_IS_DESTROYED"),
    (710, "ASSERT"),
    (714, "HARDWARE_STACK_ERROR"),
    (715, "ILLEGAL_INSTRUCTION"),
    (716, "MISALIGNED_ADDRESS"),
    (717, "INVALID_ADDRESS_SPACE"),
    (718, "INVALID_PC"),
    (719, "LAUNCH_FAILED"),
    // CUDA 12.8.
    (721, "TENSOR_MEMORY_LEAK"),
    (810, "MPS_CLIENT_TERMINATED"),
    (911, "EXTERNAL_DEVICE"),
    (999, "UNKNOWN"),
];

/// The name of a result after which nothing works any more; `None` of any other.
pub(super) fn fatal(code: Code) -> Option<&'static str> {
    FATAL.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}
