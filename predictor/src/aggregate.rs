//! One forecast out of many: weights that follow the experts' recent losses.

use serde::{Deserialize, Serialize};

use crate::boa::{Boa, absolute_slope, loss_saved, slope_saved};
use crate::check::{self, Checked};
use crate::conformal::silent;
use crate::math::exp_neg;
use crate::touch::touch;

/// Learning rate, per unit of the bounded loss.
const ETA: f64 = 3.0;
/// Share of the weight that is handed out evenly at each truth.
const SHARE: f64 = 0.01;
/// Share of the weight that follows the next shorter horizon at each step.
pub(crate) const HINT: f64 = 0.04;
/// Errors of this many scales and above are equally bad.
const WORST_SCALES: f64 = 4.0;
/// The scale is at least this much of the experts' mean error.
const USUAL_SHARE: f64 = 0.25;

/// Exponentially weighted experts with fixed share (Vovk 1990, "Aggregating Strategies"; Herbster
/// & Warmuth 1998, "Tracking the Best Expert", Machine Learning 32), `n` experts:
///
/// ```text
/// s      = max(scale, mean_j |error_j| / 4)
/// loss_i = min(1, (error_i / 4 s)^2)
/// v_i    = w_i exp(-eta loss_i) / sum_j w_j exp(-eta loss_j)
/// w_i    = (1 - a) ((1 - b) v_i + b q_i) + a / n
/// ```
///
/// - The bounded loss keeps one freak truth from deciding. Where all err far beyond the scale, as
///   when a ramp begins after a quiet hour, the mean error keeps the better apart from the worse.
/// - `q` are the weights of the next shorter horizon (the shortest has none, `b = 0`). A change of
///   regime shows at a short horizon first, since its truths come sooner; sharing towards it
///   lets the longer ones hear of it early. Least squares, the last expert, is another model at
///   each horizon and keeps its own weight.
/// - `a` is also the discount: no weight falls so low that it takes long to come back.
/// - `eta` is lower where many predictions wait at once, whose truths err together, and for
///   predictions that a jump of the level made wrong, since no one could know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hedge {
    /// Exactly zero for those that take no part.
    weights: Vec<f64>,
    /// An even share of the weight.
    share: f64,
    eta: f64,
}

impl Hedge {
    /// One entry per expert: whether it takes part. The last one does.
    pub(crate) fn new(active: &[bool], pace: f64) -> Self {
        let count = active.iter().filter(|active| **active).count();
        let share = 1.0 / count.max(1) as f64;
        let weights = active.iter().map(|active| if *active { share } else { 0.0 }).collect();
        Self { weights, share, eta: ETA * pace }
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Learns from a truth; `scale` is the size of an ordinary error and positive, `trust`, from 0
    /// to 1, how much this truth says about the experts. `shorter` comes with how far to follow it.
    pub(crate) fn learn(
        &mut self,
        predictions: &[f32],
        truth: f64,
        scale: f64,
        trust: f64,
        shorter: Option<(&Hedge, f64)>,
    ) {
        let eta = self.eta * trust;
        let taking_part =
            predictions.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0.0);
        let errors = taking_part.map(|(prediction, _)| (f64::from(*prediction) - truth).abs());
        let usual = errors.sum::<f64>() * self.share;
        let per_unit = 1.0 / (WORST_SCALES * scale.max(USUAL_SHARE * usual));
        let mut total = 0.0;
        for (weight, prediction) in self.weights.iter_mut().zip(predictions) {
            let error = (f64::from(*prediction) - truth) * per_unit;
            *weight *= exp_neg(eta * (error * error).min(1.0));
            total += *weight;
        }
        // The total is never near zero: losses are at most 1, so it shrinks by at most exp(-ETA).
        let scale = 1.0 / total;
        self.weights.iter_mut().for_each(|weight| *weight *= scale);
        self.share(shorter);
    }

    /// Takes weight from experts that are wrong about the present, `level`: see [`Mixture::doubt`].
    fn doubt(&mut self, now: &[f64], level: f64, scale: f64, trust: f64) {
        let per_unit = 1.0 / (WORST_SCALES * scale);
        let mut total = 0.0;
        for (weight, now) in self.weights.iter_mut().zip(now) {
            let error = (now - level) * per_unit;
            *weight *= exp_neg(self.eta * trust * (error * error).min(1.0));
            total += *weight;
        }
        self.weights.iter_mut().for_each(|weight| *weight /= total);
        self.share(None);
    }

