//! `vehicle-count run`: the service. It counts on the cameras of a configuration until it is
//! stopped, shows what it counts over HTTP, and tells what happens.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod board;
mod camera;
mod cameras;
mod database;
mod engine;
mod figures;
mod history;
mod http;
mod metrics;
mod past;
mod postgres;
mod progress;
mod recorder;
mod sinks;
mod snapshot;
mod trial;
mod trouble;

use crate::check;
use crate::config::{self, HistoryPlace, Sink};
use crate::table::{printable, say};
use board::{Board, OPENING, REMEMBERED};
use camera::Shared;
use cameras::Cameras;
use engine::{OpenEngine, PATIENCE};
use history::History;
use http::Server;
use progress::CameraProgress;
use recorder::{Recorder, RecorderThread, Stores};
use sinks::{Feed, Sinks};

/// How often systemd hears that the service is well.
const TICK: Duration = Duration::from_secs(2);

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
/// # Errors
/// What is wrong with the configuration, a history that cannot be opened, an address that is taken,
/// an engine that does not open. No camera ends the service.
pub fn run(options: &Options) -> Result<()> {
    let service = check::read(&options.file)?;
    for problem in config::absent(&service, &options.file) {
        log(&format!("it is waited for: {problem}"));
    }
    let orders = orders()?;
    let board = Arc::new(Board::new(&service));
    let own = service.history.as_ref().and_then(|history| match &history.place {
        HistoryPlace::File(_) => None,
        // It may be away: what is recorded waits in the outbox then, as for other sinks.
        HistoryPlace::Postgres(database) => {
            Some(Sink::history(database.as_ref().clone(), history.keep_days))
        }
    });
    let own = own.into_iter().collect();
    let (sinks, feed) = Sinks::start(own, &service.sinks, &service.outbox, &board)?;
    let sinks = Ending(sinks);
    let (http, history) = (service.http.clone(), service.history.clone());
    let (counter, file) = (service.counter.clone(), &options.file);
    let cameras = Arc::new(Cameras::new(file, service, board.clone(), sinks.0.clone()));
    let server = Server::start(&http, board.clone(), cameras.clone())?;
    let (stores, earlier) = stores(history.as_ref(), &board, &sinks.0, &feed)?;
    let (begin, mut told, mut reload) = (Instant::now(), false, false);
    let opened = OpenEngine::open(&counter, |said| {
        if let Some(said) = said {
            log(&said);
            board.set_progress(said);
        } else if !told && begin.elapsed() > PATIENCE {
            log(&format!("opening the engine; {} tells how far it is", server.url()));
            told = true;
        }
        let order = orders.try_recv();
        reload |= order == Ok(Order::Reload);
        order != Ok(Order::Stop)
    })?;
    let Some((engine, description)) = opened else { return Ok(()) };
    board.beat();
    board.set_engine(description, engine.counter.clone());

    let (recorder, samples) = RecorderThread::start(Recorder::new(board.clone(), stores, earlier))?;
    let counter = engine.counter.clone();
    let started = cameras.start(Shared { board: board.clone(), counter, samples, feed });
    let ended = started.and_then(|()| {
        say(server.url());
        if reload {
            read_anew(&cameras);
        }
        serve(&orders, &board, &cameras, &server)
    });
    cameras.stop();
    // All that was counted is recorded before the engine goes.
    drop(recorder);
    drop(sinks);
    drop(engine);
    ended
}

/// Where records and events go, and how far the recorder was when the service ended last.
///
/// # Errors
/// The history or the outbox cannot be opened or read.
fn stores(
    settings: Option<&config::History>,
    board: &Board,
    sinks: &Sinks,
    feed: &Feed,
) -> Result<(Stores, Vec<CameraProgress>)> {
    let file = settings.and_then(|settings| match &settings.place {
        HistoryPlace::File(path) => Some((path, settings.keep_days)),
        HistoryPlace::Postgres(_) => None,
    });
    let Some((path, keep_days)) = file else {
        return Ok((vec![Box::new(feed.clone().with_progress())], sinks.progress()?));
    };
    let history = History::open(path, keep_days, &|said| {
        log(&said);
        board.set_progress(said);
    })?;
    board.set_progress(OPENING.to_owned());
    history.events(REMEMBERED)?.into_iter().for_each(|event| board.add_event(event));
    board.add_store(history.status());
    let earlier = history.progress(REMEMBERED)?;
    Ok((vec![Box::new(feed.clone()), Box::new(history)], earlier))
}

/// Ends the work of sinks when it is dropped, which is after all that gives them records.
struct Ending(Arc<Sinks>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// What the service is told by signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// SIGINT, SIGTERM.
    Stop,
    /// SIGHUP: the configuration is to be read anew.
    Reload,
}

/// Listens for signals.
fn orders() -> Result<Receiver<Order>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot take signals")?;
    let (send, orders) = mpsc::channel();
    let work = move || {
        for signal in signals.forever() {
            let order = if signal == SIGHUP { Order::Reload } else { Order::Stop };
            // Nothing listens any more when it is the second time.
            let _ = send.send(order);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work).context("no thread")?;
    Ok(orders)
}

/// Counts until it is told to stop. Tells systemd how it is, where systemd started it.
fn serve(
    orders: &Receiver<Order>,
    board: &Board,
    cameras: &Cameras,
    server: &Server,
) -> Result<()> {
    tell_systemd(NotifyState::Ready);
    loop {
        match orders.recv_timeout(TICK) {
            Ok(Order::Stop) => break,
            Ok(Order::Reload) => read_anew(cameras),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("no signal can be taken any more"),
        }
        server.renew_certificate();
        if board.failure().is_none() {
            tell_systemd(NotifyState::Watchdog);
        }
    }
    tell_systemd(NotifyState::Stopping);
    Ok(())
}

fn read_anew(cameras: &Cameras) {
    match cameras.reload() {
        Ok(()) => log("the configuration is read"),
        Err(error) => log(&format!("the configuration is not taken: {error}")),
    }
}

fn tell_systemd(state: NotifyState<'_>) {
    // There may be no systemd.
    let _ = sd_notify::notify(&[state]);
}
