//! One trace with one start-up time: all policies in the same world.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use foreshadow_backtest::{
    Between, Outcome, Policy, Prices, Series, Setup, StartUp, Trace, run as run_policy,
};
use serde::Serialize;

use crate::judge::{Verdict, judge};
use crate::traces::Source;

/// Start-up times of a bench: from nothing to a paused instance.
pub(crate) const START_UPS_S: [u64; 4] = [10, 60, 180, 600];

/// The setting that is judged unless another is named: that of a node whose configuration says
/// nothing of it; the same for every trace and start-up.
pub(crate) const JUDGED: &str = "brain";
const REACTIVES: [&str; 13] = [
    "reactive:0.35",
    "reactive:0.4",
    "reactive:0.45",
    "reactive:0.5",
    "reactive:0.55",
    "reactive:0.6",
    "reactive:0.65",
    "reactive:0.7",
    "reactive:0.75",
    "reactive:0.8",
    "reactive:0.85",
    "reactive:0.9",
    "reactive:0.95",
];

/// Fixed numbers of instances, up to four times what mean demand needs.
const MOST_FIXED: u32 = 24;

/// How it is done, for whoever reads only the output.
pub(crate) const HOW: &str = "An instance carries a sixth of mean demand, half of it on the curves that are made \
here (sines of ten hours that rise and fall by 60 % of their mean). Between recorded values \
demand goes on straight lines and requests arrive by chance (Poisson, seed 1); both are the same for \
all policies. A tick is a sixth of the start-up, 2 s at least, 10 s at most; of longer traces the last \
100,000 ticks are taken. A quarter is for learning and does not count. Instance-hours count paused \
instances in full. The evaluation window of the brain is the start-up, 10 s at least; reactive scaling \
looks every 15 s and scales down after 300 s. One setting of the brain is judged, the same everywhere; \
its forecasts from history are fitted every five minutes, in long runs 1,500 times.";

const MOST_TICKS: u64 = 100_000;
const QUICK_TICKS: u64 = 30_000;
const DAY_MS: u64 = 86_400_000;

/// What came of one trace with one start-up time.
#[derive(Serialize)]
pub(crate) struct Cell {
    pub(crate) trace: &'static str,
    pub(crate) start_up_s: u64,
    tick_ms: u64,
    ticks: usize,
    mean_rps: f64,
    pub(crate) scored_s: f64,
    /// 99.5th percentile of how many times demand grows within the start-up.
    pub(crate) growth: f64,
    /// The policy the verdict is on.
    pub(crate) judged: String,
    pub(crate) verdict: Verdict,
    pub(crate) outcomes: Vec<Outcome>,
}

/// Runs all policies.
pub(crate) fn run(
    source: &Source,
    series: &Series,
    start_up_s: u64,
    judged: &str,
    quick: bool,
) -> anyhow::Result<Cell> {
    let tick_ms = (start_up_s * 1_000 / 6 / 100 * 100).clamp(2_000, 10_000);
    let most_ms = tick_ms * if quick { QUICK_TICKS } else { MOST_TICKS };
    let series = series.section(series.span_ms().saturating_sub(most_ms), most_ms);
    let trace = Trace::new(&series, tick_ms, Between::Linear, Some(1))?;
    let mean_rps = trace.mean_rps(0, trace.ticks()).unwrap_or(1.0).max(1e-3);
    let span_ms = series.span_ms();
    let setup = Setup {
        capacity_rps: mean_rps / source.instances,
        primaries: 1,
        max_instances: 500,
        start_up: StartUp { create_ms: start_up_s * 1_000, wake_ms: 200, serve_ms: 150 },
        warm_up_ms: 0,
        wait_ms: source.wait_ms,
        allowed_share: 0.01,
        carry: false,
        prices: Prices { full: 1.0, warm: 0.25, paused: 0.1 },
        false_window_ms: 600_000,
        seasons_ms: if span_ms >= 2 * DAY_MS { vec![DAY_MS] } else { Vec::new() },
        learn_ms: span_ms / 4,
        timeline_points: 1,
    };
    let policies: Vec<Policy> = ["oracle", judged]
        .into_iter()
        .chain(REACTIVES)
        .map(str::to_owned)
        .chain((1..=MOST_FIXED).map(|instances| format!("static:{instances}")))
        .map(|policy| policy.parse())
        .collect::<Result<_, _>>()?;
    let outcomes = all(&policies, &trace, &setup);
    let told = source.growth_within(setup.start_up.total_ms());
    let growth = told.unwrap_or_else(|| growth(&trace, &setup));
    let judged = policies.get(1).map_or_else(String::new, ToString::to_string);
    Ok(Cell {
        trace: source.name,
        start_up_s,
        tick_ms,
        ticks: trace.ticks(),
        mean_rps,
        scored_s: outcomes.first().map_or(0.0, |o| o.scored_s),
        growth,
        verdict: judge(&outcomes, &judged, growth)?,
        judged,
        outcomes,
    })
}

/// As many at once as there are processors; the order is that of the policies.
fn all(policies: &[Policy], trace: &Trace, setup: &Setup) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((at, policy)) = take(policies, &next) {
            let outcome = run_policy(policy, trace, setup, &mut |_| {});
            if let Ok(mut done) = done.lock() {
                done.push((at, outcome));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut done: Vec<(usize, Outcome)> =
        done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn take<'a>(policies: &'a [Policy], next: &AtomicUsize) -> Option<(usize, &'a Policy)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    policies.get(at).map(|policy| (at, policy))
}

/// 99.5th percentile of the highest minute within the start-up (a minute at least) relative to the
/// minute before, where demand is not next to nothing.
fn growth(trace: &Trace, setup: &Setup) -> f64 {
    let minute = usize::try_from(60_000 / trace.tick_ms).unwrap_or(1).max(1);
    let lead = usize::try_from(setup.start_up.total_ms() / trace.tick_ms).unwrap_or(1);
    let reach = lead.div_ceil(minute).max(1);
    let means: Vec<f64> = (0..trace.ticks() / minute)
        .filter_map(|at| trace.mean_rps(at * minute, (at + 1) * minute))
        .collect();
    // A tenth of an instance is next to nothing.
    let least = setup.capacity_rps / 10.0;
    let mut ratios: Vec<f64> = means
        .windows(reach + 1)
        .map(|w| w[1..].iter().fold(0.0, |a: f64, b| a.max(*b)) / w[0].max(least))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let last = ratios.len().saturating_sub(1);
    ratios.get((last as f64 * 0.995) as usize).copied().unwrap_or(1.0)
}
