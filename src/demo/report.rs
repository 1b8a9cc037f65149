//! The table at the end, and everything as JSON.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::acts::Take;
use super::figures::{ActFigures, Figures};
use super::scene::Scene;
use super::script::{Act, OBJECTIVE_MS, Script, backend_capacity_rps, primaries_capacity_rps};
use super::verdict::Check;

/// How the figures are meant.
const DEFINITIONS: [&str; 8] = [
    "saturation: the offered rate first crosses what the primaries serve at most (slots over mean service time)",
    "measured saturation: first second beyond the objective whose next one is, too",
    "activation: first decision record since the ramp began that gives a shadow weight; lead: saturation minus activation",
    "kill: read from the clock just before SIGKILL is sent; weight 0: time of the decision record",
    "in its place: more than half of its share is on shadows, or a shadow that had no weight has some",
    "recreated: as many instances live as before the kill, one of them made since",
    "a second is beyond the objective when over 1% of its requests failed or were too slow",
    "by act: p50 is the median second's, p99 that of the worst second",
];

/// Everything that came of the demo.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    passed: bool,
    checks: Vec<Check>,
    definitions: [&'static str; 8],
    objective_p99_ms: u64,
    backend_capacity_rps: f64,
    primaries_capacity_rps: f64,
    acts: Vec<Act>,
    act: Run,
    observe: Option<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    figures: Figures,
    raw: Take,
}

impl Report {
    pub(super) fn new(
        script: &Script,
        act: (Figures, Take),
        observe: Option<(Figures, Take)>,
        checks: Vec<Check>,
    ) -> Self {
        let run = |(figures, raw)| Run { figures, raw };
        Self {
            passed: checks.iter().all(|check| check.ok),
            checks,
            definitions: DEFINITIONS,
            objective_p99_ms: OBJECTIVE_MS,
            backend_capacity_rps: backend_capacity_rps(),
            primaries_capacity_rps: primaries_capacity_rps(),
            acts: script.acts.clone(),
            act: run(act),
            observe: observe.map(run),
        }
    }

    /// Whether every act happened as promised.
    pub(super) fn passed(&self) -> bool {
        self.passed
    }

    /// Writes everything, raw event stamps included.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write_json(&self, file: File) -> anyhow::Result<()> {
        let mut out = BufWriter::new(file);
        serde_json::to_writer(&mut out, self).context("cannot write the JSON file")?;
        writeln!(out)?;
        out.flush()?;
        Ok(())
    }

    /// Prints the table of both runs and the verdict.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\nThe same load twice: {} requests", self.act.figures.offered)?;
        writeln!(out, "{:<34} {:>12} {:>12}", "", "act", "observe")?;
        for (name, value) in ROWS {
            self.row(&mut out, name, value)?;
        }
        for nth in 0..self.acts.len() {
            let name = self.acts.get(nth).map_or("", |act| act.name);
            self.by_act(&mut out, name, nth)?;
        }
        writeln!(out)?;
        for definition in DEFINITIONS {
            writeln!(out, "  {definition}")?;
        }
        writeln!(out)?;
        for check in &self.checks {
            let mark = if check.ok { '✓' } else { '✗' };
            writeln!(out, "{mark} {:<10} {}", check.act, check.promise)?;
            writeln!(out, "  {:<10} {}", "", check.figure)?;
        }
        let missed = self.checks.iter().filter(|check| !check.ok).count();
        match missed {
            0 => writeln!(out, "\nEvery act happened as promised.")?,
            _ => writeln!(out, "\n{missed} of {} promises were not kept.", self.checks.len())?,
        }
        Ok(())
    }

    fn row(
        &self,
        out: &mut impl Write,
        name: &str,
        value: impl Fn(&Figures) -> String,
    ) -> io::Result<()> {
        let observed = self.observe.as_ref().map_or_else(String::new, |run| value(&run.figures));
        writeln!(out, "{name:<34} {:>12} {observed:>12}", value(&self.act.figures))
    }

    fn by_act(&self, out: &mut impl Write, name: &str, nth: usize) -> io::Result<()> {
        let of = |f: &Figures, value: fn(&ActFigures) -> String| {
            f.acts.get(nth).map_or_else(String::new, value)
        };
        self.row(out, &format!("{name}: p50 / p99 in ms"), |f| {
            of(f, |a| format!("{:.0} / {:.0}", a.p50_ms, a.p99_ms))
        })?;
        self.row(out, &format!("{name}: failed / seconds beyond"), |f| {
            of(f, |a| format!("{} / {}", a.failed, a.seconds_beyond))
        })
    }
}

type Row = (&'static str, fn(&Figures) -> String);

const ROWS: [Row; 12] = [
    ("p50 in ms", |f| format!("{:.1}", f.p50_ms)),
    ("p99 in ms", |f| format!("{:.1}", f.p99_ms)),
    ("failed requests (all idempotent)", |f| f.failed.to_string()),
    ("seconds beyond the objective", |f| format!("{} of {}", f.seconds_beyond, f.seconds)),
    ("lead of activation in s", |f| f.ramp.lead_s.map_or_else(none, |s| format!("{s:.1}"))),
    ("kill: failed within 5 s", |f| f.kill.failed.to_string()),
    ("kill to weight 0 in ms", |f| or_none(f.kill.weight_zero_ms)),
    ("kill to its share on shadows in ms", |f| or_none(f.kill.carried_ms)),
    ("kill to a further shadow in ms", |f| or_none(f.kill.further_shadow_ms)),
    ("kill to recreation in ms", |f| or_none(f.kill.recreated_ms)),
    ("spike's end to weights back in ms", |f| added(f, f.spike.weights_back_ms)),
    ("spike's end to tiers back in ms", |f| added(f, f.spike.tiers_back_ms)),
];

fn none() -> String {
    "-".to_owned()
}

fn or_none(value: Option<u64>) -> String {
    value.map_or_else(none, |ms| ms.to_string())
}

/// Nothing comes back where nothing was added.
fn added(figures: &Figures, back_ms: Option<u64>) -> String {
    let grew = figures.spike.serving_most > figures.spike.serving_before;
    or_none(back_ms.filter(|_| grew))
}

/// Says what was left running, where it is and how to end it.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print_kept(scene: Scene, dir: &Path) -> anyhow::Result<()> {
    let (proxy, admin) = (scene.proxy, scene.admin);
    let pids: Vec<String> = scene.keep().iter().map(u32::to_string).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "\nLeft running, with its files in {}:", dir.display())?;
    writeln!(out, "  service    curl http://{proxy}/")?;
    writeln!(out, "  instances  curl http://{admin}/api/v1/instances")?;
    writeln!(out, "  decisions  curl http://{admin}/api/v1/decisions?limit=5")?;
    writeln!(out, "  metrics    curl http://{admin}/metrics")?;
    writeln!(out, "  end it     kill {} && rm -r {}", pids.join(" "), dir.display())?;
    Ok(())
}

/// Says where the evidence is.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print_logs(dir: &Path) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Logs and decision records: {0}; foreshadow explain --state-dir {0}/act/state",
        dir.display()
    )?;
    Ok(())
}
