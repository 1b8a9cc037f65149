//! What forecasts were worth, once the truth is looked up in the trace.

use foreshadow_control::HorizonView;

use crate::ledger::counts;
use crate::outcome::HorizonOutcome;
use crate::{Setup, Trace};

/// "Same as now" is the mean of this.
const NOW_MS: u64 = 2_000;

/// Sums by horizon.
pub(crate) struct Scores<'a> {
    trace: &'a Trace,
    setup: &'a Setup,
    horizons: Vec<HorizonOutcome>,
}

impl<'a> Scores<'a> {
    pub(crate) fn new(trace: &'a Trace, setup: &'a Setup) -> Self {
        Self { trace, setup, horizons: Vec::new() }
    }

    /// Takes what was forecast after so many ticks.
    pub(crate) fn add(&mut self, ticks: usize, forecast: &[HorizonView]) {
        if !counts(self.trace, self.setup, ticks) {
            return;
        }
        let steps = |ms: u64| usize::try_from(ms / self.trace.tick_ms).unwrap_or(1).max(1);
        let back = ticks.saturating_sub(steps(NOW_MS));
        let Some(now_rps) = self.trace.mean_rps(back, ticks) else { return };
        // Between whole ticks lie points that mark where a step of demand is expected.
        let tick_ms = self.trace.tick_ms;
        let whole = |view: &&HorizonView| view.horizon_ms.is_multiple_of(tick_ms);
        for view in forecast.iter().filter(whole) {
            let window = steps((view.horizon_ms / 10).max(1_000));
            let end = ticks + steps(view.horizon_ms) + window / 2;
            let start = end.saturating_sub(window).max(ticks);
            let Some(truth_rps) = self.trace.mean_rps(start, end) else { continue };
            self.horizon(view.horizon_ms).add(view, truth_rps, now_rps);
        }
    }

    fn horizon(&mut self, horizon_ms: u64) -> &mut HorizonOutcome {
        let at = self.horizons.partition_point(|h| h.horizon_ms < horizon_ms);
        if self.horizons.get(at).is_none_or(|h| h.horizon_ms != horizon_ms) {
            self.horizons.insert(at, HorizonOutcome { horizon_ms, ..HorizonOutcome::default() });
        }
        &mut self.horizons[at]
    }

    /// Sums into means.
    pub(crate) fn close(self) -> Vec<HorizonOutcome> {
        let mean = |h: HorizonOutcome| {
            let n = h.scored.max(1) as f64;
            HorizonOutcome {
                mae_rps: h.mae_rps / n,
                naive_mae_rps: h.naive_mae_rps / n,
                covered: h.covered / n,
                below_lower: h.below_lower / n,
                below_upper: h.below_upper / n,
                width_rps: h.width_rps / n,
                ..h
            }
        };
        self.horizons.into_iter().map(mean).collect()
    }
}

impl HorizonOutcome {
    fn add(&mut self, view: &HorizonView, truth_rps: f64, now_rps: f64) {
        let one = |holds: bool| f64::from(u8::from(holds));
        self.scored += 1;
        self.mae_rps += (view.median_rps - truth_rps).abs();
        self.naive_mae_rps += (now_rps - truth_rps).abs();
        self.covered += one((view.lower_rps..=view.upper_rps).contains(&truth_rps));
        self.below_lower += one(truth_rps <= view.lower_rps);
        self.below_upper += one(truth_rps <= view.upper_rps);
        self.width_rps += view.upper_rps - view.lower_rps;
    }
}
