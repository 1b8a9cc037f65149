//! The audit against what is taken away from it, and the files a configuration is made of.

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::audit::{ask, audit, exported, node_with, ok, post, said, whole};
use crate::support::{Backend, Node, eventually, foreshadow, try_get};

/// Waits until the node has said this.
fn logged(node: &Node, text: &str) {
    eventually(text, || node.process.log().contains(text).then_some(()));
}

#[test]
fn a_record_that_is_gone_is_missed_by_start_log_metrics_and_verify() {
    let backend = Backend::start(&[]);
    let mut node = Node::start(&format!("  shop: {{ primaries: [{}] }}\n", backend.address));
    post(&node, "/api/v1/kill-switch", json!({ "engaged": true }));
    let metric = |node: &Node, line: &str| {
        let text = try_get(node.admin, "/metrics").unwrap().text();
        assert!(text.contains(line), "no {line:?} in {text}");
    };
    metric(&node, "foreshadow_audit_failing 0");
    metric(&node, "foreshadow_audit_replaced_total 0");
    assert_eq!(whole(node.dir.path(), &[])["replaced"], json!([]));

    // While it runs.
    let record = node.dir.path().join("state/audit.db");
    std::fs::remove_file(&record).unwrap();
    eventually("the loss to be said", || {
        let head = node.api("/api/v1/audit/head");
        head["replaced"].as_str().filter(|why| why.contains("removed")).map(|_| ())
    });
    post(&node, "/api/v1/kill-switch", json!({ "engaged": false }));
    logged(&node, "not as it was");
    eventually("the loss to be on record", || {
        let page = node.api("/api/v1/audit?action=audit.replaced");
        (!page["entries"].as_array()?.is_empty()).then_some(())
    });
    metric(&node, "foreshadow_audit_replaced_total 1");
    let broken = audit(&["verify"], node.dir.path());
    assert!(
        !broken.status.success() && said(&broken).contains("--replaced-at 1"),
        "{}",
        said(&broken)
    );
    whole(node.dir.path(), &["--replaced-at", "1"]);
    let entries = exported(node.dir.path());
    assert_eq!(entries[0]["action"], "audit.replaced", "{entries:#?}");
    assert!(entries[0]["before"]["seq"].as_u64() >= Some(2), "{entries:#?}");

    // While it is down: known before the next start, and said by it.
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    whole(node.dir.path(), &["--replaced-at", "1"]);
    Connection::open(&record).unwrap().execute("DELETE FROM audit WHERE seq > 2", []).unwrap();
    let cut = audit(&["verify", "--replaced-at", "1"], node.dir.path());
    assert!(!cut.status.success() && said(&cut).contains("its end was cut off"), "{}", said(&cut));
    node.restart();
    logged(&node, "its end was cut off");
    metric(&node, "foreshadow_audit_replaced_total 1");
    let start = eventually("both losses to be on record", || {
        let page = node.api("/api/v1/audit?action=audit.replaced");
        (page["entries"].as_array()?.len() == 2).then_some(page)
    });
    assert_eq!(start["entries"][0]["seq"], 3, "{start}");
}

#[test]
fn files_that_a_configuration_is_made_of_are_on_record_and_must_not_be_anybodys() {
    use std::os::unix::fs::PermissionsExt as _;
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let (calendar, token) = (dir.path().join("sales.ics"), dir.path().join("token"));
    let text = |name: &str| {
        format!(
            "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20260101T000000Z\r\n\
             SUMMARY:{name}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        )
    };
    std::fs::write(&calendar, text("a")).unwrap();
    std::fs::write(&token, "a-token-of-the-test").unwrap();
    let mode =
        |mode| std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
    let services = format!(
        "  shop:\n    primaries: [{}]\n    forecast: {{ calendars: [{:?}] }}\n",
        backend.address, calendar
    );
    let admin = format!("  token: {{ file: {token:?} }}\n");
    let check = |node: &Node| {
        let output = foreshadow().arg("check").arg(node.config()).output().unwrap();
        (output.status.success(), said(&output))
    };
    mode(0o644);
    let node = node_with(&services, &admin, "");
    let warned = "others than its owner may read it, mode 0644";
    logged(&node, warned);
    let (good, text_of) = check(&node);
    assert!(good && text_of.contains(warned), "{text_of}");
    mode(0o622);
    let (good, text_of) = check(&node);
    assert!(!good && text_of.contains("mode 0622: chmod go-w"), "{text_of}");
    mode(0o600);
    let (good, text_of) = check(&node);
    assert!(good && !text_of.contains("others"), "{text_of}");

    let ask = |line: &str| ok(&ask(&node, "a-token-of-the-test", line, &Value::Null));
    let start = eventually("the start to be on record", || {
        let page = ask("GET /api/v1/audit?action=node.start");
        Some(page["entries"].as_array()?.last()?["after"]["files"].clone())
    });
    let first = start[0]["sha256"].as_str().unwrap_or_else(|| panic!("{start}")).to_owned();
    assert_eq!((first.len(), &start[1]["file"]), (64, &json!(token)), "{start}");
    assert!(start[1]["modified_ms"].is_u64() && start[1]["sha256"].is_null(), "{start}");
    std::fs::write(&calendar, text("b")).unwrap();
    ask("POST /api/v1/reload");
    let reload = eventually("the reload to be on record", || {
        let page = ask("GET /api/v1/audit?action=config.reload");
        page["entries"].as_array()?.last().cloned()
    });
    assert_eq!(
        reload["before"]["files"],
        json!([{ "file": calendar, "sha256": first }]),
        "{reload}"
    );
    let now = &reload["after"]["files"][0];
    assert_eq!(now["file"], json!(calendar), "{reload}");
    assert_ne!(now["sha256"], json!(first), "{reload}");
}
