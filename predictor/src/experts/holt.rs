//! Damped linear trend.

use serde::{Deserialize, Serialize};

use super::Seen;
use crate::check::{self, Checked};
use crate::math::powi;

/// Innovations count for at most this many standard deviations of one step's noise.
const CLIP_SIGMAS: f64 = 3.0;

/// Holt's linear trend with damping, in error-correction form (Gardner & McKenzie 1985,
/// "Forecasting Trends in Time Series", Management Science 31):
///
/// ```text
/// e = x - (l + phi b)      l <- l + phi b + alpha e      b <- phi b + beta e
/// forecast k steps ahead:  l + (phi + phi^2 + ... + phi^k) b
/// ```
///
/// `alpha = 2 / response`, `beta = alpha^2 / 4` (critically damped: as quick as possible without
/// ringing), `phi = 1 - 1 / damping`. Damping bounds how far a trend reaches: an undamped one
/// does worse than "same as now" from about thirty steps on.
///
/// The innovation is clipped (Gelper, Fried & Croux 2010, "Robust forecasting with exponential
/// and Holt-Winters smoothing", J. Forecasting 29), so that a spike does not become a trend; a
/// lasting change reaches the level through the change detector instead. Demand that comes out of
/// idleness at once has a level, but no trend yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holt {
    level: f64,
    trend: f64,
    alpha: f64,
    beta: f64,
    phi: f64,
    started: bool,
}

impl Holt {
    pub(crate) fn new(response_steps: u64, damping_steps: u64) -> Self {
        let alpha = (2.0 / response_steps as f64).clamp(1e-4, 0.7);
        let phi = 1.0 - 1.0 / damping_steps.max(2) as f64;
        Self { level: 0.0, trend: 0.0, alpha, beta: alpha * alpha / 4.0, phi, started: false }
    }

    pub(crate) fn observe(&mut self, seen: &Seen) {
        if !self.started {
            (self.level, self.started) = (seen.value, true);
            return;
        }
        if seen.waking {
            (self.level, self.trend) = (seen.level, 0.0);
            return;
        }
        self.trend *= self.phi;
        let expected = self.level + self.trend;
        let bound = CLIP_SIGMAS * seen.sigma;
        let error = (seen.value - expected).clamp(-bound, bound);
        self.level = expected + self.alpha * error;
        self.trend += self.beta * error;
        let behind = (seen.level - self.level).abs() > bound;
        if seen.changed && behind {
            self.level = seen.level;
        }
        self.level = self.level.max(0.0);
    }

    /// Lets `steps` steps pass: the trend fades, since nothing confirms it.
    pub(crate) fn skip(&mut self, steps: u64) {
        self.trend *= powi(self.phi, steps);
    }

    pub(crate) fn name(&self) -> String {
        format!("damped trend of {:.0} steps", 2.0 / self.alpha)
    }

    /// Change per step, now.
    pub(crate) fn trend(&self) -> f64 {
        self.trend
    }

    /// `phi + ... + phi^ahead`.
    pub(crate) fn reach(&self, ahead: u64) -> f64 {
        self.phi * (1.0 - powi(self.phi, ahead)) / (1.0 - self.phi)
    }

    pub(crate) fn predict(&self, reach: f64) -> f64 {
        self.level + self.trend * reach
    }
}

impl Holt {
    pub(crate) fn check(&self) -> Checked {
        check::within("level", self.level, 0.0, check::MOST)?;
        check::within("trend", self.trend, -check::MOST, check::MOST)?;
        check::within("alpha", self.alpha, 0.0, 1.0)?;
        check::within("beta", self.beta, 0.0, 1.0)?;
        check::within("phi", self.phi, 0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(value: f64) -> Seen {
        Seen { value, level: value, level_steps: 3, changed: false, waking: false, sigma: 50.0 }
    }

    #[test]
    fn a_ramp_is_extrapolated_and_damped() {
        let mut holt = Holt::new(10, 100);
        (0..200).for_each(|step| holt.observe(&seen(100.0 + 4.0 * f64::from(step))));
        let now = 100.0 + 4.0 * 199.0;
        let near = holt.predict(holt.reach(20));
        assert!((near - (now + 80.0)).abs() < 25.0, "{near}");
        let far = holt.predict(holt.reach(6_000));
        assert!(far < now + 4.0 * 100.0, "damping lets the trend reach 100 steps: {far}");
    }

    #[test]
    fn one_spike_does_not_become_a_trend() {
        let mut holt = Holt::new(10, 100);
        (0..100).for_each(|_| holt.observe(&seen(200.0)));
        holt.observe(&seen(1e8));
        assert!(holt.predict(holt.reach(20)) < 300.0);
    }
}
