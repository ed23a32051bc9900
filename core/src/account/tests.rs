//! Tests of the account: counts, ages, intervals, regions and late counts.

use super::*;
use crate::density::{DensityMap, Rect};
use crate::region::{Region, Regions};

mod confirmation;

const FRAME: Duration = Duration::from_millis(40);
const SECOND: i128 = 1_000_000_000;
const HOUR: i128 = 3600 * SECOND;

/// One camera whose frames are counted as they come. Frame `n` has `n` vehicles, so a count tells
/// whose it is.
struct Camera {
    account: Account,
    arrival: Duration,
    live: bool,
    interval: u32,
}

fn map(vehicles: f64) -> DensityMap {
    DensityMap {
        grid: Grid { columns: 1, rows: 1, rect: Rect::FRAME },
        cells: [vehicles as f32].into(),
    }
}

fn measured(vehicles: f64) -> Measurement {
    Measurement { density: Density::Map(map(vehicles)), inference_time: FRAME }
}

fn placement(account: &Account) -> GridPlacement {
    GridPlacement { grid: map(0.0).grid, generation: account.generation() }
}

impl Camera {
    fn new(live: bool, smoothing: Duration) -> Self {
        let account = Account::new(CountSettings { smoothing, ..CountSettings::default() });
        Self { account, arrival: Duration::from_secs(7), live, interval: 0 }
    }

    /// A frame comes, 40 ms after the one before.
    fn begin(&mut self, stream: Option<i128>) -> FrameStamp {
        self.arrival += FRAME;
        let time = FrameTime { stream, arrival: self.arrival, duration: None, live: self.live };
        self.account.begin(time, self.interval)
    }

    fn leave(&mut self, stamp: FrameStamp, finding: Finding) -> FrameReport {
        let frame = Departure { stamp, pts: None, capture_time: None, received_time: 7 };
        self.account.report(frame, finding, ReportSettings::default())
    }

    /// A frame comes, and leaves counted if it is due.
    fn pass(&mut self, stream: Option<i128>, vehicles: f64) -> FrameReport {
        let stamp = self.begin(stream);
        let finding =
            if stamp.due { Finding::Counted(measured(vehicles)) } else { Finding::NotDue };
        self.leave(stamp, finding)
    }
}

fn raw(report: &FrameReport) -> Option<f64> {
    report.count.map(|count| count.raw)
}

fn smoothed(report: &FrameReport) -> f64 {
    report.count.unwrap().smoothed
}

/// Times that cameras, decoders and applications give. Each with a name for the failure's message.
fn clocks() -> Vec<(&'static str, Vec<Option<i128>>)> {
    let steady = |from: i128, step: i128| (0..20).map(move |number| Some(from + number * step));
    let frame = FRAME.as_nanos() as i128;
    let glitch = |times: &mut Vec<Option<i128>>, at: usize, by: i128| {
        times[at] = times[at].map(|time| time + by)
    };
    let mut ahead: Vec<_> = steady(0, frame).collect();
    glitch(&mut ahead, 5, HOUR);
    let mut behind: Vec<_> = steady(2 * HOUR, frame).collect();
    glitch(&mut behind, 5, -HOUR);
    let mut holes: Vec<_> = steady(0, frame).collect();
    (0..20).step_by(3).for_each(|at| holes[at] = None);
    let mut jitter: Vec<_> = steady(0, frame).collect();
    (1..19).step_by(2).for_each(|at| jitter.swap(at, at + 1));
    let mut ends: Vec<_> = steady(SECOND, frame).collect();
    ends[8..].fill(None);
    vec![
        ("steady", steady(0, frame).collect()),
        ("none", vec![None; 20]),
        ("now and then none", holes),
        ("ends in the middle", ends),
        ("begins in the middle", [None; 9].into_iter().chain(steady(0, frame)).collect()),
        ("one from the future", ahead),
        ("one from the past", behind),
        ("jumps ahead", steady(0, frame).chain(steady(HOUR, frame)).collect()),
        ("goes back", steady(HOUR, frame).chain(steady(0, frame)).collect()),
        ("goes back again and again", (0..20).map(|number| Some(number % 5 * SECOND)).collect()),
        ("runs backwards", steady(HOUR, -frame).collect()),
        ("stands still", vec![Some(SECOND); 20]),
        ("frames in twos", (0..20).map(|number| Some(number / 2 * frame)).collect()),
        ("jitters by a frame", jitter),
        ("negative", steady(-HOUR, frame).collect()),
        ("at the end of the range", steady(i128::from(u64::MAX) - 5 * frame, frame).collect()),
        ("wraps", steady(0, i128::from(u64::MAX / 3)).chain(steady(0, frame)).collect()),
        ("leaps", (0..20).map(|number| Some(number * number * HOUR)).collect()),
    ]
}

