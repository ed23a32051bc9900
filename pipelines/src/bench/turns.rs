//! Measurements that take turns: a machine that grows slower meanwhile favours none of them.

use anyhow::Result;

use super::figure::{Figure, Ratio, Section, Spread, Subject};
use super::rate::median;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// In the unit of its figure.
    pub value: f64,
    /// Seconds of processor time for a frame, where known.
    pub processor: Option<f64>,
}

/// What takes turns.
pub(super) struct Contender<'a> {
    /// As of [`Figure`].
    pub name: String,
    /// As of [`Figure`].
    pub subject: Subject,
    /// As of [`Figure`].
    pub unit: &'static str,
    /// Measures once.
    pub measure: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// How often the first one has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// All as often, one after the other.
    Alike,
    /// The first one before and after each other one, which is compared with the mean of the two.
    FirstBetween,
}

/// Measures all `contenders` in `rounds`; all but the first one have their ratio to it.
pub(super) fn take(
    section: Section,
    rounds: u32,
    turns: Turns,
    contenders: &mut [Contender<'_>],
) -> Result<Vec<Figure>> {
    let Some((first, others)) = contenders.split_first_mut() else { return Ok(Vec::new()) };
    let mut own = vec![(first.measure)()?];
    // Of each other one: what it measured, and what the first one did around it.
    let mut held: Vec<Vec<(Sample, Sample)>> = vec![Vec::new(); others.len()];
    for round in 0..rounds {
        if turns == Turns::Alike && round > 0 {
            own.push((first.measure)()?);
        }
        for (other, held) in others.iter_mut().zip(&mut held) {
            let before = own[own.len() - 1];
            let sample = (other.measure)()?;
            let base = match turns {
                Turns::Alike => before,
                Turns::FirstBetween => {
                    let after = (first.measure)()?;
                    own.push(after);
                    Sample { value: (before.value + after.value) / 2.0, ..after }
                }
            };
            held.push((sample, base));
        }
        if turns == Turns::FirstBetween && held.is_empty() && round > 0 {
            own.push((first.measure)()?);
        }
    }
    let base = figure(section, first, &own);
    let mut figures: Vec<Figure> = Vec::new();
    for (other, held) in others.iter().zip(&held) {
        let samples: Vec<Sample> = held.iter().map(|(sample, _)| *sample).collect();
        // On a machine that is very busy a short round may have no frame.
        let ratios: Vec<f64> = held
            .iter()
            .filter(|(_, base)| base.value > 0.0)
            .map(|(sample, base)| sample.value / base.value)
            .collect();
        let mut figure = figure(section, other, &samples);
        let processor = base.processor_ms.zip(figure.processor_ms);
        figure.ratio = Spread::of(&ratios).map(|spread| Ratio {
            to: base.name.clone(),
            spread,
            processor: processor.map(|(base, own)| base / own.max(1e-9)),
        });
        figures.push(figure);
    }
    figures.insert(0, base);
    Ok(figures)
}

fn figure(section: Section, contender: &Contender<'_>, samples: &[Sample]) -> Figure {
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let mut processor: Vec<f64> =
        samples.iter().filter_map(|sample| Some(sample.processor? * 1e3)).collect();
    Figure {
        section,
        name: contender.name.clone(),
        subject: contender.subject.clone(),
        unit: contender.unit.to_owned(),
        spread: Spread::of(&values).unwrap_or(Spread::single(0.0)),
        processor_ms: (!processor.is_empty()).then(|| median(&mut processor)),
        ratio: None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A contender that notes its turns and gives `values` one after the other.
    fn scripted<'a>(
        name: &'static str,
        turns: &'a RefCell<String>,
        mut values: impl Iterator<Item = f64> + 'a,
    ) -> Contender<'a> {
        Contender {
            name: name.to_owned(),
            subject: Subject::default(),
            unit: "frames/s",
            measure: Box::new(move || {
                turns.borrow_mut().push_str(name);
                let value = values.next().unwrap_or(0.0);
                Ok(Sample { value, processor: Some(1.0 / value) })
            }),
        }
    }

    #[test]
    fn first_one_is_measured_around_each_other_one() {
        let turns = RefCell::new(String::new());
        let mut contenders = [
            // A machine that grows slower all the time.
            scripted("a", &turns, (0..).map(|turn| 100.0 - 10.0 * f64::from(turn))),
            scripted("b", &turns, [95.0, 75.0].into_iter()),
            scripted("c", &turns, [85.0, 65.0].into_iter()),
        ];
        let figures =
            take(Section::Element, 2, Turns::FirstBetween, &mut contenders).unwrap_or_default();
        drop(contenders);
        assert_eq!(turns.into_inner(), "abacabaca");
        let ratios: Vec<_> =
            figures.iter().filter_map(|figure| Some(figure.ratio.as_ref()?.spread)).collect();
        assert_eq!(ratios, [Spread::single(1.0); 2]);
    }

    #[test]
    fn all_take_turns_alike() {
        let turns = RefCell::new(String::new());
        let mut contenders = [
            scripted("a", &turns, [100.0, 50.0, 80.0].into_iter()),
            scripted("b", &turns, [50.0, 20.0, 48.0].into_iter()),
        ];
        let figures = take(Section::Files, 3, Turns::Alike, &mut contenders).unwrap_or_default();
        drop(contenders);
        assert_eq!(turns.into_inner(), "ababab");
        assert_eq!(figures[0].spread, Spread { median: 80.0, lowest: 50.0, highest: 100.0 });
        let ratio = figures[1].ratio.clone().map(|ratio| (ratio.to, ratio.spread.median));
        assert_eq!(ratio, Some(("a".to_owned(), 0.5)));
    }
}
