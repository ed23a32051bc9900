//! `vehicle-count plan`: how many cameras a machine holds.

mod gpu;
mod model;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Parser;
use vehiclecount_core::preprocess::InputSize;

pub use gpu::{Bound, Gpu};
pub use model::{Costs, ModelError, Stream};

use crate::bench::{self, Codec, Extras, Report, Section};
use crate::table::say;

/// Options of `vehicle-count plan`.
#[derive(clap::Args)]
pub struct Options {
    /// What `vehicle-count bench --json FILE` has written on the machine in question; without it
    /// this machine is measured now, which takes some minutes
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
    /// Sizes of the cameras' pictures: 720p, 1080p, 1440p, 2160p or WIDTHxHEIGHT
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "720p,1080p,2160p")]
    resolution: Vec<Resolution>,
    /// How the cameras compress
    #[arg(long, value_delimiter = ',', default_value = "h264,h265")]
    codec: Vec<Codec>,
    /// Pictures that a camera sends in a second
    #[arg(long, default_value_t = 25.0, value_parser = positive)]
    fps: f64,
    /// Counts of a camera in a second
    #[arg(long, value_delimiter = ',', default_value = "0.2,1,5,25", value_parser = positive)]
    rate: Vec<f64>,
    /// Key pictures that a camera sends in a second
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    keys: f64,
    /// Share of the processors that is at work, 0 to 1: the rest is for what comes unforeseen
    #[arg(long, default_value_t = 0.8, value_parser = share)]
    load: f64,
    /// Say, too, what so many cameras take
    #[arg(long, value_name = "NUMBER")]
    cameras: Option<u32>,
    /// A GPU for which cameras are computed, from figures that its maker has published
    #[arg(long)]
    gpu: Option<Gpu>,
}

fn positive(text: &str) -> Result<f64, String> {
    up_to(1000.0, text)
}

fn share(text: &str) -> Result<f64, String> {
    up_to(1.0, text)
}

fn up_to(most: f64, text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= most => Ok(value),
        _ => Err(format!("a number above 0, {most} at most")),
    }
}

/// Width and height of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resolution(u32, u32);

impl FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (width, height) = match text {
            "720p" => (1280, 720),
            "1080p" => (1920, 1080),
            "1440p" => (2560, 1440),
            "2160p" => (3840, 2160),
            _ => text
                .parse::<InputSize>()
                .map(|size| (size.width, size.height))
                .map_err(|_| "720p, 1080p, 1440p, 2160p or WIDTHxHEIGHT".to_owned())?,
        };
        match (16..=8192).contains(&width) && (16..=8192).contains(&height) {
            true => Ok(Self(width as u32, height as u32)),
            false => Err("both sides must lie between 16 and 8192 pixels".to_owned()),
        }
    }
}

/// Computes and prints.
///
/// # Errors
/// A bench that cannot be read, or from which nothing can be computed.
pub fn run(options: &Options) -> Result<()> {
    let report = match &options.bench {
        Some(path) => read(path)?,
        None => measure()?,
    };
    let costs = Costs::of(&report).with_context(|| match &options.bench {
        Some(path) => path.display().to_string(),
        None => "the bench".to_owned(),
    })?;
    say(text(options, &report, &costs)?.trim_end());
    Ok(())
}

fn read(path: &Path) -> Result<Report> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{}: it is no file of `vehicle-count bench --json`", path.display())
    })
}

/// The sections that the model needs, in a few short rounds.
fn measure() -> Result<Report> {
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: bench::Options,
    }
    say("measuring this machine; --bench FILE takes an earlier measurement");
    let arguments = [
        "plan",
        "--only",
        "limit,element,preprocess,rate",
        "--cameras",
        "4",
        "--rounds",
        "2",
        "--seconds",
        "1",
        "--input-size",
        "auto",
    ];
    let Arguments { options } = Arguments::try_parse_from(arguments)?;
    let report = bench::measure(&options, &Extras::default())?;
    say("");
    Ok(report)
}

