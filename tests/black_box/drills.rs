//! Failover drills of the built command: real shadows, real requests, and everything put right again.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::load::Load;
use crate::shadows::{settled, shadows, with_shadows};
use crate::support::{Backend, Node, eventually, foreshadow, processes, try_get};

/// Enough that nobody doubts that the rest can carry what is asked for here.
const KNOWN: &str = "    capacity: 10000rps\n    forecast: { evaluation_window: 60s }\n";

/// A node with a primary and a shadow that serves beside it, and the shadow.
fn with_serving_shadow(primary: &Backend, more: &str) -> (Node, Value) {
    let services =
        with_shadows(primary, "{ shadow: 0, warm: 1, max: 3 }", &format!("{KNOWN}{more}"));
    let node = Node::start(&services);
    settled(&node, &[("warm", 1)]);
    let shadow = activated(&node);
    (node, shadow)
}

fn activated(node: &Node) -> Value {
    let (status, answer) = node.post("/api/v1/services/shop/activate", &json!({ "count": 1 }));
    assert_eq!(status, 202, "{answer}");
    let shadow = eventually("the shadow to serve and be well", || {
        let is_ready = |s: &Value| s["weight"].as_u64() > Some(0) && s["health"] == "up";
        shadows(node).into_iter().find(is_ready)
    });
    // What was taken from the pool is made again, and its primary is known to be well.
    eventually("the pool to be whole", || {
        let all = node.api("/api/v1/instances")["instances"].as_array()?.clone();
        let is_still = |s: &Value| s["moving_to"].is_null() && s["health"] == "up";
        (all.len() == 3 && all.iter().all(is_still)).then_some(())
    });
    shadow
}

fn begin(node: &Node, ask: &Value) -> (u16, Value) {
    node.post("/api/v1/services/shop/drill", ask)
}

fn drill(node: &Node, id: u64) -> Value {
    node.api(&format!("/api/v1/drills/{id}"))
}

/// A drill that was begun, once it is over.
fn finished(node: &Node, begun: &Value) -> Value {
    let id = begun["id"].as_u64().unwrap_or_else(|| panic!("{begun}"));
    eventually("the drill to be over", || {
        Some(drill(node, id)).filter(|report| report["stage"] == "done")
    })
}

/// The same, at a stage.
fn at_stage(node: &Node, begun: &Value, stage: &str) -> Value {
    let id = begun["id"].as_u64().unwrap_or_else(|| panic!("{begun}"));
    eventually(stage, || Some(drill(node, id)).filter(|report| report["stage"] == stage))
}

fn run(node: &Node, options: &[&str]) -> Output {
    let mut command = foreshadow();
    command.args(["drill", "shop", "--admin", &format!("http://{}", node.admin)]).args(options);
    command.output().unwrap()
}

fn pid_of(shadow: &Value) -> i32 {
    let address = shadow["address"].as_str().unwrap();
    let found = processes("cmdline", |args| args.contains("shadow-") && args.contains(address));
    *found.first().unwrap_or_else(|| panic!("no process of {shadow}"))
}

/// The state letter of a process; nothing once it is gone.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Whether it is stopped, by a signal or by its control group.
fn is_stopped(pid: i32) -> bool {
    if state(pid) == Some('T') {
        return true;
    }
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| {
        let path = line.rsplit(':').next().unwrap_or_default();
        let state = |root: &str, file: &str| {
            std::fs::read_to_string(format!("{root}{path}/{file}")).unwrap_or_default()
        };
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .iter()
            .any(|root| state(root, "cgroup.events").contains("frozen 1"))
            || state("/sys/fs/cgroup/freezer", "freezer.state").starts_with("FROZEN")
    })
}

/// Cores that a process may use at most, by its control group; nothing where that sets no limit.
fn cpu_quota(pid: i32) -> Option<f64> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let path = line.rsplit(':').next()?;
        let read = |root: &str, file: &str| std::fs::read_to_string(format!("{root}{path}/{file}"));
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|us| *us > 0.0);
        if let Ok(max) = read("/sys/fs/cgroup", "cpu.max") {
            let (quota, period) = max.split_once(' ')?;
            return Some(number(quota)? / number(period)?);
        }
        let quota = number(&read("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us").ok()?)?;
        Some(quota / number(&read("/sys/fs/cgroup/cpu", "cpu.cfs_period_us").ok()?)?)
    })
}

