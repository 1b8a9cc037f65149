//! The past: kept over a crash, taken up again, and never in the way of requests.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Backend, Node, Process, eventually, foreshadow};
use rusqlite::{Connection, params};
use rustix::process::Signal;
use serde_json::Value;

/// One service that is observed, with more at the top of the file.
fn service(backend: &Backend, top: &str) -> String {
    format!("  shop:\n    primaries: [{}]\n    mode: act\n{top}\n", backend.address)
}

fn load(node: &Node) -> Process {
    let mut command = foreshadow();
    let target = format!("http://{}/", node.proxy);
    command.args([
        "testbed",
        "load",
        "--target",
        &target,
        "--profile",
        "hold:200rps:300s",
        "--quiet",
    ]);
    Process::spawn(command)
}

fn history(node: &Node) -> Connection {
    open(node.dir.path())
}

fn open(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("state/history.db")).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    db
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// What is known of it; 0 while nothing is.
fn capacity_rps(node: &Node) -> f64 {
    node.api("/api/v1/instances")["instances"][0]["capacity"]["rps"].as_f64().unwrap_or(0.0)
}

/// What decisions expect in three seconds.
fn median_rps(node: &Node) -> f64 {
    let forecast = node.api("/api/v1/forecast?service=shop");
    forecast["services"][0]["horizons"][2]["median_rps"].as_f64().unwrap_or(0.0)
}

fn restored(node: &Node) -> Value {
    node.api("/api/v1/status")["history"]["restored"][0].clone()
}

