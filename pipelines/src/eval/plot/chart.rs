//! Charts: counts against truth, and the histogram of errors.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use anyhow::Result;

use super::super::SampleCount;
use super::super::annotations::Sample;
use super::canvas::{Align, Canvas, Font};
use super::{FAINT, INK, LINE, head, kinds, mean, note};

/// A step of 1, 2 or 5 times a power of ten, so that `span` has some `wanted` of them.
fn nice_step(span: f64, wanted: f64) -> f64 {
    let rough = (span / wanted).max(1e-6);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough * 0.999);
    step.unwrap_or(10.0) * power
}

/// A number on an axis of this step.
fn tick(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    // Never "-0".
    format!("{:.decimals$}", if value.abs() < step / 1e3 { 0.0 } else { value })
}

/// The plot's inside: left, top, right and bottom margin.
const MARGINS: [f64; 4] = [84.0, 108.0, 32.0, 68.0];

/// Count against truth, a point for each picture.
pub fn scatter(
    path: &Path,
    title: &str,
    samples: &[Sample],
    counted: &[SampleCount],
) -> Result<()> {
    let canvas = Canvas::new(860, 900, [1.0; 3])?;
    let kinds = kinds(samples);
    head(&canvas, &format!("Count against truth: {title}"), &note(counted), &kinds)?;
    let [left, top, right, bottom] = MARGINS;
    let side =
        (f64::from(canvas.width) - left - right).min(f64::from(canvas.height) - top - bottom);
    let most = counted
        .iter()
        .flat_map(|counted| [counted.line.count, counted.line.truth])
        .fold(1.0, f64::max)
        * 1.04;
    let step = nice_step(most, 7.0);
    let place = |truth: f64, count: f64| {
        (left + truth / most * side, top + side - count.max(0.0) / most * side)
    };
    for number in (0..).map(|number| f64::from(number) * step).take_while(|number| *number <= most)
    {
        canvas.color(LINE, 1.0);
        canvas.line(place(number, 0.0), place(number, most), 1.0)?;
        canvas.line(place(0.0, number), place(most, number), 1.0)?;
        canvas.color(FAINT, 1.0);
        let ((x, _), (_, y)) = (place(number, 0.0), place(0.0, number));
        canvas.text(
            x,
            top + side + 8.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Middle,
            80.0,
        );
        canvas.text(
            left - 10.0,
            y - 10.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Right,
            60.0,
        );
    }
    canvas.color(INK, 0.75);
    canvas.line(place(0.0, 0.0), place(most, most), 1.5)?;
    canvas.text(
        left + side / 2.0,
        top + side + 34.0,
        "vehicles, true",
        Font(15.0, false),
        Align::Middle,
        side,
    );
    canvas.context.save()?;
    canvas.context.translate(20.0, top + side / 2.0);
    canvas.context.rotate(-TAU / 4.0);
    canvas.text(0.0, 0.0, "vehicles, counted", Font(15.0, false), Align::Middle, side);
    canvas.context.restore()?;
    for (sample, counted) in samples.iter().zip(counted) {
        let (x, y) = place(counted.line.truth, counted.line.count);
        canvas.context.arc(x, y, 5.0, 0.0, TAU);
        canvas.color(kinds[sample.kind.as_str()], 0.6);
        canvas.context.fill_preserve()?;
        canvas.color([1.0; 3], 0.9);
        canvas.context.set_line_width(0.8);
        canvas.context.stroke()?;
    }
    canvas.write(path)
}

