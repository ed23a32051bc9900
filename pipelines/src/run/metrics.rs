//! Metrics in Prometheus' form, read from the board when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use vehiclecount_core::batch::BATCH_SIZES;

use super::board::{Board, Camera, State};
use super::engine::Load;
use super::sinks::status::{SinkFigures, SinkState};

/// The media type of what [`text()`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
///
/// # Errors
/// Never, as memory is written to.
pub fn text(board: Arc<Board>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("vehiclecount");
    registry.register_collector(Box::new(Metrics(board)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Metrics(Arc<Board>);

/// Labels and values.
type Series = Vec<(Vec<(&'static str, String)>, f64)>;

/// One camera at the moment of the scrape.
struct Seen {
    name: String,
    state: State,
    received: u64,
    skipped: u64,
    counted: u64,
    confirmed: u64,
    stale: u64,
    dropped: u64,
    failed: u64,
    failures: u64,
    fps: f64,
    latency: Histogram,
    /// Seconds.
    age: Option<f64>,
    inference: Option<f64>,
    /// Vehicles, where there is a count of the moment: a camera without one has no series, and not
    /// zero.
    vehicles: Option<f64>,
    regions: Vec<(String, f64)>,
}

impl Seen {
    fn new(camera: &Camera) -> Self {
        let status = camera.status();
        let last = status.last.as_ref();
        let now = last.filter(|(instant, ..)| instant.elapsed() <= camera.hold);
        let regions = now.iter().flat_map(|(_, _, report)| &report.regions);
        Self {
            name: camera.settings.name.clone(),
            state: status.state,
            received: status.received,
            skipped: status.skipped,
            counted: status.counted,
            confirmed: status.confirmed,
            stale: status.stale,
            dropped: status.dropped,
            failed: status.failed,
            failures: status.failures,
            fps: status.fps,
            latency: status.latency.clone(),
            age: last.map(|(instant, _, report)| {
                // One that is confirmed says something about its own picture.
                let age = if report.confirmed { 0.0 } else { report.age as f64 / 1e9 };
                instant.elapsed().as_secs_f64() + age
            }),
            inference: last.map(|(_, _, report)| report.inference_time as f64 / 1e9),
            vehicles: now.and_then(|(_, _, report)| Some(report.count?.raw)),
            regions: regions
                .filter_map(|region| Some((region.name.clone(), region.count?.raw)))
                .collect(),
        }
    }
}

/// A series for each camera, where it has a value.
fn by_camera(cameras: &[Seen], value: impl Fn(&Seen) -> Option<f64>) -> Series {
    let one = |camera: &Seen| Some((vec![("camera", camera.name.clone())], value(camera)?));
    cameras.iter().filter_map(one).collect()
}

fn states(cameras: &[Seen]) -> Series {
    let of = |camera: &Seen| {
        let series = |state: State| {
            let labels = vec![("camera", camera.name.clone()), ("state", state.name().to_owned())];
            (labels, f64::from(u8::from(state == camera.state)))
        };
        State::ALL.map(series)
    };
    cameras.iter().flat_map(of).collect()
}

/// A series for each sink.
fn by_sink(sinks: &[SinkFigures], value: impl Fn(&SinkFigures) -> f64) -> Series {
    sinks.iter().map(|sink| (vec![("sink", sink.name.clone())], value(sink))).collect()
}

fn region_vehicles(cameras: &[Seen]) -> Series {
    let of = |camera: &Seen| {
        let name = camera.name.clone();
        let one = move |(region, vehicles): &(String, f64)| {
            (vec![("camera", name.clone()), ("region", region.clone())], *vehicles)
        };
        camera.regions.iter().map(one).collect::<Vec<_>>()
    };
    cameras.iter().flat_map(of).collect()
}

/// A series without labels.
fn one(value: f64) -> Series {
    vec![(Vec::new(), value)]
}

impl Metrics {
    fn engine(&self) -> Series {
        let labels = |engine: super::engine::Engine| {
            vec![
                ("engine", engine.engine),
                ("version", engine.version),
                ("device", engine.device),
                ("model", engine.model),
                ("precision", engine.precision),
            ]
        };
        self.0.engine().map(|engine| (labels(engine), 1.0)).into_iter().collect()
    }
}

/// How large batches are, as a histogram.
struct BatchSizes(Load);

impl EncodeMetric for BatchSizes {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let Self(Load { batches, frames, sizes, .. }) = self;
        let bounds = BATCH_SIZES.iter().map(|&most| most as f64).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(*sizes).collect();
        encoder.encode_histogram::<NoLabelSet>(*frames as f64, *batches, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let cameras: Vec<_> = self.0.cameras().iter().map(|camera| Seen::new(camera)).collect();
        let of = |value: fn(&Seen) -> f64| by_camera(&cameras, |camera| Some(value(camera)));
        let sinks = self.0.sinks();
        let load = self.0.load();
        let gauges: [(&str, &str, Series); 11] = [
            ("camera_state", "1 for the state that the camera is in", states(&cameras)),
            (
                "vehicles",
                "Vehicles in the frame; no series where there is no count of the moment",
                by_camera(&cameras, |camera| camera.vehicles),
            ),
            ("region_vehicles", "Vehicles in a region", region_vehicles(&cameras)),
            ("count_age_seconds", "Age of the last count", by_camera(&cameras, |seen| seen.age)),
            (
                "inference_seconds",
                "How long the engine worked on the last batch of the camera",
                by_camera(&cameras, |camera| camera.inference),
            ),
            ("frames_per_second", "Pictures that came a second, of late", of(|seen| seen.fps)),
            ("engine_info", "The engine that runs", self.engine()),
            ("engine_lanes", "Batches that the engine works on at once", one(load.lanes.into())),
            ("engine_waiting_frames", "Pictures before the engine", one(load.waiting.into())),
            (
                "sink_up",
                "1 where the sink takes records",
                by_sink(&sinks, |sink| f64::from(u8::from(sink.state == SinkState::Live))),
            ),
            (
                "sink_records_waiting",
                "Records that wait for the sink",
                by_sink(&sinks, |sink| sink.waiting as f64),
            ),
        ];
        for (name, help, series) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in series {
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let counters: [(&str, &str, Series); 14] = [
            (
                "frames_received",
                "Pictures that came from the camera",
                of(|seen| seen.received as f64),
            ),
            (
                "frames_skipped",
                "Pictures that were not decoded, because no count needs them",
                of(|seen| seen.skipped as f64),
            ),
            ("frames_counted", "Pictures that were counted", of(|seen| seen.counted as f64)),
            (
                "frames_confirmed",
                "Pictures among them that did not differ from a counted one and kept its count",
                of(|seen| seen.confirmed as f64),
            ),
            ("frames_stale", "Pictures with a stale count", of(|seen| seen.stale as f64)),
            (
                "frames_dropped",
                "Pictures that the engine had no time for",
                of(|seen| seen.dropped as f64),
            ),
            ("frames_failed", "Pictures that the engine failed on", of(|seen| seen.failed as f64)),
            (
                "connection_failures",
                "Connections that failed or broke",
                of(|seen| seen.failures as f64),
            ),
            (
                "reports_lost",
                "Counts that found no room on their way to the recorder",
                one(self.0.lost_reports() as f64),
            ),
            ("engine_batches", "Batches that the engine counted", one(load.batches as f64)),
            ("engine_frames", "Pictures in these batches", one(load.frames as f64)),
            (
                "sink_records_delivered",
                "Records that the sink has taken",
                by_sink(&sinks, |sink| sink.delivered as f64),
            ),
            (
                "sink_records_dropped",
                "Records that the sink never got: too many or too old",
                by_sink(&sinks, |sink| sink.dropped as f64),
            ),
            ("engine_busy_seconds", "Time that all lanes worked on batches", one(load.busy)),
        ];
        for (name, help, series) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, value) in series {
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Pictures in a batch that the engine counted";
        let sizes =
            encoder.encode_descriptor("engine_batch_size", help, None, MetricType::Histogram)?;
        BatchSizes(load).encode(sizes)?;
        let help = "From a picture's arrival at the counter until it leaves with its own count";
        let mut family =
            encoder.encode_descriptor("latency_seconds", help, None, MetricType::Histogram)?;
        for Seen { name, latency, .. } in &cameras {
            latency.encode(family.encode_family(&[("camera", name)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::LATENCY;
    use super::*;

    #[test]
    fn each_time_lies_in_one_bucket() {
        let latency = Histogram::new(LATENCY);
        for seconds in [0.0, 0.01, 0.011, 2.5, 2.6, 100.0] {
            latency.observe(seconds);
        }
        let mut registry = Registry::default();
        registry.register("latency", "Times", latency);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name}: {text}")).trim().parse().unwrap()
        };
        // Those of the smaller buckets are counted, too.
        let bounds = ["0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf"];
        let counts = bounds.map(|bound| value(&format!("latency_bucket{{le=\"{bound}\"}}")));
        assert_eq!(counts, [2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 4.0, 6.0]);
        assert_eq!(value("latency_count"), 6.0);
        assert!((value("latency_sum") - 105.121).abs() < 1e-9);
    }

    #[derive(Debug)]
    struct Sizes(Load);

    impl Collector for Sizes {
        fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
            let encoder =
                encoder.encode_descriptor("size", "Sizes", None, MetricType::Histogram)?;
            BatchSizes(self.0).encode(encoder)
        }
    }

    #[test]
    fn each_batch_lies_in_the_bucket_of_its_size() {
        // Of 1, 2, 2, 7 and 100 pictures.
        let sizes = [1, 2, 0, 1, 0, 0, 0, 1];
        let load = Load { batches: 5, frames: 112, sizes, ..Load::default() };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Sizes(load)));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for line in [
            "size_bucket{le=\"1.0\"} 1",
            "size_bucket{le=\"2.0\"} 3",
            "size_bucket{le=\"4.0\"} 3",
            "size_bucket{le=\"8.0\"} 4",
            "size_bucket{le=\"64.0\"} 4",
            "size_bucket{le=\"+Inf\"} 5",
            "size_sum 112.0",
            "size_count 5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
