//! Records that wait for their sinks, in an SQLite file: bounded, in order, and gone only when the
//! sink has them or there is no room for them any more.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, params};

use super::ledger::{Ledger, OVERHEAD, Ticket, Waiting};
use super::record::Record;
use super::status::{SinkState, SinkStatus};
use crate::config::Sink;
use crate::run::progress::{self, CameraProgress, Pending};
use crate::run::{database, log};

/// Version of the tables, `user_version` of the file.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE waiting (
        sink TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL,
        id TEXT NOT NULL, camera TEXT NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL,
        PRIMARY KEY (sink, seq)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Records of a sink that wait in memory while the file cannot be written. The oldest of them go
/// first.
const ROOM: usize = 20_000;

/// Times before this one, in 2020, are those of a clock that was not set: they tell no age.
const CLOCK: f64 = 1_577_836_800.0;

/// Pages of the file that are given back at a time.
const PAGES: u32 = 1024;

struct State {
    connection: Connection,
    next: i64,
    /// None: a sink that was removed.
    sinks: Vec<Option<Ledger>>,
    /// How far the recorder is, where that is kept here.
    progress: Pending,
    /// How the file is, as for a sink: records that are not in it yet wait.
    status: Arc<SinkStatus>,
    /// Until when what waits may still be delivered.
    end: Option<Instant>,
}

