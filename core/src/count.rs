//! From density to counts: regions, the camera's scale, smoothing over time, levels.

use std::time::Duration;

use crate::density::{DensityMap, Grid};
use crate::region::{Coverage, Level, Levels, Regions};
use crate::report::FrameCount;

/// What one camera's counts go through.
#[derive(Clone, Debug, PartialEq)]
pub struct CountSettings {
    /// Polygons and levels.
    pub regions: Regions,
    /// Every count is multiplied by this: for a camera that the model is known to over- or
    /// under-count.
    pub scale: f64,
    /// Time constant of the smoothing; zero smooths nothing.
    pub smoothing: Duration,
}

impl Default for CountSettings {
    fn default() -> Self {
        Self { regions: Regions::default(), scale: 1.0, smoothing: Duration::ZERO }
    }
}

/// The counts of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The whole frame.
    pub total: FrameCount,
    /// Each region, in the order of the settings; `None` where the regions were not counted.
    pub regions: Option<Vec<FrameCount>>,
}

impl Counts {
    /// The count of the whole frame, then those of the regions.
    pub fn all(&self) -> impl Iterator<Item = &FrameCount> {
        std::iter::once(&self.total).chain(self.regions.iter().flatten())
    }
}

/// Follows one camera's counts through time.
#[derive(Debug)]
pub struct Counter {
    settings: CountSettings,
    /// Shares of the cells in each region, for the grid that came last.
    coverage: Option<(Grid, Vec<Coverage>)>,
    tracks: Vec<Track>,
    last: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    smoothed: Option<f64>,
    level: Level,
}

impl Counter {
    /// A counter that has seen nothing yet.
    pub fn new(settings: CountSettings) -> Self {
        let tracks = vec![Track::default(); settings.regions.regions.len() + 1];
        Self { settings, coverage: None, tracks, last: None }
    }

    /// What it was made with.
    pub fn settings(&self) -> &CountSettings {
        &self.settings
    }

    /// Forgets the past: after a seek, what was counted before says nothing.
    pub fn reset(&mut self) {
        self.tracks.fill(Track::default());
        self.last = None;
    }

    /// The share of each cell of `grid` in each region.
    pub fn coverage(&mut self, grid: &Grid) -> &[Coverage] {
        if self.coverage.as_ref().is_none_or(|(held, _)| held != grid) {
            let regions = self.settings.regions.regions.iter();
            let shares = regions.map(|region| Coverage::new(&region.polygon, grid)).collect();
            self.coverage = Some((*grid, shares));
        }
        &self.coverage.as_ref().expect("set above").1
    }

    /// Counts the picture taken at `time` on the camera's own clock. Pictures come in order.
    pub fn update(&mut self, map: &DensityMap, time: Duration) -> Counts {
        let regions: Vec<f64> =
            self.coverage(&map.grid).iter().map(|share| share.count(map)).collect();
        self.update_sums(map.count(), Some(&regions), time)
    }

    /// As [`update`](Self::update), from the sums of the whole map and of each region, in the order
    /// of the settings; `None` where the regions' sums are not known.
    pub fn update_sums(&mut self, total: f64, regions: Option<&[f64]>, time: Duration) -> Counts {
        let weight = self.weight(time);
        let scale = self.settings.scale;
        self.last = Some(time);
        let total = self.tracks[0].follow(total * scale, weight, &self.settings.regions.levels);
        let regions = regions.map(|sums| {
            let counted = self.settings.regions.regions.iter().zip(sums).zip(&mut self.tracks[1..]);
            counted
                .map(|((region, sum), track)| track.follow(sum * scale, weight, &region.levels))
                .collect()
        });
        Counts { total, regions }
    }

    /// The new count's share in the smoothed one: 1 - exp(-dt / time constant), the step response
    /// of a first-order low-pass filter.
    fn weight(&self, time: Duration) -> f64 {
        let constant = self.settings.smoothing.as_secs_f64();
        match self.last {
            Some(last) if constant > 0.0 => {
                1.0 - (-time.saturating_sub(last).as_secs_f64() / constant).exp()
            }
            _ => 1.0,
        }
    }
}

impl Track {
    fn follow(&mut self, raw: f64, weight: f64, levels: &Levels) -> FrameCount {
        let before = self.smoothed.unwrap_or(raw);
        let smoothed = before + weight * (raw - before);
        self.level = levels.next(self.level, smoothed);
        self.smoothed = Some(smoothed);
        FrameCount { raw, smoothed, level: self.level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::density::Rect;
    use crate::region::Region;

    fn map(cells: [f32; 2]) -> DensityMap {
        DensityMap { grid: Grid { columns: 2, rows: 1, rect: Rect::FRAME }, cells: cells.into() }
    }

    fn left_half() -> Regions {
        let polygon = vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]];
        Regions {
            levels: Levels { moderate: 2.0, dense: 10.0, jammed: 20.0 },
            regions: vec![Region::new("left".to_owned(), polygon, Levels::default())],
            ..Regions::default()
        }
    }

    #[test]
    fn scale_multiplies_the_frame_and_its_regions() {
        let mut counter = Counter::new(CountSettings {
            regions: left_half(),
            scale: 2.0,
            smoothing: Duration::ZERO,
        });
        let counts = counter.update(&map([1.0, 3.0]), Duration::ZERO);
        assert_eq!(counts.total.raw, 8.0);
        assert_eq!(counts.total.level, Level::Moderate);
        assert_eq!(counts.regions.unwrap()[0].raw, 2.0);
    }

    #[test]
    fn smoothed_count_has_gone_63_percent_of_a_step_after_one_time_constant() {
        let smoothing = Duration::from_secs(2);
        let mut counter = Counter::new(CountSettings { smoothing, ..CountSettings::default() });
        assert_eq!(counter.update(&map([0.0, 0.0]), Duration::ZERO).total.smoothed, 0.0);
        // In many small steps or in one: the same.
        for step in 1..=20 {
            counter.update(&map([5.0, 5.0]), step * smoothing / 20);
        }
        let smoothed = counter.update(&map([5.0, 5.0]), smoothing).total.smoothed;
        assert!((smoothed - 10.0 * (1.0 - (-1.0f64).exp())).abs() < 1e-9, "{smoothed}");
    }

    #[test]
    fn seek_forgets_what_was_counted_before() {
        let settings =
            CountSettings { smoothing: Duration::from_secs(60), ..CountSettings::default() };
        let mut counter = Counter::new(settings);
        counter.update(&map([50.0, 50.0]), Duration::from_secs(9));
        counter.reset();
        assert_eq!(counter.update(&map([1.0, 1.0]), Duration::ZERO).total.smoothed, 2.0);
    }

    #[test]
    fn time_that_runs_backwards_changes_nothing_smoothed() {
        let settings =
            CountSettings { smoothing: Duration::from_secs(1), ..CountSettings::default() };
        let mut counter = Counter::new(settings);
        counter.update(&map([4.0, 0.0]), Duration::from_secs(9));
        assert_eq!(counter.update(&map([9.0, 0.0]), Duration::from_secs(8)).total.smoothed, 4.0);
    }
}
