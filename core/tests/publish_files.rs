//! Publishing into files, pipes and devices: what a reader finds in them, whatever happens.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use vehiclecount_core::publish::sink::Rotation;
use vehiclecount_core::publish::{
    Event, GRACE, Listener, PATIENCE, PublishError, PublishSettings, Publisher, Report,
    SinkSettings, Statistics,
};

/// How long a test waits for what must come.
const BOUND: Duration = Duration::from_secs(20);

fn listener() -> (Listener, Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let call = move |event: &Event| drop(sender.send(event.clone()));
    (Listener { group: 0, call: Arc::new(call) }, events)
}

/// A publisher, and the events that are no remarks.
fn publish(path: &Path, append: bool, rotation: Rotation) -> (Publisher, Receiver<Event>) {
    let settings = PublishSettings { queue_size: 1024, sink: SinkSettings { append, rotation } };
    let (told, events) = listener();
    (Publisher::open(path.to_str().unwrap(), &settings, told).unwrap(), events)
}

fn append(path: &Path) -> (Publisher, Receiver<Event>) {
    publish(path, true, Rotation::default())
}

/// As long as a real report with a density map, where `padding` is some thousands.
fn report(number: u64, padding: usize) -> Report {
    let json = format!(
        "{{\"schema\":2,\"camera\":\"north\",\"sequence\":{number},\"padding\":\"{}\"}}",
        "x".repeat(padding)
    );
    Report { camera: "north".to_owned(), unique_id: 0, json }
}

/// Pushes, and waits until it is written.
fn write(publisher: &Publisher, number: u64) {
    publisher.push(report(number, 0));
    assert_eq!(publisher.flush(), 0, "{:?}", publisher.statistics());
}

fn sequence(line: &str) -> u64 {
    let value: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    value["sequence"].as_u64().unwrap()
}

/// The sequence numbers in the file, of which each line is a whole report.
fn sequences(path: &Path) -> Vec<u64> {
    fs::read_to_string(path).unwrap().lines().map(sequence).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    (folder, path)
}

/// The next event that is no remark.
fn next(events: &Receiver<Event>) -> Event {
    let deadline = Instant::now() + BOUND;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap() {
            Event::Remark(_) => {}
            event => return event,
        }
    }
}

/// What was remarked so far; no trouble must be among it.
fn remarks(events: &Receiver<Event>) -> String {
    let remark = |event| match event {
        Event::Remark(remark) => remark + "\n",
        trouble => panic!("{trouble:?}"),
    };
    events.try_iter().map(remark).collect()
}

#[test]
fn file_is_written_anew_or_continued_as_wanted() {
    let (_folder, path) = folder();
    for (append, number, expected) in
        [(false, 1, vec![1]), (true, 2, vec![1, 2]), (false, 3, vec![3])]
    {
        let (publisher, _events) = publish(&path, append, Rotation::default());
        write(&publisher, number);
        drop(publisher);
        assert_eq!(sequences(&path), expected);
    }
}

#[test]
fn unfinished_line_of_a_process_that_was_killed_harms_no_other_line() {
    let whole = report(1, 0).json;
    let long = report(7, 200_000).json;
    for (end, left, word) in [
        ("", "", ""),
        // The front of a report, cut anywhere.
        (&whole[..1], "", "cut off"),
        (&whole[..9], "", "cut off"),
        (&whole[..whole.len() - 1], "", "cut off"),
        (&long[..long.len() - 1], "", "cut off"),
        // Blocks that the file system had no time to write.
        ("\0\0\0\0", "", "cut off"),
        (&("\0".repeat(70_000) + &whole[..20]), "", "cut off"),
        // A report of which only the line feed is missing.
        (&whole[..], &whole[..], "ended"),
        // Somebody else's text is not ours to cut.
        ("{\"other\": 1}", "{\"other\": 1}", "ended"),
        ("{\"other\": 1", "{\"other\": 1", "ended"),
    ] {
        for begin in ["", "{\"sequence\":0}\n"] {
            let (_folder, path) = folder();
            fs::write(&path, format!("{begin}{end}")).unwrap();
            let (publisher, events) = append(&path);
            write(&publisher, 2);
            drop(publisher);
            let feed = if left.is_empty() { "" } else { "\n" };
            let expected = format!("{begin}{left}{feed}{}\n", report(2, 0).json);
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
            assert!(remarks(&events).contains(word));
        }
    }
}

#[test]
fn line_that_another_program_left_unfinished_meanwhile_is_ended() {
    let (_folder, path) = folder();
    let (publisher, _events) = append(&path);
    write(&publisher, 1);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"schema\":2,\"cam").unwrap();
    write(&publisher, 2);
    assert_eq!(sequences(&path), [1, 2]);
}

