//! Signals and limits of the process: what would kill it becomes an error. These tests change both,
//! so they have a process of their own.

#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use vehiclecount_core::publish::{
    Event, Listener, PublishSettings, Publisher, Report, SinkSettings, Statistics,
};

fn publisher(path: &Path) -> (Publisher, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let call = move |event: &Event| {
        if !matches!(event, Event::Remark(_)) {
            let _ = sender.send(event.clone());
        }
    };
    let settings = PublishSettings {
        queue_size: 100,
        sink: SinkSettings { append: true, ..SinkSettings::default() },
    };
    let listener = Listener { group: 0, call: Arc::new(call) };
    (Publisher::open(path.to_str().unwrap(), &settings, listener).unwrap(), events)
}

fn report(number: u64) -> Report {
    Report {
        camera: "north".to_owned(),
        unique_id: 0,
        json: format!("{{\"schema\":2,\"sequence\":{number:04}}}"),
    }
}

fn next(events: &mpsc::Receiver<Event>) -> Event {
    events.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn file_that_may_not_grow_ends_with_a_whole_line_and_goes_on_when_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let line = report(0).json.len() as u64 + 1;
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    // The limit lies within a line, on its last byte, and between two lines.
    for (round, room) in [10 * line + line / 2, 11 * line - 1, 10 * line].into_iter().enumerate() {
        fs::write(&path, "").unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, room, hard).unwrap();
        let (publisher, events) = publisher(&path);
        for number in 0..30 {
            publisher.push(report(number));
        }
        let Event::Trouble { cause, .. } = next(&events) else { panic!("a trouble begins") };
        assert!(cause.to_string().contains("too large"), "{cause}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 10 * line, "round {round}");
        assert_eq!(publisher.statistics(), Statistics { delivered: 10, waiting: 20, dropped: 0 });
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
        assert_eq!(publisher.flush(), 0);
        assert!(
            matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 0)
        );
        let expected: String = (0..30).map(|number| report(number).json + "\n").collect();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}

#[test]
fn reader_that_goes_does_not_take_the_process_with_it() {
    // As in a program that is not in Rust, whose runtime ignores the signal.
    // SAFETY: the default disposition runs no code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let (publisher, events) = publisher(&path);
    publisher.push(report(1));
    assert_eq!(publisher.flush(), 0);
    drop(reader);
    publisher.push(report(2));
    assert!(matches!(next(&events), Event::Trouble { .. }));
    // SAFETY: as above.
    let disposition = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    assert!(matches!(disposition, SigHandler::SigDfl), "the disposition is the process's own");
    assert_eq!(publisher.close().dropped, 1);
}
