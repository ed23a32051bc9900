//! One source of the batch: a camera, what is set for it, and the account of its counts.

use std::collections::BTreeMap;
use std::time::Duration;

use vehiclecount_core::account::{Account, FailureEdge, FrameStamp, FrameTime};
use vehiclecount_core::count::CountSettings;
use vehiclecount_core::region::RegionsFile;
use vehiclecount_core::region::nvdsanalytics::SourcesFile;

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
    /// Ids that several of the configured sources have, with the sources' numbers.
    pub fn shared_ids(&self) -> BTreeMap<&str, Vec<u32>> {
        let mut sources = BTreeMap::<&str, Vec<u32>>::new();
        for (&number, entry) in &self.sources.sources {
            if let Some(camera) = &entry.camera {
                sources.entry(camera).or_default().push(number);
            }
        }
        sources.retain(|_, numbers| numbers.len() > 1);
        sources
    }

    /// The camera's id, its interval, and what its counts go through.
    fn of(&self, id: u32) -> (String, u32, CountSettings) {
        let entry = self.sources.sources.get(&id).cloned().unwrap_or_default();
        let camera = entry.camera.clone().unwrap_or_else(|| format!("camera-{id}"));
        let regions = entry.regions(self.regions.for_camera(&camera));
        let scale = entry.scale.unwrap_or(1.0);
        let settings = CountSettings { regions, scale, smoothing: self.smoothing };
        (camera, entry.interval.unwrap_or(self.interval), settings)
    }
}

/// What the element tells the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something is wrong.
    Warning(String),
    /// It is over.
    Info(String),
}

/// Collects notices under locks, to be posted when none is held.
#[derive(Debug, Default)]
pub struct Notices(Vec<Notice>);

impl Notices {
    /// Something is wrong.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.0.push(Notice::Warning(text.into()));
    }

    /// Something is over.
    pub fn inform(&mut self, text: impl Into<String>) {
        self.0.push(Notice::Info(text.into()));
    }
}

impl IntoIterator for Notices {
    type Item = Notice;
    type IntoIter = std::vec::IntoIter<Notice>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// See the module.
pub struct Source {
    /// Which count belongs to which frame. Its labels name the camera.
    pub account: Account,
    /// Frames to which nothing could be attached.
    pub unattached: u64,
    /// Number of the last batch that it was in.
    pub last_batch: u64,
    interval: u32,
}

impl Source {
    /// A source of which nothing has come.
    pub fn new(id: u32, config: &Config) -> Self {
        let mut source = Self { account: Account::default(), unattached: 0, last_batch: 0, interval: 0 };
        source.configure(id, config);
        source
    }

    /// Takes new settings; the last picture is counted anew.
    pub fn configure(&mut self, id: u32, config: &Config) {
        let (camera, interval, settings) = config.of(id);
        self.account.labels.camera = camera;
        self.interval = interval;
        self.account.configure(settings);
    }

    /// The camera's id.
    pub fn camera(&self) -> &str {
        &self.account.labels.camera
    }

    /// Names what counts.
    pub fn label(&mut self, model: &str, engine: &str) {
        let labels = &mut self.account.labels;
        if labels.model != model || labels.engine != engine {
            (labels.model, labels.engine) = (model.to_owned(), engine.to_owned());
        }
    }

    /// A frame comes: its place in the stream, and whether it is due.
    pub fn begin(&mut self, time: FrameTime) -> FrameStamp {
        self.account.begin(time, self.interval)
    }

    /// A frame was counted.
    pub fn note_counted(&mut self, notices: &mut Notices) {
        if self.account.note_counted() == Some(FailureEdge::End) {
            notices.inform(format!("{}: counting again", self.camera()));
        }
    }

    /// A frame that was due cannot be counted, for `reason`.
    pub fn note_failed(&mut self, reason: &str, notices: &mut Notices) {
        if self.account.note_failed() == Some(FailureEdge::Begin) {
            notices.warn(format!("{}: {reason}; its frames keep the last count", self.camera()));
        }
    }
}
