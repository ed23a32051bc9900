//! The dispatcher at work with the scripted engine: who is served, what is reported, and whose
//! memory is freed.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use vehiclecount_core::batch::{
    BatchSettings, Dispatcher, Lease, Outcome, Reopen, Seat, SharedKey,
};
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::engine::{
    self, Engine, EngineError, EngineKind, EngineRequest, Input, ProgressSink,
};
use vehiclecount_core::model::Model;
use vehiclecount_core::preprocess::{InputChoice, InputSize};
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
fn lane_that_goes_on_failing_is_made_anew_and_counts_again() {
    let rig = Rig::new("batch-broken-lane", 1, 1);
    let (seat, reports) = rig.join();
    let count = |ticket| {
        seat.submit(ticket, full(&seat), 8);
        next(&reports)
    };
    assert_eq!(count(0), (0, Answer::Counted(64.0)));
    let made = rig.control.lanes_made();
    rig.control.break_lanes("CUDA error 719");
    for ticket in 1..4 {
        assert!(matches!(count(ticket), (_, Answer::Failed(reason)) if reason.contains("719")));
    }
    assert_eq!(count(4), (4, Answer::Counted(64.0)));
    assert_eq!(rig.control.lanes_made(), made + 1);
    // Failures with counts between them are no reason.
    for ticket in (10..40).step_by(3) {
        rig.control.fail_next("once");
        rig.control.fail_next("twice");
        assert!(matches!(count(ticket), (_, Answer::Failed(_))));
        assert!(matches!(count(ticket + 1), (_, Answer::Failed(_))));
        assert_eq!(count(ticket + 2), (ticket + 2, Answer::Counted(64.0)));
    }
    assert_eq!(rig.control.lanes_made(), made + 1);
    // An engine that no new lane helps gets few of them.
    rig.control.fail_all("the device is gone");
    (100..1100).for_each(|ticket| assert!(matches!(count(ticket), (_, Answer::Failed(_)))));
    assert!((3..12).contains(&(rig.control.lanes_made() - made)));
    rig.control.recover();
    assert_eq!(count(2000), (2000, Answer::Counted(64.0)));
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
    let totals = rig.dispatcher().totals();
    assert_eq!((totals.batches, totals.frames, totals.waiting), (3, 7, 0));
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
        input: InputChoice::default(),
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

/// The scripted engine at the shapes around 64x64, which are opened when they are needed, and how
/// often each was opened.
fn shapes(name: &str, batch_size: usize) -> (Rig, Arc<Mutex<Vec<InputSize>>>) {
    let control = Control::of(name);
    let model = Arc::new(Model::scripted());
    let request = EngineRequest {
        name: name.to_owned(),
        ..EngineRequest::new(EngineKind::Scripted, model.clone())
    };
    let shapes = model.input_shapes(InputChoice::default()).expect("shapes");
    let first = request.clone().at(shapes.first());
    let engine = engine::open(&first).expect("the scripted engine opens").engine;
    let weak = Arc::downgrade(&engine);
    let opened = Arc::new(Mutex::new(Vec::new()));
    let reopen: Reopen = Box::new({
        let opened = opened.clone();
        move |size, watch| {
            opened.lock().expect("no panic").push(size);
            if size.width > 2 * size.height {
                let reason = "a shape that does not open".to_owned();
                return Err(EngineError::Model { kind: EngineKind::Scripted, reason });
            }
            let request = EngineRequest { watch: watch.clone(), ..request.clone().at(size) };
            Ok(engine::open(&request)?.engine)
        }
    });
    let settings = BatchSettings { batch_size, timeout: Duration::ZERO };
    let dispatcher = Dispatcher::start_shapes(engine, shapes, reopen, settings).expect("it starts");
    (Rig { control, engine: weak, dispatcher: Some(dispatcher) }, opened)
}

/// The camera's pictures are of that size from now on; vehicles in a full picture.
fn sized(rig: &Rig, seat: &Seat, width: usize, height: usize) -> f64 {
    let opened = rig.dispatcher().open(width, height, &ProgressSink::default());
    let (instance, _) = opened.expect("it opens");
    seat.move_to(&instance);
    (instance.info().columns * instance.info().rows) as f64
}

#[test]
fn cameras_of_several_shapes_share_one_engine_and_no_batch_mixes_them() {
    let (rig, opened) = shapes("batch-shapes", 4);
    let (wide, square, tall) = (rig.join(), rig.join(), rig.join());
    let cells = [(&wide.0, 1920, 1080), (&square.0, 500, 500), (&tall.0, 1080, 1920)]
        .map(|(seat, width, height)| sized(&rig, seat, width, height));
    // Shape 88x48 was there, the others were opened once.
    assert_eq!(cells, [66.0, 64.0, 66.0]);
    assert_eq!(rig.dispatcher().info().input, InputSize { width: 88, height: 48 });
    sized(&rig, &square.0, 480, 500);
    assert_eq!(opened.lock().expect("no panic").len(), 2);

    hold_one(&rig, &wide.0, 0);
    square.0.submit(0, full(&square.0), 1);
    tall.0.submit(0, full(&tall.0), 1);
    for ticket in 1..3 {
        wide.0.submit(ticket, full(&wide.0), 8);
    }
    rig.control.open_gate();
    for (reports, cells, tickets) in
        [(&wide.1, cells[0], 0..3), (&square.1, cells[1], 0..1), (&tall.1, cells[2], 0..1)]
    {
        for ticket in tickets {
            assert_eq!(next(reports), (ticket, Answer::Counted(cells)));
        }
    }
    // In turn: what was held, the two that waited longest, and the first camera's other frames.
    assert_eq!(rig.control.calls(), [1, 1, 1, 2]);
    drop((wide, square, tall));
    rig.end();
}

#[test]
fn camera_that_changes_its_shape_loses_no_frame_and_frees_its_slots() {
    let (rig, _) = shapes("batch-change", 4);
    let (seat, reports) = rig.join();
    hold_one(&rig, &seat, 0);
    let mut expected = vec![66.0];
    for (ticket, (width, height)) in
        (1..).zip([(640, 360), (640, 480), (640, 480), (100, 100), (640, 360), (360, 640)])
    {
        expected.push(sized(&rig, &seat, width, height));
        seat.submit(ticket, full(&seat), 16);
    }
    assert_eq!(rig.dispatcher().slots(), 7);
    rig.control.open_gate();
    for (ticket, cells) in expected.into_iter().enumerate() {
        assert_eq!(next(&reports), (ticket as u64, Answer::Counted(cells)));
    }
    // What the camera holds where it was before goes as it comes back.
    hold_one(&rig, &seat, 9);
    assert_one_camera(&rig);
    rig.control.open_gate();
    assert_eq!(next(&reports).0, 9);
    drop(seat);
    rig.end();
}

#[test]
fn shape_that_does_not_open_is_tried_once_and_the_best_other_one_is_taken() {
    let (rig, opened) = shapes("batch-refused", 4);
    let (seat, reports) = rig.join();
    let watch = ProgressSink::default();
    // 21:9.
    let wide = (2100, 900);
    assert!(rig.dispatcher().instance(wide.0, wide.1).is_none(), "it is not open yet");
    let error = rig.dispatcher().open(wide.0, wide.1, &watch).expect_err("it is refused");
    assert!(error.to_string().contains("does not open"), "{error}");
    let instance = rig.dispatcher().instance(wide.0, wide.1).expect("another one");
    assert_eq!(instance.info().input, InputSize { width: 88, height: 48 });
    assert!(!rig.dispatcher().open(wide.0, wide.1, &watch).expect("another one").1);
    assert_eq!(opened.lock().expect("no panic").len(), 1);
    seat.move_to(&instance);
    seat.submit(0, full(&seat), 1);
    assert_eq!(next(&reports), (0, Answer::Counted(66.0)));
    drop((seat, instance));
    rig.end();
}

#[test]
fn shape_that_many_want_at_once_is_opened_once() {
    let (rig, opened) = shapes("batch-once", 4);
    let others = thread::scope(|scope| {
        let open = || {
            let watch = ProgressSink::default();
            let opened = rig.dispatcher().open(640, 480, &watch).expect("it opens");
            (opened.0.info().input, opened.1)
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(others.iter().filter(|(_, by_this)| *by_this).count(), 1);
    assert!(others.iter().all(|(size, _)| *size == InputSize { width: 72, height: 56 }));
    assert_eq!(opened.lock().expect("no panic").len(), 1);
    rig.end();
}

#[test]
fn panic_at_one_shape_leaves_the_lanes_of_others() {
    let (rig, _) = shapes("batch-panic-shape", 1);
    let ((wide, wide_reports), (square, square_reports)) = (rig.join(), rig.join());
    let cells = (sized(&rig, &wide, 16, 9), sized(&rig, &square, 9, 9));
    rig.control.panic_next("out of order");
    wide.submit(0, full(&wide), 1);
    assert!(matches!(next(&wide_reports), (0, Answer::Failed(_))));
    for ticket in 1..3 {
        wide.submit(ticket, full(&wide), 1);
        assert_eq!(next(&wide_reports), (ticket, Answer::Counted(cells.0)));
        square.submit(ticket, full(&square), 1);
        assert_eq!(next(&square_reports), (ticket, Answer::Counted(cells.1)));
    }
    drop((wide, square));
    rig.end();
}
