//! The processor, for the engines that run on it.

use std::num::NonZero;
use std::thread;

/// Processors that this process may use: its affinity and its container's share.
pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// What an engine on the processor says that it runs on.
pub(super) fn device(lanes: usize) -> String {
    if lanes == 1 { "CPU, 1 thread".to_owned() } else { format!("CPU, {lanes} threads") }
}
