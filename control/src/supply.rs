//! What the instances can carry, and how many shadows a demand asks for beyond that.

use crate::ServiceSpec;
use crate::announced::Asked;
use crate::demand::Outlook;
use crate::fleet::{Member, target_utilisation};

/// Requests are taken to be able to wait this long at least: no chance is seen on a shorter time.
const LEAST_WAIT_MS: f64 = 1_000.0;

/// Bound on any count of shadows, so that no quotient of measured numbers overflows.
const MOST_SHADOWS: f64 = 10_000.0;

/// What the instances of a service carry at target utilisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Supply {
    /// All primaries, and what stands for one, that may take requests, in requests per second at target utilisation.
    pub(crate) primary_rps: f64,
    /// One shadow, likewise.
    pub(crate) shadow_rps: f64,
    pub(crate) target: f64,
    /// Primaries whose checks fail or that are ejected, and vacant ones.
    pub(crate) lost_primaries: u32,
    /// Primaries that moved to shadows that are lost.
    pub(crate) vacant: u32,
    /// Whether anything is known of any instance's capacity.
    pub(crate) known: bool,
    /// Whether the capacity of every primary that may take requests is known, not only bounded from
    /// below by what it has carried so far.
    pub(crate) measured: bool,
    any_primary: bool,
    /// Variance of the arrivals relative to their number, at least that of chance.
    dispersion: f64,
    /// How long a request may wait within the objective, and chance evens out meanwhile.
    wait_s: f64,
}

impl Supply {
    pub(crate) fn of(
        members: &[Member<'_>],
        spec: &ServiceSpec,
        typical_rps: Option<f64>,
        outlook: &Outlook,
        vacant: u32,
    ) -> Self {
        let target = target_utilisation(spec);
        let primaries = || members.iter().filter(|m| m.is_supply());
        let committed: Vec<f64> =
            members.iter().filter(|m| m.is_committed()).map(|m| m.trust.part * m.rps).collect();
        let per_shadow = if committed.is_empty() {
            typical_rps.unwrap_or(1.0)
        } else {
            committed.iter().sum::<f64>() / committed.len() as f64
        };
        let lost = primaries().filter(|m| m.is_lost()).count();
        Self {
            primary_rps: primaries()
                .filter(|m| m.eligible)
                .fold(0.0, |sum, m| sum + target * m.trust.part * m.ready_part() * m.rps),
            shadow_rps: (target * per_shadow).max(1e-3),
            target,
            lost_primaries: u32::try_from(lost).unwrap_or(u32::MAX).saturating_add(vacant),
            vacant,
            known: typical_rps.is_some(),
            measured: primaries()
                .filter(|m| m.eligible && !m.is_new())
                .all(|m| m.belief.is_some_and(|belief| belief.upper_rps.is_some())),
            any_primary: primaries().any(|m| m.eligible),
            dispersion: outlook.dispersion.max(1.0),
            wait_s: waiting_ms(spec) / 1_000.0,
        }
    }

    /// Primaries and shadows of known figures, no room for chance.
    #[cfg(test)]
    pub(crate) fn flat(primary_rps: f64, shadow_rps: f64) -> Self {
        Self {
            primary_rps,
            shadow_rps,
            target: 0.7,
            lost_primaries: 0,
            vacant: 0,
            known: true,
            measured: false,
            any_primary: true,
            dispersion: 1.0,
            wait_s: 1.0,
        }
    }

    /// Shadows without which `demand_rps` is more than all instances can do at all.
    pub(crate) fn shadows_at_the_brim(&self, demand_rps: f64) -> u32 {
        let target = self.target.max(1e-3);
        let beyond_rps = demand_rps - self.primary_rps / target;
        if !self.known || beyond_rps <= 0.0 {
            return 0;
        }
        (beyond_rps * target / self.shadow_rps).ceil().min(MOST_SHADOWS) as u32
    }

    /// What must be carried at target utilisation so that one standard deviation of chance is
    /// carried at all: square-root staffing (Halfin and Whitt 1981), at which about one request in
    /// four meets all instances full for a moment. It asks for more than the target leaves where
    /// demand is little. What an upper quantile holds of chance is not asked for again.
    pub(crate) fn with_headroom(&self, asked: Asked) -> f64 {
        let demand_rps = asked.rps;
        let sigmas = self.wait_s.sqrt().recip() - asked.held;
        if !self.measured || demand_rps <= 0.0 || sigmas <= 0.0 {
            return demand_rps;
        }
        let chance_rps = sigmas * (demand_rps * self.dispersion).sqrt();
        demand_rps.max(self.target * (demand_rps + chance_rps))
    }

    /// Shadows that must serve for `demand_rps`, which holds nothing of chance, to be carried at target
    /// utilisation.
    pub(crate) fn shadows_for(&self, demand_rps: f64) -> u32 {
        self.shadows_asked(Asked::of(demand_rps, None))
    }

    /// Shadows that must serve for what is asked to be carried at target utilisation.
    pub(crate) fn shadows_asked(&self, asked: Asked) -> u32 {
        if !self.known {
            return u32::from(!self.any_primary && asked.rps > 0.0);
        }
        let beyond_rps = self.with_headroom(asked) - self.primary_rps;
        if beyond_rps <= 0.0 {
            return 0;
        }
        (beyond_rps / self.shadow_rps).ceil().min(MOST_SHADOWS) as u32
    }
}

/// How long a request may wait within the objective, and chance evens out meanwhile.
fn waiting_ms(spec: &ServiceSpec) -> f64 {
    let objective_ms = spec.objective.latency_ms;
    let objective_ms = if objective_ms.is_finite() { objective_ms } else { 0.0 };
    objective_ms.max(LEAST_WAIT_MS).max(spec.tick_ms as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One primary and shadows of half a request per second each, filled to 95 %.
    fn supply() -> Supply {
        Supply {
            primary_rps: 0.475,
            shadow_rps: 0.475,
            target: 0.95,
            lost_primaries: 0,
            vacant: 0,
            known: true,
            measured: true,
            any_primary: true,
            dispersion: 1.0,
            wait_s: 1.0,
        }
    }

    #[test]
    fn chance_is_left_room_for_once() {
        let median = Asked::of(1.0, None);
        assert_eq!(supply().shadows_asked(median), 3, "a request per second, and one by chance");
        let upper = |mean_ms| Asked::of(3.3, None).holding(2.05, mean_ms);
        assert_eq!(supply().shadows_asked(upper(1_000)), 6, "3.3 come, hardly more");
        assert!(supply().shadows_for(3.3) > 8, "3.3 on average");
        // A mean over minutes says little of a second in them.
        let of_minutes = supply().shadows_asked(upper(60_000));
        assert!((7..=supply().shadows_for(3.3)).contains(&of_minutes), "{of_minutes}");
    }

    #[test]
    fn a_lower_quantile_and_an_event_hold_no_chance() {
        let lower = Asked::of(2.0, None).holding(-1.3, 1_000);
        assert_eq!(supply().shadows_asked(lower), supply().shadows_for(2.0));
        let event = Asked::of(2.0, Some(crate::announced::Event::Upcoming(1_000, 2.0)));
        assert_eq!(event.holding(2.05, 1_000).held, 0.0);
    }
}
