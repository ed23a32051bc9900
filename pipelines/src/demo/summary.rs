//! What the demo says of its cameras: the table while it runs, the summary at its end.

use std::collections::HashMap;
use std::time::Duration;

use gst::prelude::*;

use super::count::Camera;
use crate::source::Health;
use crate::table::{NAME, Row, fit, say};

/// What the counter's statistics say of each camera, by its id.
fn figures(statistics: &gst::StructureRef) -> HashMap<String, gst::Structure> {
    let cameras = statistics.get::<gst::ArrayRef>("cameras").ok();
    let entries = cameras
        .iter()
        .flat_map(|cameras| cameras.as_slice())
        .filter_map(|entry| entry.get::<gst::Structure>().ok());
    entries.filter_map(|entry| Some((entry.get::<String>("camera").ok()?, entry))).collect()
}

fn milliseconds(figures: Option<&gst::Structure>, name: &str) -> Option<f64> {
    figures?.get::<u64>(name).ok().map(|nanoseconds| nanoseconds as f64 / 1e6)
}

/// The table's rows; `since` is how long ago it was last drawn.
pub fn rows(cameras: &[Camera], counter: &gst::Element, since: Duration) -> Vec<Row> {
    let statistics = figures(&counter.property::<gst::Structure>("statistics"));
    let row = |camera: &Camera| {
        let mut seen = camera.seen.lock();
        let recent = std::mem::take(&mut seen.recent);
        let count = seen.report.as_ref().and_then(|report| report.count);
        let name = &camera.source.name;
        Row {
            camera: name.clone(),
            count: count.map(|count| count.smoothed),
            level: count.map(|count| count.level),
            fps: recent as f64 / since.as_secs_f64().max(1e-3),
            latency: milliseconds(statistics.get(name), "latency-p50"),
            stale: seen.stale as f64 / seen.frames.max(1) as f64,
            trouble: match &camera.source.health {
                Health::Connecting => "connecting".to_owned(),
                Health::Playing => String::new(),
                Health::Failed(_) => format!("{}; trying again", camera.trouble()),
            },
        }
    };
    cameras.iter().map(row).collect()
}

/// A line of the summary, its camera's name in `wide` columns: no more than 110 in all, the width
/// of a terminal.
fn summary_line(
    wide: usize,
    camera: &str,
    [received, counted, stale]: [&str; 3],
    latency: &str,
    error: &str,
) -> String {
    let camera = fit(camera, wide);
    format!("  {camera:wide$}  {received:>7}  {counted:>7}  {stale:>7}  {latency:>20}  {error}")
}

/// Prints what came of each camera.
pub fn summarise(cameras: &[Camera], statistics: &gst::StructureRef, elapsed: Duration) {
    let statistics = figures(statistics);
    say(format_args!("\nafter {:.0} s", elapsed.as_secs_f64()));
    let wide = cameras
        .iter()
        .map(|camera| camera.source.name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(6, NAME - 2);
    say(summary_line(
        wide,
        "camera",
        ["frames", "counted", "stale"],
        "latency p50/p95/p99",
        "error against the truth",
    ));
    let mut total = (0u64, 0.0, 0.0, 0.0);
    let (mut frames_that_came, mut skipped) = (0, 0);
    for camera in cameras {
        let seen = camera.seen.lock();
        let name = &camera.source.name;
        let figures = statistics.get(name);
        let figure =
            |name: &str| figures.and_then(|figures| figures.get::<u64>(name).ok()).unwrap_or(0);
        let latency = |name: &str| {
            milliseconds(figures, name).map_or("–".to_owned(), |ms| format!("{ms:.0}"))
        };
        let latencies = format!(
            "{}/{}/{} ms",
            latency("latency-p50"),
            latency("latency-p95"),
            latency("latency-p99")
        );
        let (frames, absolute, sum, truth) = seen.errors;
        let error = if frames > 0 {
            let n = frames as f64;
            total = (total.0 + frames, total.1 + absolute, total.2 + sum, total.3 + truth);
            format!("MAE {:.2}, bias {:+.2} of {:.1}", absolute / n, sum / n, truth / n)
        } else {
            "not known".to_owned()
        };
        let [received, inferred, stale] = ["received", "inferred", "stale"].map(figure);
        let came = received + seen.skipped + seen.thinned;
        frames_that_came += came;
        skipped += seen.skipped;
        let numbers = [came, inferred, stale].map(|number| number.to_string());
        say(summary_line(wide, name, numbers.each_ref().map(String::as_str), &latencies, &error));
    }
    if skipped > 0 {
        say(format_args!("  all: {skipped} of {frames_that_came} frames were not decoded"));
    }
    if total.0 > 0 {
        let n = total.0 as f64;
        say(format_args!(
            "  all: MAE {:.2}, bias {:+.2} of {:.1} vehicles on average, {} frames",
            total.1 / n,
            total.2 / n,
            total.3 / n,
            total.0
        ));
    }
}

/// Cameras that are named where none was counted.
const NAMED: usize = 4;

/// Why nothing was counted, camera by camera.
pub fn nothing_counted(cameras: &[Camera]) -> String {
    let reasons = cameras
        .iter()
        .take(NAMED)
        .map(|camera| format!("{}: {}", camera.source.name, camera.trouble()));
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    match cameras.len().saturating_sub(NAMED) {
        0 => format!("nothing was counted: {reasons}"),
        more => format!("nothing was counted: {reasons}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_fits_110_columns_whatever_the_cameras_are_called() {
        let name = "a camera with a name that is longer than its column".repeat(2);
        let line = summary_line(
            NAME - 2,
            &name,
            ["1234567", "1234567", "1234567"],
            "1234/12345/12345 ms",
            "MAE 12.34, bias -12.34 of 123.4",
        );
        assert!(line.chars().count() <= 110, "{} columns: {line}", line.chars().count());
        assert!(line.contains('…'), "{line}");
    }
}
