//! The built command as a proxy: routing, failure of backends, awkward clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::load::Load;
use crate::support::{self, Backend, Node, eventually, exchange, foreshadow, free_address};

fn service(addresses: &[&Backend], more: &str) -> String {
    let list: Vec<String> = addresses.iter().map(|b| b.address.to_string()).collect();
    format!("  shop:\n    primaries: [{}]\n{more}", list.join(", "))
}

#[test]
fn requests_reach_all_backends_and_say_where_they_came_from() {
    let (a, b) = (Backend::start(&["--name", "a"]), Backend::start(&["--name", "b"]));
    let node = Node::start(&service(&[&a, &b], ""));
    let mut seen = std::collections::BTreeSet::new();
    eventually("both backends to answer", || {
        let answer = node.get("/");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(
            answer.header("via").is_some_and(|via| via.contains("foreshadow")),
            "{}",
            answer.head
        );
        seen.insert(answer.header("x-instance").unwrap().to_owned());
        (seen.len() == 2).then_some(())
    });
}

#[test]
fn a_backend_that_dies_costs_no_request() {
    // Slow enough that some request is under way at each of them at any time.
    let slow = ["--service-time", "50ms"];
    let (a, mut b) = (Backend::start(&slow), Backend::start(&slow));
    let node = Node::start(&service(&[&a, &b], ""));
    let load = Load::start(node.proxy, 8);
    load.reaches(&node, &b);
    b.process.kill();
    load.goes_on(20);
    load.end();
    eventually("the dead backend to have weight 0", || {
        let shop = node.api("/api/v1/services/shop");
        let dead =
            shop["instances"].as_array()?.iter().find(|i| i["address"] == b.address.to_string())?;
        (dead["weight"] == 0 && dead["health"] != "up").then_some(())
    });
    let told = |what: &str| {
        let log = node.process.log();
        log.lines().any(|l| l.contains(what) && l.contains(&b.address.to_string())).then_some(())
    };
    eventually("the log to tell of the death", || told("backend is down"));
    let _again = Backend::start_at(b.address, &["--name", "again"]);
    eventually("the backend that came back to serve again", || {
        (node.get("/").header("x-instance") == Some("again")).then_some(())
    });
    eventually("the log to tell of the return", || told("backend is up again"));
}

#[test]
fn without_any_backend_the_answer_is_a_clear_503() {
    let node = Node::start("  shop:\n    primaries: [127.0.0.1:1]\n");
    let answer = eventually("the backend to be known as dead", || {
        let answer = node.get("/");
        assert!(matches!(answer.status, 502 | 503), "{}", answer.head);
        (answer.status == 503).then_some(answer)
    });
    assert!(answer.header("content-length").is_some(), "{}", answer.head);
    eventually("an alert", || {
        let view = node.api("/api/v1/services/shop");
        view["alerts"].to_string().contains("no_capacity").then_some(())
    });
}

#[test]
fn a_client_that_dawdles_is_cut_and_harms_no_other() {
    let a = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let (proxy, admin) = (free_address(), free_address());
    let text = format!(
        "listeners:\n  - address: {proxy}\n    timeouts: {{ client_header: 300ms }}\n    routes: [{{ service: shop }}]\n\
         services:\n{}admin: {{ address: {admin} }}\nstate_dir: {}\n",
        service(&[&a], ""),
        dir.path().join("state").display(),
    );
    std::fs::write(support::config_path(dir.path()), text).unwrap();
    let process = Node::launch(dir.path());
    let node = Node { process, proxy, admin, dir };
    node.wait_ready();
    let mut slow = TcpStream::connect(node.proxy).unwrap();
    slow.set_read_timeout(Some(support::PATIENCE)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow").unwrap();
    assert_eq!(node.get("/").status, 200);
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
}

#[test]
fn malformed_requests_are_refused_and_never_forwarded() {
    let a = Backend::start(&[]);
    let node = Node::start(&service(&[&a], ""));
    assert_eq!(node.get("/").status, 200);
    let served =
        |node: &Node| node.api("/api/v1/services/shop")["requests_total"].as_u64().unwrap();
    let before =
        eventually("the first request to be counted", || Some(served(&node)).filter(|n| *n == 1));
    let bad: &[(&str, &[u8], u16)] = &[
        ("no host", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400),
        ("nonsense", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (
            "length and chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            400,
        ),
    ];
    for (what, request, status) in bad {
        let answer = exchange(node.proxy, request).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(answer.status, *status, "{what}: {}", answer.head);
        assert!(answer.header("content-length").is_some(), "{what}: {}", answer.head);
    }
    assert_eq!(node.get("/").status, 200);
    eventually("the good request to be counted", || (served(&node) > before).then_some(()));
    assert_eq!(served(&node), before + 1, "a malformed request reached the service");
}

#[test]
fn a_busy_port_is_an_error_that_names_it() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    support::write_config(
        dir.path(),
        address,
        free_address(),
        "  shop:\n    primaries: [127.0.0.1:1]",
    );
    let output =
        foreshadow().args(["run", "-c"]).arg(support::config_path(dir.path())).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&address.to_string()) && text.contains("in use"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_damaged_state_database_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let services = "  shop:\n    primaries: [127.0.0.1:1]";
    support::write_config(dir.path(), free_address(), free_address(), services);
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/foreshadow.db"), "scribble ".repeat(1000)).unwrap();
    let output =
        foreshadow().args(["run", "-c"]).arg(support::config_path(dir.path())).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("foreshadow.db") && text.contains("move it away"), "{text}");
}

#[test]
fn curl_is_served_like_by_any_proxy() {
    let a = Backend::start(&["--body", "5000"]);
    let node = Node::start(&service(&[&a], ""));
    let url = format!("http://{}/", node.proxy);
    let curl = |options: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "20"]).args(options).arg(&url).output();
        let output = output.expect("curl must be installed: apt-get install curl");
        assert!(
            output.status.success(),
            "{options:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&[]).len(), 5000);
    assert!(curl(&["-I"]).starts_with("HTTP/1.1 200"));
    assert_eq!(curl(&["--http1.0"]).len(), 5000);
    assert_eq!(curl(&["-d", "some=form", "-w", "%{http_code}", "-o", "/dev/null"]), "200");
    let chunked =
        ["-H", "Transfer-Encoding: chunked", "-d", "x", "-w", "%{http_code}", "-o", "/dev/null"];
    assert_eq!(curl(&chunked), "200");
}
