//! What will be needed, from kept history and announced events, on a real node.

use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Backend, Node, eventually, foreshadow};

/// One primary that carries 50 requests per second, and two places; nothing is carried out.
fn service(backend: &Backend) -> String {
    let provider = format!(
        "provider: {{ process: {{ command: [{:?}, testbed, backend, --listen, \"{{address}}\"] }} }}",
        env!("CARGO_BIN_EXE_foreshadow")
    );
    format!(
        "  shop:\n    primaries: [{}]\n    mode: observe\n    capacity: 50rps\n    shadows:\n      places:\n        beside: {{ max: 2, cost_per_hour: 0.1, {provider} }}\n        region: {{ zone: far, cost_per_hour: 0.4, {provider} }}\n      pool: {{ shadow: 1, warm: 0, max: 30 }}\n",
        backend.address
    )
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// Two hours of 200 requests per second, minute by minute, until now.
fn two_hours_ago(node: &Node) {
    let db = Connection::open(node.dir.path().join("state/history.db")).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let of = "SELECT id FROM series WHERE service = 'shop' AND instance = 0";
    let series: i64 = db.query_row(of, [], |row| row.get(0)).unwrap();
    let last = now_ms() / 60_000 - 1;
    for minute in last - 120..last {
        let sql = "INSERT OR REPLACE INTO samples_1m VALUES \
             (?, ?, 60000, 600, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
        db.execute(sql, params![series, minute * 60_000, 12_000]).unwrap();
    }
}

fn asked(node: &Node) -> Value {
    node.api("/api/v1/reservations?service=shop&within=1h")["services"][0].clone()
}

fn full(shown: &Value) -> Vec<Value> {
    let all = shown["reservations"].as_array().unwrap();
    all.iter().filter(|r| r["tier"] == "full").cloned().collect()
}

fn told(node: &Node, more: &[&str]) -> String {
    let admin = format!("http://{}", node.admin);
    let output =
        foreshadow().args(["reservations", "--admin", &admin]).args(more).output().unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn what_will_be_needed_follows_history_and_announced_events() {
    let backend = Backend::start(&[]);
    let mut node = Node::start(&service(&backend));
    let nothing = eventually("what is missing", || {
        let shown = asked(&node);
        (shown["missing"][0]["curve"] == "1h").then_some(shown)
    });
    assert_eq!(nothing["reservations"], json!([]), "{nothing}");
    let missing = &nothing["missing"][0];
    assert!(missing["why"].as_str().unwrap().contains("of 30 spans of 1m"), "{nothing}");
    let known_in_ms = missing["known_at_ms"].as_i64().unwrap() - now_ms();
    assert!((20 * 60_000..=31 * 60_000).contains(&known_in_ms), "{known_in_ms}");
    let text = told(&node, &["shop"]);
    assert!(
        text.contains("not known: beyond curve 1h") && text.contains("it can be known"),
        "{text}"
    );
    assert!(told(&node, &["--within", "9d"]).contains("curves look at most 1w ahead"));

    eventually("history to be written", || {
        (node.api("/api/v1/status")["history"]["rows_written"].as_u64()? > 0).then_some(())
    });
    node.process.kill();
    two_hours_ago(&node);
    node.restart();
    let shown = eventually("a curve", || {
        let shown = asked(&node);
        (!full(&shown).is_empty()).then_some(shown)
    });
    let plain = full(&shown);
    let at = |place: &str| plain.iter().find(|r| r["place"] == place).cloned();
    let beside = at("beside").expect("the best place is filled first");
    assert_eq!(beside["count"], 2, "its max: {shown}");
    assert_eq!(beside["cost_per_hour"], 0.1);
    let lead_ms = beside["lead_ms"].as_i64().unwrap();
    assert!(lead_ms >= 2_000, "{beside}");
    assert_eq!(
        beside["from_ms"].as_i64().unwrap() - beside["order_by_ms"].as_i64().unwrap(),
        lead_ms
    );
    let far = at("region").expect("the rest is elsewhere")["count"].as_u64().unwrap();
    assert!((1..=5).contains(&far), "{shown}");

    let event = json!({ "service": "shop", "name": "sale", "start_ms": now_ms() + 1_200_000,
        "end_ms": now_ms() + 2_400_000, "lift": 3.0 });
    node.post("/api/v1/events", &event);
    let lifted = eventually("the event to be counted in", || {
        let shown = asked(&node);
        let named = |r: &Value| r["events"] == json!(["sale"]) && r["place"] == "region";
        let sum = |r: &Value| r["count"].as_u64();
        let most: u64 = full(&shown).iter().filter(|r| named(r)).filter_map(sum).sum();
        (most >= far + 8).then_some(shown)
    });
    let cli = told(&node, &["shop", "--within", "1h"]);
    assert!(cli.contains("announced: sale") && cli.contains("ORDER BY"), "{cli}\n{lifted}");
    eventually("the change to be on record", || {
        let page = node.api("/api/v1/audit?action=reservations");
        (!page["entries"].as_array()?.is_empty()).then_some(())
    });
    let metrics = crate::support::try_get(node.admin, "/metrics").unwrap().text();
    assert!(
        metrics.contains(
            "foreshadow_reserved_shadows{service=\"shop\",place=\"beside\",tier=\"full\"} 2"
        ),
        "{metrics}"
    );
}
