use std::path::Path;

use parking_lot::Mutex;
use rusqlite::Connection;
use vehiclecount_core::region::Level;
use vehiclecount_core::report::FrameCount;

use super::super::progress::{self, Pending};
use super::*;
use crate::config;

/// A time at which a window of every length begins.
const BEGIN: f64 = 1_800_000_000.0;

const NORTH: &str = "[cameras.north]\nurl = \"simulated:street\"\n";

/// What a store has got, and the database that progress is kept in.
struct Got {
    records: Vec<WindowRecord>,
    events: Vec<(String, EventKind)>,
    kept: Connection,
}

#[derive(Clone)]
struct Memory(Arc<Mutex<Got>>);

impl Store for Memory {
    fn store(&mut self, records: &[WindowRecord], events: &[Event], progress: &[CameraProgress]) {
        let mut got = self.0.lock();
        got.records.extend(records.iter().cloned());
        got.events.extend(events.iter().map(|event| (event.camera.clone(), event.kind.clone())));
        let mut pending = Pending::default();
        pending.add(progress);
        pending.write(&got.kept).unwrap();
    }

    fn tick(&mut self, _: f64) {}
}

/// A service without cameras' threads, whose time goes on second by second.
struct Rig {
    board: Arc<Board>,
    recorder: Recorder,
    memory: Memory,
    time: f64,
}

impl Rig {
    fn new(text: &str) -> Self {
        let kept = Connection::open_in_memory().unwrap();
        kept.execute_batch(progress::TABLES).unwrap();
        let got = Got { records: Vec::new(), events: Vec::new(), kept };
        Self::with(text, Memory(Arc::new(Mutex::new(got))), BEGIN)
    }

    fn with(text: &str, memory: Memory, time: f64) -> Self {
        let service = config::parse(text, Path::new("counter.toml")).unwrap();
        let board = Arc::new(Board::new(&service));
        let earlier = progress::read(&memory.0.lock().kept).unwrap();
        let recorder = Recorder::new(board.clone(), vec![Box::new(memory.clone())], earlier);
        let rig = Self { board, recorder, memory, time };
        rig.put(text);
        rig
    }

    /// The cameras of a configuration, each of them a new one.
    fn put(&self, text: &str) {
        let cameras = config::parse(text, Path::new("counter.toml")).unwrap().cameras;
        self.board.cameras().iter().for_each(|camera| self.board.remove(&camera.settings.name));
        for settings in cameras {
            self.board.put(Arc::new(Camera::new(settings)));
        }
    }

    /// So many seconds in which all cameras are in that state, and counted with that level where
    /// they are live.
    fn go(&mut self, seconds: u32, state: State, level: Level) {
        for _ in 0..seconds {
            for camera in self.board.cameras() {
                camera.status().state = state;
                if state != State::Live {
                    continue;
                }
                let total = FrameCount { raw: 3.0, smoothed: 3.0, level };
                let regions = camera.settings.regions.regions.len();
                let counts = Counts { total, regions: Some(vec![total; regions]) };
                self.recorder.count(&Sample { camera, time: self.time, counts, stale: false });
            }
            self.recorder.tick(self.time);
            self.time += 1.0;
        }
    }

    /// The service begins anew after so many seconds, killed or ended well.
    fn restart(self, text: &str, well: bool, seconds: f64) -> Self {
        let Self { mut recorder, memory, time, .. } = self;
        if well {
            recorder.finish(time);
        }
        drop(recorder);
        Self::with(text, memory, time + seconds)
    }

    fn events(&self) -> Vec<(String, EventKind)> {
        std::mem::take(&mut self.memory.0.lock().events)
    }

    /// Seconds covered by the records of that length, each of another window.
    fn covered(&self, window: u32) -> Vec<f64> {
        let got = self.memory.0.lock();
        let records: Vec<_> = got.records.iter().filter(|r| r.window == window).collect();
        let mut keys: Vec<_> = records.iter().map(|r| (&r.camera, &r.region, r.start)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), records.len(), "each window has one record");
        records.iter().map(|record| record.covered).collect()
    }
}

fn lost(name: &str) -> (String, EventKind) {
    (name.to_owned(), EventKind::CameraLost { reason: String::new() })
}

