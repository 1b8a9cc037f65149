//! Within the forecaster's own horizons: which way to bring in what is told has done best so far.
//!
//! Every way is a forecast of its own, quantile by quantile, and is held against what came. The way
//! with the least loss is in force for that quantile (follow the leader; Cesa-Bianchi and Lugosi,
//! *Prediction, Learning, and Games*, 2006, chapter 3), over a memory of days: that a rise comes at a
//! certain time of day may pay once a day only. What is told above all that the forecaster thinks
//! likely has a record of its own: quiet hours say nothing about a morning.

use serde::{Deserialize, Serialize};

use super::track::pinball;
use crate::awaited::{Awaited, Pending, stride_ms};
use crate::demand::DemandHorizon;
use crate::{HorizonView, QuantileSpec};

/// Truths before the record chooses.
const MIN_SCORED: u64 = 60;
/// What the record remembers.
const MEMORY_MS: u64 = 2 * 86_400_000;
/// Ways to bring in what is told: not at all, the mean of both, the higher of both.
const WAYS: usize = 3;

/// The record of one horizon of the forecaster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Merge {
    pub(super) horizon_ms: u64,
    pending: Pending<Said>,
    /// Where a rise is told, and where not.
    rise: Record,
    usual: Record,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Said {
    due_ms: u64,
    is_rise: bool,
    ways: [[f64; 3]; WAYS],
}

impl Awaited for Said {
    fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Record {
    scored: u64,
    /// Mean loss by way and quantile.
    loss: [[f64; 3]; WAYS],
}

impl Merge {
    pub(super) fn new(horizon_ms: u64) -> Self {
        let (rise, usual) = (Record::default(), Record::default());
        Self { horizon_ms, pending: Pending::default(), rise, usual }
    }

    /// Remembers what each way says now.
    pub(super) fn keep(&mut self, near: &HorizonView, told: &DemandHorizon, now_ms: u64) {
        let due_ms = now_ms.saturating_add(self.horizon_ms);
        let said = Said { due_ms, is_rise: is_rise(near, told), ways: ways(near, told) };
        self.pending.keep(said, stride_ms(self.horizon_ms));
    }

    /// Holds what is due against what came.
    pub(super) fn settle(
        &mut self,
        now_ms: u64,
        tick_ms: u64,
        truth_rps: f64,
        quantiles: &QuantileSpec,
    ) {
        let apart_ms = stride_ms(self.horizon_ms).max(tick_ms);
        while let Some(said) = self.pending.next_due(now_ms, apart_ms) {
            let record = if said.is_rise { &mut self.rise } else { &mut self.usual };
            record.add(&said.ways, truth_rps, quantiles, MEMORY_MS / apart_ms);
        }
    }

    /// What the best way says of each quantile; none before there is a record.
    pub(super) fn best(&self, near: &HorizonView, told: &DemandHorizon) -> Option<HorizonView> {
        let record = if is_rise(near, told) { &self.rise } else { &self.usual };
        if record.scored < MIN_SCORED {
            return None;
        }
        let ways = ways(near, told);
        let best = |quantile: usize| {
            let loss = |way: &usize| record.loss[*way][quantile];
            let way = (0..WAYS).min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap_or(0);
            ways[way][quantile]
        };
        let lower_rps = best(0);
        let median_rps = best(1).max(lower_rps);
        let upper_rps = best(2).max(median_rps);
        Some(HorizonView { horizon_ms: near.horizon_ms, lower_rps, median_rps, upper_rps })
    }

    /// What is open will not meet its truth.
    pub(super) fn dismiss(&mut self) {
        self.pending.clear();
    }
}

impl Record {
    fn add(&mut self, ways: &[[f64; 3]; WAYS], truth_rps: f64, at: &QuantileSpec, memory: u64) {
        self.scored = self.scored.saturating_add(1);
        let rate = 1.0 / self.scored.min(memory.max(1)) as f64;
        for (loss, said) in self.loss.iter_mut().zip(ways) {
            for ((loss, rps), level) in
                loss.iter_mut().zip(said).zip([at.commit, at.warm, at.prepare])
            {
                *loss += rate * (pinball(truth_rps - rps, level) - *loss);
            }
        }
    }
}

/// Whether more is told than the forecaster thinks likely.
fn is_rise(near: &HorizonView, told: &DemandHorizon) -> bool {
    told.median_rps > near.upper_rps
}

fn ways(near: &HorizonView, told: &DemandHorizon) -> [[f64; 3]; WAYS] {
    let near = [near.lower_rps, near.median_rps, near.upper_rps];
    let told = [told.lower_rps, told.median_rps, told.upper_rps];
    let both = |pick: fn(f64, f64) -> f64| std::array::from_fn(|at| pick(near[at], told[at]));
    [near, both(f64::midpoint), both(f64::max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

    fn near() -> HorizonView {
        HorizonView { horizon_ms: 60_000, lower_rps: 90.0, median_rps: 100.0, upper_rps: 110.0 }
    }

    fn told(rps: f64) -> DemandHorizon {
        let HorizonView { horizon_ms, .. } = near();
        DemandHorizon { horizon_ms, lower_rps: 0.9 * rps, median_rps: rps, upper_rps: 1.1 * rps }
    }

    /// A record of `minutes`, told `said` of each and come true as `came`.
    fn after(minutes: u64, said: impl Fn(u64) -> f64, came: impl Fn(u64) -> f64) -> Merge {
        let mut merge = Merge::new(60_000);
        for minute in 0..=minutes {
            merge.settle(minute * 60_000, 100, came(minute), &LEVELS);
            merge.keep(&near(), &told(said(minute + 1)), minute * 60_000);
        }
        merge
    }

    #[test]
    fn what_only_widens_is_left_out_once_that_is_known() {
        let came = |minute: u64| if minute.is_multiple_of(2) { 97.0 } else { 103.0 };
        let young = after(MIN_SCORED - 1, |_| 170.0, came);
        assert_eq!(young.best(&near(), &told(170.0)), None);
        let old = after(MIN_SCORED + 1, |_| 170.0, came);
        assert_eq!(old.best(&near(), &told(170.0)), Some(near()));
    }

    #[test]
    fn a_rise_that_only_history_knows_of_is_believed_after_quiet_hours() {
        // Once in ten hours demand triples for twenty minutes, and it is told.
        let demand = |minute: u64| if minute % 600 >= 580 { 300.0 } else { 100.0 };
        let quiet = after(570, demand, demand);
        assert_eq!(quiet.best(&near(), &told(300.0)), None, "nothing speaks against it yet");
        let often = after(2_390, demand, demand);
        let best = often.best(&near(), &told(300.0)).expect("there is a record");
        assert!(best.median_rps > 299.0 && best.upper_rps > 329.0, "{best:?}");
    }

    #[test]
    fn errors_of_both_are_halved_by_their_mean() {
        let came = |minute: u64| if minute.is_multiple_of(2) { 103.0 } else { 105.0 };
        let merge = after(200, |_| 108.0, came);
        let best = merge.best(&near(), &told(108.0)).expect("there is a record");
        assert_eq!(best.median_rps, 104.0);
    }

    #[test]
    fn a_truth_that_was_not_seen_settles_nothing() {
        let mut merge = Merge::new(60_000);
        merge.keep(&near(), &told(500.0), 0);
        merge.settle(3_600_000, 100, 100.0, &LEVELS);
        assert_eq!(merge.usual.scored + merge.rise.scored, 0);
        assert!(merge.pending.is_empty());
    }
}
