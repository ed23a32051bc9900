//! `vehicle-count demo`: cameras on a real RTSP server, counted, shown, recorded.

mod count;
mod recorder;
mod summary;
mod tally;
mod thinning;

pub(crate) use count::is_inside;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use vehiclecount_core::preset::Preset;

use crate::server::{self, Server, Show};
use crate::source::{self, Address, NamedAddress};
use crate::table::{printable, say};
use count::Demo;

/// Options of `vehicle-count demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Video files to show instead of simulated cameras, one camera each
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    input: Vec<PathBuf>,
    /// RTSP cameras to count on instead of simulated ones, camera-0, camera-1 and so on where no
    /// NAME is given; their lines are appended to the file that is there
    #[arg(long, num_args = 1.., value_name = "[NAME=]URL", conflicts_with = "input")]
    rtsp: Vec<NamedAddress>,
    /// Take every certificate of rtsps:// cameras, also one that nothing vouches for
    #[arg(long, requires = "rtsp")]
    insecure: bool,
    /// Number of simulated cameras
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    cameras: u8,
    /// Seconds until it stops by itself (0: never)
    #[arg(long, default_value_t = 30)]
    duration: u64,
    /// Frames a second of the cameras
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=60))]
    fps: u32,
    /// Need
    #[arg(long, help = crate::preset::help())]
    preset: Option<Preset>,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Engine
    #[arg(long, default_value = "auto", help = crate::engine::help())]
    engine: String,
    /// Regions: a JSON file's path or inline JSON
    #[arg(long, default_value = "")]
    regions: String,
    /// Folder for the annotated video and the counts
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Milliseconds between two lines of a camera at least (0: a line for each frame)
    #[arg(long, default_value_t = 0)]
    every: u32,
    /// Begin a new video file every so many seconds and keep the last 60 (0: one file, whole only
    /// at the end)
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    segment: u64,
    /// Record no video: count alone
    #[arg(long, conflicts_with = "segment")]
    no_video: bool,
    /// Count so many pictures a second of each camera at most, and decode no other than those need
    #[arg(long, requires = "no_video", value_parser = rate)]
    rate: Option<f64>,
    /// Port of the RTSP server on 127.0.0.1 (0: any that is free)
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Counts on the cameras of a server until the time is over or it is interrupted.
///
/// # Errors
/// What no camera is to blame for; and, at the end, why nothing was counted at all.
pub fn run(options: &Options) -> Result<()> {
    let interrupts = Arc::new(AtomicU32::new(0));
    let counted = interrupts.clone();
    ctrlc::set_handler(move || {
        if counted.fetch_add(1, Ordering::Relaxed) > 0 {
            // The second interrupt does not wait for the files.
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;

    // Cameras that are there already need no server of ours.
    let shows = match options.rtsp.is_empty() {
        true => server::shows(&options.input, options.cameras.into())?,
        false => Vec::new(),
    };
    let names = match options.rtsp.is_empty() {
        true => unique(shows.iter().map(server::name).collect()),
        false => source::names(&options.rtsp).map_err(|name| {
            anyhow!("two cameras are called {name:?}: --rtsp NAME=URL gives another name")
        })?,
    };
    fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let server = match options.rtsp.is_empty() {
        true => Some(Server::start(&shows, options.fps, server::LOOPBACK, options.port)?),
        false => None,
    };
    let addresses: Vec<Address> = match &server {
        Some(server) => {
            (0..shows.len()).map(|index| server.url(index).parse()).collect::<Result<_, _>>()?
        }
        None => options.rtsp.iter().map(|camera| camera.address.clone()).collect(),
    };
    if let Some(server) = &server {
        say(format_args!("RTSP server on 127.0.0.1:{}", server.port()));
    }
    for (address, name) in addresses.iter().zip(&names) {
        say(format_args!("  {address}  {}", printable(name)));
    }

    let begin = Instant::now();
    let mut demo = Demo::new(options, &names)?;
    for (index, (name, address)) in names.iter().zip(addresses).enumerate() {
        let simulated = matches!(shows.get(index), Some(Show::Simulated(_)));
        let truths = server.as_ref().filter(|_| simulated).map(|server| server.truths(index));
        let fault = server.as_ref().map(|server| server.fault(index));
        demo.add(index, name, address, truths, fault, begin)?;
    }
    let end = demo.watch(begin, &interrupts);
    let summary = demo.finish(end, begin);
    drop(server);
    summary
}

/// Counts a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=60.0).contains(rate));
    rate.ok_or_else(|| "it is a number from 0.01 to 60".to_owned())
}

/// Names with a number where two would be the same.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut taken: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
        taken.extend(free);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_a_number_of_counts_that_a_camera_can_have() {
        assert_eq!(["0.01", "1", "60"].map(rate), [Ok(0.01), Ok(1.0), Ok(60.0)]);
        for text in ["", "0", "0.009", "61", "-1", "inf", "NaN", "1/2"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_of_one_name_are_told_apart() {
        let names = unique(["a", "a 2", "a", "a", "b"].map(str::to_owned).into());
        assert_eq!(names, ["a", "a 2", "a 3", "a 4", "b"]);
    }
}
