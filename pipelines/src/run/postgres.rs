//! The history in a database of PostgreSQL: its tables, and what is read from them. What is written
//! comes from the outbox, as to a sink: `sinks/postgres.rs`.

use std::error::Error as _;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use vehiclecount_core::event::Event;
use vehiclecount_core::publish::SinkError;
use vehiclecount_core::publish::sink::tls;
use vehiclecount_core::window::{LevelShares, WindowRecord};

use super::history::{MOST, Question};
use super::past::EventQuestion;
use crate::config::Database;

/// Version of the tables.
const VERSION: i32 = 1;

/// An empty region is the whole frame. `taken` has the ids of records that were written last: what
/// is sent again after a break is not written twice.
const TABLES: &str = "
    CREATE TABLE vehiclecount.record (
        camera TEXT NOT NULL, region TEXT NOT NULL, length INTEGER NOT NULL, start BIGINT NOT NULL,
        covered FLOAT8 NOT NULL, stale FLOAT8 NOT NULL, mean FLOAT8 NOT NULL, max FLOAT8 NOT NULL,
        p95 FLOAT8 NOT NULL, free FLOAT8 NOT NULL, moderate FLOAT8 NOT NULL, dense FLOAT8 NOT NULL,
        jammed FLOAT8 NOT NULL,
        PRIMARY KEY (camera, length, region, start)
    );
    CREATE INDEX record_by_age ON vehiclecount.record (length, start);
    CREATE TABLE vehiclecount.event (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time FLOAT8 NOT NULL, event JSON NOT NULL
    );
    CREATE INDEX event_by_age ON vehiclecount.event (time);
    CREATE TABLE vehiclecount.taken (id TEXT PRIMARY KEY, time FLOAT8 NOT NULL);
    CREATE TABLE vehiclecount.version (version INTEGER NOT NULL);
    INSERT INTO vehiclecount.version VALUES (1);";

/// Two services that start at once make the tables one after the other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7665686963)";

/// How long the server may take for what it is asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, with tasks that run while it is asked something, and at no other time.
pub struct Session {
    client: Client,
    runtime: Option<Runtime>,
}

