//! One horizon of a series: what is predicted, what came true, what was learned from it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::HorizonForecast;
use crate::aggregate::Hedge;
use crate::check::{self, Checked};
use crate::conformal::{Band, Outcome};
use crate::experts::{Experts, FEATURES, LAST, Now, Rls};
use crate::level::Level;
use crate::pending::Pending;
use crate::score::HorizonScore;
use crate::window::{MAX_WINDOW, Window};

/// Predictions of one horizon that may wait at the same time, about.
const PENDING: u64 = 64;
/// Point forecasts stay below this many times the largest recent rate, plus the trend's growth.
const MAX_GROWTH: f64 = 3.0;
/// With more predictions than this waiting at once, learning slows down in proportion: their truths
/// err together, and what is learned shows only after all of them.
const INDEPENDENT_TRUTHS: f64 = 20.0;
/// How much the experts' losses count when the level jumped between prediction and truth: no one
/// could know, so whoever came closest was mostly lucky.
const SURPRISED_TRUST: f64 = 0.3;
/// A truth beyond [`MAX_GROWTH`] times what was there and forecast, and this many sigmas more, belongs
/// to another regime: demand came out of idleness.
const WAKING_SIGMAS: f64 = 6.0;
/// Fields of a pending row that are not predictions, features or quantiles.
const FIXED_FIELDS: usize = 5;
/// Most experts a series can have.
const MAX_EXPERTS: usize = 16;

/// What all horizons of a series predict from.
pub(crate) struct Sight<'a> {
    pub(crate) experts: &'a Experts,
    pub(crate) level: &'a Level,
    /// Size of the series, positive: what least squares measures departures in.
    pub(crate) size: f64,
    /// Largest recent rate.
    pub(crate) peak: f64,
    /// Number of the newest step.
    pub(crate) step: u64,
    pub(crate) features: [f64; FEATURES],
}

/// What all horizons of a series learn from.
pub(crate) struct Came<'a> {
    pub(crate) window: &'a Window,
    pub(crate) levels: &'a [f64],
    /// Number of the newest step.
    pub(crate) step: u64,
    /// Number of the last step at which the level jumped; 0 when it did not, or was a ramp after all.
    pub(crate) jumped_at: u64,
}

/// The steps, counted from now, whose mean rate a horizon means.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Target {
    /// Last step of the window.
    end: u64,
    /// Length of the window.
    steps: usize,
    /// Middle of the window, rounded up.
    centre: u64,
}

