//! Shadows in several places: one that fails is stood in for, and an endpoint is told once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use crate::shadows::{settled, shadows};
use crate::support::{self, Backend, Node, eventually};

/// An endpoint for alerts that answers 204; it keeps the head and body of all it was sent.
struct Receiver {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let posts = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&posts);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut text, mut part) = (String::new(), [0; 4096]);
                let whole = loop {
                    let read = stream.read(&mut part).unwrap();
                    assert!(read > 0, "a request that ends early: {text}");
                    text += std::str::from_utf8(&part[..read]).unwrap();
                    if let Some((head, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str(body)
                    {
                        break (head.to_owned(), body);
                    }
                };
                sink.lock().unwrap().push(whole);
                let answer = b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).unwrap();
            }
        });
        Self { address, posts }
    }

    fn of_kind(&self, kind: &str) -> Vec<(String, Value)> {
        let posts = self.posts.lock().unwrap();
        posts.iter().filter(|(_, body)| body["alert"] == kind).cloned().collect()
    }
}

/// A service whose cheaper place cannot make anything.
fn services(primary: &Backend, more: &str) -> String {
    format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n    shadows:\n      places:\n        cheap:\n          cost_per_hour: 0.1\n          provider: {{ process: {{ command: [/bin/false, \"{{port}}\"] }} }}\n        dear:\n          cost_per_hour: 0.4\n          provider:\n            process:\n              command: [{:?}, testbed, backend, --listen, \"{{address}}\", --name, \"shadow-{{id}}\"]\n              stop_timeout: 2s\n      pool: {{ shadow: 0, warm: 1, max: 3 }}\n{more}",
        primary.address,
        env!("CARGO_BIN_EXE_foreshadow"),
    )
}

#[test]
fn a_place_that_cannot_start_anything_is_stood_in_for_and_told_once() {
    const SECRET: &str = "the-secret-of-the-receiver";
    let receiver = Receiver::start();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, SECRET).unwrap();
    let alerts = format!(
        "alerts:\n  webhook: {{ url: 'http://{}/alerts', token: {{ file: {:?} }} }}\n",
        receiver.address,
        token.display().to_string()
    );
    let mut primary = Backend::start(&["--name", "primary"]);
    let mut node = Node::start(&services(&primary, &alerts));
    let warm = settled(&node, &[("warm", 1)]);
    assert_eq!(warm[0]["place"], "dear", "{warm:?}");
    let (head, told) = eventually("the endpoint to be told", || {
        receiver.of_kind("provider_failing").first().cloned()
    });
    assert!(head.starts_with("POST /alerts HTTP/1.1"), "{head}");
    assert!(head.contains(&format!("authorization: Bearer {SECRET}")), "{head}");
    assert_eq!((&told["state"], &told["service"]), (&"begins".into(), &"shop".into()));
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("in cheap"), "what was asked: {text}");
    assert!(text.contains("what is needed meanwhile is made in dear"), "and done: {text}");

    primary.process.kill();
    eventually("a shadow to answer", || {
        let answer = node.get("/");
        answer.header("x-instance").filter(|name| name.starts_with("shadow-")).map(|_| ())
    });
    for _ in 0..50 {
        assert_eq!(node.get("/").status, 200);
    }
    let all = eventually("the pool to be whole again", || {
        let all = shadows(&node);
        let rests = all.iter().all(|s| s["moving_to"].is_null());
        let serves = all.iter().any(|s| s["tier"] == "serving");
        (all.len() == 3 && rests && serves).then_some(all)
    });
    assert!(all.iter().all(|shadow| shadow["place"] == "dear"), "{all:?}");
    assert_eq!(receiver.of_kind("provider_failing").len(), 1, "once, however often it is tried");

    let decisions = node.api("/api/v1/decisions?limit=100").to_string();
    assert!(decisions.contains("made in dear (0.4 per hour)"), "{decisions}");
    let passed = ["is not asked for", "failed lately"];
    let is_said = |why: &&str| decisions.contains(&format!("in place of another: cheap {why}"));
    assert!(passed.iter().any(is_said), "{decisions}");
    let metrics = support::try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_alert_webhook_dropped_total 0"), "{metrics}");
    assert!(
        metrics.contains("foreshadow_alert{service=\"shop\",kind=\"provider_failing\"}"),
        "{metrics}"
    );
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0));
    assert!(!node.process.log().contains(SECRET), "{}", node.process.log());
}

#[test]
fn shadows_are_found_in_their_places_after_a_crash() {
    let primary = Backend::start(&[]);
    let mut node = Node::start(&services(&primary, ""));
    let before = settled(&node, &[("warm", 1)]);
    node.process.kill();
    node.restart();
    let after = settled(&node, &[("warm", 1)]);
    let of = |all: &[Value]| (all[0]["instance"].clone(), all[0]["place"].clone());
    assert_eq!(of(&after), of(&before));
    assert_eq!(after[0]["place"], "dear");
}

#[test]
fn a_renamed_place_has_its_warm_shadow_replaced_before_it_ends() {
    let primary = Backend::start(&[]);
    let node = Node::start(&services(&primary, ""));
    let old = settled(&node, &[("warm", 1)])[0]["instance"].clone();
    node.rewrite(&services(&primary, "").replace("        dear:", "        renamed:"));
    node.process.signal(Signal::HUP);
    eventually("another one in its place", || {
        let all = shadows(&node);
        let is_warm = |s: &&Value| s["tier"] == "warm" && s["moving_to"] != "cold";
        let warm: Vec<&Value> = all.iter().filter(is_warm).collect();
        assert!(!warm.is_empty(), "the reserve is never less than it is to be: {all:?}");
        let done = all.len() == 1 && warm[0]["place"] == "renamed" && warm[0]["instance"] != old;
        done.then_some(())
    });
    let decisions = node.api("/api/v1/decisions?limit=100").to_string();
    assert!(decisions.contains("made under settings that have changed"), "{decisions}");
}
