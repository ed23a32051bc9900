//! What a choice depends on beside the models: the machine, its GPU, the engines that are there.

use crate::cuda::Driver;
use crate::engine::{self, EngineKind};
use crate::machine::Machine;

/// A machine and what runs networks on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The machine.
    pub machine: Machine,
    /// The NVIDIA GPU of the index asked for.
    pub gpu: Option<Gpu>,
    /// Engines whose libraries are there, in the order in which `auto` tries them.
    pub engines: Vec<EngineKind>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Bytes of its memory.
    pub memory: u64,
}

impl Surroundings {
    /// This machine, with the GPU of that index. Libraries are looked for, models are not opened.
    pub fn here(gpu: u32) -> Self {
        let device = Driver::open().and_then(|driver| driver.device(gpu)).ok();
        Self {
            machine: Machine::here(),
            gpu: device.map(|gpu| Gpu { name: gpu.name, memory: gpu.memory as u64 }),
            engines: EngineKind::preference()
                .into_iter()
                .filter(|&kind| engine::is_installed(kind))
                .collect(),
        }
    }
}
