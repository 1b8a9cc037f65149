//! How requests are shared out: primaries to the target, the rest to shadows, never in jumps.

use crate::fleet::Member;
use crate::scene::Scene;
use crate::{InstanceId, WEIGHT_SCALE};

/// Part of its capacity that a serving shadow is given even when nothing overflows: enough to keep
/// its connections open and its capacity known.
const IDLE_FILL: f64 = 0.05;

/// The shares the laws want, by position of the member; all zero when nothing may take requests.
pub(crate) struct Target {
    pub(crate) shares: Vec<f64>,
    /// Whether everything together carries less than demand at target utilisation.
    pub(crate) short: bool,
}

/// Fills primaries in proportion to capacity up to the target, shadows with what is beyond.
///
/// Shadows standing in for lost primaries are filled like them. When all together are too little,
/// everything is filled alike, so that all are late together and least.
pub(crate) fn fill(scene: &Scene<'_>, demand_rps: f64, returning: Option<InstanceId>) -> Target {
    let members = &scene.members;
    let usable = |m: &Member<'_>| {
        if m.eligible { scene.supply.target * m.rps * m.ramp * m.trust.part * m.kept } else { 0.0 }
    };
    let mut carried: Vec<f64> = members.iter().map(usable).collect();
    let split = scene.shift.and_then(|shift| {
        let split = shift.split(members, &carried, scene.supply.target, demand_rps)?;
        // Both are filled as one, in the source's place.
        (carried[split.source], carried[split.target]) = (split.sum_rps(), 0.0);
        Some(split)
    });
    let order = filling_order(scene, returning);
    let missing = scene.supply.lost_primaries.saturating_add(scene.at_risk.primaries);
    let stand_ins = (missing as usize).min(order.len());
    let (first, later) = order.split_at(stand_ins);

    let mut amounts: Vec<f64> =
        members.iter().zip(&carried).map(|(m, rps)| if m.is_base() { *rps } else { 0.0 }).collect();
    for &at in first {
        amounts[at] = carried[at];
    }
    let base_rps: f64 = amounts.iter().sum();
    let mut left_rps = (demand_rps - base_rps).max(0.0);
    for &at in later {
        let taken = left_rps.min(carried[at]);
        left_rps -= taken;
        amounts[at] = taken.max(IDLE_FILL * carried[at]);
    }
    let short = left_rps > 0.0 && demand_rps > 0.0;
    // Below the target, primaries still share all that is asked; the shadows' part is absolute.
    let shadows_rps: f64 = later.iter().map(|&at| amounts[at]).sum();
    if short {
        amounts.clone_from_slice(&carried);
    } else if base_rps > 0.0 {
        let scale = ((demand_rps - shadows_rps) / base_rps).max(0.1);
        for (at, member) in members.iter().enumerate() {
            if member.is_base() || first.contains(&at) {
                amounts[at] *= scale;
            }
        }
    }
    split.iter().for_each(|split| split.divide(&mut amounts));
    let sum: f64 = amounts.iter().sum();
    if sum > 0.0 {
        amounts.iter_mut().for_each(|rps| *rps /= sum);
    }
    Target { shares: amounts, short }
}

/// Positions of the shadows that may be filled: nearest first, then cheapest, then oldest.
fn filling_order(scene: &Scene<'_>, returning: Option<InstanceId>) -> Vec<usize> {
    let members = &scene.members;
    let alone = !members.iter().any(|m| m.eligible && Some(m.id()) != returning);
    let mut order: Vec<usize> = (0..members.len())
        .filter(|&at| members[at].is_shadow() && members[at].eligible)
        .filter(|&at| alone || Some(members[at].id()) != returning)
        .collect();
    order.sort_by_key(|&at| {
        let member = &members[at];
        (scene.distance(member), std::cmp::Reverse(member.seen.tier_age_ms), member.id())
    });
    order
}

/// Limits on one step from the shares in force towards those wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Largest change of one share in this step.
    pub(crate) most: f64,
    /// Changes below it are left alone.
    pub(crate) hysteresis: f64,
}

/// One step from the shares in force towards the target. Those that may take no requests drop to
/// zero at once, their part going to the others in proportion; returns whether anything changed.
pub(crate) fn step(shares: &mut [f64], target: &[f64], eligible: &[bool], pace: Pace) -> bool {
    let mut forced = false;
    for (share, eligible) in shares.iter_mut().zip(eligible) {
        if !eligible && *share > 0.0 {
            *share = 0.0;
            forced = true;
        }
    }
    if !normalise(shares) {
        // Nothing was in force, or all of it failed: there is nothing to be gentle with.
        shares.copy_from_slice(target);
        return forced || shares.iter().any(|s| *s > 0.0);
    }
    let wide = |(share, target): (&f64, &f64)| {
        (share - target).abs() >= pace.hysteresis.max(1e-6) || (*target <= 0.0) != (*share <= 0.0)
    };
    if !forced && !shares.iter().zip(target).any(wide) {
        return false;
    }
    for (share, target) in shares.iter_mut().zip(target) {
        *share += (target - *share).clamp(-pace.most, pace.most);
    }
    normalise(shares);
    true
}

/// Scales to a sum of one; false when there is nothing to scale.
fn normalise(shares: &mut [f64]) -> bool {
    let sum: f64 = shares.iter().sum();
    if sum <= 0.0 || !sum.is_finite() {
        return false;
    }
    shares.iter_mut().for_each(|share| *share /= sum);
    true
}

/// The weight of a share; only a share of zero has weight zero.
pub(crate) fn weight(share: f64) -> u32 {
    if share <= 0.0 {
        return 0;
    }
    ((share * f64::from(WEIGHT_SCALE)).round() as u32).clamp(1, WEIGHT_SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { most: 0.05, hysteresis: 0.02 };

    #[test]
    fn noise_is_left_alone_and_changes_are_slewed() {
        let mut shares = [0.5, 0.5];
        assert!(!step(&mut shares, &[0.51, 0.49], &[true, true], PACE));
        assert!(step(&mut shares, &[0.9, 0.1], &[true, true], PACE));
        assert!((shares[0] - 0.55).abs() < 1e-9 && (shares[1] - 0.45).abs() < 1e-9);
    }

    #[test]
    fn the_failed_drop_at_once() {
        let mut shares = [0.4, 0.4, 0.2];
        assert!(step(&mut shares, &[0.0, 0.6, 0.4], &[false, true, true], PACE));
        assert_eq!(shares[0], 0.0);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_last_bit_of_a_share_goes_too() {
        let mut shares = [0.99, 0.01];
        assert!(step(&mut shares, &[1.0, 0.0], &[true, true], PACE));
        assert_eq!(weight(shares[1]), 0);
    }

    #[test]
    fn a_share_that_is_not_zero_keeps_a_weight() {
        assert_eq!(weight(1e-9), 1);
        assert_eq!(weight(1.0), WEIGHT_SCALE);
        assert_eq!(weight(0.0), 0);
    }
}
