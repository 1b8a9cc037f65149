//! How many shadows the pool keeps: its figures, or shares of the primaries, or the least there may be
//! while the far forecast asks for none.

use serde::{Deserialize, Serialize};

use crate::announced::Asked;
use crate::demand::Outlook;
use crate::rules::Sight;
use crate::scene::{count, shadows_text};
use crate::supply::Supply;
use crate::{Law, PoolSpec, Reason, Role, ServiceObservation, ServiceSpec, SizingSpec};

/// Demand must ask for no shadow, as far as curves see, for this long before the reserve shrinks. It grows
/// at once.
const QUIET_MS: u64 = 600_000;
/// The quantile of demand that must ask for none, in hundredths.
const QUIET_QUANTILE: u8 = 99;
/// What no place makes is stood in for by readier ones once it has been so for this long: a back-off of
/// some ticks is waited out.
const SHORT_MS: u64 = 2_000;

/// Of a service without a provider.
const NO_POOL: PoolSpec = PoolSpec { shadow: 0, warm: 0, full: 0, max: 0 };

/// What must be remembered between ticks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sizing {
    /// Since when demand asks for no shadow as far as curves see.
    quiet_since_ms: Option<u64>,
    /// Whether the reserve is the least there may be.
    is_least: bool,
    /// Since when shadows are wanted that no place makes, and how many.
    short: Option<(u64, u32)>,
}

/// Shadows that are wanted and that no place makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) missing: u32,
}

/// The pool in this tick.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    pub(crate) pool: PoolSpec,
    /// Shadows of any tier, never fewer.
    pub(crate) least: u32,
    /// Said when it became another.
    pub(crate) reason: Option<Reason>,
}

impl Size {
    /// Leaves room for shadows that are not the pool's.
    pub(crate) fn leave_out(&mut self, shadows: u32) {
        self.pool.max = self.pool.max.saturating_sub(shadows);
        self.least = self.least.saturating_sub(shadows);
    }
}

impl SizingSpec {
    /// What the far forecast is asked, where the pool's size depends on it.
    #[must_use]
    pub fn sight(&self) -> Option<Sight> {
        let sight = Sight { ahead_ms: Self::QUIET_AHEAD_MS, quantile: QUIET_QUANTILE };
        self.min.is_some().then_some(sight)
    }
}

impl Sizing {
    /// The spec is another one: what was quiet under the old says nothing.
    pub(crate) fn restart(&mut self) {
        self.quiet_since_ms = None;
        self.is_least = false;
    }

    /// The pool's figures in this tick.
    pub(crate) fn size(
        &mut self,
        spec: &ServiceSpec,
        seen: &ServiceObservation,
        (supply, outlook): (&Supply, &Outlook),
        now_ms: u64,
    ) -> Size {
        let Some(pool) = spec.pool else {
            return Size { pool: NO_POOL, least: 0, reason: None };
        };
        let primaries = count(seen.instances.iter().filter(|i| i.role == Role::Primary));
        let pool = by_primaries(pool, &spec.sizing, primaries);
        let Some(min) = spec.sizing.min else { return Size { pool, least: 0, reason: None } };
        let least = min.of(primaries).min(pool.max);
        let highest_rps = highest_ahead(&spec.sizing, seen, outlook);
        let needs = highest_rps.map(|rps| supply.shadows_asked(Asked::of(rps, None)));
        let is_quiet = needs == Some(0) && supply.known && supply.lost_primaries == 0;
        self.quiet_since_ms = is_quiet.then(|| self.quiet_since_ms.unwrap_or(now_ms));
        let was_least = self.is_least;
        self.is_least =
            self.quiet_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= QUIET_MS);
        let reason = (self.is_least != was_least).then(|| Reason {
            law: Law::Pool,
            text: changed_text(self.is_least, least, (pool, supply), highest_rps, needs),
        });
        let least_pool = PoolSpec { shadow: least, warm: 0, full: 0, max: pool.max };
        Size { pool: if self.is_least { least_pool } else { pool }, least, reason }
    }

    /// What was short when it was last looked, if that lasts.
    pub(crate) fn shortage(&self, now_ms: u64) -> Option<Shortage> {
        let (since_ms, missing) = self.short?;
        (now_ms.saturating_sub(since_ms) >= SHORT_MS).then_some(Shortage { missing })
    }

    /// Takes how many shadows are wanted now that no place makes.
    pub(crate) fn note_short(&mut self, missing: u32, now_ms: u64) {
        let since_ms = self.short.map_or(now_ms, |(since_ms, _)| since_ms);
        self.short = (missing > 0).then_some((since_ms, missing));
    }
}