impl Target {
    /// One second or a tenth of the horizon, whichever is longer, centred on the horizon but not
    /// reaching back to steps already seen.
    fn new(step_ms: u64, horizon_ms: u64) -> Self {
        let horizon = (horizon_ms / step_ms).max(1);
        let steps = ((horizon_ms / 10).max(1_000) / step_ms).clamp(1, MAX_WINDOW as u64);
        let start = horizon.saturating_sub(steps.saturating_sub(1) / 2).max(1);
        let end = start + steps - 1;
        Self { end, steps: steps as usize, centre: (start + end).div_ceil(2) }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Horizon {
    target: Target,
    stride: u64,
    trend_reach: [f64; 3],
    hedge: Hedge,
    rls: Rls,
    band: Band,
    pending: Pending,
    score: HorizonScore,
    /// Ordinary absolute error in the unit of the series while the experts agree, as of the newest
    /// step.
    error_now: f64,
}

impl Horizon {
    pub(crate) fn new(step_ms: u64, horizon_ms: u64, levels: &[f64], experts: &Experts) -> Self {
        let target = Target::new(step_ms, horizon_ms);
        let stride = (horizon_ms / step_ms / PENDING).max(1);
        let pace = (INDEPENDENT_TRUTHS / (target.end / stride) as f64).min(1.0);
        let capacity = target.end / stride + 2;
        let row_len = FIXED_FIELDS + levels.len() + FEATURES + experts.count();
        Self {
            target,
            stride,
            trend_reach: experts.trend_reach(target.centre),
            hedge: Hedge::new(experts.count(), pace),
            rls: Rls::new(),
            band: Band::new(levels, pace),
            pending: Pending::new(capacity as usize, row_len),
            score: HorizonScore::new(horizon_ms, levels),
            error_now: 0.0,
        }
    }

    pub(crate) fn score(&self) -> &HorizonScore {
        &self.score
    }

    /// Memory of the horizon and its share of the forecast, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let weights = size_of_val(self.hedge.weights());
        let per_level = self.score.coverage.len() * (4 * size_of::<f64>() + Band::TRACKER_BYTES);
        let inline = size_of::<Self>() + size_of::<HorizonForecast>();
        inline + weights + per_level + self.pending.memory_bytes()
    }

    /// Steps of history that its truths need.
    pub(crate) fn history_steps(&self) -> usize {
        self.target.steps
    }

    /// Steps until a prediction made now has met its truth.
    pub(crate) fn reach_steps(&self) -> u64 {
        self.target.end
    }

    /// The experts' weights, "same as now" first.
    pub(crate) fn weights(&self) -> &[f64] {
        self.hedge.weights()
    }

    /// Forgets predictions whose truth will not be seen.
    pub(crate) fn abandon(&mut self) {
        self.pending.clear();
    }

    /// Compares predictions that are due with what came, unless most of it went unseen.
    pub(crate) fn settle(&mut self, came: &Came<'_>, shorter: Option<&Horizon>) {
        if self.pending.next_due() == Some(came.step) {
            if 2 * came.window.present(self.target.steps) > self.target.steps {
                self.learn(came, shorter);
            }
            self.pending.drop_oldest();
        } else if let (0, Some(shorter)) = (self.score.scored, shorter) {
            self.hedge.follow(&shorter.hedge);
        }
    }

    fn learn(&mut self, came: &Came<'_>, shorter: Option<&Horizon>) {
        let truth = came.window.mean(self.target.steps);
        let levels = came.levels;
        let surprised = came.jumped_at + self.target.end > came.step;
        let (fixed, rest) = self.pending.oldest().split_at(FIXED_FIELDS);
        let (quantiles, rest) = rest.split_at(levels.len());
        let (features, predictions) = rest.split_at(FEATURES);
        let [mean, level, size, sigma, width] = std::array::from_fn(|i| f64::from(fixed[i]));
        let features: [f64; FEATURES] = std::array::from_fn(|i| f64::from(features[i]));
        let naive = f64::from(predictions[LAST]);
        let quantiles = quantiles.iter().map(|quantile| f64::from(*quantile));
        self.score.add(truth, mean, naive, levels, quantiles);
        let trust = if surprised { SURPRISED_TRUST } else { 1.0 };
        let shorter = shorter.map(|horizon| &horizon.hedge);
        self.hedge.learn(predictions, truth, width, trust, shorter);
        let woken = truth > MAX_GROWTH * level.max(mean) + WAKING_SIGMAS * sigma;
        if woken {
            return;
        }
        self.rls.learn(&features, ((truth - level) / size).clamp(-1e3, 1e3));
        self.band.learn(&Outcome { truth, mean, sigma, width, trust });
    }

    /// Predicts, writes the forecast, and keeps what is needed to learn from it if `keep`.
    pub(crate) fn predict(
        &mut self,
        sight: &Sight<'_>,
        shorter: Option<&Horizon>,
        keep: bool,
        out: &mut HorizonForecast,
    ) {
        let level = sight.level.value();
        let ceiling = self.ceiling(sight);
        let mut predictions = [0.0; MAX_EXPERTS];
        let predictions = &mut predictions[..sight.experts.count().min(MAX_EXPERTS)];
        self.ask_experts(sight, ceiling, predictions);
        let mean = self.hedge.mix(predictions).clamp(0.0, ceiling);
        let noise = sight.level.noise.sigma(mean, self.target.steps);
        let sigma = (noise * noise + self.hedge.spread(predictions, mean)).sqrt();
        let width = self.band.width(sigma, self.prior_scale(sigma, shorter));
        self.error_now = width / sigma * noise;
        out.mean = mean;
        self.band.write(mean, sigma, width, 2.0 * ceiling + 6.0 * sigma, &mut out.quantiles);
        if keep && sight.step.is_multiple_of(self.stride) {
            let row = self.pending.push(sight.step + self.target.end);
            let fixed = [mean, level, sight.size, sigma, width];
            let all = fixed.iter().chain(&out.quantiles).chain(&sight.features);
            row.iter_mut().zip(all.chain(&*predictions)).for_each(|(slot, x)| *slot = *x as f32);
        }
    }

    /// The most that any expert may say.
    fn ceiling(&self, sight: &Sight<'_>) -> f64 {
        MAX_GROWTH * sight.peak + sight.experts.trend_room(&self.trend_reach)
    }

    /// What the experts say, within 0..=`ceiling`.
    fn ask_experts(&self, sight: &Sight<'_>, ceiling: f64, out: &mut [f64]) {
        let level = sight.level.value();
        let least_squares = level + sight.size * self.rls.predict(&sight.features);
        let now = Now { level, lag: sight.level.lag() };
        sight.experts.predict(now, self.target.centre, &self.trend_reach, least_squares, out);
        out.iter_mut().for_each(|prediction| *prediction = prediction.clamp(0.0, ceiling));
    }

    /// The same, of every expert, into a list of its own.
    pub(crate) fn expert_means(&self, sight: &Sight<'_>) -> Vec<f64> {
        let mut means = vec![0.0; sight.experts.count()];
        self.ask_experts(sight, self.ceiling(sight), &mut means);
        means
    }

    /// The steps, from the next one on, whose mean is meant.
    pub(crate) fn target_steps(&self) -> RangeInclusive<u64> {
        self.target.end + 1 - self.target.steps as u64..=self.target.end
    }

    /// What the scale would be, had no truth come: see [`Band::scale`].
    fn prior_scale(&self, sigma: f64, shorter: Option<&Horizon>) -> f64 {
        let Some(shorter) = shorter else { return 1.0 };
        let ratio = self.target.centre as f64 / shorter.target.centre as f64;
        (shorter.error_now * shorter.error_now * ratio + sigma * sigma).sqrt() / sigma
    }
}

impl Horizon {
    pub(crate) fn check(&self, levels: &[f64], experts: usize) -> Checked {
        let Target { end, steps, centre } = self.target;
        check::count("target.end", end, 1, 1 << 17)?;
        check::count("target.steps", steps as u64, 1, end.min(MAX_WINDOW as u64))?;
        check::count("target.centre", centre, 1, end)?;
        check::count("stride", self.stride, 1, 1 << 17)?;
        check::all_within("trend_reach", &self.trend_reach, 0.0, 1e9)?;
        check::part("hedge", self.hedge.check(experts))?;
        check::part("rls", self.rls.check())?;
        check::part("band", self.band.check(levels))?;
        check::part("score", self.score.check(levels.len()))?;
        let row_len = FIXED_FIELDS + levels.len() + FEATURES + experts;
        check::part("pending", self.pending.check(row_len))?;
        self.pending.waiting().try_for_each(check_waiting)?;
        check::within("error_now", self.error_now, 0.0, check::MOST)
    }
}

/// A prediction is divided by its size and its sigma when its truth comes.
fn check_waiting(row: &[f32]) -> Checked {
    let row = row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    check::all_within("pending.rows", &row, -1e25, 1e25)?;
    check::all_within("pending.rows, size and sigma", &row[2..4], 1e-9, 1e25)?;
    check::within("pending.rows, width", row[4], 0.0, 1e25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_centred_and_lie_ahead() {
        let near = Target::new(100, 100);
        assert_eq!((near.end, near.steps, near.centre), (10, 10, 6));
        let mid = Target::new(100, 2_000);
        assert_eq!((mid.end, mid.steps, mid.centre), (25, 10, 21));
        let far = Target::new(100, 600_000);
        assert_eq!((far.steps, far.centre), (600, 6_001));
        let coarse = Target::new(60_000, 60_000);
        assert_eq!((coarse.end, coarse.steps, coarse.centre), (1, 1, 1));
    }
}
