//! The level now: quiet while nothing happens, quick when something does.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::window::Window;

/// Departures larger than this many standard deviations are changes, not noise. At ten steps a
/// second a stationary Poisson series crosses it by chance about once in half an hour.
const CHANGE_SIGMAS: f64 = 4.0;
/// Steps in the short window: what a change must last to be believed in full.
const SHORT_STEPS: usize = 3;
/// The dispersion estimate remembers this many steps.
const DISPERSION_MEMORY: f64 = 300.0;
/// One step may look at most this many times the variance expected, so that a jump of the level
/// does not pass for noise.
const DISPERSION_CLIP: f64 = 64.0;
/// The floor stands for the unevenness that any real load has, and lets a load generator's perfectly
/// even one be doubted again within seconds.
const DISPERSION_RANGE: (f64, f64) = (1e-3, 1e9);
/// Silence is counted up to this, in seconds: after a day without any request the next day is no surer to
/// be without.
const LONGEST_SILENCE_S: f64 = 86_400.0;
/// Requests short of which silence is taken to have fallen; see [`Noise::silence`].
const JEFFREYS: f64 = 0.5;
/// Silence tells something when it is this many times as long as is usual.
const UNUSUAL: f64 = 2.0;
/// The least that is usual, in seconds and in steps.
const LEAST_USUAL: (f64, f64) = (5.0, 3.0);
/// Steps with something in them over which a long silence is forgotten.
const SILENCE_MEMORY: f64 = 1_000.0;

/// Noise of a single step: `variance = dispersion x rate x steps per second`.
///
/// Requests counted over a step of `s` seconds are about Poisson, so the rate `count / s` has
/// variance `rate / s`; the dispersion, 1 for Poisson, is learned from successive differences
/// (von Neumann 1941, "Distribution of the Ratio of the Mean Square Successive Difference to the
/// Variance"), which a trend hardly touches. It is what makes smooth and bursty series comparable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Noise {
    dispersion: f64,
    steps_per_s: f64,
    previous: Option<f64>,
    /// Time seen since the last step with anything in it, and the longest there was of late.
    #[serde(default)]
    silent_s: f64,
    #[serde(default)]
    usual_silence_s: f64,
}

impl Noise {
    pub(crate) fn new(step_ms: u64) -> Self {
        let (silent_s, usual_silence_s) = (0.0, 0.0);
        let steps_per_s = 1000.0 / step_ms as f64;
        Self { dispersion: 1.0, steps_per_s, previous: None, silent_s, usual_silence_s }
    }

    /// Variance of one step's value when the rate is `rate`. Not zero even at rate 0: what has
    /// not come in two seconds may still come.
    pub(crate) fn variance(&self, rate: f64) -> f64 {
        self.dispersion * self.poisson(rate)
    }

    /// Standard deviation of the mean over `steps` steps.
    pub(crate) fn sigma(&self, rate: f64, steps: usize) -> f64 {
        (self.variance(rate) / steps.max(1) as f64).sqrt()
    }

    /// Mean and standard deviation of what comes in `steps` steps of which the last is `end` steps ahead,
    /// as a count, where `rate` is forecast and nothing has come for as long and unusually long; none
    /// otherwise.
    ///
    /// After `T` seconds without a count the rate of a Poisson process is Gamma(1/2, T) by Jeffreys' prior
    /// (Gelman et al. 2013, "Bayesian Data Analysis", sections 2.6 and 2.8), so in the next `w` seconds
    /// comes a negative binomial count with mean `m = w / 2T` and variance `m (1 + w / T)`. What is
    /// forecast counts where it is more. Requests that come in bursts leave pauses that tell nothing of
    /// the kind: only what is longer than those counts.
    pub(crate) fn silence(&self, rate: f64, steps: usize, end: u64) -> Option<(f64, f64)> {
        let (least_s, least_steps) = LEAST_USUAL;
        let usual_s = self.usual_silence_s.max(least_s).max(least_steps / self.steps_per_s);
        if self.silent_s < (UNUSUAL * usual_s).max(end as f64 / self.steps_per_s) {
            return None;
        }
        let seconds = steps as f64 / self.steps_per_s;
        let mean = seconds * rate.max(JEFFREYS / self.silent_s);
        let variance = mean * (self.dispersion.max(1.0) + seconds / self.silent_s);
        Some((mean, variance.sqrt()))
    }

