//! Migrations as text.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use foreshadow_control::{MigrationChoice, MigrationPhase};

use super::Outlook;
use crate::node::migrations::{Record, State};

/// What makes a turn worth a line: phase, step, and whether it is called off.
pub(super) fn turn(record: &Record) -> (Option<MigrationPhase>, u32, bool) {
    let law = record.law.as_ref();
    (law.map(|law| law.phase), law.map_or(0, |law| law.step), record.called_off_by.is_some())
}

/// How one stands, as a line.
pub(super) fn line(record: &Record) -> String {
    let number = record.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let phase = match &record.law {
        Some(law) if law.phase == MigrationPhase::Shifting => {
            format!("step {}, {:.0} % moved", law.step, law.moved * 100.0)
        }
        Some(law) => law.phase.as_str().replace('_', " "),
        None => record.state.as_str().replace('_', " "),
    };
    format!("migration {number} of {}: {phase}: {}", record.service, record.text)
}

/// The end of one, with what its last step was held against.
pub(super) fn end(record: &Record) -> String {
    let mut text = String::new();
    let number = record.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let state = match record.state {
        State::Done => "done",
        State::RolledBack => "ROLLED BACK",
        State::CalledOff => "CALLED OFF",
        State::Refused => "REFUSED",
        State::Waiting => "waiting",
        State::UnderWay => "under way",
    };
    put(&mut text, format_args!("\nmigration {number} of {}: {state}", record.service));
    put(&mut text, format_args!("  {}", record.text));
    if let Some(schedule) = record.law.as_ref().and_then(|law| law.schedule.as_ref()) {
        put(&mut text, format_args!("  {} to {}", schedule.instance, schedule.target));
    }
    if let (Some(began_ms), Some(ended_ms)) = (record.began_ms, record.ended_ms) {
        let took_s = ended_ms.saturating_sub(began_ms) as f64 / 1e3;
        put(&mut text, format_args!("  from {} on, {took_s:.1} s", time(began_ms)));
    }
    for check in record.law.iter().flat_map(|law| &law.checks) {
        let mark = if check.passed { "passed" } else { "FAILED" };
        put(&mut text, format_args!("  {mark:<6}  {:<9}  {}", check.name, check.text));
    }
    if let Some(by) = &record.called_off_by {
        put(&mut text, format_args!("  called off by {by}"));
    }
    if let Some(then) = &record.then {
        put(&mut text, format_args!("{then}"));
    }
    text
}

/// All of them.
pub(super) fn list(all: &[Record], now_ms: u64) -> String {
    let mut text = String::new();
    put(
        &mut text,
        format_args!("NUMBER  SERVICE       WHO   TO            STATE        SINCE     TEXT"),
    );
    for record in all {
        let schedule = record.law.as_ref().and_then(|law| law.schedule.as_ref());
        let who = schedule.map(|s| s.instance).or(record.instance);
        let to = schedule.map(|s| s.target.clone()).or_else(|| record.to.clone());
        let since_ms = record.ended_ms.or(record.began_ms).or(record.asked_ms);
        let since = since_ms.map(|ms| Duration::from_secs(now_ms.saturating_sub(ms) / 1_000));
        put(
            &mut text,
            format_args!(
                "{:>6}  {:<12}  {:<4}  {:<12}  {:<11}  {:<8}  {}",
                record.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
                record.service.as_str(),
                who.map_or_else(|| "?".to_owned(), |who| who.to_string()),
                to.map_or_else(|| "?".to_owned(), |to| to.to_string()),
                record.state.as_str().replace('_', " "),
                since.map_or_else(|| "-".to_owned(), short),
                record.text,
            ),
        );
    }
    if all.is_empty() {
        put(&mut text, format_args!("none"));
    }
    text
}

