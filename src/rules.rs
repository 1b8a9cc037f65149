//! `foreshadow rules`: are rules well written, and when would they have fired?

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use foreshadow_control::{DryRule, DryRun, Rule, RuleSpec, ServiceName, is_rule_name};
use serde_json::json;

use crate::admin::try_on;
use crate::explain::utc;

/// Firings listed of each rule; `--json` has more.
const LISTED: usize = 20;

/// What to do with rules.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Check rules, and say when they would have fired in a recorded run; nothing is carried out.
    ///
    /// The run is gone through by the controller itself. It sees what was observed then, so shadows
    /// that the rules would have brought are not in it.
    Check(Check),
}

/// Arguments of `foreshadow rules check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Configuration whose rules are checked.
    #[arg(value_name = "FILE", required_unless_present = "rule")]
    file: Option<PathBuf>,
    /// A rule to check in place of a file's, or in addition to them.
    #[arg(long, value_name = "TEXT", requires = "service")]
    rule: Option<String>,
    /// The service of that rule; of a file's rules, only those of this service.
    #[arg(long)]
    service: Option<String>,
    /// Name of that rule; the file's rule of this name is left out.
    #[arg(long, default_value = "tried", requires = "rule")]
    name: String,
    /// A recording (`recording` of the configuration) to try the rules on.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

type ByService = BTreeMap<ServiceName, Vec<RuleSpec>>;

/// Checks rules; exit code 1 when something is wrong with them.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args::Check(args) = args;
    let rules = match wanted(args) {
        Ok(rules) => rules,
        Err(complaint) => {
            writeln!(std::io::stderr(), "{complaint}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut runs = BTreeMap::new();
    if let Some(path) = &args.replay {
        for (service, rules) in &rules {
            runs.insert(service.clone(), try_on(path, service, rules)?);
        }
    }
    let mut out = crate::out::stdout();
    if args.json {
        let entry = |(service, rules): (&ServiceName, &Vec<RuleSpec>)| json!({ "service": service, "rules": rules, "dry_run": runs.get(service) });
        let all: Vec<_> = rules.iter().map(entry).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if rules.is_empty() {
        writeln!(out, "there are no rules")?;
    }
    for (service, rules) in &rules {
        match runs.get(service) {
            Some(run) => describe(&mut out, service, run)?,
            None => {
                for RuleSpec { name, rule } in rules {
                    writeln!(out, "{service} {name}: good: {rule}")?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules to check by service, or what is wrong with them.
fn wanted(args: &Check) -> Result<ByService, String> {
    let mut rules = ByService::new();
    let only = args.service.as_deref();
    let config = match &args.file {
        Some(file) => Some(foreshadow_config::load(file).map_err(|errors| errors.to_string())?),
        None => None,
    };
    if let Some(config) = &config {
        if let Some(name) = only.filter(|name| !config.services.contains_key(*name)) {
            let known: Vec<_> = config.services.keys().map(ServiceName::as_str).collect();
            return Err(format!("there is no service {name:?}; known: {}", known.join(", ")));
        }
        for (service, checked) in &config.services {
            if only.is_none_or(|name| name == service.as_str()) && !checked.rules.is_empty() {
                rules.insert(service.clone(), checked.rules.clone());
            }
        }
    }
    let (Some(text), Some(service)) = (&args.rule, only) else { return Ok(rules) };
    let rule: Rule = text.parse().map_err(|error: foreshadow_control::RuleError| {
        format!("{error}\n    {}", error.excerpt().replace('\n', "\n    "))
    })?;
    if !is_rule_name(&args.name) {
        return Err(format!("{:?} cannot be the name of a rule", args.name));
    }
    let service = ServiceName::from(service);
    let impossible = config.map_or_else(Vec::new, |config| config.impossible(&service, &rule));
    if !impossible.is_empty() {
        return Err(impossible.join("\n"));
    }
    let of_service = rules.entry(service).or_default();
    of_service.retain(|old| old.name != args.name);
    of_service.push(RuleSpec { name: args.name.clone(), rule });
    Ok(rules)
}

fn describe(out: &mut impl Write, service: &ServiceName, run: &DryRun) -> anyhow::Result<()> {
    if run.ticks == 0 {
        writeln!(out, "{service}: the recording has no ticks of it that can be gone through")?;
        return Ok(());
    }
    let (from, to) = (utc(run.from_ms), utc(run.to_ms));
    writeln!(out, "{service}: {} ticks from {from} to {to}", run.ticks)?;
    for rule in &run.rules {
        describe_rule(out, rule, run.ticks)?;
    }
    Ok(())
}

fn describe_rule(out: &mut impl Write, rule: &DryRule, ticks: u64) -> anyhow::Result<()> {
    writeln!(out, "  {}: {}", rule.name, rule.rule)?;
    let times = if rule.fired == 1 { "once" } else { "times" };
    match rule.fired {
        0 => writeln!(out, "    would never have fired")?,
        1 => writeln!(out, "    would have fired {times}")?,
        n => writeln!(out, "    would have fired {n} {times}")?,
    }
    if rule.no_data_ticks > 0 {
        writeln!(out, "    without data in {} of {ticks} ticks", rule.no_data_ticks)?;
    }
    for firing in rule.firings.iter().take(LISTED) {
        let end = firing.to_ms.map_or_else(
            || "to the end".to_owned(),
            |to_ms| format!("for {:.1} s", to_ms.saturating_sub(firing.from_ms) as f64 / 1e3),
        );
        writeln!(out, "    {} {end}: {}", utc(firing.from_ms), firing.figures.join(", "))?;
        if let Some((at_ms, law)) = &firing.first_recorded {
            let ahead_s = at_ms.saturating_sub(firing.from_ms) as f64 / 1e3;
            let law = law.as_str();
            writeln!(out, "      {ahead_s:.1} s before a shadow was ordered to serve by {law}")?;
        }
    }
    let more = rule.fired.saturating_sub(LISTED as u64);
    if more > 0 {
        writeln!(out, "    and {more} more")?;
    }
    if let Some(last) = rule.last.as_ref().filter(|_| rule.fired == 0) {
        for reading in &last.readings {
            writeln!(out, "    at the end {}", reading.text)?;
        }
    }
    Ok(())
}
