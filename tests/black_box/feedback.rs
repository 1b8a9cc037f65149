//! Thresholds and what became of decisions, as an operator sees them.

use crate::support::{Backend, Node, eventually, try_get};

#[test]
fn thresholds_are_told_in_the_api_and_as_metrics() {
    let backend = Backend::start(&[]);
    let services = format!(
        "  shop:\n    primaries: [{}]\n    feedback: off\n    forecast: {{ violation_cost: 4 }}\n",
        backend.address
    );
    let node = Node::start(&services);
    let told = eventually("feedback is told", || {
        let told = node.api("/api/v1/services/shop/feedback");
        told["feedback"]["thresholds"].is_array().then_some(told)
    });
    assert_eq!(told["feedback"]["moves"], false, "{told}");
    let commit = &told["feedback"]["thresholds"][2];
    assert_eq!((commit["step"].as_str(), commit["in_force"].as_f64()), (Some("commit"), Some(0.8)));
    assert!(commit["reason"].as_str().unwrap().contains("feedback is off"), "{commit}");
    let learning = &told["feedback"]["learning"];
    assert_eq!(
        (&learning["outcomes"], &learning["steps"]),
        (&true.into(), &false.into()),
        "{told}"
    );
    assert!(learning["shifts"].is_null(), "nothing is chosen among: {told}");
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    let level = r#"foreshadow_threshold{service="shop",step="commit"} 0.8"#;
    let judged =
        "foreshadow_steps_judged_total{service=\"shop\",step=\"commit\",verdict=\"late\"} 0";
    for line in [level, judged] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn what_migrations_may_shift_by_is_told_where_it_is_learned() {
    let backend = Backend::start(&[]);
    let services = format!(
        "  shop:\n    primaries: [{}]\n    learning: {{ steps: on, fastest: brisk }}\n",
        backend.address
    );
    let node = Node::start(&services);
    let told = eventually("feedback is told", || {
        let told = node.api("/api/v1/services/shop/feedback");
        told["feedback"]["learning"]["shifts"].is_array().then_some(told)
    });
    let shifts = &told["feedback"]["learning"]["shifts"][0];
    assert_eq!(shifts["next"]["pace"], "normal", "as configured until something was seen: {told}");
    let arms = shifts["arms"].as_array().unwrap();
    let allowed: Vec<_> = arms.iter().map(|arm| arm["allowed"].as_bool().unwrap()).collect();
    assert_eq!(allowed, [true, true, false], "brisk only after successes: {told}");
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    let line = "foreshadow_migrations_shifted_total{service=\"shop\",place=\"default\",plan=\"brisk\",\
                outcome=\"well\"} 0";
    assert!(metrics.contains(line), "{metrics}");
}
