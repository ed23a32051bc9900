//! The dispatcher at work with the scripted engine: who is served, what is reported, and whose
//! memory is freed.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use vehiclecount_core::batch::{BatchSettings, Dispatcher, Lease, Outcome, Seat, SharedKey};
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::engine::{
    self, Engine, EngineError, EngineKind, EngineRequest, Input, ProgressSink,
};
use vehiclecount_core::model::Model;
use vehiclecount_core::tensorrt::Precision;

/// The longest that something may take that happens at once.
const BOUND: Duration = Duration::from_secs(20);

/// What a test hears of a frame: vehicles, or why there are none.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Counted(f64),
    Dropped,
    Failed(String),
}

/// The scripted engine called `name`, and a dispatcher that batches `batch_size` frames on it.
struct Rig {
    control: Control,
    engine: Weak<dyn Engine>,
    dispatcher: Option<Arc<Dispatcher>>,
}

impl Rig {
    fn new(name: &str, lanes: usize, batch_size: usize) -> Self {
        let control = Control::of(name);
        control.set_lanes(lanes);
        let request = EngineRequest {
            name: name.to_owned(),
            ..EngineRequest::new(EngineKind::Scripted, Arc::new(Model::scripted()))
        };
        let engine = engine::open(&request).expect("the scripted engine opens").engine;
        let weak = Arc::downgrade(&engine);
        let settings = BatchSettings { batch_size, timeout: Duration::ZERO };
        let dispatcher = Dispatcher::start(engine, settings).expect("it starts");
        Self { control, engine: weak, dispatcher: Some(dispatcher) }
    }

    fn dispatcher(&self) -> &Arc<Dispatcher> {
        self.dispatcher.as_ref().expect("taken at the end alone")
    }

    /// A camera, and what is reported of its frames.
    fn join(&self) -> (Seat, Receiver<(u64, Answer)>) {
        let (send, receive) = channel();
        let seat = self.dispatcher().join(move |ticket, outcome| {
            let told = match outcome {
                Outcome::Counted { output, .. } => Answer::Counted(output.total()),
                Outcome::Dropped => Answer::Dropped,
                Outcome::Failed(error) => Answer::Failed(error.to_string()),
            };
            // A test that has ended does not listen.
            let _ = send.send((ticket, told));
        });
        (seat, receive)
    }

    /// Everything ends, and nothing is left. Call it when the seats are gone.
    fn end(mut self) {
        let dispatcher = Arc::downgrade(&self.dispatcher.take().expect("it ends once"));
        assert!(dispatcher.upgrade().is_none(), "somebody holds the dispatcher");
        assert!(self.engine.upgrade().is_none(), "somebody holds the engine, or a slot");
    }
}

/// A test that fails must not wait for a lane at the gate.
impl Drop for Rig {
    fn drop(&mut self) {
        self.control.open_gate();
    }
}

/// A frame on which one vehicle stands in each of the cells: 64 of them.
fn full(seat: &Seat) -> Lease {
    let mut lease = seat.slot();
    let Input::Values(values) = &mut lease.input else {
        panic!("the scripted engine takes values")
    };
    values.fill(255.0);
    lease
}

fn next(reports: &Receiver<(u64, Answer)>) -> (u64, Answer) {
    reports.recv_timeout(BOUND).expect("a report")
}

/// The next frame of `seat` is held in the engine: what its lane worked on before has been given
/// back.
fn hold_one(rig: &Rig, seat: &Seat, ticket: u64) {
    rig.control.hold();
    seat.submit(ticket, full(seat), 1);
    assert!(rig.control.wait_for_waiting(1, BOUND));
}

/// Slots of one camera that has one frame at a time. A slot comes back after its report: the next
/// frame may have needed another one.
#[track_caller]
fn assert_one_camera(rig: &Rig) {
    let slots = rig.dispatcher().slots();
    assert!((1..=2).contains(&slots), "{slots} slots");
}

#[test]
fn slot_that_is_dropped_is_used_again() {
    let rig = Rig::new("batch-again", 1, 1);
    let (seat, reports) = rig.join();
    for ticket in 0..10 {
        drop(full(&seat));
        hold_one(&rig, &seat, ticket);
        assert_one_camera(&rig);
        rig.control.open_gate();
        assert_eq!(next(&reports), (ticket, Answer::Counted(64.0)));
    }
    drop(seat);
    rig.end();
}

#[test]
fn slots_go_with_the_camera_that_needed_them() {
    let rig = Rig::new("batch-slots", 1, 4);
    let (file, file_reports) = rig.join();
    let (live, live_reports) = rig.join();
    rig.control.hold();
    // A file fills its queue.
    for ticket in 0..32 {
        file.submit(ticket, full(&file), 32);
    }
    live.submit(0, full(&live), 1);
    assert_eq!(rig.dispatcher().slots(), 33);
    rig.control.open_gate();
    for ticket in 0..32 {
        assert_eq!(next(&file_reports), (ticket, Answer::Counted(64.0)));
    }
    assert_eq!(next(&live_reports), (0, Answer::Counted(64.0)));
    hold_one(&rig, &live, 1);
    // Between frames they are kept.
    assert_eq!(rig.dispatcher().slots(), 33);
    drop(file);
    assert_one_camera(&rig);
    rig.control.open_gate();
    assert_eq!(next(&live_reports), (1, Answer::Counted(64.0)));
    drop(live);
    rig.end();
}

