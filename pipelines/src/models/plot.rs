//! The plots of error against speed, docs/pictures/models.svg and the like.

use std::fmt::Write;

use vehiclecount_core::model::Speeds;

use super::Line;
use super::page::models;
use crate::eval::COLORS;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
/// Left, top, right and bottom of the plot itself.
const AREA: [f64; 4] = [70.0, 76.0, 830.0, 455.0];

/// The colour of the model of that number, in hexadecimal.
fn color(number: usize) -> String {
    let parts = COLORS[number % COLORS.len()].map(|part| (part * 255.0).round() as u8);
    format!("#{:02x}{:02x}{:02x}", parts[0], parts[1], parts[2])
}

/// A file at an input size whose error and speed are known.
#[derive(Clone, Copy)]
struct Point<'a> {
    line: &'a Line,
    /// Images a second.
    rate: f64,
    /// Percent.
    error: f64,
}

/// The points of the model on the machine of that number: of its INT8 file where that was measured,
/// else of what was. The squares come in the order of their sizes, then the others.
fn points<'a>(lines: &'a [Line], machine: usize, model: &str) -> Vec<Point<'a>> {
    let all: Vec<_> = lines
        .iter()
        .filter(|line| line.model == model)
        .filter_map(|line| {
            let rate = line.speed(machine)?.images_per_second;
            Some(Point { line, rate: rate.max(1.0), error: line.error? * 100.0 })
        })
        .collect();
    let quantized = all.iter().any(|point| point.line.precision == "int8");
    let precision = if quantized { "int8" } else { "fp32" };
    let mut points: Vec<_> =
        all.into_iter().filter(|point| point.line.precision == precision).collect();
    points.sort_by_key(|point| (!is_square(point), point.line.input.width));
    points
}

fn is_square(point: &Point) -> bool {
    point.line.input.width == point.line.input.height
}

/// Where values lie in the picture: a logarithm across, a straight line up from 0.
struct Scale {
    low: f64,
    high: f64,
    top: f64,
}

impl Scale {
    fn of(points: &[Point]) -> Self {
        let most = points.iter().fold(10.0, |most: f64, point| most.max(point.error));
        let (slow, fast) = points.iter().fold((f64::MAX, 1.0f64), |(slow, fast), point| {
            (slow.min(point.rate), fast.max(point.rate))
        });
        Self {
            low: slow.min(fast).log10() - 0.1,
            high: fast.log10() + 0.1,
            top: (most / 5.0 + 0.4).ceil() * 5.0,
        }
    }

    fn x(&self, rate: f64) -> f64 {
        let [left, _, right, _] = AREA;
        left + (rate.log10() - self.low) / (self.high - self.low) * (right - left)
    }

    fn y(&self, error: f64) -> f64 {
        let [_, upper, _, lower] = AREA;
        lower - error / self.top * (lower - upper)
    }

    fn place(&self, point: &Point) -> (f64, f64) {
        (self.x(point.rate), self.y(point.error))
    }
}

/// A rectangle that is taken: left, top, right, bottom.
type Taken = [f64; 4];

/// How much of `a` lies in `b`.
fn overlap(a: &Taken, b: &Taken) -> f64 {
    let width = a[2].min(b[2]) - a[0].max(b[0]);
    let height = a[3].min(b[3]) - a[1].max(b[1]);
    width.max(0.0) * height.max(0.0)
}

/// Name of the file of the plot for the machine of that number, in the page's folder.
pub(super) fn name(machine: usize) -> String {
    match machine {
        0 => "pictures/models.svg".to_owned(),
        _ => format!("pictures/models-{}.svg", machine + 1),
    }
}

