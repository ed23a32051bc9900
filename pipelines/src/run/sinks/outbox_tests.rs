use std::path::PathBuf;

use vehiclecount_core::publish::sink::Rotation;

use super::*;
use crate::config::{RecordKind, SinkPlace};

/// A time of day on a clock that is set.
const NOW: f64 = 1_800_000_000.0;

/// The ticket of the first sink.
const FIRST: Ticket = Ticket { sink: 0, issue: 0 };

fn sink(name: &str, keep_bytes: u64) -> Sink {
    Sink {
        name: name.to_owned(),
        place: SinkPlace::File(PathBuf::new(), Rotation::default()),
        records: vec![RecordKind::Count],
        windows: Vec::new(),
        keep: Duration::from_secs(3600),
        keep_bytes,
    }
}

/// An outbox at `path` for sinks, and their figures.
fn open(path: &Path, sinks: &[Sink]) -> (Outbox, Vec<Arc<SinkStatus>>) {
    let status: Vec<_> = sinks.iter().map(|sink| Arc::new(SinkStatus::new(sink))).collect();
    let listed: Vec<_> = sinks.iter().zip(status.iter().cloned()).collect();
    (Outbox::open(path, &listed).unwrap(), status)
}

/// Records with these numbers for the first sink.
fn records(numbers: impl Iterator<Item = u32>) -> Vec<(Record, Vec<usize>)> {
    let record = |number: u32| Record {
        id: format!("a-{number}"),
        camera: "north".to_owned(),
        kind: "count".to_owned(),
        json: format!("{number:72}"),
    };
    numbers.map(|number| (record(number), vec![0])).collect()
}

fn read(outbox: &Outbox, sink: usize, count: usize) -> Vec<Waiting> {
    outbox.read(Outbox::first_ticket(sink), count, 1 << 20, Duration::ZERO).unwrap()
}

fn numbers(waiting: &[Waiting]) -> Vec<u32> {
    waiting.iter().map(|waiting| waiting.record.json.trim().parse().unwrap()).collect()
}

/// The sink takes the oldest `count`.
fn deliver(outbox: &Outbox, count: usize) {
    let waiting = read(outbox, 0, count);
    assert!(!waiting.is_empty());
    outbox.acknowledge(FIRST, &waiting);
}

fn figures(status: &SinkStatus) -> (u64, u64, u64) {
    let figures = status.figures();
    (figures.delivered, figures.waiting, figures.dropped)
}

#[test]
fn what_waits_survives_and_leaves_in_order_when_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let sinks = [sink("a", 1 << 20), sink("b", 1 << 20)];
    {
        let (outbox, status) = open(&path, &sinks);
        let mut mixed = records(1..7);
        mixed[3].1 = vec![1];
        mixed[4].1 = vec![0, 1];
        outbox.append(mixed, NOW);
        assert_eq!(numbers(&read(&outbox, 0, 2)), [1, 2]);
        deliver(&outbox, 2);
        assert_eq!(figures(&status[0]), (2, 3, 0));
        // Not acknowledged: it is read again.
        assert_eq!(numbers(&read(&outbox, 0, 9)), [3, 5, 6]);
    }
    let (outbox, status) = open(&path, &sinks);
    assert_eq!((figures(&status[0]), figures(&status[1])), ((0, 3, 0), (0, 2, 0)));
    outbox.append(records(7..8), NOW);
    let waiting = read(&outbox, 0, 9);
    assert_eq!(numbers(&waiting), [3, 5, 6, 7]);
    assert_eq!(waiting[0].record.id, "a-3", "the id is what it was");
    assert_eq!(numbers(&read(&outbox, 1, 9)), [4, 5]);
    // Only so much JSON at once, but one record at least.
    let little = outbox.read(FIRST, 9, 150, Duration::ZERO).unwrap();
    assert_eq!(numbers(&little), [3, 5]);
    assert_eq!(outbox.read(FIRST, 9, 1, Duration::ZERO).unwrap().len(), 1);
}