#[test]
fn slots_of_a_camera_that_goes_with_frames_under_way_are_freed_when_they_come_back() {
    let rig = Rig::new("batch-under-way", 1, 2);
    let (seat, _reports) = rig.join();
    let (other, other_reports) = rig.join();
    rig.control.hold();
    (0..6).for_each(|ticket| seat.submit(ticket, full(&seat), 8));
    assert!(rig.control.wait_for_waiting(1, BOUND));
    let held = full(&seat);
    assert_eq!(rig.dispatcher().slots(), 7);
    drop(seat);
    // One or two are in the engine, and one in hand; those that waited are gone.
    assert!(rig.dispatcher().slots() <= 3, "{} slots", rig.dispatcher().slots());
    drop(held);
    rig.control.open_gate();
    other.submit(0, full(&other), 1);
    assert_eq!(next(&other_reports), (0, Answer::Counted(64.0)));
    hold_one(&rig, &other, 1);
    assert_one_camera(&rig);
    rig.control.open_gate();
    assert_eq!(next(&other_reports), (1, Answer::Counted(64.0)));
    drop(other);
    rig.end();
}

/// Texts of failures that came for `tickets`.
fn failures(
    reports: &Receiver<(u64, Answer)>,
    tickets: impl IntoIterator<Item = u64>,
) -> Vec<String> {
    let failure = |ticket| match next(reports) {
        (got, Answer::Failed(reason)) if got == ticket => reason,
        other => panic!("{other:?}, where a failure of {ticket} is expected"),
    };
    tickets.into_iter().map(failure).collect()
}

#[test]
fn engine_that_panics_fails_its_batch_and_counts_the_next_one() {
    let rig = Rig::new("batch-panic", 1, 2);
    let (a, a_reports) = rig.join();
    let (b, b_reports) = rig.join();
    rig.control.hold();
    rig.control.panic_next("a test's own panic");
    a.submit(0, full(&a), 1);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    b.submit(0, full(&b), 1);
    a.submit(1, full(&a), 1);
    rig.control.open_gate();
    let reason = failures(&a_reports, [0]).remove(0);
    assert!(reason.contains("a test's own panic") && reason.contains("report it"), "{reason}");
    assert_eq!(next(&b_reports), (0, Answer::Counted(64.0)));
    assert_eq!(next(&a_reports), (1, Answer::Counted(64.0)));
    drop((a, b));
    rig.end();
}

#[test]
fn every_lane_may_panic_again_and_again_and_each_frame_is_still_reported() {
    let rig = Rig::new("batch-panics", 3, 1);
    let (seat, reports) = rig.join();
    (0..12).for_each(|number| rig.control.panic_next(&format!("panic {number}")));
    for round in 0..4 {
        (0..3).for_each(|lane| seat.submit(3 * round + lane, full(&seat), 8));
        let mut tickets: Vec<_> = (0..3)
            .map(|_| match next(&reports) {
                (ticket, Answer::Failed(_)) => ticket,
                other => panic!("{other:?}"),
            })
            .collect();
        tickets.sort_unstable();
        assert_eq!(tickets, [3 * round, 3 * round + 1, 3 * round + 2]);
    }
    seat.submit(100, full(&seat), 8);
    assert_eq!(next(&reports), (100, Answer::Counted(64.0)));
    drop(seat);
    rig.end();
}

#[test]
fn report_that_panics_concerns_its_own_camera() {
    let rig = Rig::new("batch-report-panics", 1, 2);
    let (send, a_reports) = channel();
    let a = rig.dispatcher().join(move |ticket, outcome| match outcome {
        Outcome::Counted { .. } if ticket == 1 => panic!("a report's own panic"),
        Outcome::Failed(error) => send.send((ticket, Answer::Failed(error.to_string()))).unwrap(),
        Outcome::Counted { output, .. } => {
            send.send((ticket, Answer::Counted(output.total()))).unwrap()
        }
        Outcome::Dropped => send.send((ticket, Answer::Dropped)).unwrap(),
    });
    let (b, b_reports) = rig.join();
    // Both are in one batch, behind a first one.
    hold_one(&rig, &a, 0);
    a.submit(1, full(&a), 1);
    b.submit(1, full(&b), 1);
    rig.control.open_gate();
    assert_eq!(next(&a_reports), (0, Answer::Counted(64.0)));
    assert_eq!(next(&b_reports), (1, Answer::Counted(64.0)));
    let reason = failures(&a_reports, [1]).remove(0);
    assert!(reason.contains("a report's own panic"), "{reason}");
    a.submit(2, full(&a), 1);
    assert_eq!(next(&a_reports), (2, Answer::Counted(64.0)));
    drop((a, b));
    rig.end();
}

