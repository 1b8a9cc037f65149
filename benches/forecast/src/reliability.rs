//! Whether probabilities come true: predicted beside observed, for recordings that had no part in
//! either.

use foreshadow_control::risk::{Calibration, Surprised};
use serde::Serialize;

use crate::Labelled;

/// A failure that is labelled from a step to so many later ones is what is predicted at it.
const HORIZON_STEPS: usize = 5;
const HOUR_MS: u64 = 3_600_000;
/// Steps of the fit, which converges in about eight (Newton), and its ridge.
const FIT_STEPS: usize = 20;
const RIDGE: f64 = 1.0;
/// Weight of one outcome: as in the risk model.
const WEIGHT: f64 = 0.5;
/// Upper ends of the bins.
const BINS: [f64; 9] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0];

/// Steps whose predicted probability is in one range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    /// The most that is predicted.
    pub up_to: f64,
    /// Steps.
    pub steps: usize,
    /// Mean of what is predicted.
    pub predicted: f64,
    /// The share that came true.
    pub observed: f64,
}

/// Predicted beside observed, each for the series that had no part in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// Intercept and slope on [`Surprised::log_odds`] that were fitted to all other series, by series.
    pub fitted: Vec<[f64; 2]>,
    /// By the probability that follows from these.
    pub by_others: Vec<Bin>,
    /// The same corrected by what became of earlier predictions, as the risk model does.
    pub corrected: Vec<Bin>,
    /// Mean squared error of both (Brier 1950), and of predicting the share of failures itself.
    pub brier: [f64; 3],
}

/// Evidence of a step, and whether it came true.
type Sample = (f64, bool);

/// Predicts of every step whether a failure is labelled there or in the next five (of hourly ones
/// the next), from the surprises of one series in each.
pub fn reliability(series: &[(&Labelled, Vec<Option<Surprised>>)]) -> Reliability {
    let samples: Vec<Vec<Sample>> =
        series.iter().map(|(labelled, now)| samples(labelled, now)).collect();
    let (mut by_others, mut corrected, mut all_fitted) = (vec![], vec![], vec![]);
    for (held, own) in samples.iter().enumerate() {
        let others = samples.iter().enumerate().filter(|(at, _)| *at != held);
        let others: Vec<&[Sample]> = others.map(|(_, samples)| &**samples).collect();
        let [base, slope] = fit(&others);
        all_fitted.push([base, slope]);
        let odds: Vec<Sample> = own.iter().map(|(x, failed)| (base + slope * x, *failed)).collect();
        let untaught = Calibration::default();
        by_others.extend(odds.iter().map(|(x, failed)| (untaught.probability(*x), *failed)));
        corrected.extend(as_it_goes(&odds));
    }
    let failed = by_others.iter().filter(|(_, failed)| *failed).count();
    let share = failed as f64 / by_others.len().max(1) as f64;
    let constant: Vec<Sample> = by_others.iter().map(|(_, failed)| (share, *failed)).collect();
    Reliability {
        fitted: all_fitted,
        brier: [brier(&by_others), brier(&corrected), brier(&constant)],
        by_others: bins(&by_others),
        corrected: bins(&corrected),
    }
}

/// Predictions by what was learned of those whose time was over.
fn as_it_goes(odds: &[Sample]) -> Vec<Sample> {
    let mut calibration = Calibration::default();
    let mut predicted = vec![];
    for (at, (x, failed)) in odds.iter().enumerate() {
        predicted.push((calibration.probability(*x), *failed));
        if let Some((x, failed)) = at.checked_sub(HORIZON_STEPS).and_then(|at| odds.get(at)) {
            calibration.learn(*x, *failed, WEIGHT);
        }
    }
    predicted
}

/// Logistic regression by Newton's method, every series counting alike.
fn fit(series: &[&[Sample]]) -> [f64; 2] {
    let [mut base, mut slope] = [-4.0, 1.0];
    for _ in 0..FIT_STEPS {
        let (mut gradient, mut curvature) = ([0.0; 2], [RIDGE, 0.0, RIDGE]);
        for samples in series {
            let weight = 10_000.0 / samples.len().max(1) as f64;
            for (x, failed) in *samples {
                let p = 1.0 / (1.0 + (-(base + slope * x)).exp());
                let error = weight * (f64::from(u8::from(*failed)) - p);
                let variance = weight * p * (1.0 - p);
                gradient = [gradient[0] + error, gradient[1] + error * x];
                let [a, b, c] = curvature;
                curvature = [a + variance, b + variance * x, c + variance * x * x];
            }
        }
        let [a, b, c] = curvature;
        let determinant = (a * c - b * b).max(1e-9);
        base += (c * gradient[0] - b * gradient[1]) / determinant;
        slope += (a * gradient[1] - b * gradient[0]) / determinant;
    }
    [base, slope]
}

fn samples(labelled: &Labelled, surprises: &[Option<Surprised>]) -> Vec<Sample> {
    let ahead = if labelled.trace.step_ms < HOUR_MS { HORIZON_STEPS } else { 1 };
    let fails = |at: usize| labelled.spans.iter().any(|(from, to)| at + ahead >= *from && at < *to);
    let sample = |at: usize| Some((surprises[at]?.log_odds(), fails(at)));
    (labelled.scored_from..surprises.len()).filter_map(sample).collect()
}

fn brier(predicted: &[Sample]) -> f64 {
    let error = |(p, failed): &Sample| (p - f64::from(u8::from(*failed))).powi(2);
    predicted.iter().map(error).sum::<f64>() / predicted.len().max(1) as f64
}

fn bins(predicted: &[Sample]) -> Vec<Bin> {
    let mut bins = BINS.map(|up_to| Bin { up_to, ..Bin::default() });
    for (p, failed) in predicted {
        let at = BINS.partition_point(|up_to| up_to < p).min(BINS.len() - 1);
        bins[at].steps += 1;
        bins[at].predicted += p;
        bins[at].observed += f64::from(u8::from(*failed));
    }
    for bin in &mut bins {
        let steps = bin.steps.max(1) as f64;
        (bin.predicted, bin.observed) = (bin.predicted / steps, bin.observed / steps);
    }
    bins.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_what_is_predicted_and_what_came() {
        let bins = bins(&[(0.01, false), (0.15, false), (0.15, true), (1.0, true)]);
        assert_eq!((bins[0].steps, bins[0].observed), (1, 0.0));
        assert_eq!((bins[3].steps, bins[3].predicted, bins[3].observed), (2, 0.15, 0.5));
        assert_eq!((bins[8].steps, bins[8].observed), (1, 1.0));
        assert_eq!(brier(&[(0.5, true), (1.0, true)]), 0.125);
    }

    #[test]
    fn a_fit_finds_the_odds_that_made_the_outcomes() {
        // Of 100 at evidence 0 ten fail, at evidence 4 eighty: log-odds -2.2 and 1.39.
        let all: Vec<Sample> =
            (0..200).map(|n| if n < 100 { (0.0, n < 10) } else { (4.0, n < 180) }).collect();
        let [base, slope] = fit(&[&all, &all]);
        assert!((base + 2.2).abs() < 0.05 && (base + 4.0 * slope - 1.39).abs() < 0.05);
    }
}
