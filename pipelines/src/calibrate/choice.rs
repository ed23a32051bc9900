//! Which of several settings counts best, judged on few pictures.
//!
//! Few pictures oversell what is fitted on them. So every error is measured on a picture that the
//! fit has not seen (leave-one-out: Stone, "Cross-validatory choice and assessment of statistical
//! predictions", Journal of the Royal Statistical Society B 1974), the error of the whole procedure
//! too, and of candidates that chance cannot tell apart the simplest is taken (the one standard
//! error rule: Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984).

use std::cmp::Ordering;

/// A factor outside these is no calibration: what it would correct is not seen.
const FACTORS: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// A candidate must be better than what is set by this share of the mean truth.
const LEAST_GAIN: f64 = 0.02;

/// What one setting counts on each picture.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Counts before any factor, in the order of the pictures.
    pub counts: Vec<f64>,
    /// What a picture costs: inputs, weighed by their area; 1 is one input of the normal size.
    pub cost: f64,
    /// The factor that is set for it; `None` fits one.
    pub factor: Option<f64>,
}

impl Candidate {
    /// The factor that makes the sum of the counts of `pictures` that of `truths`.
    fn fitted(&self, truths: &[f64], pictures: &[usize]) -> f64 {
        if let Some(factor) = self.factor {
            return factor;
        }
        let sum = |values: &[f64]| pictures.iter().map(|&index| values[index]).sum::<f64>();
        let factor = sum(truths) / sum(&self.counts);
        if FACTORS.contains(&factor) { factor } else { 1.0 }
    }

    /// The factor fitted on all pictures.
    pub fn final_factor(&self, truths: &[f64]) -> f64 {
        self.fitted(truths, &(0..truths.len()).collect::<Vec<_>>())
    }

    /// The absolute error on each of `pictures`, the factor being fitted on the others of them.
    fn errors(&self, truths: &[f64], pictures: &[usize]) -> Vec<f64> {
        let error = |&left: &usize| {
            let others: Vec<_> = pictures.iter().copied().filter(|&other| other != left).collect();
            (self.counts[left] * self.fitted(truths, &others) - truths[left]).abs()
        };
        pictures.iter().map(error).collect()
    }

    /// The mean absolute error, each picture left out in turn.
    pub fn error(&self, truths: &[f64]) -> f64 {
        mean(&self.errors(truths, &(0..truths.len()).collect::<Vec<_>>()))
    }
}

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Index of the candidate; 0: nothing is better than what is set by more than chance.
    pub index: usize,
    /// The mean absolute error of choosing so, on pictures that neither choice nor factor has seen.
    pub error: f64,
}

/// The best of `candidates`, the first of which is what is set now. There are at least three
/// pictures.
pub fn choose(candidates: &[Candidate], truths: &[f64]) -> Choice {
    let all: Vec<_> = (0..truths.len()).collect();
    let index = best(candidates, truths, &all);
    let outside = |&left: &usize| {
        let others: Vec<_> = all.iter().copied().filter(|&other| other != left).collect();
        let chosen = &candidates[best(candidates, truths, &others)];
        (chosen.counts[left] * chosen.fitted(truths, &others) - truths[left]).abs()
    };
    let error = mean(&all.iter().map(outside).collect::<Vec<_>>());
    // What does not hold on pictures that were left out is no gain.
    let now = candidates[0].error(truths);
    if error >= now { Choice { index: 0, error: now } } else { Choice { index, error } }
}