/// All that is said.
fn text(options: &Options, report: &Report, costs: &Costs) -> Result<String> {
    let mut text = String::new();
    let engine = &report.engine;
    writeln!(
        text,
        "{} processors of {}, {} {}, {} {}, measured on {} at a load of {:.1}",
        report.processors,
        report.machine,
        engine.kind,
        engine.version,
        engine.model,
        engine.precision,
        report.date,
        report.load.0,
    )?;
    if report.load.0 > 0.5 * report.processors as f64 {
        text.push_str("other programs were at work meanwhile: measure on a quiet machine\n");
    }
    writeln!(
        text,
        "\ncameras of {} pictures/s and {} key pictures/s, {:.0} % of the processors at work",
        options.fps,
        options.keys,
        100.0 * options.load
    )?;
    table(&mut text, options, |stream| {
        Ok(costs.cameras(stream, options.load).map(|number| number.to_string()))
    })?;
    if let Some(number) = options.cameras {
        writeln!(
            text,
            "\nprocessors that {number} such cameras keep busy, of {}",
            costs.processors
        )?;
        table(&mut text, options, |stream| {
            let cores = costs.camera(stream).map(|each| each * f64::from(number));
            let fits = |cores: f64| cores <= costs.processors * options.load;
            Ok(cores.map(|cores| format!("{cores:.2}{}", if fits(cores) { "" } else { "!" })))
        })?;
        text.push_str("  !: more than this machine has for them\n");
    }
    if let Some(gpu) = options.gpu {
        let pixels = input_pixels(report)?;
        writeln!(
            text,
            "\ncomputed, not measured: cameras on one {}, from published figures of its decoders \
             and of ResNet-50",
            gpu.title()
        )?;
        table(&mut text, options, |stream| {
            let (mut number, mut bound) = gpu.cameras(stream, pixels, options.load);
            if let Some(each) = costs.receiving(stream) {
                let received = (costs.processors * options.load / each.max(1e-9)) as u32;
                if received < number {
                    (number, bound) = (received, Bound::Processors);
                }
            }
            let mark = match bound {
                Bound::Decoder => "d",
                Bound::Engine => "n",
                Bound::Processors => "p",
            };
            Ok(Some(format!("{number}{mark}")))
        })?;
        text.push_str(
            "  what bounds them: d the decoders, n the network, p this machine's processors, which \
             receive\n",
        );
    }
    text.push_str(
        "\nwhere counts are not more than key pictures, key pictures alone are decoded; else all, \
         which is\nthe worst case. While the video of a camera is looked at, all are decoded.\n",
    );
    Ok(text)
}

/// A line for each resolution and codec, a column for each rate.
fn table(
    text: &mut String,
    options: &Options,
    value: impl Fn(&Stream) -> Result<Option<String>>,
) -> Result<()> {
    write!(text, "  {:<11}  {:<5}", "", "")?;
    for rate in &options.rate {
        write!(text, "  {:>9}", format!("{rate}/s"))?;
    }
    text.push('\n');
    for &Resolution(width, height) in &options.resolution {
        for &codec in &options.codec {
            write!(text, "  {:<11}  {:<5}", format!("{width}x{height}"), codec.title())?;
            for &rate in &options.rate {
                let (fps, keys) = (options.fps, options.keys);
                let stream = Stream { codec, width, height, fps, rate, keys };
                write!(text, "  {:>9}", value(&stream)?.unwrap_or_else(|| "-".to_owned()))?;
            }
            text.push('\n');
        }
    }
    Ok(())
}

