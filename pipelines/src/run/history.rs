//! Records and events in an SQLite file, for as long as they are to be kept.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags, Row, named_params, params};
use vehiclecount_core::event::Event;
use vehiclecount_core::window::{LevelShares, WindowRecord};

use super::progress::{self, CameraProgress, Pending};
use super::recorder::Store;
use super::sinks::status::{SinkState, SinkStatus};
use super::{database, log};
use crate::config::Sink;

/// Version of the tables, `user_version` of the file.
const VERSION: i64 = 1;

/// An empty region is the whole frame.
const TABLES: &str = "
    CREATE TABLE record (
        camera TEXT NOT NULL, region TEXT NOT NULL, length INTEGER NOT NULL, start INTEGER NOT NULL,
        covered REAL NOT NULL, stale REAL NOT NULL, mean REAL NOT NULL, max REAL NOT NULL, p95 REAL NOT NULL,
        free REAL NOT NULL, moderate REAL NOT NULL, dense REAL NOT NULL, jammed REAL NOT NULL,
        PRIMARY KEY (camera, length, region, start)
    ) WITHOUT ROWID;
    CREATE INDEX record_by_age ON record (length, start);
    CREATE TABLE event (id INTEGER PRIMARY KEY, time REAL NOT NULL, event TEXT NOT NULL);
    CREATE INDEX event_by_age ON event (time);
    PRAGMA user_version = 1;";

/// Events of one camera are found without going through those of all others.
const EVENT_BY_CAMERA: &str = "
    CREATE INDEX IF NOT EXISTS event_by_camera ON event (json_extract(event, '$.camera'), time)";

/// A window that was ended early, as of a region that was removed and came again, is made whole of
/// its parts; the larger p95 stands for that of the whole, which is not known.
const INSERT: &str = "
    INSERT INTO record VALUES (:camera, :region, :length, :start, :covered, :stale, :mean, :max, :p95,
        :free, :moderate, :dense, :jammed)
    ON CONFLICT DO UPDATE SET
        stale = (stale * covered + excluded.stale * excluded.covered) / (covered + excluded.covered),
        mean = (mean * covered + excluded.mean * excluded.covered) / (covered + excluded.covered),
        free = (free * covered + excluded.free * excluded.covered) / (covered + excluded.covered),
        moderate = (moderate * covered + excluded.moderate * excluded.covered) / (covered + excluded.covered),
        dense = (dense * covered + excluded.dense * excluded.covered) / (covered + excluded.covered),
        jammed = (jammed * covered + excluded.jammed * excluded.covered) / (covered + excluded.covered),
        max = max(max, excluded.max), p95 = max(p95, excluded.p95),
        covered = min(length, covered + excluded.covered)";

/// Records and events that wait while the file cannot be written. The oldest go first.
const ROOM: usize = 50_000;

/// Short windows are kept for so many days at most.
pub const SHORT: [(u32, u32); 2] = [(10, 2), (60, 14)];

/// How often what is too old is deleted, seconds.
const PRUNE: f64 = 600.0;

/// Most records of an answer.
pub const MOST: usize = 10_000;

/// What waits to be written.
#[derive(Debug)]
enum Entry {
    Record(WindowRecord),
    Event(Event),
}

/// Events of their rows. One of a kind that is not known any more is none.
///
/// # Errors
/// The file cannot be read.
pub fn parse(rows: impl Iterator<Item = rusqlite::Result<String>>) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for text in rows {
        events.extend(serde_json::from_str::<Event>(&text?).ok());
    }
    Ok(events)
}

/// The file, to be written.
pub struct History {
    connection: Connection,
    keep_days: u32,
    waiting: VecDeque<Entry>,
    progress: Pending,
    pruned: f64,
    status: Arc<SinkStatus>,
}

impl History {
    /// Opens or makes the file at `path`, whose entries are kept for `keep_days` days. A file of an
    /// earlier version is brought up to date, which `tell` hears before it begins: it can take
    /// minutes.
    ///
    /// # Errors
    /// The file cannot be made, is none of ours, or is of a later version.
    pub fn open(path: &Path, keep_days: u32, tell: &dyn Fn(String)) -> Result<Self> {
        let remedy = "choose another file with [history] file, or none with \"\"";
        let connection = database::open(path, VERSION, TABLES, |_, _| Ok(()))
            .and_then(|connection| {
                connection.execute_batch(progress::TABLES)?;
                index_events(&connection, |events| {
                    let path = path.display();
                    tell(format!(
                        "bringing the history {path} up to date: indexing {events} events"
                    ));
                })?;
                Ok(connection)
            })
            .with_context(|| format!("the history {}: {remedy}", path.display()))?;
        let url = format!("file:{}", path.display());
        Ok(Self {
            connection,
            keep_days,
            waiting: VecDeque::new(),
            progress: Pending::default(),
            pruned: 0.0,
            status: Arc::new(SinkStatus::of_store(Sink::HISTORY, url)),
        })
    }

    /// How it is, as for a sink.
    pub fn status(&self) -> Arc<SinkStatus> {
        self.status.clone()
    }