    /// Moves towards what a shorter horizon has learned: all there is before the first truth. `hint`
    /// is how far.
    pub(crate) fn follow(&mut self, shorter: &Hedge, hint: f64) {
        self.share(Some((shorter, hint)));
    }

    fn share(&mut self, shorter: Option<(&Hedge, f64)>) {
        let last = self.weights.len() - 1;
        let uniform = SHARE * self.share;
        let own = self.weights[last];
        let rest = shorter.map_or(0.0, |(shorter, _)| (1.0 - own) / (1.0 - shorter.weights[last]));
        let taking_part = self.weights.iter_mut().enumerate().filter(|(_, weight)| **weight > 0.0);
        for (index, weight) in taking_part {
            let hinted = match shorter {
                Some((shorter, hint)) if index < last => {
                    (1.0 - hint) * *weight + hint * rest * shorter.weights[index]
                }
                _ => *weight,
            };
            *weight = (1.0 - SHARE) * hinted + uniform;
        }
    }
}

/// What the choice between the two loses per truth: how soon it may turn.
const CHOICE_FADE: f64 = 0.03;
/// Learning rate of the choice, per ordinary error of difference.
const CHOICE_ETA: f64 = 2.5;
/// What the fast one must have saved of late, in ordinary errors, to be as good as the slow one:
/// where nothing happens, it follows noise. At first the slow one knows nothing.
const PRIOR: f64 = 0.5;
const FIRST_PRIOR: f64 = -0.5;
const PRIOR_RANGE: (f64, f64) = (-1.0, 30.0);
/// Truths in which the prior rises.
const PRIOR_MEMORY: f64 = 100.0;
/// Learning rate of the prior.
const PRIOR_STEP: f64 = 1.0;
/// The prior is learned as if the fast one had at least this weight.
const MIN_SHARE: f64 = 0.02;

/// Truths that the ordinary error of the slow ones remembers.
const USUAL_MEMORY: f64 = 2_000.0;
/// One error counts for at most this many times the ordinary one, once so many are known.
const USUAL_CLIP: f64 = 10.0;
const USUAL_TRUTHS: f64 = 20.0;
/// How much the slow one heeds losses beside their gradients: the best expert beside the best
/// combination.
const LOSS_SHARE: f64 = 0.3;
/// What the judge takes the choice for before it knows, and the slow one alone.
const JUDGE_START: [f64; 2] = [0.95, 0.05];

/// What a [`Mixture`] makes of the experts' predictions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixed {
    /// The forecast.
    pub(crate) mean: f64,
    /// Those of its parts.
    pub(crate) fast: f64,
    pub(crate) slow: f64,
    pub(crate) chosen: f64,
}

/// Two aggregations at different speeds, mixed: [`Hedge`] turns within a few truths and so never
/// settles, [`Boa`] settles and so is late when the regime changes. What each lost of late decides
/// between them, by exponential weights of the discounted losses (Cesa-Bianchi & Lugosi 2006,
/// "Prediction, Learning, and Games", section 2.11).
///
/// That decision is itself only an expert. Where truths come late, to turn is to turn to what was
/// right a horizon ago, and what each lost of late is mostly noise; so another [`Boa`], the judge,
/// mixes it with the slow one alone, by all that both ever lost. Both are held to what they said then:
/// weights of now have learned since, and who turns quickly would look as if he had known. Only seconds
/// ahead the choice is made by what they would say now, as a ramp of seconds must be believed at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mixture {
    fast: Hedge,
    slow: Boa,
    /// What the fast one lost more than the slow one, discounted, in ordinary errors.
    lag: f64,
    /// What it must have saved to be as good.
    prior: f64,
    pace: f64,
    /// The weight of the fast one, as chosen.
    share: f64,
    /// Between that choice and the slow one alone.
    judge: Boa,
    /// Ordinary error over a long time.
    usual: f64,
    /// Whether the choice is made by what the parts would say now.
    near: bool,
}

