//! Whether the goals are reached, and by how much they are missed.
//!
//! At equal instance-hours at most a third of the reactive violations where demand is bursty, never
//! more where it is smooth, at most one and a half times the oracle's instance-hours.

use std::fmt::Write as _;

use anyhow::Context;
use foreshadow_backtest::{Missing, Outcome, Point, at_equal_hours};
use serde::Serialize;

use crate::bench::Cell;

/// Demand that grows by more than this within the start-up outgrows what a target of 70 % leaves.
const BURSTY: f64 = 1.0 / 0.7;
const MOST_OF_REACTIVE: f64 = 1.0 / 3.0;
const MOST_OF_ORACLE: f64 = 1.5;
/// Violations of less than this share of the time, on both sides, are a draw.
const NOTHING: f64 = 0.000_05;

/// How one cell stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) bursty: bool,
    pub(crate) violation_s: f64,
    pub(crate) instance_hours: f64,
    pub(crate) cost: f64,
    /// Violations of reactive scaling for the same instance-hours, between its settings; none when
    /// it cannot do with so few.
    pub(crate) reactive_violation_s: Option<f64>,
    /// The same for the same cost at the prices of the tiers.
    pub(crate) reactive_violation_at_cost_s: Option<f64>,
    /// Violations of a fixed number of instances for the same instance-hours. Where that is less
    /// than all others have, what came before told nothing of what came.
    pub(crate) fixed_violation_s: Option<f64>,
    /// What was missing in the violations.
    pub(crate) violation_by: Missing,
    pub(crate) oracle_hours: f64,
    pub(crate) hours_to_oracle: f64,
    pub(crate) violations_reached: bool,
    pub(crate) cost_reached: bool,
}

/// Judges the outcomes of one cell.
///
/// # Errors
///
/// When the policy that is judged, or the oracle, is not among them.
pub(crate) fn judge(outcomes: &[Outcome], judged: &str, growth: f64) -> anyhow::Result<Verdict> {
    let of = |name: &str| {
        let found = outcomes.iter().find(|o| o.policy == name);
        found.with_context(|| format!("{name} is not among the outcomes"))
    };
    let (brain, oracle) = (of(judged)?, of("oracle")?);
    let family = |name: &str, hours: fn(&Outcome) -> f64| -> Vec<Point> {
        let family = outcomes.iter().filter(|o| o.policy.starts_with(name));
        family.map(|o| Point { hours: hours(o), violation_s: o.violation_s }).collect()
    };
    let for_hours =
        |name: &str| at_equal_hours(&family(name, |o| o.instance_hours), brain.instance_hours);
    let rival = for_hours("reactive");
    let rival_at_cost = at_equal_hours(&family("reactive", |o| o.cost), brain.cost);
    let bursty = growth > BURSTY;
    let allowed = if bursty { MOST_OF_REACTIVE } else { 1.0 };
    let draw = brain.violation_s <= NOTHING * brain.scored_s;
    let reached = rival.is_none_or(|rival_s| draw || brain.violation_s <= allowed * rival_s);
    let hours_to_oracle = brain.instance_hours / oracle.instance_hours.max(1e-9);
    Ok(Verdict {
        bursty,
        violation_s: brain.violation_s,
        instance_hours: brain.instance_hours,
        cost: brain.cost,
        reactive_violation_s: rival,
        reactive_violation_at_cost_s: rival_at_cost,
        fixed_violation_s: for_hours("static"),
        violation_by: brain.violation_by,
        oracle_hours: oracle.instance_hours,
        hours_to_oracle,
        violations_reached: reached,
        cost_reached: hours_to_oracle <= MOST_OF_ORACLE,
    })
}

/// All cells together.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    judged: String,
    cells: usize,
    bursty: usize,
    bursty_violations_reached: usize,
    violations_reached: usize,
    cost_reached: usize,
    both_reached: usize,
    misses: Vec<String>,
}

