//! Which compressed pictures are decoded.

/// What is known of a compressed picture.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    /// When it is shown, seconds.
    pub time: Option<f64>,
    /// It is decoded without any other.
    pub key: bool,
    /// Another may refer to it.
    pub is_reference: bool,
    /// It holds no picture but parameters of the stream.
    pub is_header: bool,
}

/// Times of one camera jitter by less than this, seconds: a picture so much early is in time.
pub const JITTER: f64 = 15e-3;

/// A count waits so long for a key picture, seconds: that of a picture of 25 a second.
const LATE: f64 = 40e-3;

/// Where key pictures come as often as counts but for this share, counts keep step with them. Else
/// the clock of a camera that is a little slow would carry each count away from its key picture,
/// and whole groups would be decoded for one picture at their end.
const IN_STEP: f64 = 0.02;

/// Share of the distance of key pictures that a count waits for one, to be in step.
const WAIT: f64 = 0.9;

/// Distances between key pictures of a steady stream differ by less than this share.
const STEADY: f64 = 0.1;

/// Distances between key pictures that are looked at.
const KEPT: usize = 3;

/// Decides, picture by picture in the order of decoding.
#[derive(Debug)]
pub struct Selection {
    /// Seconds between two counts.
    period: f64,
    /// When the next picture is counted.
    due: Option<f64>,
    last_key: Option<f64>,
    /// The last distances between key pictures, seconds.
    distances: Vec<f64>,
    /// What follows is not decoded before the next key picture.
    skipping: bool,
}

impl Selection {
    /// For `rate` counts a second.
    pub fn new(rate: f64) -> Self {
        Self {
            period: 1.0 / rate,
            due: None,
            last_key: None,
            distances: Vec::new(),
            skipping: false,
        }
    }

    /// Another stream begins.
    pub fn restart(&mut self) {
        *self = Self::new(1.0 / self.period);
    }

    /// Whether the picture is decoded. `all`: every one that can be is wanted.
    pub fn is_wanted(&mut self, picture: &Picture, all: bool) -> bool {
        if picture.is_header && !picture.key {
            return true;
        }
        let Some(time) = picture.time else {
            // Nothing can be said of when it is counted.
            self.restart();
            return true;
        };
        // Backwards, or further ahead than two counts: other times begin.
        let jumped = self.last_key.is_some_and(|last| {
            time < last - 2.0 * self.period - JITTER
                || self
                    .due
                    .is_some_and(|due| time > due + 2.0 * self.period + self.group().unwrap_or(0.0))
        });
        if jumped {
            let skipping = self.skipping;
            self.restart();
            // What was left out is missing to this one.
            self.skipping = skipping && !picture.key;
        }
        if picture.key { self.key(time, all) } else { self.other(time, picture.is_reference, all) }
    }

    /// Seconds between two key pictures, where they come steadily.
    fn group(&self) -> Option<f64> {
        let most = self.distances.iter().copied().fold(0.0, f64::max);
        let least = self.distances.iter().copied().fold(f64::INFINITY, f64::min);
        (self.distances.len() == KEPT && most - least <= STEADY * most + JITTER).then_some(least)
    }

    /// Whether nothing is counted before the next key picture.
    fn waits_for_key(&self) -> bool {
        match (self.due, self.last_key, self.group()) {
            (Some(due), Some(last), Some(group)) => due >= last + group - self.late(),
            _ => false,
        }
    }

    /// [`JITTER`], of counts that come often less.
    fn jitter(&self) -> f64 {
        JITTER.min(self.period / 4.0)
    }

    /// How long a count waits for a key picture: [`LATE`], of counts that come often less. Those
    /// that [keep step](Self::step) with key pictures wait for the next one, unless they are due
    /// just behind the last: with the next, they are in step from then on.
    fn late(&self) -> f64 {
        self.step().map_or(LATE.min(self.period / 4.0), |group| WAIT * group)
    }

    /// Seconds between two key pictures, where a count falls on each of them, on each second one,
    /// or on each of another number.
    fn step(&self) -> Option<f64> {
        self.group().filter(|group| {
            let groups = (self.period / group).round();
            groups >= 1.0 && (self.period - groups * group).abs() <= IN_STEP * self.period
        })
    }

