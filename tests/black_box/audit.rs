//! The audit of the built command: what is on record, that it holds, and who may see what.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::roles::{OPERATOR, READER, TOKENS};
use crate::shadows::{settled, with_shadows};
use crate::support::{
    Answer, Backend, Node, config_path, eventually, exchange, foreshadow, free_address, try_get,
};

/// A node with further lines in its file, at the top level and under `admin`.
pub(crate) fn node_with(services: &str, admin: &str, top: &str) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let (proxy, at) = (free_address(), free_address());
    write(dir.path(), (proxy, at), services, admin, top);
    let process = Node::launch(dir.path());
    let node = Node { process, proxy, admin: at, dir };
    node.wait_ready();
    node
}

fn write(
    dir: &Path,
    (proxy, at): (SocketAddr, SocketAddr),
    services: &str,
    admin: &str,
    top: &str,
) {
    let text = format!(
        "listeners:\n  - address: {proxy}\n    routes:\n      - service: shop\n\
         services:\n{services}\nadmin:\n  address: {at}\n{admin}state_dir: {}\n{top}",
        dir.join("state").display()
    );
    let temporary = dir.join("foreshadow.yaml.new");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(&temporary, config_path(dir)).unwrap();
}

/// A request with a token.
pub(crate) fn ask(node: &Node, token: &str, line: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        node.admin,
        body.len()
    );
    exchange(node.admin, request.as_bytes()).unwrap()
}

