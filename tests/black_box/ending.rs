//! The built command told to end once, twice and three times, and what is left of its shadows.

use std::path::Path;

use crate::shadows::{processes, settled, shadows, with_shadows};
use crate::support::{self, Backend, Node, eventually};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Waits on its server and does not end when asked. Should it be left behind after all, it ends
/// with its server within a minute of the node.
const STUBBORN: &str =
    r#"trap : TERM; "$0" "$@" & while kill -0 $PPID; do sleep 60; done; kill $!"#;

/// Shadows that do not end when asked and have the longest time for it. Every process of theirs
/// carries `mark` in its environment.
fn stubborn(primary: &Backend, pool: &str, mark: &Path) -> String {
    let shell = format!("command: [/bin/sh, -c, {}, ", json!(STUBBORN));
    let env = format!("env: {{ TEST_MARK: {} }}\n          command:", json!(mark));
    replaced(
        &with_shadows(primary, pool, ""),
        &[("command: [", &shell), ("command:", &env), ("stop_timeout: 2s", "stop_timeout: 600s")],
    )
}

/// `text` with each of `changes` made; none may be in vain.
fn replaced(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no {from:?} in:\n{text}");
        text.replace(from, to)
    })
}

fn marked(mark: &Path) -> usize {
    let entry = format!("TEST_MARK={}", mark.display());
    support::processes("environ", |vars| vars.split('\0').any(|var| var == entry)).len()
}

fn told(node: &Node, what: &str) {
    eventually(what, || node.process.log().contains(what).then_some(()));
}

#[test]
fn a_second_signal_waits_for_neither_requests_nor_shadows_and_leaves_no_process() {
    let primary = Backend::start(&["--service-time", "600s"]);
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().to_owned();
    let mut node =
        Node::start_in(dir, &stubborn(&primary, "{ shadow: 0, warm: 2, max: 2 }", &mark));
    settled(&node, &[("warm", 2)]);
    assert!(marked(&mark) >= 4, "two shells and two servers at least: {}", marked(&mark));
    let request = node.request_in_flight();
    node.process.signal(Signal::TERM);
    told(&node, "draining");
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert_eq!(marked(&mark), 0, "processes of shadows are left: {}", node.process.log());
    assert!(request.join().unwrap().map_or(true, |answer| answer.status != 200));
}

#[test]
fn a_node_that_is_ending_makes_no_shadow() {
    let primary = Backend::start(&["--service-time", "600s"]);
    let dir = tempfile::tempdir().unwrap();
    let mut node =
        Node::start_in(dir, &with_shadows(&primary, "{ shadow: 0, warm: 1, max: 2 }", ""));
    settled(&node, &[("warm", 1)]);
    let request = node.request_in_flight();
    node.process.signal(Signal::TERM);
    told(&node, "draining");
    for pid in processes(&node) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    // The lost shadow is noticed, and that another one is due is said, but not done.
    let decision = eventually("a decision on the lost shadow", || {
        let page = node.api("/api/v1/decisions?law=recreate&limit=1");
        page["decisions"].as_array()?.first().cloned()
    });
    assert_eq!(decision["plan"]["act"], false, "{decision}");
    assert!(shadows(&node).is_empty(), "{:?}", shadows(&node));
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert!(request.join().unwrap().map_or(true, |answer| answer.status != 200));
}

#[test]
fn a_third_signal_ends_the_process_whatever_it_waits_for() {
    let primary = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().to_owned();
    let mut node =
        Node::start_in(dir, &stubborn(&primary, "{ shadow: 0, warm: 1, max: 1 }", &mark));
    settled(&node, &[("warm", 1)]);
    node.process.signal(Signal::TERM);
    told(&node, "every request in flight was finished");
    // That the shadow has ended cannot be written down: a wait that no second signal shortens.
    let database = Connection::open(node.dir.path().join("state/foreshadow.db")).unwrap();
    database.busy_timeout(support::PATIENCE).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    node.process.signal(Signal::TERM);
    told(&node, "told again to end");
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(1), "{}", node.process.log());
    told(&node, "told a third time");
    assert!(!node.process.log().contains(" ended\n"), "{}", node.process.log());
    // Whatever it left, the next start knows of it.
    drop(database);
    node.restart();
    node.process.signal(Signal::TERM);
    told(&node, "every request in flight was finished");
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert_eq!(marked(&mark), 0, "processes of shadows are left: {}", node.process.log());
}

#[test]
fn a_reload_that_takes_serving_shadows_away_loses_no_request() {
    const REQUESTS: usize = 16;
    let primary = Backend::start(&["--service-time", "4s", "--name", "primary"]);
    // A request that is cut stays cut: its server does not wait for it, and nobody tries again.
    let with = replaced(
        &with_shadows(
            &primary,
            "{ shadow: 0, warm: 1, max: 2 }",
            "    retries: { attempts: 1 }\n    forecast: { evaluation_window: 60s }\n",
        ),
        &[
            ("--name,", "--service-time, 4s, --drain, 0s, --name,"),
            ("stop_timeout: 2s", "stop_timeout: 60s"),
        ],
    );
    let without = format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    retries: {{ attempts: 1 }}\n",
        primary.address
    );
    let mut node = Node::start(&with);
    settled(&node, &[("warm", 1)]);
    let (status, answer) = node.post("/api/v1/services/shop/activate", &json!({ "count": 1 }));
    assert_eq!(status, 202, "{answer}");
    let is_serving = |s: &Value| s["tier"] == "serving" && s["weight"].as_u64() > Some(2_000);
    let serving = eventually("a shadow with a good share of the weight", || {
        shadows(&node).into_iter().find(is_serving)
    });
    let clients: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let proxy = node.proxy;
            std::thread::spawn(move || {
                let request = b"POST / HTTP/1.1\r\nHost: test.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                (support::exchange(proxy, request), std::time::Instant::now())
            })
        })
        .collect();
    eventually("requests in flight on the shadow", || {
        let all = shadows(&node);
        let same = all.iter().find(|s| s["instance"] == serving["instance"])?;
        (same["last_tick"]["in_flight"].as_u64()? > 0).then_some(())
    });
    node.rewrite(&without);
    let (status, answer) = node.post("/api/v1/reload", &json!({}));
    assert_eq!(status, 200, "{answer}");
    let reloaded = std::time::Instant::now();
    let mut by_shadow_since = 0;
    for client in clients {
        let (answer, at) = client.join().unwrap();
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.head, node.process.log());
        let by_shadow = answer.header("x-instance").is_some_and(|n| n.starts_with("shadow-"));
        by_shadow_since += usize::from(by_shadow && at > reloaded);
    }
    assert!(by_shadow_since > 0, "the reload had nothing to wait for");
    let address = serving["address"].as_str().unwrap();
    eventually("the shadow's process to end", || {
        support::processes("cmdline", |args| args.contains(address)).is_empty().then_some(())
    });
    assert!(!node.process.log().contains("ended at its stop_timeout"), "{}", node.process.log());
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
}
