//! Failover drills of the built command: real shadows, real requests, and everything put right again.

use std::process::Output;

use serde_json::{Value, json};

use crate::load::Load;
use crate::shadows::{settled, shadows, with_shadows};
use crate::support::{Backend, Node, eventually, foreshadow, processes, try_get};

/// Enough that nobody doubts that the rest can carry what is asked for here.
pub(crate) const KNOWN: &str = "    capacity: 10000rps\n    forecast: { evaluation_window: 60s }\n";

/// A service with shadows, whose checks bear a machine that is busy with other tests.
pub(crate) fn shadowed(primary: &Backend, more: &str) -> String {
    let hasty = with_shadows(primary, "{ shadow: 0, warm: 1, max: 3 }", &format!("{KNOWN}{more}"));
    hasty.replace("interval: 200ms, timeout: 200ms", "interval: 500ms, timeout: 500ms")
}

/// A node with a primary and a shadow that serves beside it, and the shadow.
pub(crate) fn with_serving_shadow(primary: &Backend, more: &str) -> (Node, Value) {
    let services = shadowed(primary, more);
    let node = Node::start(&services);
    settled(&node, &[("warm", 1)]);
    let shadow = activated(&node);
    (node, shadow)
}

pub(crate) fn activated(node: &Node) -> Value {
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

pub(crate) fn begin(node: &Node, ask: &Value) -> (u16, Value) {
    node.post("/api/v1/services/shop/drill", ask)
}

fn drill(node: &Node, id: u64) -> Value {
    node.api(&format!("/api/v1/drills/{id}"))
}

/// A drill that was begun, once it is over.
pub(crate) fn finished(node: &Node, begun: &Value) -> Value {
    let id = begun["id"].as_u64().unwrap_or_else(|| panic!("{begun}"));
    eventually("the drill to be over", || {
        Some(drill(node, id)).filter(|report| report["stage"] == "done")
    })
}

/// The same, at a stage.
pub(crate) fn at_stage(node: &Node, begun: &Value, stage: &str) -> Value {
    let id = begun["id"].as_u64().unwrap_or_else(|| panic!("{begun}"));
    eventually(stage, || Some(drill(node, id)).filter(|report| report["stage"] == stage))
}

pub(crate) fn run(node: &Node, options: &[&str]) -> Output {
    let mut command = foreshadow();
    command.args(["drill", "shop", "--admin", &format!("http://{}", node.admin)]).args(options);
    command.output().unwrap()
}

pub(crate) fn pid_of(shadow: &Value) -> i32 {
    let address = shadow["address"].as_str().unwrap();
    let found = processes("cmdline", |args| args.contains("shadow-") && args.contains(address));
    *found.first().unwrap_or_else(|| panic!("no process of {shadow}"))
}

/// The state letter of a process; nothing once it is gone.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Whether it is stopped, by a signal or by its control group.
pub(crate) fn is_stopped(pid: i32) -> bool {
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

pub(crate) fn actions(node: &Node) -> Vec<String> {
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
fn one_that_waits_in_the_pool_can_be_killed_as_well() {
    let primary = Backend::start(&[]);
    let node = Node::start(&shadowed(&primary, ""));
    let warm = settled(&node, &[("warm", 1)])[0]["instance"].clone();
    let named = format!("i{warm}");
    let hang = run(&node, &["--instance", &named, "--fault", "hang"]);
    assert_eq!(hang.status.code(), Some(4), "{}", String::from_utf8_lossy(&hang.stdout));
    let options = ["--instance", &named, "--before", "0s", "--settle", "20s"];
    let output = run(&node, &options);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in ["verdict: passed", "made again", "killed by provider process"] {
        assert!(text.contains(line), "{text}");
    }
    settled(&node, &[("warm", 1)]);
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
        "  shop:\n    primaries: [{}, {}]\n    mode: act\n    health: {{ path: /healthz, interval: 500ms, timeout: 500ms }}\n{KNOWN}",
        first.address, second.address
    );
    let node = Node::start(&services);
    all_up(&node, 2);
    let load = Load::start(node.proxy, 2);
    for fault in ["kill", "hang", "slow"] {
        let ask = json!({
            "fault": fault, "delay_ms": 150, "before_ms": 500, "for_ms": 4_000,
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

pub(crate) fn all_up(node: &Node, count: usize) {
    eventually("all to be well and have weight", || {
        let all = node.api("/api/v1/instances")["instances"].as_array()?.clone();
        let is_well = |i: &Value| i["health"] == "up" && i["weight"].as_u64() > Some(0);
        (all.len() == count && all.iter().all(is_well)).then_some(())
    });
}
