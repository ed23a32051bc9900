//! The command `vehicle-count`: counts vehicles on many cameras, and everything around it.

mod synth;

use clap::{Parser, Subcommand};

/// Counts vehicles on many cameras at once.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One file each, in the folder beside this one.
#[derive(Subcommand)]
enum Command {
    /// Write labelled pictures of simulated traffic
    Synth(synth::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Synth(options) => synth::run(&options),
    }
}
