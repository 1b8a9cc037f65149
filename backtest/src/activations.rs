//! Instances that began to serve: were they needed, and were they ready before?

use crate::ledger::counts;
use crate::outcome::{Activations, Quartiles};
use crate::{Setup, Trace};

/// Every increase of the number that serve.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activated {
    serving: Option<u32>,
    /// The tick from which on it serves, and how many served besides it.
    begun: Vec<(usize, u32)>,
}

impl Activated {
    pub(crate) fn observe(&mut self, tick: usize, serving: u32) {
        let before = self.serving.replace(serving).unwrap_or(serving);
        self.begun.extend((before..serving).map(|others| (tick, others)));
    }

    /// Looks at what demand did afterwards. `target` is the utilisation at which the policy takes
    /// an instance to be full.
    pub(crate) fn judge(self, trace: &Trace, setup: &Setup, target: f64) -> Activations {
        let ticks = |ms: u64| usize::try_from(ms / trace.tick_ms).unwrap_or(usize::MAX);
        let window = ticks(setup.false_window_ms).max(1);
        let tick_s = trace.tick_ms as f64 / 1_000.0;
        let mut judged = Activations::default();
        let mut leads_s = Vec::new();
        for (tick, others) in self.begun.into_iter().filter(|b| counts(trace, setup, b.0)) {
            judged.total += 1;
            let others_rps = f64::from(others) * setup.capacity_rps;
            let ahead = tick..tick.saturating_add(window).min(trace.ticks());
            let wanted = |at: usize| trace.rps(at) > others_rps * target;
            judged.false_ones += u64::from(!ahead.clone().any(wanted));
            let needed = |at: &usize| trace.rps(*at) > others_rps;
            let past = (tick.saturating_sub(window)..tick).rev().take_while(needed).count();
            if past > 0 {
                judged.late += 1;
                leads_s.push(-(past as f64) * tick_s);
            } else if let Some(first) = ahead.clone().find(needed) {
                leads_s.push((first - tick) as f64 * tick_s);
            }
        }
        judged.lead_s = Quartiles::of(leads_s);
        judged
    }
}