fn actions(node: &Node) -> Vec<String> {
    let page = node.api("/api/v1/audit?limit=1000");
    let entries = page["entries"].as_array().unwrap().clone();
    entries.iter().filter_map(|e| e["action"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_killed_shadow_is_replaced_and_the_report_says_when() {
    let primary = Backend::start(&["--name", "primary"]);
    let (node, shadow) = with_serving_shadow(&primary, "");
    let pid = pid_of(&shadow);
    let load = Load::start(node.proxy, 2);
    load.goes_on(20);
    let output = run(
        &node,
        &["--before", "1s", "--for", "10s", "--settle", "20s", "--max-failed", "2", "--json"],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["verdict"], &report["stage"]), (&json!("passed"), &json!("done")));
    assert_eq!(report["victim"]["instance"], shadow["instance"], "a shadow goes before a primary");
    assert_eq!(report["how"], "killed by provider process");
    assert!(state(pid).is_none_or(|state| state == 'Z'), "its process lives");
    let times = &report["times"];
    for time in
        ["weight_zero_ms", "carried_elsewhere_ms", "recreated_ms", "put_right_ms", "normal_ms"]
    {
        assert!(times[time].is_u64(), "{time}: {times}");
    }
    assert!(times["recreated_as"].as_u64() > shadow["instance"].as_u64(), "{times}");
    for part in ["before", "during"] {
        let figures = &report["figures"][part];
        assert!(figures["requests"].as_u64() > Some(0), "{part}: {report:#}");
        assert!(figures["p50_ms"].as_f64() <= figures["p99_ms"].as_f64(), "{figures}");
    }
    assert!(report["seconds"].as_array().unwrap().len() >= 2, "{report:#}");
    load.goes_on(20);
    load.end();
    let told = actions(&node);
    for action in ["drill.ask", "drill.fault", "instance.exit", "drill.put_right", "drill.end"] {
        assert!(told.iter().any(|t| t == action), "{action} is not on record: {told:?}");
    }
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_drills_total{verdict=\"passed\"} 1"), "{metrics}");
    assert!(metrics.contains("foreshadow_drill_under_way 0"), "{metrics}");
}

#[test]
fn a_hung_shadow_is_taken_out_seen_and_let_go_on() {
    let primary = Backend::start(&["--name", "primary"]);
    let (node, shadow) = with_serving_shadow(&primary, "");
    let pid = pid_of(&shadow);
    let load = Load::start(node.proxy, 2);
    let ask = json!({
        "fault": "hang", "before_ms": 500, "for_ms": 4_000, "settle_ms": 20_000,
    });
    let (status, begun) = begin(&node, &ask);
    assert_eq!(status, 202, "{begun}");
    at_stage(&node, &begun, "fault");
    eventually("its process to stand still", || is_stopped(pid).then_some(()));
    let (status, second) = begin(&node, &json!({}));
    assert_eq!(status, 409, "{second}");
    assert!(second.to_string().contains("another_drill"), "{second}");
    let report = finished(&node, &begun);
    assert!(report["times"]["weight_zero_ms"].is_u64(), "{report:#}");
    assert!(report["times"]["put_right_ms"].as_u64() >= Some(4_000), "{report:#}");
    assert!(report["times"]["normal_ms"].is_u64(), "{report:#}");
    assert_eq!(report["verdict"], "passed", "{report:#}");
    // It goes on, or was ended and replaced meanwhile.
    assert!(!is_stopped(pid));
    load.goes_on(10);
    load.end();
}

#[test]
fn a_slow_shadow_has_its_size_again_after_the_drill() {
    let primary = Backend::start(&["--name", "primary"]);
    let (node, shadow) = with_serving_shadow(&primary, "");
    let ask = json!({
        "fault": "slow", "cpu_percent": 1, "before_ms": 500, "for_ms": 2_000, "settle_ms": 20_000,
        "max_failed": 100, "instance": format!("i{}", shadow["instance"]),
    });
    let (status, begun) = begin(&node, &ask);
    if status == 409 && begun.to_string().contains("unsupported") {
        println!("not tried: processes cannot be limited on this machine: {begun}");
        return;
    }
    assert_eq!(status, 202, "{begun}");
    assert_eq!(begun["how"], "held to 1 % of a core by provider process");
    let pid = pid_of(&shadow);
    eventually("its limit to be set", || (cpu_quota(pid)? <= 0.011).then_some(()));
    let report = finished(&node, &begun);
    assert!(report["times"]["put_right_ms"].as_u64() >= Some(2_000), "{report:#}");
    assert_eq!(cpu_quota(pid), None, "it is not limited any more");
    assert_eq!(report["verdict"], "passed", "{report:#}");
}

#[test]
fn a_primary_only_seems_to_fail_and_stays_unharmed() {
    let (first, second) = (Backend::start(&[]), Backend::start(&[]));
    let services = format!(
        "  shop:\n    primaries: [{}, {}]\n    mode: act\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n{KNOWN}",
        first.address, second.address
    );
    let node = Node::start(&services);
    all_up(&node, 2);
    let load = Load::start(node.proxy, 2);
    for fault in ["kill", "hang", "slow"] {
        let ask = json!({
            "fault": fault, "delay_ms": 150, "before_ms": 500, "for_ms": 2_500,
            "settle_ms": 20_000, "max_failed": 1_000,
        });
        let (status, begun) = begin(&node, &ask);
        assert_eq!(status, 202, "{fault}: {begun}");
        assert!(begun["how"].as_str().unwrap().starts_with("injected at the proxy: "), "{begun}");
        if fault == "slow" {
            at_stage(&node, &begun, "fault");
            let metrics = try_get(node.admin, "/metrics").unwrap().text();
            assert!(metrics.contains("foreshadow_injected_faults 1"), "{metrics}");
        }
        let report = finished(&node, &begun);
        assert_eq!(report["verdict"], "passed", "{fault}: {report:#}");
        assert_eq!(report["times"]["weight_zero_ms"].is_u64(), fault != "slow", "{report:#}");
        assert!(report["times"]["normal_ms"].is_u64(), "{fault}: {report:#}");
        if fault == "slow" {
            let p99 = |part: &str| report["figures"][part]["p99_ms"].as_f64().unwrap();
            assert!(p99("during") >= 150.0 && p99("during") > p99("before"), "{report:#}");
        }
        all_up(&node, 2);
    }
    load.goes_on(10);
    load.end();
}

fn all_up(node: &Node, count: usize) {
    eventually("all to be well and have weight", || {
        let all = node.api("/api/v1/instances")["instances"].as_array()?.clone();
        let is_well = |i: &Value| i["health"] == "up" && i["weight"].as_u64() > Some(0);
        (all.len() == count && all.iter().all(is_well)).then_some(())
    });
}

#[test]
fn nothing_is_hurt_where_nothing_would_be_left_or_too_little() {
    let primary = Backend::start(&[]);
    let alone = format!("  shop:\n    primaries: [{}]\n    mode: act\n{KNOWN}", primary.address);
    let node = Node::start(&alone);
    all_up(&node, 1);
    let output = run(&node, &["--force", "--dry-run"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("nothing but i") && text.contains("it would be refused"), "{text}");
    let (status, refused) = begin(&node, &json!({ "force": true }));
    assert_eq!(status, 409, "{refused}");
    assert_eq!(refused["objections"][0]["what"], "no_redundancy", "{refused}");
    assert_eq!(refused["objections"][0]["may_be_forced"], false, "{refused}");

    // Two, of which each is known to carry next to nothing.
    let other = Backend::start(&[]);
    let both = format!(
        "  shop:\n    primaries: [{}, {}]\n    mode: act\n    capacity: 1rps\n",
        primary.address, other.address
    );
    node.rewrite(&both);
    all_up(&node, 2);
    let load = Load::start(node.proxy, 1);
    let refused = eventually("demand to be seen", || {
        let (status, refused) = begin(&node, &json!({ "for_ms": 1_000 }));
        assert_eq!(status, 409, "{refused}");
        refused.to_string().contains("rps are expected within").then_some(refused)
    });
    assert!(refused["error"].as_str().unwrap().contains("can carry 1 rps"), "{refused}");
    load.end();
    for (ask, status, says) in [
        (json!({ "for_ms": 10 }), 422, "for_ms is 10; it must be 500 to 600000"),
        (json!({ "instance": "i999999" }), 409, "has no instance i999999"),
        (json!({ "fault": "drown" }), 422, "unknown variant"),
        (json!({ "frce": true }), 422, "unknown field"),
    ] {
        let (got, answer) = begin(&node, &ask);
        assert_eq!(got, status, "{ask}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(says), "{ask}: {answer}");
    }
    let told = actions(&node);
    assert!(!told.iter().any(|t| t == "drill.fault"), "{told:?}");
    assert!(try_get(node.admin, "/api/v1/drills/1").unwrap().status == 404);
}

#[test]
fn one_that_is_called_off_is_put_right_at_once() {
    let primary = Backend::start(&[]);
    let (node, shadow) = with_serving_shadow(&primary, "");
    let pid = pid_of(&shadow);
    let ask = json!({ "fault": "hang", "before_ms": 0, "for_ms": 600_000, "settle_ms": 20_000 });
    let (status, begun) = begin(&node, &ask);
    assert_eq!(status, 202, "{begun}");
    eventually("its process to stand still", || is_stopped(pid).then_some(()));
    let id = begun["id"].as_u64().unwrap();
    let request = format!(
        "DELETE /api/v1/drills/{id} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        node.admin
    );
    let answer = crate::support::exchange(node.admin, request.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    eventually("its process to go on", || (!is_stopped(pid)).then_some(()));
    let report = finished(&node, &begun);
    assert_eq!(report["verdict"], "called_off", "{report:#}");
    assert_eq!(report["called_off"], "called off by an operator", "{report:#}");
    assert!(report["times"]["put_right_ms"].is_u64(), "{report:#}");
}

#[test]
fn failed_requests_beyond_the_bound_call_it_off() {
    // Nothing is retried, so that clients see what the drill does.
    let more = "    retries: { attempts: 1 }\n    ejection: { consecutive_errors: 1000 }\n";
    let (first, second) = (Backend::start(&[]), Backend::start(&[]));
    let services = format!(
        "  shop:\n    primaries: [{}, {}]\n    mode: act\n    health: {{ path: /healthz, interval: 10s, timeout: 5s, fall: 9 }}\n    timeouts: {{ first_byte: 50ms }}\n{more}{KNOWN}",
        first.address, second.address
    );
    let node = Node::start(&services);
    all_up(&node, 2);
    let (status, begun) = begin(
        &node,
        &json!({ "fault": "hang", "before_ms": 0, "for_ms": 60_000, "call_off_at": 3, "settle_ms": 5_000 }),
    );
    assert_eq!(status, 202, "{begun}");
    at_stage(&node, &begun, "fault");
    let (proxy, enough) = (node.proxy, Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&enough);
    let asking = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let answer = try_get(proxy, "/").unwrap();
            assert!([200, 504].contains(&answer.status), "{}", answer.text());
        }
    });
    let report = finished(&node, &begun);
    assert_eq!(report["verdict"], "called_off", "{report:#}");
    let why = report["called_off"].as_str().unwrap();
    assert!(why.contains("requests failed; more than 3 call it off"), "{why}");
    assert!(report["figures"]["during"]["failed"].as_u64() > Some(3), "{report:#}");
    enough.store(true, Ordering::Relaxed);
    asking.join().unwrap();
}

#[test]
fn a_node_killed_in_the_middle_of_a_hang_wakes_what_it_hung() {
    let primary = Backend::start(&[]);
    let (mut node, shadow) = with_serving_shadow(&primary, "");
    let pid = pid_of(&shadow);
    let ask = json!({ "fault": "hang", "before_ms": 0, "for_ms": 600_000 });
    let (status, begun) = begin(&node, &ask);
    assert_eq!(status, 202, "{begun}");
    eventually("its process to stand still", || is_stopped(pid).then_some(()));
    node.process.kill();
    assert!(is_stopped(pid), "nobody woke it yet");
    node.restart();
    eventually("its process to go on, or to be replaced", || (!is_stopped(pid)).then_some(()));
    assert_eq!(node.api("/api/v1/drills")["drills"], json!([]), "no drill outlives its node");
}

#[test]
fn a_node_told_to_end_in_the_middle_of_a_hang_wakes_what_it_keeps() {
    let primary = Backend::start(&[]);
    let services = with_shadows(&primary, "{ shadow: 0, warm: 1, max: 3 }", KNOWN)
        .replace("      pool:", "      on_exit: keep\n      pool:");
    let mut node = Node::start(&services);
    settled(&node, &[("warm", 1)]);
    let shadow = activated(&node);
    let pid = pid_of(&shadow);
    let (status, begun) =
        begin(&node, &json!({ "fault": "hang", "before_ms": 0, "for_ms": 600_000 }));
    assert_eq!(status, 202, "{begun}");
    eventually("its process to stand still", || is_stopped(pid).then_some(()));
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert!(!is_stopped(pid) && state(pid).is_some(), "it was kept, and goes on");
    node.rewrite(&services.replace("on_exit: keep", "on_exit: destroy"));
    node.restart();
}