/// How many pictures were counted too low and too high by how much, the kinds of scenes on top of
/// one another.
pub fn errors(path: &Path, title: &str, samples: &[Sample], counted: &[SampleCount]) -> Result<()> {
    let canvas = Canvas::new(960, 600, [1.0; 3])?;
    let kinds = kinds(samples);
    head(&canvas, &format!("Error of the count: {title}"), &note(counted), &kinds)?;
    let [left, top, right, bottom] = MARGINS;
    let (wide, high) =
        (f64::from(canvas.width) - left - right, f64::from(canvas.height) - top - bottom);
    let bounds = counted.iter().map(|counted| counted.line.error());
    let (low, high_error) =
        bounds.fold((-0.5f64, 0.5f64), |(low, high), error| (low.min(error), high.max(error)));
    let bin = nice_step(high_error - low, 32.0);
    // A bin's middle is a multiple of its width: one of them is centred on no error.
    let index = |error: f64| (error / bin).round() as i64;
    let (first, last) = (index(low) - 1, index(high_error) + 1);
    let bins = (last - first + 1) as f64;
    let mut stacks: BTreeMap<i64, BTreeMap<&str, f64>> = BTreeMap::new();
    for (sample, counted) in samples.iter().zip(counted) {
        *stacks.entry(index(counted.line.error())).or_default().entry(&sample.kind).or_default() +=
            1.0;
    }
    let most = stacks.values().map(|stack| stack.values().sum::<f64>()).fold(1.0, f64::max) * 1.08;
    let x_of = |error: f64| left + (error / bin - first as f64 + 0.5) / bins * wide;
    let y_of = |number: f64| top + high - number / most * high;
    let step = nice_step(most, 6.0).max(1.0);
    for number in (0..).map(|number| f64::from(number) * step).take_while(|number| *number <= most)
    {
        canvas.color(LINE, 1.0);
        canvas.line((left, y_of(number)), (left + wide, y_of(number)), 1.0)?;
        canvas.color(FAINT, 1.0);
        canvas.text(
            left - 10.0,
            y_of(number) - 10.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Right,
            60.0,
        );
    }
    let across = bin * bins;
    let step = nice_step(across, 10.0);
    let begin = ((first as f64 - 0.5) * bin / step).ceil() as i64;
    for number in
        (begin..).map(|number| number as f64 * step).take_while(|n| *n <= (last as f64 + 0.5) * bin)
    {
        canvas.text(
            x_of(number),
            top + high + 8.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Middle,
            80.0,
        );
    }
    for (index, stack) in &stacks {
        let (from, to) =
            (x_of((*index as f64 - 0.5) * bin) + 1.0, x_of((*index as f64 + 0.5) * bin) - 1.0);
        let mut base = 0.0;
        for (kind, color) in &kinds {
            let number = stack.get(kind).copied().unwrap_or(0.0);
            canvas.context.rectangle(
                from,
                y_of(base + number),
                (to - from).max(1.0),
                y_of(base) - y_of(base + number),
            );
            canvas.color(*color, 0.85);
            canvas.context.fill()?;
            base += number;
        }
    }
    let bias = mean(counted.iter().map(|counted| counted.line.error()));
    canvas.color(INK, 0.9);
    canvas.line((x_of(0.0), top), (x_of(0.0), top + high), 1.5)?;
    canvas.context.set_dash(&[6.0, 4.0], 0.0);
    canvas.line((x_of(bias), top), (x_of(bias), top + high), 1.5)?;
    canvas.context.set_dash(&[], 0.0);
    let beside = if bias < 0.0 { Align::Right } else { Align::Left };
    let gap = if bias < 0.0 { -6.0 } else { 6.0 };
    canvas.text(
        x_of(bias) + gap,
        top,
        &format!("bias {bias:+.2}"),
        Font(13.0, false),
        beside,
        120.0,
    );
    canvas.color(INK, 1.0);
    let words = format!("counted minus true, vehicles (bars of {bin})");
    canvas.text(
        left + wide / 2.0,
        top + high + 34.0,
        &words,
        Font(15.0, false),
        Align::Middle,
        wide,
    );
    canvas.context.save()?;
    canvas.context.translate(20.0, top + high / 2.0);
    canvas.context.rotate(-TAU / 4.0);
    canvas.text(0.0, 0.0, "pictures", Font(15.0, false), Align::Middle, high);
    canvas.context.restore()?;
    canvas.write(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_ones_twos_and_fives() {
        for (span, wanted, step) in [
            (10.0, 5.0, 2.0),
            (0.9, 9.0, 0.1),
            (130.0, 7.0, 20.0),
            (1.0, 32.0, 0.05),
            (41.0, 9.0, 5.0),
        ] {
            assert!(
                (nice_step(span, wanted) - step).abs() < 1e-12,
                "{span}/{wanted}: {}",
                nice_step(span, wanted)
            );
        }
        assert_eq!(
            (tick(-0.0, 0.5), tick(1.5, 0.5), tick(20.0, 20.0)),
            ("0.0".into(), "1.5".into(), "20".into())
        );
    }
}
