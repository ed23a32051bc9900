//! The page about the models, docs/models.md, and its plot.

use std::fmt::Write;

use super::Line;
use super::speed::Speeds;
use crate::eval::COLORS;

/// "12 %", or "-" where it is not known.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

/// "1.8", or "-" where the file is not there.
pub(super) fn megabytes(size: Option<u64>) -> String {
    size.map_or("-".to_owned(), |size| format!("{:.1}", size as f64 / 1e6))
}

/// The page in Markdown.
pub(super) fn markdown(lines: &[Line], speeds: &Speeds) -> String {
    let mut text = format!(
        "# Models\n\n\
         This page is written by `vehicle-count models --time --page docs`; without `--page` the same\n\
         command lists the models of your machine, with the speed they have there. `model=NAME` on\n\
         `vehiclecounter` chooses one, the files beside its manifest say the rest. How each was trained,\n\
         and where it fails, stands in its card.\n\n\
         - Error: mean absolute error as a share of the mean number of vehicles, on the validation\n  \
           pictures ([evaluation.md](evaluation.md)).\n\
         - Input: those marked auto are taken by `input-size=auto`, the default, for cameras of their\n  \
           aspect ratio ([engines.md](engines.md#size-and-shape-of-the-input)).\n\
         - Counted: vehicles counted as a share of those that are there.\n\
         - Images a second with all lanes at work, and milliseconds for one picture alone, on\n  \
           {}, {}. No GPU was measured.\n\n\
         ![Error against images a second](pictures/models.svg)\n\n\
         | Model | Precision | Input | Error | Counted | Images/s | ms | MB | Engine measured |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        speeds.machine, speeds.date
    );
    for line in lines {
        let (rate, time, engine) = match &line.speed {
            Some(speed) => (
                format!("{:.0}", speed.images_per_second),
                format!("{}", speed.milliseconds),
                speed.engine.clone(),
            ),
            None => ("-".into(), "-".into(), "-".into()),
        };
        let _ = writeln!(
            text,
            "| [{}](../engines/models/{}.md) {} | {} | {}x{}{} | {} | {} | {rate} | {time} | {} | {engine} |",
            line.model,
            line.model,
            line.version,
            line.precision,
            line.input.width,
            line.input.height,
            if line.is_auto { ", auto" } else { "" },
            percent(line.error),
            percent(line.counted),
            megabytes(line.size),
        );
    }
    let images = lines.iter().map(|line| line.images).max().unwrap_or(0);
    let _ = write!(text, "\nErrors are of {images} pictures. ");
    let mut named = Vec::new();
    for line in lines {
        let licence = format!("{}: {}", line.model, line.licence);
        if !named.contains(&licence) {
            named.push(licence);
        }
    }
    let _ = writeln!(text, "Licences: {}.", named.join("; "));
    text
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
/// Left, top, right and bottom of the plot itself.
const AREA: [f64; 4] = [70.0, 68.0, 730.0, 400.0];

/// The colour of the model of that number, in hexadecimal.
fn color(number: usize) -> String {
    let parts = COLORS[number % COLORS.len()].map(|part| (part * 255.0).round() as u8);
    format!("#{:02x}{:02x}{:02x}", parts[0], parts[1], parts[2])
}

/// Error against images a second as SVG, with the files that no other beats in both joined.
pub(super) fn plot(lines: &[Line], speeds: &Speeds) -> String {
    let points: Vec<(&Line, f64, f64)> = lines
        .iter()
        .filter_map(|line| {
            Some((line, line.speed.as_ref()?.images_per_second, line.error? * 100.0))
        })
        .collect();
    let most = points.iter().fold(10.0, |most: f64, point| most.max(point.2));
    let top = (most / 5.0).ceil() * 5.0;
    let (slow, fast) = points
        .iter()
        .fold((f64::MAX, 1.0f64), |(slow, fast), point| (slow.min(point.1), fast.max(point.1)));
    let (low, high) = (slow.min(fast).max(1.0).log10() - 0.08, fast.log10() + 0.08);
    let [left, upper, right, lower] = AREA;
    let x = |rate: f64| left + (rate.max(1.0).log10() - low) / (high - low) * (right - left);
    let y = |error: f64| lower - error / top * (lower - upper);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"16\" font-weight=\"bold\" fill=\"#222\">Error of the \
         models against their speed</text>\n"
    );
    let mut tick = |horizontal: bool, at: f64, label: &str| {
        let (line, place) = match horizontal {
            true => (
                format!("x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\""),
                format!("x=\"{}\" y=\"{:.1}\" text-anchor=\"end\"", left - 8.0, at + 4.0),
            ),
            false => (
                format!("x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{upper}\" y2=\"{lower}\""),
                format!("x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\"", lower + 20.0),
            ),
        };
        let _ = writeln!(
            text,
            "<line {line} stroke=\"#e2e2e6\"/><text {place} fill=\"#667\">{label}</text>"
        );
    };
    for error in (0..=top as u32).step_by(if top > 30.0 { 10 } else { 5 }) {
        tick(true, y(f64::from(error)), &format!("{error} %"));
    }
    for rate in [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] {
        let at = x(f64::from(rate));
        if (left..=right).contains(&at) {
            tick(false, at, &rate.to_string());
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#667\">images a second, {}, {}</text>",
        (left + right) / 2.0,
        HEIGHT - 18.0,
        escaped(&speeds.machine),
        escaped(&speeds.date)
    );
    let front: Vec<String> = front(&points)
        .into_iter()
        .map(|(_, rate, error)| format!("{:.1},{:.1}", x(rate), y(error)))
        .collect();
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#bbb\" stroke-width=\"6\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
        front.join(" ")
    );
    let mut models: Vec<&str> = Vec::new();
    let mut labels: Vec<(f64, f64)> = Vec::new();
    for &(line, rate, error) in &points {
        let known = models.iter().position(|&model| model == line.model);
        let number = known.unwrap_or_else(|| {
            models.push(&line.model);
            models.len() - 1
        });
        let color = color(number);
        let (at, height) = (x(rate), y(error));
        // A filled circle is INT8, an open one the others.
        let fill = if line.precision == "int8" { color.as_str() } else { "#fff" };
        let (side, anchor) =
            if at > right - 70.0 { (at - 8.0, "end") } else { (at + 8.0, "start") };
        // Beside the point, at the first height where no other label stands.
        let free = |&offset: &f64| {
            let taken = |&(x, y): &(f64, f64)| {
                (x - side).abs() < 62.0 && (y - (height + offset)).abs() < 11.0
            };
            !labels.iter().any(taken)
        };
        let offset = [-7.0, 16.0, -19.0, 28.0].into_iter().find(free).unwrap_or(-7.0);
        labels.push((side, height + offset));
        let _ = writeln!(
            text,
            "<circle cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"{color}\" \
             stroke-width=\"2\"/><text x=\"{side:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" \
             font-size=\"11\" fill=\"#445\">{}x{}</text>",
            height + offset,
            line.input.width,
            line.input.height
        );
    }
    for (number, model) in models.iter().enumerate() {
        let _ = writeln!(
            text,
            "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\" font-weight=\"bold\" fill=\"{}\">{}</text>",
            lower - 48.0 + 18.0 * number as f64,
            color(number),
            escaped(model)
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{left}\" y=\"48\" font-size=\"12\" fill=\"#667\">filled: INT8, open: FP32; grey line: \
         no other is both faster and better</text>\n</svg>"
    );
    text
}

/// The points that no other beats in speed and in error, the slowest first.
fn front<'a>(points: &[(&'a Line, f64, f64)]) -> Vec<(&'a Line, f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut least = f64::MAX;
    let mut front: Vec<_> = sorted
        .into_iter()
        .filter(|point| {
            let better = point.2 < least;
            least = least.min(point.2);
            better
        })
        .collect();
    front.reverse();
    front
}

/// `text` within XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
