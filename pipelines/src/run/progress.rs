//! What the recorder goes on from after a restart, however the service ended: the windows that are
//! open, as the shortest windows in them, and what was told of each camera. It is kept in the
//! database of the history or of the outbox, in one transaction with the records and events that it
//! belongs to, so that a window is recorded once and whole.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use vehiclecount_core::event::Told;
use vehiclecount_core::window::{Changes, Piece, Tally, WINDOWS};

/// Tables that are made where they are missing: they hold nothing that an earlier version needs. An
/// empty region is the whole frame.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS open_camera (
        camera TEXT PRIMARY KEY, time REAL NOT NULL, told TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS open_window (
        camera TEXT NOT NULL, start INTEGER NOT NULL, region TEXT NOT NULL, tally TEXT NOT NULL,
        PRIMARY KEY (camera, start, region)
    ) WITHOUT ROWID;";

/// How far the recorder is with one camera.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CameraProgress {
    /// The camera.
    pub camera: String,
    /// Up to here all windows that have ended are recorded, seconds since 1970.
    pub time: f64,
    /// What was told of it.
    pub told: Told,
    /// What its open windows have gathered.
    pub changes: Changes,
}

/// Progress that is to be written.
#[derive(Debug, Default)]
pub struct Pending(BTreeMap<String, CameraProgress>);

/// Where the longest window begins that `time` lies in: no open one needs what is older.
fn needed_from(time: f64) -> i64 {
    let longest = f64::from(WINDOWS[WINDOWS.len() - 1]);
    ((time / longest).floor() * longest) as i64
}

fn word(region: &Option<String>) -> &str {
    region.as_deref().unwrap_or_default()
}

impl Pending {
    /// Takes in what is newer. What is not needed any more goes, so that this does not grow.
    pub fn add(&mut self, progress: &[CameraProgress]) {
        for CameraProgress { camera, time, told, changes } in progress {
            let held = self.0.entry(camera.clone()).or_default();
            held.camera.clone_from(camera);
            (held.time, held.told) = (*time, told.clone());
            let Changes { forgotten, pieces } = &mut held.changes;
            let from = needed_from(*time);
            pieces.retain(|piece| {
                !changes.forgotten.contains(&piece.region) && piece.start as i64 >= from
            });
            for region in &changes.forgotten {
                if !forgotten.contains(region) {
                    forgotten.push(region.clone());
                }
            }
            pieces.extend(changes.pieces.iter().cloned());
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It is written.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Writes it, in the transaction of a connection.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut camera =
            connection.prepare("INSERT OR REPLACE INTO open_camera VALUES (?1, ?2, ?3)")?;
        let mut old =
            connection.prepare("DELETE FROM open_window WHERE camera = ?1 AND start < ?2")?;
        let mut forget =
            connection.prepare("DELETE FROM open_window WHERE camera = ?1 AND region = ?2")?;
        let mut piece =
            connection.prepare("INSERT OR REPLACE INTO open_window VALUES (?1, ?2, ?3, ?4)")?;
        for (name, progress) in &self.0 {
            let told = json(&progress.told)?;
            camera.execute(params![name, progress.time, told])?;
            old.execute(params![name, needed_from(progress.time)])?;
            for region in &progress.changes.forgotten {
                forget.execute(params![name, word(region)])?;
            }
            for Piece { region, start, tally } in &progress.changes.pieces {
                piece.execute(params![name, *start as i64, word(region), json(tally)?])?;
            }
        }
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// What was kept. What cannot be understood, as of a later version, is left out.
///
/// # Errors
/// The file cannot be read.
pub fn read(connection: &Connection) -> rusqlite::Result<Vec<CameraProgress>> {
    let mut query = connection.prepare("SELECT camera, time, told FROM open_camera")?;
    let rows = query.query_map([], |row| {
        let told = serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default();
        let (camera, time) = (row.get(0)?, row.get(1)?);
        Ok(CameraProgress { camera, time, told, changes: Changes::default() })
    })?;
    let mut all = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut query = connection.prepare(
        "SELECT region, start, tally FROM open_window WHERE camera = ?1 AND start >= ?2
         ORDER BY start",
    )?;
    for progress in &mut all {
        let from = needed_from(progress.time);
        let rows = query.query_map(params![progress.camera, from], |row| {
            let region: String = row.get(0)?;
            let tally = serde_json::from_str::<Tally>(&row.get::<_, String>(2)?).ok();
            let start = row.get::<_, i64>(1)?.unsigned_abs();
            let region = Some(region).filter(|region| !region.is_empty());
            Ok(tally.map(|tally| Piece { region, start, tally }))
        })?;
        for piece in rows {
            progress.changes.pieces.extend(piece?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use vehiclecount_core::count::Counts;
    use vehiclecount_core::region::Level;
    use vehiclecount_core::report::FrameCount;
    use vehiclecount_core::window::Windows;

    use super::*;

    /// A camera of which so many seconds were counted from 3600 s on.
    fn progress(windows: &mut Windows, seconds: std::ops::Range<u32>) -> CameraProgress {
        let total = FrameCount { raw: 2.0, smoothed: 2.0, level: Level::Free };
        let counts = Counts { total, regions: Some(vec![total]) };
        let time = |second: u32| 3600.0 + f64::from(second);
        let end = time(seconds.end);
        for second in seconds {
            windows.count(time(second), &counts, false);
        }
        windows.advance(end);
        let changes = windows.take_changes();
        let camera = "north".to_owned();
        CameraProgress { camera, time: end, changes, ..CameraProgress::default() }
    }

    #[test]
    fn what_is_written_at_once_or_bit_by_bit_is_read_again_and_does_not_grow() {
        let connections = [(); 2].map(|()| {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(TABLES).unwrap();
            connection
        });
        let mut windows = Windows::new("north", &["left".to_owned()], 2.0);
        // As while the file cannot be written.
        let mut pending = Pending::default();
        for minute in 0..100 {
            let progress = progress(&mut windows, minute * 60..(minute + 1) * 60);
            pending.add(std::slice::from_ref(&progress));
            let mut each = Pending::default();
            each.add(&[progress]);
            each.write(&connections[0]).unwrap();
            let pieces = &pending.0["north"].changes.pieces;
            assert!(pieces.len() <= 2 * 360, "{} pieces", pieces.len());
        }
        pending.write(&connections[1]).unwrap();
        let [one, other] = connections.each_ref().map(|connection| read(connection).unwrap());
        assert_eq!(one, other);
        // 40 minutes of the second hour.
        assert_eq!((one[0].time, one[0].changes.pieces.len()), (9600.0, 2 * 240));
        let count = "SELECT count(*) FROM open_window";
        let count: i64 = connections[0].query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2 * 240);

        // The frame's windows go on, and those of a region are ended.
        let ended = windows.change(9605.0, &[], 2.0);
        assert!(ended.iter().all(|record| record.region.is_some()) && !ended.is_empty());
        let changes = windows.take_changes();
        pending.clear();
        assert!(pending.is_empty());
        pending.add(&[CameraProgress { time: 9605.0, changes, ..one[0].clone() }]);
        pending.write(&connections[0]).unwrap();
        let left = read(&connections[0]).unwrap().remove(0).changes.pieces;
        assert!(left.len() == 240 && left.iter().all(|piece| piece.region.is_none()));
    }
}