impl Mixture {
    /// `quick` says of each expert whether the fast one listens to it, `start` how the slow one weighs
    /// it before any truth; `delay` predictions wait at once. `near` is for horizons so near that who
    /// would be right by now counts before who was.
    pub(crate) fn new(quick: &[bool], start: &[f64], pace: f64, delay: f64, near: bool) -> Self {
        let mut mixture = Self {
            fast: Hedge::new(quick, pace),
            slow: Boa::new(start, delay),
            lag: 0.0,
            prior: FIRST_PRIOR,
            pace,
            share: 0.0,
            judge: Boa::new(&JUDGE_START, delay),
            usual: 0.0,
            near,
        };
        mixture.choose();
        mixture
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.fast.weights) + self.slow.memory_bytes() + self.judge.memory_bytes()
    }

    /// See [`touch`].
    pub(crate) fn touch(&self) {
        touch(&self.fast.weights, |weight| *weight);
        self.slow.touch();
        self.judge.touch();
    }

    pub(crate) fn weights(&self) -> impl Iterator<Item = f64> {
        let share = self.share * self.judge.weights().next().unwrap_or(1.0);
        let both = self.fast.weights().iter().zip(self.slow.weights());
        both.map(move |(fast, slow)| share * fast + (1.0 - share) * slow)
    }

    /// What is made of the experts' predictions.
    pub(crate) fn mix(&self, predictions: &[f64]) -> Mixed {
        let said = || predictions.iter().copied();
        let fast = mix(self.fast.weights().iter().copied(), said());
        let slow = mix(self.slow.weights(), said());
        let chosen = self.share * fast + (1.0 - self.share) * slow;
        let mean = mix(self.judge.weights(), [chosen, slow].into_iter());
        Mixed { mean, fast, slow, chosen }
    }

    /// Variance of the predictions around the mean, weighted as the fast one does: how much those
    /// disagree that follow what happens now.
    pub(crate) fn spread(&self, predictions: &[f64], mean: f64) -> f64 {
        let departures = self.fast.weights().iter().zip(predictions);
        departures
            .map(|(weight, prediction)| weight * (prediction - mean) * (prediction - mean))
            .sum()
    }

    /// See [`Hedge::learn`]; of a truth that `woken` out of idleness only the fast one learns.
    pub(crate) fn learn(
        &mut self,
        (predictions, mixed): (&[f32], &Mixed),
        truth: f64,
        scale: f64,
        trust: f64,
        woken: bool,
        shorter: Option<(&Mixture, f64)>,
    ) {
        let said = || predictions.iter().map(|prediction| f64::from(*prediction));
        let (fast, slow) = match self.near {
            true => {
                (mix(self.fast.weights().iter().copied(), said()), mix(self.slow.weights(), said()))
            }
            false => (mixed.fast, mixed.slow),
        };
        let more = ((fast - truth).abs() - (slow - truth).abs()) / scale;
        self.learn_prior(fast, slow, truth, scale, trust);
        self.lag += self.pace * more.clamp(-8.0, 8.0) - CHOICE_FADE * self.pace * self.lag;
        let hinted = shorter.map(|(shorter, hint)| (&shorter.fast, hint));
        self.fast.learn(predictions, truth, scale, trust, hinted);
        // To foresee nothing where nothing comes is no merit.
        if !woken && !silent(truth, mixed.mean) {
            self.learn_slowly(predictions, mixed, truth);
        }
        self.hear(shorter);
        self.choose();
    }

    /// What settles learns by errors in units of an ordinary one over a long time: one of the present
    /// would let quiet hours decide, which say little about who is right when much is at stake.
    fn learn_slowly(&mut self, predictions: &[f32], mixed: &Mixed, truth: f64) {
        let error = (mixed.mean - truth).abs();
        let truths = f64::from(self.slow.truths()) + 1.0;
        let clip = if truths > USUAL_TRUTHS { USUAL_CLIP * self.usual } else { error };
        self.usual += (error.min(clip) - self.usual) / truths.min(USUAL_MEMORY);
        let usual = self.usual.max(1e-9);
        let said = || predictions.iter().map(|prediction| f64::from(*prediction));
        let slow = mix(self.slow.weights(), said());
        let by_loss = LOSS_SHARE / usual;
        let by_slope = (1.0 - LOSS_SHARE) * absolute_slope(slow, truth, usual) / usual;
        self.slow.learn(said().map(|prediction| {
            loss_saved(slow, prediction, truth, by_loss) + slope_saved(slow, prediction, by_slope)
        }));
        let judged = mix(self.judge.weights(), [mixed.chosen, mixed.slow].into_iter());
        let saved = |prediction| loss_saved(judged, prediction, truth, 1.0 / usual);
        self.judge.learn([mixed.chosen, mixed.slow].into_iter().map(saved));
    }

    /// Where the shorter horizon has turned to its fast one, this one will have to.
    fn hear(&mut self, shorter: Option<(&Mixture, f64)>) {
        if let Some((shorter, hint)) = shorter {
            self.lag += hint * (shorter.lag - self.lag).min(0.0);
        }
    }

    /// Learns from the present, `level`, when it has changed: who is wrong about it by far will be wrong
    /// about what follows, and the truths that show it are still to come. `now` is what each expert takes
    /// the present for, `scale` the size of an ordinary error, `trust` from 0 to 1.
    pub(crate) fn doubt(&mut self, now: &[f64], level: f64, scale: f64, trust: f64) {
        self.fast.doubt(now, level, scale, trust);
        let of = |weights: &mut dyn Iterator<Item = f64>| {
            (mix(weights, now.iter().copied()) - level).abs()
        };
        let fast = of(&mut self.fast.weights().iter().copied());
        let slow = of(&mut self.slow.weights());
        self.lag += trust * ((fast - slow) / scale).clamp(-8.0, 0.0);
        self.choose();
    }

    /// See [`Hedge::follow`].
    pub(crate) fn follow(&mut self, shorter: &Mixture, hint: f64) {
        self.fast.follow(&shorter.fast, hint);
        self.hear(Some((shorter, hint)));
        self.choose();
    }

    /// Steps down the gradient of the absolute loss: where turning to the fast one was wrong again
    /// and again, more must speak for it next time.
    fn learn_prior(&mut self, fast: f64, slow: f64, truth: f64, scale: f64, trust: f64) {
        let mix = self.share * fast + (1.0 - self.share) * slow;
        let slope = absolute_slope(mix, truth, scale);
        let apart = ((fast - slow) / scale).clamp(-4.0, 4.0);
        let step = PRIOR_STEP * self.pace * trust * slope * apart * self.share.max(MIN_SHARE);
        let rise = self.pace * (PRIOR - self.prior).max(0.0) / PRIOR_MEMORY;
        self.prior = (self.prior + step + rise).clamp(PRIOR_RANGE.0, PRIOR_RANGE.1);
    }

    fn choose(&mut self) {
        let doubt = CHOICE_ETA * (self.lag + self.prior);
        // The smaller of the two odds over the larger, which is one.
        let odds = exp_neg(doubt.abs());
        self.share = if doubt > 0.0 { odds / (odds + 1.0) } else { 1.0 / (odds + 1.0) };
    }
}

