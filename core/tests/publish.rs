//! Publishing with scripted sinks: what a publisher waits for, and what it says of trouble.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vehiclecount_core::publish::sink::Destination;
use vehiclecount_core::publish::{
    Cause, Event, GRACE, Listener, PATIENCE, PublishError, PublishSettings, Publisher, Report,
    Sent, Sink, SinkError, Statistics,
};

/// How long a test waits for what must come.
const BOUND: Duration = Duration::from_secs(20);

fn report(number: u32) -> Report {
    Report { camera: "north".to_owned(), unique_id: 0, json: number.to_string() }
}

fn settings(queue_size: usize) -> PublishSettings {
    PublishSettings { queue_size, ..PublishSettings::default() }
}

/// A listener whose events, remarks left out, come out of the receiver.
fn listener(group: usize) -> (Listener, Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let call = move |event: &Event| {
        if !matches!(event, Event::Remark(_)) {
            let _ = sender.send(event.clone());
        }
    };
    (Listener { group, call: Arc::new(call) }, events)
}

/// A destination whose sinks do what the test tells them.
struct Script {
    opened: Arc<AtomicUsize>,
    /// Numbers of the reports that a sink was given, for each call.
    calls: Receiver<Vec<u32>>,
    answers: Sender<Result<Sent, SinkError>>,
    delivered: Arc<Mutex<Vec<u32>>>,
    alive: std::sync::Weak<()>,
}

struct ScriptedSink {
    calls: Sender<Vec<u32>>,
    answers: Arc<Mutex<Receiver<Result<Sent, SinkError>>>>,
    delivered: Arc<Mutex<Vec<u32>>>,
}

impl Sink for ScriptedSink {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let numbers: Vec<u32> = reports.iter().map(|report| report.json.parse().unwrap()).collect();
        let _ = self.calls.send(numbers.clone());
        // A test that is over has no answers.
        let answer =
            self.answers.lock().unwrap().recv().unwrap_or(Ok(Sent { delivered: reports.len() }));
        let count = match &answer {
            Ok(sent) => sent.delivered,
            Err(error) => error.delivered,
        };
        self.delivered.lock().unwrap().extend(&numbers[..count.min(numbers.len())]);
        answer
    }
}

impl Script {
    fn new(key: &str) -> (Self, impl Fn() -> Destination) {
        let (calls, called) = mpsc::channel();
        let (answers, answered) = mpsc::channel();
        let answered = Arc::new(Mutex::new(answered));
        let (opened, delivered, alive) =
            (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default(), Arc::new(()));
        let script = Self {
            opened: opened.clone(),
            calls: called,
            answers,
            delivered: delivered.clone(),
            alive: Arc::downgrade(&alive),
        };
        let key = key.to_owned();
        let destination = move || {
            let (calls, answers, delivered) = (calls.clone(), answered.clone(), delivered.clone());
            let (opened, alive) = (opened.clone(), alive.clone());
            let open = move |_: &_| {
                let _alive = &alive;
                opened.fetch_add(1, Ordering::SeqCst);
                let (calls, answers, delivered) =
                    (calls.clone(), answers.clone(), delivered.clone());
                Ok(Box::new(ScriptedSink { calls, answers, delivered }) as Box<dyn Sink>)
            };
            Destination { key: key.clone(), place: format!("the {key}"), open: Box::new(open) }
        };
        (script, destination)
    }

    fn call(&self) -> Vec<u32> {
        self.calls.recv_timeout(BOUND).unwrap()
    }

    fn deliver(&self, count: usize) {
        self.answers.send(Ok(Sent { delivered: count })).unwrap();
    }

    fn fail(&self, reason: &str) {
        self.answers.send(Err(SinkError::temporary(reason))).unwrap();
    }
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(BOUND).unwrap()
}

fn statistics(delivered: u64, waiting: u64, dropped: u64) -> Statistics {
    Statistics { delivered, waiting, dropped }
}

