//! The language of rules: what is read, what is refused, and where the refusal points.

mod errors;
mod generated;

use foreshadow_control::{
    Comparator, Condition, Lasting, Metric, Rule, RuleAction, Scope, ServiceName, Until, When,
};

fn read(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_full_rule_is_read_part_by_part() {
    let rule = read(
        "(p90 of demand > 500rps within 30m or any instance cpu >= 80%) and memory < 2GiB at 10m \
         for 3 ticks until demand < 300rps clear after 1m30s \
         -> activate 2 of web, hold, alert \"say \\\"when\\\"\" weight 10 priority 7",
    );
    assert_eq!((rule.weight, rule.priority, rule.clear_after_ms), (10, 7, 90_000));
    assert_eq!(rule.lasting, Some(Lasting::Ticks(3)));
    assert!(matches!(rule.until, Some(Until::Condition(Condition::Is(_)))));
    let web = Some(ServiceName::from("web"));
    let alert = RuleAction::Alert("say \"when\"".to_owned());
    assert_eq!(rule.actions, [RuleAction::Activate(2, web), RuleAction::Hold(None), alert]);
    let Condition::And(parts) = &rule.condition else { panic!("{:?}", rule.condition) };
    let [Condition::Or(either), Condition::Is(memory)] = &parts[..] else { panic!("{parts:?}") };
    let [Condition::Is(demand), Condition::Is(cpu)] = &either[..] else { panic!("{either:?}") };
    assert_eq!((demand.quantile, demand.when), (Some(90), When::Within(1_800_000)));
    assert_eq!((cpu.scope, cpu.comparator, cpu.when), (Scope::Any, Comparator::AtLeast, When::Now));
    assert_eq!(cpu.value.base(), 0.8);
    assert_eq!((&memory.metric, memory.value.base()), (&Metric::Memory, 2_147_483_648.0));
    assert_eq!(memory.when, When::At(600_000));
}

#[test]
fn a_rule_prints_as_it_is_written_best() {
    for (written, printed) in [
        ("cpu > 80% within 30m for 3 ticks -> activate 2 of web weight 10", None),
        ("demand>500 rps->hold", Some("demand > 500rps -> hold")),
        ("service rps >= 500/s now -> warm 1", Some("rps >= 500rps -> warm 1")),
        ("utilization > 90% -> prepare 3", Some("utilisation > 90% -> prepare 3")),
        (
            "((cpu > 1%) and (cpu > 2% and cpu > 3%)) -> hold",
            Some("cpu > 1% and cpu > 2% and cpu > 3% -> hold"),
        ),
        ("cpu > 1% or cpu > 2% and cpu > 3% -> hold", None),
        ("cpu > 1% and (cpu > 2% or cpu > 3%) -> hold", None),
        (
            "latency_p99 > 0.25s for 90s until <= 200ms -> hold",
            Some("latency_p99 > 0.25s for 1m30s until <= 200ms -> hold"),
        ),
        (
            "all instance in_flight < 5 -> hold priority 2 weight 3",
            Some("all instances in_flight < 5 -> hold weight 3 priority 2"),
        ),
        ("jobs.waiting > 3 for 1 tick -> alert \"jobs\"", None),
        ("metric(\"jobs\") > 3 -> hold", Some("jobs > 3 -> hold")),
        ("metric(\"any\") > 3 -> hold", None),
        ("metric(\"demnad\") > 3MiB/s -> hold", None),
        ("cpu > 80%\n  within 1d2h\n  -> hold clear-up", None),
    ] {
        if written.contains("clear-up") {
            assert!(written.parse::<Rule>().is_err());
            continue;
        }
        let rule = read(written);
        assert_eq!(rule.to_string(), printed.unwrap_or(written));
        assert_eq!(read(&rule.to_string()), rule);
    }
}

#[test]
fn a_rule_is_kept_as_its_text() {
    let rule = read("cpu > 80% -> hold");
    let kept = serde_json::to_string(&rule).unwrap();
    assert_eq!(kept, "\"cpu > 80% -> hold\"");
    assert_eq!(serde_json::from_str::<Rule>(&kept).unwrap(), rule);
    let error = serde_json::from_str::<Rule>("\"cpu > 80 -> hold\"").unwrap_err().to_string();
    assert!(error.contains("column 7: found \"80\""), "{error}");
}

#[test]
fn the_examples_of_the_manual_are_rules() {
    let manual = include_str!("../../../docs/rules.md");
    let block = manual.split("```rule\n").nth(1).and_then(|rest| rest.split("```").next());
    let examples: Vec<&str> = block.expect("the manual has examples").lines().collect();
    assert_eq!(examples.len(), 9);
    for example in examples {
        assert_eq!(read(example).to_string(), example);
    }
}
