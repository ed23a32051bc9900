use std::cell::RefCell;
use std::time::Duration;

use vehiclecount_core::event::EventKind;

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
    let mut history = History::open(&path, 400, &|_| {}).unwrap();
    history.store(
        &[record(10, 40, 10.0, 3.0), record(10, 30, 10.0, 2.0), left.clone()],
        std::slice::from_ref(&event),
        &[],
    );
    drop(history);
    let history = History::open(&path, 400, &|_| {}).unwrap();
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
fn a_file_of_an_earlier_version_says_that_it_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counter.db");
    let told = RefCell::new(Vec::new());
    let open = || History::open(&path, 400, &|said| told.borrow_mut().push(said)).unwrap();
    let event = Event { time: 7.0, camera: "north".to_owned(), kind: EventKind::CameraBack };
    open().store(&[], &[event.clone(), event.clone()], &[]);
    // A file that is new, or of this version, has nothing to wait for.
    assert_eq!(open().events(10).unwrap(), [event.clone(), event.clone()]);
    assert!(told.borrow().is_empty());

    Connection::open(&path).unwrap().execute_batch("DROP INDEX event_by_camera").unwrap();
    assert_eq!(open().events(10).unwrap(), [event.clone(), event]);
    let said = format!("bringing the history {} up to date: indexing 2 events", path.display());
    assert_eq!(*told.borrow(), [said]);
    open();
    assert_eq!(told.borrow().len(), 1);
}

#[test]
fn parts_of_an_interrupted_window_become_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counter.db");
    History::open(&path, 400, &|_| {}).unwrap().store(&[record(60, 0, 10.0, 2.0)], &[], &[]);
    History::open(&path, 400, &|_| {}).unwrap().store(&[record(60, 0, 30.0, 6.0)], &[], &[]);
    let [whole] = &all(&path, 60)[..] else { panic!("one record") };
    assert_eq!((whole.covered, whole.mean, whole.max, whole.p95), (40.0, 5.0, 12.0, 9.0));
    assert_eq!((whole.stale, whole.levels.free), (0.5, 1.0));
}

#[test]
fn old_entries_go_short_windows_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counter.db");
    let mut history = History::open(&path, 400, &|_| {}).unwrap();
    let day = 86_400;
    let now = 1000 * day;
    let event = |time: u64| Event {
        time: time as f64,
        camera: "north".to_owned(),
        kind: EventKind::CameraBack,
    };
    for days in [1, 3, 15, 399, 401] {
        for window in [10, 60, 900, 3600] {
            history.store(&[record(window, now - days * day, 10.0, 1.0)], &[], &[]);
        }
        history.store(&[], &[event(now - days * day)], &[]);
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
    let mut history = History::open(&path, 400, &|_| {}).unwrap();
    history.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    history.store(&[record(10, 0, 10.0, 1.0)], &[], &[]);
    let figures = history.status().figures();
    assert!((figures.state, figures.waiting) == (SinkState::Waiting, 1), "{figures:?}");
    let reason = figures.reason.unwrap();
    assert!(reason.contains("the history cannot be written") && reason.contains("locked"));
    assert!(all(&path, 10).is_empty());
    // There is room for so many; the oldest go.
    let many: Vec<_> = (0..ROOM as u64).map(|number| record(10, number, 10.0, 1.0)).collect();
    history.store(&many, &[], &[]);
    let figures = history.status().figures();
    assert_eq!((figures.waiting, figures.dropped), (ROOM as u64, 1));
    history.waiting.truncate(1);
    other.execute_batch("ROLLBACK").unwrap();
    history.tick(0.0);
    assert_eq!(all(&path, 10).len(), 1);
    let figures = history.status().figures();
    assert!(figures.state == SinkState::Live && figures.reason.is_none() && figures.delivered == 1);
}

#[test]
fn files_that_are_no_history_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| format!("{:#}", History::open(path, 400, &|_| {}).err().unwrap());
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
