//! A positive quantity known with an uncertainty: a scalar Kalman filter on its logarithm.

use serde::{Deserialize, Serialize};

/// Growth of the variance of the logarithm per second: slow enough to keep what was learned for
/// minutes, fast enough to follow a server that ages.
const DRIFT_VARIANCE_PER_S: f64 = 0.0002;
/// Knowledge never gets so vague that it says nothing.
const MAX_VARIANCE: f64 = 1.0;
/// The formulas behind the measurements are not exact, however many agree.
const LEAST_VARIANCE: f64 = 0.0016;
/// Degrees of freedom of Student's distribution, as which measurements are taken to scatter: far
/// strays are part of the trade and say little.
const STRAY: f64 = 10.0;
/// Intervals of a grid that a posterior is summed over.
const GRID: u32 = 24;

/// A positive quantity and the variance of its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    ln: f64,
    variance: f64,
    /// The variance by what tells it from larger values only. That it is not smaller can be seen
    /// again and again, and never says how large it is.
    #[serde(default = "vague")]
    above: f64,
}

fn vague() -> f64 {
    MAX_VARIANCE
}

impl Estimate {
    /// A first measurement, with its relative standard error.
    pub(crate) fn new(value: f64, error: f64) -> Self {
        Self { ln: libm::log(value.max(1e-6)), variance: error * error, above: error * error }
    }

    /// Another measurement, with its relative standard error.
    pub(crate) fn update(&mut self, value: f64, error: f64) {
        let gain = self.variance / (self.variance + error * error);
        self.ln += gain * (libm::log(value.max(1e-6)) - self.ln);
        self.variance *= 1.0 - gain;
        self.above /= 1.0 + self.above / (error * error);
    }

    /// A measurement of something that depends on the quantity: `expected(value)` should have
    /// been `measured`, give or take `error`; the quantity is above `least`.
    ///
    /// Mean and variance of the posterior are taken by summing over a grid, then over a finer one
    /// where the mass is. The mode would not do: where `expected` is steep, one stray measurement
    /// has a narrow peak that holds hardly any mass.
    pub(crate) fn update_through(
        &mut self,
        measured: f64,
        error: f64,
        least: f64,
        expected: impl Fn(f64) -> f64,
    ) {
        let misfit = |ln: f64| {
            let residual = (expected(libm::exp(ln)) - measured) / error;
            let surprise = (ln - self.ln) * (ln - self.ln) / self.variance;
            let tail = f64::midpoint(STRAY, 1.0) * libm::log1p(residual * residual / STRAY);
            tail + 0.5 * surprise
        };
        let least = libm::log(least.max(1e-6));
        let deviation = self.variance.sqrt();
        let low = (self.ln - 3.5 * deviation).max(least);
        let high = (self.ln + 3.5 * deviation).max(low + 0.2);
        let (mean, variance) = moments(low, high, &misfit);
        let reach = 4.0 * variance.sqrt().max((high - low) / f64::from(GRID));
        let (mean, variance) = moments((mean - reach).max(least), mean + reach, &misfit);
        // What a deviation upwards would change, in errors of the measurement, as far as the
        // measurement does not speak for it.
        let now = self.ln.max(least);
        let residual = |ln: f64| ((expected(libm::exp(ln)) - measured) / error).abs();
        let told = (residual(now + self.above.sqrt()) - residual(now)).max(0.0);
        self.above = (self.above / (1.0 + told * told)).max(LEAST_VARIANCE);
        self.ln = mean;
        self.variance = variance.max(LEAST_VARIANCE);
    }

    /// Standard error of the logarithm.
    pub(crate) fn error(&self) -> f64 {
        self.variance.sqrt()
    }

    /// Time passes without a measurement.
    pub(crate) fn age(&mut self, elapsed_s: f64) {
        self.variance = (self.variance + DRIFT_VARIANCE_PER_S * elapsed_s).min(MAX_VARIANCE);
        self.above = (self.above + DRIFT_VARIANCE_PER_S * elapsed_s).min(MAX_VARIANCE);
    }