#[test]
fn sink_that_never_returns_holds_neither_its_publisher_nor_another() {
    let (stuck, stuck_at) = Script::new("hung mount");
    let (well, well_at) = Script::new("healthy disk");
    let (told, events) = listener(0);
    let publisher = Publisher::start(stuck_at(), &settings(2), told).unwrap();
    publisher.push(report(1));
    assert_eq!(stuck.call(), [1]);
    for number in 2..1000 {
        publisher.push(report(number));
    }
    assert!(matches!(next(&events), Event::Trouble { place, cause: Cause::Overflow(2), limit: 2 }
        if place == "the hung mount"));

    let other = Publisher::start(well_at(), &settings(2), listener(1).0).unwrap();
    other.push(report(7));
    assert_eq!(well.call(), [7]);
    well.deliver(1);
    assert_eq!(other.flush(), 0);
    assert_eq!(other.close(), statistics(1, 0, 0));

    let begin = Instant::now();
    assert_eq!(publisher.flush(), 3);
    assert!(begin.elapsed() < PATIENCE + GRACE, "{:?}", begin.elapsed());
    let begin = Instant::now();
    assert_eq!(publisher.close(), statistics(0, 0, 999));
    // The sink has been silent for the time of the first wait.
    assert!(begin.elapsed() < 2 * GRACE, "{:?}", begin.elapsed());
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if !end.recovered && end.lost == 999)
    );

    // Whoever comes back finds the thread that is still stuck, and waits for it no more.
    let begin = Instant::now();
    for _ in 0..100 {
        let again = Publisher::start(stuck_at(), &settings(2), listener(0).0).unwrap();
        again.push(report(5));
        drop(again);
    }
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert_eq!(stuck.opened.load(Ordering::SeqCst), 1);
    // The write returns in the end: the reports that were given up are not counted twice, and the
    // next publisher has a sink of its own.
    let last = Publisher::start(stuck_at(), &settings(2), listener(0).0).unwrap();
    last.push(report(6));
    stuck.deliver(1);
    assert_eq!(stuck.call(), [6]);
    stuck.deliver(1);
    assert_eq!(last.close(), statistics(1, 0, 0));
    assert_eq!(stuck.opened.load(Ordering::SeqCst), 2);
    drop(stuck_at);
    assert!(stuck.alive.upgrade().is_none(), "the thread is left behind");
}

#[test]
fn reports_wait_out_a_failure_that_is_told_once() {
    let (script, at) = Script::new("full disk");
    let (told, events) = listener(0);
    let publisher = Publisher::start(at(), &settings(8), told).unwrap();
    publisher.push(report(1));
    assert_eq!(script.call(), [1]);
    publisher.push(report(2));
    for _ in 0..3 {
        script.fail("no space");
        assert_eq!(script.call()[0], 1);
    }
    let Event::Trouble { place, cause, limit: 8 } = next(&events) else {
        panic!("a trouble begins")
    };
    assert_eq!((place.as_str(), cause.to_string().as_str()), ("the full disk", "no space"));
    assert!(events.try_recv().is_err(), "told once");
    script.deliver(2);
    assert_eq!(publisher.flush(), 0);
    let Event::TroubleEnd { place, end } = next(&events) else { panic!("the trouble ends") };
    assert_eq!((place.as_str(), end.recovered, end.lost), ("the full disk", true, 0));
    assert_eq!(publisher.close(), statistics(2, 0, 0));
    assert!(events.try_recv().is_err(), "told once");
    assert_eq!(*script.delivered.lock().unwrap(), [1, 2]);
    assert_eq!(script.opened.load(Ordering::SeqCst), 4, "a sink that failed is opened again");
}

#[test]
fn trouble_ends_by_itself_when_all_is_quiet() {
    let (script, at) = Script::new("disk that comes back");
    let (told, events) = listener(0);
    let publisher = Publisher::start(at(), &settings(8), told).unwrap();
    publisher.push(report(1));
    script.call();
    script.fail("no space");
    assert!(matches!(next(&events), Event::Trouble { .. }));
    script.call();
    script.deliver(1);
    assert!(matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered));
    drop(publisher);
}

#[test]
fn what_overflows_is_counted_and_told_at_the_end() {
    let (script, at) = Script::new("slow disk");
    let (told, events) = listener(0);
    let publisher = Publisher::start(at(), &settings(3), told).unwrap();
    publisher.push(report(0));
    script.call();
    for number in 1..=10 {
        assert_eq!(publisher.push(report(number)), number > 3);
    }
    assert!(matches!(next(&events), Event::Trouble { cause: Cause::Overflow(3), .. }));
    assert_eq!(publisher.statistics(), statistics(0, 4, 7));
    script.deliver(1);
    // A sink may take a part, and is asked again for the rest, before newer ones.
    assert_eq!(script.call(), [8, 9, 10]);
    script.deliver(1);
    assert_eq!(script.call(), [9, 10]);
    script.deliver(0);
    assert_eq!(script.call(), [9, 10]);
    script.deliver(2);
    publisher.flush();
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 7)
    );
    assert_eq!(publisher.close(), statistics(4, 0, 7));
}

#[test]
fn failure_in_the_middle_keeps_what_was_delivered_before_it() {
    let (script, at) = Script::new("broker");
    let publisher = Publisher::start(at(), &settings(8), listener(0).0).unwrap();
    publisher.push(report(0));
    script.call();
    for number in 1..=3 {
        publisher.push(report(number));
    }
    script.deliver(1);
    assert_eq!(script.call(), [1, 2, 3]);
    let error = SinkError { delivered: 2, ..SinkError::temporary("connection lost") };
    script.answers.send(Err(error)).unwrap();
    assert_eq!(script.call(), [3]);
    script.deliver(1);
    assert_eq!(publisher.close(), statistics(4, 0, 0));
    assert_eq!(*script.delivered.lock().unwrap(), [0, 1, 2, 3]);
}

