//! Rules of a real process: from the file, from the API, over a restart, and tried on a recording.

use crate::support::{Backend, Node, Process, eventually, exchange, foreshadow};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A service with shadows and, below it, `rules` as YAML.
fn services(primary: &Backend, rules: &str) -> String {
    format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    capacity: 10000rps\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n{rules}    shadows:\n      provider:\n        process:\n          command: [{:?}, testbed, backend, --listen, \"{{address}}\", --name, \"shadow-{{id}}\"]\n          stop_timeout: 2s\n      pool: {{ shadow: 0, warm: 1, max: 3 }}\n",
        primary.address,
        env!("CARGO_BIN_EXE_foreshadow"),
    )
}

fn serving(node: &Node) -> usize {
    let shadows = node.api("/api/v1/shadows");
    shadows["shadows"].as_array().unwrap().iter().filter(|s| s["tier"] == "serving").count()
}

fn rules(node: &Node) -> Vec<Value> {
    node.api("/api/v1/rules")["rules"].as_array().unwrap().clone()
}

/// A request with a body to the admin interface: status and JSON.
fn send(node: &Node, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(node.admin, request.as_bytes()).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

/// A load generator that runs until the test ends.
fn load(node: &Node, rps: u32) -> Process {
    let mut command = foreshadow();
    let url = format!("http://{}/", node.proxy);
    let profile = format!("hold:{rps}rps:60s");
    command.args(["testbed", "load", "--quiet", "--target", &url, "--profile", &profile]);
    Process::spawn(command)
}

#[test]
fn a_rule_of_the_file_makes_a_shadow_serve_before_any_law_would() {
    let primary = Backend::start(&[]);
    let rule = "    rules:\n      early: demand > 20rps within 10s for 3 ticks -> activate 1\n";
    let node = Node::start(&services(&primary, rule));
    // The primary is good for 10,000 requests per second: nothing but the rule asks for a shadow.
    assert_eq!(serving(&node), 0);
    let _load = load(&node, 60);
    eventually("a shadow to serve", || (serving(&node) == 1).then_some(()));
    let decisions = node.api("/api/v1/decisions?law=rule&limit=100");
    let told = decisions["decisions"].to_string();
    assert!(told.contains("rule early fires: demand within 10s is "), "{told}");
    assert!(told.contains("to serving: rule early: demand within 10s is "), "{told}");
    assert!(told.contains("1 shadow should serve, 0 do"), "{told}");
    let laws = node.api("/api/v1/decisions?limit=1000").to_string();
    for law in ["commit", "reactive_floor", "failover", "operator"] {
        assert!(!laws.contains(&format!("\"law\":\"{law}\"")), "{law}: {laws}");
    }
    let rule = &rules(&node)[0];
    assert_eq!((&rule["state"], &rule["origin"]), (&json!("firing"), &json!("config")), "{rule}");
    let reading = &rule["readings"][0];
    assert!(reading["current"].as_f64().unwrap() > 20.0, "{reading}");
    let metrics = crate::support::try_get(node.admin, "/metrics").unwrap().text();
    let state = "foreshadow_rule_state{service=\"shop\",rule=\"early\",state=\"firing\"} 1";
    assert!(metrics.contains(state), "{metrics}");
    let explained = foreshadow()
        .args(["explain", "--law", "rule", "--state-dir"])
        .arg(node.dir.path().join("state"))
        .output()
        .unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("rule early fires"), "{explained}");
}

