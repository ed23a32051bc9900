//! Which frames of a camera are published: at most one in a given time.

use std::collections::HashMap;
use std::time::Duration;

/// The times of a frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameTime {
    /// Running time of the frame itself, where it has one.
    pub running: Option<Duration>,
    /// Time at which the frame arrived, by a clock that all frames share.
    pub arrival: Duration,
}

/// Publishes at most one report in a given time for each counter of each camera.
///
/// The time between two frames is the difference of their running times. Where one of them has
/// none, or the second is not later, it is the difference of their arrivals.
#[derive(Debug, Default)]
pub struct Thinning {
    /// By `unique-id` and camera.
    streams: HashMap<u32, HashMap<String, Pace>>,
}

#[derive(Debug)]
struct Pace {
    /// The last frame's running time that was known.
    running: Option<Duration>,
    /// Time counted by arrivals since then.
    by_arrival: Duration,
    /// The last frame's arrival.
    arrival: Duration,
    /// Time since the last published frame.
    elapsed: Duration,
}

impl Thinning {
    /// Whether the frame is to be published, `every` being the time between two reports at least.
    ///
    /// A running time that goes back by `every` or more begins a new stream, whose first frame is
    /// published.
    pub fn is_due(
        &mut self,
        camera: &str,
        unique_id: u32,
        time: FrameTime,
        every: Duration,
    ) -> bool {
        let streams = self.streams.entry(unique_id).or_default();
        let Some(pace) = streams.get_mut(camera) else {
            let pace = Pace {
                running: time.running,
                by_arrival: Duration::ZERO,
                arrival: time.arrival,
                elapsed: Duration::ZERO,
            };
            streams.insert(camera.to_owned(), pace);
            return true;
        };
        let since_arrival = time.arrival.saturating_sub(pace.arrival);
        let step = match (time.running, pace.running) {
            (Some(now), Some(last)) if last.saturating_sub(now) >= every => every,
            // What arrivals have counted already is part of the difference.
            (Some(now), Some(last)) if now > last => (now - last).saturating_sub(pace.by_arrival),
            _ => since_arrival,
        };
        match time.running {
            Some(_) => (pace.running, pace.by_arrival) = (time.running, Duration::ZERO),
            None => pace.by_arrival += since_arrival,
        }
        pace.arrival = time.arrival;
        pace.elapsed = pace.elapsed.saturating_add(step);
        let due = pace.elapsed >= every;
        if due {
            pace.elapsed = Duration::ZERO;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    /// Indices of the published frames, whose running times and arrivals are in milliseconds.
    fn published(frames: impl IntoIterator<Item = (Option<u64>, u64)>) -> Vec<usize> {
        let mut thinning = Thinning::default();
        let time = |(running, arrival): (Option<u64>, u64)| FrameTime {
            running: running.map(Duration::from_millis),
            arrival: Duration::from_millis(arrival),
        };
        let due = frames.into_iter().map(|frame| thinning.is_due("north", 0, time(frame), EVERY));
        due.enumerate().filter_map(|(index, due)| due.then_some(index)).collect()
    }

    #[test]
    fn frames_with_times_are_thinned_by_them_however_fast_they_arrive() {
        assert_eq!(published((0..10).map(|n| (Some(n * 40), 0))), [0, 3, 6, 9]);
        assert_eq!(published((0..10).map(|n| (Some(n * 40), n * 1000))), [0, 3, 6, 9]);
        // A jump ahead by an hour.
        let jump = (0..3).chain(90_000..90_003).map(|n| (Some(n * 40), n));
        assert_eq!(published(jump), [0, 3]);
    }

    #[test]
    fn frames_without_times_are_thinned_by_their_arrival() {
        assert_eq!(published((0..10).map(|n| (None, n * 40))), [0, 3, 6, 9]);
        // Times that end in the middle, that begin in the middle, that are missing now and then.
        let ends = (0..10).map(|n| ((n < 4).then_some(n * 40), n * 40));
        assert_eq!(published(ends), [0, 3, 6, 9]);
        let begins = (0..10).map(|n| ((n > 4).then_some(7000 + n * 40), n * 40));
        assert_eq!(published(begins), [0, 3, 6, 9]);
        let gaps = (0..10).map(|n| ((n % 2 == 0).then_some(n * 40), n * 40));
        assert_eq!(published(gaps), [0, 3, 6, 9]);
        // A file that is read fast: the arrival of a frame without a time adds nothing to speak of.
        let gaps = (0..10).map(|n| ((n % 2 == 0).then_some(n * 40), n));
        assert_eq!(published(gaps), [0, 4, 8]);
    }

    #[test]
    fn time_that_goes_back_far_is_a_new_beginning() {
        let back = (100..105).chain(0..5).map(|n| (Some(n * 40), n));
        assert_eq!(published(back), [0, 3, 5, 8]);
    }

    #[test]
    fn time_that_goes_back_a_little_neither_silences_nor_floods() {
        // A clip of 80 ms in a loop.
        let loops = (0..12).map(|n| (Some(n % 3 * 40), n));
        assert_eq!(published(loops), [0, 4, 8]);
        let standing = (0..10).map(|n| (Some(40), n * 40));
        assert_eq!(published(standing), [0, 3, 6, 9]);
    }

    #[test]
    fn every_counter_of_every_camera_has_its_own_pace() {
        let mut thinning = Thinning::default();
        let mut published = Vec::new();
        for n in 0..6 {
            let time =
                FrameTime { running: Some(Duration::from_millis(n * 40)), arrival: Duration::ZERO };
            for (camera, unique_id) in [("north", 1), ("north", 2), ("south", 1)] {
                if thinning.is_due(camera, unique_id, time, EVERY) {
                    published.push((n, camera, unique_id));
                }
            }
        }
        let both = [("north", 1), ("north", 2), ("south", 1)];
        let expected = [0, 3].into_iter().flat_map(|n| both.map(|(camera, id)| (n, camera, id)));
        assert_eq!(published, expected.collect::<Vec<_>>());
    }

    #[test]
    fn without_a_limit_every_frame_is_published() {
        let mut thinning = Thinning::default();
        let time = FrameTime { running: None, arrival: Duration::ZERO };
        assert!((0..3).all(|_| thinning.is_due("north", 0, time, Duration::ZERO)));
    }
}
