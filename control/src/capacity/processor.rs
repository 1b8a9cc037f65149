//! What the processor time that requests take says of how many of them fit.

use serde::{Deserialize, Serialize};

use crate::ResourceSample;

/// Windows that the line is drawn through, as far as they still count.
const MEMORY_WINDOWS: f64 = 60.0;
/// Windows before it is.
const LEAST_WINDOWS: f64 = 3.0;
/// Below this share of what it may use, an instance shows its own upkeep rather than its requests.
const LEAST_SHARE: f64 = 0.1;
/// Relative deviation of throughputs from which their line says what is used without requests.
const LEAST_SPREAD: f64 = 0.1;

/// Processor time by throughput.
///
/// By the utilisation law (Denning and Buzen 1978, "The Operational Analysis of Queueing Network
/// Models", section 3) throughput `X` keeps `b + X D` cores busy, where every request takes `D` core
/// seconds; so no more than `(limit - b) / D` requests a second can be. `b` and `D` are a line through
/// the windows seen, by least squares (Zhang, Cherkasova & Smirni 2007, "A Regression-Based Analytic
/// Model for Dynamic Resource Provisioning of Multi-Tier Applications"). It bounds capacity from above
/// and is no estimate of it: what is short may be something else.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Processor {
    /// Of this window: its length, and cores in use and allowed, times milliseconds.
    elapsed_ms: f64,
    used_ms: f64,
    limit_ms: f64,
    /// Windows as far as they count, and their sums: throughput, cores, squared throughput, both.
    windows: f64,
    rps: f64,
    cores: f64,
    rps_squared: f64,
    both: f64,
    /// Cores allowed in the newest window.
    limit_cores: f64,
}

impl Processor {
    /// Takes what was seen in one tick.
    pub(crate) fn add(&mut self, seen: &ResourceSample, elapsed_ms: u64) {
        let (Some(used), Some(limit)) = (seen.cpu_cores, seen.cpu_limit_cores) else { return };
        let believable = 0.0..=1e6;
        if believable.contains(&used) && believable.contains(&limit) && limit > 0.0 {
            let elapsed_ms = elapsed_ms as f64;
            self.elapsed_ms += elapsed_ms;
            self.used_ms += used * elapsed_ms;
            self.limit_ms += limit * elapsed_ms;
        }
    }

    /// What was seen of this window was under other conditions.
    pub(crate) fn interrupt(&mut self) {
        (self.elapsed_ms, self.used_ms, self.limit_ms) = (0.0, 0.0, 0.0);
    }

    /// The window ends, in which `rps` requests a second were answered.
    pub(crate) fn learn(&mut self, rps: f64) {
        if self.elapsed_ms > 0.0 {
            let cores = self.used_ms / self.elapsed_ms;
            self.limit_cores = self.limit_ms / self.elapsed_ms;
            let keep = 1.0 - 1.0 / MEMORY_WINDOWS;
            let add = |sum: &mut f64, value: f64| *sum = keep * *sum + value;
            add(&mut self.windows, 1.0);
            add(&mut self.rps, rps);
            add(&mut self.cores, cores);
            add(&mut self.rps_squared, rps * rps);
            add(&mut self.both, rps * cores);
        }
        self.interrupt();
    }

    /// The service changed: what a request takes now is not known.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Most requests per second that the processors allow; none while it cannot be said.
    pub(crate) fn limit_rps(&self) -> Option<f64> {
        if self.windows < LEAST_WINDOWS {
            return None;
        }
        let (rps, cores) = (self.rps / self.windows, self.cores / self.windows);
        if rps <= 0.0 || cores < LEAST_SHARE * self.limit_cores {
            return None;
        }
        let variance = self.rps_squared / self.windows - rps * rps;
        let slope = match variance > LEAST_SPREAD * LEAST_SPREAD * rps * rps {
            true => (self.both / self.windows - rps * cores) / variance,
            false => cores / rps,
        };
        // Nothing is used less than not at all when nothing is asked.
        let per_request = slope.clamp(0.25 * cores / rps, cores / rps);
        let upkeep = cores - per_request * rps;
        Some(((self.limit_cores - upkeep) / per_request).max(rps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After windows of these throughputs at 20 ms of processor time each and half a core of upkeep,
    /// on four cores.
    fn limit_rps(throughputs: &[f64]) -> Option<f64> {
        let mut processor = Processor::default();
        for rps in throughputs {
            let seen = ResourceSample {
                cpu_cores: Some(0.5 + 0.02 * rps),
                cpu_limit_cores: Some(4.0),
                ..ResourceSample::default()
            };
            (0..10).for_each(|_| processor.add(&seen, 100));
            processor.learn(*rps);
        }
        processor.limit_rps()
    }

    #[test]
    fn a_line_through_throughputs_leaves_the_upkeep_out() {
        let found = limit_rps(&[40.0, 60.0, 80.0, 60.0, 40.0]).expect("enough was seen");
        assert!((found - 175.0).abs() < 1e-6, "{found}");
    }

    #[test]
    fn an_even_throughput_counts_the_upkeep_in() {
        let found = limit_rps(&[50.0, 51.0, 49.0, 50.0]).expect("enough was seen");
        assert!((found - 133.3).abs() < 1.0, "{found}");
    }

    #[test]
    fn idle_and_unseen_processors_say_nothing() {
        assert_eq!(limit_rps(&[50.0, 60.0]), None);
        assert_eq!(Processor::default().limit_rps(), None);
        let mut broken = Processor::default();
        let seen = ResourceSample {
            cpu_cores: Some(f64::NAN),
            cpu_limit_cores: Some(-1.0),
            ..ResourceSample::default()
        };
        for _ in 0..10 {
            broken.add(&seen, 100);
            broken.learn(50.0);
        }
        assert_eq!(broken.limit_rps(), None);
    }
}
