//! Migrations of the built command: real shadows in two places, real requests, none of them lost.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::drills::{KNOWN, actions};
use crate::load::Load;
use crate::shadows::{settled, shadows};
use crate::support::{Backend, Node, PATIENCE, eventually, exchange, foreshadow, try_get};

/// A service with shadows in two places, of which the first is the cheaper one.
fn services(primary: &Backend, migration: &str) -> String {
    let place = |name: &str, cost: f64| {
        format!(
            "        {name}:\n          cost_per_hour: {cost}\n          provider:\n            process:\n              command: [{:?}, testbed, backend, --service-time, 2ms, --listen, \"{{address}}\", --name, \"shadow-{{id}}\"]\n              stop_timeout: 2s\n",
            env!("CARGO_BIN_EXE_foreshadow"),
        )
    };
    format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    objective: {{ latency_p99: 400ms, error_rate: 1% }}\n    health: {{ path: /healthz, interval: 500ms, timeout: 500ms }}\n{KNOWN}    warm_up: 100ms\n    migration: {{ {migration} }}\n    shadows:\n      places:\n{}{}      pool: {{ shadow: 0, warm: 1, max: 5 }}\n",
        primary.address,
        place("a", 0.1),
        place("b", 0.4),
    )
}

const QUICK: &str = "steps: [20%, 60%, 100%], verify: 1s, drain: 5s";

fn primary() -> Backend {
    Backend::start(&["--name", "primary", "--service-time", "2ms"])
}

/// A node with a primary and a shadow that serves in the first place, and the shadow.
fn with_shadow_in_a(primary: &Backend, migration: &str) -> (Node, Value) {
    let node = Node::start(&services(primary, migration));
    settled(&node, &[("warm", 1)]);
    let (status, answer) = node.post("/api/v1/services/shop/activate", &json!({ "count": 1 }));
    assert_eq!(status, 202, "{answer}");
    let shadow = eventually("the shadow to serve", || {
        let serves = |s: &Value| s["weight"].as_u64() > Some(0) && s["health"] == "up";
        shadows(&node).into_iter().find(serves)
    });
    settled(&node, &[("serving", 1), ("warm", 1)]);
    assert_eq!(shadow["place"], "a", "{shadow}");
    (node, shadow)
}

fn named(instance: &Value) -> String {
    format!("i{}", instance["instance"])
}

fn ask(node: &Node, ask: &Value) -> (u16, Value) {
    node.post("/api/v1/services/shop/migrations", ask)
}

fn begun(node: &Node, asked: &Value) -> u64 {
    let (status, answer) = ask(node, asked);
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn migration(node: &Node, id: u64) -> Value {
    node.api(&format!("/api/v1/migrations/{id}"))
}

fn until(node: &Node, id: u64, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("migration {id} {what}"), || {
        Some(migration(node, id)).filter(|record| {
            let over = record["ended_ms"].is_u64();
            assert!(is_so(record) || !over, "it is over, and never was {what}: {record:#}");
            is_so(record)
        })
    })
}

fn ended(node: &Node, id: u64, state: &str) -> Value {
    until(node, id, state, |record| record["state"] == state)
}

fn shifting(node: &Node, id: u64) -> Value {
    until(node, id, "shifting", |record| {
        record["law"]["phase"] == "shifting" && record["law"]["moved"].as_f64() > Some(0.0)
    })
}

fn instance(node: &Node, id: &Value) -> Option<Value> {
    let all = node.api("/api/v1/instances")["instances"].as_array()?.clone();
    all.into_iter().find(|i| i["instance"] == *id)
}

