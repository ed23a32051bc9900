//! Standard output as a sink. Each test has a process of its own, whose standard output it leads
//! elsewhere.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{dup2_stdout, pipe};
use vehiclecount_core::publish::{
    Event, Listener, PATIENCE, PublishError, PublishSettings, Publisher, Report, SinkSettings,
    Statistics,
};

mod child;

/// Standard output leads elsewhere until this is dropped.
struct Redirection(OwnedFd);

impl Redirection {
    fn to(target: impl AsFd) -> Self {
        let own = io::stdout().as_fd().try_clone_to_owned().unwrap();
        dup2_stdout(target).unwrap();
        Self(own)
    }
}

impl Drop for Redirection {
    fn drop(&mut self) {
        dup2_stdout(&self.0).unwrap();
    }
}

fn publisher() -> Result<(Publisher, Receiver<Event>), PublishError> {
    let (sender, events) = mpsc::channel();
    let call = move |event: &Event| {
        if !matches!(event, Event::Remark(_)) {
            let _ = sender.send(event.clone());
        }
    };
    let settings = PublishSettings { queue_size: 100, sink: SinkSettings::default() };
    Ok((Publisher::open("-", &settings, Listener { group: 0, call: Arc::new(call) })?, events))
}

fn report(number: u64, padding: usize) -> Report {
    let padding = "x".repeat(padding);
    let json = format!("{{\"schema\":2,\"sequence\":{number},\"padding\":\"{padding}\"}}");
    Report { camera: "north".to_owned(), unique_id: 0, json }
}

#[test]
fn file_that_an_earlier_process_left_within_a_line_is_continued_with_whole_lines() {
    if !child::is_this() {
        child::run(&mut child::command(child::this_test!()));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let (own, line) = (report(7, 0).json, report(1, 0).json);
    for (before, expected) in [
        // The beginning of a report is cut off, anything else is ended.
        (format!("{own}\n{{\"schema\":2,\"seq"), format!("{own}\n{line}\n")),
        (format!("{own}\n{{\"sch"), format!("{own}\n{line}\n")),
        (format!("{own}\n\0\0\0"), format!("{own}\n{line}\n")),
        (own.clone(), format!("{own}\n{line}\n")),
        ("some text".to_owned(), format!("some text\n{line}\n")),
        (format!("{own}\n"), format!("{own}\n{line}\n")),
        (String::new(), format!("{line}\n")),
    ] {
        fs::write(&path, &before).unwrap();
        // As a shell's >> opens it.
        let _redirection = Redirection::to(OpenOptions::new().append(true).open(&path).unwrap());
        let (publisher, _) = publisher().unwrap();
        publisher.push(report(1, 0));
        assert_eq!(publisher.close(), Statistics { delivered: 1, waiting: 0, dropped: 0 });
        assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{before:?}");
    }
    // As a shell's > opens it: what other programs write through it stays.
    let file = File::create(&path).unwrap();
    io::Write::write_all(&mut &file, b"# begin\n").unwrap();
    let redirection = Redirection::to(&file);
    let (publisher, _) = publisher().unwrap();
    publisher.push(report(1, 0));
    assert_eq!(publisher.close().delivered, 1);
    drop(redirection);
    io::Write::write_all(&mut &file, b"# end\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("# begin\n{line}\n# end\n"));
}

#[test]
fn pipe_that_nobody_drains_holds_neither_the_end_nor_other_programs() {
    if !child::is_this() {
        child::run(&mut child::command(child::this_test!()));
        return;
    }
    let (reader, writer) = pipe().unwrap();
    let redirection = Redirection::to(&writer);
    let (publisher, events) = publisher().unwrap();
    for number in 0..100 {
        publisher.push(report(number, 3000));
    }
    let begin = Instant::now();
    let statistics = publisher.close();
    assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", begin.elapsed());
    assert!(
        statistics.delivered > 0 && statistics.dropped > 0 && statistics.waiting == 0,
        "{statistics:?}"
    );
    let events: Vec<_> = events.try_iter().collect();
    let [Event::Trouble { place, .. }, Event::TroubleEnd { end, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (place.as_str(), end.recovered, end.lost),
        ("standard output", false, statistics.dropped)
    );
    let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
    assert!(
        !flags.contains(OFlag::O_NONBLOCK),
        "other programs share the pipe, and expect it to block"
    );
    // What was delivered is there, in whole lines.
    drop((redirection, writer));
    let lines: Vec<_> = BufReader::new(File::from(reader)).lines().map(Result::unwrap).collect();
    let expected: Vec<_> =
        (0..statistics.delivered).map(|number| report(number, 3000).json).collect();
    assert_eq!(lines, expected);
}

#[test]
fn reader_that_leaves_is_told_and_kills_nothing() {
    if !child::is_this() {
        child::run(&mut child::command(child::this_test!()));
        return;
    }
    // SAFETY: the default disposition runs no code.
    unsafe {
        nix::sys::signal::signal(nix::sys::signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    }
    .unwrap();
    let (reader, writer) = pipe().unwrap();
    let _redirection = Redirection::to(writer);
    let (publisher, events) = publisher().unwrap();
    publisher.push(report(1, 0));
    assert_eq!(publisher.flush(), 0);
    drop(reader);
    publisher.push(report(2, 0));
    let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
    let Event::Trouble { cause, .. } = event else { panic!("{event:?}") };
    assert_eq!(cause.to_string(), "its reader has gone");
    assert_eq!(publisher.close(), Statistics { delivered: 1, waiting: 0, dropped: 1 });
}

#[test]
fn socket_that_a_supervisor_made_takes_lines() {
    if !child::is_this() {
        let (own, other) = UnixStream::pair().unwrap();
        child::run(child::command(child::this_test!()).stdin(OwnedFd::from(other)));
        let line = BufReader::new(own).lines().next().unwrap().unwrap();
        assert_eq!(line, report(1, 0).json);
        return;
    }
    let _redirection = Redirection::to(io::stdin());
    let (publisher, _) = publisher().unwrap();
    publisher.push(report(1, 0));
    assert_eq!(publisher.close().delivered, 1);
}

#[test]
fn standard_output_that_cannot_be_written_to_is_refused_by_its_reason() {
    if !child::is_this() {
        child::run(&mut child::command(child::this_test!()));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    fs::write(&path, "").unwrap();
    let refused = || match publisher() {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it is opened"),
    };
    let redirection = Redirection::to(File::open(&path).unwrap());
    assert_eq!(refused(), "standard output: it is open for reading only");
    drop(redirection);
    // A library's own pair of sockets has got the number of a stream that was closed.
    let (_other, one) = UnixStream::pair().unwrap();
    let _redirection = Redirection::to(one);
    assert_eq!(refused(), "standard output: it is closed");
}