    /// The quantity is now `factor` of what it was, give or take the relative `error`.
    pub(crate) fn scale(&mut self, factor: f64, error: f64) {
        self.ln += libm::log(factor);
        self.variance = (self.variance + error * error).min(MAX_VARIANCE);
        self.above = (self.above + error * error).min(MAX_VARIANCE);
    }

    pub(crate) fn value(&self) -> f64 {
        libm::exp(self.ln)
    }

    /// Lower end of the 95 % interval, what is wrong with all measurements counted in.
    pub(crate) fn lower(&self, systematic: f64) -> f64 {
        libm::exp(self.ln - 2.0 * libm::hypot(self.error(), systematic))
    }

    /// Upper end of the 95 % interval, likewise.
    pub(crate) fn upper(&self, systematic: f64) -> f64 {
        libm::exp(self.ln + 2.0 * libm::hypot(self.variance.max(self.above).sqrt(), systematic))
    }
}

/// Mean and variance of the density `exp(-misfit)` between `low` and `high`.
fn moments(low: f64, high: f64, misfit: &impl Fn(f64) -> f64) -> (f64, f64) {
    let step = (high - low) / f64::from(GRID);
    let points = (0..=GRID).map(|at| low + step * f64::from(at));
    let misfits: Vec<(f64, f64)> = points.map(|ln| (ln, misfit(ln))).collect();
    let best = misfits.iter().map(|(_, misfit)| *misfit).fold(f64::INFINITY, f64::min);
    let (mut mass, mut first, mut second) = (0.0, 0.0, 0.0);
    for (ln, misfit) in misfits {
        let density = libm::exp(best - misfit);
        mass += density;
        first += density * ln;
        second += density * ln * ln;
    }
    let mean = first / mass;
    (mean, (second / mass - mean * mean).max(0.0))
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
        let width = estimate.upper(0.0) / estimate.lower(0.0);
        assert!(width < 1.3);
        estimate.age(60.0);
        assert!(estimate.upper(0.0) / estimate.lower(0.0) > width);
    }

    #[test]
    fn a_measurement_of_a_function_is_traced_back() {
        let mut estimate = Estimate::new(300.0, 0.7);
        for _ in 0..10 {
            estimate.update_through(0.5, 0.02, 100.0, |value| 100.0 / value);
        }
        assert!((estimate.value() - 200.0).abs() < 5.0, "{}", estimate.value());
        assert!(estimate.error() < 0.05);
    }

    #[test]
    fn one_stray_measurement_does_not_jump_into_a_steep_corner() {
        let steep = |value: f64| 1.0 + libm::pow(value / 100.0, -12.0) / (1.0 - 99.0 / value);
        let mut estimate = Estimate::new(250.0, 0.7);
        estimate.update_through(1.1, 0.05, 100.0, steep);
        assert!(estimate.value() > 150.0, "{}", estimate.value());
        assert!(estimate.error() > 0.25, "{}", estimate.error());
    }

    #[test]
    fn what_is_not_smaller_may_still_be_much_larger() {
        // A wait that begins at 90 only: its absence excludes what is below and nothing above.
        let wait = |value: f64| 1.0 + libm::pow(90.0 / value, 12.0);
        let mut estimate = Estimate::new(150.0, 0.7);
        for _ in 0..30 {
            estimate.update_through(1.0, 0.05, 80.0, wait);
        }
        assert!(estimate.lower(0.0) > 80.0, "{estimate:?}");
        assert!(estimate.upper(0.0) > 300.0, "{estimate:?}");
        // Half as much again is there to be seen: the wait it would not cause.
        for _ in 0..30 {
            estimate.update_through(wait(110.0), 0.02, 80.0, wait);
        }
        assert!((0.8..1.25).contains(&(estimate.upper(0.0) / 130.0)), "{estimate:?}");
    }

    #[test]
    fn scaling_moves_it_at_once() {
        let mut estimate = Estimate::new(100.0, 0.05);
        estimate.scale(0.5, 0.2);
        assert!((estimate.value() - 50.0).abs() < 1e-9);
    }
}
