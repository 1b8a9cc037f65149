//! One reported metric between ticks.

use foreshadow_predictor::{Forecaster, SeriesSpec};

use super::MetricAhead;

const STEP_MS: u64 = 1_000;
/// Ticks of a step, usually.
const TICKS: u64 = 10;
const HORIZONS_MS: [u64; 3] = [30_000, 120_000, 600_000];
const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
/// Steps a forecaster must have seen before it is asked.
const LEAST_STEPS: u64 = 10;
/// Most steps of one observation that are told as a gap; a longer one is as good as this.
const LONGEST_GAP_STEPS: u64 = 3_600;
/// A forecaster takes a series for counts, so its values should not be small, and it takes none
/// above 1e9. Shares are such that this suits them.
const USUAL_GRAIN: f64 = 1e4;
const FINEST: f64 = 100.0;
const COARSEST: f64 = 1e8;
/// What a first value is brought to, give or take a power of ten.
const FITTING: f64 = 1e4;

/// A series that is forecast.
#[derive(Clone, Debug)]
pub(super) struct Series {
    forecaster: Box<Forecaster>,
    /// Its values are the series' times this power of ten.
    grain: f64,
    /// Whether any value was more than 0, which tells the magnitude.
    sized: bool,
    steps: u64,
    /// See [`Forecaster::in_turn`].
    turn: u64,
    /// Of the step under way.
    sum: f64,
    weight: f64,
    passed_ms: u64,
    /// Of the last step that had a value.
    last: Option<f64>,
    missing_ms: u64,
}

impl Series {
    /// The `nth` series: of some that follow each other, steps end in different ticks, and of those that
    /// end in the same one, far horizons are looked at in different steps.
    pub(super) fn new(nth: u64) -> Self {
        let turn = nth / TICKS;
        Self {
            forecaster: forecaster(turn),
            turn,
            grain: USUAL_GRAIN,
            sized: false,
            steps: 0,
            sum: 0.0,
            weight: 0.0,
            passed_ms: nth % TICKS * (STEP_MS / TICKS),
            last: None,
            missing_ms: 0,
        }
    }

    /// Lets `interval_ms` pass, at whose end `value` was reported.
    pub(super) fn observe(&mut self, value: Option<f64>, interval_ms: u64) {
        let interval_ms = interval_ms.max(1);
        match value {
            Some(value) => {
                self.sum += value * interval_ms as f64;
                self.weight += interval_ms as f64;
                self.missing_ms = 0;
            }
            None => self.missing_ms = self.missing_ms.saturating_add(interval_ms),
        }
        self.passed_ms = self.passed_ms.saturating_add(interval_ms);
        let steps = self.passed_ms / STEP_MS;
        if steps == 0 {
            return;
        }
        self.passed_ms %= STEP_MS;
        let mean = (self.weight > 0.0).then(|| self.sum / self.weight);
        (self.sum, self.weight) = (0.0, 0.0);
        if let Some(mean) = mean {
            self.last = Some(mean);
            self.fit(mean);
        }
        self.forecaster.observe_gap((steps - 1).min(LONGEST_GAP_STEPS));
        // What is no number counts as missing.
        self.forecaster.observe(mean.map_or(f64::NAN, |mean| mean * self.grain));
        self.steps = self.steps.saturating_add(u64::from(mean.is_some()));
    }

    /// Begins anew in another unit where `value` does not fit the one in use.
    fn fit(&mut self, value: f64) {
        if value <= 0.0 {
            return;
        }
        let too_small = !self.sized && value * self.grain < FINEST;
        self.sized = true;
        if !too_small && value * self.grain <= COARSEST {
            return;
        }
        self.grain = 1.0;
        // Bounded: nothing below a trillionth is told from nothing, nor is more than this reported.
        while value * self.grain < FITTING && self.grain < 1e15 {
            self.grain *= 10.0;
        }
        while value * self.grain > FITTING * 10.0 && self.grain > 1e-15 {
            self.grain /= 10.0;
        }
        (self.forecaster, self.steps) = (forecaster(self.turn), 0);
    }

    /// The mean of the last second with a value, unless a whole one without any has passed since.
    pub(super) fn current(&self) -> Option<f64> {
        self.last.filter(|_| self.missing_ms <= STEP_MS)
    }

    /// How long no value has come.
    pub(super) fn missing_ms(&self) -> u64 {
        self.missing_ms
    }

    /// What is predicted, by increasing horizon.
    pub(super) fn ahead(&self) -> Vec<MetricAhead> {
        if self.steps < LEAST_STEPS {
            return Vec::new();
        }
        let forecast = self.forecaster.forecast();
        let at = |horizon_ms: u64, level| forecast.quantile(horizon_ms, level) / self.grain;
        let horizons = forecast.horizons.iter().map(|h| h.horizon_ms);
        horizons
            .map(|horizon_ms| MetricAhead {
                horizon_ms,
                lower: at(horizon_ms, LEVELS[0]),
                median: at(horizon_ms, LEVELS[1]),
                upper: at(horizon_ms, LEVELS[2]),
            })
            .filter(|a| a.lower.is_finite() && a.median.is_finite() && a.upper.is_finite())
            .collect()
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.forecaster.memory_bytes()
    }
}

fn forecaster(turn: u64) -> Box<Forecaster> {
    let spec = SeriesSpec {
        step_ms: STEP_MS,
        horizons_ms: HORIZONS_MS.to_vec(),
        levels: LEVELS.to_vec(),
        seasons_ms: Vec::new(),
    };
    Box::new(Forecaster::new(spec).in_turn(turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_whose_steps_end_together_look_far_ahead_in_turn() {
        let mut series: Vec<Series> = (0..8).map(|nth| Series::new(nth * TICKS)).collect();
        let far = |series: &Series| series.ahead().last().map(|ahead| ahead.upper);
        let mut together = Vec::new();
        for step in 0..300_u64 {
            // Never still, and never a jump.
            let value = 0.5 + 0.01 * (step % 7) as f64;
            let moved = series.iter_mut().filter_map(|series| {
                let before = far(series);
                series.observe(Some(value), STEP_MS);
                (far(series) != before).then_some(())
            });
            together.push(moved.count());
        }
        let late = &together[100..];
        assert!(late.iter().all(|moved| *moved <= 1), "{late:?}");
        assert!(late.iter().sum::<usize>() > 100, "{late:?}");
    }
}
