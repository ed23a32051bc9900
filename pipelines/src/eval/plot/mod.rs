//! The pictures of an evaluation: scatter, histogram, and the pictures that were counted worst.

mod canvas;
mod chart;
mod worst;

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use anyhow::Result;
use canvas::{Align, Canvas, Font};
pub use chart::{errors, scatter};
pub use worst::worst;

use super::SampleCount;
use super::annotations::Sample;

/// Colours that colour-blind readers can tell apart (Okabe and Ito 2008), without the yellow, which
/// cannot be seen on white.
pub(crate) const COLORS: [[f64; 3]; 8] = [
    [0.0, 0.447, 0.698],
    [0.835, 0.369, 0.0],
    [0.0, 0.62, 0.451],
    [0.8, 0.475, 0.655],
    [0.902, 0.624, 0.0],
    [0.337, 0.706, 0.914],
    [0.35, 0.35, 0.38],
    [0.55, 0.34, 0.29],
];

const INK: [f64; 3] = [0.13, 0.15, 0.18];
const FAINT: [f64; 3] = [0.42, 0.45, 0.5];
const LINE: [f64; 3] = [0.87, 0.88, 0.9];

/// The kinds of scenes and their colours.
fn kinds(samples: &[Sample]) -> BTreeMap<&str, [f64; 3]> {
    let mut kinds: BTreeMap<&str, [f64; 3]> =
        samples.iter().map(|sample| (sample.kind.as_str(), [0.0; 3])).collect();
    kinds.values_mut().zip(COLORS.iter().cycle()).for_each(|(color, own)| *color = *own);
    kinds
}

/// Title, second line and legend.
fn head(canvas: &Canvas, title: &str, note: &str, kinds: &BTreeMap<&str, [f64; 3]>) -> Result<()> {
    let wide = f64::from(canvas.width);
    canvas.color(INK, 1.0);
    canvas.text(28.0, 16.0, title, Font(20.0, true), Align::Left, wide - 56.0);
    canvas.color(FAINT, 1.0);
    canvas.text(28.0, 44.0, note, Font(14.0, false), Align::Left, wide - 56.0);
    let mut x = 28.0;
    for (kind, color) in kinds {
        let length = f64::from(canvas.layout(kind, Font(14.0, false)).pixel_size().0);
        if x + length + 20.0 > wide - 28.0 {
            break;
        }
        canvas.color(*color, 0.85);
        canvas.context.arc(x + 6.0, 81.0, 6.0, 0.0, TAU);
        canvas.context.fill()?;
        canvas.color(INK, 1.0);
        canvas.text(x + 18.0, 72.0, kind, Font(14.0, false), Align::Left, length);
        x += length + 44.0;
    }
    Ok(())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, number) = values.fold((0.0, 0.0), |(sum, number), value| (sum + value, number + 1.0));
    sum / f64::max(number, 1.0)
}

fn note(counted: &[SampleCount]) -> String {
    let mae = mean(counted.iter().map(|counted| counted.line.error().abs()));
    let bias = mean(counted.iter().map(|counted| counted.line.error()));
    format!("{} pictures, MAE {mae:.2}, bias {bias:+.2} vehicles", counted.len())
}
