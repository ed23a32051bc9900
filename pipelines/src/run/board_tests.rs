use std::path::Path;

use super::*;

/// A board with cameras that are live, and their rates.
fn board(rates: &[(&str, f64)]) -> Board {
    let text: String = rates
        .iter()
        .map(|(name, rate)| {
            format!("[cameras.{name}]\nurl = \"simulated:street\"\nrate = {rate}\n")
        })
        .collect();
    let service = config::parse(&text, Path::new("counter.toml")).unwrap();
    let board = Board::new(&service);
    for settings in &service.cameras {
        let camera = Camera::new(settings.clone());
        camera.status().state = State::Live;
        board.put(Arc::new(camera));
    }
    board
}

#[test]
fn engine_that_counts_nothing_of_what_is_due_is_a_failure_and_nothing_else_is() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let board = board(&[("a", 1.0), ("b", 0.05)]);
    let (a, b) = (board.camera("a").unwrap(), board.camera("b").unwrap());
    assert_eq!(board.uncounted(at(1000)), None, "no picture has come");
    // Pictures of one are not counted, those of the other are, every 20 s.
    a.status().owed = Some(at(0));
    a.status().reason = Some("CUDA error 719".to_owned());
    b.status().progress = Some(at(20));
    assert_eq!(board.uncounted(at(50)), None);
    // Nor those of the other one any more; it alone would be waited for longer.
    b.status().owed = Some(at(40));
    let failure = board.uncounted(at(51)).unwrap();
    assert_eq!(failure, "no picture was counted for 51 s: CUDA error 719");
    // Without pictures there is nothing to count.
    a.status().state = State::Waiting;
    assert_eq!(board.uncounted(at(90)), None);
    assert!(board.uncounted(at(91)).is_some(), "the other one is due");
    b.status().progress = Some(at(91));
    assert_eq!(board.uncounted(at(100)), None);
    // One that stands still while the engine has its picture is held by the engine.
    (b.status().state, a.status().owed) = (State::Connecting, Some(at(100)));
    a.status().state = State::Stalled;
    assert!(board.uncounted(at(131)).is_some());
}