#[test]
fn end_of_one_camera_does_not_wait_for_the_reports_of_another() {
    let (script, at) = Script::new("shared disk");
    let north = Publisher::start(at(), &settings(8), listener(0).0).unwrap();
    let south = Publisher::start(at(), &settings(8), listener(0).0).unwrap();
    north.push(report(1));
    script.call();
    south.push(report(2));
    south.push(report(3));
    script.deliver(1);
    // South's reports are with the sink, which does not answer.
    assert_eq!(script.call(), [2, 3]);
    assert_eq!(north.close(), statistics(1, 0, 0));
    script.deliver(2);
    assert_eq!(south.close(), statistics(2, 0, 0));
    assert_eq!(script.opened.load(Ordering::SeqCst), 1, "both share a sink");
    drop(at);
    assert!(script.alive.upgrade().is_none(), "the last one closes it");
}

#[test]
fn reports_of_a_camera_that_left_stay_with_those_that_share_the_queue() {
    let (script, at) = Script::new("disk that comes back late");
    let north = Publisher::start(at(), &settings(8), listener(0).0).unwrap();
    let south = Publisher::start(at(), &settings(8), listener(0).0).unwrap();
    north.push(report(1));
    script.call();
    assert_eq!(north.close(), statistics(0, 1, 0));
    south.push(report(2));
    script.deliver(1);
    assert_eq!(script.call(), [2]);
    script.deliver(1);
    assert_eq!(south.close(), statistics(1, 0, 0));
    assert_eq!(*script.delivered.lock().unwrap(), [1, 2]);
}

#[test]
fn pipelines_are_told_once_each() {
    let (script, at) = Script::new("disk of three");
    let (first, of_first) = listener(1);
    let (second, of_second) = listener(1);
    let (third, of_third) = listener(2);
    let publishers =
        [first, second, third].map(|told| Publisher::start(at(), &settings(8), told).unwrap());
    publishers[1].push(report(1));
    script.call();
    script.fail("no space");
    assert!(matches!(next(&of_first), Event::Trouble { .. }));
    assert!(matches!(next(&of_third), Event::Trouble { .. }));
    script.call();
    script.deliver(1);
    assert!(matches!(next(&of_third), Event::TroubleEnd { .. }));
    assert!(of_second.try_recv().is_err());
    drop(publishers);
}

#[test]
fn sink_that_panics_is_a_sink_that_failed() {
    struct Panicking;
    impl Sink for Panicking {
        fn send(&mut self, _: &[Report]) -> Result<Sent, SinkError> {
            panic!("a fault of the sink, on purpose");
        }
    }
    let open = |_: &_| Ok(Box::new(Panicking) as Box<dyn Sink>);
    let at = Destination { key: "panics".to_owned(), place: "it".to_owned(), open: Box::new(open) };
    let (told, events) = listener(0);
    let publisher = Publisher::start(at, &settings(8), told).unwrap();
    publisher.push(report(1));
    let Event::Trouble { cause, .. } = next(&events) else { panic!("a trouble begins") };
    assert!(cause.to_string().contains("panicked"), "{cause}");
    assert_eq!(publisher.close(), statistics(0, 0, 1));
}

#[test]
fn place_that_can_never_be_opened_ends_the_start_and_one_that_may_be_does_not() {
    let at = |permanent: bool, tries: Arc<AtomicUsize>| {
        let open = move |_: &_| {
            tries.fetch_add(1, Ordering::SeqCst);
            Err(SinkError { permanent, ..SinkError::temporary("not now") })
        };
        Destination {
            key: format!("wrong {permanent}"),
            place: "there".to_owned(),
            open: Box::new(open),
        }
    };
    for _ in 0..2 {
        let tries = Arc::<AtomicUsize>::default();
        let result = Publisher::start(at(true, tries.clone()), &settings(8), listener(0).0);
        let Err(PublishError::Refused { place, reason }) = result else { panic!("it is refused") };
        assert_eq!((place.as_str(), reason.as_str()), ("there", "not now"));
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }
    let (told, events) = listener(0);
    let publisher = Publisher::start(at(false, Arc::default()), &settings(8), told).unwrap();
    assert!(matches!(next(&events), Event::Trouble { .. }));
    publisher.push(report(1));
    assert_eq!(publisher.close(), statistics(0, 0, 1));
}

#[test]
fn silence_of_a_sink_is_told_although_nothing_is_lost_yet() {
    let (script, at) = Script::new("reader that stands still");
    let (told, events) = listener(0);
    let publisher = Publisher::start(at(), &settings(8), told).unwrap();
    publisher.push(report(1));
    script.call();
    // Flushing is what takes the time here.
    assert_eq!(publisher.flush(), 1);
    publisher.push(report(2));
    let Event::Trouble { cause, .. } = next(&events) else { panic!("a trouble begins") };
    assert!(matches!(cause, Cause::Stall(_)) && cause.to_string().contains("2.0 s"), "{cause}");
    script.deliver(1);
    script.call();
    script.deliver(1);
    assert_eq!(publisher.flush(), 0);
    assert!(
        matches!(next(&events), Event::TroubleEnd { end, .. } if end.recovered && end.lost == 0)
    );
}
