//! What happens on a camera: its level changes, it is lost, it is back.
//!
//! A change is told when it has lasted for a given time, so that nothing flickers. All times are
//! arguments, seconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::count::Counts;
use crate::region::Level;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// When it began, seconds since 1970 (UTC).
    pub time: f64,
    /// The camera.
    pub camera: String,
    /// What it was.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The frame or a region is fuller or emptier.
    LevelChanged {
        /// The region; absent: the whole frame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// Before.
        from: Level,
        /// Since then.
        to: Level,
    },
    /// There are no counts of the camera any more, or there never were.
    CameraLost {
        /// Why, as far as that is known.
        reason: String,
    },
    /// There are counts of the camera again.
    CameraBack,
}

/// What was told of a camera last, for one that is changed or begins anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Whether there are counts of it.
    #[serde(default)]
    live: Option<bool>,
    /// The level of the frame, by an empty name, and of each region.
    #[serde(default)]
    levels: BTreeMap<String, Level>,
}

impl Told {
    /// An event of the camera was told.
    pub fn take_in(&mut self, kind: &EventKind) {
        match kind {
            EventKind::LevelChanged { region, to, .. } => {
                self.levels.insert(region.clone().unwrap_or_default(), *to);
            }
            EventKind::CameraLost { .. } => self.live = Some(false),
            EventKind::CameraBack => self.live = Some(true),
        }
    }
}

/// A value that counts as changed when it has been another one for some time.
#[derive(Clone, Debug)]
struct Debounce<T> {
    told: Option<T>,
    /// Another value, and since when.
    new: Option<(T, f64)>,
}

impl<T> Default for Debounce<T> {
    fn default() -> Self {
        Self { told: None, new: None }
    }
}

impl<T: Copy + PartialEq> Debounce<T> {
    /// Takes in the value at `time`. Where it is settled and new: what was told before, and since
    /// when it is new.
    fn see(&mut self, value: T, time: f64, settle: f64) -> Option<(Option<T>, f64)> {
        if self.told == Some(value) {
            self.new = None;
            return None;
        }
        let since = match self.new {
            // A clock that was set back does not delay it.
            Some((new, since)) if new == value && since <= time => since,
            _ => time,
        };
        self.new = Some((value, since));
        if time - since < settle {
            return None;
        }
        self.new = None;
        Some((self.told.replace(value), since))
    }
}

/// Finds out what happens on one camera.
#[derive(Clone, Debug)]
pub struct Events {
    camera: String,
    /// How long a change lasts before it is told, seconds.
    settle: f64,
    /// The frame, and each region by its name.
    levels: Vec<(Option<String>, Debounce<Level>)>,
    live: Debounce<bool>,
}

impl Events {
    /// A camera with these regions, of which nothing is known yet.
    pub fn new(camera: &str, regions: &[String], settle: f64) -> Self {
        let names = std::iter::once(None).chain(regions.iter().cloned().map(Some));
        let levels = names.map(|name| (name, Debounce::default())).collect();
        Self { camera: camera.to_owned(), settle, levels, live: Debounce::default() }
    }

    /// As [`new`](Self::new), of a camera of which something was told before.
    pub fn resume(camera: &str, regions: &[String], settle: f64, told: &Told) -> Self {
        let mut events = Self::new(camera, regions, settle);
        events.live.told = told.live;
        for (region, level) in &mut events.levels {
            level.told = told.levels.get(region.as_deref().unwrap_or_default()).copied();
        }
        events
    }

    /// What was told last.
    pub fn told(&self) -> Told {
        let level = |(region, level): &(Option<String>, Debounce<Level>)| {
            Some((region.clone().unwrap_or_default(), level.told?))
        };
        Told { live: self.live.told, levels: self.levels.iter().filter_map(level).collect() }
    }

    /// Takes in what was counted at `time`, `regions` in their order.
    pub fn count(&mut self, time: f64, counts: &Counts) -> Vec<Event> {
        let mut events = Vec::new();
        for ((region, level), counted) in self.levels.iter_mut().zip(counts.all()) {
            if let Some((Some(from), since)) = level.see(counted.level, time, self.settle) {
                let kind =
                    EventKind::LevelChanged { region: region.clone(), from, to: counted.level };
                events.push(Event { time: since, camera: self.camera.clone(), kind });
            }
        }
        events
    }

