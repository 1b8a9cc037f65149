//! Rules made by chance print as texts that read as the same rules; any text is read or refused.

use foreshadow_control::{
    Comparator, Comparison, Condition, Lasting, Metric, Prefix, Rule, RuleAction, Scope,
    ServiceName, Unit, Until, Value, When,
};
use proptest::prelude::*;

fn prefix() -> impl Strategy<Value = Prefix> {
    use Prefix::{Gibi, Giga, Kibi, Kilo, Mebi, Mega, One, Tebi, Tera};
    prop::sample::select(vec![One, Kilo, Mega, Giga, Tera, Kibi, Mebi, Gibi, Tebi])
}

/// A metric and a unit that its values may have.
fn measured() -> impl Strategy<Value = (Metric, Unit)> {
    use Metric::{
        Capacity, Cpu, Demand, Disk, ErrorRate, InFlight, LatencyP50, LatencyP90, LatencyP99,
        Memory, Network, QueueDepth, Rps, Saturation, Utilisation,
    };
    let of = |metrics: Vec<Metric>, units: Vec<Unit>| {
        (prop::sample::select(metrics), prop::sample::select(units))
    };
    let sized = (prop::sample::select(vec![Memory, Disk]), prefix().prop_map(Unit::Bytes));
    let network = prefix().prop_map(|prefix| (Network, Unit::BytesPerS(prefix)));
    let any_unit = prop_oneof![
        Just(Unit::One),
        Just(Unit::Percent),
        Just(Unit::Ms),
        prefix().prop_map(Unit::Bytes)
    ];
    let named = ("[a-z \\\\\"_.-]{1,12}", any_unit)
        // A name that is always known stands for that metric, however it is written.
        .prop_filter("known", |(name, _)| !["cpu", "rps", "disk"].contains(&name.as_str()))
        .prop_map(|(name, unit)| (Metric::Named(name), unit));
    prop_oneof![
        of(vec![Demand, Rps, Capacity], vec![Unit::Rps]),
        of(vec![InFlight, QueueDepth], vec![Unit::One]),
        of(vec![LatencyP50, LatencyP90, LatencyP99], vec![Unit::Us, Unit::Ms, Unit::S]),
        of(
            vec![ErrorRate, Utilisation, Saturation, Cpu, Memory, Network, Disk],
            vec![Unit::Percent]
        ),
        sized,
        network,
        named,
    ]
}

fn comparator() -> impl Strategy<Value = Comparator> {
    use Comparator::{Above, AtLeast, AtMost, Below};
    prop::sample::select(vec![Above, AtLeast, Below, AtMost])
}

fn comparison() -> impl Strategy<Value = Comparison> {
    let scope = prop::sample::select(vec![Scope::Service, Scope::Any, Scope::All]);
    let number = prop_oneof![0.0..1e4, 0.0..1e15, (0..1_000_u32).prop_map(f64::from)];
    let ahead = 100..=604_800_000_u64;
    let when = prop_oneof![
        Just(When::Now),
        ahead.clone().prop_map(When::At),
        ahead.prop_map(When::Within)
    ];
    (measured(), scope, comparator(), number, when, prop::option::of(1..=99_u8)).prop_map(
        |((metric, unit), scope, comparator, number, when, quantile)| {
            let of_service = matches!(metric, Metric::Demand | Metric::Utilisation);
            Comparison {
                quantile: quantile.filter(|_| when != When::Now),
                scope: if of_service { Scope::Service } else { scope },
                metric,
                comparator,
                value: Value { number, unit },
                when,
            }
        },
    )
}

fn condition() -> impl Strategy<Value = Condition> {
    comparison().prop_map(Condition::Is).prop_recursive(3, 12, 3, |inner| {
        (any::<bool>(), prop::collection::vec(inner, 2..4)).prop_map(|(any, parts)| {
            let mut flat = Vec::new();
            for part in parts {
                match part {
                    Condition::Or(inner) if any => flat.extend(inner),
                    Condition::And(inner) if !any => flat.extend(inner),
                    other => flat.push(other),
                }
            }
            if any { Condition::Or(flat) } else { Condition::And(flat) }
        })
    })
}

/// One of each kind for each service: a rule asks for nothing twice.
fn distinct(actions: Vec<RuleAction>) -> Vec<RuleAction> {
    let kind = |action: &RuleAction| match action {
        RuleAction::Alert(text) => format!("alert {text}"),
        other => {
            let count = other.count().map_or_else(String::new, |count| format!(" {count}"));
            other.to_string().replacen(&count, "", 1)
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    actions.into_iter().filter(|action| seen.insert(kind(action))).collect()
}

fn action() -> impl Strategy<Value = RuleAction> {
    let of = || {
        prop::option::of("[a-z0-9][a-z0-9_.-]{0,9}")
            .prop_map(|name| name.map(|name| ServiceName::from(name.as_str())))
    };
    let count = || 1..=1_000_u32;
    prop_oneof![
        (count(), of()).prop_map(|(n, of)| RuleAction::Activate(n, of)),
        (count(), of()).prop_map(|(n, of)| RuleAction::Warm(n, of)),
        (count(), of()).prop_map(|(n, of)| RuleAction::Prepare(n, of)),
        of().prop_map(RuleAction::Hold),
        "[^\\p{Cc}]{1,20}".prop_map(RuleAction::Alert),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let lasting = prop_oneof![
        (1..=100_000_u32).prop_map(Lasting::Ticks),
        (1..=86_400_000_u64).prop_map(Lasting::Time)
    ];
    let until = prop::option::of(condition().prop_map(Until::Condition));
    let actions = prop::collection::vec(action(), 1..4).prop_map(distinct);
    let ranks = (1..=1_000_u32, 0..=1_000_u32);
    (condition(), prop::option::of(lasting), until, 0..=86_400_000_u64, actions, ranks).prop_map(
        |(condition, lasting, until, clear_after_ms, actions, (weight, priority))| Rule {
            condition,
            lasting,
            until,
            clear_after_ms,
            actions,
            weight,
            priority,
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same(rule in rule()) {
        let text = rule.to_string();
        prop_assume!(text.len() <= foreshadow_control::MAX_RULE_BYTES);
        let read = text.parse::<Rule>();
        prop_assert_eq!(read.as_ref().ok(), Some(&rule), "{}: {:?}", text, read);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in "\\PC{0,60}") {
        if let Err(error) = text.parse::<Rule>() {
            prop_assert!(text.get(error.at.clone()).is_some(), "{:?} of {:?}", error.at, text);
            prop_assert!(!error.excerpt().is_empty());
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_are_read_or_refused(
        words in prop::collection::vec(prop::sample::select(vec![
            "cpu", "demand", ">", "<", "80%", "5rps", "3", "within", "5m", "for", "ticks", "until",
            "clear", "after", "->", "activate", "2", "of", "hold", "alert", "\"x\"", "weight",
            "and", "or", "(", ")", "p90", "any", "instance", "metric", ",", "\"", "\\",
        ]), 0..16)
    ) {
        let text = words.join(" ");
        match text.parse::<Rule>() {
            Ok(rule) => prop_assert_eq!(rule.to_string().parse::<Rule>().ok(), Some(rule)),
            Err(error) => prop_assert!(text.get(error.at.clone()).is_some(), "{}", error),
        }
    }
}
