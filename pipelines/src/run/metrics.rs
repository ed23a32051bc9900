//! Metrics in Prometheus' form, read from the board when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::board::{Board, Camera, State, Status};
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

impl Metrics {
    /// A series for each camera, where it has a value.
    fn cameras(&self, value: impl Fn(&Camera, &Status) -> Option<f64>) -> Series {
        let cameras = self.0.cameras.iter();
        let one = |camera: &Camera| {
            let status = camera.status().clone();
            Some((vec![("camera", camera.settings.name.clone())], value(camera, &status)?))
        };
        cameras.filter_map(one).collect()
    }

    fn states(&self) -> Series {
        let of = |camera: &Camera| {
            let now = camera.status().state;
            let name = camera.settings.name.clone();
            let series = move |state: State| {
                (
                    vec![("camera", name.clone()), ("state", state.name().to_owned())],
                    f64::from(u8::from(state == now)),
                )
            };
            State::ALL.map(series)
        };
        self.0.cameras.iter().flat_map(of).collect()
    }

    /// Vehicles, where there is a count of the moment: a camera without one has no series, and not
    /// zero.
    fn vehicles(&self) -> Series {
        let of = |camera: &Camera| {
            let (_, report) = camera.current()?;
            Some((vec![("camera", camera.settings.name.clone())], report.count?.raw))
        };
        self.0.cameras.iter().filter_map(of).collect()
    }

    fn region_vehicles(&self) -> Series {
        let of = |camera: &Camera| {
            let name = camera.settings.name.clone();
            let regions = camera.current().map(|(_, report)| report.regions).unwrap_or_default();
            let region = regions.into_iter().filter_map(move |region| {
                Some((vec![("camera", name.clone()), ("region", region.name)], region.count?.raw))
            });
            region.collect::<Series>()
        };
        self.0.cameras.iter().flat_map(of).collect()
    }

    /// A series for each sink.
    fn sinks(&self, value: impl Fn(&SinkFigures) -> f64) -> Series {
        let figures = self.0.sinks.iter().map(|sink| sink.figures());
        figures.map(|sink| (vec![("sink", sink.name.clone())], value(&sink))).collect()
    }

    fn engine(&self) -> Series {
        let labels = |engine: super::board::Engine| {
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

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let gauges: [(&str, &str, Series); 8] = [
            ("camera_state", "1 for the state that the camera is in", self.states()),
            (
                "vehicles",
                "Vehicles in the frame; no series where there is no count of the moment",
                self.vehicles(),
            ),
            ("region_vehicles", "Vehicles in a region", self.region_vehicles()),
            (
                "count_age_seconds",
                "Age of the last count",
                self.cameras(|_, status| {
                    let (instant, _, report) = status.last.as_ref()?;
                    Some(instant.elapsed().as_secs_f64() + report.age as f64 / 1e9)
                }),
            ),
            (
                "inference_seconds",
                "How long the engine worked on the last batch of the camera",
                self.cameras(|_, status| Some(status.last.as_ref()?.2.inference_time as f64 / 1e9)),
            ),
            ("engine_info", "The engine that runs", self.engine()),
            (
                "sink_up",
                "1 where the sink takes records",
                self.sinks(|sink| f64::from(u8::from(sink.state == SinkState::Live))),
            ),
            (
                "sink_records_waiting",
                "Records that wait for the sink",
                self.sinks(|sink| sink.waiting as f64),
            ),
        ];
        for (name, help, series) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in series {
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let lost = vec![(Vec::new(), self.0.lost_reports() as f64)];
        let counters: [(&str, &str, Series); 7] = [
            (
                "frames_received",
                "Pictures that came from the camera",
                self.cameras(|_, status| Some(status.received as f64)),
            ),
            (
                "frames_counted",
                "Pictures that were counted",
                self.cameras(|_, status| Some(status.counted as f64)),
            ),
            (
                "frames_stale",
                "Pictures with a stale count",
                self.cameras(|_, status| Some(status.stale as f64)),
            ),
            (
                "connection_failures",
                "Connections that failed or broke",
                self.cameras(|_, status| Some(status.failures as f64)),
            ),
            (
                "sink_records_delivered",
                "Records that the sink has taken",
                self.sinks(|sink| sink.delivered as f64),
            ),
            (
                "sink_records_dropped",
                "Records that the sink never got: too many or too old",
                self.sinks(|sink| sink.dropped as f64),
            ),
            ("reports_lost", "Counts that found no room on their way to the recorder", lost),
        ];
        for (name, help, series) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, value) in series {
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
