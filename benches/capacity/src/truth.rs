//! What a backend can really serve within its objective: its queue, simulated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foreshadow_testbed::backend::Distribution;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Requests of one simulated run; the share of late ones is then exact to about a tenth of it.
const REQUESTS: u32 = 200_000;
/// Of those, requests at the start that are not counted.
const WARM_UP: u32 = 5_000;
/// Halvings of the range of utilisations: a thousandth is closer than the simulation itself.
const HALVINGS: u32 = 10;
/// Utilisation up to which a queue of this length settles.
const MOST: f64 = 0.99;

/// A queue: slots, the service times they take, and the latency it is to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) slots: u32,
    pub(crate) mean_ms: f64,
    pub(crate) distribution: Distribution,
    pub(crate) cv: f64,
    /// Latency of the 99th percentile.
    pub(crate) objective_ms: f64,
}

impl Queue {
    /// Requests per second beyond which the queue grows for ever.
    pub(crate) fn saturation_rps(&self) -> f64 {
        f64::from(self.slots) * 1_000.0 / self.mean_ms
    }

    /// Most requests per second, arriving as a Poisson process, of which 99 % are answered within
    /// the objective; 0 where not even an idle backend manages.
    pub(crate) fn within_objective_rps(&self) -> f64 {
        let (mut good, mut bad) = (0.0, MOST);
        if self.late(bad) <= 0.01 {
            return bad * self.saturation_rps();
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(good, bad);
            if self.late(middle) <= 0.01 {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good * self.saturation_rps()
    }

    /// Share of requests later than the objective at a utilisation.
    ///
    /// First come, first served on the slot that is free first (Kiefer and Wolfowitz 1955, "On the
    /// theory of queues with many servers"). Every utilisation sees the same draws.
    fn late(&self, utilisation: f64) -> f64 {
        let mut rng = StdRng::seed_from_u64(7);
        let gap_us = self.mean_ms * 1e3 / f64::from(self.slots) / utilisation;
        let mut free_us: BinaryHeap<Reverse<u64>> = (0..self.slots).map(|_| Reverse(0)).collect();
        let (mut now_us, mut late) = (0.0, 0_u32);
        for nth in 0..REQUESTS {
            now_us += gap_us * exponential(&mut rng);
            let service_us = self.mean_ms * 1e3 * self.shape(&mut rng);
            let Some(Reverse(free)) = free_us.pop() else { return 1.0 };
            let done_us = now_us.max(free as f64) + service_us;
            free_us.push(Reverse(done_us as u64));
            late += u32::from(nth >= WARM_UP && done_us - now_us > self.objective_ms * 1e3);
        }
        f64::from(late) / f64::from(REQUESTS - WARM_UP)
    }

    /// A service time of mean 1, as the testbed draws it.
    fn shape(&self, rng: &mut StdRng) -> f64 {
        match self.distribution {
            Distribution::Constant => 1.0,
            Distribution::Exponential => exponential(rng),
            Distribution::Lognormal => {
                let variance = (self.cv * self.cv).ln_1p();
                let radius = (2.0 * exponential(rng)).sqrt();
                let normal = radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
                (variance.sqrt() * normal - variance / 2.0).exp()
            }
        }
    }
}

fn exponential(rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Queue = Queue {
        slots: 1,
        mean_ms: 10.0,
        distribution: Distribution::Exponential,
        cv: 1.0,
        objective_ms: 100.0,
    };

    #[test]
    fn one_exponential_slot_is_the_textbook_queue() {
        // M/M/1: latency is exponential with rate mu - lambda, so 99 % are within t as long as
        // mu - lambda = ln(100) / t: 100 - 46.05 per second.
        let found = ONE.within_objective_rps();
        assert!((found - 53.95).abs() < 1.5, "{found}");
    }

    #[test]
    fn an_objective_below_the_service_time_is_met_by_nobody() {
        let queue = Queue { distribution: Distribution::Constant, objective_ms: 9.0, ..ONE };
        assert_eq!(queue.within_objective_rps(), 0.0);
    }

    #[test]
    fn more_slots_come_nearer_to_saturation() {
        let share = |slots| {
            let queue = Queue { slots, ..ONE };
            queue.within_objective_rps() / queue.saturation_rps()
        };
        let (few, many) = (share(2), share(32));
        assert!(few < many && many < 1.0, "{few} {many}");
    }
}
