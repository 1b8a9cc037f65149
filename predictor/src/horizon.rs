//! One horizon of a series: what is predicted, what came true, what was learned from it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::aggregate::{HINT, Mixed, Mixture};
use crate::boa::MAX_EXPERTS;
use crate::check::{self, Checked};
use crate::conformal::{Band, Outcome, silent};
use crate::experts::{Experts, LAST, Look, MAX_FEATURES, Rls};
use crate::math::powi;
use crate::pending::Pending;
use crate::scales::{SEASON_BINS, Scales, VIEWS};
use crate::score::HorizonScore;
use crate::sight::{Came, Sight, Target, stride};
use crate::signals::SIGNAL_FEATURES;
use crate::touch::touch;
use crate::{HorizonForecast, SeriesSpec};

/// Point forecasts stay below this many times the largest recent rate, plus the trend's growth.
const MAX_GROWTH: f64 = 3.0;
/// With more predictions than this waiting at once, learning slows down in proportion: their truths
/// err together, and what is learned shows only after all of them.
const INDEPENDENT_TRUTHS: f64 = 20.0;
/// How much the experts' losses count when the level jumped between prediction and truth: no one
/// could know, so whoever came closest was mostly lucky.
const SURPRISED_TRUST: f64 = 0.3;
/// Where jumps are as usual as this, they are what the series is like and count in full.
const USUAL_SURPRISE: f64 = 3.0;
/// A change of the level counts as a truth, the less the farther ahead the horizon, not at all from
/// here on.
const PRESENT_STEPS: u64 = 100;
/// Where truths come within so many steps there is no need for it.
const SOON_STEPS: u64 = 3;
/// Truths that tell how usual jumps are.
const SURPRISE_MEMORY: f64 = 400.0;
/// A truth beyond [`MAX_GROWTH`] times what was there and forecast, and this many sigmas more, belongs
/// to another regime: demand came out of idleness.
const WAKING_SIGMAS: f64 = 6.0;
/// Truths no later than this are those of a near horizon.
const NEAR_MS: u64 = 12_000;
/// Fields of a pending row that are not predictions, features or quantiles.
const FIXED_FIELDS: usize = FIRST_VIEW + VIEWS;
const FIRST_VIEW: usize = 8;
/// Truths that least squares remembers, at least and per prediction that waits: truths of one horizon's
/// length err together.
const RLS_MEMORY: f64 = 300.0;
const RLS_MEMORY_WAITING: f64 = 8.0;
/// A truth learned every so many steps says about as much as all those between would.
const MAX_STRIDE_SAID: u64 = 16;
/// Campaigns and outages are rare: with regressors it remembers more.
const SIGNAL_RLS_MEMORY: f64 = 3_000.0;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Horizon {
    target: Target,
    /// It is visited every so many steps, a power of two, when the step has this rest.
    stride: u64,
    phase: u64,
    /// Steps from a prediction to the visit that has its truth.
    delay: u64,
    trend_reach: [f64; 3],
    mixture: Mixture,
    rls: Rls,
    /// The same with the regressors, where there are any.
    signal_rls: Option<Rls>,
    /// Which of the series' horizons it is.
    index: usize,
    /// Length of what least squares sees.
    features: usize,
    band: Band,
    scales: Scales,
    pending: Pending,
    score: HorizonScore,
    /// Ordinary absolute error in the unit of the series while the experts agree, as of the newest
    /// step.
    error_now: f64,
    /// Share of the truths of late that came after a jump.
    surprises: f64,
}

