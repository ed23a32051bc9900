//! The scripted engine.

use super::*;

fn scripted(name: &str) -> Arc<dyn Engine> {
    let request = EngineRequest {
        max_batch: 4,
        name: name.to_owned(),
        ..EngineRequest::new(EngineKind::Scripted, Arc::new(Model::scripted()))
    };
    engine::open(&request).expect("it needs nothing").engine
}

#[test]
fn scripted_density_is_the_mean_of_red() {
    let engine = scripted("red");
    let mut slot = Slot::new(engine.info());
    // The cell of column 3, row 2: half of its red samples at full.
    for row in 16..20 {
        values(&mut slot)[row * 64 + 24..][..8].fill(255.0);
    }
    // Green counts nothing.
    values(&mut slot)[64 * 64..].fill(200.0);
    engine.lane().expect("a lane").infer(std::slice::from_mut(&mut slot)).expect("an inference");
    for (index, &cell) in density(&slot).iter().enumerate() {
        assert_eq!(cell, if index == 2 * 8 + 3 { 0.5 } else { 0.0 }, "cell {index}");
    }
}

#[test]
fn gate_holds_and_releases_lanes() {
    let control = Control::of("gate");
    control.set_lanes(2);
    control.hold();
    let engine = scripted("gate");
    assert_eq!(engine.info().lanes, 2);
    let lanes: Vec<_> = (1..=2).map(|size| (size, engine.lane().expect("a lane"))).collect();
    let threads: Vec<_> = lanes
        .into_iter()
        .map(|(size, mut lane)| {
            let mut slots = (0..size).map(|_| Slot::new(engine.info())).collect::<Vec<_>>();
            thread::spawn(move || lane.infer(&mut slots))
        })
        .collect();
    assert!(control.wait_for_waiting(2, BOUND));
    let mut calls = control.calls();
    calls.sort_unstable();
    assert_eq!(calls, [1, 2]);
    control.release(1);
    control.open_gate();
    for thread in threads {
        thread.join().expect("no panic").expect("an inference");
    }
    assert!(!control.wait_for_waiting(1, Duration::ZERO));
}

#[test]
fn script_fails_when_told() {
    let control = Control::of("failing");
    let engine = scripted("failing");
    let mut lane = engine.lane().expect("a lane");
    let mut infer =
        || lane.infer(&mut [Slot::new(engine.info())]).map_err(|error| error.to_string());
    control.fail_next("the script says so");
    assert!(infer().unwrap_err().contains("the script says so"));
    infer().expect("the failure is over");
    control.fail_all("broken");
    assert!(infer().is_err() && infer().is_err());
    control.recover();
    infer().expect("it has recovered");
}
