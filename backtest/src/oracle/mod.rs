//! The least instance-time that violates nothing, by one who knows all demand.
//!
//! The k-th instance is needed in the ticks in which demand exceeds what k - 1 carry. It exists
//! from a start-up before each such span to its end, and stays over a pause that is shorter than
//! the start-up. Taken level by level that is the least possible (Lu, Chen and Andrew, "Simple and
//! Effective Dynamic Provisioning for Power-Proportional Data Centers", IEEE TPDS 2013, section 3),
//! for instances that do not warm up and requests that do not wait; with a warm-up, instances start
//! so much earlier.

use crate::policy::{Orders, Seen};
use crate::reactive::resize;
use crate::{Setup, Trace};

/// A fleet size for every tick, known beforehand.
pub(crate) struct Oracle {
    /// Instances that should exist after so many ticks.
    wanted: Vec<u32>,
}

impl Oracle {
    pub(crate) fn new(trace: &Trace, setup: &Setup) -> Self {
        let lead_ms = setup.start_up.total_ms().saturating_add(setup.warm_up_ms);
        let lead = usize::try_from(lead_ms.div_ceil(trace.tick_ms)).unwrap_or(usize::MAX);
        let needed: Vec<u32> =
            (0..trace.ticks()).map(|tick| setup.instances_for(trace.rps(tick))).collect();
        Self { wanted: schedule(&needed, lead) }
    }

    pub(crate) fn constant(instances: u32, trace: &Trace, _: &Setup) -> Self {
        Self { wanted: vec![instances; trace.ticks()] }
    }

    pub(crate) fn decide(&self, seen: &Seen<'_>) -> Orders {
        let wanted = self.wanted.get(seen.ticks).copied().unwrap_or_else(|| seen.fleet.len());
        Orders { actions: resize(seen.fleet, wanted), ..Orders::default() }
    }

    /// Instances that should exist before the first tick.
    pub(crate) fn at_start(&self) -> u32 {
        self.wanted.first().copied().unwrap_or(0)
    }
}

/// How many must exist in each tick so that `needed` serve in it, when each is started `lead` ticks
/// before.
fn schedule(needed: &[u32], lead: usize) -> Vec<u32> {
    let mut exist = needed.to_vec();
    let highest = needed.iter().copied().max().unwrap_or(0);
    for level in 1..=highest {
        // Where the last span of this level ended.
        let mut ended: Option<usize> = None;
        for tick in 0..needed.len() {
            if needed[tick] < level {
                continue;
            }
            let begins = tick == 0 || needed[tick - 1] < level;
            if begins {
                let from = match ended {
                    Some(end) if tick - end <= lead => end,
                    _ => tick.saturating_sub(lead),
                };
                exist[from..tick].iter_mut().for_each(|n| *n = (*n).max(level));
            }
            ended = Some(tick + 1);
        }
    }
    exist
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_starts_a_lead_before_it_is_needed_and_stays_over_short_pauses() {
        let needed = [1, 1, 1, 1, 3, 1, 1, 3, 1, 1, 1, 1, 1, 2, 1];
        let exist = schedule(&needed, 2);
        assert_eq!(exist, [1, 1, 3, 3, 3, 3, 3, 3, 1, 1, 1, 2, 2, 2, 1]);
        assert_eq!(schedule(&needed, 0), needed);
    }

    #[test]
    fn a_pause_as_long_as_the_start_costs_the_same_either_way() {
        let total = |needed: &[u32]| schedule(needed, 3).iter().sum::<u32>();
        assert_eq!(total(&[1, 1, 1, 2, 1, 1, 1, 2]), 8 + 8);
        assert_eq!(total(&[1, 1, 1, 2, 1, 1, 1, 1, 2]), 9 + 8);
    }
}
