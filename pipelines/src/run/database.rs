//! The files of SQLite that the service keeps.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rusqlite::Connection;

/// How long another user of the file is waited for.
pub const BUSY: Duration = Duration::from_secs(2);

/// Opens or makes the database at `path`, whose `tables` have this `version`. `prepare` is called
/// before anything is written, and hears whether the database is new.
///
/// # Errors
/// The file cannot be made, is none of ours, or is of a later version.
pub fn open(
    path: &Path,
    version: i64,
    tables: &str,
    prepare: impl FnOnce(&Connection, bool) -> rusqlite::Result<()>,
) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    ensure!(found <= version, "it was written by a later version");
    let is_new = found == 0;
    if is_new {
        let count = "SELECT count(*) FROM sqlite_schema";
        let others: i64 = connection.query_row(count, [], |row| row.get(0))?;
        ensure!(others == 0, "it is a database of something else");
    }
    prepare(&connection, is_new)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if is_new {
        connection.execute_batch(&format!("BEGIN; {tables} COMMIT;"))?;
    }
    Ok(connection)
}
