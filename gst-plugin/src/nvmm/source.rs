//! One source of the batch: a camera, what is set for it, and the account of its counts.

use std::collections::BTreeMap;
use std::time::Duration;

use gst::prelude::*;
use vehiclecount_core::account::{Account, DeviceRegions, FailureEdge, FrameStamp, FrameTime};
use vehiclecount_core::count::CountSettings;
use vehiclecount_core::region::RegionsFile;
use vehiclecount_core::region::nvdsanalytics::SourcesFile;

use super::imp::CAT;

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

/// Refuses what this element cannot do.
pub fn check(regions: &RegionsFile) -> Result<(), String> {
    for camera in regions.all() {
        let detail = camera.regions.iter().find(|region| !region.detail.is_off());
        let key = match detail {
            Some(region) => format!("region {:?}: detail", region.name),
            None if !camera.input_scale.is_normal() => "regions: input-scale".to_owned(),
            None => continue,
        };
        return Err(format!(
            "{key}: vehiclecounternvmm counts whole pictures at one scale alone; leave it out, or \
             count this camera with vehiclecounter"
        ));
    }
    Ok(())
}

impl Config {
    /// Ids that several sources have, with the sources' numbers: configured ones, and those whose
    /// default id was given to another.
    pub fn shared_ids(&self) -> BTreeMap<String, Vec<u32>> {
        let mut sources = BTreeMap::<String, Vec<u32>>::new();
        for &number in self.sources.sources.keys() {
            sources.entry(self.of(number).0).or_default().push(number);
        }
        for (id, numbers) in &mut sources {
            let default = id.strip_prefix("camera-").and_then(|number| number.parse::<u32>().ok());
            numbers.extend(default.filter(|number| !self.sources.sources.contains_key(number)));
        }
        sources.retain(|_, numbers| numbers.len() > 1);
        sources
    }

    /// The camera's id, its interval, and what its counts go through.
    fn of(&self, id: u32) -> (String, u32, CountSettings) {
        let entry = self.sources.sources.get(&id).cloned().unwrap_or_default();
        let camera = entry.camera.clone().unwrap_or_else(|| format!("camera-{id}"));
        let regions = entry.regions(self.regions.for_camera(&camera));
        let scale = entry.scale.or(regions.scale_factor).unwrap_or(1.0);
        let settings = CountSettings { regions, scale, smoothing: self.smoothing };
        (camera, entry.interval.unwrap_or(self.interval), settings)
    }
}

/// What the element tells the application, and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something is wrong.
    Warning(String),
    /// It is over.
    Info(String),
    /// What was decided about a frame, for the log.
    Log(String),
}

/// Collects notices under locks, to be posted when none is held.
#[derive(Debug, Default)]
pub struct Notices(Vec<Notice>);

impl Notices {
    /// Something is wrong.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.0.push(Notice::Warning(text.into()));
    }

    /// What was decided about a frame. `text` is made where it is logged.
    pub fn log(&mut self, text: impl FnOnce() -> String) {
        if CAT.above_threshold(gst::DebugLevel::Log) {
            self.0.push(Notice::Log(text()));
        }
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
    /// Its regions in the memory of the engine's device.
    pub device_regions: DeviceRegions,
    /// Frames to which nothing could be attached.
    pub unattached: u64,
    /// Number of the last batch that it was in.
    pub last_batch: u64,
    interval: u32,
}

impl Source {
    /// A source of which nothing has come.
    pub fn new(id: u32, config: &Config) -> Self {
        let mut source = Self {
            account: Account::default(),
            device_regions: DeviceRegions::default(),
            unattached: 0,
            last_batch: 0,
            interval: 0,
        };
        source.configure(id, config);
        source
    }

    /// Takes new settings; the last picture is counted anew.
    pub fn configure(&mut self, id: u32, config: &Config) {
        let (camera, interval, settings) = config.of(id);
        self.account.labels.camera = camera.into();
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
        if *labels.model != *model || *labels.engine != *engine {
            (labels.model, labels.engine) = (model.into(), engine.into());
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
        notices.log(|| format!("{}: uncounted, {reason}", self.camera()));
        if self.account.note_failed() == Some(FailureEdge::Begin) {
            notices.warn(format!("{}: {reason}; its frames keep the last count", self.camera()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_one_id_are_found_also_where_it_is_the_default_of_another() {
        let shared = |text: &str| {
            let sources = SourcesFile::parse(text, "inline").expect("a configuration");
            Config { sources, ..Config::default() }.shared_ids().into_iter().collect::<Vec<_>>()
        };
        let group = |number: u32, id: &str| format!("[vehiclecount-stream-{number}]\n{id}\n");
        let gate = "camera-id=gate";
        let both = group(0, gate) + &group(7, gate) + &group(2, "camera-id=yard");
        assert_eq!(shared(&both), [("gate".to_owned(), vec![0, 7])]);
        // Source 3 is configured without an id, source 5 is not configured.
        let default = group(0, "camera-id=camera-3")
            + &group(3, "interval=1")
            + &group(4, "camera-id=camera-5");
        assert_eq!(
            shared(&default),
            [("camera-3".to_owned(), vec![0, 3]), ("camera-5".to_owned(), vec![4, 5])]
        );
        assert!(shared(&(group(1, "camera-id=camera-1") + &group(2, "interval=1"))).is_empty());
    }

    #[test]
    fn closer_looks_and_scales_are_refused_by_name() {
        let region = r#"{"name": "far", "polygon": [[0, 0], [1, 0], [1, 1]]"#;
        let refused =
            |text: &str| check(&RegionsFile::parse(text).expect("regions")).expect_err("refused");
        let whole = format!(r#"{{"regions": [{region}, "detail": false}}], "scale-factor": 2}}"#);
        assert_eq!(check(&RegionsFile::parse(&whole).expect("regions")), Ok(()));
        let closer = format!(r#"{{"cameras": {{"a": {{"regions": [{region}, "detail": 2}}]}}}}}}"#);
        let said = refused(&closer);
        assert!(
            said.contains("region \"far\": detail") && said.contains("vehiclecounter"),
            "{said}"
        );
        let said = refused(r#"{"cameras": {"a": {"input-scale": "large"}}}"#);
        assert!(said.contains("input-scale"), "{said}");
    }
}
