//! Which of the pictures that come are counted.

use super::skip::JITTER;

/// Which pictures are counted, so many a second on the average.
#[derive(Debug)]
pub struct Turns {
    period: f64,
    next: Option<f64>,
    last: f64,
}

impl Turns {
    /// `rate` pictures a second are counted.
    pub fn new(rate: f64) -> Self {
        Self { period: 1.0 / rate, next: None, last: f64::NEG_INFINITY }
    }

    /// Whether the picture of that time, seconds, is counted. One that `is_viewed` is counted where
    /// the last one lies a second back, too.
    pub fn is_due(&mut self, time: f64, is_viewed: bool) -> bool {
        let jitter = JITTER.min(self.period / 4.0);
        let early = self.next.map_or(0.0, |next| next - time - jitter);
        // A time that lies further ahead than a turn is one of before a jump.
        if early > 0.0 && early <= self.period {
            if !is_viewed || (time - self.last).abs() < 1.0 {
                return false;
            }
            self.last = time;
            return true;
        }
        self.last = time;
        let late = self.next.map_or(f64::INFINITY, |next| time - next);
        self.next = Some(if late.abs() < self.period {
            time - late + self.period
        } else {
            time + self.period
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the pictures of these times are counted.
    fn due(turns: &mut Turns, times: impl Iterator<Item = f64>) -> usize {
        times.filter(|time| turns.is_due(*time, false)).count()
    }

    #[test]
    fn as_many_pictures_are_counted_as_were_asked_for() {
        for (fps, rate, expected) in [
            (25.0, 1.0, 100),
            (25.0, 25.0, 2500),
            (25.0, 60.0, 2500),
            (10.0, 3.0, 300),
            (30.0, 0.1, 10),
            (12.5, 5.0, 500),
        ] {
            let jitter = [0.0, 0.0004, -0.0004];
            let times =
                (0..(100.0 * fps) as usize).map(|frame| frame as f64 / fps + jitter[frame % 3]);
            let counted = due(&mut Turns::new(rate), times);
            assert!(counted.abs_diff(expected) <= 1, "{counted} of {fps} a second at {rate}");
        }
    }

    #[test]
    fn pictures_that_are_viewed_are_counted_once_a_second_and_the_turns_stay() {
        let mut turns = Turns::new(0.1);
        let counted: Vec<_> = (0..30)
            .filter(|&second| {
                let is_viewed = (5..8).contains(&second);
                let time = f64::from(second);
                let is_due = turns.is_due(time, is_viewed);
                assert!(!turns.is_due(time + 0.5, is_viewed));
                is_due
            })
            .collect();
        assert_eq!(counted, [0, 5, 6, 7, 10, 20]);
    }

    #[test]
    fn times_that_jump_hold_nothing_back_for_long() {
        let mut turns = Turns::new(1.0);
        assert_eq!(due(&mut turns, (0..100).map(|frame| f64::from(frame) / 10.0)), 10);
        // A new connection begins at zero, or an hour later.
        assert!(
            (10..=11).contains(&due(&mut turns, (0..100).map(|frame| f64::from(frame) / 10.0)))
        );
        assert!(
            (10..=11)
                .contains(&due(&mut turns, (0..100).map(|frame| 3600.0 + f64::from(frame) / 10.0)))
        );
    }
}