#[test]
fn lock_that_is_never_given_back_delays_lines_and_loses_none() {
    let (_folder, path) = folder();
    let (publisher, events) = append(&path);
    write(&publisher, 1);
    let other = File::open(&path).unwrap();
    other.lock().unwrap();
    write(&publisher, 2);
    assert_eq!(sequences(&path), [1, 2]);
    remarks(&events);
}

#[test]
fn moved_deleted_replaced_and_truncated_files_are_followed() {
    let (folder, path) = folder();
    let old = folder.path().join("counts.jsonl.1");
    let (publisher, events) = publish(&path, false, Rotation::default());
    write(&publisher, 1);
    // logrotate without copytruncate.
    fs::rename(&path, &old).unwrap();
    write(&publisher, 2);
    assert_eq!((sequences(&old), sequences(&path)), (vec![1], vec![2]));
    // logrotate with `create`.
    fs::rename(&path, &old).unwrap();
    File::create(&path).unwrap();
    write(&publisher, 3);
    assert_eq!((sequences(&old), sequences(&path)), (vec![2], vec![3]));
    // logrotate with copytruncate: no hole.
    fs::copy(&path, &old).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(&publisher, 4);
    assert_eq!((sequences(&old), sequences(&path)), (vec![3], vec![4]));
    // It is gone.
    fs::remove_file(&path).unwrap();
    write(&publisher, 5);
    assert_eq!(sequences(&path), [5]);
    assert_eq!(remarks(&events).matches("opened again").count(), 3);
    assert_eq!(publisher.close(), Statistics { delivered: 5, waiting: 0, dropped: 0 });
}

#[test]
fn folder_that_goes_and_comes_back_costs_nothing() {
    let (folder, _) = folder();
    let inner = folder.path().join("results");
    let path = inner.join("counts.jsonl");
    fs::create_dir(&inner).unwrap();
    let (publisher, events) = append(&path);
    write(&publisher, 1);
    fs::remove_dir_all(&inner).unwrap();
    publisher.push(report(2, 0));
    assert!(matches!(next(&events), Event::Trouble { .. }));
    publisher.push(report(3, 0));
    // A file where the folder was.
    fs::write(&inner, "").unwrap();
    publisher.push(report(4, 0));
    fs::remove_file(&inner).unwrap();
    fs::create_dir(&inner).unwrap();
    assert_eq!(publisher.flush(), 0);
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 0)
    );
    assert_eq!(sequences(&path), [2, 3, 4]);
}

#[test]
fn links_to_one_file_lead_to_one_file_of_whole_lines() {
    let (folder, path) = folder();
    let (link, hard) = (folder.path().join("link.jsonl"), folder.path().join("hard.jsonl"));
    symlink(&path, &link).unwrap();
    let (first, _) = publish(&link, false, Rotation::default());
    fs::hard_link(&path, &hard).unwrap();
    write(&first, 0);
    // `append=false` of a second name does not empty what this process is writing.
    let (second, _) = publish(&path, false, Rotation::default());
    let (third, _) = publish(&hard, false, Rotation::default());
    for number in 1..100 {
        for publisher in [&first, &second, &third] {
            publisher.push(report(number, 5000));
        }
    }
    for publisher in [first, second, third] {
        assert!(publisher.close().delivered >= 99);
    }
    let mut seen = sequences(&path);
    seen.sort_unstable();
    assert_eq!(seen[..4], [0, 1, 1, 1]);
    assert_eq!(seen.len(), 1 + 3 * 99);
}

#[test]
fn file_is_rotated_by_size_and_old_ones_go() {
    let (folder, path) = folder();
    let line = report(10, 0).json.len() as u64 + 1;
    let (publisher, _) =
        publish(&path, true, Rotation { max_size: 3 * line, max_files: 3, ..Rotation::default() });
    for number in 10..30 {
        publisher.push(report(number, 0));
        // A block of several files, and single lines.
        if number > 20 {
            publisher.flush();
        }
    }
    assert_eq!(publisher.close().delivered, 20);
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files.pop().unwrap(), path);
    assert_eq!(sequences(&path), [28, 29]);
    let kept: Vec<_> = files.iter().flat_map(|file| sequences(file)).collect();
    assert_eq!(kept, [22, 23, 24, 25, 26, 27]);
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() == 3 * line));
}

