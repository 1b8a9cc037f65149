//! Tokens with roles: what each sees and does, and that refusals are on record.

use serde_json::{Value, json};

use crate::audit::{ask, exported, node_with, ok};
use crate::support::{eventually, try_get};

pub(crate) const TOKENS: &str = "  tokens:\n    - { name: grafana, role: read, token: readers-own-token }\n    \
     - { name: oncall, role: operate, token: operators-own-token }\n    \
     - { name: owner, role: admin, token: owners-own-token }\n    \
     - { name: agents, role: report, token: agents-own-token }\n";
pub(crate) const READER: &str = "readers-own-token";
pub(crate) const OPERATOR: &str = "operators-own-token";
pub(crate) const OWNER: &str = "owners-own-token";
pub(crate) const AGENT: &str = "agents-own-token";

#[test]
fn roles_see_and_do_what_they_may_and_refusals_are_on_record() {
    let node = node_with("  shop:\n    primaries: [127.0.0.1:1]\n", TOKENS, "");
    let report = json!({ "signals": { "backlog": 1 } });
    let cases = [
        ("GET /api/v1/services", Value::Null, [200, 200, 200, 403]),
        ("GET /metrics", Value::Null, [200, 200, 200, 403]),
        ("GET /api/v1/audit?limit=1", Value::Null, [200, 200, 200, 403]),
        ("GET /api/v1/audit/head", Value::Null, [200, 200, 200, 403]),
        ("GET /api/v1/config", Value::Null, [403, 403, 200, 403]),
        ("POST /api/v1/reload", Value::Null, [403, 403, 200, 403]),
        ("POST /api/v1/kill-switch", json!({ "engaged": false }), [403, 200, 200, 403]),
        ("POST /api/v1/services/shop/signals", report, [403, 200, 200, 200]),
    ];
    for (line, body, wanted) in &cases {
        let got =
            [READER, OPERATOR, OWNER, AGENT].map(|token| ask(&node, token, line, body).status);
        assert_eq!(got, *wanted, "{line}");
    }
    let refused = ask(&node, READER, "POST /api/v1/kill-switch", &json!({ "engaged": true }));
    let why: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(
        why["error"],
        "the token \"grafana\" has the role read; POST /api/v1/kill-switch needs operate"
    );
    let unknown = ask(&node, "somebody-elses", "GET /api/v1/status", &Value::Null);
    assert_eq!((unknown.status, unknown.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(try_get(node.admin, "/api/v1/status").unwrap().status, 401);
    assert_eq!(try_get(node.admin, "/readyz").unwrap().status, 200);
    let page = |filter: &str| {
        eventually("entries to be written", || {
            let answer =
                ok(&ask(&node, READER, &format!("GET /api/v1/audit?{filter}"), &Value::Null));
            let entries = answer["entries"].as_array()?.clone();
            (!entries.is_empty()).then_some(entries)
        })
    };
    let denied = eventually("the refused order to be on record", || {
        let denied = page("actor=grafana&action=access.role");
        denied.into_iter().find(|entry| entry["after"]["asked"] == "POST /api/v1/kill-switch")
    });
    assert_eq!((&denied["outcome"], &denied["actor"]["role"]), (&json!("denied"), &json!("read")));
    assert_eq!(page("action=access.unknown")[0]["outcome"], "denied");
    assert_eq!(page("action=config")[0]["actor"]["name"], "owner");
    assert_eq!(page("action=order&actor=oncall")[0]["actor"]["role"], "operate");
    let started = page("action=node.start");
    assert_eq!(started[0]["after"]["tokens"][0], json!(["grafana", "read"]), "{started:?}");
    for (line, says) in [
        ("GET /api/v1/audit?limit=1001", "it must be 1 to 1000"),
        ("GET /api/v1/audit?before=0", "it must be 1 or more"),
        ("GET /api/v1/audit?whose=me", "unknown field `whose`"),
    ] {
        let answer = ask(&node, READER, line, &Value::Null);
        assert!(answer.status == 400 && answer.text().contains(says), "{}", answer.text());
    }
    // Paging meets every entry once.
    let all = exported(node.dir.path());
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let line = format!("GET /api/v1/audit?limit=3{before}");
        let answer = ok(&ask(&node, READER, &line, &Value::Null));
        seen.extend(
            answer["entries"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()),
        );
        let Some(next) = answer["next_before"].as_u64() else { break };
        before = format!("&before={next}");
    }
    assert!(
        seen.len() >= all.len() && seen.windows(2).all(|pair| pair[0] == pair[1] + 1),
        "{seen:?}"
    );
    assert_eq!(seen.last(), Some(&1));
}
