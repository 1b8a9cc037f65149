//! The built command and its shadows: kept, recreated, taken over after a crash, never leaked.

use std::collections::BTreeSet;
use std::net::TcpStream;

use crate::support::{self, Backend, Node, eventually, foreshadow};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

/// A service whose shadows are real backends; `pool` is its YAML.
pub(crate) fn with_shadows(primary: &Backend, pool: &str, more: &str) -> String {
    format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n{more}    shadows:\n      provider:\n        process:\n          command: [{:?}, testbed, backend, --listen, \"{{address}}\", --name, \"shadow-{{id}}\"]\n          stop_timeout: 2s\n      pool: {pool}\n",
        primary.address,
        env!("CARGO_BIN_EXE_foreshadow"),
    )
}

pub(crate) fn shadows(node: &Node) -> Vec<Value> {
    node.api("/api/v1/shadows")["shadows"].as_array().unwrap().clone()
}

/// Shadows by tier, once as many stand at each tier as `wanted` says and none is under way.
pub(crate) fn settled(node: &Node, wanted: &[(&str, usize)]) -> Vec<Value> {
    eventually(&format!("shadows at {wanted:?}"), || {
        let all = shadows(node);
        let at = |tier: &str| {
            all.iter().filter(|s| s["tier"] == tier && s["moving_to"].is_null()).count()
        };
        let total: usize = wanted.iter().map(|(_, n)| n).sum();
        (all.len() == total && wanted.iter().all(|(tier, n)| at(tier) == *n)).then_some(all)
    })
}

/// Process ids of this test's shadows, found by what they were started with.
pub(crate) fn processes(node: &Node) -> BTreeSet<i32> {
    let ports: Vec<String> =
        shadows(node).iter().filter_map(|s| s["address"].as_str().map(str::to_owned)).collect();
    pids_with(|args| ports.iter().any(|p| args.contains(p)))
}

fn pids_with(wanted: impl Fn(&str) -> bool) -> BTreeSet<i32> {
    support::processes("cmdline", |args| args.contains("shadow-") && wanted(args))
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ended = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !ended
}

#[test]
fn the_pool_is_filled_and_a_dead_shadow_is_made_again() {
    let primary = Backend::start(&[]);
    let node = Node::start(&with_shadows(&primary, "{ shadow: 1, warm: 1, max: 3 }", ""));
    let before = settled(&node, &[("shadow", 1), ("warm", 1)]);
    let warm = before.iter().find(|s| s["tier"] == "warm").unwrap();
    let port = warm["address"].as_str().unwrap().to_owned();
    let pid = *pids_with(|args| args.contains(&port)).first().expect("the warm shadow's process");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("another warm shadow", || {
        let all = shadows(&node);
        let fresh = all.iter().find(|s| s["tier"] == "warm" && s["instance"] != warm["instance"]);
        fresh.filter(|s| s["moving_to"].is_null()).map(|_| ())
    });
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    let metrics = support::try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_shadow_exits_total{service=\"shop\"} 1"), "{metrics}");
}

