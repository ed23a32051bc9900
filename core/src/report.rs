//! The report of a frame: metadata on the frame, and JSON for programs outside the pipeline.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::density::DensityMap;
use crate::region::{Level, Polygon};

/// Everything that is known of one camera's frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameReport {
    /// The camera's id.
    pub camera: Arc<str>,
    /// Number of the frame in its camera's stream, from 0. Frames that never reached the counter
    /// have no number.
    pub sequence: u64,
    /// The counter's `unique-id`, to tell several counters in one pipeline apart.
    pub unique_id: u32,
    /// The frame's presentation time in the stream, nanoseconds.
    pub pts: Option<u64>,
    /// When the camera took the picture, nanoseconds since 1970 (UTC), where the sender's clock is
    /// known.
    pub capture_time: Option<u64>,
    /// When the frame reached the counter, nanoseconds since 1970 (UTC), by this machine's clock.
    pub received_time: u64,
    /// What was counted, or `None` before the first count.
    pub count: Option<FrameCount>,
    /// The count is not the one that this frame should carry, or there is none:
    /// [`account`](crate::account) has the rule.
    pub stale: bool,
    /// The frame was compared with the counted picture and does not differ from it: its own count
    /// would be the same. Never set where `stale` is.
    pub confirmed: bool,
    /// How much older than this frame the counted picture is, nanoseconds: 0 for a frame's own
    /// count and for no other; 0 also where there is no count.
    pub age: u64,
    /// Counts inside polygons, in the configuration's order.
    pub regions: Vec<RegionReport>,
    /// The density map that the count is the sum of, where it was asked for.
    pub density: Option<DensityMap>,
    /// The model's name.
    pub model: Arc<str>,
    /// The engine's name.
    pub engine: Arc<str>,
    /// How long the engine worked on the batch, nanoseconds.
    pub inference_time: u64,
}

/// A count of the whole frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameCount {
    /// Vehicles, times the camera's scale factor.
    pub raw: f64,
    /// The same, smoothed over time.
    pub smoothed: f64,
    /// How full the frame is.
    pub level: Level,
}

/// A count inside a polygon.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionReport {
    /// The region's name.
    pub name: String,
    /// Where it lies in the frame.
    pub polygon: Polygon,
    /// What was counted inside it, or `None` before the first count.
    pub count: Option<FrameCount>,
}

/// One line of JSON for one frame. `docs/report.schema.json` describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JsonReport {
    /// Version of this form: [`JSON_SCHEMA`].
    pub schema: u32,
    /// See [`FrameReport::camera`].
    pub camera: String,
    /// See [`FrameReport::sequence`].
    pub sequence: u64,
    /// See [`FrameReport::unique_id`].
    pub unique_id: u32,
    /// Seconds in the stream.
    pub pts: Option<f64>,
    /// Seconds since 1970 (UTC).
    pub capture_time: Option<f64>,
    /// [`FrameReport::received_time`] as RFC 3339 in UTC with milliseconds, such as
    /// `2026-01-31T09:05:00.040Z`.
    pub received: String,
    /// Vehicles; null before the first count.
    pub count: Option<f64>,
    /// Vehicles, smoothed.
    pub smoothed: Option<f64>,
    /// How full the frame is.
    pub level: Option<Level>,
    /// See [`FrameReport::stale`].
    pub stale: bool,
    /// See [`FrameReport::confirmed`].
    pub confirmed: bool,
    /// Seconds.
    pub age: f64,
    /// Counts inside polygons.
    pub regions: Vec<JsonRegion>,
    /// The density map, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<JsonDensity>,
    /// The model's name.
    pub model: String,
    /// The engine's name.
    pub engine: String,
    /// Milliseconds.
    pub inference_ms: f64,
}

/// A region in a [`JsonReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JsonRegion {
    /// The region's name.
    pub name: String,
    /// Vehicles; null before the first count.
    pub count: Option<f64>,
    /// Vehicles, smoothed.
    pub smoothed: Option<f64>,
    /// How full it is.
    pub level: Option<Level>,
}

/// A density map in a [`JsonReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JsonDensity {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// x, y, width and height of the grid in the frame, which spans 0..1.
    pub rect: [f64; 4],
    /// Vehicles per cell, row by row.
    pub cells: Vec<f32>,
}

/// Version of [`JsonReport`]. 2 added [`JsonReport::received`], 3 [`JsonReport::confirmed`].
pub const JSON_SCHEMA: u32 = 3;

const NANOSECONDS: f64 = 1e9;

/// Three decimals: what a count is worth, and short lines.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Nanoseconds from 1970 (UTC) to `time`; 0 for times before.
pub fn unix_nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `nanoseconds` since 1970 as RFC 3339 in UTC with milliseconds, the rest cut off.
fn rfc3339(nanoseconds: u64) -> String {
    // A u64 of nanoseconds ends in the year 2554; a timestamp goes on to 9999.
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

impl FrameReport {
    /// The report as JSON; the density map goes in when `with_density` is set and the report has
    /// one.
    pub fn to_json(&self, with_density: bool) -> JsonReport {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / NANOSECONDS;
        JsonReport {
            schema: JSON_SCHEMA,
            camera: self.camera.to_string(),
            sequence: self.sequence,
            unique_id: self.unique_id,
            pts: self.pts.map(seconds),
            capture_time: self.capture_time.map(seconds),
            received: rfc3339(self.received_time),
            count: self.count.map(|count| rounded(count.raw)),
            smoothed: self.count.map(|count| rounded(count.smoothed)),
            level: self.count.map(|count| count.level),
            stale: self.stale,
            confirmed: self.confirmed,
            age: seconds(self.age),
            regions: self.regions.iter().map(RegionReport::to_json).collect(),
            density: self.density.as_ref().filter(|_| with_density).map(|map| JsonDensity {
                columns: map.grid.columns,
                rows: map.grid.rows,
                rect: [map.grid.rect.x, map.grid.rect.y, map.grid.rect.width, map.grid.rect.height],
                cells: map.cells.to_vec(),
            }),
            model: self.model.to_string(),
            engine: self.engine.to_string(),
            inference_ms: rounded(self.inference_time as f64 / 1e6),
        }
    }
}

impl RegionReport {
    fn to_json(&self) -> JsonRegion {
        JsonRegion {
            name: self.name.clone(),
            count: self.count.map(|count| rounded(count.raw)),
            smoothed: self.count.map(|count| rounded(count.smoothed)),
            level: self.count.map(|count| count.level),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_of_receipt_is_utc_with_milliseconds() {
        // `date --utc --date=@1700000000 --iso-8601=seconds`
        assert_eq!(rfc3339(1_700_000_000_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(rfc3339(1_709_164_799_999_999_999), "2024-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(1_709_164_800_000_000_000), "2024-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709Z");
    }

    #[test]
    fn clock_before_1970_is_1970() {
        assert_eq!(unix_nanoseconds(UNIX_EPOCH + Duration::from_millis(1500)), 1_500_000_000);
        assert_eq!(unix_nanoseconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