    /// How far the recorder was with each camera. In a file of an earlier version, what was told of
    /// cameras is known from the last `number` events alone.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn progress(&self, number: usize) -> Result<Vec<CameraProgress>> {
        let kept = progress::read(&self.connection)?;
        if !kept.is_empty() {
            return Ok(kept);
        }
        let mut cameras = BTreeMap::<String, CameraProgress>::new();
        for Event { time, camera, kind } in self.events(number)? {
            let known = cameras.entry(camera.clone()).or_default();
            (known.camera, known.time) = (camera, time);
            known.told.take_in(&kind);
        }
        Ok(cameras.into_values().collect())
    }

    /// The last `number` events, the oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn events(&self, number: usize) -> Result<Vec<Event>> {
        let mut query =
            self.connection.prepare("SELECT event FROM event ORDER BY id DESC LIMIT ?1")?;
        let rows = query.query_map(params![number as i64], |row| row.get(0))?;
        let mut events = parse(rows)?;
        events.reverse();
        Ok(events)
    }

    /// Deletes what is too old at `now`, seconds since 1970.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn prune(&mut self, now: f64) -> Result<()> {
        let before = |days: u32| now - f64::from(days) * 86_400.0;
        let transaction = self.connection.transaction()?;
        for (window, days) in SHORT {
            let before = before(days.min(self.keep_days)) as i64;
            transaction.execute(
                "DELETE FROM record WHERE length = ?1 AND start < ?2",
                params![window, before],
            )?;
        }
        let before = before(self.keep_days);
        transaction.execute(
            "DELETE FROM record WHERE length > 60 AND start < ?1",
            params![before as i64],
        )?;
        transaction.execute("DELETE FROM event WHERE time < ?1", params![before])?;
        transaction.execute("DELETE FROM open_camera WHERE time < ?1", params![before])?;
        transaction.commit()?;
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut record = transaction.prepare(INSERT)?;
            let mut event =
                transaction.prepare("INSERT INTO event (time, event) VALUES (?1, ?2)")?;
            for entry in &self.waiting {
                match entry {
                    Entry::Record(entry) => record.execute(named_params! {
                        ":camera": entry.camera,
                        ":region": entry.region.as_deref().unwrap_or_default(),
                        ":length": entry.window,
                        ":start": entry.start as i64,
                        ":covered": entry.covered,
                        ":stale": entry.stale,
                        ":mean": entry.mean,
                        ":max": entry.max,
                        ":p95": entry.p95,
                        ":free": entry.levels.free,
                        ":moderate": entry.levels.moderate,
                        ":dense": entry.levels.dense,
                        ":jammed": entry.levels.jammed,
                    })?,
                    Entry::Event(entry) => {
                        event.execute(params![entry.time, serde_json::to_string(entry)?])?
                    }
                };
            }
        }
        self.progress.write(&transaction)?;
        transaction.commit()?;
        self.waiting.clear();
        self.progress.clear();
        Ok(())
    }
}

impl Store for History {
    fn store(&mut self, records: &[WindowRecord], events: &[Event], progress: &[CameraProgress]) {
        self.status.add((records.len() + events.len()) as u64);
        self.progress.add(progress);
        self.waiting.extend(records.iter().cloned().map(Entry::Record));
        self.waiting.extend(events.iter().cloned().map(Entry::Event));
        let count = self.waiting.len() as u64;
        match self.write() {
            Ok(()) => {
                self.status.deliver(count);
                self.status.tell(SinkState::Live, None);
            }
            Err(error) => {
                let reason = format!("the history cannot be written: {error:#}");
                self.status.tell(SinkState::Waiting, Some(reason));
            }
        }
        let surplus = self.waiting.len().saturating_sub(ROOM);
        self.waiting.drain(..surplus);
        self.status.discard(surplus as u64, "the history cannot be written");
    }

    fn tick(&mut self, time: f64) {
        if !self.waiting.is_empty() || !self.progress.is_empty() {
            self.store(&[], &[], &[]);
        }
        if (time - self.pruned).abs() >= PRUNE {
            self.pruned = time;
            if let Err(error) = self.prune(time) {
                log(&format!("old entries of the history cannot be deleted: {error:#}"));
            }
        }
    }
}

/// Makes [`EVENT_BY_CAMERA`] where it is missing. `tell` hears of how many events, if there are
/// some.
fn index_events(connection: &Connection, tell: impl FnOnce(i64)) -> rusqlite::Result<()> {
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let there = number("SELECT count(*) FROM sqlite_schema WHERE name = 'event_by_camera'")? > 0;
    let events = if there { 0 } else { number("SELECT count(*) FROM event")? };
    if events > 0 {
        tell(events);
    }
    connection.execute_batch(EVENT_BY_CAMERA)
}

/// What is asked of the history.
#[derive(Clone, Debug)]
pub struct Question {
    /// The camera.
    pub camera: String,
    /// The region; `None`: the whole frame.
    pub region: Option<String>,
    /// Length of the windows, seconds.
    pub window: u32,
    /// From here on, seconds since 1970.
    pub from: i64,
    /// Up to here, without it.
    pub to: i64,
}

/// Reads records of the file at `path`, in the order of their time, [`MOST`] at most.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path, question: &Question) -> Result<Vec<WindowRecord>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(database::BUSY)?;
    let mut query = connection.prepare(
        "SELECT camera, region, length, start, covered, stale, mean, max, p95, free, moderate, dense, jammed
         FROM record WHERE camera = ?1 AND length = ?2 AND region = ?3 AND start >= ?4 AND start < ?5
         ORDER BY start LIMIT ?6",
    )?;
    let Question { camera, region, window, from, to } = question;
    let region = region.as_deref().unwrap_or_default();
    let rows = query.query_map(params![camera, window, region, from, to, MOST as i64], record)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn record(row: &Row) -> rusqlite::Result<WindowRecord> {
    let region: String = row.get(1)?;
    Ok(WindowRecord {
        camera: row.get(0)?,
        region: Some(region).filter(|region| !region.is_empty()),
        window: row.get(2)?,
        start: row.get::<_, i64>(3)? as u64,
        covered: row.get(4)?,
        stale: row.get(5)?,
        mean: row.get(6)?,
        max: row.get(7)?,
        p95: row.get(8)?,
        levels: LevelShares {
            free: row.get(9)?,
            moderate: row.get(10)?,
            dense: row.get(11)?,
            jammed: row.get(12)?,
        },
    })
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
