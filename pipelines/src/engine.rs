//! `vehicle-count engine`: engines by themselves, with no camera before them.

use anyhow::Result;

use crate::verify;

/// What can be done with engines.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Compare what engines count on a model's golden picture with what is expected
    Verify(verify::Options),
}

/// Does what was asked for.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Verify(options) => verify::run(options),
    }
}
