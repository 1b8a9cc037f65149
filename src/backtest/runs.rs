//! Every policy in every world, several at the same time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use foreshadow_backtest::{Outcome, Point, Policy, Setup, Trace, pareto, run as run_policy};

use super::args::{Args, Plan};
use super::input::History;
use super::progress::Progress;
use super::report::{Report, Row, WorldReport, demand_of};

/// Runs everything.
///
/// # Errors
/// When tick and history do not fit.
pub(super) fn run(args: &Args, history: History, plan: Plan) -> anyhow::Result<Report> {
    let traces: Vec<Trace> = plan
        .worlds
        .iter()
        .map(|world| Trace::new(&history.series, world.tick_ms, plan.between, plan.seed))
        .collect::<Result<_, _>>()
        .context("cannot lay out the history in ticks (--tick, --skip, --take)")?;
    let jobs: Vec<Job<'_>> = plan
        .worlds
        .iter()
        .zip(&traces)
        .flat_map(|(world, trace)| {
            plan.policies.iter().map(move |policy| Job { policy, trace, setup: &world.setup })
        })
        .collect();
    let threads = args
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .clamp(1, jobs.len().max(1));
    let mut outcomes = all(&jobs, threads).into_iter();
    let worlds = plan.worlds.iter().zip(&traces).map(|(world, trace)| {
        let outcomes: Vec<Outcome> = outcomes.by_ref().take(plan.policies.len()).collect();
        WorldReport {
            start_up_s: world.setup.start_up.create_ms as f64 / 1_000.0,
            tick_ms: world.tick_ms,
            ticks: trace.ticks() as u64,
            setup: world.setup.clone(),
            rows: rows(outcomes),
        }
    });
    Ok(Report {
        demand: demand_of(&history.series),
        worlds: worlds.collect(),
        history: history.told,
        between: plan.between,
        seed: plan.seed,
    })
}

/// One policy in one world.
struct Job<'a> {
    policy: &'a Policy,
    trace: &'a Trace,
    setup: &'a Setup,
}

/// The outcomes, in the order of the jobs.
fn all(jobs: &[Job<'_>], threads: usize) -> Vec<Outcome> {
    let progress = Progress::new(jobs.iter().map(|job| job.trace.ticks() as u64).sum());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    std::thread::scope(|scope| {
        scope.spawn(|| progress.show());
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((at, job)) = take(jobs, &next) {
                        let mut tell = |ticks: usize| progress.add(ticks as u64);
                        let outcome = run_policy(job.policy, job.trace, job.setup, &mut tell);
                        if let Ok(mut done) = done.lock() {
                            done.push((at, outcome));
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        progress.end();
        if let Some(panic) = ended.into_iter().find_map(Result::err) {
            std::panic::resume_unwind(panic);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn take<'a, 'b>(jobs: &'a [Job<'b>], next: &AtomicUsize) -> Option<(usize, &'a Job<'b>)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(at).map(|job| (at, job))
}

fn rows(outcomes: Vec<Outcome>) -> Vec<Row> {
    // Nobody but the oracle knows the future, so it beats nobody.
    let knows = |o: &Outcome| o.policy == "oracle";
    let points: Vec<Point> = outcomes
        .iter()
        .map(|o| Point {
            hours: if knows(o) { f64::INFINITY } else { o.instance_hours },
            violation_s: o.violation_s,
        })
        .collect();
    let unbeaten = pareto(&points);
    outcomes
        .into_iter()
        .zip(unbeaten)
        .map(|(outcome, on_frontier)| Row { on_frontier, outcome })
        .collect()
}