#[test]
fn report_that_always_panics_does_not_stop_the_others() {
    let rig = Rig::new("batch-report-always-panics", 1, 4);
    let a = rig.dispatcher().join(|_, _| panic!("a report's own panic, always"));
    let (b, b_reports) = rig.join();
    for ticket in 0..3 {
        a.submit(ticket, full(&a), 8);
        b.submit(ticket, full(&b), 8);
        assert_eq!(next(&b_reports), (ticket, Answer::Counted(64.0)));
    }
    drop((a, b));
    rig.end();
}

#[test]
fn newest_frame_wins_and_the_older_one_is_reported_as_dropped() {
    let rig = Rig::new("batch-newest", 1, 1);
    let (seat, reports) = rig.join();
    hold_one(&rig, &seat, 0);
    (1..4).for_each(|ticket| seat.submit(ticket, full(&seat), 1));
    assert_eq!(next(&reports), (1, Answer::Dropped));
    assert_eq!(next(&reports), (2, Answer::Dropped));
    rig.control.open_gate();
    assert_eq!(next(&reports), (0, Answer::Counted(64.0)));
    assert_eq!(next(&reports), (3, Answer::Counted(64.0)));
    drop(seat);
    rig.end();
}

#[test]
fn cancelled_frames_are_not_reported_but_those_in_the_engine_are() {
    let rig = Rig::new("batch-cancel", 1, 1);
    let (seat, reports) = rig.join();
    hold_one(&rig, &seat, 0);
    seat.submit(1, full(&seat), 8);
    seat.cancel();
    rig.control.open_gate();
    assert_eq!(next(&reports), (0, Answer::Counted(64.0)));
    seat.submit(2, full(&seat), 8);
    assert_eq!(next(&reports), (2, Answer::Counted(64.0)));
    drop(seat);
    rig.end();
}

#[test]
fn frames_of_many_cameras_share_batches_in_turn() {
    let rig = Rig::new("batch-turns", 1, 4);
    let (first, first_reports) = rig.join();
    let seats: Vec<_> = (0..3).map(|_| rig.join()).collect();
    hold_one(&rig, &first, 0);
    for (seat, _) in &seats {
        (0..2).for_each(|ticket| seat.submit(ticket, full(seat), 8));
    }
    rig.control.open_gate();
    assert_eq!(next(&first_reports), (0, Answer::Counted(64.0)));
    for (_, reports) in &seats {
        assert_eq!(next(reports), (0, Answer::Counted(64.0)));
        assert_eq!(next(reports), (1, Answer::Counted(64.0)));
    }
    assert_eq!(rig.control.calls(), [1, 4, 2]);
    assert_eq!(rig.dispatcher().totals(), (3, 7));
    drop((first, seats));
    rig.end();
}

/// What elements have in common that share the engine called `engine_id`.
fn key(engine_id: &str) -> SharedKey {
    let (kind, model) = (EngineKind::Scripted, PathBuf::new());
    SharedKey {
        engine_id: engine_id.to_owned(),
        kind,
        model,
        input: None,
        gpu: 0,
        precision: Precision::Auto,
        context: 0,
    }
}

fn start() -> Result<Arc<Dispatcher>, EngineError> {
    let request = EngineRequest::new(EngineKind::Scripted, Arc::new(Model::scripted()));
    Dispatcher::start(
        engine::open(&request)?.engine,
        BatchSettings { batch_size: 1, timeout: Duration::ZERO },
    )
}

#[test]
fn dispatcher_is_opened_once_for_those_who_share_it() {
    let watch = ProgressSink::default();
    let (first, was_there) = Dispatcher::shared(key("batch-shared"), &watch, start).unwrap();
    assert!(!was_there);
    let nobody = || panic!("it is open already");
    let (second, was_there) = Dispatcher::shared(key("batch-shared"), &watch, nobody).unwrap();
    assert!(was_there && Arc::ptr_eq(&first, &second));
    let (other, was_there) = Dispatcher::shared(key("batch-shared-not"), &watch, start).unwrap();
    assert!(!was_there && !Arc::ptr_eq(&first, &other));
    drop((first, second));
    // When the last user is gone, so is the dispatcher.
    let (_, was_there) = Dispatcher::shared(key("batch-shared"), &watch, start).unwrap();
    assert!(!was_there);
}

#[test]
fn opening_that_fails_or_panics_leaves_the_way_free_for_the_next() {
    let key = key("batch-fails");
    let watch = ProgressSink::default();
    let fails = || {
        Err(EngineError::Infer { kind: EngineKind::Scripted, reason: "a test's own".to_owned() })
    };
    assert!(Dispatcher::shared(key.clone(), &watch, fails).is_err());
    let panics = || panic!("a test's own panic in opening");
    let unwound =
        panic::catch_unwind(AssertUnwindSafe(|| Dispatcher::shared(key.clone(), &watch, panics)));
    assert!(unwound.is_err());
    assert!(Dispatcher::shared(key, &watch, start).is_ok());
}
