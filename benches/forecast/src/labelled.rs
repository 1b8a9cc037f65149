//! Series whose failures are labelled, and what detectors make of each step of them.

use std::path::Path;

use foreshadow_control::risk::{Drift, DriftSpec, Surprise};
use foreshadow_predictor::Forecaster;

use crate::evaluate::spec_of;
use crate::parse::{Table, TraceError, read_table};
use crate::trace::Trace;

const LABELLED: [&str; 5] = [
    "ms_mongodb-machine-rps_machine-01",
    "ms_mongodb-application-rps_mongo-02",
    "ms_data-ingress-rate_ingress-01",
    "ms_data-ingress-rate_ingress-04",
    "ms_ecommerce_api_rps_1h_labelled",
];
/// The live model's way of telling a lasting drift: medians of five values against a past of 120.
const LASTING: DriftSpec =
    DriftSpec { block: 5, past: 120, least_spread: 0.02, heeds_tails: false };
/// The same code on single values, for failures of one step.
const SINGLE: DriftSpec = DriftSpec { block: 1, past: 120, least_spread: 0.02, heeds_tails: false };
/// The first part of each series is learned from and not scored.
const WARM_UP_SHARE: usize = 10;

/// One series and the steps that are labelled as failures.
pub struct Labelled {
    /// Values.
    pub trace: Trace,
    /// Labelled spans of steps, first and one past the last.
    pub spans: Vec<(usize, usize)>,
    /// Steps from here on are scored.
    pub scored_from: usize,
}

/// One way to score steps: larger is more suspicious, none where nothing is said.
pub struct Detector {
    /// Its name.
    pub name: &'static str,
    /// One score per step.
    pub scores: Vec<Option<f64>>,
}

/// The labelled series that are in `dir`.
///
/// # Errors
///
/// [`TraceError`] when a file is there and cannot be read.
pub fn load_labelled(dir: &Path) -> Result<Vec<Labelled>, TraceError> {
    let mut series = vec![];
    for name in LABELLED {
        let path = dir.join(format!("{name}.csv.gz"));
        if path.is_file() {
            series.extend(labelled(name, &read_table(&path)?));
        }
    }
    Ok(series)
}

fn labelled(name: &str, table: &Table) -> Option<Labelled> {
    let column = |nth: usize| -> Vec<(i64, f64)> {
        table.rows.iter().filter_map(|(at_ms, row)| Some((*at_ms, (*row.get(nth)?)?))).collect()
    };
    let trace = Trace::from_moments(name, &column(0))?;
    let labels = Trace::from_moments(name, &column(1))?;
    let is_marked = |at: usize| labels.values.get(at).copied().flatten().is_some_and(|l| l > 0.0);
    let mut spans: Vec<(usize, usize)> = vec![];
    for at in (0..trace.values.len()).filter(|at| is_marked(*at)) {
        match spans.last_mut() {
            Some((_, end)) if *end == at => *end = at + 1,
            _ => spans.push((at, at + 1)),
        }
    }
    let scored_from = trace.values.len() / WARM_UP_SHARE;
    spans.retain(|(start, _)| *start >= scored_from);
    Some(Labelled { trace, spans, scored_from })
}

impl Labelled {
    /// All detectors on this series, the simple baselines first.
    pub fn detectors(&self) -> Vec<Detector> {
        let values = &self.trace.values;
        let logarithm = |value: f64| value.max(0.0).ln_1p();
        let logs: Vec<Option<f64>> = values.iter().map(|v| v.map(logarithm)).collect();
        let surprises = self.surprises();
        let single = drifts(&logs, SINGLE);
        let lasting = drifts(&logs, LASTING);
        let surprise = drifts(&surprises, SINGLE);
        let lasting_surprise = drifts(&surprises, LASTING);
        let either = |a: &[Option<f64>], b: &[Option<f64>]| -> Vec<Option<f64>> {
            a.iter().zip(b).map(|(a, b)| a.map_or(*b, |a| Some(a.max(b.unwrap_or(0.0))))).collect()
        };
        let combined = either(&surprise, &lasting_surprise);
        vec![
            Detector { name: "threshold", scores: thresholds(values) },
            Detector { name: "step", scores: steps(&logs) },
            Detector { name: "drift_single", scores: single },
            Detector { name: "drift_lasting", scores: lasting },
            Detector { name: "surprise_single", scores: surprise },
            Detector { name: "surprise_lasting", scores: lasting_surprise },
            Detector { name: "surprise", scores: combined },
            Detector { name: "new", scores: self.newly() },
        ]
    }

    fn newly(&self) -> Vec<Option<f64>> {
        let mut forecaster = Forecaster::new(spec_of(&self.trace));
        let mut surprise = Surprise::default();
        let mut expected: Option<f64> = None;
        let mut scores = vec![];
        for value in &self.trace.values {
            surprise.observe(value.unwrap_or(f64::NAN), expected);
            scores.push(value.and_then(|_| surprise.now()).map(|now| now.spreads));
            forecaster.observe(value.unwrap_or(f64::NAN));
            expected = Some(forecaster.forecast().quantile(self.trace.step_ms, 0.5));
        }
        scores
    }

    /// By how much each step differs from what was forecast for it, as a logarithm.
    fn surprises(&self) -> Vec<Option<f64>> {
        let mut forecaster = Forecaster::new(spec_of(&self.trace));
        let mut surprises = vec![];
        let mut expected: Option<f64> = None;
        for value in &self.trace.values {
            let surprise = value
                .zip(expected)
                .map(|(value, expected)| value.max(0.0).ln_1p() - expected.max(0.0).ln_1p());
            surprises.push(surprise);
            forecaster.observe(value.unwrap_or(f64::NAN));
            expected = Some(forecaster.forecast().quantile(self.trace.step_ms, 0.5));
        }
        surprises
    }
}

/// Robust deviations of each step from its own past, either way.
fn drifts(values: &[Option<f64>], spec: DriftSpec) -> Vec<Option<f64>> {
    let mut drift = Drift::new(spec);
    let mut scores = vec![];
    for value in values {
        value.iter().for_each(|value| drift.observe(*value));
        scores.push(value.and_then(|_| drift.deviation()).map(|d| d.spreads.abs()));
    }
    scores
}

/// A fixed band: distance from the middle of the whole series, which a live threshold would not
/// know.
fn thresholds(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    values.iter().map(|value| value.map(|value| (value - mean).abs())).collect()
}

/// The change since the step before.
fn steps(logs: &[Option<f64>]) -> Vec<Option<f64>> {
    let pairs = logs.windows(2).map(|pair| Some((pair[1]? - pair[0]?).abs()));
    std::iter::once(None).chain(pairs).collect()
}