#[test]
fn writers_that_rotate_one_file_all_the_time_lose_no_line() {
    const LINES: u64 = 150;
    let (folder, path) = folder();
    // Under different names they are as separate as processes: each has its own thread and lock.
    let links = [1, 2, 3].map(|number| folder.path().join(format!("link-{number}.jsonl")));
    for link in &links {
        symlink(&path, link).unwrap();
    }
    let rotation = Rotation { max_size: 4000, ..Rotation::default() };
    let names = [&path].into_iter().chain(&links);
    let writers: Vec<_> = names.map(|name| publish(name, true, rotation.clone()).0).collect();
    for number in 0..LINES {
        for (writer, first) in writers.iter().zip((0..).step_by(LINES as usize)) {
            writer.push(report(first + number, 900));
        }
    }
    let end = Instant::now() + BOUND;
    for writer in writers {
        while writer.flush() > 0 {
            assert!(Instant::now() < end, "{:?}", writer.statistics());
        }
        assert_eq!(writer.close(), Statistics { delivered: LINES, waiting: 0, dropped: 0 });
    }
    for link in &links {
        fs::remove_file(link).unwrap();
    }
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > LINES as usize / 2, "{}", files.len());
    let mut seen: Vec<_> = files.iter().flat_map(|file| sequences(file)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..4 * LINES).collect::<Vec<_>>());
}

#[test]
fn full_device_is_told_once_and_holds_nothing() {
    let (publisher, events) = append(Path::new("/dev/full"));
    for number in 0..1000 {
        publisher.push(report(number, 0));
    }
    let Event::Trouble { place, cause, .. } = next(&events) else { panic!("a trouble begins") };
    assert_eq!(place, "/dev/full");
    assert!(cause.to_string().contains("No space left"), "{cause}");
    let begin = Instant::now();
    assert!(publisher.flush() > 0);
    assert_eq!(publisher.close(), Statistics { delivered: 0, waiting: 0, dropped: 1000 });
    assert!(begin.elapsed() < PATIENCE + 4 * GRACE, "{:?}", begin.elapsed());
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if !end.recovered && end.lost == 1000)
    );
    assert!(events.try_iter().all(|event| matches!(event, Event::Remark(_))));
}

/// A FIFO, and a reader of it that does not wait for a writer.
fn fifo() -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    (folder, path)
}

fn reader(path: &Path) -> BufReader<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    // From here on it waits for data.
    let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty());
    nix::fcntl::fcntl(&file, flags).unwrap();
    BufReader::new(file)
}

fn read_line(reader: &mut BufReader<File>) -> u64 {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    sequence(line.trim_end_matches('\n'))
}

#[test]
fn fifo_waits_for_its_reader_and_for_the_next_one() {
    let (_folder, path) = fifo();
    let begin = Instant::now();
    let (publisher, events) = append(&path);
    assert!(
        begin.elapsed() < PATIENCE,
        "opening does not wait for a reader: {:?}",
        begin.elapsed()
    );
    let Event::Trouble { cause, .. } = next(&events) else { panic!("a trouble begins") };
    assert!(cause.to_string().contains("no process reads"), "{cause}");
    publisher.push(report(1, 0));

    let mut first = reader(&path);
    assert_eq!(publisher.flush(), 0);
    assert_eq!(read_line(&mut first), 1);
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 0)
    );

    drop(first);
    publisher.push(report(2, 0));
    let Event::Trouble { cause, .. } = next(&events) else { panic!("a trouble begins") };
    assert!(cause.to_string().contains("its reader has gone"), "{cause}");
    publisher.push(report(3, 0));
    let mut second = reader(&path);
    assert_eq!(publisher.flush(), 0);
    assert_eq!([read_line(&mut second), read_line(&mut second)], [2, 3]);
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 0)
    );
    assert_eq!(publisher.close().delivered, 3);
}

#[test]
fn reader_that_stands_still_holds_neither_the_end_nor_a_line_in_two() {
    let (_folder, path) = fifo();
    let mut reader = reader(&path);
    let (publisher, _events) = append(&path);
    // Far more than a pipe holds, in lines that go into it in one piece.
    for number in 0..1000 {
        publisher.push(report(number, 500));
    }
    let begin = Instant::now();
    let waiting = publisher.flush();
    let statistics = publisher.close();
    assert!(begin.elapsed() < PATIENCE + 4 * GRACE, "{:?}", begin.elapsed());
    assert_eq!(statistics.dropped, waiting);
    assert_eq!(statistics.delivered + statistics.dropped, 1000);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let seen: Vec<_> = text.lines().map(sequence).collect();
    assert_eq!(seen, (0..statistics.delivered).collect::<Vec<_>>());
}

/// Padding of a line that goes into no pipe, however much it is enlarged.
const LONG: usize = 1_200_000;