impl Session {
    /// Connects, and makes the tables where there are none.
    ///
    /// # Errors
    /// The server is not there or refuses, or the tables are of a later version.
    pub fn open(database: &Database) -> Result<Self, SinkError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let opened = runtime.block_on(async {
            let open = async {
                let mut client = connect(database).await?;
                prepare(&mut client).await?;
                Ok(client)
            };
            timeout(PATIENCE, open).await.unwrap_or_else(|_| Err(silent()))
        });
        match opened {
            Ok(client) => Ok(Self { client, runtime: Some(runtime) }),
            Err(error) => {
                // A name that is being looked up is not waited for.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Asks the server something.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, SinkError> {
        let runtime = self.runtime.as_ref();
        let Some(runtime) = runtime else { return Err(SinkError::temporary("it has ended")) };
        let asked = async { timeout(PATIENCE, question(&mut self.client)).await };
        let answer = runtime.block_on(asked).map_err(|_| silent())?;
        answer.map_err(|error| words(&error))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn silent() -> SinkError {
    SinkError::temporary("the database does not answer")
}

async fn connect(database: &Database) -> Result<Client, SinkError> {
    let connection = &database.connection;
    if connection.get_ssl_mode() == SslMode::Disable {
        let (client, connection) =
            connection.connect(NoTls).await.map_err(|error| words(&error))?;
        tokio::spawn(connection);
        return Ok(client);
    }
    let tls = tls::client(database.authorities.as_deref()).map_err(SinkError::permanent)?;
    let tls = MakeRustlsConnect::new((*tls).clone());
    let (client, connection) = connection.connect(tls).await.map_err(|error| words(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Makes the tables where there are none.
async fn prepare(client: &mut Client) -> Result<(), SinkError> {
    let wrong = |error: Error| words(&error);
    let transaction = client.transaction().await.map_err(wrong)?;
    transaction.batch_execute(LOCK).await.map_err(wrong)?;
    let there = "SELECT to_regnamespace('vehiclecount') IS NOT NULL,
        to_regclass('vehiclecount.version') IS NOT NULL";
    let there = transaction.query_one(there, &[]).await.map_err(wrong)?;
    if !there.get::<_, bool>(0) {
        transaction.batch_execute("CREATE SCHEMA vehiclecount").await.map_err(wrong)?;
    }
    if there.get(1) {
        let version = "SELECT version FROM vehiclecount.version";
        let version: i32 = transaction.query_one(version, &[]).await.map_err(wrong)?.get(0);
        if version > VERSION {
            let reason = "the schema vehiclecount was written by a later version";
            return Err(SinkError::permanent(reason));
        }
    } else {
        transaction.batch_execute(TABLES).await.map_err(wrong)?;
    }
    transaction.commit().await.map_err(wrong)
}

/// What went wrong, and what to do.
fn words(error: &Error) -> SinkError {
    let Some(told) = error.as_db_error() else {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        return SinkError::temporary(match reason.contains("certificate") {
            true => tls::words(&reason),
            false => reason,
        });
    };
    let code = told.code();
    if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) {
        return SinkError::permanent("the database refuses the user name or the password");
    }
    let remedy = match *code {
        SqlState::INVALID_CATALOG_NAME => ": make it with createdb",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            ": the user needs CREATE on the database, or a schema vehiclecount of its own"
        }
        _ => "",
    };
    SinkError::temporary(format!("{}{remedy}", told.message()))
}

/// The last `number` events, the oldest first.
///
/// # Errors
/// As [`Session::ask`].
pub fn events(session: &mut Session, number: usize) -> Result<Vec<Event>, SinkError> {
    let query = "SELECT event::text FROM vehiclecount.event ORDER BY id DESC LIMIT $1";
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let rows = session.ask(async |client| client.query(query, &[&number]).await)?;
    // An event of a kind that is not known any more is none.
    let events = rows.iter().rev().map(|row| serde_json::from_str(row.get(0)).ok());
    Ok(events.flatten().collect())
}

/// Reads events, the newest first.
///
/// # Errors
/// Why they cannot be read.
pub fn read_events(database: &Database, question: &EventQuestion) -> Result<Vec<Event>, String> {
    const ASKED: &str = "time >= $1 AND time <= $2 AND ($4::text IS NULL OR event->>'camera' = $4)";
    let query = format!(
        "SELECT event::text FROM vehiclecount.event WHERE {ASKED} AND time >= coalesce(
             (SELECT time FROM vehiclecount.event WHERE {ASKED}
              ORDER BY time DESC LIMIT 1 OFFSET $3), $1)
         ORDER BY time DESC, id DESC"
    );
    let EventQuestion { camera, from, to, limit } = question;
    let last = limit.saturating_sub(1) as i64;
    let rows = Session::open(database).and_then(|mut session| {
        session.ask(async |client| client.query(&query, &[from, to, &last, camera]).await)
    });
    let rows = rows.map_err(|error| error.reason)?;
    // An event of a kind that is not known any more is none.
    Ok(rows.iter().filter_map(|row| serde_json::from_str(row.get(0)).ok()).collect())
}

/// Reads records, in the order of their time, [`MOST`] at most.
///
/// # Errors
/// Why they cannot be read.
pub fn read(database: &Database, question: &Question) -> Result<Vec<WindowRecord>, String> {
    let query = "
        SELECT camera, region, length, start, covered, stale, mean, max, p95, free, moderate, dense,
            jammed
        FROM vehiclecount.record
        WHERE camera = $1 AND length = $2 AND region = $3 AND start >= $4 AND start < $5
        ORDER BY start LIMIT $6";
    let Question { camera, region, window, from, to } = question;
    let (region, most) = (region.as_deref().unwrap_or_default(), MOST as i64);
    let window = i32::try_from(*window).unwrap_or(i32::MAX);
    let rows = Session::open(database).and_then(|mut session| {
        session.ask(async |client| {
            client.query(query, &[camera, &window, &region, from, to, &most]).await
        })
    });
    Ok(rows.map_err(|error| error.reason)?.iter().map(record).collect())
}

fn record(row: &Row) -> WindowRecord {
    let region: String = row.get(1);
    WindowRecord {
        camera: row.get(0),
        region: Some(region).filter(|region| !region.is_empty()),
        window: row.get::<_, i32>(2).unsigned_abs(),
        start: row.get::<_, i64>(3).unsigned_abs(),
        covered: row.get(4),
        stale: row.get(5),
        mean: row.get(6),
        max: row.get(7),
        p95: row.get(8),
        levels: LevelShares {
            free: row.get(9),
            moderate: row.get(10),
            dense: row.get(11),
            jammed: row.get(12),
        },
    }
}
