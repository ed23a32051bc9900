//! `vehicle-count serve`: RTSP cameras that do not exist, to try pipelines on.

use std::path::PathBuf;
use std::sync::mpsc;

use anyhow::{Context, Result};

use crate::server::{self, Server};

/// Options of `vehicle-count serve`.
#[derive(clap::Args)]
pub struct Options {
    /// Video files to show instead of simulated cameras, one camera each
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    input: Vec<PathBuf>,
    /// Number of simulated cameras
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    cameras: u8,
    /// Frames a second of the cameras
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=60))]
    fps: u32,
    /// Address to listen on; 0.0.0.0 lets other machines and containers watch
    #[arg(long, default_value = server::LOOPBACK)]
    address: std::net::IpAddr,
    /// Port to listen on (0: any that is free)
    #[arg(long, default_value_t = 8554)]
    port: u16,
}

/// Serves until somebody interrupts.
pub fn run(options: &Options) -> Result<()> {
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        // Nobody listens any more when it is the second time.
        let _ = interrupt.send(());
    })
    .context("cannot listen for Ctrl-C")?;
    let shows = server::shows(&options.input, options.cameras.into())?;
    let server = Server::start(&shows, options.fps, &options.address.to_string(), options.port)?;
    for (index, show) in shows.iter().enumerate() {
        println!("{}  {}", server.url(index), server::name(show));
    }
    interrupted.recv().context("nobody can interrupt any more")
}