fn delete(node: &Node, path: &str) -> (u16, Value) {
    let request =
        format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", node.admin);
    let answer = exchange(node.admin, request.as_bytes()).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn run(node: &Node, options: &[&str]) -> Output {
    let mut command = foreshadow();
    command.args(["migrate", "--admin", &format!("http://{}", node.admin)]).args(options);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[test]
fn a_serving_shadow_moves_to_another_place_and_no_request_fails() {
    let primary = primary();
    let (node, source) = with_shadow_in_a(&primary, QUICK);
    let load = Load::start(node.proxy, 3);
    load.goes_on(20);
    let output = run(&node, &["shop", &named(&source), "--to", "b"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in ["step 1, ", "step 3, ", ": done", "was a shadow and has ended"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    load.goes_on(50);
    load.end();
    let record = node.api("/api/v1/migrations")["migrations"][0].clone();
    assert_eq!((&record["state"], &record["by"]), (&"done".into(), &"an operator".into()));
    let target = instance(&node, &record["law"]["target"]).expect("the target is there");
    assert_eq!((&target["place"], &target["tier"]), (&"b".into(), &"serving".into()), "{target}");
    eventually("the source to be gone", || {
        instance(&node, &source["instance"]).is_none().then_some(())
    });
    let mut told = actions(&node);
    told.retain(|action| action.starts_with("migration."));
    told.reverse();
    let steps = ["migration.step"; 3];
    let whole = [&["migration.ask", "migration.begin"][..], &steps, &["migration.end"]].concat();
    assert_eq!(told, whole);
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    let count = "foreshadow_migrations_total{service=\"shop\",outcome=\"done\"} 1";
    assert!(metrics.contains(count), "{metrics}");
    let decisions = node.api("/api/v1/decisions?law=migrate&limit=100");
    assert!(!decisions["decisions"].as_array().unwrap().is_empty(), "{decisions}");
}

#[test]
fn a_primary_that_moved_stays_drained_over_a_restart_and_a_shadow_serves() {
    let primary = primary();
    let mut node = Node::start(&services(&primary, QUICK));
    settled(&node, &[("warm", 1)]);
    let source = eventually("the primary to be well", || {
        let all = node.api("/api/v1/instances")["instances"].as_array()?.clone();
        all.into_iter().find(|i| i["role"] == "primary" && i["health"] == "up")
    });
    let load = Load::start(node.proxy, 3);
    let id = begun(&node, &json!({ "instance": named(&source), "to": "b" }));
    let record = ended(&node, id, "done");
    let then = record["then"].as_str().unwrap();
    assert!(then.contains("may be switched off; take it out of"), "{then}");
    load.goes_on(50);
    load.end();
    let carries = |node: &Node| {
        let drained = instance(node, &source["instance"])?;
        let serves = shadows(node).iter().any(|s| s["weight"].as_u64() > Some(0));
        (drained["drained"] == true && drained["weight"] == 0 && serves).then_some(())
    };
    eventually("all of it at the shadow", || carries(&node));
    assert!(actions(&node).contains(&"order.drain".to_owned()));
    node.process.signal(rustix::process::Signal::TERM);
    assert_eq!(node.process.wait(), Some(0));
    node.restart();
    eventually("the same after a restart", || carries(&node));
    assert_eq!(migration(&node, id)["state"], "done", "what is over is remembered");
    for _ in 0..20 {
        let answer = node.get("/");
        let by = answer.header("x-instance").unwrap().to_owned();
        assert!(answer.status == 200 && by.starts_with("shadow-"), "{by}");
    }
    let (status, answer) = ask(&node, &json!({ "instance": named(&source) }));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("is drained and carries nothing"));
    let drain = format!("/api/v1/instances/{}/drain", named(&source));
    let (status, answer) = node.post(&drain, &json!({ "drained": false }));
    assert_eq!(status, 200, "{answer}");
    eventually("the primary to serve again", || {
        (instance(&node, &source["instance"])?["weight"].as_u64() > Some(0)).then_some(())
    });
}

/// Has the backend at `address` answer every other request with 500, but be well.
fn spoil(address: &str) {
    let body = json!({ "kind": "errors", "share": 0.5 }).to_string();
    let request = format!(
        "POST /_testbed/fault HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address.parse().unwrap(), request.as_bytes()).unwrap();
    assert!((200..300).contains(&answer.status), "{}", answer.text());
}

/// Ends the clients that look at it, also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_target_that_fails_under_traffic_is_rolled_back() {
    let primary = primary();
    let (node, source) = with_shadow_in_a(&primary, "steps: [20%, 100%], verify: 3s, drain: 5s");
    let before = source["weight"].as_u64().unwrap();
    let proxy = node.proxy;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Some are answered with 500: that is what it is about.
                    try_get(proxy, "/").unwrap();
                }
            });
        }
        let id = begun(&node, &json!({ "instance": named(&source), "to": "b" }));
        let record = shifting(&node, id);
        let target = instance(&node, &record["law"]["target"]).expect("the target is there");
        spoil(target["address"].as_str().unwrap());
        let record = ended(&node, id, "rolled_back");
        let why = record["text"].as_str().unwrap();
        assert!(why.contains(&named(&target)), "it is named: {record:#}");
    });
    // Its part follows demand, but what was moved is there again.
    eventually("the source to carry what it did", || {
        (2 * instance(&node, &source["instance"])?["weight"].as_u64()? >= before).then_some(())
    });
    let load = Load::start(node.proxy, 2);
    load.goes_on(50);
    load.end();
    assert!(actions(&node).contains(&"migration.rollback".to_owned()));
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    let count = "foreshadow_migrations_total{service=\"shop\",outcome=\"rolled_back\"} 1";
    assert!(metrics.contains(count), "{metrics}");
}

