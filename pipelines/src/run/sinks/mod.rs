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
//! Sinks are added, changed and removed while it runs; those that stay as they are notice nothing.
//!
//! The end of the service waits [`PATIENCE`] for sinks. What they do not take by then waits in the
//! outbox for the next start.

mod file;
mod home_assistant;
mod kafka;
mod ledger;
mod mqtt;
mod outbox;
mod postgres;
mod record;
pub mod status;
mod target;
mod webhook;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::{Mutex, RwLock};
use vehiclecount_core::event::Event;
use vehiclecount_core::report::FrameReport;
use vehiclecount_core::window::WindowRecord;

use super::board::{Board, unix_time};
use super::log;
use super::progress::CameraProgress;
use super::recorder::Store;
use crate::config::{RecordKind, Sink};
use ledger::Ticket;
use outbox::Outbox;
use record::{Record, Register, Subject};
use status::SinkStatus;
use worker::Worker;

/// How long sinks may take what still waits when the service ends.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Subjects on their way to the intake.
const ROOM: usize = 8192;

/// For so long the intake gathers records before it writes them.
const GATHER: Duration = Duration::from_millis(100);

/// How often the intake looks for what is too old.
const TICK: Duration = Duration::from_millis(500);

/// One sink at work.
#[derive(Clone)]
struct Member {
    sink: Sink,
    status: Arc<SinkStatus>,
    ticket: Ticket,
}

impl Member {
    /// Whether the sink gets it.
    fn wants(&self, subject: &Subject) -> bool {
        let is_named = self.sink.records.contains(&subject.kind());
        match subject {
            Subject::Window(window) => is_named && self.sink.windows.contains(&window.window),
            Subject::Count(_) | Subject::Event(_) => is_named,
        }
    }
}

/// What the ways in and out of the outbox share.
#[derive(Default)]
struct Shared {
    members: RwLock<Vec<Member>>,
    /// It is opened where there is a sink.
    outbox: OnceLock<Arc<Outbox>>,
}

/// The way of records to all sinks.
#[derive(Clone)]
pub struct Feed {
    send: SyncSender<Passage>,
    shared: Arc<Shared>,
    /// Whether the recorder's progress is kept in the outbox.
    keeps_progress: bool,
}

/// What comes to the intake, in its order.
enum Passage {
    Subject(Subject),
    Progress(Vec<CameraProgress>),
}

impl Feed {
    /// Takes in what was counted in a picture.
    pub fn count(&self, report: &FrameReport) {
        let is_kind = |member: &Member| member.sink.records.contains(&RecordKind::Count);
        if self.shared.members.read().iter().any(is_kind) {
            self.put(Subject::Count(Box::new(report.clone())));
        }
    }

    /// With the recorder's progress, which is kept in the outbox then.
    pub fn with_progress(self) -> Self {
        Self { keeps_progress: true, ..self }
    }

    fn put(&self, subject: Subject) {
        let sent = self.send.try_send(Passage::Subject(subject));
        if let Err(TrySendError::Full(passage) | TrySendError::Disconnected(passage)) = sent
            && let Passage::Subject(subject) = passage
        {
            for member in self.shared.members.read().iter().filter(|one| one.wants(&subject)) {
                member.status.lose(1, "they come faster than the outbox is written");
            }
        }
    }
}

impl Store for Feed {
    fn store(&mut self, records: &[WindowRecord], events: &[Event], progress: &[CameraProgress]) {
        records.iter().cloned().map(Subject::Window).for_each(|subject| self.put(subject));
        events.iter().cloned().map(Subject::Event).for_each(|subject| self.put(subject));
        if self.keeps_progress && !progress.is_empty() {
            // Where there is no room, records are lost too, which is told.
            let _ = self.send.try_send(Passage::Progress(progress.to_vec()));
        }
    }

    fn tick(&mut self, _: f64) {}
}

/// All sinks at work.
pub struct Sinks {
    path: PathBuf,
    board: Arc<Board>,
    /// Sinks of the service itself, which stay.
    own: Vec<Sink>,
    shared: Arc<Shared>,
    work: Mutex<Work>,
}

struct Work {
    /// The intake says when it has ended.
    intake: Receiver<()>,
    /// Workers by the name of their sink. They say when they have ended.
    workers: Vec<(String, Receiver<()>)>,
}

impl Sinks {
    /// Begins the work for the sinks of a board, with the outbox at `path`, which is made where
    /// there is a sink. `own` are sinks of the service itself, which stay.
    ///
    /// # Errors
    /// The outbox cannot be opened, or no thread be made.
    pub fn start(
        own: Vec<Sink>,
        sinks: &[Sink],
        path: &Path,
        board: &Arc<Board>,
    ) -> Result<(Arc<Self>, Feed)> {
        let (send, passages) = sync_channel(ROOM);
        let shared = Arc::<Shared>::default();
        let feed = Feed { send, shared: shared.clone(), keeps_progress: false };
        let taking = shared.clone();
        let intake = spawn("outbox", move || take_in(&passages, &taking))?;
        let work = Mutex::new(Work { intake, workers: Vec::new() });
        let (path, board) = (path.to_owned(), board.clone());
        let all = Arc::new(Self { path, board, own, shared, work });
        all.follow(sinks)?;
        Ok((all, feed))
    }

