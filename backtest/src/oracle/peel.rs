//! Takes instances away from a fleet that is large enough, for as long as nothing is violated.

use super::law::Law;

/// Steps of the law that laying a plan out may take; with more ticks and instances, several
/// instances are taken away at once.
const MOST_STEPS: usize = 400_000_000;

/// Instances that must serve in each tick, at first `served`, of which one after the other is taken
/// away wherever it is not missed for longer than `lead`, the ticks one takes to start: a shorter time
/// it stays for nothing. What violates at first may do so.
pub(super) fn peel(law: &Law<'_>, served: Vec<u32>, floor: u32, lead: usize) -> Vec<u32> {
    let ticks = served.len();
    let mut exempt = vec![false; ticks];
    law.violated(|tick| served[tick]).for_each(|tick| exempt[tick] = true);
    let mut level = served.iter().copied().max().unwrap_or(0);
    let mut plan = Plan { base: Vec::new(), needed: served, waits: vec![0.0; ticks + 1], exempt };
    let levels = level.saturating_sub(floor) as usize;
    let stride = levels.saturating_mul(ticks).div_ceil(MOST_STEPS).max(1);
    let stride = u32::try_from(stride).unwrap_or(u32::MAX);
    while level > floor {
        let below = level.saturating_sub(stride).max(floor);
        plan.take_away(law, level, below, lead);
        level = below;
    }
    plan.needed
}

struct Plan {
    /// Instances that served in each tick before a level was begun with.
    base: Vec<u32>,
    /// Instances that serve in each tick.
    needed: Vec<u32>,
    /// What waits before each tick.
    waits: Vec<f64>,
    exempt: Vec<bool>,
}

impl Plan {
    /// Leaves as many of the ticks with `level` as it can with `below`.
    fn take_away(&mut self, law: &Law<'_>, level: u32, below: u32, lead: usize) {
        self.base.clone_from(&self.needed);
        // Since when this level is off.
        let mut off_since = Some(0);
        for tick in 0..self.needed.len() {
            let is_needed = self.base[tick] + u32::from(self.exempt[tick]) > level;
            if !is_needed {
                off_since.get_or_insert(tick);
                self.needed[tick] = self.base[tick].min(below);
                if !self.serve(law, tick) {
                    continue;
                }
            }
            // Needed in this tick, or in it and as long before as what waits is too much.
            let Some(since) = off_since.take() else {
                self.needed[tick] = self.needed[tick].max(level);
                self.serve(law, tick);
                continue;
            };
            let on_from = self.on_from(law, (since, tick), (below, level), is_needed);
            // A pause as short as a start costs the same either way.
            let on_from = if on_from - since <= lead { since } else { on_from };
            self.turn(law, (on_from, tick), level);
        }
    }

    /// From which tick on `level` must serve instead of `below`, so that neither `tick` nor one from
    /// there to it is one of violation.
    fn on_from(
        &mut self,
        law: &Law<'_>,
        (since, tick): (usize, usize),
        (below, level): (u32, u32),
        is_needed: bool,
    ) -> usize {
        let mut first = tick;
        // How far back suffices, doubled until it does, then halved in between.
        let mut too_late = tick + 1;
        if is_needed && !self.turn(law, (tick, tick), level) {
            return tick;
        }
        loop {
            if !self.turn(law, (first, tick), level) {
                break;
            }
            too_late = first;
            if first == since {
                return since;
            }
            first = tick.saturating_sub(2 * (tick - first) + 1).max(since);
        }
        while too_late - first > 1 {
            let middle = first + (too_late - first) / 2;
            (first..middle).for_each(|at| self.needed[at] = self.base[at].min(below));
            self.redo(law, first, middle);
            if self.turn(law, (middle, tick), level) {
                too_late = middle
            } else {
                first = middle
            }
            if too_late == middle {
                self.turn(law, (first, tick), level);
            }
        }
        first
    }

    /// Lets at least `level` serve from tick to tick, both included; whether one of them violates.
    fn turn(&mut self, law: &Law<'_>, (from, to): (usize, usize), level: u32) -> bool {
        (from..=to).for_each(|at| self.needed[at] = self.needed[at].max(level));
        self.redo(law, from, to + 1)
    }

    /// Goes through the ticks again; whether one of them violates.
    fn redo(&mut self, law: &Law<'_>, from: usize, to: usize) -> bool {
        let mut is_over = false;
        for tick in from..to {
            is_over |= self.serve(law, tick);
        }
        is_over
    }

    fn serve(&mut self, law: &Law<'_>, tick: usize) -> bool {
        let (waits, is_over) = law.step(tick, self.needed[tick], self.waits[tick]);
        self.waits[tick + 1] = waits;
        is_over && !self.exempt[tick]
    }
}
