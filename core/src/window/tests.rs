//! Tests of windows: gaps, means, ends and percentiles.

use super::tally::{count_of, step};
use super::*;
use crate::report::FrameCount;

/// A time at which a window of every length begins.
const BEGIN: f64 = 1_800_000_000.0;

fn windows() -> Windows {
    Windows::new("north", &["left".to_owned()], 2.0)
}

/// Counts of the frame and, half as many, of the region.
fn counts(count: f64) -> Counts {
    let level = if count >= 5.0 { Level::Moderate } else { Level::Free };
    let counted = |raw: f64| FrameCount { raw, smoothed: raw, level };
    Counts { total: counted(count), regions: Some(vec![counted(count / 2.0)]) }
}

/// The records of the whole frame with windows of this length.
fn frame(records: &[WindowRecord], window: u32) -> Vec<&WindowRecord> {
    records.iter().filter(|record| record.window == window && record.region.is_none()).collect()
}

#[test]
fn steady_camera_gives_a_record_of_each_window_for_frame_and_region() {
    let mut windows = windows();
    let mut records = Vec::new();
    for second in 0..=3600 {
        records.extend(windows.count(BEGIN + f64::from(second), &counts(4.0), false));
    }
    for (window, number) in [(10, 360), (60, 60), (900, 4), (3600, 1)] {
        let of_frame = frame(&records, window);
        assert_eq!(of_frame.len(), number, "windows of {window} s");
        for (index, record) in of_frame.iter().enumerate() {
            assert_eq!(record.start, BEGIN as u64 + index as u64 * u64::from(window));
            assert_eq!((record.covered, record.stale), (f64::from(window), 0.0));
            assert!(
                (record.mean - 4.0).abs() < 1e-9 && (record.p95 - 4.0).abs() < 1e-9,
                "{record:?}"
            );
            assert_eq!((record.max, record.levels.free), (4.0, 1.0));
        }
    }
    let region =
        records.iter().find(|record| record.window == 3600 && record.region.is_some()).unwrap();
    assert_eq!((region.region.as_deref(), region.max), (Some("left"), 2.0));
    assert!((region.mean - 2.0).abs() < 1e-9);
}

#[test]
fn mean_weighs_counts_by_the_time_for_which_they_held() {
    let mut windows = windows();
    windows.count(BEGIN, &counts(2.0), false);
    windows.count(BEGIN + 2.0, &counts(8.0), true);
    windows.count(BEGIN + 3.0, &counts(0.0), false);
    // It holds for 2 s, and 5 s are missing.
    let records = windows.advance(BEGIN + 11.0);
    let record = frame(&records, 10)[0];
    assert_eq!((record.covered, record.max), (5.0, 8.0));
    assert!((record.mean - (2.0 * 2.0 + 8.0) / 5.0).abs() < 1e-9, "{record:?}");
    assert!(
        (record.stale - 0.2).abs() < 1e-9 && (record.levels.moderate - 0.2).abs() < 1e-9,
        "{record:?}"
    );
    assert!((record.levels.free - 0.8).abs() < 1e-9, "{record:?}");
}

#[test]
fn missing_time_is_a_gap_and_never_zero_vehicles() {
    let mut windows = windows();
    windows.count(BEGIN + 1.0, &counts(6.0), false);
    windows.count(BEGIN + 2.0, &counts(6.0), false);
    let mut records = windows.lose(BEGIN + 3.0);
    records.extend(windows.advance(BEGIN + 50.0));
    records.extend(windows.count(BEGIN + 55.0, &counts(6.0), false));
    records.extend(windows.advance(BEGIN + 120.0));
    let tens: Vec<_> = frame(&records, 10)
        .iter()
        .map(|record| (record.start - BEGIN as u64, record.covered))
        .collect();
    assert_eq!(tens, [(0, 2.0), (50, 2.0)]);
    let minute = frame(&records, 60)[0];
    assert_eq!(minute.covered, 4.0);
    assert!((minute.mean - 6.0).abs() < 1e-9);
    assert_eq!(frame(&records, 60).len(), 1, "an empty minute has no record");
}

#[test]
fn regions_that_are_not_known_are_a_gap_of_theirs_alone() {
    let mut windows = windows();
    windows.count(BEGIN, &counts(4.0), false);
    windows.count(BEGIN + 1.0, &Counts { regions: None, ..counts(4.0) }, false);
    let records = windows.finish(BEGIN + 2.0);
    let covered: Vec<_> =
        records.iter().filter(|record| record.window == 10).map(|record| record.covered).collect();
    assert_eq!(covered, [2.0, 1.0]);
}

