//! When requests are due: arrival times of a Poisson or an even process with a changing rate.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::profile::Profile;

/// How arrivals are spread within the rate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Independent clients: exponential gaps.
    Poisson,
    /// A metronome: equal gaps.
    Even,
}

/// The arrival times of a profile as offsets from its start, in order.
///
/// Method: time change of a unit-rate process (Cox and Lewis 1966; Devroye 1986, chapter VI.1).
/// Each gap is a unit of area under the rate (exponentially distributed for Poisson, 1 for even),
/// and the next arrival is where that area is used up. Within a step the rate is linear, so the
/// area is a quadratic whose root is exact; nothing is sampled on a grid.
#[derive(Debug)]
pub struct Arrivals {
    profile: Profile,
    spread: Spread,
    rng: StdRng,
    step: usize,
    step_start_s: f64,
    in_step_s: f64,
    area: f64,
}

impl Arrivals {
    /// The arrivals of `profile`; equal seeds give equal times.
    #[must_use]
    pub fn new(profile: Profile, spread: Spread, seed: u64) -> Self {
        let mut arrivals = Self {
            profile,
            spread,
            rng: StdRng::seed_from_u64(seed),
            step: 0,
            step_start_s: 0.0,
            in_step_s: 0.0,
            area: 0.0,
        };
        // Even arrivals stand in the middle of their interval, so none falls on a step's border.
        arrivals.area = match spread {
            Spread::Even => 0.5,
            Spread::Poisson => arrivals.gap(),
        };
        arrivals
    }

    fn gap(&mut self) -> f64 {
        match self.spread {
            Spread::Even => 1.0,
            // 1 - u lies in (0, 1], so the logarithm is finite.
            Spread::Poisson => -(1.0 - self.rng.random::<f64>()).ln(),
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let step = *self.profile.steps().get(self.step)?;
            let slope = (step.to_rps - step.from_rps) / step.duration_s;
            let rate = (step.from_rps + slope * self.in_step_s).max(0.0);
            // The root of rate x + slope x^2 / 2 = area, in the form that loses no digits.
            let discriminant = rate * rate + 2.0 * slope * self.area;
            let wait_s = 2.0 * self.area / (rate + discriminant.max(0.0).sqrt());
            let left_s = (step.duration_s - self.in_step_s).max(0.0);
            if discriminant >= 0.0 && wait_s <= left_s {
                self.in_step_s += wait_s;
                self.area = self.gap();
                return Some(Duration::from_secs_f64(self.step_start_s + self.in_step_s));
            }
            self.area = (self.area - (rate + step.to_rps) / 2.0 * left_s).max(0.0);
            self.step += 1;
            self.step_start_s += step.duration_s;
            self.in_step_s = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(profile: &str, spread: Spread, seed: u64) -> Vec<f64> {
        Arrivals::new(Profile::parse(profile).unwrap(), spread, seed)
            .map(|at| at.as_secs_f64())
            .collect()
    }

    /// Both sides of a Poisson count with mean `expected`: five standard deviations.
    fn assert_poisson(count: usize, expected: f64) {
        let bound = 5.0 * expected.sqrt();
        assert!((count as f64 - expected).abs() < bound, "{count} against {expected} +- {bound}");
    }

    #[test]
    fn poisson_counts_and_gaps_follow_the_rate() {
        let times = arrivals("hold:500rps:100s", Spread::Poisson, 7);
        assert_poisson(times.len(), 50_000.0);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // For exponential gaps the standard deviation equals the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{} / {mean}", variance.sqrt());
    }

    #[test]
    fn a_ramp_is_followed_within_the_step() {
        let times =
            arrivals("ramp:0rps..1000rps:10s,pause:5s,ramp:800rps..0rps:10s", Spread::Poisson, 3);
        let between =
            |from: f64, to: f64| times.iter().filter(|&&at| at >= from && at < to).count();
        assert_poisson(between(0.0, 5.0), 1_250.0);
        assert_poisson(between(5.0, 10.0), 3_750.0);
        assert_eq!(between(10.0, 15.0), 0);
        assert_poisson(between(15.0, 20.0), 3_000.0);
        assert_poisson(between(20.0, 25.0), 1_000.0);
        assert!(times.is_sorted());
    }

    #[test]
    fn even_arrivals_are_exact() {
        let times = arrivals("hold:100rps:1s,hold:0rps:1s,hold:10rps:1s", Spread::Even, 0);
        assert_eq!(times.len(), 110);
        assert!((times[0] - 0.005).abs() < 1e-9 && (times[100] - 2.05).abs() < 1e-6);
    }

    #[test]
    fn the_seed_decides() {
        let run = |seed| arrivals("hold:50rps:2s", Spread::Poisson, seed);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