/// Pixels of the network's input, as the element took it.
fn input_pixels(report: &Report) -> Result<f64> {
    let element = report.find(Section::Element, |figure| figure.subject.input.is_some());
    let input =
        element.and_then(|figure| figure.subject.input.as_deref()?.parse::<InputSize>().ok());
    match input {
        Some(input) => Ok((input.width * input.height) as f64),
        None => bail!("the bench does not say the size of the network's input"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{EngineFigures, Figure, Spread, Subject};

    /// What a bench of a machine of round figures has written: 2 processors; decoding 1 ms (720p)
    /// and 2 ms (1080p); a count 5 ms at 720p, of which 0.2 ms are preprocessing, 0.1 ms more at
    /// 1080p; a camera of 1080p 0.04 cores at one count a second.
    pub(crate) fn report() -> Report {
        let mut figures = Vec::new();
        let mut add = |section, name: &str, unit: &str, value: f64, processor, subject| {
            figures.push(Figure {
                section,
                name: name.to_owned(),
                subject,
                unit: unit.to_owned(),
                spread: Spread::single(value),
                processor_ms: processor,
                ratio: None,
            });
        };
        let sizes = [((1280, 720), 1.0), ((1920, 1080), 2.0)];
        for codec in ["h264", "h265"] {
            let subject = |size| Subject {
                codec: Some(codec.to_owned()),
                size: Some(size),
                ..Default::default()
            };
            for (size, decode) in sizes {
                let rate = 2000.0 / decode;
                add(Section::Limit, codec, "frames/s", rate, Some(decode), subject(size));
            }
            // 20 ms a second of receiving, 20 ms a count: 14.9 of them to decode a key picture.
            for rate in [1.0, 0.05] {
                let subject = Subject {
                    rate: Some(rate),
                    fps: Some(25.0),
                    cameras: Some(4),
                    ..subject((1920, 1080))
                };
                add(Section::Rate, "rate", "cores", 0.02 + rate * 0.02, None, subject);
            }
        }
        let input = Some("512x288".to_owned());
        let subject = Subject {
            cameras: Some(4),
            size: Some((1280, 720)),
            input: input.clone(),
            ..Default::default()
        };
        add(Section::Element, "4 cameras", "frames/s", 400.0, Some(5.0), subject);
        for (size, more) in [((1280, 720), 0.2), ((1920, 1080), 0.3)] {
            let subject = Subject {
                size: Some(size),
                format: Some("I420".to_owned()),
                input: input.clone(),
                ..Default::default()
            };
            add(Section::Preprocess, "ours", "ms", more, None, subject);
        }
        Report {
            schema: bench::SCHEMA,
            version: "0.1.0".to_owned(),
            date: "2026-11-29".to_owned(),
            machine: "a machine of round figures".to_owned(),
            processors: 2,
            load: (0.1, 1.9),
            quick: false,
            rounds: 5,
            seconds: 2.0,
            engine: EngineFigures {
                kind: "openvino".to_owned(),
                version: "2026.4".to_owned(),
                device: "CPU".to_owned(),
                model: "mobilenetv3-large 0.4.0".to_owned(),
                precision: "int8".to_owned(),
                lanes: 2,
                batch: 1,
            },
            figures,
            left_out: Vec::new(),
            goals: Vec::new(),
        }
    }

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn said(arguments: &[&str]) -> String {
        let arguments = ["plan"].iter().chain(arguments);
        let options = Arguments::try_parse_from(arguments).map(|parsed| parsed.options);
        let costs = Costs::of(&report()).expect("a whole bench");
        options.map_or_else(
            |error| error.to_string(),
            |options| text(&options, &report(), &costs).unwrap_or_default(),
        )
    }

    #[test]
    fn table_has_a_line_for_each_camera_and_a_column_for_each_rate() {
        let said = said(&["--resolution", "1080p", "--rate", "1,5", "--codec", "h264"]);
        assert!(said.contains("openvino 2026.4, mobilenetv3-large 0.4.0 int8"), "{said}");
        // 1.6 processors over 0.04 and over 0.0955.
        let line = said.lines().find(|line| line.contains("1920x1080")).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["1920x1080", "H.264", "40", "16"], "{said}");
    }

    #[test]
    fn number_of_cameras_is_said_to_fit_or_not() {
        let said =
            said(&["--resolution", "1080p", "--rate", "1,5", "--codec", "h264", "--cameras", "20"]);
        let line = said.lines().filter(|line| line.contains("1920x1080")).nth(1);
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words, ["1920x1080", "H.264", "0.80", "1.91!"], "{said}");
    }

    #[test]
    fn gpu_is_marked_as_computed() {
        let said =
            said(&["--gpu", "t4", "--resolution", "1080p", "--codec", "h264", "--fps", "30"]);
        assert!(said.contains("computed, not measured: cameras on one NVIDIA T4"), "{said}");
        // 30 pictures a second of 38 streams at 0.8 of the load.
        let line = said.lines().filter(|line| line.contains("1920x1080")).nth(1);
        assert!(line.is_some_and(|line| line.contains("30d")), "{said}");
    }

    #[test]
    fn wrong_sizes_and_shares_are_refused_with_what_is_right() {
        for (arguments, right) in [
            (["--resolution", "4k"], "720p, 1080p, 1440p, 2160p or WIDTHxHEIGHT"),
            (["--resolution", "1x1"], "between 16 and 8192"),
            (["--load", "1.5"], "a number above 0, 1 at most"),
            (["--rate", "0"], "a number above 0, 1000 at most"),
            (["--fps", "nan"], "a number above 0, 1000 at most"),
        ] {
            let said = said(&arguments);
            assert!(said.contains(right), "{arguments:?}: {said}");
        }
    }
}