/// Counts what was reached and names what was missed.
pub(crate) fn summary(cells: &[Cell]) -> Summary {
    let count = |holds: fn(&Verdict) -> bool| cells.iter().filter(|c| holds(&c.verdict)).count();
    let misses = cells.iter().filter_map(|cell| {
        let v = &cell.verdict;
        let mut why = Vec::new();
        if !v.violations_reached {
            let rival_s = v.reactive_violation_s.unwrap_or(0.0);
            let kind = if v.bursty { "a third" } else { "all" };
            why.push(format!(
                "{:.0} s of violation, reactive {rival_s:.0} s for as many instance-hours ({kind} of it is allowed){}",
                v.violation_s,
                cause(v)
            ));
        }
        if !v.cost_reached {
            why.push(format!("{:.2} times the oracle's instance-hours", v.hours_to_oracle));
        }
        let name = format!("{} at {} s", cell.trace, cell.start_up_s);
        (!why.is_empty()).then(|| format!("{name}: {}", why.join("; ")))
    });
    Summary {
        judged: cells.first().map_or_else(String::new, |cell| cell.judged.clone()),
        cells: cells.len(),
        bursty: count(|v| v.bursty),
        bursty_violations_reached: count(|v| v.bursty && v.violations_reached),
        violations_reached: count(|v| v.violations_reached),
        cost_reached: count(|v| v.cost_reached),
        both_reached: count(|v| v.violations_reached && v.cost_reached),
        misses: misses.collect(),
    }
}

/// What was missing, and what a fixed number of instances would have done.
fn cause(v: &Verdict) -> String {
    let Missing { waking_s, starting_s, unordered_s } = v.violation_by;
    let fixed = v.fixed_violation_s.map_or_else(String::new, |fixed_s| {
        format!("; a fixed number of instances for as many hours: {fixed_s:.0} s")
    });
    format!(
        "; what was missing was still starting in {starting_s:.0} s, not ordered in {unordered_s:.0} s, ready and not serving in {waking_s:.0} s{fixed}"
    )
}

/// One line of the table.
pub(crate) fn line(cell: &Cell) -> String {
    let v = &cell.verdict;
    let of = |name: &str| cell.outcomes.iter().find(|o| o.policy == name);
    let pair = |name: &str| {
        of(name).map_or_else(String::new, |o| {
            format!("{:.0} s / {:.0} h", o.violation_s, o.instance_hours)
        })
    };
    let rival = v.reactive_violation_s.map_or_else(|| "-".to_owned(), |s| format!("{s:.0} s"));
    let at_cost = v.reactive_violation_at_cost_s;
    let at_cost = at_cost.map_or_else(|| "-".to_owned(), |s| format!("{s:.0} s"));
    format!(
        "{:15} {:4} s {:6} growth {:5.2} | brain {:>18} | reactive at equal hours {rival:>9}, equal cost {at_cost:>9} | 50%: {:>18} | 70%: {:>18} | oracle {:>7.0} h x {:.2} | {}",
        cell.trace,
        cell.start_up_s,
        if v.bursty { "bursty" } else { "smooth" },
        cell.growth,
        pair(&cell.judged),
        pair("reactive:0.5"),
        pair("reactive:0.7"),
        v.oracle_hours,
        v.hours_to_oracle,
        match (v.violations_reached, v.cost_reached) {
            (true, true) => "reached",
            (true, false) => "MISSED cost",
            (false, true) => "MISSED violations",
            (false, false) => "MISSED both",
        }
    )
}

/// The summary for a person.
pub(crate) fn text(summary: &Summary) -> String {
    let Summary { judged, cells, bursty, violations_reached, cost_reached, both_reached, .. } =
        summary;
    let mut text = format!(
        "{judged}: of {cells} cells violations are as wanted in {violations_reached} ({} of {bursty} \
         bursty ones), instance-hours in {cost_reached}, both in {both_reached}",
        summary.bursty_violations_reached
    );
    for miss in &summary.misses {
        // Writing to a string cannot fail.
        write!(text, "\n  missed: {miss}").ok();
    }
    text
}