/// Error against images a second as SVG, on the machine of that number: a line for each model
/// through its square inputs, and a grey one through the points that no other beats in both.
pub(super) fn plot(lines: &[Line], speeds: &Speeds, machine: usize) -> String {
    let models = models(lines);
    let series: Vec<Vec<Point>> =
        models.iter().map(|model| points(lines, machine, model)).collect();
    let all: Vec<Point> = series.iter().flatten().copied().collect();
    let scale = Scale::of(&all);
    let mut text = frame(&scale, speeds);
    let path = |points: &[Point]| {
        let places = points.iter().map(|point| {
            let (x, y) = scale.place(point);
            format!("{x:.1},{y:.1}")
        });
        places.collect::<Vec<_>>().join(" ")
    };
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#d5d5da\" stroke-width=\"11\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
        path(&front(&all))
    );
    let mut taken: Vec<Taken> = Vec::new();
    for (number, points) in series.iter().enumerate() {
        let color = color(number);
        let squares: Vec<_> = points.iter().copied().filter(is_square).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            path(&squares)
        );
        for pair in squares.windows(2) {
            taken.extend(along(scale.place(&pair[0]), scale.place(&pair[1])));
        }
        for point in points {
            let (x, y) = scale.place(point);
            taken.push([x - 8.0, y - 8.0, x + 8.0, y + 8.0]);
            let _ = match is_square(point) {
                true => writeln!(
                    text,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\" fill=\"{color}\" stroke=\"#fff\"/>",
                    (point.line.input.width as f64 / 64.0).clamp(3.0, 9.0)
                ),
                false => writeln!(
                    text,
                    "<path d=\"M{x:.1} {:.1}l6 6l-6 6l-6 -6z\" fill=\"#fff\" stroke=\"{color}\" \
                     stroke-width=\"2\"/>",
                    y - 6.0
                ),
            };
        }
    }
    for (number, (model, points)) in models.iter().zip(&series).enumerate() {
        if points.is_empty() {
            continue;
        }
        let box_ = label(model, points, &scale, &taken);
        taken.push(box_);
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-weight=\"bold\" fill=\"{}\" stroke=\"#fff\" \
             stroke-width=\"4\" paint-order=\"stroke\">{}</text>",
            box_[0],
            box_[3] - 4.0,
            color(number),
            escaped(model)
        );
    }
    text.push_str("</svg>\n");
    text
}

/// Title, axes and remarks.
fn frame(scale: &Scale, speeds: &Speeds) -> String {
    let [left, upper, right, lower] = AREA;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"17\" font-weight=\"bold\" fill=\"#222\">Error of the \
         models against their speed, INT8</text>\n\
         <text x=\"{left}\" y=\"48\" font-size=\"12\" fill=\"#667\">larger circles: larger square inputs \
         (256, 384, 512); diamonds: 512x288; grey: no other is both faster and better</text>\n"
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
            "<line {line} stroke=\"#e8e8ec\"/><text {place} fill=\"#667\">{label}</text>"
        );
    };
    for error in (0..=scale.top as u32).step_by(if scale.top > 30.0 { 10 } else { 5 }) {
        tick(true, scale.y(f64::from(error)), &format!("{error} %"));
    }
    for rate in [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] {
        let at = scale.x(f64::from(rate));
        if (left..=right).contains(&at) {
            tick(false, at, &rate.to_string());
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#667\">images a second, {}</text>",
        (left + right) / 2.0,
        HEIGHT - 18.0,
        escaped(&speeds.to_string())
    );
    text
}

/// Small rectangles along a line.
fn along((x, y): (f64, f64), (to_x, to_y): (f64, f64)) -> impl Iterator<Item = Taken> {
    const STEPS: u32 = 24;
    (0..=STEPS).map(move |step| {
        let share = f64::from(step) / f64::from(STEPS);
        let (x, y) = (x + (to_x - x) * share, y + (to_y - y) * share);
        [x - 2.0, y - 2.0, x + 2.0, y + 2.0]
    })
}

