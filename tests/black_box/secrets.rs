//! Secrets of a configuration are in no record, whatever fails and whoever repeats them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};

use crate::audit::{ask, node_with};
use crate::support::{Node, eventually, foreshadow, write_config};

/// Every secret begins with this.
const CANARY: &str = "cAnAry-7";
const OWNER: &str = "cAnAry-7-owner";

fn secret(of: &str) -> String {
    format!("{CANARY}-{of}")
}

/// An endpoint that refuses everything, and repeats the token it was called with.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let token = head.lines().find(|line| line.to_lowercase().starts_with("authorization"));
            let said = format!("wrong: {}", token.unwrap_or("nothing"));
            let body = json!({ "error": { "code": "failed", "message": said } }).to_string();
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            // A client that has gone away has seen enough.
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    address
}

fn services(webhook: SocketAddr) -> String {
    let shadows = |provider: Value| json!({ "provider": provider, "pool": { "shadow": 0, "warm": 1, "max": 2 } });
    let service = |provider: Value| json!({ "primaries": ["127.0.0.1:1"], "mode": "act", "shadows": shadows(provider) });
    let tells = "echo \"cannot go on with $DB_PASSWORD and $1 $2\" >&2; exit 3";
    let env = |of: &str| {
        json!({
            "DB_PASSWORD": secret(&format!("{of}-named")),
            "DSN": format!("db://me:{}@host/shop", secret(&format!("{of}-dsn"))),
            "BLOB": format!("{}\"\\quoted", secret(&format!("{of}-blob"))),
        })
    };
    let all = json!({
        "shop": service(json!({ "process": {
            "command": ["/bin/sh", "-c", tells, "{port}", format!("--password={}", secret("flag")), "--token", secret("next")],
            "env": env("process"),
        } })),
        "jobs": service(json!({ "exec": {
            "command": ["/bin/sh", "-c", "env >&2; printf '%s\\n' \"$DSN\" \"$BLOB\"; exit 1"],
            "env": env("exec"),
        } })),
        "hooks": service(json!({ "webhook": { "url": format!("http://{webhook}"), "token": secret("webhook") } })),
        "boxes": service(json!({ "docker": {
            "endpoint": "tcp://127.0.0.1:1", "image": "shop:1", "port": 80, "env": env("docker"),
            "log": { "driver": "splunk", "options": { "splunk-token": secret("log") } },
        } })),
    });
    let lines = all.as_object().unwrap().iter();
    lines.map(|(name, service)| format!("  {name}: {service}\n")).collect()
}

/// Asserts that no secret is in a text.
fn clean(what: &str, text: &str) {
    if let Some(at) = text.find(CANARY) {
        let mut from = at.saturating_sub(300);
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        panic!("a secret in {what}: …{}", text[from..].chars().take(500).collect::<String>());
    }
}

/// Asserts it of every file; what a shadow itself wrote is its own.
fn clean_files(dir: &Path) -> usize {
    let mut looked = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let path = entry.path();
        if path.is_dir() {
            looked += if entry.file_name() == "logs" { 0 } else { clean_files(&path) };
        } else if let Ok(bytes) = std::fs::read(&path) {
            looked += 1;
            clean(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
        }
    }
    looked
}

fn start() -> (Node, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, format!("{}-of-thirty-two-characters\n", secret(name))).unwrap();
        path.display().to_string()
    };
    let admin = format!(
        "  token: {OWNER}\n  tokens:\n    - {{ name: grafana, role: read, token: {} }}\n    \
         - {{ name: oncall, role: operate, token: {{ file: {} }} }}\n",
        secret("reader"),
        file("oncall")
    );
    let recording = files.path().join("recording.ndjson").display().to_string();
    let top =
        format!("audit: {{ key_file: {} }}\nrecording: {{ path: {recording} }}\n", file("key"));
    (node_with(&services(echo()), &admin, &top), files)
}

#[test]
fn no_record_answer_or_log_line_holds_a_secret_whatever_fails() {
    let (mut node, files) = start();
    let get = |path: &str| ask(&node, OWNER, &format!("GET {path}"), &Value::Null);
    for service in ["shop", "jobs", "hooks", "boxes"] {
        eventually(&format!("a failure of {service} to be on record"), || {
            let path = format!("/api/v1/audit?service={service}&outcome=failed");
            let page: Value = serde_json::from_slice(&get(&path).body).ok()?;
            (!page["entries"].as_array()?.is_empty()).then_some(())
        });
    }
    // They were repeated, and are covered: the test would find nothing if nobody told them.
    for service in ["jobs", "hooks"] {
        let failures = get(&format!("/api/v1/audit?service={service}&outcome=failed")).text();
        assert!(failures.contains("***"), "{failures}");
    }
    assert_eq!(ask(&node, &secret("wrong"), "GET /api/v1/status", &Value::Null).status, 401);
    let kill = json!({ "engaged": true });
    assert_eq!(ask(&node, &secret("reader"), "POST /api/v1/kill-switch", &kill).status, 403);
    ask(&node, OWNER, "POST /api/v1/kill-switch", &kill);
    for path in [
        "/api/v1/status",
        "/api/v1/services",
        "/api/v1/services/shop",
        "/api/v1/instances",
        "/api/v1/shadows",
        "/api/v1/plan",
        "/api/v1/decisions?limit=1000",
        "/api/v1/config",
        "/api/v1/audit?limit=1000",
        "/api/v1/audit/head",
        "/api/v1/kernel",
        "/metrics",
        "/api/v1/fitness",
        "/api/v1/events",
        "/api/v1/rules",
    ] {
        let answer = get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        clean(path, &answer.text());
    }
    // A configuration that is refused, next to a secret in the same line.
    let bad = format!(
        "  shop: {{ primaries: [x], shadows: {{ provider: {{ process: {{ command: [a], env: {{ \
         PASSWORD: {} }} }} }} }} }}\n",
        secret("refused")
    );
    write_config(node.dir.path(), node.proxy, node.admin, &bad);
    let refused = ask(&node, OWNER, "POST /api/v1/reload", &Value::Null);
    assert_eq!(refused.status, 422, "{}", refused.text());
    clean("a refused reload", &refused.text());
    clean("the status after it", &get("/api/v1/status").text());
    let export = eventually("the refused reload to be in the export", || {
        let state = node.dir.path().join("state");
        let mut command = foreshadow();
        command.args(["audit", "export", "--format", "csv", "--state-dir"]).arg(state);
        let export = String::from_utf8(command.output().unwrap().stdout).unwrap();
        export.contains("config.reload").then_some(export)
    });
    assert!(export.lines().count() > 5, "{export}");
    clean("the export", &export);
    node.process.signal(rustix::process::Signal::TERM);
    assert_eq!(node.process.wait(), Some(0));
    clean("the log", &node.process.log());
    assert!(clean_files(&node.dir.path().join("state")) >= 3);
    let recording = std::fs::read_to_string(files.path().join("recording.ndjson")).unwrap();
    clean("the recording", &recording);
    assert!(recording.len() > 1_000);
}
