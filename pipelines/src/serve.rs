//! `vehicle-count serve`: RTSP cameras that do not exist, to try pipelines on.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::server::{self, Server};
use crate::table::{complain, printable, say};

/// How often it looks for cameras that do not play.
const LOOK: Duration = Duration::from_secs(1);

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

/// Serves until it is interrupted, and says why a camera does not play.
///
/// # Errors
/// A file that is not there, a port that is taken.
pub fn run(options: &Options) -> Result<()> {
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The second interrupt finds the receiver gone.
        let _ = interrupt.send(());
    })
    .context("cannot listen for Ctrl-C")?;
    let shows = server::shows(&options.input, options.cameras.into())?;
    let server = Server::start(&shows, options.fps, &options.address.to_string(), options.port)?;
    for (index, show) in shows.iter().enumerate() {
        say(format_args!("{}  {}", server.url(index), printable(&server::name(show))));
    }
    let mut said = vec![None; shows.len()];
    loop {
        match interrupted.recv_timeout(LOOK) {
            Ok(()) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("nothing can interrupt it any more"),
        }
        for (index, said) in said.iter_mut().enumerate() {
            let fault = server.fault(index).get();
            if let Some(fault) = fault.as_ref().filter(|fault| said.as_ref() != Some(*fault)) {
                complain(&format!("{}: {fault}", server::name(&shows[index])));
            }
            *said = fault;
        }
    }
}