#[test]
fn camera_that_was_lost_is_told_to_be_back_after_a_change_and_after_every_restart() {
    let back = ("north".to_owned(), EventKind::CameraBack);
    let changed = format!("{NORTH}rate = 2\n");
    for way in ["change", "end", "kill", "kill twice", "remove"] {
        let mut rig = Rig::new(NORTH);
        rig.go(30, State::Live, Level::Free);
        rig.go(30, State::Refused, Level::Free);
        assert_eq!(rig.events(), [lost("north")], "{way}");
        match way {
            "change" => rig.put(&changed),
            "remove" => {
                rig.put("");
                rig.go(5, State::Live, Level::Free);
                rig.put(NORTH);
            }
            "kill twice" => {
                rig = rig.restart(NORTH, false, 1000.0);
                rig.go(30, State::Refused, Level::Free);
                rig = rig.restart(NORTH, false, 1000.0);
            }
            way => rig = rig.restart(NORTH, way == "end", 1000.0),
        }
        rig.go(5, State::Connecting, Level::Free);
        rig.go(30, State::Live, Level::Free);
        assert_eq!(rig.events(), std::slice::from_ref(&back), "{way}");
    }
}

#[test]
fn level_that_changed_meanwhile_is_told_after_a_change_and_after_a_restart() {
    let text =
        format!("{NORTH}regions = [{{ name = \"left\", polygon = [[0, 0], [1, 0], [1, 1]] }}]\n");
    for way in ["change", "end", "kill"] {
        let mut rig = Rig::new(&text);
        // It was told of no change so far: the level is the first one.
        rig.go(30, State::Live, Level::Free);
        match way {
            "change" => rig.put(&format!("{text}scale = 2\n")),
            way => rig = rig.restart(&text, way == "end", 100.0),
        }
        rig.go(30, State::Live, Level::Jammed);
        let told = |region: Option<&str>| {
            let region = region.map(str::to_owned);
            let kind = EventKind::LevelChanged { region, from: Level::Free, to: Level::Jammed };
            ("north".to_owned(), kind)
        };
        assert_eq!(rig.events(), [told(None), told(Some("left"))], "{way}");
    }
}

#[test]
fn windows_go_on_over_changes_and_restarts_and_have_one_record_each() {
    let mut rig = Rig::new(NORTH);
    rig.go(605, State::Live, Level::Free);
    rig.put(&format!("{NORTH}scale = 2\n"));
    rig.go(600, State::Live, Level::Free);
    rig = rig.restart(NORTH, true, 0.0);
    rig.go(600, State::Live, Level::Free);
    // Killed two minutes before the hour's end.
    rig.go(3480 - 1805, State::Live, Level::Free);
    rig = rig.restart(NORTH, false, 0.0);
    rig.go(200, State::Live, Level::Free);
    // But for the one that was open when it was killed.
    assert_eq!(rig.covered(10).len(), 366);
    assert_eq!(rig.covered(60).len(), 61);
    let hour = rig.covered(3600)[0];
    // All but the moments of change, and what was not kept of the last 10 s.
    assert!(hour > 3600.0 - 15.0, "{hour}");
    assert!(rig.covered(900).iter().all(|covered| *covered > 885.0));
}

#[test]
fn windows_that_end_while_the_service_is_down_are_recorded_at_its_next_start() {
    for well in [true, false] {
        let mut rig = Rig::new(NORTH);
        rig.go(125, State::Live, Level::Free);
        let mut rig = rig.restart(NORTH, well, 7200.0);
        rig.go(1, State::Connecting, Level::Free);
        let kept = if well { 125.0 } else { 120.0 };
        for window in [900, 3600] {
            let covered = rig.covered(window);
            assert!((covered[0] - kept).abs() <= 1.0, "{window} s: {covered:?}");
        }
        let minutes = rig.covered(60);
        assert_eq!(minutes.len(), if well { 3 } else { 2 }, "{minutes:?}");
        // Once.
        let mut rig = rig.restart(NORTH, false, 10.0);
        rig.go(1, State::Connecting, Level::Free);
        assert_eq!(rig.covered(3600).len(), 1);
    }
}

#[test]
fn windows_of_cameras_that_are_removed_are_ended_also_while_the_service_is_down() {
    let mut rig = Rig::new(NORTH);
    rig.go(100, State::Live, Level::Free);
    rig.put("");
    rig.go(1, State::Live, Level::Free);
    assert_eq!([60, 900, 3600].map(|window| rig.covered(window).len()), [2, 1, 1]);
    assert!((rig.covered(3600)[0] - 100.0).abs() < 2.0);

    let mut rig = Rig::new(NORTH);
    rig.go(100, State::Live, Level::Free);
    let mut rig = rig.restart("", true, 5.0);
    rig.go(1, State::Live, Level::Free);
    assert!((rig.covered(3600)[0] - 100.0).abs() < 2.0);
    // It is over: nothing of it comes again.
    let mut rig = rig.restart(NORTH, false, 5.0);
    rig.go(1, State::Connecting, Level::Free);
    assert_eq!(rig.covered(3600).len(), 1);
}