/// The records that wait for all sinks.
pub struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Outbox {
    /// Opens or makes the file at `path`. What waits in it for a sink that is not among `sinks` is
    /// dropped.
    ///
    /// # Errors
    /// The file cannot be made, is none of ours, or is of a later version.
    pub fn open(path: &Path, sinks: &[(&Sink, Arc<SinkStatus>)]) -> Result<Self> {
        let remedy = "choose another file with [outbox] file";
        let place = || format!("the outbox {}: {remedy}", path.display());
        let connection = connect(path).with_context(place)?;
        let ledgers = sinks.iter().map(|(sink, status)| Some(Ledger::new(sink, status.clone())));
        let mut state = State {
            connection,
            next: 1,
            sinks: ledgers.collect(),
            progress: Pending::default(),
            status: Arc::new(SinkStatus::of_store("outbox", format!("file:{}", path.display()))),
            end: None,
        };
        state.load().with_context(place)?;
        Ok(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// How the file is, as for a sink.
    pub fn status(&self) -> Arc<SinkStatus> {
        self.state.lock().status.clone()
    }

    /// How far the recorder was with each camera.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn progress(&self) -> Result<Vec<CameraProgress>> {
        Ok(progress::read(&self.state.lock().connection)?)
    }

    /// How far the recorder is, which is written with what is [appended](Self::append)
    /// next.
    pub fn keep(&self, progress: &[CameraProgress]) {
        self.state.lock().progress.add(progress);
    }

    /// The ticket of the sink that was at `index` among those of [`Outbox::open`].
    pub fn first_ticket(index: usize) -> Ticket {
        Ticket { sink: index, issue: 0 }
    }

    /// A sink more, for which nothing waits.
    pub fn add(&self, sink: &Sink, status: Arc<SinkStatus>) -> Ticket {
        let mut state = self.state.lock();
        state.erase(&sink.name);
        state.sinks.push(Some(Ledger::new(sink, status)));
        Self::first_ticket(state.sinks.len() - 1)
    }

    /// The sink of that ticket is this one now. What waits, waits for it; the old ticket holds no
    /// more.
    pub fn change(&self, ticket: Ticket, sink: &Sink) -> Ticket {
        let mut state = self.state.lock();
        let Some(ledger) = state.ledger(ticket.sink) else { return ticket };
        ledger.issue += 1;
        (ledger.keep, ledger.keep_bytes) = (sink.keep, sink.keep_bytes);
        let ticket = Ticket { issue: ledger.issue, ..ticket };
        self.changed.notify_all();
        ticket
    }

    /// Forgets a sink, and what waits for it.
    pub fn remove(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        if let Some(ledger) = state.sinks.get_mut(ticket.sink).and_then(Option::take) {
            state.erase(&ledger.name);
        }
        self.changed.notify_all();
    }

    /// Takes in records at `time`, each for the sinks at those places. They are in the file when
    /// this returns, where that can be written.
    pub fn append(&self, records: Vec<(Record, Vec<usize>)>, time: f64) {
        let mut state = self.state.lock();
        for (record, sinks) in records {
            for index in sinks {
                let seq = state.next;
                state.next += 1;
                let Some(ledger) = state.ledger(index) else { continue };
                let waiting = Waiting { seq, time, record: record.clone() };
                ledger.bytes += waiting.bytes();
                ledger.status.add(1);
                ledger.pending.push_back(waiting);
            }
        }
        state.write();
        state.trim(time);
        self.changed.notify_all();
    }

    /// To be called again and again, with the time in seconds since 1970: drops what is too old.
    pub fn tick(&self, time: f64) {
        let mut state = self.state.lock();
        let is_pending = |ledger: &Ledger| !ledger.pending.is_empty();
        if !state.progress.is_empty() || state.sinks.iter().flatten().any(is_pending) {
            state.write();
            self.changed.notify_all();
        }
        state.trim(time);
        let vacuum = format!("PRAGMA incremental_vacuum({PAGES})");
        // A file that stays large for a while does no harm.
        let _ = state.connection.execute_batch(&vacuum);
    }

    /// The oldest records that wait for the sink of a ticket: at most `count`, and no more than
    /// `bytes` of JSON except for the first. Waits for them for `patience`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(
        &self,
        ticket: Ticket,
        count: usize,
        bytes: usize,
        patience: Duration,
    ) -> Result<Vec<Waiting>> {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        loop {
            if !state.holds(ticket) {
                return Ok(Vec::new());
            }
            let mut found = state.oldest(ticket.sink, count)?;
            let mut total = 0;
            let fits = found.iter().take_while(|waiting| {
                total += waiting.record.json.len();
                total <= bytes
            });
            let fitting = fits.count().max(1);
            found.truncate(fitting);
            let is_over = state.end.is_some();
            if !found.is_empty() || is_over {
                return Ok(found);
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Ok(found);
            }
        }
    }

    /// The sink has these records, and all before them.
    pub fn acknowledge(&self, ticket: Ticket, records: &[Waiting]) {
        let Some(last) = records.last() else { return };
        let mut state = self.state.lock();
        let Some(ledger) = state.ledger(ticket.sink) else { return };
        // Those that were dropped meanwhile were counted as that.
        let counted = records.iter().filter(|record| record.seq > ledger.gone);
        let (count, bytes) =
            counted.fold((0, 0), |(count, bytes), record| (count + 1, bytes + record.bytes()));
        ledger.status.deliver(count);
        ledger.forget(last.seq, bytes);
        state.delete(ticket.sink);
    }

    /// What waits may be delivered until `end`; then everything that reads is to end.
    pub fn finish(&self, end: Instant) {
        self.state.lock().end = Some(end);
        self.changed.notify_all();
    }

    /// Until when what waits may still be delivered with a ticket, where its work is to end.
    pub fn end(&self, ticket: Ticket) -> Option<Instant> {
        self.state.lock().end(ticket)
    }

    /// Whether a ticket holds no more.
    pub fn is_stale(&self, ticket: Ticket) -> bool {
        !self.state.lock().holds(ticket)
    }

    /// Waits for `patience`, or until the work with a ticket is to end.
    pub fn pause(&self, ticket: Ticket, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.end(ticket).is_none() {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

impl State {
    /// The sink at that place.
    fn ledger(&mut self, sink: usize) -> Option<&mut Ledger> {
        self.sinks.get_mut(sink)?.as_mut()
    }

    /// Whether a ticket holds still.
    fn holds(&self, ticket: Ticket) -> bool {
        let ledger = self.sinks.get(ticket.sink).and_then(Option::as_ref);
        ledger.is_some_and(|ledger| ledger.issue == ticket.issue)
    }

    fn end(&self, ticket: Ticket) -> Option<Instant> {
        self.end.or_else(|| (!self.holds(ticket)).then(Instant::now))
    }

    /// Takes what waits for a sink out of the file. What stays there by a failure goes with the
    /// next start.
    fn erase(&self, name: &str) {
        let _ = self.connection.execute("DELETE FROM waiting WHERE sink = ?1", params![name]);
    }

    /// Takes in what the file holds from an earlier run.
    fn load(&mut self) -> rusqlite::Result<()> {
        let names: Vec<_> = self.sinks.iter().flatten().map(|ledger| ledger.name.clone()).collect();
        let mut query =
            self.connection.prepare("SELECT sink, count(*) FROM waiting GROUP BY sink")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found = rows.collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
        drop(query);
        for (name, count) in found.iter().filter(|(name, _)| !names.contains(name)) {
            self.connection.execute("DELETE FROM waiting WHERE sink = ?1", params![name])?;
            log(&format!(
                "sink {name}: {count} records are dropped: it is not in the configuration any more"
            ));
        }
        for ledger in self.sinks.iter_mut().flatten() {
            let (count, bytes): (i64, i64) = self.connection.query_row(
                "SELECT count(*), coalesce(sum(length(CAST(json AS BLOB))), 0) FROM waiting
                 WHERE sink = ?1",
                params![ledger.name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            ledger.status.add(count as u64);
            ledger.bytes = bytes as u64 + count as u64 * OVERHEAD;
        }
        let last = "SELECT coalesce(max(seq), 0) FROM waiting";
        self.next = self.connection.query_row(last, [], |row| row.get::<_, i64>(0))? + 1;
        Ok(())
    }

    /// Writes what is pending. Where that fails, it waits in memory.
    fn write(&mut self) {
        let pending = |state: &Self| -> u64 {
            state.sinks.iter().flatten().map(|ledger| ledger.pending.len() as u64).sum()
        };
        let Err(error) = self.try_write() else {
            self.status.set(0, pending(self), 0);
            self.status.tell(SinkState::Live, None);
            self.progress.clear();
            self.sinks.iter_mut().flatten().for_each(|ledger| ledger.pending.clear());
            return;
        };
        let reason = format!("the outbox cannot be written, records wait in memory: {error}");
        self.status.tell(SinkState::Waiting, Some(reason));
        let before = pending(self);
        for ledger in self.sinks.iter_mut().flatten() {
            let surplus = ledger.pending.len().saturating_sub(ROOM);
            let bytes = ledger.pending.drain(..surplus).map(|waiting| waiting.bytes()).sum();
            ledger.bytes = ledger.bytes.saturating_sub(bytes);
            ledger.status.discard(surplus as u64, "the outbox cannot be written");
        }
        let waiting = pending(self);
        self.status.set(waiting, 0, before - waiting);
    }

    fn try_write(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert =
                transaction.prepare("INSERT INTO waiting VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            for ledger in self.sinks.iter().flatten() {
                for Waiting { seq, time, record } in &ledger.pending {
                    let Record { id, camera, kind, json } = record;
                    insert.execute(params![ledger.name, seq, time, id, camera, kind, json])?;
                }
            }
        }
        self.progress.write(&transaction)?;
        transaction.commit()
    }

    /// The oldest `count` records that wait for a sink.
    fn oldest(&self, sink: usize, count: usize) -> rusqlite::Result<Vec<Waiting>> {
        let ledger = self.sinks.get(sink).and_then(Option::as_ref);
        let Some(ledger) = ledger else { return Ok(Vec::new()) };
        let mut query = self.connection.prepare(
            "SELECT seq, time, id, camera, kind, json FROM waiting WHERE sink = ?1 AND seq > ?2
             ORDER BY seq LIMIT ?3",
        )?;
        let rows = query.query_map(params![ledger.name, ledger.gone, count as i64], |row| {
            let record = Record {
                id: row.get(2)?,
                camera: row.get(3)?,
                kind: row.get(4)?,
                json: row.get(5)?,
            };
            Ok(Waiting { seq: row.get(0)?, time: row.get(1)?, record })
        })?;
        let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        // What is in memory is newer than all that is in the file.
        let missing = count - found.len();
        found.extend(ledger.pending.iter().take(missing).cloned());
        Ok(found)
    }

    /// Drops what is too much or too old.
    fn trim(&mut self, now: f64) {
        const CHUNK: usize = 256;
        for sink in 0..self.sinks.len() {
            while let Some(ledger) = &self.sinks[sink] {
                let before = now - ledger.keep.as_secs_f64();
                let mut surplus = ledger.bytes.saturating_sub(ledger.keep_bytes);
                // What cannot be read now is trimmed later.
                let chunk = if surplus == 0 { 1 } else { CHUNK };
                let Ok(oldest) = self.oldest(sink, chunk) else { break };
                let (mut last, mut count, mut bytes, mut too_old) = (0, 0, 0, 0);
                for waiting in &oldest {
                    let is_old = waiting.time < before && waiting.time >= CLOCK;
                    if !is_old && surplus == 0 {
                        break;
                    }
                    too_old += u64::from(is_old);
                    (last, count, bytes) = (waiting.seq, count + 1, bytes + waiting.bytes());
                    surplus = surplus.saturating_sub(waiting.bytes());
                }
                if count == 0 {
                    break;
                }
                let Some(ledger) = self.ledger(sink) else { break };
                ledger.forget(last, bytes);
                ledger.status.discard(too_old, "they have waited for keep-days");
                ledger.status.discard(count - too_old, "more wait than keep-megabytes");
                self.delete(sink);
                if count < oldest.len() as u64 {
                    break;
                }
            }
        }
    }

    /// Takes what is gone out of the file. What stays there by a failure goes with the next; until
    /// then nothing but a restart sends it again.
    fn delete(&self, sink: usize) {
        let Some(ledger) = &self.sinks[sink] else { return };
        let delete = "DELETE FROM waiting WHERE sink = ?1 AND seq <= ?2";
        let deleted = self.connection.prepare(delete);
        let _ = deleted.and_then(|mut delete| delete.execute(params![ledger.name, ledger.gone]));
    }
}

fn connect(path: &Path) -> Result<Connection> {
    database::open(path, VERSION, TABLES, |connection, is_new| {
        if is_new {
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        // Two services would deliver each other's records.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")
    })
    .and_then(|connection| {
        connection.execute_batch(progress::TABLES)?;
        Ok(connection)
    })
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