/// Who could move, best first.
pub(super) fn outlook(service: &str, outlook: &Outlook) -> String {
    let mut text = String::new();
    if outlook.choices.is_empty() {
        put(&mut text, format_args!("no instance of {service} could move there"));
        return text;
    }
    put(
        &mut text,
        format_args!("WHO   TO            TAKES   RISK     LOAD RPS  FREE RPS  COST PER HOUR"),
    );
    for choice in &outlook.choices {
        row(&mut text, choice);
    }
    let begins = time(outlook.begins_ms);
    text += &match outlook.would_begin {
        true => format!("it would begin at {begins}, with the first that nothing speaks against\n"),
        false => "none of them could begin now\n".to_owned(),
    };
    text
}

fn row(text: &mut String, choice: &MigrationChoice) {
    let schedule = &choice.schedule;
    let free = choice.free_rps.map_or_else(|| "?".to_owned(), |rps| format!("{rps:.0}"));
    put(
        text,
        format_args!(
            "{:<4}  {:<12}  {:<6}  {:<7}  {:>8.0}  {:>8}  {:>+13.2}",
            schedule.instance.to_string(),
            schedule.target.to_string(),
            short(Duration::from_secs(schedule.estimated_duration_ms.div_ceil(1_000))),
            format!("{:.1} %", choice.risk * 100.0),
            choice.load_rps,
            free,
            choice.cost_per_hour,
        ),
    );
    put(text, format_args!("      {}", choice.text));
    for objection in &choice.objections {
        put(text, format_args!("      - {objection}"));
    }
}

/// The greatest two units of it.
fn short(time: Duration) -> String {
    let text = humantime::format_duration(time).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join("")
}

fn time(unix_ms: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    at.map_or_else(|| "?".to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes every line");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(state: &str, phase: &str) -> Record {
        serde_json::from_value(json!({
            "id": 7, "service": "shop", "instance": null, "to": null, "at_ms": null,
            "passes_windows": false, "by": "anna", "asked_ms": 1_000, "began_ms": 2_000,
            "ended_ms": 65_000, "called_off_by": null, "state": state, "text": "why it is so",
            "then": "i3 may be switched off",
            "law": {
                "id": 7, "phase": phase, "target": 9, "step": 2, "moved": 0.25, "phase_ms": 5,
                "schedule": {
                    "instance": 3, "target": "rack-2", "start_ms": 2_000,
                    "estimated_duration_ms": 90_500,
                },
                "checks": [{ "name": "errors", "passed": false, "text": "9 of 100 failed" }],
                "text": "why it is so",
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_how_far_it_is_and_the_end_what_it_failed_on() {
        let shifting = record("under_way", "shifting");
        assert_eq!(line(&shifting), "migration 7 of shop: step 2, 25 % moved: why it is so");
        assert_ne!(turn(&shifting), turn(&record("under_way", "draining")));
        let text = end(&record("rolled_back", "rolled_back"));
        for line in [
            "migration 7 of shop: ROLLED BACK",
            "  i3 to rack-2",
            "  from 1970-01-01T00:00:02Z on, 63.0 s",
            "  FAILED  errors     9 of 100 failed",
            "i3 may be switched off",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
        let listed = list(&[record("done", "done")], 75_000);
        assert!(
            listed.contains("     7  shop          i3    rack-2        done         10s"),
            "{listed}"
        );
        assert!(list(&[], 0).contains("none"));
    }

    #[test]
    fn what_speaks_against_a_choice_stands_below_it() {
        let choice = json!({
            "schedule": {
                "instance": 3, "target": "rack-2", "start_ms": 0, "estimated_duration_ms": 90_500,
            },
            "risk": 0.125, "load_rps": 120.4, "cost_per_hour": 0.2, "text": "riskiest",
            "objections": ["rack-2 has no room"],
        });
        let choices = vec![serde_json::from_value(choice).unwrap()];
        let outlook_of = Outlook { would_begin: false, begins_ms: 0, choices };
        let text = outlook("shop", &outlook_of);
        let row = "i3    rack-2        1m31s   12.5 %        120         ?          +0.20";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("      - rack-2 has no room\nnone of them could begin now"),
            "{text}"
        );
    }
}