#[test]
fn oldest_go_when_more_waits_than_there_is_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    // A record is taken for 72 + 128 bytes.
    let sinks = [sink("a", 1000 * 200), sink("b", 1 << 30)];
    let (outbox, status) = open(&path, &sinks);
    for begin in (0..5000).step_by(500) {
        outbox.append(records(begin..begin + 500), NOW);
    }
    assert_eq!(figures(&status[0]), (0, 1000, 4000));
    let taken = read(&outbox, 0, 3);
    assert_eq!(numbers(&taken), [4000, 4001, 4002]);
    // What is dropped while the sink has it is dropped, and not delivered too.
    outbox.append(records(5000..5002), NOW);
    outbox.acknowledge(FIRST, &taken[..3]);
    assert_eq!(figures(&status[0]), (1, 999, 4002));
    assert_eq!(figures(&status[1]), (0, 0, 0));
    drop(outbox);
    let (outbox, status) = open(&path, &sinks);
    assert_eq!(figures(&status[0]), (0, 999, 0), "the file says the same");
    assert_eq!(numbers(&read(&outbox, 0, 1)), [4003]);
}

#[test]
fn records_that_have_waited_too_long_go_and_a_clock_that_was_not_set_tells_no_age() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, status) = open(&folder.path().join("outbox.db"), &[sink("a", 1 << 20)]);
    outbox.append(records(0..400), NOW);
    outbox.append(records(400..402), NOW + 1800.0);
    outbox.tick(NOW + 3599.0);
    assert_eq!(figures(&status[0]), (0, 402, 0));
    outbox.tick(NOW + 3601.0);
    assert_eq!(figures(&status[0]), (0, 2, 400));
    assert_eq!(numbers(&read(&outbox, 0, 9)), [400, 401]);
    deliver(&outbox, 2);
    // After a start without a network the clock says 1970.
    outbox.append(records(402..403), 12.0);
    outbox.tick(NOW);
    assert_eq!(numbers(&read(&outbox, 0, 9)), [402]);
}

#[test]
fn full_disk_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let sinks = [sink("a", 1 << 30)];
    let (outbox, status) = open(&path, &sinks);
    outbox.append(records(0..100), NOW);
    let pages = |outbox: &Outbox, most: i64| {
        let state = outbox.state.lock();
        state.connection.pragma_update(None, "max_page_count", most).unwrap();
    };
    // SQLite sets it to what there is, at least.
    pages(&outbox, 1);
    outbox.append(records(100..30_000), NOW);
    let file = outbox.status().figures();
    assert!(file.state == SinkState::Waiting && file.waiting > 0, "{file:?}");
    assert!(file.reason.unwrap().starts_with("the outbox cannot be written"));
    // The file holds the oldest; of the rest, what has room in memory.
    let (delivered, waiting, dropped) = figures(&status[0]);
    assert_eq!((delivered, waiting), (0, 100 + ROOM as u64));
    assert_eq!(dropped, 29_900 - ROOM as u64);
    deliver(&outbox, 90);
    let next = read(&outbox, 0, 20);
    let first = 30_000 - ROOM as u32;
    let expected: Vec<_> = (90..100).chain(first..first + 10).collect();
    assert_eq!(numbers(&next), expected);
    deliver(&outbox, 20);
    pages(&outbox, 1 << 20);
    outbox.tick(NOW);
    let file = outbox.status().figures();
    assert!((file.state, file.waiting) == (SinkState::Live, 0) && file.delivered > 0, "{file:?}");
    drop(outbox);
    let (outbox, status) = open(&path, &sinks);
    assert_eq!(figures(&status[0]).1, ROOM as u64 - 10);
    assert_eq!(numbers(&read(&outbox, 0, 1)), [first + 10]);
}