#[test]
fn count_that_holds_over_the_end_of_a_window_is_shared_between_both() {
    let mut windows = windows();
    windows.count(BEGIN + 9.5, &counts(3.0), false);
    let mut records = windows.advance(BEGIN + 10.0);
    records.extend(windows.finish(BEGIN + 11.0));
    let covered: Vec<_> = frame(&records, 10).iter().map(|record| record.covered).collect();
    assert_eq!(covered, [0.5, 1.0]);
}

#[test]
fn percentile_agrees_with_sorted_counts() {
    let mut windows = windows();
    // Every second another count: 0 to 59.9, in an order of their own.
    let all: Vec<f64> = (0..600).map(|index| f64::from(index * 7 % 600) / 10.0).collect();
    let mut records = Vec::new();
    for (index, count) in all.iter().enumerate() {
        records.extend(windows.count(BEGIN + index as f64, &counts(*count), false));
    }
    records.extend(windows.finish(BEGIN + all.len() as f64));
    let mut sorted = all.clone();
    sorted.sort_by(f64::total_cmp);
    let record = frame(&records, 900)[0];
    let exact = sorted[569];
    assert!((record.p95 - exact).abs() <= exact * RESOLUTION, "{} instead of {exact}", record.p95);
    assert_eq!(record.max, 59.9);
}

#[test]
fn distribution_keeps_counts_to_within_its_resolution() {
    for index in 0..100_000 {
        let count = f64::from(index) / 50.0;
        let kept = count_of(step(count));
        assert!(
            (kept - count).abs() <= (count * RESOLUTION).max(FINEST) / 2.0 + 1e-9,
            "{count} became {kept}"
        );
    }
    assert_eq!(step(-1.0), 0);
}

#[test]
fn clock_that_is_set_forward_leaves_a_gap_and_back_ends_the_windows() {
    let mut windows = windows();
    windows.count(BEGIN, &counts(4.0), false);
    windows.count(BEGIN + 1.0, &counts(4.0), false);
    let year = 365.25 * 86_400.0;
    let forward = windows.count(BEGIN + year, &counts(9.0), false);
    assert_eq!(
        frame(&forward, 3600).iter().map(|record| record.covered).collect::<Vec<_>>(),
        [3.0]
    );
    windows.advance(BEGIN + year + 1.0);
    let back = windows.count(BEGIN + 100.0, &counts(1.0), false);
    assert_eq!(frame(&back, 10)[0].start, (BEGIN + year) as u64 / 10 * 10);
    let after = windows.finish(BEGIN + 101.0);
    assert_eq!((frame(&after, 10)[0].covered, frame(&after, 10)[0].max), (1.0, 1.0));
}

#[test]
fn times_that_are_a_little_out_of_order_end_no_window() {
    let mut windows = windows();
    windows.count(BEGIN + 1.0, &counts(4.0), false);
    windows.advance(BEGIN + 2.2);
    assert_eq!(windows.count(BEGIN + 2.0, &counts(6.0), false), []);
    windows.count(BEGIN + 3.2, &counts(6.0), false);
    let records = windows.finish(BEGIN + 4.2);
    let record = frame(&records, 10)[0];
    assert!((record.covered - 3.2).abs() < 1e-6, "{record:?}");
    assert!((record.mean - (4.0 * 1.2 + 6.0 * 2.0) / 3.2).abs() < 1e-6, "{record:?}");
}

#[test]
fn windows_hold_no_more_after_a_day_than_after_an_hour() {
    let mut windows = windows();
    let mut most = 0;
    for second in 0..86_400u32 {
        windows.count(BEGIN + f64::from(second), &counts(f64::from(second % 1000)), false);
        most = most.max(
            windows
                .tracks
                .iter()
                .flat_map(|track| &track.gathered)
                .map(|g| g.steps.len())
                .max()
                .unwrap(),
        );
    }
    assert!(most < 700, "{most} steps");
}

/// What is kept of windows, as the service keeps it.
#[derive(Default)]
struct Kept(Vec<Piece>);

impl Kept {
    fn take(&mut self, changes: Changes) {
        self.0.retain(|piece| !changes.forgotten.contains(&piece.region));
        for piece in changes.pieces {
            let same = |old: &Piece| (&old.region, old.start) == (&piece.region, piece.start);
            self.0.retain(|old| !same(old));
            self.0.push(piece);
        }
    }
}

