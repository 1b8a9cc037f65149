//! The run as lines: one per second, and one per decision.

use std::io::{self, Write};

use foreshadow_control::{Role, Tier};

use super::view::Live;
use super::watch::Sample;

/// What was printed so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    act: Option<&'static str>,
    seconds: u64,
    decisions: usize,
}

impl Plain {
    /// Prints what is new.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn show(&mut self, live: &Live<'_>) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let act = live.script.act_at(live.elapsed);
        if self.act != Some(act.name) {
            self.act = Some(act.name);
            writeln!(out, "== {} | {} | {}", live.mode, act.name, act.look_for)?;
        }
        let started_ms = live.seconds.first().map_or(0, |s| s.unix_ms);
        for decision in live.decisions.iter().skip(self.decisions) {
            let at_s = (decision.at_ms as f64 - started_ms as f64) / 1e3;
            for line in decision.news() {
                writeln!(out, "{at_s:>7.1} s   {line}")?;
            }
        }
        self.decisions = live.decisions.len();
        let second = live.elapsed.as_secs();
        if second > self.seconds {
            self.seconds = second;
            let (Some(sample), Some(done)) = (live.samples.last(), live.last_second()) else {
                return Ok(());
            };
            writeln!(
                out,
                "{second:>5}   s demand {:>5.0} rps  offered {:>5}  p50 {:>6.1}  p99 {:>7.1} ms  \
                 failed {:>4}  {}",
                sample.demand_rps,
                done.offered,
                done.latency.p50_ms,
                done.latency.p99_ms,
                live.totals.failed.total(),
                weights(sample)
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

fn weights(sample: &Sample) -> String {
    let total: u32 = sample.instances.iter().map(|i| i.weight).sum();
    let shown = sample.instances.iter().map(|i| {
        let letter = if i.role == Role::Primary { 'p' } else { 's' };
        let tier = match i.tier {
            Tier::Serving if i.role == Role::Primary => "",
            tier => tier.as_str(),
        };
        format!("{letter}{}:{}%{tier}", i.instance.0, i.weight * 100 / total.max(1))
    });
    shown.collect::<Vec<_>>().join(" ")
}
