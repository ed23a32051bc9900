//! Tests of counts that hold for frames that do not differ.

use super::*;

/// A frame comes and is handed over; it leaves counted.
fn hand_over(camera: &mut Camera, time: i128, vehicles: f64) -> (u64, FrameReport) {
    let stamp = camera.begin(Some(time));
    camera.account.hand_over(stamp, camera.account.generation());
    (stamp.sequence, camera.leave(stamp, Finding::Counted(measured(vehicles))))
}

/// A frame comes that does not differ; it leaves.
fn confirm(camera: &mut Camera, time: i128, of: u64) -> FrameReport {
    let stamp = camera.begin(Some(time));
    assert_eq!(camera.account.confirmable(stamp), Some(of), "at {time}");
    camera.leave(stamp, Finding::Confirmed(of))
}

#[test]
fn frame_that_does_not_differ_carries_the_count_as_its_own() {
    let mut camera = Camera::new(true, Duration::ZERO);
    let (counted, report) = hand_over(&mut camera, 0, 5.0);
    assert_eq!((raw(&report), report.confirmed), (Some(5.0), false));
    for second in 1..10 {
        let report = confirm(&mut camera, second * SECOND, counted);
        let said = (raw(&report), report.stale, report.confirmed, report.age);
        assert_eq!(said, (Some(5.0), false, true, (second * SECOND) as u64));
    }
    // Ten seconds later it is counted in any case.
    let stamp = camera.begin(Some(10 * SECOND));
    assert_eq!(camera.account.confirmable(stamp), None);
    let report = camera.leave(stamp, Finding::Counted(measured(6.0)));
    assert_eq!((raw(&report), report.stale, report.confirmed), (Some(6.0), false, false));
    let statistics = &camera.account.statistics;
    assert_eq!((statistics.confirmed, statistics.stale), (9, 0));
}

#[test]
fn frame_that_is_not_due_carries_a_confirmed_count_that_is_not_stale() {
    let mut camera = Camera::new(true, Duration::ZERO);
    let (counted, _) = hand_over(&mut camera, 0, 5.0);
    confirm(&mut camera, SECOND, counted);
    let stamp = camera.begin(Some(2 * SECOND));
    let report = camera.leave(stamp, Finding::NotDue);
    let said = (raw(&report), report.stale, report.confirmed, report.age);
    assert_eq!(said, (Some(5.0), false, false, 2 * SECOND as u64));
    // One that should have been counted is stale all the same.
    let stamp = camera.begin(Some(3 * SECOND));
    let report = camera.leave(stamp, Finding::Missed);
    assert_eq!((raw(&report), report.stale, report.confirmed), (Some(5.0), true, false));
    assert!(!confirm(&mut camera, 4 * SECOND, counted).stale);
}

#[test]
fn smoothing_goes_on_as_if_confirmed_frames_were_counted() {
    let smoothing = Duration::from_secs(4);
    let (mut counting, mut skipping) = (Camera::new(true, smoothing), Camera::new(true, smoothing));
    hand_over(&mut counting, 0, 1.0);
    hand_over(&mut skipping, 0, 1.0);
    hand_over(&mut counting, SECOND, 30.0);
    let (counted, _) = hand_over(&mut skipping, SECOND, 30.0);
    for second in 2..9 {
        let (_, expected) = hand_over(&mut counting, second * SECOND, 30.0);
        let report = confirm(&mut skipping, second * SECOND, counted);
        assert_eq!(report.count, expected.count, "second {second}");
    }
}

#[test]
fn nothing_is_confirmed_by_a_picture_that_was_not_counted() {
    let mut camera = Camera::new(true, Duration::ZERO);
    hand_over(&mut camera, 0, 5.0);
    // The engine fails on the next, after another one was found to be the same.
    let failed = camera.begin(Some(SECOND));
    camera.account.hand_over(failed, camera.account.generation());
    let same = camera.begin(Some(2 * SECOND));
    assert_eq!(camera.account.confirmable(same), Some(failed.sequence));
    camera.account.note_failed();
    camera.account.forget_reference(failed.sequence);
    assert!(camera.leave(failed, Finding::Missed).stale);
    let report = camera.leave(same, Finding::Confirmed(failed.sequence));
    assert_eq!((raw(&report), report.stale, report.confirmed), (Some(5.0), true, false));
    let next = camera.begin(Some(3 * SECOND));
    assert_eq!(camera.account.confirmable(next), None);
}

#[test]
fn frame_is_confirmed_by_a_count_that_came_late() {
    let mut camera = Camera::new(true, Duration::ZERO);
    let placement = placement(&camera.account);
    let slow = camera.begin(Some(0));
    camera.account.hand_over(slow, placement.generation);
    assert!(camera.leave(slow, Finding::Late { ticket: 9, placement }).stale);
    let (before, after) = (camera.begin(Some(SECOND)), camera.begin(Some(2 * SECOND)));
    assert!(camera.account.is_late(slow.sequence));
    assert!(camera.leave(before, Finding::Confirmed(slow.sequence)).stale, "nothing is counted");
    camera.account.late(9, |_| Some(measured(3.0)));
    assert!(!camera.account.is_late(slow.sequence));
    let report = camera.leave(after, Finding::Confirmed(slow.sequence));
    assert_eq!((raw(&report), report.stale, report.confirmed), (Some(3.0), false, true));
}

#[test]
fn new_settings_a_flush_and_times_that_go_back_confirm_nothing() {
    let mut camera = Camera::new(true, Duration::ZERO);
    hand_over(&mut camera, HOUR, 5.0);
    camera.account.configure(CountSettings { scale: 2.0, ..CountSettings::default() });
    let stamp = camera.begin(Some(HOUR + SECOND));
    assert_eq!(camera.account.confirmable(stamp), None, "other settings");
    camera.account.hand_over(stamp, camera.account.generation());
    camera.account.flush();
    let stamp = camera.begin(Some(HOUR + 2 * SECOND));
    assert_eq!(camera.account.confirmable(stamp), None, "a flush");
    camera.account.hand_over(stamp, camera.account.generation());
    let stamp = camera.begin(Some(SECOND));
    assert_eq!(camera.account.confirmable(stamp), None, "times went back");
    camera.account.hand_over(stamp, camera.account.generation());
    camera.account.restart();
    let stamp = camera.begin(Some(2 * SECOND));
    assert_eq!(camera.account.confirmable(stamp), None, "another stream");
}
