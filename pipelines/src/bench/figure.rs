//! What a bench has measured: figures, as JSON and as a table.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::goals::Goal;
use super::rate::median;

/// The version of the JSON.
pub const SCHEMA: u32 = 1;

/// A part of the bench that can be chosen alone.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// The bare engine, and the decoder alone
    Limit,
    /// The element with each number of cameras, against the bare engine
    Element,
    /// From a decoded picture to the model's input
    Preprocess,
    /// Video files, counted by a process of their own
    Files,
    /// RTSP cameras, all of whose pictures the service counts
    Rtsp,
    /// RTSP cameras that the service counts once a second
    Rate,
    /// Memory of a camera beside its decoder
    Memory,
    /// Allocations of Rust code for a frame
    Allocations,
    /// vehiclecountoverlay
    Overlay,
    /// vehiclecountpublish
    Publish,
}

impl Section {
    /// What the table calls it.
    fn title(self) -> &'static str {
        match self {
            Self::Limit => "limit: bare engine; decoder alone",
            Self::Element => "element",
            Self::Preprocess => "preprocessing, one thread",
            Self::Files => "end to end, H.264 files",
            Self::Rtsp => "end to end, RTSP cameras",
            Self::Rate => "RTSP cameras counted at a rate",
            Self::Memory => "memory of a further camera beside its decoder",
            Self::Allocations => "allocations of Rust code for a frame",
            Self::Overlay => "overlay",
            Self::Publish => "publish",
        }
    }
}

/// What was measured: what is known of it that others compute with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Subject {
    /// Number of cameras at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cameras: Option<u32>,
    /// `h264` or `h265`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Width and height of the pictures in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<(u32, u32)>,
    /// Pixel format of the pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The model's input, `WIDTHxHEIGHT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Counts of a camera in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Frames of a camera in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Mean count of the frames, to compare by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
}

/// Median and extremes of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest one.
    pub lowest: f64,
    /// The highest one.
    pub highest: f64,
}

impl Spread {
    /// Of one value.
    pub fn single(value: f64) -> Self {
        Self { median: value, lowest: value, highest: value }
    }

    /// Of `values`; `None` where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        let median = (!sorted.is_empty()).then(|| median(&mut sorted))?;
        Some(Self { median, lowest: sorted[0], highest: sorted[sorted.len() - 1] })
    }
}

/// How a figure relates to another one of its section, by the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ratio {
    /// The name of the other figure.
    pub to: String,
    /// This one's value divided by the other one's, of the same round.
    #[serde(flatten)]
    pub spread: Spread,
    /// The other one's processor time for a frame divided by this one's: it hardly depends on what
    /// else runs on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<f64>,
}

/// One quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figure {
    /// The part of the bench.
    pub section: Section,
    /// What it is, unlike all others of its section.
    pub name: String,
    /// The same, for programs.
    pub subject: Subject,
    /// `frames/s`, `ms`, `cores`, `cameras`, `MB` or `allocations`.
    pub unit: String,
    /// In that unit.
    #[serde(flatten)]
    pub spread: Spread,
    /// Milliseconds of processor time for a frame, the median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor_ms: Option<f64>,
    /// Against what it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// The engine of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EngineFigures {
    /// Its name.
    pub kind: String,
    /// The version of its library.
    pub version: String,
    /// What it runs on.
    pub device: String,
    /// The model's name and version.
    pub model: String,
    /// `fp32`, `fp16` or `int8`.
    pub precision: String,
    /// How many batches it works on at a time.
    pub lanes: usize,
    /// The largest batch.
    pub batch: usize,
}

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the command.
    pub version: String,
    /// Year, month and day.
    pub date: String,
    /// The processor.
    pub machine: String,
    /// Processors that the process may use.
    pub processors: usize,
    /// Processes that were ready to run before and after, as the system's load says; 0 where it
    /// does not.
    pub load: (f64, f64),
    /// Whether it was a run that only shows that all works.
    pub quick: bool,
    /// Rounds of each figure.
    pub rounds: u32,
    /// Seconds of a round.
    pub seconds: f64,
    /// What counts.
    pub engine: EngineFigures,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// What ought to be reached.
    pub goals: Vec<Goal>,
}

impl Report {
    /// The figure of `section` whose subject is as `matches` says.
    pub fn find(&self, section: Section, matches: impl Fn(&Figure) -> bool) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.section == section && matches(figure))
    }
}

/// Three digits, or whole numbers.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The figures of one section as a table.
pub fn table(section: Section, figures: &[Figure]) -> String {
    let wide = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0).max(8);
    let mut text = format!(
        "\n{}\n  {:wide$}  {:>20}  {:>15}  {:>6}  {:>13}  {:>6}\n",
        section.title(),
        "",
        "median",
        "lowest, highest",
        "CPU ms",
        "ratio",
        "of CPU"
    );
    for figure in figures {
        let Spread { median, lowest, highest } = figure.spread;
        let ratio = figure.ratio.as_ref();
        let of = |ratio: Option<f64>| ratio.map_or(String::new(), |value| format!("{value:.3}"));
        let line = format!(
            "  {:wide$}  {:>20}  {:>15}  {:>6}  {:>13}  {:>6}",
            figure.name,
            format!("{} {}", short(median), figure.unit),
            format!("{}, {}", short(lowest), short(highest)),
            figure.processor_ms.map_or(String::new(), short),
            of(ratio.map(|ratio| ratio.spread.median)),
            of(ratio.and_then(|ratio| ratio.processor)),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let mut bases: Vec<_> =
        figures.iter().filter_map(|figure| Some(&figure.ratio.as_ref()?.to)).collect();
    bases.dedup();
    if let [base] = bases[..] {
        let _ = writeln!(text, "  ratio: to \"{base}\", median of the rounds");
    }
    text
}

/// The system's load of the last minute; 0 where it does not say.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, value: f64, ratio: Option<f64>) -> Figure {
        Figure {
            section: Section::Element,
            name: name.to_owned(),
            subject: Subject { cameras: Some(4), ..Default::default() },
            unit: "frames/s".to_owned(),
            spread: Spread::single(value),
            processor_ms: None,
            ratio: ratio.map(|value| Ratio {
                to: "bare engine".to_owned(),
                spread: Spread::single(value),
                processor: Some(0.97),
            }),
        }
    }

    #[test]
    fn spread_is_the_middle_and_the_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, lowest: 1.0, highest: 3.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn figures_survive_their_json() {
        let before = figure("4 cameras", 201.5, Some(0.953));
        let text = serde_json::to_string(&before).unwrap_or_default();
        assert!(text.contains(r#""median":201.5,"#) && text.contains(r#""to":"bare engine""#));
        assert_eq!(serde_json::from_str::<Figure>(&text).ok(), Some(before));
    }

    #[test]
    fn table_says_to_what_the_ratios_are() {
        let figures = [figure("bare engine", 211.0, None), figure("4 cameras", 201.5, Some(0.953))];
        let text = table(Section::Element, &figures);
        assert!(text.contains("202 frames/s") && text.contains("0.953   0.970"), "{text}");
        assert!(text.ends_with("ratio: to \"bare engine\", median of the rounds\n"), "{text}");
    }
}