#[test]
fn line_longer_than_a_pipe_is_finished_when_the_reader_goes_on() {
    let (_folder, path) = fifo();
    let mut reader = reader(&path);
    let (publisher, events) = append(&path);
    publisher.push(report(1, LONG));
    publisher.push(report(2, LONG));
    // The reader stands still for the whole of this, in the middle of the first line.
    assert_eq!(publisher.flush(), 2);
    publisher.push(report(3, 10));
    assert!(matches!(next(&events), Event::Trouble { .. }));
    let reading = std::thread::spawn(move || {
        let numbers = [1, 2, 3].map(|_| read_line(&mut reader));
        (numbers, reader)
    });
    assert_eq!(publisher.flush(), 0);
    let (numbers, mut reader) = reading.join().unwrap();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 0)
    );

    // The publisher ends within a line; the next one finishes it first. The reader finds no end in
    // between, since another process has the FIFO open, too.
    let _other = OpenOptions::new().write(true).open(&path).unwrap();
    publisher.push(report(4, LONG));
    publisher.flush();
    assert_eq!(publisher.close(), Statistics { delivered: 3, waiting: 0, dropped: 1 });
    let reading = std::thread::spawn(move || [4, 5].map(|_| read_line(&mut reader)));
    let (next, _) = append(&path);
    next.push(report(5, 0));
    assert_eq!(next.close(), Statistics { delivered: 1, waiting: 0, dropped: 0 });
    assert_eq!(reading.join().unwrap(), [4, 5]);
}

#[test]
fn reader_that_stands_still_finds_whole_lines_alone_also_long_ones() {
    // What a process leaves in the FIFO when it ends, or is killed; `padding` of a line.
    let left = |padding: usize| {
        let (_folder, path) = fifo();
        let mut reader = reader(&path);
        let (publisher, _events) = append(&path);
        // Long lines behind short ones, which fill pages of the pipe in part.
        let lines = (0..600u64).map(|n| report(n, [padding, 0, 0, 1500][n as usize % 4]));
        lines.for_each(|line| assert!(!publisher.push(line), "none is dropped"));
        let delivered = publisher.close().delivered;
        assert!(delivered > 0, "{padding}");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n'), "{padding}: {delivered} lines, then a part of one");
        let numbers: Vec<_> = text.lines().map(sequence).collect();
        assert_eq!(numbers, (0..delivered).collect::<Vec<_>>(), "{padding}");
    };
    // Of a length that one write takes, of a page and a bit, and longer than a pipe is at first.
    std::thread::scope(|scope| {
        for padding in [500, 4_000, 4_100, 9_000, 20_000, 70_000, 300_000] {
            scope.spawn(move || left(padding));
        }
    });
}

#[test]
fn long_lines_flow_to_a_reader_and_to_the_next_one() {
    let (_folder, path) = fifo();
    let mut first = reader(&path);
    let (publisher, _events) = append(&path);
    let reading = std::thread::spawn(move || {
        let numbers: Vec<_> = (0..50).map(|_| read_line(&mut first)).collect();
        (numbers, first)
    });
    for number in 0..50 {
        publisher.push(report(number, 40_000));
    }
    assert_eq!(publisher.flush(), 0);
    let (numbers, first) = reading.join().unwrap();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    // It leaves while a line waits for room.
    for number in 50..80 {
        publisher.push(report(number, 40_000));
    }
    assert!(publisher.flush() > 0);
    // Another process has the FIFO open, too, so that the second reader finds no end while the
    // publisher opens it anew.
    let _other = OpenOptions::new().write(true).open(&path).unwrap();
    drop(first);
    let mut second = reader(&path);
    let mut last = 49;
    while last < 79 {
        let number = read_line(&mut second);
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    assert_eq!(publisher.close().dropped, 0);
}

#[test]
fn wrong_places_are_refused_at_the_start_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let mut places = vec![
        at(""),
        at("missing/counts"),
        at("file/counts"),
        at("loop"),
        at("socket"),
        at(&"x".repeat(300)),
    ];
    places.push("/proc/counts.jsonl".into());
    for path in places {
        let location = path.to_str().unwrap();
        let result = Publisher::open(location, &PublishSettings::default(), listener().0);
        let Err(PublishError::Refused { place, reason }) = result else {
            panic!("{location} is refused")
        };
        assert_eq!(place, location);
        assert!(!reason.is_empty());
    }
    let result = Publisher::open("nats://broker/counts", &PublishSettings::default(), listener().0);
    assert!(matches!(result, Err(PublishError::Location(_))));
    let result = Publisher::open("a\0b", &PublishSettings::default(), listener().0);
    assert!(matches!(result, Err(PublishError::Refused { .. } | PublishError::Location(_))));
}

#[test]
fn hundred_starts_leave_no_thread_and_no_file_behind() {
    let (_folder, path) = folder();
    let open_files = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.filter(|file| fs::read_link(file.path()).is_ok_and(|target| target == path)).count()
    };
    for number in 0..100 {
        let (publisher, _) = append(&path);
        publisher.push(report(number, 0));
        assert_eq!(publisher.close().delivered, 1);
    }
    assert_eq!(sequences(&path), (0..100).collect::<Vec<_>>());
    assert_eq!(open_files(), 0);
}