#[test]
fn counted_frame_carries_its_own_count_whatever_the_times_say() {
    for (name, times) in clocks() {
        for live in [true, false] {
            for smoothing in [0, 1, 60] {
                let mut camera = Camera::new(live, Duration::from_secs(smoothing));
                for (number, &time) in times.iter().enumerate() {
                    let report = camera.pass(time, number as f64);
                    let said = (raw(&report), report.stale, report.age);
                    assert_eq!(
                        said,
                        (Some(number as f64), false, 0),
                        "frame {number} of a clock that {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn frames_between_counted_ones_carry_the_last_count_and_are_older_than_it_whatever_the_times_say() {
    for (name, times) in clocks() {
        let mut camera = Camera { interval: 2, ..Camera::new(true, Duration::ZERO) };
        let mut last = None;
        for (number, &time) in times.iter().enumerate() {
            let stamp = camera.begin(time);
            let finding =
                if stamp.due { Finding::Counted(measured(number as f64)) } else { Finding::NotDue };
            last = if stamp.due { Some(number as f64) } else { last };
            let report = camera.leave(stamp, finding);
            assert_eq!(
                (raw(&report), report.stale),
                (last, false),
                "frame {number} of a clock that {name}"
            );
            assert_eq!(
                report.age == 0,
                stamp.due,
                "frame {number} of a clock that {name}: {}",
                report.age
            );
        }
    }
}

#[test]
fn smoothing_follows_every_clock() {
    for (name, mut times) in clocks() {
        // A second and more, as the arrivals say or as 25 frames a second make it.
        let rest = times.clone();
        times.extend(rest.iter().cycle().take(40));
        for live in [true, false] {
            let mut camera = Camera::new(live, Duration::from_secs(1));
            camera.pass(times[0], 64.0);
            let reports: Vec<_> = times[1..].iter().map(|&time| camera.pass(time, 0.0)).collect();
            let last = smoothed(reports.last().unwrap());
            assert!(
                last < 32.0,
                "a clock that {name}: {last} after {} empty frames",
                reports.len()
            );
        }
    }
}

#[test]
fn frames_without_times_are_smoothed_by_their_arrival() {
    let expected = 64.0 * (-1.0f64).exp();
    let mut camera = Camera::new(true, Duration::from_secs(1));
    camera.pass(None, 64.0);
    camera.arrival += Duration::from_secs(1) - FRAME;
    assert!((smoothed(&camera.pass(None, 0.0)) - expected).abs() < 1e-9);
    // Also between frames that have times.
    let mut camera = Camera::new(true, Duration::from_secs(1));
    camera.pass(Some(5 * SECOND), 64.0);
    camera.arrival += Duration::from_secs(1) - FRAME;
    assert!((smoothed(&camera.pass(None, 0.0)) - expected).abs() < 1e-9);
    // The time in between does not count twice.
    let last = smoothed(&camera.pass(Some(6 * SECOND + SECOND / 25), 0.0));
    assert!((last - expected * (-0.04f64).exp()).abs() < 1e-9);
}

#[test]
fn file_without_times_is_smoothed_by_its_frame_rate() {
    for (duration, step) in
        [(Some(Duration::from_millis(100)), 0.1), (None, 0.04), (Some(Duration::ZERO), 0.04)]
    {
        let mut account = Account::new(CountSettings {
            smoothing: Duration::from_secs(1),
            ..CountSettings::default()
        });
        let mut pass = |vehicles| {
            // Read in no time.
            let time = FrameTime { stream: None, arrival: Duration::ZERO, duration, live: false };
            let frame = Departure {
                stamp: account.begin(time, 0),
                pts: None,
                capture_time: None,
                received_time: 7,
            };
            account.report(frame, Finding::Counted(measured(vehicles)), ReportSettings::default())
        };
        pass(64.0);
        let last = (0..10).map(|_| smoothed(&pass(0.0))).last().unwrap();
        assert!((last - 64.0 * (-10.0f64 * step).exp()).abs() < 1e-9, "{duration:?}: {last}");
    }
}

#[test]
fn time_that_goes_back_begins_anew() {
    let mut camera = Camera { interval: 3, ..Camera::new(true, Duration::from_secs(60)) };
    for number in 0..6 {
        camera.pass(Some(100 * SECOND + number * SECOND / 25), 64.0);
    }
    // The frame would have been skipped, and smoothed with the last counts.
    let report = camera.pass(Some(0), 3.0);
    assert_eq!(
        (raw(&report), smoothed(&report), report.stale, report.age),
        (Some(3.0), 3.0, false, 0)
    );
    // Where it is not counted, the last count is not taken for this one's.
    let stamp = camera.begin(Some(-100 * SECOND));
    let report = camera.leave(stamp, Finding::Missed);
    assert_eq!((raw(&report), report.stale, report.age), (None, true, 0));
}

#[test]
fn frames_out_of_order_by_a_few_do_not_begin_anew() {
    let mut camera = Camera { interval: 9, ..Camera::new(true, Duration::from_secs(1)) };
    // As a decoder gives them that does not reorder.
    let order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
    let due: Vec<_> =
        order.iter().map(|&number| camera.begin(Some(number * SECOND / 25)).due).collect();
    assert_eq!(due.iter().position(|&due| due), Some(0));
    assert_eq!(due.iter().filter(|&&due| due).count(), 1);
    assert!(camera.begin(Some(0)).due, "ten frames back");
    // Of a slow camera, a few frames are more time.
    let mut slow = Account::default();
    let time = |own| FrameTime {
        stream: Some(own),
        duration: Some(Duration::from_millis(200)),
        ..FrameTime::default()
    };
    let due: Vec<_> =
        [5, 3, 4].iter().map(|&number| slow.begin(time(number * SECOND / 5), 9).due).collect();
    assert_eq!(due, [true, false, false]);
}

#[test]
fn frame_is_stale_before_the_first_count() {
    let mut camera = Camera::new(true, Duration::ZERO);
    for finding in [
        Finding::NotDue,
        Finding::Missed,
        Finding::Late { ticket: 0, placement: placement(&camera.account) },
    ] {
        let stamp = camera.begin(None);
        let report = camera.leave(stamp, finding);
        assert_eq!((report.count, report.stale, report.age), (None, true, 0));
    }
    assert_eq!(camera.account.statistics.stale, 3);
}

#[test]
fn missed_count_leaves_the_last_one_stale_until_the_next() {
    let mut camera = Camera { interval: 1, ..Camera::new(true, Duration::ZERO) };
    let mut seen = Vec::new();
    for (number, counted) in [(0, true), (1, false), (2, false), (3, false), (4, true), (5, false)]
    {
        let stamp = camera.begin(Some(number * SECOND));
        let finding = match (stamp.due, counted) {
            (false, _) => Finding::NotDue,
            (true, true) => Finding::Counted(measured(number as f64)),
            (true, false) => Finding::Missed,
        };
        let report = camera.leave(stamp, finding);
        seen.push((raw(&report).unwrap(), report.stale, report.age / SECOND as u64));
    }
    let expected = [
        (0.0, false, 0),
        (0.0, false, 1),
        (0.0, true, 2),
        (0.0, true, 3),
        (4.0, false, 0),
        (4.0, false, 1),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn late_count_becomes_the_last_one_unless_a_later_frame_was_counted() {
    let mut camera = Camera::new(true, Duration::ZERO);
    let late = |camera: &mut Camera, number: i128, ticket| {
        let stamp = camera.begin(Some(number * SECOND));
        let finding = Finding::Late { ticket, placement: placement(&camera.account) };
        camera.leave(stamp, finding)
    };
    late(&mut camera, 0, 10);
    late(&mut camera, 1, 11);
    assert_eq!(camera.account.late(11, |_| Some(measured(11.0))), Some(1));
    let report = late(&mut camera, 2, 12);
    assert_eq!((raw(&report), report.stale, report.age), (Some(11.0), true, SECOND as u64));
    // Results of several lanes come in any order.
    assert_eq!(camera.account.late(10, |_| Some(measured(10.0))), Some(0));
    let report = late(&mut camera, 3, 13);
    assert_eq!(raw(&report), Some(11.0));
    // One that is not waited for, or will not come.
    assert_eq!(camera.account.late(99, |_| Some(measured(99.0))), None);
    assert_eq!(camera.account.late(12, |_| None), Some(2));
    assert_eq!(camera.account.late(12, |_| Some(measured(12.0))), None);
    let report = camera.pass(Some(4 * SECOND), 4.0);
    assert_eq!((raw(&report), report.stale, report.age), (Some(4.0), false, 0));
}

#[test]
fn late_count_of_the_frame_before_serves_those_that_are_skipped() {
    let mut camera = Camera { interval: 2, ..Camera::new(true, Duration::ZERO) };
    let stamp = camera.begin(Some(0));
    let finding = Finding::Late { ticket: 0, placement: placement(&camera.account) };
    assert!(camera.leave(stamp, finding).stale);
    let stamp = camera.begin(Some(SECOND));
    assert!(camera.leave(stamp, Finding::NotDue).stale);
    camera.account.late(0, |_| Some(measured(8.0)));
    let stamp = camera.begin(Some(2 * SECOND));
    let report = camera.leave(stamp, Finding::NotDue);
    assert_eq!((raw(&report), report.stale, report.age), (Some(8.0), false, 2 * SECOND as u64));
}

#[test]
fn flush_forgets_the_past_and_leaves_frames_that_came_before_their_own_counts() {
    let mut camera = Camera { interval: 1, ..Camera::new(true, Duration::from_secs(60)) };
    camera.pass(Some(0), 64.0);
    let skipped = camera.begin(Some(SECOND));
    let held = camera.begin(Some(2 * SECOND));
    camera.account.flush();
    let first = camera.begin(Some(3 * SECOND));
    assert!(first.due, "the first frame of a new stream is counted");
    // What was held goes on as if nothing had happened.
    let report = camera.leave(skipped, Finding::NotDue);
    assert_eq!((raw(&report), report.stale), (Some(64.0), false));
    let report = camera.leave(held, Finding::Counted(measured(32.0)));
    assert_eq!((raw(&report), report.stale, report.age), (Some(32.0), false, 0));
    let report = camera.leave(first, Finding::Counted(measured(1.0)));
    assert_eq!((raw(&report), smoothed(&report), report.stale), (Some(1.0), 1.0, false));
}

fn corner(name: &str) -> Regions {
    let polygon = vec![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
    Regions {
        regions: vec![Region::new(name.to_owned(), polygon, Default::default())],
        ..Regions::default()
    }
}

#[test]
fn last_picture_is_counted_anew_when_the_settings_change() {
    let mut camera = Camera { interval: 9, ..Camera::new(true, Duration::ZERO) };
    camera.pass(Some(0), 8.0);
    let settings = CountSettings { regions: corner("a"), scale: 2.0, smoothing: Duration::ZERO };
    camera.account.configure(settings.clone());
    let report = camera.pass(Some(SECOND), 0.0);
    assert_eq!((raw(&report), report.stale, report.age), (Some(16.0), false, SECOND as u64));
    assert_eq!(report.regions[0].count.unwrap().raw, 8.0);
    // The same settings once more change nothing.
    let generation = camera.account.generation();
    camera.account.configure(settings);
    assert_eq!(camera.account.generation(), generation);
}

#[test]
fn sums_in_other_regions_keep_the_total_and_say_nothing_of_the_new_regions() {
    let mut camera = Camera { interval: 9, ..Camera::new(true, Duration::ZERO) };
    camera.account.configure(CountSettings { regions: corner("a"), ..CountSettings::default() });
    let sums = |account: &Account, total| {
        let density =
            Density::Sums { total, regions: vec![total / 2.0], generation: account.generation() };
        Finding::Counted(Measurement { density, inference_time: FRAME })
    };
    let stamp = camera.begin(Some(0));
    let before = sums(&camera.account, 8.0);
    let report = camera.leave(stamp, before.clone());
    assert_eq!((raw(&report), report.regions[0].count.unwrap().raw), (Some(8.0), 4.0));
    camera.account.configure(CountSettings {
        regions: corner("b"),
        scale: 2.0,
        ..CountSettings::default()
    });
    // The regions are counted as soon as can be.
    let stamp = camera.begin(Some(SECOND));
    assert!(stamp.due);
    // Handed to the engine before the change, counted after it.
    let report = camera.leave(stamp, before);
    assert_eq!((raw(&report), report.stale, report.age), (Some(16.0), false, 0));
    assert_eq!((report.regions[0].name.as_str(), report.regions[0].count), ("b", None));
    let stamp = camera.begin(Some(2 * SECOND));
    let after = sums(&camera.account, 6.0);
    let report = camera.leave(stamp, after);
    assert_eq!((raw(&report), report.regions[0].count.unwrap().raw), (Some(12.0), 6.0));
}

#[test]
fn restart_keeps_names_and_settings_alone() {
    let mut camera = Camera::new(true, Duration::from_secs(3));
    camera.account.labels.camera = "north".into();
    camera.pass(Some(0), 8.0);
    camera.account.restart();
    let stamp = camera.begin(Some(0));
    let report = camera.leave(stamp, Finding::Missed);
    assert_eq!((&*report.camera, report.sequence, report.count), ("north", 0, None));
    assert_eq!(camera.account.statistics.received, 1);
    assert_eq!(camera.account.settings().smoothing, Duration::from_secs(3));
}
