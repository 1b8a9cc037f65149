//! A drill as text.

use std::fmt::Write as _;

use crate::node::drill::{Figures, Objection, Outlook, Report, Stage, Verdict};

/// Where it stands, as one line.
pub(super) fn stage(report: &Report) -> String {
    let Report { id, service, victim, how, asked, .. } = report;
    match report.stage {
        Stage::Before => format!(
            "drill {id}: {} of {service} will be hurt in {:.1} s ({how}); until then what is normal is measured",
            victim.instance,
            seconds(asked.before_ms)
        ),
        Stage::Fault => {
            format!("drill {id}: the fault is in force, for {:.1} s", seconds(asked.for_ms))
        }
        Stage::Settling => format!("drill {id}: over; waiting until {service} is as before"),
        Stage::Done => format!("drill {id}: done"),
    }
}

/// Why it was not begun.
pub(super) fn refused(objections: &[Objection]) -> String {
    format!("refused\n{}", listed(objections))
}

/// What would be done.
pub(super) fn outlook(outlook: &Outlook) -> String {
    let mut text = String::new();
    if let Some(victim) = &outlook.victim {
        put(
            &mut text,
            format_args!(
                "{} ({}, {}, weight {}): {}",
                victim.instance,
                role(victim.role),
                victim.address,
                victim.weight,
                outlook.how
            ),
        );
    }
    text += if outlook.would_be_done { "it would be done\n" } else { "it would be refused\n" };
    text + &listed(&outlook.objections)
}

/// All that is known of it.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    let Report { id, service, victim, how, asked, .. } = report;
    put(
        &mut text,
        format_args!(
            "drill {id} of {service}: {} of {} ({}, {}, weight {} of 10000)",
            asked.fault.as_str(),
            victim.instance,
            role(victim.role),
            victim.address,
            victim.weight
        ),
    );
    put(&mut text, format_args!("  {how}"));
    if !report.forced.is_empty() {
        put(&mut text, format_args!("  passed over:"));
        text += &listed(&report.forced);
    }
    text.push('\n');
    times(&mut text, report);
    text.push('\n');
    figures(&mut text, report);
    if !report.goals.is_empty() {
        put(
            &mut text,
            format_args!("\nGOAL             EXPECTED                                 FOUND"),
        );
    }
    for goal in &report.goals {
        let mark = if goal.met { "" } else { "  NOT MET" };
        put(
            &mut text,
            format_args!("{:<15}  {:<39}  {}{mark}", goal.what, goal.expected, goal.found),
        );
    }
    for note in &report.notes {
        put(&mut text, format_args!("note: {note}"));
    }
    let verdict = match report.verdict {
        Some(Verdict::Passed) => "passed",
        Some(Verdict::Failed) => "FAILED",
        Some(Verdict::CalledOff) => "CALLED OFF",
        Some(Verdict::CutShort) => "CUT SHORT",
        None => "unknown",
    };
    put(&mut text, format_args!("\nverdict: {verdict}"));
    if let Some(why) = &report.called_off {
        put(&mut text, format_args!("  {why}"));
    }
    text
}

fn times(text: &mut String, report: &Report) {
    let times = &report.times;
    let named = |id: Option<foreshadow_control::InstanceId>| {
        id.map(|id| format!(" ({id})")).unwrap_or_default()
    };
    let rows = [
        ("weight zero", times.weight_zero_ms, String::new()),
        ("carried elsewhere", times.carried_elsewhere_ms, String::new()),
        ("replacement serves", times.replaced_ms, named(times.replaced_by)),
        ("made again", times.recreated_ms, named(times.recreated_as)),
        ("fault over", times.over_ms, String::new()),
        ("put right", times.put_right_ms, String::new()),
        ("as before", times.normal_ms, String::new()),
    ];
    put(text, format_args!("FROM THE FAULT TO       MS"));
    for (what, ms, more) in rows {
        let ms = ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        put(text, format_args!("{what:<18}  {ms:>6}{more}"));
    }
}

fn figures(text: &mut String, report: &Report) {
    put(text, format_args!("              SECONDS  REQUESTS   FAILED  RETRIED   P50 MS   P99 MS"));
    let parts = &report.figures;
    for (what, figures) in
        [("before", &parts.before), ("during", &parts.during), ("after", &parts.after)]
    {
        put(text, format_args!("{what:<12}  {}", row(figures)));
    }
    for second in &report.seconds {
        let from_s = second.from_ms as f64 / 1e3;
        put(text, format_args!("{from_s:>+10.1} s  {}", row(&second.figures)));
    }
}

fn row(of: &Figures) -> String {
    format!(
        "{:>7.1}  {:>8}  {:>7}  {:>7}  {:>7.2}  {:>7.2}",
        of.seconds, of.requests, of.failed, of.retried, of.p50_ms, of.p99_ms
    )
}

fn listed(objections: &[Objection]) -> String {
    let mut text = String::new();
    for objection in objections {
        let forced = if objection.may_be_forced { " (--force passes over it)" } else { "" };
        put(&mut text, format_args!("  - {}{forced}\n    {}", objection.text, objection.help));
    }
    text
}

fn role(role: foreshadow_control::Role) -> &'static str {
    match role {
        foreshadow_control::Role::Primary => "primary",
        foreshadow_control::Role::Shadow => "shadow",
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes every line");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_and_what_was_not_met_stands_out() {
        let figures = json!({ "seconds": 10.0, "requests": 500, "failed": 3, "p50_ms": 1.5 });
        let report = json!({
            "id": 7, "service": "shop", "how": "injected at the proxy: nothing is answered",
            "victim": { "instance": 3, "role": "primary", "address": "[::1]:80", "weight": 5_000 },
            "asked": { "fault": "hang" }, "forced": [], "began_ms": 1, "stage": "done",
            "verdict": "failed", "called_off": null, "notes": ["a note"],
            "times": { "weight_zero_ms": 1_500 },
            "figures": { "during": figures },
            "seconds": [{ "from_ms": -1_000, "requests": 50 }],
            "goals": [
                { "what": "failed requests", "expected": "at most 0", "found": "3", "met": false },
            ],
        });
        let report: Report = serde_json::from_value(report).unwrap();
        let text = super::report(&report);
        for line in [
            "drill 7 of shop: hang of i3 (primary, [::1]:80, weight 5000 of 10000)",
            "weight zero           1500",
            "as before                -",
            "during           10.0       500        3        0     1.50     0.00",
            "      -1.0 s      0.0        50",
            "failed requests  at most 0                                3  NOT MET",
            "note: a note",
            "verdict: FAILED",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
        let objection = Objection {
            what: "redundancy".to_owned(),
            text: "too little".to_owned(),
            help: "make more".to_owned(),
            may_be_forced: true,
        };
        let text = refused(std::slice::from_ref(&objection));
        assert_eq!(text, "refused\n  - too little (--force passes over it)\n    make more\n");
    }
}
