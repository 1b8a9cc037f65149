//! What the simulated world is like; the same for every policy.

use serde::Serialize;

use foreshadow_control::Tier;

/// Times, capacities and prices of the simulated world.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setup {
    /// What an instance answers within the objective, in requests per second.
    pub capacity_rps: f64,
    /// Instances that are always there.
    pub primaries: u32,
    /// Most instances that may exist, primaries included.
    pub max_instances: u32,
    /// Time between the tiers.
    pub start_up: StartUp,
    /// From its first request an instance's capacity grows from a half to all of it in this time.
    pub warm_up_ms: u64,
    /// How long a request may wait within the objective.
    pub wait_ms: u64,
    /// Share of the requests of a tick that may be violated.
    pub allowed_share: f64,
    /// Whether violated requests stay and have to be worked off.
    pub carry: bool,
    /// What an hour of an instance costs.
    pub prices: Prices,
    /// An activation that nothing asked for within this time was false.
    pub false_window_ms: u64,
    /// Known periods of demand, told to the controller.
    pub seasons_ms: Vec<u64>,
    /// Nothing counts before this time: policies learn.
    pub learn_ms: u64,
    /// Points of a timeline for charts.
    pub timeline_points: usize,
}

/// How long an instance needs from one tier to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StartUp {
    /// From nothing to a paused instance.
    pub create_ms: u64,
    /// From paused to running small.
    pub wake_ms: u64,
    /// From running small to serving.
    pub serve_ms: u64,
}

/// Price of an instance-hour by tier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// Primaries, and shadows at full size, serving, draining or being created.
    pub full: f64,
    /// Running small.
    pub warm: f64,
    /// Paused: memory only.
    pub paused: f64,
}

impl Setup {
    /// Instances that carry `rps` within the objective, within what may exist.
    #[must_use]
    pub fn instances_for(&self, rps: f64) -> u32 {
        let needed = (rps / self.capacity_rps.max(1e-9) - 1e-9).ceil();
        (needed.clamp(0.0, f64::from(u32::MAX)) as u32).min(self.max_instances).max(self.primaries)
    }
}

impl StartUp {
    /// From nothing to serving.
    #[must_use]
    pub fn total_ms(&self) -> u64 {
        self.create_ms.saturating_add(self.wake_ms).saturating_add(self.serve_ms)
    }

    /// From one tier to another; 0 downwards.
    pub(crate) fn ms(&self, from: Tier, to: Tier) -> u64 {
        let height = |tier: Tier| match tier {
            Tier::Cold => 0,
            Tier::Shadow => self.create_ms,
            Tier::Warm | Tier::Full => self.create_ms.saturating_add(self.wake_ms),
            Tier::Serving => self.total_ms(),
            // One that drains is still at full size.
            Tier::Draining => self.create_ms.saturating_add(self.wake_ms),
        };
        height(to).saturating_sub(height(from))
    }
}

impl Prices {
    /// Price of one at `tier`, on its way to `moving_to`.
    pub(crate) fn of(&self, tier: Tier, moving_to: Option<Tier>) -> f64 {
        // Whatever is being started runs already.
        match moving_to.map_or(tier, |to| to.max(tier)) {
            _ if tier == Tier::Cold => self.full,
            Tier::Cold | Tier::Shadow => self.paused,
            Tier::Warm => self.warm,
            Tier::Full | Tier::Serving | Tier::Draining => self.full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_up_and_going_down_is_quick() {
        let start_up = StartUp { create_ms: 60_000, wake_ms: 200, serve_ms: 100 };
        assert_eq!(start_up.ms(Tier::Cold, Tier::Serving), 60_300);
        assert_eq!(start_up.ms(Tier::Shadow, Tier::Serving), 300);
        assert_eq!(start_up.ms(Tier::Draining, Tier::Serving), 100);
        assert_eq!(start_up.ms(Tier::Serving, Tier::Warm), 0);
    }

    #[test]
    fn what_boots_costs_all_and_what_is_paused_little() {
        let prices = Prices { full: 1.0, warm: 0.5, paused: 0.1 };
        assert_eq!(prices.of(Tier::Cold, Some(Tier::Shadow)), 1.0);
        assert_eq!(prices.of(Tier::Shadow, None), 0.1);
        assert_eq!(prices.of(Tier::Shadow, Some(Tier::Serving)), 1.0);
        assert_eq!(prices.of(Tier::Warm, None), 0.5);
    }
}