#[test]
fn a_primary_that_dies_is_replaced_by_a_shadow() {
    let mut primary = Backend::start(&["--name", "primary"]);
    let node = Node::start(&with_shadows(&primary, "{ shadow: 0, warm: 1, max: 3 }", ""));
    settled(&node, &[("warm", 1)]);
    assert_eq!(node.get("/").header("x-instance"), Some("primary"));
    primary.process.kill();
    eventually("a shadow to answer", || {
        let answer = node.get("/");
        answer.header("x-instance").filter(|name| name.starts_with("shadow-")).map(|_| ())
    });
    for _ in 0..50 {
        assert_eq!(node.get("/").status, 200);
    }
    let decisions = node.api("/api/v1/decisions?law=failover&limit=10");
    assert!(!decisions["decisions"].as_array().unwrap().is_empty(), "{decisions}");
    // One stands in, the pool is whole again, and one more was made for the primary that is lost.
    settled(&node, &[("serving", 1), ("warm", 1), ("shadow", 1)]);
    let activation = eventually("the activation with every step", || {
        let page = node.api("/api/v1/activations?service=shop");
        let all = page["activations"].as_array()?.clone();
        (all.len() == 1 && all[0]["steps"]["refilled_ms"].is_u64()).then(|| all[0].clone())
    });
    assert_eq!((&activation["law"], &activation["from"]), (&"failover".into(), &"warm".into()));
    assert_eq!(activation["outcome"]["state"], "serves", "{activation}");
    let ms = |step: &str| activation["steps"][step].as_u64().unwrap();
    assert!(ms("configured_ms") <= ms("verified_ms"), "{activation}");
    assert!(ms("verified_ms") <= ms("redirected_ms"), "{activation}");
    let dir = node.dir.path().join("state");
    let mut command = support::foreshadow();
    command.args(["explain", "--activations", "--state-dir"]).arg(&dir);
    let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(
        told.contains("shop") && told.contains("from warm") && told.contains("serves"),
        "{told}"
    );
}

#[test]
fn after_a_crash_shadows_are_taken_over_none_leaked_none_twice() {
    let primary = Backend::start(&[]);
    let mut node = Node::start(&with_shadows(&primary, "{ shadow: 1, warm: 2, max: 4 }", ""));
    settled(&node, &[("shadow", 1), ("warm", 2)]);
    let before = processes(&node);
    assert_eq!(before.len(), 3);
    let ids: BTreeSet<String> = shadows(&node).iter().map(|s| s["instance"].to_string()).collect();
    node.process.kill();
    assert!(before.iter().all(|pid| alive(*pid)), "a shadow died with the node");
    node.restart();
    settled(&node, &[("shadow", 1), ("warm", 2)]);
    assert_eq!(processes(&node), before);
    let again: BTreeSet<String> =
        shadows(&node).iter().map(|s| s["instance"].to_string()).collect();
    assert_eq!(again, ids);
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    eventually("all shadows to end with the node", || {
        before.iter().all(|pid| !alive(*pid)).then_some(())
    });
}

