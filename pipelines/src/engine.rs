//! `vehicle-count engine`: engines by themselves, with no camera before them.

mod build;
mod inspect;

use anyhow::Result;

use crate::verify;

/// What can be done with engines.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Build a model's TensorRT plan beforehand; without --out into the cache, where the first use finds it
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
