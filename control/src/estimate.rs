//! A positive quantity known with an uncertainty: a scalar Kalman filter on its logarithm.

use serde::{Deserialize, Serialize};

/// Growth of the variance of the logarithm per second: slow enough to keep what was learned for
/// minutes, fast enough to follow a server that ages.
const DRIFT_VARIANCE_PER_S: f64 = 0.0002;
/// Knowledge never gets so vague that it says nothing.
const MAX_VARIANCE: f64 = 1.0;
/// The formulas behind the measurements are not exact, however many agree.
const LEAST_VARIANCE: f64 = 0.0016;
/// Steps of a search that leaves two thirds each; the mode is exact to about 1e-4 of the range.
const SEARCH_STEPS: u32 = 24;

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

    /// A measurement of something that depends on the quantity: `expected(value)` should have
    /// been `measured`, give or take `error`. The mode of the posterior is searched within
    /// `range`, its curvature gives the new variance (Laplace's approximation).
    pub(crate) fn update_through(
        &mut self,
        measured: f64,
        error: f64,
        range: (f64, f64),
        expected: impl Fn(f64) -> f64,
    ) {
        let misfit = |ln: f64| {
            let residual = (expected(ln.exp()) - measured) / error;
            residual * residual + (ln - self.ln) * (ln - self.ln) / self.variance
        };
        let (mut low, mut high) = (range.0.max(1e-6).ln(), range.1.max(1e-6).ln());
        for _ in 0..SEARCH_STEPS {
            let third = (high - low) / 3.0;
            if misfit(low + third) < misfit(high - third) {
                high -= third;
            } else {
                low += third;
            }
        }
        let mode = f64::midpoint(low, high);
        let slope = (expected((mode + 0.02).exp()) - expected((mode - 0.02).exp())) / 0.04;
        let information = slope * slope / (error * error);
        self.ln = mode;
        self.variance = (1.0 / (1.0 / self.variance + information)).max(LEAST_VARIANCE);
    }

    /// Standard error of the logarithm.
    pub(crate) fn error(&self) -> f64 {
        self.variance.sqrt()
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