impl Horizon {
    /// The `index`-th horizon of a series, visited when the step leaves `phase` of
    /// [`stride`](Self::stride).
    pub(crate) fn new(
        spec: &SeriesSpec,
        index: usize,
        phase: u64,
        experts: &Experts,
        signals: usize,
    ) -> Self {
        let (step_ms, horizon_ms, levels) = (spec.step_ms, spec.horizons_ms[index], &spec.levels);
        let target = Target::new(step_ms, horizon_ms);
        let stride = stride(step_ms, horizon_ms);
        let waiting = target.end.div_ceil(stride);
        let pace = (INDEPENDENT_TRUTHS / waiting as f64).min(1.0);
        let memory = RLS_MEMORY.max(RLS_MEMORY_WAITING * waiting as f64);
        let features = experts.feature_count() + SIGNAL_FEATURES * signals;
        let row_len = FIXED_FIELDS + levels.len() + features + experts.count();
        Self {
            target,
            stride,
            phase,
            delay: waiting * stride,
            trend_reach: experts.trend_reach(target.centre),
            mixture: Mixture::new(
                &experts.quick(),
                &experts.start(target.centre),
                pace,
                waiting as f64,
                waiting * stride * step_ms <= NEAR_MS,
            ),
            rls: Rls::new(experts.feature_count(), memory, stride.min(MAX_STRIDE_SAID) as f64),
            signal_rls: (signals > 0).then(|| Rls::new(features, SIGNAL_RLS_MEMORY, 1.0)),
            index,
            features,
            band: Band::new(levels, pace),
            scales: Scales::new(waiting as f64, experts.seasonal()),
            pending: Pending::new(waiting as usize, row_len),
            score: HorizonScore::new(horizon_ms, levels),
            error_now: 0.0,
            surprises: 0.0,
        }
    }

    /// Moves all visits by `steps`.
    pub(crate) fn put_off(&mut self, steps: u64) {
        self.phase = (self.phase + steps % self.stride) % self.stride;
    }

    /// Whether it is visited at `step`.
    pub(crate) fn visited(&self, step: u64) -> bool {
        step % self.stride == self.phase
    }

    pub(crate) fn score(&self) -> &HorizonScore {
        &self.score
    }

