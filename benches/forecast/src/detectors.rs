//! What detectors make of each step of a series: simple ones, and the one of the risk model.

use std::collections::VecDeque;

use foreshadow_control::risk::{Surprise, Surprised};
use foreshadow_predictor::Forecaster;

use crate::Labelled;
use crate::evaluate::spec_of;

/// Values that the control chart knows: as many as the risk model remembers single ones.
const CHART: usize = 240;
/// Values below which the control chart says nothing.
const LEAST_CHART: usize = 20;
const DAY_MS: u64 = 86_400_000;

/// One way to score steps: larger is more suspicious, none where nothing is said.
pub struct Detector {
    /// Its name.
    pub name: &'static str,
    /// One score per step.
    pub scores: Vec<Option<f64>>,
}

impl Labelled {
    /// All detectors on this series, the simple ones first. Nothing is said of what is learned from.
    pub fn detectors(&self) -> Vec<Detector> {
        let values = &self.trace.values;
        let logs: Vec<Option<f64>> = values.iter().map(|v| v.map(|v| v.max(0.0).ln_1p())).collect();
        let day = (DAY_MS / self.trace.step_ms.max(1)) as usize;
        let scores = |all: Vec<Option<Surprised>>| -> Vec<Option<f64>> {
            all.into_iter().map(|now| Some(now?.spreads)).collect()
        };
        let mut detectors = vec![
            Detector { name: "fixed_band", scores: band(values) },
            Detector { name: "step", scores: changes(&logs, 1) },
            Detector { name: "day_before", scores: changes(&logs, day.max(1)) },
            Detector { name: "control_chart", scores: chart(values) },
            Detector { name: "live_level_only", scores: scores(self.surprises(false)) },
            Detector { name: "live", scores: scores(self.surprises(true)) },
        ];
        for detector in &mut detectors {
            detector.scores[..self.scored_from].fill(None);
        }
        detectors
    }

    /// What the risk model's detector says of each step, with or without forecasts of it.
    pub fn surprises(&self, forecast: bool) -> Vec<Option<Surprised>> {
        let mut forecaster = forecast.then(|| Forecaster::new(spec_of(&self.trace)));
        let mut surprise = Surprise::default();
        let mut expected: Option<f64> = None;
        let mut all = vec![];
        for value in &self.trace.values {
            let now = value.and_then(|value| {
                surprise.observe(value, expected);
                surprise.now()
            });
            all.push(now);
            if let Some(forecaster) = &mut forecaster {
                forecaster.observe(value.unwrap_or(f64::NAN));
                expected = Some(forecaster.forecast().quantile(self.trace.step_ms, 0.5));
            }
        }
        all
    }
}

/// A fixed band: standard deviations from the mean of the whole series, which a live threshold
/// would not know.
fn band(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let (mean, deviation) = moments(known.iter().copied());
    values.iter().map(|value| value.map(|value| (value - mean).abs() / deviation)).collect()
}

/// The change since so many steps before, as a logarithm.
fn changes(logs: &[Option<f64>], steps: usize) -> Vec<Option<f64>> {
    let change = |at: usize| Some((logs[at]? - (*logs.get(at.checked_sub(steps)?)?)?).abs());
    (0..logs.len()).map(change).collect()
}

/// Standard deviations from the mean of the values just before (Shewhart 1931).
fn chart(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut known: VecDeque<f64> = VecDeque::new();
    let mut scores = vec![];
    for value in values {
        let (mean, deviation) = moments(known.iter().copied());
        let enough = known.len() >= LEAST_CHART;
        scores.push(value.filter(|_| enough).map(|value| (value - mean).abs() / deviation));
        known.extend(value);
        if known.len() > CHART {
            known.pop_front();
        }
    }
    scores
}

/// Mean and standard deviation; the latter is never 0.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt().max(1e-9 * mean.abs()).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_detectors_see_a_spike() {
        let values: Vec<Option<f64>> = (0..60)
            .map(|at| Some(if at == 50 { 40.0 } else { 10.0 + f64::from(at % 3) }))
            .collect();
        let logs: Vec<Option<f64>> = values.iter().map(|v| v.map(f64::ln_1p)).collect();
        for scores in [band(&values), changes(&logs, 1), changes(&logs, 12), chart(&values)] {
            // The return from it is a change, too.
            let highest = scores[..=50].iter().flatten().copied().fold(0.0, f64::max);
            assert_eq!(scores[50], Some(highest));
        }
        assert_eq!(chart(&values)[5], None);
        assert_eq!(changes(&logs, 12)[3], None);
    }
}
