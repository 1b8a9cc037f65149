//! The cheapest fleet we can find that violates nothing, by one who knows all demand.
//!
//! It is laid out by the very law of the world: requests may wait, and a share of them may be violated.
//! First come the least number of instances that, always there, violates nothing, and the fleet that
//! serves every tick at once: there the k-th instance exists from a start-up before each span in which
//! it is needed to its end, and stays over a pause that is shorter than the start-up, which is the least
//! cost where needs are given (Lu, Chen and Andrew, "Simple and Effective Dynamic Provisioning for
//! Power-Proportional Data Centers", IEEE TPDS 2013, section 3). Of each of them one instance after the
//! other is taken away wherever it is not missed for longer than it takes to start, and the cheapest of
//! all counts. With a warm-up, instances start so much earlier.
//!
//! What waits couples the needs of one time with those of the next, so that the least possible is not
//! to be had in short: what is found is never dearer than any constant number without violations, nor
//! than serving every tick at once, but not proven to be the least of all.

mod law;
mod peel;

use std::collections::VecDeque;

use crate::ledger::counts;
use crate::policy::{Orders, Seen};
use crate::reactive::resize;
use crate::{Setup, Trace};
use law::Law;

/// A fleet size for every tick, known beforehand.
pub(crate) struct Oracle {
    /// Instances that should exist after so many ticks.
    wanted: Vec<u32>,
}

impl Oracle {
    pub(crate) fn new(trace: &Trace, setup: &Setup) -> Self {
        let lead_ms = setup.start_up.total_ms().saturating_add(setup.warm_up_ms);
        let lead = usize::try_from(lead_ms.div_ceil(trace.tick_ms)).unwrap_or(usize::MAX);
        let law = Law::new(trace, setup);
        let constant = law.least_constant();
        let at_once: Vec<u32> =
            (0..trace.ticks()).map(|tick| setup.instances_for(trace.rps(tick))).collect();
        let at_once = schedule(&at_once, lead);
        let peeled = |served| schedule(&peel::peel(&law, served, setup.primaries, lead), lead);
        let plans = [
            peeled(lasting(&at_once, lead)),
            peeled(vec![constant; trace.ticks()]),
            at_once,
            vec![constant; trace.ticks()],
        ];
        let judged = plans.into_iter().map(|exist| {
            let serving = lasting(&exist, lead);
            let violated = law.violated(|tick| serving[tick]).count();
            let counted = (0..trace.ticks()).filter(|tick| counts(trace, setup, *tick));
            let hours: u64 = counted.map(|tick| u64::from(exist[tick])).sum();
            (violated, hours, exist)
        });
        let best = judged.min_by_key(|(violated, hours, _)| (*violated, *hours));
        Self { wanted: best.map_or_else(Vec::new, |(_, _, exist)| exist) }
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

/// How many have existed for `lead` ticks, those of the beginning for ever.
fn lasting(exist: &[u32], lead: usize) -> Vec<u32> {
    // Ticks of which none after has less, by rising number.
    let mut least: VecDeque<usize> = VecDeque::new();
    let each = (0..exist.len()).map(|tick| {
        while least.back().is_some_and(|last| exist[*last] >= exist[tick]) {
            least.pop_back();
        }
        least.push_back(tick);
        while least.front().is_some_and(|first| first.saturating_add(lead) < tick) {
            least.pop_front();
        }
        least.front().map_or(0, |first| exist[*first])
    });
    each.collect()
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
    fn who_lasts_serves() {
        assert_eq!(lasting(&[1, 1, 3, 3, 3, 2, 3, 3, 3], 2), [1, 1, 1, 1, 3, 2, 2, 2, 3]);
        assert_eq!(lasting(&[4, 3, 5], 0), [4, 3, 5]);
        assert_eq!(lasting(&[4, 3, 5], usize::MAX), [4, 3, 3]);
    }

    #[test]
    fn a_pause_as_long_as_the_start_costs_the_same_either_way() {
        let total = |needed: &[u32]| schedule(needed, 3).iter().sum::<u32>();
        assert_eq!(total(&[1, 1, 1, 2, 1, 1, 1, 2]), 8 + 8);
        assert_eq!(total(&[1, 1, 1, 2, 1, 1, 1, 1, 2]), 9 + 8);
    }
}