    /// Takes in whether there are counts of the camera at `time`, and why not. To be called again
    /// and again.
    pub fn presence(&mut self, time: f64, lost: Option<&str>) -> Option<Event> {
        if lost.is_some() {
            // A change of level that was under way is not known to have lasted.
            self.levels.iter_mut().for_each(|(_, level)| level.new = None);
        }
        let (before, since) = self.live.see(lost.is_none(), time, self.settle)?;
        let kind = match (before, lost) {
            (_, Some(reason)) => EventKind::CameraLost { reason: reason.to_owned() },
            (Some(_), None) => EventKind::CameraBack,
            (None, None) => return None,
        };
        Some(Event { time: since, camera: self.camera.clone(), kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FrameCount;

    fn events() -> Events {
        Events::new("north", &["left".to_owned()], 10.0)
    }

    /// The frame is free, and the region is as given.
    fn counts(region: Level) -> Counts {
        let counted = |level| FrameCount { raw: 0.0, smoothed: 0.0, level };
        Counts { total: counted(Level::Free), regions: Some(vec![counted(region)]) }
    }

    #[test]
    fn level_that_lasts_is_told_once_with_the_time_at_which_it_began() {
        let mut events = events();
        let mut told = Vec::new();
        for second in 0..100 {
            let level = if second < 30 { Level::Moderate } else { Level::Dense };
            told.extend(events.count(f64::from(second), &counts(level)));
        }
        let kind = EventKind::LevelChanged {
            region: Some("left".to_owned()),
            from: Level::Moderate,
            to: Level::Dense,
        };
        assert_eq!(told, [Event { time: 30.0, camera: "north".to_owned(), kind }]);
        let json = r#"{"time":30.0,"camera":"north","event":"level-changed","region":"left","from":"moderate","to":"dense"}"#;
        assert_eq!(serde_json::to_string(&told[0]).unwrap(), json);
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), told[0]);
    }

    #[test]
    fn level_that_flickers_is_not_told() {
        let mut events = events();
        for second in 0..300 {
            // Nine seconds of another level, one second of the old one.
            let level = if second < 20 || second % 10 == 0 { Level::Free } else { Level::Jammed };
            assert_eq!(events.count(f64::from(second), &counts(level)), []);
        }
    }

    #[test]
    fn camera_is_lost_and_back_when_that_has_lasted() {
        let mut events = events();
        let mut told = Vec::new();
        for second in 0..200 {
            let lost = match second {
                // A moment without pictures is no loss, nor one with pictures a return.
                40..45 => Some("silent"),
                60..100 | 105..120 => Some("10.0.0.5:554 refuses the connection"),
                _ => None,
            };
            told.extend(events.presence(f64::from(second), lost));
        }
        let reason = "10.0.0.5:554 refuses the connection".to_owned();
        let event = |time, kind| Event { time, camera: "north".to_owned(), kind };
        assert_eq!(
            told,
            [event(60.0, EventKind::CameraLost { reason }), event(120.0, EventKind::CameraBack)]
        );
    }

    #[test]
    fn camera_that_never_came_is_lost_and_one_that_came_at_once_is_no_event() {
        let mut never = events();
        let told: Vec<_> = (0..50)
            .filter_map(|second| never.presence(f64::from(second), Some("no answer")))
            .collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].time, 0.0);
        let mut at_once = events();
        assert!((0..50).all(|second| at_once.presence(f64::from(second), None).is_none()));
    }

    #[test]
    fn what_was_told_holds_for_a_camera_that_is_changed_or_begins_anew() {
        let reason = String::new();
        for lost in [true, false] {
            let mut events = events();
            for second in 0..30 {
                let time = f64::from(second);
                events.count(time, &counts(Level::Dense));
                events.presence(time, (lost && second > 10).then_some(reason.as_str()));
            }
            // As it is kept from one start to the next.
            let json = serde_json::to_string(&events.told()).unwrap();
            let told: Told = serde_json::from_str(&json).unwrap();
            let regions = ["new".to_owned(), "left".to_owned()];
            let mut again = Events::resume("north", &regions, 10.0, &told);
            let (mut back, mut levels) = (Vec::new(), Vec::new());
            for second in 100..130 {
                let time = f64::from(second);
                back.extend(again.presence(time, None).map(|event| (event.time, event.kind)));
                let Counts { total, regions } = counts(Level::Jammed);
                let regions = regions.map(|regions| [regions.clone(), regions].concat());
                levels.extend(again.count(time, &Counts { total, regions }));
            }
            assert_eq!(back, if lost { vec![(100.0, EventKind::CameraBack)] } else { vec![] });
            let kind = EventKind::LevelChanged {
                region: Some("left".to_owned()),
                from: Level::Dense,
                to: Level::Jammed,
            };
            assert_eq!(levels, [Event { time: 100.0, camera: "north".to_owned(), kind }]);
        }
        // What is known of the events alone.
        let mut told = Told::default();
        told.take_in(&EventKind::CameraLost { reason });
        let mut again = Events::resume("north", &[], 10.0, &told);
        let events = (0..20).filter_map(|second| again.presence(f64::from(second), None));
        assert_eq!(events.count(), 1);
    }

    #[test]
    fn level_is_not_told_across_the_loss_of_the_camera() {
        let mut events = events();
        for second in 0..20 {
            events.count(f64::from(second), &counts(Level::Free));
        }
        events.count(20.0, &counts(Level::Dense));
        events.presence(25.0, Some("silent"));
        assert_eq!(events.count(40.0, &counts(Level::Dense)), []);
        assert_eq!(events.count(50.0, &counts(Level::Dense)).len(), 1);
    }

    #[test]
    fn clock_that_is_set_back_does_not_hold_an_event_back() {
        let mut events = events();
        for second in 0..20 {
            events.count(1000.0 + f64::from(second), &counts(Level::Free));
        }
        events.count(1020.0, &counts(Level::Dense));
        events.count(20.0, &counts(Level::Dense));
        assert_eq!(events.count(30.0, &counts(Level::Dense)).len(), 1);
    }
}
