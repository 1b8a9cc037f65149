//! Rolling evaluation of the product's forecaster on one trace: every step is forecast before it is
//! seen, every forecast is compared with what came.

use foreshadow_predictor::{Forecaster, SeriesSpec};

use crate::Trace;
use crate::cell::Cell;

const DAY_MS: u64 = 86_400_000;
/// Quantile levels asked for; the outermost make the 90 % interval.
pub const LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
/// Horizons in steps of the trace; steps shorter than a second use [`FINE_HORIZONS_MS`].
const HORIZONS_STEPS: [u64; 5] = [1, 3, 10, 30, 100];
const FINE_HORIZONS_MS: [u64; 8] = [500, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 600_000];
/// The first part of each trace is learned from and not scored.
const WARM_UP_SHARE: usize = 10;

/// The series that a trace is to the forecaster: a day and a week are the known seasons (a week
/// and a year of daily steps), anything shorter has to be found.
pub fn spec_of(trace: &Trace) -> SeriesSpec {
    let step_ms = trace.step_ms;
    let horizons_ms = match step_ms < 1_000 {
        true => FINE_HORIZONS_MS.to_vec(),
        false => HORIZONS_STEPS.map(|steps| steps * step_ms).to_vec(),
    };
    let seasons_ms = match step_ms < DAY_MS {
        true => vec![DAY_MS, 7 * DAY_MS],
        false => vec![7 * DAY_MS, 365 * DAY_MS],
    };
    SeriesSpec { step_ms, horizons_ms, levels: LEVELS.to_vec(), seasons_ms }
}

/// Runs the forecaster over the whole trace; one [`Cell`] per horizon.
pub fn evaluate(trace: &Trace) -> Vec<Cell> {
    let spec = spec_of(trace);
    let mut forecaster = Forecaster::new(spec.clone());
    let prefix = Prefix::new(&trace.values);
    let scored_from = trace.values.len() / WARM_UP_SHARE;
    let mut cells: Vec<Cell> = spec.horizons_ms.iter().map(|ms| Cell::new(trace, *ms)).collect();
    let mut last = 0.0;
    for (at, value) in trace.values.iter().enumerate() {
        forecaster.observe(value.unwrap_or(f64::NAN));
        last = value.unwrap_or(last);
        if value.is_none() || at < scored_from {
            continue;
        }
        for (index, cell) in cells.iter_mut().enumerate() {
            let Some(target) = forecaster.target_steps(index) else { continue };
            let (from, to) = (at + *target.start() as usize, at + *target.end() as usize + 1);
            let Some(truth) = prefix.mean(from, to) else { continue };
            let hour = trace.hour((from + to) / 2);
            let forecast = &forecaster.forecast().horizons[index];
            cell.add(truth, hour, forecast, last, &forecaster.expert_means(index));
        }
    }
    let names = forecaster.expert_names();
    for (index, cell) in cells.iter_mut().enumerate() {
        cell.finish(&names, &forecaster.weights(index));
    }
    cells
}

/// Sums up to every step, for means over windows.
struct Prefix {
    sums: Vec<f64>,
    counts: Vec<usize>,
}

impl Prefix {
    fn new(values: &[Option<f64>]) -> Self {
        let (mut sums, mut counts) = (vec![0.0], vec![0]);
        for (index, value) in values.iter().enumerate() {
            sums.push(sums[index] + value.unwrap_or(0.0));
            counts.push(counts[index] + usize::from(value.is_some()));
        }
        Self { sums, counts }
    }

    /// Mean of what is known in `from..to`; none past the end or where not more than half is known.
    fn mean(&self, from: usize, to: usize) -> Option<f64> {
        let (sum, count) = (self.sums.get(to)?, self.counts.get(to)?);
        let known = count - self.counts[from];
        (2 * known > to - from).then(|| (sum - self.sums[from]) / known as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(values: Vec<Option<f64>>) -> Trace {
        Trace { name: "t".to_owned(), start_ms: 0, step_ms: 60_000, values }
    }

    #[test]
    fn a_constant_series_is_forecast_exactly_by_all() {
        let cells = evaluate(&trace(vec![Some(7.0); 600]));
        assert_eq!(cells.len(), 5);
        for cell in &cells {
            assert!(cell.mae < 1e-9 && cell.last_mae < 1e-9, "{} {}", cell.mae, cell.last_mae);
            assert_eq!(cell.coverage, 1.0);
            assert!(cell.points > 300);
        }
    }

    #[test]
    fn targets_with_mostly_unknown_steps_are_left_out() {
        let prefix = Prefix::new(&[Some(1.0), None, Some(3.0), None, None]);
        assert_eq!(prefix.mean(0, 3), Some(2.0));
        assert_eq!(prefix.mean(0, 4), None);
        assert_eq!(prefix.mean(2, 6), None);
    }
}