#[test]
fn called_off_in_the_middle_everything_goes_back() {
    let primary = primary();
    let (node, source) = with_shadow_in_a(&primary, "steps: [20%, 100%], verify: 1m, drain: 5s");
    let load = Load::start(node.proxy, 3);
    let id = begun(&node, &json!({ "instance": named(&source), "to": "b" }));
    shifting(&node, id);
    let (status, objected) = node.post("/api/v1/services/shop/drill", &json!({ "force": true }));
    assert_eq!(status, 409, "{objected}");
    assert!(objected.to_string().contains("a migration is under way"), "{objected}");
    let output = run(&node, &["--cancel", &id.to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("CALLED OFF"), "{}", text(&output));
    assert_eq!(migration(&node, id)["state"], "called_off");
    load.goes_on(50);
    load.end();
    eventually("the source to serve", || {
        (instance(&node, &source["instance"])?["weight"].as_u64() > Some(0)).then_some(())
    });
    let (status, again) = delete(&node, &format!("/api/v1/migrations/{id}"));
    assert_eq!((status, &again["state"]), (200, &"called_off".into()));
}

#[test]
fn a_dry_run_says_who_would_move_and_changes_nothing() {
    let primary = primary();
    let (node, source) = with_shadow_in_a(&primary, QUICK);
    let output = run(&node, &["shop", &named(&source), "--dry-run"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(&named(&source)) && said.contains(" b "), "{said}");
    let (status, all) = ask(&node, &json!({ "dry_run": true }));
    assert_eq!(status, 200, "{all}");
    let choices = all["choices"].as_array().unwrap();
    assert!(choices.len() >= 2, "the primary and the shadow: {all}");
    for choice in choices {
        let schedule = &choice["schedule"];
        assert!(schedule["estimated_duration_ms"].as_u64() > Some(3_000), "{choice}");
        assert!(schedule["start_ms"].as_u64() > Some(1_600_000_000_000), "Unix time: {choice}");
    }
    assert_eq!(node.api("/api/v1/migrations")["migrations"], json!([]));
    settled(&node, &[("serving", 1), ("warm", 1)]);
    assert!(actions(&node).iter().all(|action| !action.starts_with("migration.")));
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_what_waits_can_be_called_off() {
    let primary = primary();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let tomorrow = humantime::format_rfc3339_seconds(tomorrow).to_string();
    let start = tomorrow.trim_end_matches('Z');
    let windows = format!("windows: [{{ start: {start}, duration: 1h }}]");
    let (mut node, source) = with_shadow_in_a(&primary, &windows);
    let source = named(&source);
    for (asked, status, part) in [
        (json!({ "instance": "i999" }), 404, "there is no instance \"i999\"; known: i"),
        (json!({ "to": "mars" }), 404, "there is no place \"mars\"; known: a, b"),
        (json!({ "instance": source, "to": "a" }), 409, "stands in that place already"),
        (json!({ "at": "soon" }), 422, "write a time such as 2026-11-23T02:00:00Z"),
        (json!({ "at": "2020-01-01T00:00:00Z" }), 422, "which has passed"),
        (json!({ "at": "2026-01-01T00:00:00Z", "now": true }), 422, "at beside now"),
        (json!({ "when": "now" }), 422, "unknown field"),
    ] {
        let (got, answer) = ask(&node, &asked);
        assert_eq!(got, status, "{asked}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{asked}: {answer}");
    }
    let output = run(&node, &["shop", &source, "--to", "a"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).starts_with("refused: "), "{}", text(&output));

    // The window comes tomorrow.
    let id = begun(&node, &json!({ "instance": source, "to": "b" }));
    assert_eq!(migration(&node, id)["state"], "waiting");
    let (status, twice) = ask(&node, &json!({ "instance": source }));
    assert_eq!(status, 409, "{twice}");
    assert!(twice["error"].as_str().unwrap().contains(&format!("migration {id} moves")), "{twice}");
    node.process.kill();
    node.restart();
    assert_eq!(migration(&node, id)["state"], "waiting", "it stands after a crash");
    let listed = text(&run(&node, &["--list"]));
    assert!(listed.contains("waiting") && listed.contains("shop"), "{listed}");
    let (status, over) = delete(&node, &format!("/api/v1/migrations/{id}"));
    assert_eq!((status, &over["state"]), (202, &"called_off".into()), "{over}");
    let other = begun(&node, &json!({ "instance": source, "to": "b" }));
    assert!(other > id, "numbers are never given twice");
    assert_eq!(delete(&node, "/api/v1/migrations/12345").0, 404);
    settled(&node, &[("serving", 1), ("warm", 1)]);
}

#[test]
fn killed_in_the_middle_it_begins_anew_and_ends_well() {
    let primary = primary();
    let (mut node, source) = with_shadow_in_a(&primary, QUICK);
    let id = begun(&node, &json!({ "instance": named(&source), "to": "b" }));
    shifting(&node, id);
    // That it began is written down beside the tick.
    let state = node.dir.path().join("state").join("foreshadow.db");
    eventually("its begin to be kept", || {
        let db = Connection::open(&state).unwrap();
        db.busy_timeout(PATIENCE).unwrap();
        let orders: String =
            db.query_row("SELECT orders FROM orders", [], |row| row.get(0)).unwrap();
        let orders: Value = serde_json::from_str(&orders).unwrap();
        orders["migrations"][id.to_string()]["began_ms"].is_u64().then_some(())
    });
    node.process.kill();
    node.restart();
    let load = Load::start(node.proxy, 3);
    let record = ended(&node, id, "done");
    load.goes_on(20);
    load.end();
    assert_eq!(record["instance"], source["instance"], "{record:#}");
    eventually("the source to be gone", || {
        instance(&node, &source["instance"]).is_none().then_some(())
    });
    let all = eventually("nothing to be under way", || {
        let all = shadows(&node);
        let rests = all.iter().all(|s| s["moving_to"].is_null() && s["health"] == "up");
        (rests && all.len() <= 3).then_some(all)
    });
    let in_b = all.iter().filter(|s| s["place"] == "b").count();
    assert_eq!(in_b, 1, "one target, not two: {all:#?}");
    let listed = node.api("/api/v1/migrations");
    assert_eq!(listed["migrations"].as_array().unwrap().len(), 1, "{listed:#}");
}
