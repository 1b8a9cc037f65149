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
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    let level = r#"foreshadow_threshold{service="shop",step="commit"} 0.8"#;
    let judged =
        "foreshadow_steps_judged_total{service=\"shop\",step=\"commit\",verdict=\"late\"} 0";
    for line in [level, judged] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