pub(crate) fn audit(args: &[&str], dir: &Path) -> Output {
    let state = dir.join("state");
    foreshadow().arg("audit").args(args).arg("--state-dir").arg(state).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Every entry, the oldest first.
pub(crate) fn exported(dir: &Path) -> Vec<Value> {
    let output = audit(&["export"], dir);
    assert!(output.status.success(), "{}", said(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn whole(dir: &Path, more: &[&str]) -> Value {
    let output = audit(&[&["verify", "--json"], more].concat(), dir);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn find<'a>(entries: &'a [Value], action: &str) -> &'a Value {
    let found = entries.iter().find(|entry| entry["action"] == action);
    found.unwrap_or_else(|| panic!("no {action} among {entries:#?}"))
}

pub(crate) fn ok(answer: &Answer) -> Value {
    assert!((200..300).contains(&answer.status), "{}\n{}", answer.head, answer.text());
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

pub(crate) fn post(node: &Node, path: &str, body: Value) -> Value {
    let (status, answer) = node.post(path, &body);
    assert!((200..300).contains(&status), "{path}: {answer}");
    answer
}

fn request(node: &Node, line: &str, body: &Value) {
    ok(&ask(node, "none-is-asked-for", line, body));
}

fn give_orders(node: &Node) {
    post(node, "/api/v1/services/shop/mode", json!({ "mode": "observe" }));
    post(node, "/api/v1/services/shop/mode", json!({ "mode": null }));
    post(node, "/api/v1/kill-switch", json!({ "engaged": true }));
    post(node, "/api/v1/kill-switch", json!({ "engaged": false }));
    let now_ms = node.api("/api/v1/status")["now_ms"].as_u64().unwrap();
    let start_ms = now_ms + 86_400_000;
    let event = json!({ "service": "shop", "name": "sale", "start_ms": start_ms,
        "end_ms": start_ms + 1_000, "lift": 2.0 });
    let id = post(node, "/api/v1/events", event)["id"].clone();
    request(node, &format!("DELETE /api/v1/events/{id}"), &Value::Null);
    let rule = "/api/v1/services/shop/rules/night";
    request(node, &format!("PUT {rule}"), &json!({ "rule": "cpu > 80% -> hold" }));
    request(node, &format!("DELETE {rule}"), &Value::Null);
}

fn change_the_file(node: &Node, services: &str) {
    post(node, "/api/v1/reload", json!({}));
    node.rewrite("  shop: { primaries: [nonsense] }\n");
    eventually("the bad file to be refused", || {
        (node.api("/api/v1/status")["reloads"]["refused"].as_u64()? > 0).then_some(())
    });
    node.rewrite(services);
    node.process.signal(Signal::HUP);
    eventually("the signal to be on record", || {
        let page = node.api("/api/v1/audit?action=config.reload&actor=SIGHUP");
        (!page["entries"].as_array()?.is_empty()).then_some(())
    });
    node.api("/api/v1/config");
}

/// After one more shadow was activated, and an instance drained for a while.
fn lose_the_primary(node: &Node, primary: &mut Backend) {
    post(node, "/api/v1/services/shop/activate", json!({ "count": 1 }));
    eventually("an activation to be on record", || {
        let page = node.api("/api/v1/audit?action=instance.activate&service=shop");
        (!page["entries"].as_array()?.is_empty()).then_some(())
    });
    let drained = node.api("/api/v1/instances")["instances"][0]["instance"].clone();
    post(node, &format!("/api/v1/instances/{drained}/drain"), json!({ "drained": true }));
    post(node, &format!("/api/v1/instances/{drained}/drain"), json!({ "drained": false }));
    primary.process.kill();
    eventually("a failover to be on record", || {
        let page = node.api("/api/v1/audit?action=service.failover");
        (!page["entries"].as_array()?.is_empty()).then_some(())
    });
}

#[test]
fn everything_that_is_done_is_on_record_with_who_did_it_before_and_after() {
    let mut primary = Backend::start(&[]);
    let services = with_shadows(&primary, "{ shadow: 1, warm: 1, max: 3 }", "");
    let mut node = Node::start(&services);
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    give_orders(&node);
    change_the_file(&node, &services);
    lose_the_primary(&node, &mut primary);
    node.process.kill();
    node.process = Node::launch(node.dir.path());
    eventually("shadows to be taken over", || {
        let answer = try_get(node.admin, "/api/v1/audit?action=instance.adopt").ok()?;
        let page: Value = serde_json::from_slice(&answer.body).ok()?;
        (!page["entries"].as_array()?.is_empty()).then_some(())
    });
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());

    let entries = exported(node.dir.path());
    let actions: BTreeSet<&str> =
        entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let wanted = [
        "node.start",
        "node.stop",
        "config.reload",
        "config.read",
        "order.mode",
        "order.kill_switch",
        "order.drain",
        "order.activate",
        "order.rule",
        "event.announce",
        "event.withdraw",
        "instance.create",
        "instance.thaw",
        "instance.activate",
        "instance.adopt",
        "instance.destroy",
        "service.failover",
    ];
    let missing: Vec<_> = wanted.iter().filter(|action| !actions.contains(**action)).collect();
    assert!(missing.is_empty(), "{missing:?} of {actions:?}");
    told_as_it_was(&entries);
    let good = whole(node.dir.path(), &[]);
    assert_eq!(good["entries"], json!(entries.len()), "{good}");
    assert_eq!(good["head"]["hash"], entries.last().unwrap()["hash"]);
    let log = node.process.log();
    let head = format!("{}:{}", good["head"]["seq"], good["head"]["hash"].as_str().unwrap());
    assert!(log.contains(&head), "the newest entry was not told: {log}");
}

/// What single entries say.
fn told_as_it_was(entries: &[Value]) {
    let mode = find(entries, "order.mode");
    assert_eq!(
        (&mode["before"], &mode["after"]),
        (&json!({ "mode": null }), &json!({ "mode": "observe" }))
    );
    assert_eq!((&mode["service"], &mode["outcome"]), (&json!("shop"), &json!("done")));
    assert_eq!(mode["actor"]["kind"], "caller");
    assert!(mode["actor"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{mode}");
    let kill = find(entries, "order.kill_switch");
    assert_eq!(
        (&kill["before"]["engaged"], &kill["after"]["engaged"]),
        (&json!(false), &json!(true))
    );
    let withdrawn = find(entries, "event.withdraw");
    assert_eq!(withdrawn["before"]["event"]["name"], "sale", "{withdrawn}");
    let reloads: Vec<&Value> =
        entries.iter().filter(|entry| entry["action"] == "config.reload").collect();
    let by = |kind: &str| reloads.iter().find(|entry| entry["actor"]["kind"] == kind);
    assert!(
        by("caller").is_some() && by("file").is_some() && by("signal").is_some(),
        "{reloads:?}"
    );
    let refused = reloads.iter().find(|entry| entry["outcome"] == "failed").unwrap();
    assert!(refused["cause"].as_str().unwrap().contains("primaries"), "{refused}");
    assert_eq!(refused["before"]["sha256"], refused["after"]["sha256"]);
    assert_ne!(refused["after"]["refused_sha256"], refused["after"]["sha256"]);
    let asked =
        entries.iter().find(|e| e["action"] == "instance.create" && e["outcome"] == "asked");
    let asked = asked.expect("the controller asked for a shadow");
    assert_eq!(asked["actor"]["kind"], "law", "{asked}");
    assert!(asked["tick"].as_u64().unwrap() > 0 && !asked["cause"].is_null(), "{asked}");
    let thaw = find(entries, "instance.thaw");
    assert_eq!(
        (&thaw["before"]["tier"], &thaw["actor"]["kind"]),
        (&json!("shadow"), &json!("manager"))
    );
    let failover = find(entries, "service.failover");
    assert_ne!(failover["before"]["weights"], failover["after"]["weights"], "{failover}");
    let starts: Vec<&Value> = entries.iter().filter(|e| e["action"] == "node.start").collect();
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[0]["before"]["ended_on_record"], Value::Null, "{starts:?}");
    assert_eq!(starts[1]["before"]["ended_on_record"], json!(false), "it was killed: {starts:?}");
    assert_eq!(entries.last().unwrap()["action"], "node.stop");
}

#[test]
fn a_node_that_is_killed_while_much_is_done_leaves_a_whole_record() {
    let node_services = "  shop:\n    primaries: [127.0.0.1:1]\n";
    let mut node = Node::start(node_services);
    for _ in 0..3 {
        let (admin, dir) = (node.admin, node.dir.path().to_owned());
        let given = Arc::new(AtomicU64::new(0));
        let taken = Arc::clone(&given);
        let orders = std::thread::spawn(move || {
            for nth in 0.. {
                let body = format!("{{\"engaged\":{}}}", nth % 2 == 0);
                let request = format!(
                    "POST /api/v1/kill-switch HTTP/1.1\r\nHost: {admin}\r\nContent-Type: \
                     application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                if exchange(admin, request.as_bytes()).is_err() {
                    return;
                }
                taken.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Two readers while it is written.
        let other = {
            let dir = dir.clone();
            std::thread::spawn(move || (0..3).for_each(|_| drop(whole(&dir, &[]))))
        };
        whole(&dir, &[]);
        other.join().unwrap();
        eventually("some orders to be taken", || (given.load(Ordering::Relaxed) > 5).then_some(()));
        node.process.kill();
        orders.join().unwrap();
        whole(&dir, &[]);
        node.restart();
    }
    let starts = eventually("every start to be on record", || {
        let starts = node.api("/api/v1/audit?action=node.start")["entries"].as_array()?.clone();
        (starts.len() == 4).then_some(starts)
    });
    assert_eq!(starts[0]["before"]["ended_on_record"], false);
    whole(node.dir.path(), &[]);
}

#[test]
fn tampering_is_found_by_the_command_and_by_the_script_of_the_documentation() {
    const KEY: &str = "0123456789abcdef0123456789abcdef-key";
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("audit.key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let top = format!("audit: {{ key_file: {} }}\n", key.display());
    let mut node = node_with("  shop:\n    primaries: [127.0.0.1:1]\n", TOKENS, &top);
    for mode in ["observe", "advise", "act", "observe"] {
        ok(&ask(&node, OPERATOR, "POST /api/v1/services/shop/mode", &json!({ "mode": mode })));
    }
    let config = node.config();
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    let dir = node.dir.path();
    let key_name = key.to_str().unwrap();
    let good = whole(dir, &["--key-file", key_name]);
    let (seq, hash) =
        (good["head"]["seq"].as_u64().unwrap(), good["head"]["hash"].as_str().unwrap());
    assert_eq!(good["keyed"], good["entries"], "{good}");
    let by_config = foreshadow().args(["audit", "verify", "-c"]).arg(&config).output().unwrap();
    assert!(by_config.status.success(), "{}", said(&by_config));
    let keyless = audit(&["verify"], dir);
    assert!(
        !keyless.status.success() && said(&keyless).contains("--key-file"),
        "{}",
        said(&keyless)
    );
    let db = dir.join("state/audit.db");
    let script = |db: &Path| script_of_the_documentation(db, &key);
    if let Some(printed) = script(&db) {
        assert_eq!(printed.trim(), format!("{seq}:{hash}"));
    }

    let head = format!("{seq}:{hash}");
    let expecting = ["verify", "--key-file", key_name, "--expect-head", &head];
    assert!(audit(&expecting, dir).status.success());
    let open = || Connection::open(&db).unwrap();
    open().execute("DELETE FROM audit WHERE seq = ?", [seq]).unwrap();
    let cut = audit(&expecting, dir);
    assert!(!cut.status.success() && said(&cut).contains("its end was cut off"), "{}", said(&cut));
    open().execute("UPDATE audit SET actor = 'mallory' WHERE action = 'order.mode'", []).unwrap();
    let changed = audit(&["verify", "--key-file", key_name], dir);
    assert_eq!(changed.status.code(), Some(1));
    assert!(said(&changed).contains("NOT WHOLE: entry 2: changed"), "{}", said(&changed));
    if let Some(printed) = script(&db) {
        assert!(printed.contains("entry 2 is not as it was written"), "{printed}");
    }
    std::fs::write(&db, "no database at all, by somebody's slip of a finger").unwrap();
    assert!(!audit(&["verify"], dir).status.success());
    // A node serves all the same, and says so.
    node.restart();
    let aside = eventually("the start to be on record", || {
        let page = ok(&ask(&node, READER, "GET /api/v1/audit?action=node.start", &Value::Null));
        Some(page["entries"].get(0)?["before"]["set_aside"].as_str()?.to_owned())
    });
    assert!(Path::new(&aside).exists(), "{aside}");
}

/// What the script in docs/audit.md prints of a record; nothing where there is no Python.
fn script_of_the_documentation(db: &Path, key: &Path) -> Option<String> {
    let text = include_str!("../../docs/audit.md");
    let script =
        text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let run = std::process::Command::new("python3").args(["-c", script]).arg(db).arg(key).output();
    match run {
        Ok(output) => Some(said(&output)),
        Err(error) => {
            println!("NOT CHECKED: the script of docs/audit.md: no python3 here ({error})");
            None
        }
    }
}
