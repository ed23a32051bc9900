//! What the figures ought to be, by the terms of the figures themselves.

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Section};

/// A goal, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Goal {
    /// What ought to be reached.
    pub name: String,
    /// At least, or at most where `at-most` says so.
    pub bound: f64,
    /// Whether less is better.
    pub at_most: bool,
    /// What was measured.
    pub measured: f64,
    /// Whether it is reached.
    pub reached: bool,
}

impl Goal {
    fn at_least(name: impl Into<String>, bound: f64, measured: f64) -> Self {
        Self { name: name.into(), bound, at_most: false, measured, reached: measured >= bound }
    }

    fn at_most(name: impl Into<String>, bound: f64, measured: f64) -> Self {
        Self { name: name.into(), bound, at_most: true, measured, reached: measured <= bound }
    }
}

/// The name of the Python loop with OpenVINO at `input`.
pub(super) fn openvino_loop(input: &str) -> String {
    format!("Python, OpenCV + OpenVINO INT8, {input}")
}

/// The name of the Python loop with ONNX Runtime at `input`.
pub(super) fn onnxruntime_loop(input: &str) -> String {
    format!("Python, OpenCV + ONNX Runtime FP32, {input}")
}

/// The name of the counter's own process at `input`.
pub(super) fn ours_at(input: &str) -> String {
    format!("vehicle-count, {input}")
}

/// The input of the comparisons: 16:9 at the scale of a square of 384.
pub(super) const WIDE: &str = "384x224";

/// That square.
pub(super) const SQUARE: &str = "384x384";

/// What hardly depends on what else runs on the machine.
const BUSY: &str = "processor time";

/// The goals to which `figures` have an answer.
pub(super) fn goals(figures: &[Figure]) -> Vec<Goal> {
    let of = |section: Section| figures.iter().filter(move |figure| figure.section == section);
    let named = |section: Section, name: &str| of(section).find(|figure| figure.name == name);
    let mut goals = Vec::new();

    // Times of the processor on which fast_image_resize takes 0.49 and 0.56 ms; what that takes is
    // a measure of other processors.
    for (size, most, peer) in [((1280, 720), 0.25, 0.49), ((1920, 1080), 0.45, 0.56)] {
        for figure in of(Section::Preprocess).filter(|figure| {
            figure.subject.size == Some(size) && figure.subject.input.as_deref() == Some(WIDE)
        }) {
            let format = figure.subject.format.as_deref().unwrap_or_default();
            let name = format!("preprocessing of {}x{} {format} to {WIDE}", size.0, size.1);
            if figure.name.starts_with("ours") {
                goals.push(Goal::at_most(format!("{name}, ms"), most, figure.spread.median));
            } else if let Some(ratio) =
                figure.ratio.as_ref().filter(|_| figure.name.starts_with("fast_image_resize"))
            {
                let name = format!("{name}, times fast_image_resize");
                goals.push(Goal::at_least(name, peer / most, ratio.spread.median));
            }
        }
    }

    let engine_at = |input: &str| {
        of(Section::Limit).find(|figure| {
            figure.subject.input.as_deref() == Some(input) && figure.subject.codec.is_none()
        })
    };
    if let (Some(wide), Some(square)) = (engine_at(WIDE), engine_at(SQUARE)) {
        let cost = square.spread.median / wide.spread.median.max(1e-9);
        goals.push(Goal::at_most(format!("bare engine, cost at {WIDE}, of {SQUARE}"), 0.62, cost));
    }

    let is_wide = |figure: &&Figure| figure.subject.input.as_deref() == Some(WIDE);
    for figure in of(Section::Element).filter(is_wide) {
        if let (Some(cameras), Some(ratio)) = (figure.subject.cameras, &figure.ratio) {
            let name = format!("element with {cameras} camera(s), of the bare engine");
            if let Some(processor) = ratio.processor {
                goals.push(Goal::at_least(format!("{name}, by {BUSY}"), 0.95, processor));
            }
            goals.push(Goal::at_least(name, 0.95, ratio.spread.median));
        }
    }
    let element = |cameras| {
        let ratio = |figure: &Figure| figure.ratio.as_ref().map(|ratio| ratio.spread.median);
        let mut wide = of(Section::Element).filter(is_wide);
        wide.find(|figure| figure.subject.cameras == Some(cameras)).and_then(ratio)
    };
    for many in [16, 64] {
        if let (Some(few), Some(more)) = (element(4), element(many)) {
            let name = format!("throughput with {many} cameras, of that with 4");
            goals.push(Goal::at_least(name, 0.95, more / few.max(1e-9)));
        }
    }

    // Ratios in that section are of others to ours, where that is at 384x224.
    let others = [
        (openvino_loop(WIDE), 1.25),
        (openvino_loop(SQUARE), 1.6),
        (onnxruntime_loop(SQUARE), 4.0),
    ];
    for (name, least) in others {
        let ratio = named(Section::Files, &name).and_then(|figure| figure.ratio.as_ref());
        if let Some(ratio) = ratio.filter(|ratio| ratio.to == ours_at(WIDE)) {
            let name = format!("end to end at {WIDE}, times \"{name}\"");
            if let Some(processor) = ratio.processor.filter(|processor| *processor > 0.0) {
                goals.push(Goal::at_least(format!("{name}, by {BUSY}"), least, 1.0 / processor));
            }
            goals.push(Goal::at_least(name, least, 1.0 / ratio.spread.median.max(1e-9)));
        }
    }
    let ours = of(Section::Files)
        .find(|figure| figure.subject.input.as_deref() == Some(WIDE) && figure.ratio.is_none());
    let engine = engine_at(WIDE);
    let size = ours.and_then(|figure| figure.subject.size);
    let decoder = of(Section::Limit).find(|figure| {
        figure.subject.codec.as_deref() == Some("h264") && figure.subject.size == size
    });
    let processor = |figure: Option<&Figure>| figure.and_then(|figure| figure.processor_ms);
    if let (Some(ours), Some(engine), Some(decoder)) =
        (processor(ours), processor(engine), processor(decoder))
    {
        let name = "processor time of decoder + bare engine, of that end to end";
        goals.push(Goal::at_least(name, 0.9, (engine + decoder) / ours.max(1e-9)));
    }
    let rate = |figure: Option<&Figure>| figure.map(|figure| figure.spread.median);
    if let (Some(ours), Some(engine), Some(decoder)) = (rate(ours), rate(engine), rate(decoder)) {
        let limit = 1.0 / (1.0 / engine.max(1e-9) + 1.0 / decoder.max(1e-9));
        let name = "frames/s end to end, of decoder and bare engine in turn";
        goals.push(Goal::at_least(name, 0.9, ours / limit));
    }

    for figure in of(Section::Memory).filter(is_wide) {
        let name = format!("memory of a further camera at {WIDE}, MB");
        goals.push(Goal::at_most(name, 1.5, figure.spread.median));
    }
    for figure in of(Section::Allocations) {
        let name = format!("allocations for a frame, {}", figure.name);
        goals.push(Goal::at_most(name, 0.0, figure.spread.median));
    }
    goals
}