/// Whether the records are the same, but for the last digits of sums in another order.
fn are_close(these: &[WindowRecord], those: &[WindowRecord]) -> bool {
    let key = |record: &WindowRecord| (record.region.clone(), record.window, record.start);
    these.len() == those.len()
        && these.iter().zip(those).all(|(this, that)| {
            let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
            key(this) == key(that)
                && close(this.covered, that.covered)
                && close(this.mean, that.mean)
                && close(this.stale, that.stale)
                && (this.max, this.p95) == (that.max, that.p95)
                && close(this.levels.free, that.levels.free)
        })
}

#[test]
fn windows_that_are_interrupted_anywhere_end_as_if_they_had_not_been() {
    let count = |index: u32| counts(f64::from(index * 7 % 23));
    let end = 2 * 3600 + 30;
    let mut whole = windows();
    let mut expected = Vec::new();
    let (mut cut, mut kept, mut records) = (windows(), Kept::default(), Vec::new());
    for second in 0..end {
        let time = BEGIN + f64::from(second);
        expected.extend(whole.count(time, &count(second), second % 5 == 0));
        records.extend(cut.count(time, &count(second), second % 5 == 0));
        kept.take(cut.take_changes());
        // As at the end of the service, and at its next start.
        if second % 97 == 13 {
            kept.take(Changes { pieces: cut.open_pieces(), ..Changes::default() });
            let until = cut.until;
            let held: Vec<_> = cut.tracks.iter().map(|track| track.held).collect();
            cut = Windows::resume("north", time, &kept.0);
            assert_eq!(cut.change(time, &["left".to_owned()], 2.0), []);
            // But for what was held meanwhile.
            cut.until = until;
            cut.tracks.iter_mut().zip(held).for_each(|(track, held)| track.held = held);
        }
    }
    assert!(are_close(&records, &expected), "{} and {}", records.len(), expected.len());
}

#[test]
fn windows_that_ended_during_an_interruption_are_recorded_after_it_once() {
    let (mut windows, mut kept) = (windows(), Kept::default());
    let mut before = Vec::new();
    for second in 0..3575 {
        before.extend(windows.count(BEGIN + f64::from(second), &counts(4.0), false));
        kept.take(windows.take_changes());
    }
    // Killed: what came after the last whole window is not kept.
    let mut again = Windows::resume("north", BEGIN + 3570.0, &kept.0);
    let mut after = again.change(BEGIN + 7205.0, &["left".to_owned()], 2.0);
    after.extend(again.advance(BEGIN + 10_000.0));
    for (window, covered) in
        [(10, vec![]), (60, vec![30.0]), (900, vec![870.0]), (3600, vec![3570.0])]
    {
        let ended: Vec<_> = frame(&after, window).iter().map(|record| record.covered).collect();
        assert_eq!(ended, covered, "windows of {window} s");
        let all = before.iter().chain(&after).filter(|record| record.window == window);
        let mut starts: Vec<_> = all.map(|record| (record.region.clone(), record.start)).collect();
        let number = starts.len();
        starts.sort();
        starts.dedup();
        assert_eq!(starts.len(), number, "one record of each");
    }
}

#[test]
fn change_of_the_camera_ends_the_windows_of_regions_that_go_alone() {
    let (mut windows, mut kept) = (windows(), Kept::default());
    for second in 0..25 {
        windows.count(BEGIN + f64::from(second), &counts(4.0), false);
    }
    kept.take(windows.take_changes());
    let ended = windows.change(BEGIN + 25.0, &["right".to_owned()], 2.0);
    kept.take(windows.take_changes());
    assert!(ended.iter().all(|record| record.region.as_deref() == Some("left")), "{ended:?}");
    assert_eq!(ended.iter().map(|record| record.window).collect::<Vec<_>>(), WINDOWS);
    assert!(kept.0.iter().all(|piece| piece.region.is_none()));
    let mut records = Vec::new();
    for second in 25..=60 {
        records.extend(windows.count(BEGIN + f64::from(second), &counts(4.0), false));
    }
    let minute: Vec<_> = records.iter().filter(|record| record.window == 60).collect();
    let covered = minute.iter().map(|record| (record.region.as_deref(), record.covered));
    assert_eq!(covered.collect::<Vec<_>>(), [(None, 60.0), (Some("right"), 35.0)]);
    // A clock that is set back ends them all, and nothing of them is kept.
    windows.advance(BEGIN + 100.0);
    kept.take(windows.take_changes());
    windows.count(BEGIN - 1000.0, &counts(1.0), false);
    kept.take(windows.take_changes());
    assert_eq!(kept.0, []);
}
