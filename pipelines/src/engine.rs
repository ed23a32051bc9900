//! `vehicle-count engine`: engines by themselves, with no camera before them.

mod build;
mod inspect;
mod progress;
mod verify;

use anyhow::Result;
use vehiclecount_core::engine::{ENGINES, EngineKind};

pub(crate) use progress::BuildProgress;

/// The help text of an option that names an engine.
pub(crate) fn help() -> String {
    format!("Engine: {}", EngineKind::names())
}

/// The names of the engines that run networks, for help texts and messages.
pub(crate) fn networks() -> String {
    let names: Vec<_> =
        ENGINES.iter().filter(|entry| entry.runs_networks).map(|entry| entry.name).collect();
    names.join(", ")
}

/// What can be done with engines.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Build a model's TensorRT plan beforehand; without --out into the cache, where the first use
    /// finds it
    Build(build::Options),
    /// List the layers of a TensorRT plan, their precisions and sizes
    Inspect(inspect::Options),
    /// Compare what engines count on a model's golden picture with what is expected
    Verify(verify::Options),
}

/// Does what was asked for.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Build(options) => build::run(options),
        Command::Inspect(options) => inspect::run(options),
        Command::Verify(options) => verify::run(options),
    }
}