/// The highest demand as far ahead as the pool's size looks; nothing where no curve says it.
fn highest_ahead(sizing: &SizingSpec, seen: &ServiceObservation, outlook: &Outlook) -> Option<f64> {
    let sight = sizing.sight()?;
    let told = seen.foreseen.iter().find(|told| told.sight() == sight)?;
    let near = outlook.asked(sight.ahead_ms, |h| h.upper_rps).rps;
    told.most_rps.is_finite().then(|| told.most_rps.max(near).max(outlook.now_rps))
}

/// Figures that are shares of the primaries, within the pool's bound: what is readier comes first.
pub(crate) fn by_primaries(pool: PoolSpec, sizing: &SizingSpec, primaries: u32) -> PoolSpec {
    let of = |share: Option<f64>, count: u32| {
        share.map_or(count, |share| crate::Kept::Share(share).of(primaries))
    };
    if sizing.shadow_share.or(sizing.warm_share).or(sizing.full_share).is_none() {
        return pool;
    }
    let full = of(sizing.full_share, pool.full).min(pool.max);
    let warm = of(sizing.warm_share, pool.warm).min(pool.max - full);
    let shadow = of(sizing.shadow_share, pool.shadow).min(pool.max - full - warm);
    PoolSpec { shadow, warm, full, max: pool.max }
}

fn changed_text(
    is_least: bool,
    least: u32,
    (pool, supply): (PoolSpec, &Supply),
    highest_rps: Option<f64>,
    needs: Option<u32>,
) -> String {
    let hours = SizingSpec::QUIET_AHEAD_MS / 3_600_000;
    let carried =
        format!("{:.0} rps at {:.0}% utilisation", supply.primary_rps, supply.target * 100.0);
    let highest = highest_rps.unwrap_or(0.0);
    if is_least {
        return format!(
            "the pool keeps {}, its least and paused: for {hours} h the {QUIET_QUANTILE}% quantile of \
             demand is at most {highest:.0} rps, and primaries carry {carried}",
            shadows_text(least)
        );
    }
    let why = match needs {
        Some(0) => "a primary is lost, or what they carry is not known any more".to_owned(),
        Some(needs) => format!(
            "within {hours} h demand may come to {highest:.0} rps, and primaries carry {carried}: {} \
             may be needed",
            shadows_text(needs)
        ),
        None => format!("no curve says what comes in {hours} h"),
    };
    let PoolSpec { shadow, warm, full, .. } = pool;
    format!("the pool keeps shadow {shadow}, warm {warm}, full {full} again: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kept;

    #[test]
    fn shares_of_the_primaries_are_rounded_up_and_bounded() {
        let pool = PoolSpec { shadow: 1, warm: 1, full: 0, max: 4 };
        let sizing = SizingSpec { warm_share: Some(0.5), ..SizingSpec::default() };
        let warm = |primaries| by_primaries(pool, &sizing, primaries).warm;
        assert_eq!([0, 1, 2, 3, 4].map(warm), [0, 1, 1, 2, 2]);
        let many = by_primaries(pool, &sizing, 100);
        assert_eq!((many.shadow, many.warm, many.full), (0, 4, 0), "never above max");
        assert_eq!(by_primaries(pool, &SizingSpec::default(), 9), pool);
        assert_eq!(Kept::Share(0.1).of(10), 1, "a tenth of ten is one, whatever its binary form");
        assert_eq!(Kept::Share(f64::NAN).of(10), 0);
    }

    #[test]
    fn a_shortage_counts_once_it_lasts() {
        let mut sizing = Sizing::default();
        sizing.note_short(2, 1_000);
        assert_eq!(sizing.shortage(2_900), None);
        sizing.note_short(1, 2_900);
        assert_eq!(sizing.shortage(3_000), Some(Shortage { missing: 1 }));
        sizing.note_short(0, 3_100);
        assert_eq!(sizing.shortage(9_000), None);
    }
}
