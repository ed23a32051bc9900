//! The command `vehicle-count`: counts vehicles on many cameras, and everything around it.

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
enum Command {}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {}
}
