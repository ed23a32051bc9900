//! Frames of several looks at the dispatcher: each has one outcome, however its looks fare.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use vehiclecount_core::batch::{BatchSettings, Dispatcher, Lease, Outcome, Seat};
use vehiclecount_core::detail::{Blend, Plan};
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::engine::{self, EngineKind, EngineRequest, Input};
use vehiclecount_core::model::Model;
use vehiclecount_core::preprocess::{InputSize, Placement, Resize};
use vehiclecount_core::region::{Detail, Levels, Region};

/// The longest that something may take that happens at once.
const BOUND: Duration = Duration::from_secs(30);

/// The scripted engine's input, and its cells.
const INPUT: InputSize = InputSize { width: 64, height: 64 };
const CELLS: usize = 8;

/// What is heard of a frame: its ticket, and the vehicles in it or why there are none.
type Heard = Receiver<(u64, Result<f64, String>)>;

struct Rig {
    control: Control,
    dispatcher: Arc<Dispatcher>,
    blend: Arc<Blend>,
}

/// A lane must not wait at the gate for ever where a test fails.
impl Drop for Rig {
    fn drop(&mut self) {
        self.control.open_gate();
    }
}

impl Rig {
    /// The engine called `name`, and the blend of a frame and one look at its upper left part.
    fn new(name: &str, batch_size: usize) -> Self {
        let control = Control::of(name);
        let request = EngineRequest {
            name: name.to_owned(),
            ..EngineRequest::new(EngineKind::Scripted, Arc::new(Model::scripted()))
        };
        let engine = engine::open(&request).expect("the scripted engine opens").engine;
        assert_eq!(engine.info().input, INPUT);
        let settings = BatchSettings { batch_size, timeout: Duration::ZERO };
        let dispatcher = Dispatcher::start(engine, settings).expect("it starts");
        let end = 0.4375;
        let polygon = vec![[0.0, 0.0], [end, 0.0], [end, end], [0.0, end]];
        let mut region = Region::new("far".to_owned(), polygon, Levels::default());
        region.detail = Detail::On;
        let plan = Plan::new(&[region], (128, 128), Resize::Letterbox, INPUT).expect("a look");
        let grid = Placement::new(Resize::Letterbox, 128, 128, INPUT).grid(CELLS, CELLS);
        Self { control, dispatcher, blend: Arc::new(Blend::new(&plan, grid)) }
    }

    fn join(&self) -> (Seat, Heard) {
        let (send, receive) = channel();
        let seat = self.dispatcher.join(move |ticket, outcome| {
            let told = match outcome {
                Outcome::Counted { output, .. } => Ok(output.total()),
                Outcome::Dropped => Err("dropped".to_owned()),
                Outcome::Failed(error) => Err(error.to_string()),
            };
            // A test that has ended does not listen.
            let _ = send.send((ticket, told));
        });
        (seat, receive)
    }

    /// Hands in a frame that is all red, which has a vehicle in each cell.
    fn submit(&self, seat: &Seat, ticket: u64) {
        seat.submit_looks(ticket, vec![full(seat), full(seat)], &self.blend, 1);
    }

    fn end(self, seats: Vec<Seat>) {
        self.control.open_gate();
        drop(seats);
        let dispatcher = Arc::downgrade(&self.dispatcher);
        drop(self);
        assert!(dispatcher.upgrade().is_none(), "the dispatcher is leaked");
    }
}

fn full(seat: &Seat) -> Lease {
    let mut lease = seat.slot();
    let Input::Values(values) = &mut lease.input else {
        panic!("the scripted engine takes values")
    };
    values.fill(255.0);
    lease
}

fn next(heard: &Heard) -> (u64, Result<f64, String>) {
    heard.recv_timeout(BOUND).expect("a report")
}

/// Of the whole picture what lies outside, and four times as much inside.
#[track_caller]
fn assert_blended(told: Result<f64, String>) {
    let share = 0.4375 * 0.4375;
    let (count, expected) = (told.expect("counted"), 64.0 * (1.0 + 3.0 * share));
    assert!((count - expected).abs() < 0.01, "{count}, not {expected}");
}

#[test]
fn frame_has_one_outcome_in_one_batch_or_several() {
    for batch_size in [1, 2, 8] {
        let rig = Rig::new(&format!("looks-one-{batch_size}"), batch_size);
        let (seat, heard) = rig.join();
        for ticket in 0..3 {
            rig.submit(&seat, ticket);
            let (told, outcome) = next(&heard);
            assert_eq!(told, ticket);
            assert_blended(outcome);
        }
        assert!(heard.try_recv().is_err(), "each frame is told once");
        rig.end(vec![seat]);
    }
}

#[test]
fn failure_or_panic_of_one_look_is_told_once_and_the_next_frame_is_counted() {
    let rig = Rig::new("looks-fail", 1);
    let (seat, heard) = rig.join();
    for (ticket, panics) in [(0, false), (2, true)] {
        match panics {
            false => rig.control.fail_next("no luck"),
            true => rig.control.panic_next("no luck"),
        }
        rig.submit(&seat, ticket);
        let (told, outcome) = next(&heard);
        assert_eq!(told, ticket);
        let error = outcome.expect_err("its first look failed");
        assert!(error.contains("no luck"), "{error}");
        rig.submit(&seat, ticket + 1);
        let (told, outcome) = next(&heard);
        assert_eq!(told, ticket + 1);
        assert_blended(outcome);
    }
    rig.end(vec![seat]);
}

#[test]
fn frame_that_is_dropped_is_told_once_and_one_that_is_cancelled_never() {
    let rig = Rig::new("looks-drop", 1);
    let (seat, heard) = rig.join();
    rig.control.hold();
    rig.submit(&seat, 0);
    assert!(rig.control.wait_for_waiting(1, BOUND));
    // The first frame has begun: it is finished, and the newest of the others waits.
    rig.submit(&seat, 1);
    rig.submit(&seat, 2);
    assert_eq!(next(&heard), (1, Err("dropped".to_owned())));
    // A look of the first frame is in the engine and comes back in vain.
    seat.cancel();
    rig.control.open_gate();
    rig.submit(&seat, 3);
    let (told, outcome) = next(&heard);
    assert_eq!(told, 3);
    assert_blended(outcome);
    assert!(heard.try_recv().is_err());
    rig.end(vec![seat]);
}