/// The goals as a table.
pub(super) fn table(goals: &[Goal]) -> String {
    let mut text = "\ngoals\n".to_owned();
    for goal in goals {
        let sign = if goal.at_most { "<=" } else { ">=" };
        let reached = if goal.reached { "reached" } else { "missed" };
        text.push_str(&format!(
            "  {reached:<7}  {:.2} ({sign} {})  {}\n",
            goal.measured, goal.bound, goal.name
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Ratio, Spread, Subject};
    use super::*;

    fn figure(section: Section, name: &str, subject: Subject, value: f64) -> Figure {
        Figure {
            section,
            name: name.to_owned(),
            subject,
            unit: String::new(),
            spread: Spread::single(value),
            processor_ms: None,
            ratio: None,
        }
    }

    fn against(figure: Figure, to: &str, ratio: f64) -> Figure {
        let spread = Spread::single(ratio);
        let ratio = Some(Ratio { to: to.to_owned(), spread, processor: None });
        Figure { ratio, ..figure }
    }

    #[test]
    fn peer_is_to_be_left_behind_by_its_factor() {
        let wide = Subject { input: Some(WIDE.to_owned()), ..Default::default() };
        let ours = figure(Section::Files, "vehicle-count, 384x224", wide, 250.0);
        let peer = figure(Section::Files, &openvino_loop(WIDE), Subject::default(), 200.0);
        let slow = figure(Section::Files, &onnxruntime_loop(SQUARE), Subject::default(), 100.0);
        let figures = [
            ours.clone(),
            against(peer, &ours.name, 200.0 / 250.0),
            against(slow, &ours.name, 100.0 / 250.0),
        ];
        let goals: Vec<_> = goals(&figures)
            .into_iter()
            .map(|goal| (goal.bound, goal.measured, goal.reached))
            .collect();
        assert_eq!(goals, [(1.25, 1.25, true), (4.0, 2.5, false)]);
    }

    #[test]
    fn decoder_and_engine_are_the_limit_of_files() {
        let with = |figure: Figure, processor| Figure { processor_ms: Some(processor), ..figure };
        let input = || Some(WIDE.to_owned());
        let size = Some((1280, 720));
        let wide = Subject { input: input(), ..Default::default() };
        let clip = Subject { codec: Some("h264".to_owned()), size, ..Default::default() };
        let files = Subject { input: input(), ..clip.clone() };
        let figures = [
            with(figure(Section::Limit, "bare engine", wide, 300.0), 2.0),
            with(figure(Section::Limit, "decoder", clip, 900.0), 1.0),
            with(figure(Section::Files, "vehicle-count, 384x224", files, 500.0), 4.0),
        ];
        let goals = goals(&figures);
        // By processor time, and by frames a second: in turn the two would give 225.
        let goals: Vec<_> = goals.iter().map(|goal| (goal.measured, goal.reached)).collect();
        assert_eq!(goals[0], (0.75, false));
        assert!((goals[1].0 - 500.0 / 225.0).abs() < 1e-9 && goals[1].1 && goals.len() == 2);
    }

    #[test]
    fn memory_ought_to_be_below_its_bound() {
        let at = |input: &str| Subject { input: Some(input.to_owned()), ..Default::default() };
        let low = figure(Section::Memory, "a further camera", at(WIDE), 1.4);
        let high = figure(Section::Memory, "a further camera", at("512x288"), 2.4);
        let goals = goals(&[low, high]);
        assert_eq!(goals.len(), 1);
        assert!(goals[0].reached && table(&goals).contains("reached  1.40 (<= 1.5)"));
    }

    #[test]
    fn preprocessing_is_judged_by_another_library_too() {
        let subject =
            Subject { size: Some((1280, 720)), input: Some(WIDE.to_owned()), ..Default::default() };
        let ours = figure(Section::Preprocess, "ours, x", subject.clone(), 0.5);
        let peer = figure(Section::Preprocess, "fast_image_resize, x", subject, 2.0);
        let goals = goals(&[ours.clone(), against(peer, &ours.name, 4.0)]);
        let reached: Vec<_> = goals.iter().map(|goal| goal.reached).collect();
        assert_eq!(reached, [false, true], "a slow processor");
    }
}