    fn key(&mut self, time: f64, all: bool) -> bool {
        if let Some(last) = self.last_key {
            if self.distances.len() == KEPT {
                self.distances.remove(0);
            }
            self.distances.push(time - last);
        }
        self.last_key = Some(time);
        self.skipping =
            !all && self.due.is_some_and(|due| time < due - self.jitter()) && self.waits_for_key();
        if self.skipping {
            return false;
        }
        let late = self.due.map_or(0.0, |due| time - due);
        if (0.0..=self.late()).contains(&late) && self.step().is_some() {
            self.due = Some(time + self.period);
        } else {
            self.take(time);
        }
        true
    }

    fn other(&mut self, time: f64, is_reference: bool, all: bool) -> bool {
        self.skipping |= !all && self.waits_for_key();
        let due = self.due.is_none_or(|due| time >= due - self.jitter());
        if self.skipping || !(is_reference || due || all) {
            return false;
        }
        self.take(time);
        true
    }

    /// A picture of that time is decoded, and counted where it is due.
    fn take(&mut self, time: f64) {
        match self.due {
            Some(due) if time < due - self.jitter() => {}
            // In step, as long as no turn is missed.
            Some(due) if time < due + self.period => self.due = Some(due + self.period),
            _ => self.due = Some(time + self.period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of `seconds` at 25 pictures a second, a key picture every `group` pictures. Gives
    /// how many are decoded, and the times of those that a counter takes at `rate`.
    fn decoded(rate: f64, group: usize, seconds: usize) -> (usize, Vec<f64>) {
        let mut selection = Selection::new(rate);
        let (mut decoded, mut counted, mut due) = (0, Vec::new(), 0.0);
        let mut broken = true;
        for number in 0..25 * seconds {
            let time = number as f64 / 25.0;
            let picture = Picture {
                time: Some(time),
                key: number % group == 0,
                is_reference: true,
                is_header: false,
            };
            let wanted = selection.is_wanted(&picture, false);
            // A picture without those that it refers to cannot be decoded.
            assert!(!(wanted && broken && !picture.key), "{rate} {group}: {time}");
            broken = !wanted;
            decoded += usize::from(wanted);
            if wanted && time >= due - 1e-3 {
                counted.push(time);
                due += 1.0 / rate;
            }
        }
        (decoded, counted)
    }

    #[test]
    fn key_pictures_alone_are_decoded_where_they_come_as_often_as_counts() {
        let (all, counted) = decoded(1.0, 25, 100);
        assert_eq!(counted.len(), 100);
        // The first groups show how far key pictures are apart.
        assert!(all < 100 + 4 * 25, "{all}");
    }

    /// How many pictures of a stream of 200 seconds are decoded for a count a second. Its key
    /// pictures come every `distance` seconds, and its times are off by what `jitter` says.
    fn decoded_of(distance: f64, jitter: impl Fn(usize) -> f64) -> usize {
        let mut selection = Selection::new(1.0);
        let wanted = |number: &usize| {
            let time = *number as f64 * distance / 25.0 + jitter(*number);
            let key = number.is_multiple_of(25);
            let picture = Picture { time: Some(time), key, is_reference: true, is_header: false };
            selection.is_wanted(&picture, false)
        };
        (0..5000).filter(wanted).count()
    }

    #[test]
    fn little_more_is_decoded_of_cameras_whose_clocks_are_off_and_whose_times_jitter() {
        let even = |_: usize| 0.0;
        // A slow clock, as much as 50 s in an hour.
        assert!(decoded_of(1.0001, even) < 300, "{}", decoded_of(1.0001, even));
        assert!(decoded_of(1.015, even) < 300, "{}", decoded_of(1.015, even));
        // As at a connection, whose first pictures come late or in a hurry.
        for first in [-0.7, -0.4, -0.1, 0.1, 0.4, 0.7] {
            let decoded = decoded_of(1.0, |number| if number < 30 { first } else { 0.0 });
            assert!(decoded < 200 + 6 * 25 + 3 * 200, "{first}: {decoded}");
            let decoded = decoded_of(1.0, |number| if number < 130 { first } else { 0.0 });
            assert!(decoded < 200 + 10 * 25 + 3 * 200, "{first}, later: {decoded}");
        }
        // Within 15 ms on either side, the same for neighbours or not.
        for step in [1, 25, 75] {
            let uneven = |number: usize| ((number / step * 7919) % 31) as f64 * 1e-3 - 0.015;
            let decoded = decoded_of(1.0, uneven);
            assert!(decoded < 200 + 4 * 25 + 2 * 200, "{step}: {decoded}");
        }
    }

    #[test]
    fn as_many_pictures_are_counted_as_without_and_at_the_same_times() {
        for (rate, group, most) in [
            (1.0, 50, 0.60),
            (1.0, 100, 0.80),
            (0.1, 25, 0.05),
            (0.1, 50, 0.06),
            (0.5, 25, 0.10),
            (2.0, 25, 0.62),
            (1.0, 12, 0.30),
            (5.0, 50, 1.0),
            (25.0, 25, 1.0),
            (1.0, 250, 1.0),
        ] {
            let (all, counted) = decoded(rate, group, 200);
            let expected = (200.0 * rate) as usize;
            assert!(
                counted.len().abs_diff(expected) <= 1,
                "{rate} a second, groups of {group}: {} of {expected}",
                counted.len()
            );
            let worst = counted
                .iter()
                .enumerate()
                .map(|(number, time)| time - number as f64 / rate)
                .fold(0.0, f64::max);
            assert!(worst < 0.041, "{rate} {group}: late by {worst}");
            let share = all as f64 / (200.0 * 25.0);
            assert!(share <= most, "{rate} a second, groups of {group}: {share} decoded");
        }
    }

    #[test]
    fn pictures_that_nothing_refers_to_are_not_decoded_unless_they_are_counted() {
        let mut selection = Selection::new(1.0);
        let mut decoded = Vec::new();
        for number in 0..100 {
            let picture = Picture {
                time: Some(f64::from(number) / 25.0),
                key: number == 0,
                is_reference: number % 2 == 0,
                is_header: false,
            };
            if selection.is_wanted(&picture, false) {
                decoded.push(number);
            }
        }
        // 25 and 75 are due.
        assert_eq!(decoded.len(), 52);
        assert!(decoded.contains(&25) && decoded.contains(&75) && !decoded.contains(&27));
    }

    #[test]
    fn change_of_the_distance_of_key_pictures_costs_no_more_than_the_wait_for_the_next() {
        let mut selection = Selection::new(1.0);
        let (mut broken, mut counted) = (true, Vec::new());
        // Ten seconds of a key picture each second, then one every four.
        for number in 0..1250 {
            let time = f64::from(number) / 25.0;
            let key = if number < 250 { number % 25 == 0 } else { (number - 250) % 100 == 60 };
            let picture = Picture { time: Some(time), key, is_reference: true, is_header: false };
            let wanted = selection.is_wanted(&picture, false);
            assert!(!(wanted && broken && !key), "{time}");
            broken = !wanted;
            if wanted && counted.last().is_none_or(|last| time >= last + 1.0 - 1e-3) {
                counted.push(time);
            }
        }
        let gap = counted.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        assert!(gap <= 4.0, "{gap}");
        // All are counted again once the new distance is known.
        assert!(counted.len() >= 42, "{}", counted.len());
    }

    #[test]
    fn all_are_decoded_while_all_are_wanted_from_the_next_key_picture_on() {
        let mut selection = Selection::new(1.0);
        let mut decoded = Vec::new();
        for number in 0..500 {
            let time = f64::from(number) / 25.0;
            let key = number % 25 == 0;
            let picture = Picture { time: Some(time), key, is_reference: key, is_header: false };
            let all = (255..355).contains(&number);
            if selection.is_wanted(&picture, all) {
                decoded.push(number);
            }
        }
        let within = |range: std::ops::Range<i32>| {
            decoded.iter().filter(|number| range.contains(number)).count()
        };
        assert_eq!(within(200..275), 3);
        assert_eq!(within(275..355), 80);
        assert_eq!(within(375..500), 5);
    }

    #[test]
    fn times_that_jump_or_are_missing_hold_nothing_up() {
        for jump in [-3600.0, 3600.0] {
            let mut selection = Selection::new(1.0);
            let mut wanted = 0;
            for number in 0..500 {
                let time = f64::from(number) / 25.0 + if number < 250 { 0.0 } else { jump };
                let key = number % 25 == 0;
                let picture =
                    Picture { time: Some(time), key, is_reference: true, is_header: false };
                wanted += usize::from(selection.is_wanted(&picture, false) && number >= 250);
            }
            assert!(wanted >= 10, "{jump}: {wanted}");
        }
        let mut selection = Selection::new(1.0);
        let unknown = Picture { time: None, key: false, is_reference: false, is_header: false };
        assert!((0..50).all(|_| selection.is_wanted(&unknown, false)));
    }

    #[test]
    fn pictures_that_are_all_key_pictures_are_decoded_when_they_are_counted() {
        let (all, counted) = decoded(1.0, 1, 100);
        assert_eq!(counted.len(), 100);
        assert!(all <= 106, "{all}");
    }
}
