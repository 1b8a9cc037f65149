//! The admin interface of the built command, as operators, browsers and scrapers meet it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{Answer, Node, exchange, try_get};

/// A node on a service whose primary is not there.
fn lonely(more: &str) -> Node {
    Node::start(&format!("  shop:\n    primaries: [127.0.0.1:1]\n{more}"))
}

fn send(admin: SocketAddr, line: &str, headers: &[&str], body: &str) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!(
        "{line} HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    exchange(admin, request.as_bytes()).unwrap()
}

/// What a JSON error says.
fn error(answer: &Answer) -> String {
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("application/json"), "{}\n{}", answer.head, answer.text());
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    said["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_page_in_an_operators_browser_neither_reads_nor_changes_anything() {
    let node = lonely("");
    let rebound = send(node.admin, "GET /api/v1/config", &["Host: evil.example:9900"], "");
    assert_eq!(rebound.status, 403);
    assert!(error(&rebound).contains("call it by 127.0.0.1"), "{}", rebound.text());
    let own = format!("Host: {}", node.admin);
    let from_page = [own.as_str(), "Origin: http://evil.example"];
    for line in ["POST /api/v1/reload", "DELETE /api/v1/events/1"] {
        let answer = send(node.admin, line, &from_page, "");
        assert_eq!(answer.status, 403, "{line}: {}", answer.text());
        assert!(error(&answer).contains("evil.example"), "{}", answer.text());
    }
    let form = [own.as_str(), "Content-Type: text/plain"];
    let answer = send(node.admin, "POST /api/v1/kill-switch", &form, r#"{"engaged":true}"#);
    assert_eq!(answer.status, 415, "{}", answer.text());
    assert!(error(&answer).contains("Content-Type: application/json"), "{}", answer.text());
    let status = node.api("/api/v1/status");
    assert_eq!((&status["kill_switch"], &status["reloads"]["applied"]), (&json!(false), &json!(0)));
    // What `curl -X POST` and a page of its own send.
    for headers in [&[own.as_str()][..], &[&own, &format!("Origin: http://{}", node.admin)]] {
        assert_eq!(send(node.admin, "POST /api/v1/reload", headers, "").status, 200);
    }
}

#[test]
fn every_refusal_is_json_that_says_what_would_be_right() {
    let node = lonely("");
    for (line, status, says) in [
        ("GET /api/v1/nowhere", 404, "there is nothing at /api/v1/nowhere"),
        ("GET /api/v1/services/%FF/risk", 400, "Invalid"),
        ("GET /api/v1/services/none", 404, "known: shop"),
        ("DELETE /api/v1/events/abc", 400, "\"abc\" is no event"),
        ("GET /api/v1/services/shop?instance=i1", 400, "takes no parameters; \"instance=i1\""),
        ("GET /api/v1/instances?sevice=shop", 400, "unknown field `sevice`, expected `service`"),
        ("GET /api/v1/decisions?limit=0", 400, "limit is 0; it must be 1 to 1000"),
        ("GET /api/v1/decisions?limit=1001", 400, "it must be 1 to 1000"),
        ("GET /api/v1/decisions?limit=-1", 400, "limit"),
        ("GET /api/v1/decisions?before=-1", 400, "before is -1; it must be 1 or more"),
        ("GET /api/v1/decisions?before=0", 400, "before is 0; it must be 1 or more"),
        ("GET /api/v1/decisions?service=nope", 404, "there is no service \"nope\"; known: shop"),
        ("GET /api/v1/services/shop/history?limit=20001", 400, "it must be 1 to 20000"),
        ("GET /api/v1/services/shop/history?limit=0", 400, "it must be 1 to 20000"),
    ] {
        let answer = send(node.admin, line, &["Host: localhost"], "");
        assert_eq!(answer.status, status, "{line}: {}", answer.text());
        assert!(error(&answer).contains(says), "{line}: {}", answer.text());
    }
    assert_eq!(try_get(node.admin, "/api/v1/decisions?limit=1000").unwrap().status, 200);
    for (line, allow) in [
        ("POST /api/v1/status", "GET,HEAD"),
        ("GET /api/v1/reload", "POST"),
        ("PUT /api/v1/events", "GET,HEAD,POST"),
        ("POST /api/v1/services/shop/rules/a", "PUT,DELETE"),
        ("POST /metrics", "GET,HEAD"),
        ("POST /healthz", "GET,HEAD"),
    ] {
        let answer = send(node.admin, line, &["Host: localhost"], "");
        assert_eq!(answer.status, 405, "{line}: {}", answer.text());
        assert_eq!(answer.header("allow"), Some(allow), "{line}: {}", answer.head);
        assert!(error(&answer).contains("does not take"), "{line}: {}", answer.text());
    }
}

#[test]
fn secrets_of_shadows_are_not_shown() {
    let node = lonely(
        "    shadows: { provider: { process: { command: [/bin/true, '{port}', '${PATH}'], \
         env: { PASSWORD: hunter2 } } }, pool: { shadow: 0, warm: 0 } }\n",
    );
    let config = node.api("/api/v1/config");
    let process = &config["services"]["shop"]["shadows"]["provider"]["process"];
    assert_eq!(process["env"], json!({ "PASSWORD": "***" }), "{config}");
    assert_eq!(process["command"], json!(["/bin/true", "{port}", "${PATH}"]), "{config}");
    assert!(!config.to_string().contains("hunter2"), "{config}");
    node.rewrite("  shop: { primaries: [127.0.0.1:1], warm_up: '${PATH}' }\n");
    let (status, refused) = node.post("/api/v1/reload", &json!({}));
    assert_eq!(status, 422, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("warm_up: found another"), "{refused}");
    let path = std::env::var("PATH").unwrap();
    for shown in [refused, node.api("/api/v1/status"), node.api("/api/v1/decisions?kind=reload")] {
        assert!(!shown.to_string().contains(&path[..path.len().min(20)]), "{shown}");
    }
}