#[test]
fn reader_waits_until_something_comes_or_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(&folder.path().join("outbox.db"), &[sink("a", 1 << 20)]);
    let outbox = Arc::new(outbox);
    let (send, found) = std::sync::mpsc::channel();
    let reader = outbox.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..2 {
            let waiting =
                reader.read(Outbox::first_ticket(0), 9, 1 << 20, Duration::from_secs(60)).unwrap();
            reader.acknowledge(Outbox::first_ticket(0), &waiting);
            send.send(numbers(&waiting)).unwrap();
        }
    });
    outbox.append(records(1..3), NOW);
    let bound = Duration::from_secs(30);
    assert_eq!(found.recv_timeout(bound).unwrap(), [1, 2]);
    outbox.finish(Instant::now());
    assert!(found.recv_timeout(bound).unwrap().is_empty());
    thread.join().unwrap();
}

#[test]
fn files_that_are_no_outbox_or_are_in_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| format!("{:#}", Outbox::open(path, &[]).err().unwrap());
    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    assert!(refused(&other).contains("a database of something else"), "{}", refused(&other));
    let later = folder.path().join("later.db");
    Connection::open(&later).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(refused(&later).contains("by a later version"), "{}", refused(&later));
    let nowhere = refused(&folder.path().join("no/folder.db"));
    assert!(nowhere.contains("choose another file with [outbox] file"), "{nowhere}");
    let path = folder.path().join("outbox.db");
    let (outbox, _) = open(&path, &[sink("a", 1 << 20)]);
    outbox.append(records(1..2), NOW);
    assert!(refused(&path).contains("locked"), "{}", refused(&path));
    drop(outbox);
    // The sink is not in the configuration any more.
    let (_, status) = open(&path, &[sink("b", 1 << 20)]);
    assert_eq!(figures(&status[0]), (0, 0, 0));
    let (_, status) = open(&path, &[sink("a", 1 << 20)]);
    assert_eq!(figures(&status[0]), (0, 0, 0));
}

#[test]
fn sink_that_is_changed_keeps_what_waits_and_one_that_is_removed_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let (outbox, status) = open(&path, &[sink("a", 1 << 20)]);
    outbox.append(records(1..4), NOW);
    let old = read(&outbox, 0, 9);
    let changed = outbox.change(FIRST, &sink("a", 1 << 20));
    // The old ticket reads nothing more; what it had taken by then is acknowledged.
    assert!(outbox.end(FIRST).is_some() && outbox.end(changed).is_none());
    assert_eq!(read(&outbox, 0, 9), []);
    outbox.acknowledge(FIRST, &old[..1]);
    let waiting = outbox.read(changed, 9, 1 << 20, Duration::ZERO).unwrap();
    assert_eq!(numbers(&waiting), [2, 3]);
    // One more has a place of its own, and gets its own records alone.
    let other = sink("b", 1 << 20);
    let other_status = Arc::new(SinkStatus::new(&other));
    let added = outbox.add(&other, other_status.clone());
    let both = records(4..5).into_iter().map(|(record, _)| (record, vec![0, added.sink]));
    outbox.append(both.collect(), NOW);
    let waiting = outbox.read(added, 9, 1 << 20, Duration::ZERO).unwrap();
    assert_eq!(numbers(&waiting), [4]);
    outbox.remove(changed);
    assert!(outbox.end(changed).is_some());
    assert_eq!(outbox.read(changed, 9, 1 << 20, Duration::ZERO).unwrap(), []);
    // What comes for a sink that is gone is nobody's.
    outbox.append(records(5..6), NOW);
    outbox.acknowledge(changed, &old);
    assert_eq!((figures(&status[0]), figures(&other_status)), ((1, 3, 0), (0, 1, 0)));
    drop(outbox);
    // One that comes back under the old name begins anew.
    let (_, status) = open(&path, &[sink("a", 1 << 20), sink("b", 1 << 20)]);
    assert_eq!((figures(&status[0]), figures(&status[1])), ((0, 0, 0), (0, 1, 0)));
}