    /// What one request in `steps` steps is as a rate.
    pub(crate) fn rate_of_one(&self, steps: usize) -> f64 {
        self.steps_per_s / steps.max(1) as f64
    }

    fn poisson(&self, rate: f64) -> f64 {
        rate.max(0.5) * self.steps_per_s
    }

    fn count_silence(&mut self, value: f64) {
        if value <= 0.0 {
            let longer_s = self.silent_s + 1.0 / self.steps_per_s;
            self.silent_s = longer_s.min(LONGEST_SILENCE_S);
            return;
        }
        let faded_s = self.usual_silence_s * (1.0 - 1.0 / SILENCE_MEMORY);
        self.usual_silence_s = faded_s.max(self.silent_s);
        self.silent_s = 0.0;
    }

    fn observe(&mut self, value: f64, level: f64) {
        self.count_silence(value);
        let previous = self.previous.replace(value);
        // An idle series says nothing about the noise of a busy one.
        if let Some(previous) = previous.filter(|previous| *previous > 0.0 || value > 0.0) {
            let difference = value - previous;
            let seen = difference * difference / (2.0 * self.poisson(level));
            let clipped = seen.min(DISPERSION_CLIP * self.dispersion);
            self.dispersion += (clipped - self.dispersion) / DISPERSION_MEMORY;
            self.dispersion = self.dispersion.clamp(DISPERSION_RANGE.0, DISPERSION_RANGE.1);
        }
    }
}

/// Two-speed smoothing: the mean since the last change, over at most two seconds.
///
/// After each step the mean of the newest three steps is compared with the mean of the steps
/// before them that count; when they differ by more than four standard deviations of that
/// difference, the older ones are dropped (a two-window test as in Bifet & Gavaldà 2007,
/// "Learning from Time-Changing Data with Adaptive Windowing", with the Poisson variance in place
/// of their bound). A step is followed in full within three steps of the series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Level {
    pub(crate) noise: Noise,
    value: f64,
    /// Steps that count, the newest included.
    run: usize,
    long_steps: usize,
    changed: bool,
}

impl Level {
    pub(crate) fn new(step_ms: u64) -> Self {
        let long_steps = (2_000 / step_ms).max(4) as usize;
        Self { noise: Noise::new(step_ms), value: 0.0, run: 0, long_steps, changed: false }
    }

    /// Steps of history that it needs.
    pub(crate) fn history_steps(&self) -> usize {
        self.long_steps
    }

    /// The smoothed value.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// Steps that the value is the mean of.
    pub(crate) fn steps(&self) -> u64 {
        self.run as u64
    }

    /// See [`Noise::silence`]; none while anything counts.
    pub(crate) fn silence(&self, rate: f64, steps: usize, end: u64) -> Option<(f64, f64)> {
        if self.value > 0.0 { None } else { self.noise.silence(rate, steps, end) }
    }

    /// Whether the last step dropped what came before.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    /// Age of the middle of the steps that count, in steps: how far the value lags on a ramp.
    pub(crate) fn lag(&self) -> f64 {
        self.run.saturating_sub(1) as f64 / 2.0
    }

    /// Holds the value, but lets nothing before the next observation count.
    pub(crate) fn restart(&mut self) {
        self.run = 0;
        self.noise.previous = None;
    }

