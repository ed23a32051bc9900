//! A history in a database of PostgreSQL, to be written.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::Deserialize;
use tokio_postgres::{Client, Error, Statement, Transaction};
use vehiclecount_core::event::Event;
use vehiclecount_core::publish::SinkError;
use vehiclecount_core::window::WindowRecord;

use super::record::Record;
use super::target::Target;
use crate::config::Database;
use crate::run::board::{Board, REMEMBERED, unix_time};
use crate::run::history::SHORT;
use crate::run::postgres::{self, Session};

/// A window that was interrupted, as by a restart of the service, is made whole of its parts, as in
/// the history's file.
const INSERT_RECORD: &str = "
    INSERT INTO vehiclecount.record AS r VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (camera, length, region, start) DO UPDATE SET
        stale = (r.stale * r.covered + excluded.stale * excluded.covered)
            / greatest(r.covered + excluded.covered, 1e-9),
        mean = (r.mean * r.covered + excluded.mean * excluded.covered)
            / greatest(r.covered + excluded.covered, 1e-9),
        free = (r.free * r.covered + excluded.free * excluded.covered)
            / greatest(r.covered + excluded.covered, 1e-9),
        moderate = (r.moderate * r.covered + excluded.moderate * excluded.covered)
            / greatest(r.covered + excluded.covered, 1e-9),
        dense = (r.dense * r.covered + excluded.dense * excluded.covered)
            / greatest(r.covered + excluded.covered, 1e-9),
        jammed = (r.jammed * r.covered + excluded.jammed * excluded.covered)
            / greatest(r.covered + excluded.covered, 1e-9),
        max = greatest(r.max, excluded.max), p95 = greatest(r.p95, excluded.p95),
        covered = least(r.length, r.covered + excluded.covered)";

const INSERT_EVENT: &str =
    "INSERT INTO vehiclecount.event (time, event) VALUES ($1, $2::text::json)";

const INSERT_TAKEN: &str =
    "INSERT INTO vehiclecount.taken SELECT unnest($1::text[]), $2::float8 ON CONFLICT DO NOTHING";

/// How often what is too old is deleted.
const PRUNE: Duration = Duration::from_secs(600);

/// How often a database to which nothing is sent is asked whether it is there.
const LOOK: Duration = Duration::from_secs(10);

/// A connection to the database.
pub struct PostgresTarget {
    session: Session,
    keep_days: u32,
    statements: [Statement; 2],
    /// Ids of what was written last.
    last: Vec<String>,
    pruned: Instant,
    looked: Instant,
}

impl PostgresTarget {
    /// Connects, and tells the board of earlier events.
    ///
    /// # Errors
    /// The database is not there or refuses.
    pub fn open(
        database: &Database,
        keep_days: u32,
        board: &Arc<Board>,
    ) -> Result<Self, SinkError> {
        let mut session = Session::open(database)?;
        session.ask(async |client| prune(client, keep_days, unix_time()).await)?;
        board.add_earlier_events(postgres::events(&mut session, REMEMBERED)?);
        let statements = session.ask(async |client| {
            Ok([client.prepare(INSERT_RECORD).await?, client.prepare(INSERT_EVENT).await?])
        })?;
        let (last, now) = (Vec::new(), Instant::now());
        Ok(Self { session, keep_days, statements, last, pruned: now, looked: now })
    }
}

/// What a record is about.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Entry {
    Window(WindowRecord),
    Event(serde_json::Value),
    #[serde(other)]
    Other,
}

impl Target for PostgresTarget {
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError> {
        let Self { session, statements, last, .. } = self;
        session.ask(async |client| write(client, statements, records, last).await)?;
        // These were acknowledged to the outbox before it gave the ones of now.
        *last = records.iter().map(|record| record.id.clone()).collect();
        self.looked = Instant::now();
        Ok(records.len())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        if self.pruned.elapsed() >= PRUNE {
            let days = self.keep_days;
            self.session.ask(async |client| prune(client, days, unix_time()).await)?;
            (self.pruned, self.looked) = (Instant::now(), Instant::now());
        }
        if self.looked.elapsed() >= LOOK {
            self.session.ask(async |client| client.batch_execute("SELECT 1").await)?;
            self.looked = Instant::now();
        }
        Ok(())
    }
}

/// Writes records, and forgets the ids of those before them.
async fn write(
    client: &mut Client,
    statements: &[Statement; 2],
    records: &[Record],
    last: &[String],
) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let known = "SELECT id FROM vehiclecount.taken WHERE id = ANY($1)";
    let known = transaction.query(known, &[&ids]).await?;
    let known: HashSet<String> = known.iter().map(|row| row.get(0)).collect();
    let forget = "DELETE FROM vehiclecount.taken WHERE id = ANY($1)";
    transaction.execute(forget, &[&last]).await?;
    transaction.execute(INSERT_TAKEN, &[&ids, &unix_time()]).await?;
    let new = records.iter().filter(|record| !known.contains(&record.id));
    // They are sent at once, and done in their order.
    try_join_all(new.map(|record| insert(&transaction, statements, record))).await?;
    transaction.commit().await
}

async fn insert(
    transaction: &Transaction<'_>,
    [record, event]: &[Statement; 2],
    what: &Record,
) -> Result<(), Error> {
    match serde_json::from_str(&what.json) {
        Ok(Entry::Window(entry)) => {
            let region = entry.region.as_deref().unwrap_or_default().replace('\0', "");
            let length = i32::try_from(entry.window).unwrap_or(i32::MAX);
            let start = i64::try_from(entry.start).unwrap_or(i64::MAX);
            let levels = &entry.levels;
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 13] = [
                &entry.camera,
                &region,
                &length,
                &start,
                &entry.covered,
                &entry.stale,
                &entry.mean,
                &entry.max,
                &entry.p95,
                &levels.free,
                &levels.moderate,
                &levels.dense,
                &levels.jammed,
            ];
            transaction.execute(record, &values).await.map(drop)
        }
        Ok(Entry::Event(entry)) => {
            // As the history's file has it: without what the record has beside it.
            let Ok(entry) = serde_json::from_value::<Event>(entry) else { return Ok(()) };
            let Ok(json) = serde_json::to_string(&entry) else { return Ok(()) };
            transaction.execute(event, &[&entry.time, &json]).await.map(drop)
        }
        // It is of another version of the service.
        Ok(Entry::Other) | Err(_) => Ok(()),
    }
}

/// Deletes what is too old at `now`, seconds since 1970.
async fn prune(client: &mut Client, keep_days: u32, now: f64) -> Result<(), Error> {
    let before = |days: u32| now - f64::from(days) * 86_400.0;
    let transaction = client.transaction().await?;
    let short = "DELETE FROM vehiclecount.record WHERE length = $1 AND start < $2";
    for (window, days) in SHORT {
        let (window, before) = (window as i32, before(days.min(keep_days)) as i64);
        transaction.execute(short, &[&window, &before]).await?;
    }
    let before = before(keep_days);
    let long = "DELETE FROM vehiclecount.record WHERE length > 60 AND start < $1";
    transaction.execute(long, &[&(before as i64)]).await?;
    for table in ["event", "taken"] {
        let delete = format!("DELETE FROM vehiclecount.{table} WHERE time < $1");
        transaction.execute(delete.as_str(), &[&before]).await?;
    }
    transaction.commit().await
}