    /// The sinks are these now. Those that were there already and stay as they are notice nothing.
    /// A sink that is changed keeps what waits for it; what waits for one that is removed is
    /// dropped.
    ///
    /// # Errors
    /// The outbox cannot be opened, and nothing is changed; or no thread be made.
    pub fn follow(&self, sinks: &[Sink]) -> Result<()> {
        let mut work = self.work.lock();
        work.workers.retain(|(_, ended)| matches!(ended.try_recv(), Err(TryRecvError::Empty)));
        let all: Vec<&Sink> = self.own.iter().chain(sinks).collect();
        let mut members = self.shared.members.read().clone();
        let mut begin = Vec::new();
        if self.shared.outbox.get().is_none() && !all.is_empty() {
            let statuses = all.iter().map(|sink| Arc::new(SinkStatus::new(sink)));
            let listed: Vec<_> = all.iter().copied().zip(statuses).collect();
            let outbox = Arc::new(Outbox::open(&self.path, &listed)?);
            for (index, (sink, status)) in listed.into_iter().enumerate() {
                let (sink, ticket) = (sink.clone(), Outbox::first_ticket(index));
                members.push(Member { sink, status, ticket });
                begin.push(index);
            }
            self.board.add_store(outbox.status());
            // Nothing else sets it: the lock is held.
            let _ = self.shared.outbox.set(outbox);
        }
        let Some(outbox) = self.shared.outbox.get() else { return Ok(()) };
        members.retain(|member| {
            let stays = all.iter().any(|sink| sink.name == member.sink.name);
            if !stays {
                outbox.remove(member.ticket);
                member.status.leave();
            }
            stays
        });
        for (place, sink) in all.into_iter().enumerate() {
            let found = members.iter().position(|member| member.sink.name == sink.name);
            let member = match found.map(|index| members.remove(index)) {
                Some(member) if member.sink == *sink => member,
                Some(member) => {
                    log(&format!("sink {}: changed", sink.name));
                    let ticket = outbox.change(member.ticket, sink);
                    member.status.change(sink);
                    begin.push(place);
                    Member { sink: sink.clone(), ticket, ..member }
                }
                None => {
                    log(&format!("sink {}: added", sink.name));
                    let status = Arc::new(SinkStatus::new(sink));
                    let ticket = outbox.add(sink, status.clone());
                    begin.push(place);
                    Member { sink: sink.clone(), status, ticket }
                }
            };
            members.insert(place, member);
        }
        self.board.set_sinks(members.iter().map(|member| member.status.clone()).collect());
        *self.shared.members.write() = members.clone();
        for member in begin.iter().filter_map(|place| members.get(*place)) {
            self.begin(&mut work.workers, member, outbox)?;
        }
        Ok(())
    }

    /// Sets a worker to work, which waits for an earlier one of that name to end.
    fn begin(
        &self,
        workers: &mut Vec<(String, Receiver<()>)>,
        member: &Member,
        outbox: &Arc<Outbox>,
    ) -> Result<()> {
        let name = &member.sink.name;
        let earlier: Vec<_> = workers.extract_if(.., |(other, _)| other == name).collect();
        let (sink, status, ticket) = (member.sink.clone(), member.status.clone(), member.ticket);
        let worker = Worker::new(ticket, sink, status, outbox.clone(), self.board.clone());
        let work = move || {
            for (_, ended) in earlier {
                // It ends without a word where it panics.
                let _ = ended.recv();
            }
            worker.run();
        };
        let ended = spawn(&format!("sink-{}", ticket.sink), work)?;
        workers.push((name.clone(), ended));
        Ok(())
    }

    /// How far the recorder was with each camera, where that was kept in the outbox.
    ///
    /// # Errors
    /// The outbox cannot be read.
    pub fn progress(&self) -> Result<Vec<CameraProgress>> {
        self.shared.outbox.get().map_or_else(|| Ok(Vec::new()), |outbox| outbox.progress())
    }

    /// Ends the work, after all [`Feed`]s: what waits may still be delivered for [`PATIENCE`].
    pub fn finish(&self) {
        let work = self.work.lock();
        // A disk that does not respond holds nothing.
        let _ = work.intake.recv_timeout(PATIENCE);
        let Some(outbox) = self.shared.outbox.get() else { return };
        let end = Instant::now() + PATIENCE;
        outbox.finish(end);
        // A farewell to a broker comes on top.
        let end = end + PATIENCE / 4;
        for (_, worker) in &work.workers {
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
fn take_in(passages: &Receiver<Passage>, shared: &Shared) {
    let mut register = Register::new();
    let mut ticked = Instant::now();
    loop {
        let first = passages.recv_timeout(TICK);
        if matches!(first, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let (mut records, mut progress, mut next) = (Vec::new(), Vec::new(), first.ok());
        let deadline = Instant::now() + GATHER;
        while let Some(passage) = next {
            match passage {
                Passage::Subject(subject) => {
                    records.extend(record(&mut register, &subject, &shared.members.read()));
                }
                Passage::Progress(newer) => progress.extend(newer),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            next = if records.len() < ROOM { passages.recv_timeout(left).ok() } else { None };
        }
        let Some(outbox) = shared.outbox.get() else { continue };
        if !records.is_empty() || !progress.is_empty() {
            outbox.keep(&progress);
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
    members: &[Member],
) -> Option<(Record, Vec<usize>)> {
    let wanted = members.iter().filter(|member| member.wants(subject));
    let wanted: Vec<_> = wanted.map(|member| member.ticket.sink).collect();
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
