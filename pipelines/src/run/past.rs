//! Events of the past, as far back as they are kept.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags, params};
use vehiclecount_core::event::Event;

use super::{database, history};

/// What is asked of the events.
#[derive(Clone, Debug)]
pub struct EventQuestion {
    /// The camera; `None`: all cameras.
    pub camera: Option<String>,
    /// From here on, seconds since 1970.
    pub from: f64,
    /// Up to here, seconds since 1970, and at that time.
    pub to: f64,
    /// How many, the newest; and those of the same time as the last of them.
    pub limit: usize,
}

impl EventQuestion {
    /// Those of `events` that are asked for, the newest first.
    pub fn choose(&self, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
        let Self { camera, from, to, limit } = self;
        let is_asked = |event: &Event| {
            (*from..=*to).contains(&event.time)
                && camera.as_ref().is_none_or(|camera| *camera == event.camera)
        };
        let mut events: Vec<_> = events.into_iter().filter(is_asked).collect();
        events.sort_by(|a, b| b.time.total_cmp(&a.time));
        if let Some(last) = limit.checked_sub(1).and_then(|last| events.get(last)) {
            let time = last.time;
            events.retain(|event| event.time >= time);
        }
        events
    }
}

/// Reads events of the file at `path`, the newest first.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path, question: &EventQuestion) -> Result<Vec<Event>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(database::BUSY)?;
    let EventQuestion { camera, from, to, limit } = question;
    let of_camera = match camera {
        Some(_) => "json_extract(event, '$.camera') = ?4",
        None => "?4 IS NULL",
    };
    let asked = format!("time >= ?1 AND time <= ?2 AND {of_camera}");
    let mut query = connection.prepare(&format!(
        "SELECT event FROM event WHERE {asked} AND time >= coalesce(
             (SELECT time FROM event WHERE {asked} ORDER BY time DESC LIMIT 1 OFFSET ?3), ?1)
         ORDER BY time DESC, id DESC"
    ))?;
    let last = limit.saturating_sub(1) as i64;
    history::parse(query.query_map(params![from, to, last, camera], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use vehiclecount_core::event::EventKind;

    use super::*;
    use crate::run::history::History;
    use crate::run::recorder::Store;

    #[test]
    fn all_events_are_read_page_by_page_whatever_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter.db");
        let mut history = History::open(&path, 400, &|_| {}).unwrap();
        // Three at each time, and two cameras.
        let events: Vec<_> = (0..2000)
            .map(|number| Event {
                time: f64::from(number / 3) + 0.25,
                camera: ["north", "it's \"south\""][usize::from(number % 5 == 0)].to_owned(),
                kind: EventKind::CameraLost { reason: number.to_string() },
            })
            .collect();
        history.store(&[], &events, &[]);
        let question = |camera: Option<&str>, from, to, limit| EventQuestion {
            camera: camera.map(str::to_owned),
            from,
            to,
            limit,
        };
        for camera in [None, Some("north"), Some("it's \"south\""), Some("west")] {
            let (mut found, mut to) = (Vec::<Event>::new(), f64::MAX);
            for _ in 0..2000 {
                let asked = question(camera, 0.0, to, 7);
                let page = read(&path, &asked).unwrap();
                assert_eq!(page.len(), asked.choose(events.clone()).len());
                let before = found.len();
                for event in page {
                    if !found.contains(&event) {
                        found.push(event);
                    }
                }
                if found.len() == before {
                    break;
                }
                to = found.last().unwrap().time;
            }
            let expected = events.iter().filter(|event| camera.is_none_or(|c| c == event.camera));
            assert_eq!(found.len(), expected.count(), "{camera:?}");
            assert!(found.is_sorted_by(|a, b| a.time >= b.time));
        }
        let times = |from, to| {
            let found = read(&path, &question(None, from, to, 100)).unwrap();
            found.iter().map(|event| event.time).collect::<Vec<_>>()
        };
        assert_eq!(times(1.25, 2.0), [1.25; 3]);
        assert_eq!(times(1.3, 2.25), [2.25; 3]);
        assert_eq!(times(9.0, 1.0), [0.0; 0]);
    }
}
