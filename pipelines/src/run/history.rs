//! Records and events in an SQLite file, for as long as they are to be kept.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags, Row, named_params, params};
use vehiclecount_core::event::Event;
use vehiclecount_core::window::{LevelShares, WindowRecord};

use super::recorder::Store;
use super::{database, log};

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

/// A window that was interrupted, as by a restart of the service, is made whole of its parts; the
/// larger p95 stands for that of the whole, which is not known.
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

/// The file, to be written.
pub struct History {
    connection: Connection,
    keep_days: u32,
    waiting: VecDeque<Entry>,
    pruned: f64,
    is_failing: bool,
    lost: u64,
}

impl History {
    /// Opens or makes the file at `path`, whose entries are kept for `keep_days` days.
    ///
    /// # Errors
    /// The file cannot be made, is none of ours, or is of a later version.
    pub fn open(path: &Path, keep_days: u32) -> Result<Self> {
        let remedy = "choose another file with [history] file, or none with \"\"";
        let connection = database::open(path, VERSION, TABLES, |_, _| Ok(()))
            .with_context(|| format!("the history {}: {remedy}", path.display()))?;
        let waiting = VecDeque::new();
        Ok(Self { connection, keep_days, waiting, pruned: 0.0, is_failing: false, lost: 0 })
    }

    /// The last `number` events, the oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn events(&self, number: usize) -> Result<Vec<Event>> {
        let mut query =
            self.connection.prepare("SELECT event FROM event ORDER BY id DESC LIMIT ?1")?;
        let rows = query.query_map(params![number as i64], |row| row.get::<_, String>(0))?;
        let mut events = Vec::new();
        for text in rows {
            // An event of a kind that is not known any more is none.
            events.extend(serde_json::from_str::<Event>(&text?).ok());
        }
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
        transaction.commit()?;
        self.waiting.clear();
        Ok(())
    }
}

impl Store for History {
    fn store(&mut self, records: &[WindowRecord], events: &[Event]) {
        self.waiting.extend(records.iter().cloned().map(Entry::Record));
        self.waiting.extend(events.iter().cloned().map(Entry::Event));
        let written = self.write();
        match (&written, self.is_failing) {
            (Ok(()), true) => {
                log(&format!("the history is written again; {} entries are lost", self.lost))
            }
            (Err(error), false) => {
                log(&format!("the history cannot be written, and waits: {error:#}"))
            }
            _ => {}
        }
        self.is_failing = written.is_err();
        while self.waiting.len() > ROOM {
            self.waiting.pop_front();
            self.lost += 1;
        }
    }

    fn tick(&mut self, time: f64) {
        if !self.waiting.is_empty() {
            self.store(&[], &[]);
        }
        if (time - self.pruned).abs() >= PRUNE {
            self.pruned = time;
            if let Err(error) = self.prune(time) {
                log(&format!("old entries of the history cannot be deleted: {error:#}"));
            }
        }
    }
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
mod tests {
    use vehiclecount_core::event::EventKind;

    use std::time::Duration;

    use super::*;

    fn record(window: u32, start: u64, covered: f64, mean: f64) -> WindowRecord {
        WindowRecord {
            camera: "north".to_owned(),
            region: None,
            start,
            window,
            covered,
            stale: 0.5,
            mean,
            max: mean * 2.0,
            p95: mean * 1.5,
            levels: LevelShares { free: 1.0, ..LevelShares::default() },
        }
    }

    fn all(path: &Path, window: u32) -> Vec<WindowRecord> {
        let question =
            Question { camera: "north".to_owned(), region: None, window, from: 0, to: i64::MAX };
        read(path, &question).unwrap()
    }

    #[test]
    fn what_is_stored_is_there_after_the_file_was_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter.db");
        let left = WindowRecord { region: Some("left".to_owned()), ..record(10, 40, 10.0, 1.0) };
        let event = Event { time: 7.0, camera: "north".to_owned(), kind: EventKind::CameraBack };
        let mut history = History::open(&path, 400).unwrap();
        history.store(
            &[record(10, 40, 10.0, 3.0), record(10, 30, 10.0, 2.0), left.clone()],
            std::slice::from_ref(&event),
        );
        drop(history);
        let history = History::open(&path, 400).unwrap();
        assert_eq!(history.events(10).unwrap(), [event]);
        assert_eq!(all(&path, 10), [record(10, 30, 10.0, 2.0), record(10, 40, 10.0, 3.0)]);
        let question = |region: &str, from, to| Question {
            camera: "north".to_owned(),
            region: Some(region.to_owned()),
            window: 10,
            from,
            to,
        };
        assert_eq!(read(&path, &question("left", 40, 41)).unwrap(), [left]);
        assert_eq!(read(&path, &question("left", 41, 50)).unwrap(), []);
        assert_eq!(read(&path, &question("' OR 1 --", 0, 50)).unwrap(), []);
    }

    #[test]
    fn parts_of_an_interrupted_window_become_one_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter.db");
        History::open(&path, 400).unwrap().store(&[record(60, 0, 10.0, 2.0)], &[]);
        History::open(&path, 400).unwrap().store(&[record(60, 0, 30.0, 6.0)], &[]);
        let [whole] = &all(&path, 60)[..] else { panic!("one record") };
        assert_eq!((whole.covered, whole.mean, whole.max, whole.p95), (40.0, 5.0, 12.0, 9.0));
        assert_eq!((whole.stale, whole.levels.free), (0.5, 1.0));
    }

    #[test]
    fn old_entries_go_short_windows_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter.db");
        let mut history = History::open(&path, 400).unwrap();
        let day = 86_400;
        let now = 1000 * day;
        let event = |time: u64| Event {
            time: time as f64,
            camera: "north".to_owned(),
            kind: EventKind::CameraBack,
        };
        for days in [1, 3, 15, 399, 401] {
            for window in [10, 60, 900, 3600] {
                history.store(&[record(window, now - days * day, 10.0, 1.0)], &[]);
            }
            history.store(&[], &[event(now - days * day)]);
        }
        history.tick(now as f64);
        let left = [10, 60, 900, 3600].map(|window| all(&path, window).len());
        assert_eq!(left, [1, 2, 4, 4]);
        assert_eq!(history.events(10).unwrap().len(), 4);
    }

    #[test]
    fn what_cannot_be_written_waits_and_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter.db");
        let mut history = History::open(&path, 400).unwrap();
        history.connection.busy_timeout(Duration::ZERO).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        history.store(&[record(10, 0, 10.0, 1.0)], &[]);
        assert!(history.is_failing && all(&path, 10).is_empty());
        other.execute_batch("ROLLBACK").unwrap();
        history.tick(0.0);
        assert_eq!(all(&path, 10).len(), 1);
        assert!(!history.is_failing);
    }

    #[test]
    fn files_that_are_no_history_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| format!("{:#}", History::open(path, 400).err().unwrap());
        let text = folder.path().join("text");
        std::fs::write(&text, "something else, longer than the header of a database: ".repeat(20))
            .unwrap();
        assert!(refused(&text).contains("not a database"), "{}", refused(&text));
        let other = folder.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
        assert!(refused(&other).contains("a database of something else"));
        let later = folder.path().join("later.db");
        Connection::open(&later).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(refused(&later).contains("by a later version"));
        let nowhere = refused(&folder.path().join("no/folder.db"));
        assert!(nowhere.contains("choose another file with [history] file"), "{nowhere}");
    }
}
