//! The dispatcher at work with the scripted engine: who is served, what is reported, and whose memory is freed.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use vehiclecount_core::batch::{BatchSettings, Dispatcher, Lease, Outcome, Seat};
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::engine::{self, Engine, EngineKind, EngineRequest, Input};
use vehiclecount_core::model::Model;

/// The longest that something may take that happens at once.
const BOUND: Duration = Duration::from_secs(20);

/// What a test hears of a frame: vehicles, or why there are none.
#[derive(Clone, Debug, PartialEq)]
enum Told {
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
    fn join(&self) -> (Seat, Receiver<(u64, Told)>) {
        let (send, receive) = channel();
        let seat = self.dispatcher().join(move |ticket, outcome| {
            let told = match outcome {
                Outcome::Counted { output, .. } => Told::Counted(output.total()),
                Outcome::Dropped => Told::Dropped,
                Outcome::Failed(error) => Told::Failed(error.to_string()),
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
    let Input::Values(values) = &mut lease.input else { panic!("the scripted engine takes values") };
    values.fill(255.0);
    lease
}

fn next(reports: &Receiver<(u64, Told)>) -> (u64, Told) {
    reports.recv_timeout(BOUND).expect("a report")
}

/// The next frame of `seat` is held in the engine: what its lane worked on before has been given back.
fn hold_one(rig: &Rig, seat: &Seat, ticket: u64) {
    rig.control.hold();
    seat.submit(ticket, full(seat), 1);
    assert!(rig.control.wait_for_waiting(1, BOUND));
}

/// Slots of one camera that has one frame at a time. A slot comes back after its report: the next frame may have needed another one.
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
        assert_eq!(next(&reports), (ticket, Told::Counted(64.0)));
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
        assert_eq!(next(&file_reports), (ticket, Told::Counted(64.0)));
    }
    assert_eq!(next(&live_reports), (0, Told::Counted(64.0)));
    hold_one(&rig, &live, 1);
    // Between frames they are kept.
    assert_eq!(rig.dispatcher().slots(), 33);
    drop(file);
    assert_one_camera(&rig);
    rig.control.open_gate();
    assert_eq!(next(&live_reports), (1, Told::Counted(64.0)));
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
    assert_eq!(next(&other_reports), (0, Told::Counted(64.0)));
    hold_one(&rig, &other, 1);
    assert_one_camera(&rig);
    rig.control.open_gate();
    assert_eq!(next(&other_reports), (1, Told::Counted(64.0)));
    drop(other);
    rig.end();
}
