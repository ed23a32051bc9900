//! Where records go: an outbox on disk, and a worker for each sink.
//!
//! ```text
//! cameras, recorder ──> Feed ──> intake ──> Outbox ──> worker ──> target
//!                                                └──> worker ──> target
//! ```
//!
//! - [`Feed`] takes in what happens and never waits: what finds no room is dropped and counted.
//! - The intake gives records their ids and writes them to the [`Outbox`], many at a time.
//! - A worker sends the oldest records that wait, in order, and takes them out when its target has
//!   them. It tries again when that fails, with growing pauses.
//!
//! The end of the service waits [`PATIENCE`] for sinks. What they do not take by then waits in the
//! outbox for the next start.

mod file;
mod home_assistant;
mod mqtt;
mod outbox;
mod record;
pub mod status;
mod target;
mod webhook;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vehiclecount_core::event::Event;
use vehiclecount_core::report::FrameReport;
use vehiclecount_core::window::WindowRecord;

use super::board::{Board, unix_time};
use super::log;
use super::recorder::Store;
use crate::config::{RecordKind, Sink};
use outbox::Outbox;
use record::{Record, Register, Subject};
use status::SinkStatus;

/// How long sinks may take what still waits when the service ends.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Subjects on their way to the intake.
const ROOM: usize = 8192;

/// For so long the intake gathers records before it writes them.
const GATHER: Duration = Duration::from_millis(100);

/// How often the intake looks for what is too old.
const TICK: Duration = Duration::from_millis(500);

/// The way of records to all sinks.
#[derive(Clone)]
pub struct Feed {
    send: SyncSender<Subject>,
    sinks: Arc<[(Sink, Arc<SinkStatus>)]>,
    wants_counts: bool,
}

impl Feed {
    /// Takes in what was counted in a picture.
    pub fn count(&self, report: &FrameReport) {
        if self.wants_counts {
            self.put(Subject::Count(Box::new(report.clone())));
        }
    }

    fn put(&self, subject: Subject) {
        if let Err(TrySendError::Full(subject) | TrySendError::Disconnected(subject)) =
            self.send.try_send(subject)
        {
            for (sink, status) in self.sinks.iter() {
                if wants(sink, &subject) {
                    status.lose(1, "they come faster than the outbox is written");
                }
            }
        }
    }
}

impl Store for Feed {
    fn store(&mut self, records: &[WindowRecord], events: &[Event]) {
        records.iter().cloned().map(Subject::Window).for_each(|subject| self.put(subject));
        events.iter().cloned().map(Subject::Event).for_each(|subject| self.put(subject));
    }

    fn tick(&mut self, _: f64) {}
}

/// Whether a sink gets it.
fn wants(sink: &Sink, subject: &Subject) -> bool {
    let is_named = sink.records.contains(&subject.kind());
    match subject {
        Subject::Window(window) => is_named && sink.windows.contains(&window.window),
        Subject::Count(_) | Subject::Event(_) => is_named,
    }
}

/// All sinks at work. They end when this is dropped, after all [`Feed`]s.
pub struct Sinks {
    outbox: Arc<Outbox>,
    /// The intake and the workers say when they have ended.
    intake: Receiver<()>,
    workers: Vec<Receiver<()>>,
}

impl Sinks {
    /// Begins the work for the sinks of a board, with the outbox at `path`. None where there are no
    /// sinks.
    ///
    /// # Errors
    /// The outbox cannot be opened, or no thread be made.
    pub fn start(sinks: &[Sink], path: &Path, board: &Arc<Board>) -> Result<Option<(Self, Feed)>> {
        if sinks.is_empty() {
            return Ok(None);
        }
        let all = sinks.iter().zip(board.sinks.iter().cloned());
        let all: Vec<_> = all.map(|(sink, status)| (sink.clone(), status)).collect();
        let listed: Vec<_> = all.iter().map(|(sink, status)| (sink, status.clone())).collect();
        let outbox = Arc::new(Outbox::open(path, &listed)?);
        let wants_counts = sinks.iter().any(|sink| sink.records.contains(&RecordKind::Count));
        let (send, subjects) = sync_channel(ROOM);
        let feed = Feed { send, sinks: all.into(), wants_counts };
        let (own, listed) = (outbox.clone(), feed.sinks.clone());
        let intake = spawn("outbox", move || take_in(&subjects, &listed, &own))?;
        let workers = feed.sinks.iter().enumerate().map(|(index, (sink, status))| {
            let (sink, outbox, board) = (sink.clone(), outbox.clone(), board.clone());
            let status = status.clone();
            let name = format!("sink-{index}");
            spawn(&name, move || worker::Worker::new(index, sink, status, outbox, board).run())
        });
        let workers = workers.collect::<Result<_>>()?;
        Ok(Some((Self { outbox, intake, workers }, feed)))
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        // A disk that does not respond holds nothing.
        let _ = self.intake.recv_timeout(PATIENCE);
        let end = Instant::now() + PATIENCE;
        self.outbox.finish(end);
        // A farewell to a broker comes on top.
        let end = end + PATIENCE / 4;
        for worker in &self.workers {
            let _ = worker.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
    }
}

/// Runs `work` on a thread. What is given says when it has ended.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Receiver<()>> {
    let (end, ended) = sync_channel(1);
    let run = move || {
        work();
        // Nothing waits for it where the time was over.
        let _ = end.send(());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).context("no thread for a sink")?;
    Ok(ended)
}

/// Writes to the outbox what comes, until nothing can come any more.
fn take_in(subjects: &Receiver<Subject>, sinks: &[(Sink, Arc<SinkStatus>)], outbox: &Outbox) {
    let mut register = Register::new();
    let mut ticked = Instant::now();
    loop {
        let first = subjects.recv_timeout(TICK);
        if matches!(first, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let (mut records, mut next) = (Vec::new(), first.ok());
        let deadline = Instant::now() + GATHER;
        while let Some(subject) = next {
            records.extend(record(&mut register, &subject, sinks));
            let left = deadline.saturating_duration_since(Instant::now());
            next = if records.len() < ROOM { subjects.recv_timeout(left).ok() } else { None };
        }
        if !records.is_empty() {
            outbox.append(records, unix_time());
        }
        if ticked.elapsed() >= TICK {
            outbox.tick(unix_time());
            ticked = Instant::now();
        }
    }
}

/// The record of a subject, and the sinks that get it.
fn record(
    register: &mut Register,
    subject: &Subject,
    sinks: &[(Sink, Arc<SinkStatus>)],
) -> Option<(Record, Vec<usize>)> {
    let wanted = sinks.iter().enumerate().filter(|(_, (sink, _))| wants(sink, subject));
    let wanted: Vec<_> = wanted.map(|(index, _)| index).collect();
    if wanted.is_empty() {
        return None;
    }
    match register.record(subject) {
        Ok(record) => Some((record, wanted)),
        Err(error) => {
            log(&format!("a record cannot be sent: {error}"));
            None
        }
    }
}