/// The simplest candidate that chance cannot tell from the best one, by the errors on `pictures`.
fn best(candidates: &[Candidate], truths: &[f64], pictures: &[usize]) -> usize {
    let errors: Vec<_> =
        candidates.iter().map(|candidate| candidate.errors(truths, pictures)).collect();
    let truth = pictures.iter().map(|&index| truths[index]).sum::<f64>() / pictures.len() as f64;
    let by_error = |a: &usize, b: &usize| mean(&errors[*a]).total_cmp(&mean(&errors[*b]));
    let least = (0..candidates.len()).min_by(by_error).unwrap_or(0);
    // Equal but for chance: the mean difference is below its standard error.
    let is_equal = |a: usize, b: usize| {
        let differences: Vec<_> = errors[a].iter().zip(&errors[b]).map(|(a, b)| a - b).collect();
        mean(&differences) <= standard_error(&differences).max(LEAST_GAIN * truth)
    };
    if is_equal(0, least) {
        return 0;
    }
    // An input below the normal one is no simpler: it sees less.
    let simplicity = |index: usize| {
        let candidate = &candidates[index];
        let factor = candidate.fitted(truths, pictures).ln().abs();
        [candidate.cost.max(1.0), factor, mean(&errors[index])]
    };
    let equal = (0..candidates.len()).filter(|&index| is_equal(index, least));
    let cheapest = equal.min_by(|&a, &b| {
        let pairs = simplicity(a).into_iter().zip(simplicity(b));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    cheapest.unwrap_or(least)
}

/// The mean absolute error of always answering the mean of the other pictures: what a count must
/// beat for the pictures to say anything of it.
pub fn baseline(truths: &[f64]) -> f64 {
    let (sum, others) = (truths.iter().sum::<f64>(), truths.len() as f64 - 1.0);
    mean(&truths.iter().map(|truth| ((sum - truth) / others - truth).abs()).collect::<Vec<_>>())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard error of the mean.
fn standard_error(values: &[f64]) -> f64 {
    let (mean, n) = (mean(values), values.len() as f64);
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (square / (n - 1.0).max(1.0) / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTHS: [f64; 6] = [10.0, 14.0, 8.0, 20.0, 12.0, 16.0];

    fn candidate(counts: [f64; 6], cost: f64, factor: Option<f64>) -> Candidate {
        Candidate { counts: counts.to_vec(), cost, factor }
    }

    fn times(factor: f64) -> [f64; 6] {
        TRUTHS.map(|truth| truth * factor)
    }

    /// Errors of either sign that no factor mends.
    fn noisy(size: f64) -> [f64; 6] {
        let signs = [1.0, -1.0, -1.0, 1.0, 1.0, -1.0];
        std::array::from_fn(|index| TRUTHS[index] + signs[index] * size)
    }

    #[test]
    fn camera_that_counts_too_few_everywhere_gets_a_factor() {
        let counts = times(0.8);
        let candidates = [candidate(counts, 1.0, Some(1.0)), candidate(counts, 1.0, None)];
        let choice = choose(&candidates, &TRUTHS);
        assert_eq!(choice.index, 1);
        assert!((candidates[1].final_factor(&TRUTHS) - 1.25).abs() < 1e-9);
        assert!(choice.error < 1e-9, "{choice:?}");
    }

    #[test]
    fn right_counts_stay_as_they_are() {
        let candidates = [
            candidate(noisy(1.0), 1.0, Some(1.0)),
            candidate(noisy(1.0), 1.0, None),
            candidate(noisy(0.95), 4.0, Some(1.0)),
        ];
        assert_eq!(choose(&candidates, &TRUTHS).index, 0);
    }

    #[test]
    fn of_equal_ones_the_cheapest_is_taken_and_a_better_one_is_worth_its_cost() {
        let now = candidate(times(0.4), 1.0, Some(1.0));
        let cheap = candidate(noisy(1.0), 2.0, Some(1.0));
        let equal = candidate(noisy(0.9), 5.0, Some(1.0));
        let better = candidate(noisy(0.1), 5.0, Some(1.0));
        let of = |last: Candidate| choose(&[now.clone(), last, cheap.clone()], &TRUTHS).index;
        assert_eq!(of(equal), 2);
        assert_eq!(of(better), 1);
    }

    #[test]
    fn factor_fitted_on_few_pictures_is_judged_on_the_one_that_it_has_not_seen() {
        // Two of three counts are right; on all three a factor looks better than it is.
        let truths = [10.0, 10.0, 30.0];
        let counts = vec![10.0, 10.0, 10.0];
        let candidates = [
            Candidate { counts: counts.clone(), cost: 1.0, factor: Some(1.0) },
            Candidate { counts, cost: 1.0, factor: None },
        ];
        assert_eq!(choose(&candidates, &truths).index, 0);
    }

    #[test]
    fn smaller_input_is_no_simpler_than_the_normal_one() {
        let candidates = [
            candidate(times(0.5), 3.0, Some(1.0)),
            candidate(times(0.7), 0.5, None),
            candidate(times(0.9), 1.0, None),
        ];
        assert_eq!(choose(&candidates, &TRUTHS).index, 2);
    }

    #[test]
    fn baseline_is_the_mean_of_the_others() {
        assert!((baseline(&[1.0, 2.0, 6.0]) - (3.0 + 1.5 + 4.5) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn factor_that_would_invent_vehicles_is_not_fitted() {
        for counts in [times(0.1), [0.0; 6], times(5.0)] {
            assert_eq!(candidate(counts, 1.0, None).final_factor(&TRUTHS), 1.0);
        }
    }
}
