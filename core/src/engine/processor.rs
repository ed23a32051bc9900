//! The processor, for the engines that run on it.

pub(super) use crate::machine::processors;

/// What an engine on the processor says that it runs on.
pub(super) fn device(lanes: usize) -> String {
    if lanes == 1 { "CPU, 1 thread".to_owned() } else { format!("CPU, {lanes} threads") }
}