#[test]
fn a_rule_of_an_operator_outlives_a_restart_and_can_be_taken_back() {
    let primary = Backend::start(&[]);
    let configured = "    rules:\n      mine: demand > 9000rps -> warm 1\n";
    let mut node = Node::start(&services(&primary, configured));
    let path = "/api/v1/services/shop/rules/extra";
    let (status, answer) = send(&node, "PUT", path, &json!({ "rule": "demnad > 1rps -> hold" }));
    assert_eq!((status, &answer["column"], &answer["nearest"]), (422, &json!(1), &json!("demand")));
    assert_eq!(answer["excerpt"], "demnad > 1rps -> hold\n^^^^^^");
    let (status, answer) = send(&node, "PUT", path, &json!({ "rule": "cpu > 1% -> activate 9" }));
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("at most 3, the pool's max"), "{answer}");

    let rule = json!({ "rule": "rps>=0rps->activate 2 of shop" });
    let (status, answer) = send(&node, "PUT", path, &rule);
    assert_eq!((status, &answer["kept"]), (200, &json!(true)), "{answer}");
    assert_eq!(answer["rule"], "rps >= 0rps -> activate 2 of shop");
    eventually("two shadows to serve", || (serving(&node) == 2).then_some(()));
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    node.restart();
    eventually("two shadows to serve again", || (serving(&node) == 2).then_some(()));
    let all = rules(&node);
    let told: Vec<_> = all.iter().map(|r| (r["name"].as_str(), r["origin"].as_str())).collect();
    assert_eq!(told, [(Some("extra"), Some("operator")), (Some("mine"), Some("config"))]);

    let (status, answer) = send(&node, "DELETE", "/api/v1/services/shop/rules/mine", &json!({}));
    assert_eq!(status, 409, "{answer}");
    assert_eq!(send(&node, "DELETE", path, &json!({})).0, 204);
    assert_eq!(send(&node, "DELETE", path, &json!({})).0, 404);
    assert_eq!(rules(&node).len(), 1);
}

#[test]
fn a_rule_is_tried_on_a_recording_by_api_and_command_line() {
    let primary = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("recording.ndjson");
    let plain = services(&primary, "");
    let more = format!("{plain}recording: {{ path: {} }}\n", recording.display());
    let mut node = Node::start(&more);
    let _load = load(&node, 60);
    eventually("demand to be seen", || {
        let demand = node.api("/api/v1/services/shop")["demand_rps"].as_f64();
        demand.filter(|rps| *rps > 40.0)
    });
    let wanted = json!({ "service": "shop", "rule": "demand > 20rps -> activate 1" });
    let fired = eventually("the recording to be on disk", || {
        let (status, answer) = node.post("/api/v1/rules/check", &wanted);
        assert_eq!(status, 200, "{answer}");
        let fired = answer["dry_run"]["rules"][0]["fired"].as_u64();
        fired.filter(|fired| *fired > 0).map(|_| answer.clone())
    });
    let figures = fired["dry_run"]["rules"][0]["firings"][0]["figures"][0].as_str().unwrap();
    assert!(figures.starts_with("demand is "), "{fired}");
    assert_eq!(serving(&node), 0, "trying a rule carries nothing out");
    assert_eq!(rules(&node), Vec::<Value>::new());
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    let tried = foreshadow()
        .args(["rules", "check", "--service", "shop", "--rule"])
        .args(["demand > 20rps for 3 ticks clear after 10s -> activate 1", "--replay"])
        .arg(&recording)
        .output()
        .unwrap();
    let told = String::from_utf8(tried.stdout).unwrap();
    assert!(tried.status.success(), "{told}");
    assert!(told.contains("would have fired once"), "{told}");
    assert!(told.contains("demand is "), "{told}");
    let wrong = foreshadow()
        .args(["rules", "check", "--service", "shop", "--rule", "demand > 20 -> hold"])
        .output()
        .unwrap();
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(told.contains("    demand > 20 -> hold\n             ^^"), "{told}");
}

#[test]
fn a_rule_that_looks_farther_than_any_curve_yet_is_told_so() {
    let primary = Backend::start(&[]);
    let far = "    rules:\n      far: demand > 1000rps within 6h -> alert \"far\"\n      near: demand > 1000rps within 5m -> alert \"near\"\n";
    let node = Node::start(&services(&primary, far));
    let unforeseen = |name: &str| {
        let all = rules(&node);
        let rule = all.iter().find(|rule| rule["name"] == name).unwrap();
        rule["unforeseen"].as_str().map(str::to_owned)
    };
    let why = unforeseen("far").unwrap();
    assert!(why.contains("6 h ahead") && why.contains("16 spans of 15m"), "{why}");
    assert_eq!(unforeseen("near"), None);
    eventually("the log to say it", || {
        node.process.log().contains("a rule cannot fire").then_some(())
    });
}