fn mix(weights: impl Iterator<Item = f64>, predictions: impl Iterator<Item = f64>) -> f64 {
    let (total, sum) = weights
        .zip(predictions)
        .fold((0.0, 0.0), |(total, sum), (weight, value)| (total + weight, sum + weight * value));
    sum / total
}

impl Hedge {
    fn check(&self, experts: usize) -> Checked {
        check::same("weights.len", &self.weights.len(), &experts)?;
        check::all_within("weights", &self.weights, 0.0, 1.0)?;
        // Nobody follows least squares, the last one, so the others must be left a share.
        check::all_within("weights, the last", self.weights.last(), 0.0, 1.0 - 0.1 * SHARE)?;
        check::within("the sum of weights", self.weights.iter().sum(), 0.999, 1.001)?;
        check::within("share", self.share, 1e-3, 1.0)?;
        check::within("eta", self.eta, 0.0, ETA)
    }
}

impl Mixture {
    pub(crate) fn check(&self, experts: usize) -> Checked {
        check::part("fast", self.fast.check(experts))?;
        check::part("slow", self.slow.check(experts))?;
        check::within("lag", self.lag, -check::MOST, check::MOST)?;
        check::within("prior", self.prior, PRIOR_RANGE.0, PRIOR_RANGE.1)?;
        check::part("judge", self.judge.check(JUDGE_START.len()))?;
        check::within("usual", self.usual, 0.0, check::MOST)?;
        check::within("pace", self.pace, 1e-9, 1.0)?;
        check::within("share", self.share, 0.0, 1.0)
    }
}

#[cfg(test)]
mod tests;
