//! Drills that are refused, called off, or outlived by what they hurt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::json;

use crate::drills::{
    KNOWN, actions, activated, all_up, at_stage, begin, finished, is_stopped, pid_of, run,
    shadowed, state, with_serving_shadow,
};
use crate::load::Load;
use crate::shadows::settled;
use crate::support::{Backend, Node, eventually, exchange, try_get};

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
    let answer = exchange(node.admin, request.as_bytes()).unwrap();
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
    let told = node.api("/api/v1/drills")["drills"].clone();
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told:#}");
    let cut = &told[0];
    assert_eq!((&cut["verdict"], &cut["stage"]), (&json!("cut_short"), &json!("done")), "{cut:#}");
    assert_eq!((&cut["id"], &cut["victim"]), (&begun["id"], &begun["victim"]), "{cut:#}");
    assert!(
        node.process.log().contains("a failover drill was cut short"),
        "{}",
        node.process.log()
    );
    eventually("the audit to have it", || {
        let page = node.api("/api/v1/audit?action=drill.cut_short&limit=10");
        let entries = page["entries"].as_array()?;
        (entries.len() == 1 && entries[0]["instance"] == format!("i{}", shadow["instance"]))
            .then_some(())
    });
    // Told once: the next start knows nothing of it.
    node.process.kill();
    node.restart();
    assert_eq!(node.api("/api/v1/drills")["drills"], json!([]));
}

#[test]
fn a_node_told_to_end_in_the_middle_of_a_hang_wakes_what_it_keeps() {
    let primary = Backend::start(&[]);
    let services =
        shadowed(&primary, "").replace("      pool:", "      on_exit: keep\n      pool:");
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