#[test]
fn a_provider_that_fails_raises_an_alert_and_harms_nothing() {
    let primary = Backend::start(&[]);
    let services = format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    shadows:\n      provider: {{ process: {{ command: [/no/such/program, \"{{port}}\"] }} }}\n      pool: {{ warm: 1, max: 2 }}\n",
        primary.address
    );
    let node = Node::start(&services);
    let alerts = eventually("an alert", || {
        let view = node.api("/api/v1/services/shop");
        let alerts = view["alerts"].to_string();
        alerts.contains("provider_failing").then_some(alerts)
    });
    assert!(alerts.contains("/no/such/program"), "{alerts}");
    assert_eq!(node.get("/").status, 200);
}

#[test]
fn shadows_that_a_reload_adds_are_made_without_a_failed_step() {
    let primary = Backend::start(&[]);
    let without = format!("  shop:\n    primaries: [{}]\n    mode: act\n", primary.address);
    let node = Node::start(&without);
    node.rewrite(&with_shadows(&primary, "{ shadow: 1, warm: 1, max: 3 }", ""));
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    let counts = &node.api("/api/v1/services/shop")["shadows_since_start"];
    assert_eq!(counts["steps_failed"], 0, "{counts}");
    node.rewrite(&without);
    settled(&node, &[]);
}

#[test]
fn operators_can_activate_drain_and_stop_everything() {
    let primary = Backend::start(&[]);
    let window = "    forecast: { evaluation_window: 60s }\n";
    let node = Node::start(&with_shadows(&primary, "{ shadow: 0, warm: 1, max: 2 }", window));
    settled(&node, &[("warm", 1)]);
    let (status, answer) = node.post("/api/v1/services/shop/activate", &json!({ "count": 1 }));
    assert_eq!((status, &answer["acting"]), (202, &json!(true)), "{answer}");
    let shadow = eventually("the shadow to serve", || {
        shadows(&node)
            .into_iter()
            .find(|s| s["tier"] == "serving" && s["weight"].as_u64() > Some(0))
    });
    let id = shadow["instance"].to_string();
    let (status, _) =
        node.post(&format!("/api/v1/instances/{id}/drain"), &json!({ "drained": true }));
    assert_eq!(status, 200);
    eventually("the drain to be recorded with its service", || {
        let page = node.api("/api/v1/decisions?kind=operator&service=shop");
        page.to_string().contains(" drained").then_some(())
    });
    eventually("the drained shadow to have no weight", || {
        let one = shadows(&node).into_iter().find(|s| s["instance"] == shadow["instance"]);
        one.is_none_or(|s| s["weight"] == 0).then_some(())
    });
    let (status, answer) = node.post("/api/v1/kill-switch", &json!({ "engaged": true }));
    assert_eq!((status, &answer["engaged"]), (200, &json!(true)));
    assert_eq!(answer["kept"], true, "{answer}");
    eventually("the loop to stop acting", || {
        (node.api("/api/v1/services/shop")["acting"] == false).then_some(())
    });
    let (_, answer) = node.post("/api/v1/services/shop/activate", &json!({ "count": 1 }));
    assert_eq!(answer["acting"], false, "{answer}");
    let event = |start_ms: u64, end_ms: u64| json!({ "service": "shop", "name": "sale", "start_ms": start_ms, "end_ms": end_ms, "lift": 2.0 });
    for (path, body, status) in [
        ("/api/v1/services/shp/mode", json!({ "mode": "act" }), 404),
        ("/api/v1/services/shop/mode", json!({ "mode": "atc" }), 422),
        ("/api/v1/services/shop/mode", json!({}), 422),
        ("/api/v1/services/shop/activate", json!({ "count": 99 }), 422),
        ("/api/v1/events", event(u64::MAX - 1, u64::MAX), 422),
        ("/api/v1/events", event(0, u64::MAX / 2), 422),
        ("/api/v1/instances/i999999/drain", json!({ "drained": true }), 404),
    ] {
        let (got, answer) = node.post(path, &body);
        assert_eq!(got, status, "{path}: {answer}");
    }
    let text = node.api("/api/v1/decisions?kind=operator").to_string();
    assert!(text.contains("kill switch engaged"), "{text}");
}

#[test]
fn two_nodes_on_one_state_directory_are_refused() {
    let primary = Backend::start(&[]);
    let node = Node::start(&with_shadows(&primary, "{ warm: 0, shadow: 0, max: 1 }", ""));
    let other = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text
        .replace(&node.proxy.to_string(), &support::free_address().to_string())
        .replace(&node.admin.to_string(), &support::free_address().to_string());
    std::fs::write(support::config_path(other.path()), text).unwrap();
    let output =
        foreshadow().args(["run", "-c"]).arg(support::config_path(other.path())).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("state"), "{error}");
    TcpStream::connect(node.proxy).unwrap();
}

#[test]
fn a_recording_replays_to_the_same_plans() {
    let primary = Backend::start(&[]);
    let services = with_shadows(&primary, "{ shadow: 0, warm: 1, max: 2 }", "");
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("recording.ndjson");
    let services =
        format!("{services}recording:\n  path: {}\n  max_size: 50MiB\n", recording.display());
    let mut node = Node::start_in(dir, &services);
    settled(&node, &[("warm", 1)]);
    for _ in 0..200 {
        assert_eq!(node.get("/").status, 200);
    }
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0));
    let output = foreshadow().args(["explain", "--replay"]).arg(&recording).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("every plan is the recorded one"), "{text}");
    let doctored = std::fs::read_to_string(&recording).unwrap().replacen(
        "\"arrivals\":",
        "\"arrivals\":7",
        40,
    );
    std::fs::write(&recording, doctored).unwrap();
    let output = foreshadow().args(["explain", "--replay"]).arg(&recording).output().unwrap();
    assert!(!output.status.success(), "a doctored recording replayed");
}
