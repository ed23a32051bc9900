//! How full a frame or a region is.

use serde::{Deserialize, Serialize};

use super::RegionError;

/// How full a frame or a region is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Next to nothing on the road.
    #[default]
    Free,
    /// Traffic flows.
    Moderate,
    /// Traffic is thick.
    Dense,
    /// Traffic stands.
    Jammed,
}

impl Level {
    /// All levels, from empty to full.
    pub const ALL: [Self; 4] = [Self::Free, Self::Moderate, Self::Dense, Self::Jammed];

    /// The name used in metadata and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Moderate => "moderate",
            Self::Dense => "dense",
            Self::Jammed => "jammed",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// From how many vehicles on a level holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// From here on traffic is moderate.
    pub moderate: f64,
    /// From here on it is dense.
    pub dense: f64,
    /// From here on it is jammed.
    pub jammed: f64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { moderate: 5.0, dense: 15.0, jammed: 30.0 }
    }
}

/// A level falls only when the count is this share below the level's threshold, so that it does not
/// flicker.
pub const HYSTERESIS: f64 = 0.15;

impl Levels {
    /// The level of `count` vehicles where the level was `before`: it rises at a threshold and
    /// falls [`HYSTERESIS`] below it.
    pub fn next(&self, before: Level, count: f64) -> Level {
        let thresholds = [
            (Level::Jammed, self.jammed),
            (Level::Dense, self.dense),
            (Level::Moderate, self.moderate),
        ];
        let holds = |&&(level, from): &&(Level, f64)| {
            let from = if before >= level { from * (1.0 - HYSTERESIS) } else { from };
            count >= from
        };
        thresholds.iter().find(holds).map_or(Level::Free, |&(level, _)| level)
    }

    /// Checks that the thresholds of `what` rise.
    pub(super) fn check(&self, what: &str) -> Result<(), RegionError> {
        let Self { moderate, dense, jammed } = *self;
        if 0.0 < moderate && moderate < dense && dense < jammed && jammed.is_finite() {
            return Ok(());
        }
        Err(RegionError::Levels { region: what.to_owned(), moderate, dense, jammed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_rises_at_its_threshold_and_falls_below_it() {
        let levels = Levels { moderate: 10.0, dense: 20.0, jammed: 40.0 };
        let mut level = Level::Free;
        let counts = [9.9, 10.0, 9.0, 8.6, 8.4, 45.0, 35.0, 33.0, 19.0, 16.0, 2.0];
        use Level::*;
        let expected = [
            Free, Moderate, Moderate, Moderate, Free, Jammed, Jammed, Dense, Dense, Moderate, Free,
        ];
        for (count, expected) in counts.into_iter().zip(expected) {
            level = levels.next(level, count);
            assert_eq!(level, expected, "at {count}");
        }
    }
}
