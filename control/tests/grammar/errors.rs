//! Every refusal says where, what was read, what was expected, and the nearest valid name.

use foreshadow_control::Rule;

/// The text, what is marked in it, part of the message, and the nearest name.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>);

const CASES: [Case; 44] = [
    ("", "", "found the end, expected a metric", None),
    ("-> hold", "->", "expected a metric", None),
    ("demnad > 5rps -> hold", "demnad", "write metric(\"demnad\")", Some("demand")),
    ("Latency_P9 > 5ms -> hold", "Latency_P9", "expected a metric", Some("latency_p90")),
    ("hold > 5 -> hold", "hold", "expected a metric", None),
    ("demand 5rps -> hold", "5rps", "expected one of >, >=, <, <=", None),
    ("demand = 5rps -> hold", "=", "hardly ever equal", None),
    ("demand => 5rps -> hold", "=>", "write >=", None),
    ("demand > -> hold", "->", "expected a rate such as 500rps", None),
    ("demand > 500 -> hold", "500", "expected a rate such as 500rps", None),
    ("demand > 80% -> hold", "%", "utilisation is a share", None),
    ("demand > 500rpm -> hold", "rpm", "expected a unit", Some("rps")),
    ("memory > 4Gib -> hold", "Gib", "a size such as 4GiB", Some("GiB")),
    ("cpu > 80 within 5m -> hold", "80", "expected a share such as 80%", None),
    ("cpu > 9999999999999999% -> hold", "9999999999999999", "at most 1e15", None),
    ("cpu > -5% -> hold", "-", "expected a share", None),
    ("cpu > 80% within -> hold", "->", "expected a duration", None),
    ("cpu > 80% within 5 -> hold", "5", "expected a duration", None),
    ("cpu > 80% within 1.5h -> hold", "1.5h", "expected a duration", None),
    ("cpu > 80% within 8d -> hold", "8d", "from 100ms to 7d", None),
    ("cpu > 80% at 50ms -> hold", "50ms", "from 100ms to 7d", None),
    ("cpu > 80% withn 5m -> hold", "withn", "-> and what to do", Some("within")),
    ("p90 demand > 5rps within 5m -> hold", "demand", "of, as in p90 of demand", None),
    ("p100 of demand > 5rps within 5m -> hold", "p100", "p1 to p99", None),
    ("p90 of demand > 5rps -> hold", "p90", "only what is predicted has quantiles", None),
    ("any cpu > 80% -> hold", "cpu", "expected instance", None),
    ("any instance demand > 5rps -> hold", "demand", "write rps for an instance", None),
    ("all instances utilisation > 5% -> hold", "utilisation", "write saturation", None),
    ("metric(jobs) > 3 -> hold", "jobs", "in double quotes", None),
    ("(cpu > 80% -> hold", "->", "expected and, or, or )", None),
    ("cpu > 80% for 0 ticks -> hold", "0", "from 1 to 100000", None),
    ("cpu > 80% for three ticks -> hold", "three", "such as 3 ticks", None),
    ("cpu > 80% until > 70% -> hold", ">", "it would end while it begins", None),
    ("cpu > 80% until < 90% -> hold", "90%", "expected at most 80%", None),
    ("cpu > 80% and rps > 5rps until < 3rps -> hold", "<", "say which one ends it", None),
    ("cpu > 80% clear 1m -> hold", "1m", "expected after", None),
    ("cpu > 80%", "", "found the end, expected and, or", None),
    ("cpu > 80% -> activat 2", "activat", "expected what to do", Some("activate")),
    ("cpu > 80% -> stop 2", "stop", "rules add capacity or hold it", None),
    ("cpu > 80% -> activate web", "web", "a number of shadows from 1 to 1000", None),
    ("cpu > 80% -> activate 0", "0", "a number of shadows from 1 to 1000", None),
    ("cpu > 80% -> alert now", "now", "what to tell in double quotes", None),
    ("cpu > 80% -> alert \"now", "\"now", "a text without its closing quote", None),
    ("cpu > 80% -> hold wieght 3", "wieght", "expected weight, priority", Some("weight")),
];

#[test]
fn errors_point() {
    for (text, marked, message, nearest) in CASES {
        let error = text.parse::<Rule>().expect_err(text);
        assert_eq!(&text[error.at.clone()], marked, "{text}: {error}");
        assert_eq!(error.column, text[..error.at.start].chars().count() + 1, "{text}");
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert_eq!(error.nearest.as_deref(), nearest, "{text}: {error}");
    }
}

#[test]
fn an_error_shows_its_place() {
    let error = "größe > 3 and demnad > 5rps -> hold".parse::<Rule>().unwrap_err();
    let expected = "größe > 3 and demnad > 5rps -> hold\n              ^^^^^^";
    assert_eq!(error.excerpt(), expected);
    assert_eq!(error.column, 15);
    assert_eq!(
        error.to_string(),
        "column 15: found \"demnad\", expected a metric; did you mean \"demand\"? (if instances do \
         report it, write metric(\"demnad\"))"
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let nested = format!("{}cpu > 1%{} -> hold", "(".repeat(17), ")".repeat(17));
    assert!(nested.parse::<Rule>().unwrap_err().to_string().contains("at most 16 parentheses"));
    let many = format!("{} -> hold", vec!["cpu > 1%"; 33].join(" and "));
    assert!(many.parse::<Rule>().unwrap_err().to_string().contains("33 comparisons"));
    let long = format!("cpu > 1% -> hold{}", " ".repeat(2_000));
    assert!(long.parse::<Rule>().unwrap_err().to_string().contains("at most 2000 bytes"));
    let deep = "(".repeat(1_990);
    assert!(deep.parse::<Rule>().is_err());
}