/// Two days of a service that is busier by day, minute by minute, until now.
fn two_days_ago(db: &Connection) {
    let last = now_ms() / 60_000 - 1;
    let series: i64 = db
        .query_row("SELECT id FROM series WHERE service = 'shop' AND instance = 0", [], |r| {
            r.get(0)
        })
        .unwrap();
    let transaction = db.unchecked_transaction().unwrap();
    for minute in last - 2_880..last {
        let busy = minute.rem_euclid(1_440) < 720;
        let requests = if busy { 12_000 } else { 3_000 };
        let sql = "INSERT OR REPLACE INTO samples_1m VALUES \
             (?, ?, 60000, 600, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
        transaction.execute(sql, params![series, minute * 60_000, requests]).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn what_was_learned_is_there_at_once_after_a_kill() {
    let backend = Backend::start(&["--service-time", "5ms"]);
    let recording = tempfile::tempdir().unwrap();
    let file: PathBuf = recording.path().join("ticks.jsonl");
    let top = format!("history: {{ snapshot_interval: 1s }}\nrecording: {{ path: {:?} }}", file);
    let mut node = Node::start(&service(&backend, &top));
    let mut clients = load(&node);
    eventually("capacity and demand to be learned", || {
        (capacity_rps(&node) > 100.0 && median_rps(&node) > 100.0).then_some(())
    });
    let learned_ms = now_ms();
    let kept = "SELECT count(*) FROM learned WHERE service = 'shop' AND at_ms > ?";
    eventually("it to be kept", || {
        let rows: i64 = history(&node).query_row(kept, [learned_ms], |row| row.get(0)).unwrap();
        (rows == 1).then_some(())
    });
    eventually("the first seconds to be written", || {
        (node.api("/api/v1/status")["history"]["rows_written"].as_u64()? > 0).then_some(())
    });
    let before_rps = capacity_rps(&node);

    node.process.kill();
    let killed_ms = now_ms();
    clients.kill();
    let db = history(&node);
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let newest: i64 =
        db.query_row("SELECT max(at_ms) FROM history_1s", [], |row| row.get(0)).unwrap();
    assert!(killed_ms - newest < 6_000, "{} ms are lost", killed_ms - newest);
    two_days_ago(&db);
    drop(db);

    node.restart();
    let after_rps = capacity_rps(&node);
    assert!((after_rps / before_rps - 1.0).abs() < 0.25, "{before_rps} before, {after_rps} after");
    assert_eq!(restored(&node)["taken_up"], true, "{}", node.api("/api/v1/status"));
    let past = node.api("/api/v1/services/shop/history?resolution=1s&limit=20000");
    let busiest = past["spans"].as_array().unwrap().iter().map(|s| s["rps"].as_f64().unwrap());
    assert!(busiest.fold(0.0, f64::max) > 100.0, "{past}");
    let curve = eventually("a curve fitted to the days before", || {
        let curve = node.api("/api/v1/services/shop/forecast?horizon=1h");
        (curve["points"].as_array()?.len() >= 60).then_some(curve)
    });
    let means = curve["points"].as_array().unwrap().iter().map(|p| p["mean_rps"].as_f64().unwrap());
    assert!(means.clone().all(|rps| (10.0..400.0).contains(&rps)), "{curve}");

    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    let replay = foreshadow().args(["explain", "--json", "--replay"]).arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&replay.stdout);
    assert!(replay.status.success(), "{told}{}", String::from_utf8_lossy(&replay.stderr));
}

#[test]
fn what_is_damaged_or_foreign_is_refused_and_said() {
    let backend = Backend::start(&[]);
    let mut node = Node::start(&service(&backend, "history: { snapshot_interval: 1s }"));
    let mut damage = |change: &str, told: &str| {
        let (count, from_ms) = ("SELECT count(*) FROM learned WHERE at_ms > ?", now_ms());
        eventually("something whole to be kept", || {
            let rows: i64 = history(&node).query_row(count, [from_ms], |row| row.get(0)).unwrap();
            (rows == 1).then_some(())
        });
        node.process.kill();
        history(&node).execute(change, []).unwrap();
        node.restart();
        let left_out = restored(&node);
        assert_eq!(left_out["taken_up"], false, "{change}: {left_out}");
        assert!(left_out["detail"].as_str().unwrap().contains(told), "{change}: {left_out}");
        assert!(node.process.log().contains("what was learned before is left out"));
        assert_eq!(node.get("/").status, 200);
    };
    damage("UPDATE learned SET state = zeroblob(1000)", "damaged");
    damage("UPDATE learned SET version = '0.0.1'", "release 0.0.1");
    damage("UPDATE learned SET at_ms = 1000", "s old");
    damage("UPDATE learned SET service = 'shop', format = 99", "another form");
}

#[test]
fn a_history_that_is_no_database_is_set_aside_and_requests_go_on() {
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("history.db"), "not a database at all, but long enough ".repeat(50))
        .unwrap();
    let node = Node::start_in(dir, &service(&backend, ""));
    assert_eq!(node.get("/").status, 200);
    assert!(state.join("history.db.broken").exists());
    eventually("a new history", || {
        let rows = node.api("/api/v1/status")["history"]["rows_written"].as_u64()?;
        (rows > 0).then_some(())
    });
    let status = node.api("/api/v1/status")["history"].clone();
    assert!(status["trouble"].is_null(), "{status}");
    assert!(node.process.log().contains("moved aside"), "{}", node.process.log());
}

#[test]
fn events_of_rules_are_announced_without_anybody_announcing_them() {
    let backend = Backend::start(&[]);
    let forecast = "    forecast: { events: [{ name: lunch, start: '2026-01-05T12:00:00', \
                    timezone: Europe/Berlin, rule: FREQ=DAILY, duration: 45m, lift: 2 }] }";
    let node = Node::start(&service(&backend, forecast));
    let coming = node.api("/api/v1/events")["calendar"].as_array().unwrap().clone();
    assert!((8..=9).contains(&coming.len()), "{coming:?}");
    for event in &coming {
        assert_eq!(
            (&event["service"], &event["name"], &event["lift"]),
            (&"shop".into(), &"lunch".into(), &2.0.into())
        );
        let lasts_ms = event["end_ms"].as_u64().unwrap() - event["start_ms"].as_u64().unwrap();
        assert_eq!(lasts_ms, 45 * 60_000);
    }
}