/// Where the name of a model is written: beside one of its points, over as little as can be.
fn label(model: &str, points: &[Point], scale: &Scale, taken: &[Taken]) -> Taken {
    const HIGH: f64 = 17.0;
    let wide = model.chars().count() as f64 * 7.9;
    let [left, upper, right, lower] = AREA;
    let mut best: Option<(f64, Taken)> = None;
    for point in points {
        let (x, y) = scale.place(point);
        for (dx, dy) in [
            (11.0, -HIGH / 2.0),
            (-wide / 2.0, -HIGH - 9.0),
            (-wide / 2.0, 9.0),
            (-wide - 11.0, -HIGH / 2.0),
            (8.0, -HIGH - 6.0),
            (8.0, 6.0),
            (-wide - 8.0, -HIGH - 6.0),
            (-wide - 8.0, 6.0),
            (-wide / 2.0, -HIGH - 24.0),
            (-wide / 2.0, 24.0),
        ] {
            let place = [x + dx, y + dy, x + dx + wide, y + dy + HIGH];
            let inside = overlap(&place, &[left, upper, right, lower]);
            let outside = wide * HIGH - inside;
            let cost: f64 =
                outside * 4.0 + taken.iter().map(|other| overlap(&place, other)).sum::<f64>();
            if best.is_none_or(|(least, _)| cost < least - 1e-6) {
                best = Some((cost, place));
            }
        }
    }
    best.map_or([left, upper, left + wide, upper + HIGH], |(_, place)| place)
}

/// The points that no other beats in speed and in error, the slowest first.
fn front<'a>(points: &[Point<'a>]) -> Vec<Point<'a>> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(a.error.total_cmp(&b.error)));
    let mut least = f64::MAX;
    let mut front: Vec<_> = sorted
        .into_iter()
        .filter(|point| {
            let better = point.error < least;
            least = least.min(point.error);
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

#[cfg(test)]
mod tests {
    use vehiclecount_core::model::Speed;
    use vehiclecount_core::preprocess::InputSize;

    use super::*;

    /// Models at four inputs each, on curves that cross.
    fn lines(names: &[&str]) -> Vec<Line> {
        let mut lines = Vec::new();
        for (number, name) in names.iter().enumerate() {
            for (width, height) in [(384, 384), (256, 256), (512, 288), (512, 512)] {
                let area = f64::from(width * height) / f64::from(384 * 384);
                let share = 1.0 + number as f64 * 0.45;
                let speed = Speed {
                    file: format!("{name}-int8.onnx"),
                    width: width as usize,
                    height: height as usize,
                    engine: "openvino".to_owned(),
                    images_per_second: 80.0 * share / area,
                    milliseconds: 20.0 * area / share,
                };
                let input = InputSize { width: width as usize, height: height as usize };
                let error = (0.12 + 0.012 * number as f64) / area.sqrt();
                lines.push(Line { speeds: vec![Some(speed)], ..Line::of(name, input, error) });
            }
        }
        lines
    }

    #[test]
    fn names_of_eight_models_stand_apart_and_inside() {
        let names = [
            "mobilenetv3-large",
            "efficientnet-lite0",
            "efficientnet-b0",
            "ghostnetv2",
            "mobilenetv3-small",
            "resnet18",
            "resnet50-fpn",
            "tinyvit-5m",
        ];
        for number in 1..=names.len() {
            let lines = lines(&names[..number]);
            let speeds = Speeds { machine: "A & B".to_owned(), ..Speeds::default() };
            let text = plot(&lines, &speeds, 0);
            assert!(text.contains("A &amp; B"));
            let labels: Vec<Taken> = text
                .lines()
                .filter(|line| line.contains("paint-order"))
                .map(|line| {
                    let value = |key: &str| -> f64 {
                        let rest = line.split_once(&format!(" {key}=\"")).unwrap().1;
                        rest.split_once('"').unwrap().0.parse().unwrap()
                    };
                    let name = line.split_once('>').unwrap().1.split_once('<').unwrap().0;
                    let (x, y) = (value("x"), value("y"));
                    [x, y - 13.0, x + name.len() as f64 * 7.9, y + 4.0]
                })
                .collect();
            assert_eq!(labels.len(), number);
            for (index, label) in labels.iter().enumerate() {
                assert!(label[0] >= AREA[0] - 1.0 && label[2] <= AREA[2] + 1.0, "{label:?}");
                for other in &labels[..index] {
                    assert!(overlap(label, other) < 1.0, "{label:?} over {other:?}");
                }
            }
        }
    }

    #[test]
    fn no_point_at_all_is_an_empty_plot() {
        let text = plot(&[], &Speeds::default(), 0);
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n") && !text.contains("NaN"));
    }
}
