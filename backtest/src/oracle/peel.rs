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
    let prior = vec![0; ticks];
    let waits = vec![0.0; ticks + 1];
    let mut plan = Plan { base: Vec::new(), needed: served, prior, waits, exempt };
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
    /// The same before it was tried what must not be taken away after all.
    prior: Vec<u32>,
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
            }
            let is_over = self.serve(law, tick);
            if !is_over && !is_needed {
                continue;
            }
            let since = off_since.take().unwrap_or(tick);
            let on_from = if is_over { self.on_from(law, tick) } else { tick };
            // A pause as short as a start costs the same either way.
            let is_short = on_from >= since && on_from - since <= lead;
            self.restore(law, (if is_short { since } else { on_from }, tick));
        }
    }

    /// From which tick on, as late as can be, what was there before must serve so that neither `tick`
    /// nor one from there to it is one of violation.
    fn on_from(&mut self, law: &Law<'_>, tick: usize) -> usize {
        // How far back suffices, doubled until it does, then halved in between.
        let (mut first, mut too_late) = (tick, tick + 1);
        self.prior[tick] = self.needed[tick];
        while self.restore(law, (first, tick)) {
            too_late = first;
            if first == 0 {
                return 0;
            }
            let earlier = tick.saturating_sub(2 * (tick - first) + 1);
            self.prior[earlier..first].copy_from_slice(&self.needed[earlier..first]);
            first = earlier;
        }
        while too_late - first > 1 {
            let middle = first + (too_late - first) / 2;
            self.needed[first..middle].copy_from_slice(&self.prior[first..middle]);
            self.redo(law, first, middle);
            if self.restore(law, (middle, tick)) {
                too_late = middle;
                self.restore(law, (first, tick));
            } else {
                first = middle;
            }
        }
        first
    }

    /// Lets serve from tick to tick, both included, what was there before; whether one of them violates.
    fn restore(&mut self, law: &Law<'_>, (from, to): (usize, usize)) -> bool {
        self.needed[from..=to].copy_from_slice(&self.base[from..=to]);
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