    /// Takes the newest value, which `window` holds already.
    pub(crate) fn observe(&mut self, value: f64, window: &Window) {
        self.run = (self.run + 1).min(self.long_steps);
        self.changed = false;
        let older = self.run.saturating_sub(SHORT_STEPS);
        if older > 0 {
            let short = window.mean(SHORT_STEPS);
            let long = window.mean_before(SHORT_STEPS, older);
            let weight = 1.0 / SHORT_STEPS as f64 + 1.0 / older as f64;
            let sigma = (self.noise.variance(short.max(long)) * weight).sqrt();
            if (short - long).abs() > CHANGE_SIGMAS * sigma {
                self.run = SHORT_STEPS;
                self.changed = true;
            }
        }
        self.value = window.mean(self.run);
        self.noise.observe(value, self.value);
    }
}

impl Level {
    pub(crate) fn check(&self) -> Checked {
        let Noise { dispersion, steps_per_s, previous, silent_s, usual_silence_s } = &self.noise;
        let (least, most) = DISPERSION_RANGE;
        check::within("noise.dispersion", *dispersion, least, most)?;
        check::within("noise.steps_per_s", *steps_per_s, 1e-6, 1e3)?;
        check::within("noise.previous", previous.unwrap_or(0.0), 0.0, check::MOST)?;
        check::within("noise.silent_s", *silent_s, 0.0, LONGEST_SILENCE_S)?;
        check::within("noise.usual_silence_s", *usual_silence_s, 0.0, LONGEST_SILENCE_S)?;
        check::within("value", self.value, 0.0, check::MOST)?;
        check::count("long_steps", self.long_steps as u64, 4, 1 << 10)?;
        check::count("run", self.run as u64, 0, self.long_steps as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: impl IntoIterator<Item = f64>) -> Level {
        let mut window = Window::new(32);
        let mut level = Level::new(100);
        for value in values {
            window.push(value, false);
            level.observe(value, &window);
        }
        level
    }

    #[test]
    fn a_step_is_followed_in_three_steps() {
        let before = std::iter::repeat_n(200.0, 100);
        let level = run(before.chain(std::iter::repeat_n(800.0, 3)));
        assert_eq!(level.value(), 800.0);
    }

    #[test]
    fn one_odd_step_moves_it_little() {
        // 30 requests where 20 are usual is 2.2 standard deviations of a Poisson count.
        let noisy = (0..200).map(|step| if step % 2 == 0 { 155.0 } else { 245.0 });
        let level = run(noisy.chain([300.0]));
        assert!((level.value() - 200.0).abs() < 15.0, "{}", level.value());
    }

    #[test]
    fn silence_tells_when_it_is_longer_than_usual_and_than_what_is_asked_of() {
        let silence = |busy: u64, silent: u64, end: u64| {
            let request = |step: u64| if step.is_multiple_of(busy) { 10.0 } else { 0.0 };
            let level =
                run((0..2_000).map(request).chain(std::iter::repeat_n(0.0, silent as usize)));
            level.silence(0.0, 10, end)
        };
        assert_eq!(silence(1, 20, 10), None, "two seconds are not much");
        let (expected, sigma) = silence(1, 6_000, 10).expect("ten minutes are");
        assert!((expected - 0.5 / 600.0).abs() < 1e-5, "{expected}");
        assert!((sigma - expected.sqrt()).abs() < 0.2 * sigma, "{sigma}");
        assert_eq!(silence(1, 6_000, 6_010), None, "of ten minutes ahead they tell nothing");
        assert_eq!(silence(500, 400, 10), None, "90 s where 50 s are usual");
        assert!(silence(500, 600, 10).is_some());
    }

    #[test]
    fn the_dispersion_of_a_constant_series_falls_to_its_floor() {
        let level = run(std::iter::repeat_n(50.0, 10_000));
        assert!(level.noise.sigma(50.0, 1) < 1.0);
        assert!(level.noise.sigma(0.0, 1) > 0.0);
    }
}
