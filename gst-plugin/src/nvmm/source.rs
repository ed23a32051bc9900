//! One source of the batch: a camera, what is set for it, and what was counted last.

use std::time::Duration;

use vehiclecount_core::count::{CountSettings, Counter, Counts};
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::region::RegionsFile;
use vehiclecount_core::region::nvdsanalytics::SourcesFile;
use vehiclecount_core::report::{FrameReport, RegionReport};

/// What is set for the sources.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// JSON: regions by camera id.
    pub regions: RegionsFile,
    /// nvdsanalytics' form: regions, names and more by the source's number.
    pub sources: SourcesFile,
    /// Frames skipped between two counted ones, where a source has no number of its own.
    pub interval: u32,
    /// Time constant of the smoothing.
    pub smoothing: Duration,
}

impl Config {
    /// The camera's id, its interval, and what its counts go through.
    fn of(&self, id: u32) -> (String, u32, CountSettings) {
        let entry = self.sources.sources.get(&id).cloned().unwrap_or_default();
        let camera = entry.camera.clone().unwrap_or_else(|| format!("camera-{id}"));
        let regions = entry.regions(self.regions.for_camera(&camera));
        let settings = CountSettings { regions, scale: entry.scale.unwrap_or(1.0), smoothing: self.smoothing };
        (camera, entry.interval.unwrap_or(self.interval), settings)
    }
}

/// What became of a frame.
#[derive(Debug)]
pub enum Finding {
    /// Nobody asked for a count of its own: it takes the last one.
    NotDue,
    /// It should have been counted and was not.
    Missed,
    /// Counted.
    Counted(DensityMap, Duration),
}

/// Frames since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// That came.
    pub received: u64,
    /// That were counted.
    pub inferred: u64,
    /// That left with an older count although they should have had their own.
    pub stale: u64,
    /// Whose density could not be read.
    pub failed: u64,
    /// To which nothing could be attached.
    pub unattached: u64,
}

/// Names and choices that stand in every report.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The model's name.
    pub model: String,
    /// The engine's name.
    pub engine: String,
    /// The counter's unique id.
    pub unique_id: u32,
    /// Whether the density goes into the metadata.
    pub density: bool,
}

struct Latest {
    time: Duration,
    counts: Counts,
    map: DensityMap,
    inference_time: Duration,
}

/// See the module.
pub struct Source {
    /// Its name.
    pub camera: String,
    /// See [`Figures`].
    pub figures: Figures,
    /// Number of the last batch that it was in.
    pub last_batch: u64,
    /// Its density cannot be read; said once.
    pub failing: bool,
    interval: u32,
    skip: u32,
    sequence: u64,
    counter: Counter,
    latest: Option<Latest>,
    last_time: Duration,
    fresh: bool,
}

impl Source {
    /// A source that has seen nothing yet.
    pub fn new(id: u32, config: &Config) -> Self {
        let (camera, interval, settings) = config.of(id);
        Self {
            camera,
            figures: Figures::default(),
            last_batch: 0,
            failing: false,
            interval,
            skip: 0,
            sequence: 0,
            counter: Counter::new(settings),
            latest: None,
            last_time: Duration::ZERO,
            fresh: false,
        }
    }

    /// Takes new settings; the last picture is counted anew.
    pub fn configure(&mut self, id: u32, config: &Config) {
        let (camera, interval, settings) = config.of(id);
        self.camera = camera;
        self.interval = interval;
        if *self.counter.settings() != settings {
            self.counter = Counter::new(settings);
            if let Some(latest) = &mut self.latest {
                latest.counts = self.counter.update(&latest.map, latest.time);
            }
        }
    }

    /// Forgets what was counted: after a flush it says nothing of what comes.
    pub fn flush(&mut self) {
        self.skip = 0;
        self.counter.reset();
        self.latest = None;
        self.last_time = Duration::ZERO;
        self.fresh = false;
    }

    /// Takes in a frame of time stamp `pts`: its number, its time, and whether it is due. A time that went back is a new beginning, as
    /// when a file is played again.
    pub fn begin(&mut self, pts: Option<u64>) -> (u64, Duration, bool) {
        let time = pts.map_or(self.last_time, Duration::from_nanos);
        if time < self.last_time {
            self.flush();
        }
        self.last_time = time;
        let sequence = self.sequence;
        self.sequence += 1;
        self.figures.received += 1;
        let due = self.skip == 0;
        self.skip = if due { self.interval } else { (self.skip - 1).min(self.interval) };
        (sequence, time, due)
    }

    /// A frame of it cannot be counted, for `reason`: said when it begins.
    pub fn fail(&mut self, reason: &str, remarks: &mut Vec<String>) {
        self.figures.failed += 1;
        if !std::mem::replace(&mut self.failing, true) {
            remarks.push(format!("{}: {reason}; its frames keep the last count", self.camera));
        }
    }

    /// What is said of that frame.
    pub fn report(&mut self, frame: Passed, finding: Finding, labels: &Labels) -> FrameReport {
        match finding {
            Finding::NotDue => {}
            Finding::Missed => self.fresh = false,
            Finding::Counted(map, inference_time) => {
                let counts = self.counter.update(&map, frame.time);
                self.latest = Some(Latest { time: frame.time, counts, map, inference_time });
                self.figures.inferred += 1;
                self.fresh = true;
            }
        }
        // Before the first count a frame is stale only where a count was missed.
        let stale = !self.fresh && (self.latest.is_some() || self.figures.failed > 0);
        self.figures.stale += u64::from(stale);
        let latest = self.latest.as_ref();
        let regions = self.counter.settings().regions.regions.iter().enumerate();
        let regions = regions.map(|(index, region)| RegionReport {
            name: region.name.clone(),
            polygon: region.polygon.clone(),
            count: latest.and_then(|latest| latest.counts.regions.get(index)).copied(),
        });
        FrameReport {
            camera: self.camera.clone(),
            sequence: frame.sequence,
            unique_id: labels.unique_id,
            pts: frame.pts,
            capture_time: frame.ntp,
            received_time: frame.received_time,
            count: latest.map(|latest| latest.counts.total),
            stale,
            age: latest.map_or(0, |latest| nanoseconds(frame.time.saturating_sub(latest.time))),
            regions: regions.collect(),
            density: latest.filter(|_| labels.density).map(|latest| latest.map.clone()),
            model: labels.model.clone(),
            engine: labels.engine.clone(),
            inference_time: latest.map_or(0, |latest| nanoseconds(latest.inference_time)),
        }
    }
}

/// What is known of a frame besides its density.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// See [`Source::begin`].
    pub sequence: u64,
    /// See [`Source::begin`].
    pub time: Duration,
    /// Its time stamp, nanoseconds.
    pub pts: Option<u64>,
    /// Nanoseconds since 1970.
    pub ntp: Option<u64>,
    /// When its batch came, nanoseconds since 1970.
    pub received_time: u64,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
