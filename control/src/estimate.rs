//! A positive quantity known with an uncertainty: a scalar Kalman filter on its logarithm.

use serde::{Deserialize, Serialize};

/// Growth of the variance of the logarithm per second: slow enough to keep what was learned for
/// minutes, fast enough to follow a server that ages.
const DRIFT_VARIANCE_PER_S: f64 = 0.0002;
/// Knowledge never gets so vague that it says nothing.
const MAX_VARIANCE: f64 = 1.0;

/// A positive quantity and the variance of its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    ln: f64,
    variance: f64,
}

impl Estimate {
    /// A first measurement, with its relative standard error.
    pub(crate) fn new(value: f64, error: f64) -> Self {
        Self { ln: value.max(1e-6).ln(), variance: error * error }
    }

    /// Another measurement, with its relative standard error.
    pub(crate) fn update(&mut self, value: f64, error: f64) {
        let gain = self.variance / (self.variance + error * error);
        self.ln += gain * (value.max(1e-6).ln() - self.ln);
        self.variance *= 1.0 - gain;
    }

    /// Time passes without a measurement.
    pub(crate) fn age(&mut self, elapsed_s: f64) {
        self.variance = (self.variance + DRIFT_VARIANCE_PER_S * elapsed_s).min(MAX_VARIANCE);
    }

    /// The quantity is now `factor` of what it was, give or take the relative `error`.
    pub(crate) fn scale(&mut self, factor: f64, error: f64) {
        self.ln += factor.ln();
        self.variance = (self.variance + error * error).min(MAX_VARIANCE);
    }

    pub(crate) fn value(&self) -> f64 {
        self.ln.exp()
    }

    /// Lower end of the 95 % interval.
    pub(crate) fn lower(&self) -> f64 {
        (self.ln - 2.0 * self.variance.sqrt()).exp()
    }

    /// Upper end of the 95 % interval.
    pub(crate) fn upper(&self) -> f64 {
        (self.ln + 2.0 * self.variance.sqrt()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_narrow_it_and_time_widens_it() {
        let mut estimate = Estimate::new(100.0, 0.5);
        for _ in 0..20 {
            estimate.update(200.0, 0.2);
        }
        assert!((estimate.value() - 200.0).abs() < 10.0);
        let width = estimate.upper() / estimate.lower();
        assert!(width < 1.3);
        estimate.age(60.0);
        assert!(estimate.upper() / estimate.lower() > width);
    }

    #[test]
    fn scaling_moves_it_at_once() {
        let mut estimate = Estimate::new(100.0, 0.05);
        estimate.scale(0.5, 0.2);
        assert!((estimate.value() - 50.0).abs() < 1e-9);
    }
}