    /// Memory of the horizon and its share of the forecast, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let weights = self.mixture.memory_bytes();
        let per_level = self.score.coverage.len() * (4 * size_of::<f64>() + Band::TRACKER_BYTES);
        let inline = size_of::<Self>() + size_of::<HorizonForecast>();
        inline
            + weights
            + self.rls.memory_bytes()
            + self.signal_rls.as_ref().map_or(0, Rls::memory_bytes)
            + self.scales.memory_bytes()
            + per_level
            + self.pending.memory_bytes()
    }

    /// Steps of history that its truths need.
    pub(crate) fn history_steps(&self) -> usize {
        self.target.steps + self.stride as usize
    }

    /// Steps until a prediction made now has met its truth.
    pub(crate) fn reach_steps(&self) -> u64 {
        self.delay
    }

    /// See [`touch`].
    pub(crate) fn touch(&self) {
        self.pending.touch();
        self.mixture.touch();
        self.rls.touch();
        self.band.touch();
        self.scales.touch();
        let HorizonScore { coverage, pinball, naive_pinball, .. } = &self.score;
        [coverage, pinball, naive_pinball].iter().for_each(|losses| touch(losses, |loss| *loss));
    }

    /// The experts' weights, "same as now" first.
    pub(crate) fn weights(&self) -> Vec<f64> {
        self.mixture.weights().collect()
    }

    /// Forgets predictions whose truth will not be seen.
    pub(crate) fn abandon(&mut self) {
        self.pending.clear();
    }

    /// At a visit, compares the prediction that is due with what came, unless most of it went unseen.
    pub(crate) fn settle(&mut self, came: &Came<'_>, shorter: Option<&Horizon>) {
        if !self.visited(came.step) {
            return;
        }
        self.pending.turn();
        if self.pending.row().is_some() {
            let seen = came.window.present_before(self.late(), self.target.steps);
            if 2 * seen > self.target.steps {
                self.learn(came, shorter);
            }
            self.pending.row_mut()[0] = 0.0;
        } else if let (0, Some(shorter)) = (self.score.scored, shorter) {
            self.mixture.follow(&shorter.mixture, 1.0 - powi(1.0 - HINT, self.stride));
        }
    }

    /// Steps from the end of a target to the visit at which its truth is learned.
    fn late(&self) -> usize {
        (self.delay - self.target.end) as usize
    }

    fn learn(&mut self, came: &Came<'_>, shorter: Option<&Horizon>) {
        let Some(row) = self.pending.row() else { return };
        let truth = came.window.mean_before(self.late(), self.target.steps);
        let levels = came.levels;
        let surprised = came.jumped_at + self.delay > came.step;
        let (fixed, rest) = row.split_at(FIXED_FIELDS);
        let (quantiles, rest) = rest.split_at(levels.len());
        let (features, predictions) = rest.split_at(self.features);
        let [size, mean, sigma, width, bin, fast, slow, chosen] =
            std::array::from_fn(|i| f64::from(fixed[i]));
        let views: [f32; VIEWS] = std::array::from_fn(|i| fixed[FIRST_VIEW + i]);
        let level = f64::from(predictions[LAST]);
        let quantiles = quantiles.iter().map(|quantile| f64::from(*quantile));
        self.score.add(truth, mean, level, levels, quantiles);
        self.surprises += (f64::from(u8::from(surprised)) - self.surprises) / SURPRISE_MEMORY;
        let usual = (USUAL_SURPRISE * self.surprises).clamp(SURPRISED_TRUST, 1.0);
        let trust = if surprised { usual } else { 1.0 };
        let woken = truth > MAX_GROWTH * level.max(mean) + WAKING_SIGMAS * sigma;
        let shorter = shorter.map(|horizon| (&horizon.mixture, HINT));
        let said = (predictions, &Mixed { mean, fast, slow, chosen });
        self.mixture.learn(said, truth, f64::from(views[0]), trust, woken, shorter);
        if woken {
            return;
        }
        let departure = ((truth - level) / size).clamp(-1e3, 1e3);
        self.rls.learn(features, departure, trust);
        if let Some(rls) = &mut self.signal_rls {
            rls.learn(features, departure, trust);
        }
        if !silent(truth, mean) {
            self.scales.learn(&views, truth - mean, mean, bin as usize, trust);
        }
        self.band.learn(&Outcome { truth, mean, sigma, width, trust });
    }

    /// Learns from a change of the level, at the visit in which it is noticed or before.
    pub(crate) fn notice(&mut self, sight: &Sight<'_>) {
        if self.delay <= SOON_STEPS || self.target.centre >= PRESENT_STEPS {
            return;
        }
        let level = sight.level.value();
        let mut now = [0.0; MAX_EXPERTS];
        let now = &mut now[..sight.experts.count().min(MAX_EXPERTS)];
        sight.experts.present(level, now);
        let scale = self.error_now.max(sight.level.noise.sigma(level, self.target.steps));
        let trust = 1.0 - self.target.centre as f64 / PRESENT_STEPS as f64;
        self.mixture.doubt(now, level, scale, trust);
    }

    /// Predicts, writes the forecast, and keeps what is needed to learn from it if `keep`.
    pub(crate) fn predict(
        &mut self,
        sight: &Sight<'_>,
        shorter: Option<&Horizon>,
        keep: bool,
        out: &mut HorizonForecast,
    ) {
        let ceiling = self.ceiling(sight);
        let mut predictions = [0.0; MAX_EXPERTS];
        let predictions = &mut predictions[..sight.experts.count().min(MAX_EXPERTS)];
        let there = sight.experts.look(self.target.centre as f64);
        let features = self.features(sight, &there);
        self.ask_experts(sight, &features, &there, ceiling, predictions);
        let mixed = self.mixture.mix(predictions);
        let mean = mixed.mean.clamp(0.0, ceiling);
        let noise = sight.level.noise.sigma(mean, self.target.steps);
        let sigma = (noise * noise + self.mixture.spread(predictions, mean)).sqrt();
        let recent = self.band.width(sigma, self.prior_scale(sigma, shorter));
        self.error_now = recent / sigma * noise;
        let bin = sight.experts.season_part(self.target.centre, SEASON_BINS);
        let views = self.scales.views(recent, mean, bin);
        let width = if self.band.settled() { self.scales.mix(&views) } else { recent };
        out.mean = mean;
        self.band.write(mean, sigma, width, 2.0 * ceiling + 6.0 * sigma, &mut out.quantiles);
        let Target { steps, end, .. } = self.target;
        if let Some(silence) = sight.level.silence(mean, steps, end) {
            let per_request = sight.level.noise.rate_of_one(steps);
            self.band.hush(silence, per_request, &mut out.quantiles);
        }
        if keep && self.visited(sight.step) {
            let Mixed { fast, slow, chosen, .. } = mixed;
            let fixed = [sight.size, mean, sigma, width, bin as f64, fast, slow, chosen];
            let all =
                fixed.iter().chain(&views).chain(&out.quantiles).chain(&features[..self.features]);
            let slots = self.pending.row_mut().iter_mut();
            slots.zip(all.chain(&*predictions)).for_each(|(slot, x)| *slot = *x as f32);
        }
    }

    /// What least squares sees, here.
    fn features(&self, sight: &Sight<'_>, there: &[Look]) -> [f64; MAX_FEATURES] {
        let mut features = sight.features;
        let own = &mut features[..self.features];
        let (plain, signals) = own.split_at_mut(sight.experts.feature_count());
        let level = sight.level.value();
        sight.experts.season_features(level, (&sight.here, there), sight.size, plain);
        sight.signals.features(self.index, signals);
        features
    }

    /// The most that any expert may say.
    fn ceiling(&self, sight: &Sight<'_>) -> f64 {
        (MAX_GROWTH * sight.peak).max(sight.experts.season_peak())
            + sight.experts.trend_room(&self.trend_reach)
    }

    /// What the experts say, within 0..=`ceiling`.
    fn ask_experts(
        &self,
        sight: &Sight<'_>,
        features: &[f64],
        there: &[Look],
        ceiling: f64,
        out: &mut [f64],
    ) {
        let now = sight.now();
        let of = |rls: &Rls| now.level + sight.size * rls.predict(features);
        let own = [self.signal_rls.as_ref().map(of), Some(of(&self.rls))];
        sight.experts.predict(now, (&sight.here, there), &self.trend_reach, own, out);
        out.iter_mut().for_each(|prediction| *prediction = prediction.clamp(0.0, ceiling));
    }

    /// The same, of every expert, into a list of its own.
    pub(crate) fn expert_means(&self, sight: &Sight<'_>) -> Vec<f64> {
        let mut means = vec![0.0; sight.experts.count()];
        let there = sight.experts.look(self.target.centre as f64);
        let features = self.features(sight, &there);
        self.ask_experts(sight, &features, &there, self.ceiling(sight), &mut means);
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
    /// `index` is its place in the series, `signals` what the series is told of.
    pub(crate) fn check(
        &self,
        spec: &SeriesSpec,
        index: usize,
        experts: &Experts,
        signals: usize,
    ) -> Checked {
        let levels = &spec.levels;
        let made = Self::new(spec, index, self.phase, experts, signals);
        check::same("target", &self.target, &made.target)?;
        check::same("stride", &self.stride, &made.stride)?;
        check::count("phase", self.phase, 0, self.stride - 1)?;
        check::same("delay", &self.delay, &made.delay)?;
        check::same("index", &self.index, &index)?;
        check::same("features", &self.features, &made.features)?;
        check::same("signal_rls", &self.signal_rls.is_some(), &made.signal_rls.is_some())?;
        check::all_within("trend_reach", &self.trend_reach, 0.0, 1e9)?;
        check::part("mixture", self.mixture.check(experts.count()))?;
        check::part("rls", self.rls.check(experts.feature_count()))?;
        if let Some(rls) = &self.signal_rls {
            check::part("signal_rls", rls.check(self.features))?;
        }
        check::part("band", self.band.check(levels))?;
        check::part("scales", self.scales.check(experts.seasonal()))?;
        check::part("score", self.score.check(levels.len()))?;
        let row_len = FIXED_FIELDS + levels.len() + self.features + experts.count();
        check::part("pending", self.pending.check(self.delay / self.stride, row_len))?;
        self.pending.waiting().try_for_each(check_waiting)?;
        check::within("surprises", self.surprises, 0.0, 1.0)?;
        check::within("error_now", self.error_now, 0.0, check::MOST)
    }
}

/// A prediction is divided by its size and its sigma when its truth comes.
fn check_waiting(row: &[f32]) -> Checked {
    let row = row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    check::all_within("pending.rows", &row, -1e25, 1e25)?;
    check::within("pending.rows, size", row[0], 1e-9, 1e25)?;
    check::within("pending.rows, sigma", row[2], 1e-9, 1e25)?;
    check::all_within("pending.rows, widths", &row[3..FIXED_FIELDS], 0.0, 1e25)
}
