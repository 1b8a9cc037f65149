//! Forecasts from history, as a live node fits them: an hour ahead, from minutes of up to 14 days,
//! told to the controller with every observation.

use foreshadow_control::{DemandHorizon, QuantileSpec, Told};
use foreshadow_predictor::long::{History, LongSpec, Model};

use crate::Trace;

/// What the model is fitted to: minutes.
const STEP_MS: u64 = 60_000;
/// Fits of one run; of a longer one they are further apart, so that months take seconds.
const MOST_FITS: u64 = 1_500;

/// What is told by the model in force, and when the next one is due.
pub(crate) struct LongModel {
    quantiles: QuantileSpec,
    every_ms: u64,
    due_ms: u64,
    told: Option<Told>,
}

impl LongModel {
    pub(crate) fn new(quantiles: QuantileSpec, refit_s: Option<f64>, trace: &Trace) -> Self {
        let span_ms = trace.ticks() as u64 * trace.tick_ms;
        // Curves that are older than they reach are not told.
        let usual_ms = Told::EVERY_MS.max(span_ms / MOST_FITS).min(Told::REACH_MS);
        let every_ms = refit_s.map_or(usual_ms, |s| (s * 1_000.0) as u64);
        Self { quantiles, every_ms, due_ms: 0, told: None }
    }

    /// What is expected now and ahead, after so many ticks; refits when that is due.
    pub(crate) fn expect(&mut self, ticks: usize, trace: &Trace) -> Vec<DemandHorizon> {
        let passed_ms = ticks as u64 * trace.tick_ms;
        let now_ms = trace.start_ms.saturating_add(passed_ms);
        if passed_ms >= self.due_ms {
            self.due_ms = passed_ms.saturating_add(self.every_ms);
            if let Some(told) = self.fit(passed_ms, now_ms, trace) {
                self.told = Some(told);
            }
        }
        self.told.as_ref().map_or_else(Vec::new, |told| told.points(now_ms))
    }

    fn fit(&self, passed_ms: u64, now_ms: u64, trace: &Trace) -> Option<Told> {
        let first_ms = passed_ms.saturating_sub(Told::HISTORY_MS);
        let steps = usize::try_from((passed_ms - first_ms) / STEP_MS).unwrap_or(0);
        if steps < Told::LEAST_STEPS {
            return None;
        }
        // Whole minutes, counted back from now.
        let start_ms = passed_ms - steps as u64 * STEP_MS;
        let tick = |ms: u64| usize::try_from(ms / trace.tick_ms).unwrap_or(usize::MAX);
        let minute = |nth: usize| {
            let from_ms = start_ms + nth as u64 * STEP_MS;
            let first = tick(from_ms);
            let last = tick(from_ms + STEP_MS).max(first + 1);
            trace.mean_rps(first, last).filter(|_| !trace.is_gap(first))
        };
        let history = History {
            start_ms: trace.start_ms.saturating_add(start_ms),
            step_ms: STEP_MS,
            values: (0..steps).map(minute).collect(),
        };
        let QuantileSpec { commit, warm, prepare } = self.quantiles;
        let spec = LongSpec {
            levels: vec![commit, warm, prepare],
            horizon_ms: Told::REACH_MS,
            ..LongSpec::default()
        };
        // A history that nothing can be learned from leaves the former one in force.
        let model = Model::fit(&history, &spec, &[], &[]).ok()?;
        // It is used until the next fit.
        let ahead = usize::try_from((Told::REACH_MS + self.every_ms) / STEP_MS).unwrap_or(0) + 3;
        Some(Told::of(&model.forecast(now_ms, ahead), &self.quantiles, now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Between, Series};

    #[test]
    fn after_two_days_the_third_morning_is_foreseen() {
        let minute = |n: u32| if (480..1_200).contains(&(n % 1_440)) { 200.0 } else { 40.0 };
        let rps = (0..3 * 1_440).map(|n| Some(minute(n))).collect();
        let series = Series { start_ms: 0, step_ms: 60_000, rps };
        let trace = Trace::new(&series, 10_000, Between::Hold, Some(1)).expect("a trace");
        let quantiles = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };
        let mut model = LongModel::new(quantiles, None, &trace);
        assert!(model.expect(10, &trace).is_empty(), "nothing is known yet");
        let points = model.expect((2 * 1_440 + 450) * 6, &trace);
        let at = |minutes: u64| points.iter().find(|p| p.horizon_ms == minutes * 60_000);
        let near = at(10).expect("ten minutes ahead").median_rps;
        let far = at(45).expect("45 minutes ahead").median_rps;
        assert!((30.0..60.0).contains(&near) && (150.0..240.0).contains(&far), "{points:?}");
    }
}
