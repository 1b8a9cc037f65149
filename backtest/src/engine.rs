//! One policy over one trace, tick by tick.

use crate::activations::Activated;
use crate::fleet::Fleet;
use crate::ledger::Ledger;

use crate::policy::{Mind, Orders, Policy, Seen};
use crate::scores::Scores;
use crate::{Outcome, Setup, Trace};

/// Ticks between two calls of `progress`.
const PROGRESS_TICKS: usize = 4_096;

/// Runs `policy` over `trace`. `progress` is told now and then how many ticks more were done.
///
/// A tick is served by who serves at its beginning; the policy sees it when it is over, and its
/// orders count from there on.
pub fn run(
    policy: &Policy,
    trace: &Trace,
    setup: &Setup,
    progress: &mut dyn FnMut(usize),
) -> Outcome {
    let mut mind = Mind::new(policy, trace, setup);
    let mut fleet = Fleet::new(setup);
    if let Mind::Scheduled(oracle) = &mind {
        fleet.be_ready(oracle.at_start(), setup);
    }
    let mut ledger = Ledger::new(trace, setup);
    let mut scores = Scores::new(trace, setup);
    let mut activated = Activated::default();
    for tick in 0..trace.ticks() {
        let begins_ms = tick as u64 * trace.tick_ms;
        let now_ms = begins_ms + trace.tick_ms;
        let arrivals = trace.arrivals(tick);
        let served = fleet.serve(arrivals, begins_ms, trace.tick_ms, setup);
        activated.observe(tick, served.serving);
        ledger.add(tick, arrivals, &served, &fleet);
        let facts = fleet.advance(now_ms);
        let seen = Seen {
            ticks: tick + 1,
            now_ms,
            arrivals,
            unserved: served.violated.round() as u64,
            facts,
            fleet: &fleet,
            trace,
            setup,
        };
        let Orders { actions, weights, forecast } = mind.decide(seen);
        scores.add(tick + 1, &forecast);
        fleet.carry_out(&actions, weights.as_deref(), now_ms, setup);
        if (tick + 1).is_multiple_of(PROGRESS_TICKS) {
            progress(PROGRESS_TICKS);
        }
    }
    progress(trace.ticks() % PROGRESS_TICKS);
    let activations = activated.judge(trace, setup, policy.target());
    ledger.close(policy, activations, scores.close())
}
