//! How long a request takes: a distribution and a warm-up curve. Pure; time comes in as a value.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::args::{Args, Distribution};

/// Draws service times.
#[derive(Debug)]
pub(super) struct ServiceTimes {
    mean_s: f64,
    distribution: Distribution,
    cv: f64,
    warm_up: WarmUp,
    cold_factor: f64,
    first: Option<Instant>,
    drawn: u64,
    rng: StdRng,
}

#[derive(Debug, Clone, Copy)]
enum WarmUp {
    None,
    Time(Duration),
    Requests(u64),
}

impl ServiceTimes {
    pub(super) fn new(args: &Args) -> Self {
        let warm_up = match (args.warmup, args.warmup_requests) {
            (Some(time), _) if !time.is_zero() => WarmUp::Time(time),
            (_, Some(requests)) if requests > 0 => WarmUp::Requests(requests),
            _ => WarmUp::None,
        };
        Self {
            mean_s: args.service_time.as_secs_f64(),
            distribution: args.distribution,
            cv: args.cv,
            warm_up,
            cold_factor: args.cold_factor,
            first: None,
            drawn: 0,
            rng: StdRng::seed_from_u64(args.seed),
        }
    }

    /// The factor of the warm-up curve at `now`: from the cold factor it goes linearly to 1.
    pub(super) fn factor(&self, now: Instant) -> f64 {
        let progress = match (self.warm_up, self.first) {
            (WarmUp::None, _) => 1.0,
            (WarmUp::Time(_), None) => 0.0,
            (WarmUp::Time(time), Some(first)) => {
                now.saturating_duration_since(first).as_secs_f64() / time.as_secs_f64()
            }
            (WarmUp::Requests(requests), _) => self.drawn as f64 / requests as f64,
        };
        self.cold_factor + (1.0 - self.cold_factor) * progress.min(1.0)
    }

    /// The service time of a request that enters service at `now`.
    pub(super) fn draw(&mut self, now: Instant) -> Duration {
        self.first.get_or_insert(now);
        let factor = self.factor(now);
        self.drawn += 1;
        let shape = match self.distribution {
            Distribution::Constant => 1.0,
            Distribution::Exponential => -self.positive().ln(),
            Distribution::Lognormal => {
                // Mean 1 and variance cv^2: sigma^2 = ln(1 + cv^2), mu = -sigma^2 / 2.
                let variance = (self.cv * self.cv).ln_1p();
                (variance.sqrt() * self.normal() - variance / 2.0).exp()
            }
        };
        // An hour bounds the product of the largest factors and draws; nobody waits longer.
        Duration::from_secs_f64((self.mean_s * shape * factor).min(3_600.0))
    }

    /// A uniform number in (0, 1].
    fn positive(&mut self) -> f64 {
        1.0 - self.rng.random::<f64>()
    }

    /// A standard normal number (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.positive().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.rng.random::<f64>()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(distribution: Distribution, cv: f64) -> (f64, f64) {
        let args = Args { distribution, cv, ..Args::default() };
        let mut times = ServiceTimes::new(&args);
        let now = Instant::now();
        let draws: Vec<f64> = (0..50_000).map(|_| times.draw(now).as_secs_f64() * 1e3).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn every_distribution_keeps_its_mean_and_spread() {
        // The bounds are wider than five standard errors of 50,000 draws.
        for (distribution, cv, expected_cv) in [
            (Distribution::Constant, 0.5, 0.0),
            (Distribution::Exponential, 0.5, 1.0),
            (Distribution::Lognormal, 0.5, 0.5),
        ] {
            let (mean_ms, cv) = moments(distribution, cv);
            assert!((mean_ms - 20.0).abs() < 0.5, "{distribution:?}: mean {mean_ms} ms");
            assert!((cv - expected_cv).abs() < 0.03, "{distribution:?}: cv {cv}");
        }
    }

    #[test]
    fn warms_up_by_time_since_the_first_request() {
        let args = Args { warmup: Some(Duration::from_secs(4)), ..Args::default() };
        let mut times = ServiceTimes::new(&args);
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(times.factor(at(100)), 3.0, "nothing served, so still cold");
        assert_eq!(times.draw(at(100)), Duration::from_millis(60));
        assert_eq!(times.draw(at(102)), Duration::from_millis(40));
        assert_eq!(times.draw(at(104)), Duration::from_millis(20));
        assert_eq!(times.factor(at(999)), 1.0);
    }

    #[test]
    fn warms_up_by_requests() {
        let args = Args { warmup_requests: Some(2), cold_factor: 5.0, ..Args::default() };
        let mut times = ServiceTimes::new(&args);
        let now = Instant::now();
        let drawn: Vec<u128> = (0..4).map(|_| times.draw(now).as_millis()).collect();
        assert_eq!(drawn, [100, 60, 20, 20]);
    }

    #[test]
    fn without_a_warm_up_it_is_warm() {
        assert_eq!(ServiceTimes::new(&Args::default()).factor(Instant::now()), 1.0);
    }
}
