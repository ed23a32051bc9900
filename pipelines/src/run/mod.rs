//! `vehicle-count run`: the service. It counts on the cameras of a configuration until it is
//! stopped, shows what it counts over HTTP, and tells what happens.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};

mod board;
mod camera;
mod engine;
mod history;
mod http;
mod metrics;
mod recorder;
mod sinks;

use crate::check;
use crate::table::{printable, say};
use board::{Board, REMEMBERED};
use camera::{CameraThread, Shared};
use engine::{OpenEngine, PATIENCE};
use history::History;
use http::Server;
use recorder::{Recorder, RecorderThread, Store};
use sinks::Sinks;

/// Writes a line of the log, on standard error.
fn log(line: &str) {
    // A reader that is gone does not stop the counting.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(line));
}

/// Options of `vehicle-count run`.
#[derive(clap::Args)]
pub struct Options {
    /// The configuration; docs/counter.toml is the reference
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Counts until it is interrupted.
///
/// # Errors What is wrong with the configuration, a history that cannot be opened, an address that
/// is taken, an engine that does not open. No camera ends the service.
pub fn run(options: &Options) -> Result<()> {
    let service = check::read(&options.file)?;
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        // Nothing listens any more when it is the second time.
        let _ = interrupt.send(());
    })
    .context("cannot listen for Ctrl-C")?;

    let board = Arc::new(Board::new(&service));
    let (sinks, feed) = Sinks::start(&service.sinks, &service.outbox, &board)?.unzip();
    let mut stores: Vec<Box<dyn Store>> = Vec::new();
    if let Some(settings) = &service.history {
        let history = History::open(&settings.path, settings.keep_days)?;
        history.events(REMEMBERED)?.into_iter().for_each(|event| board.add_event(event));
        stores.push(Box::new(history));
    }
    stores.extend(feed.clone().map(|feed| Box::new(feed) as Box<dyn Store>));
    let server = Server::start(service.listen, board.clone())?;
    if !server.address().ip().is_loopback() {
        log(&format!(
            "all who reach {} see cameras and counts: there is no password",
            server.address()
        ));
    }
    let (begin, mut told) = (Instant::now(), false);
    let opened = OpenEngine::open(&service.counter, |said| {
        if let Some(said) = said {
            log(&said);
        } else if !told && begin.elapsed() > PATIENCE {
            log("opening the engine");
            told = true;
        }
        interrupted.try_recv().is_err()
    })?;
    let Some((engine, description)) = opened else { return Ok(()) };
    board.beat();
    board.set_engine(description);

    let (recorder, samples) = RecorderThread::start(Recorder::new(board.clone(), stores))?;
    let shared = Shared { board: board.clone(), counter: service.counter.clone(), samples, feed };
    let cameras: Result<Vec<_>> =
        (0..board.cameras.len()).map(|index| CameraThread::start(index, shared.clone())).collect();
    let cameras = cameras?;
    drop(shared);
    say(server.url());

    let ended = interrupted.recv().context("nothing can interrupt any more");
    cameras.iter().for_each(CameraThread::stop);
    drop(cameras);
    // All that was counted is recorded before the engine goes.
    drop(recorder);
    drop(sinks);
    drop(engine);
    ended
}
