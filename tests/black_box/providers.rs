//! Shadows made by a command and by an HTTP endpoint: the samples of the examples, behind the
//! built command.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::shadows::{settled, shadows};
use crate::support::{self, Backend, Node, Process, eventually, free_address};

/// The interpreter itself.
pub(crate) fn python() -> String {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let asked = asked.expect("the samples are tested with python3; install it");
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

/// The interpreter and a sample, without what site packages add to its start.
fn sample(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/providers").join(name);
    vec![python(), "-SE".to_owned(), path.display().to_string()]
}

/// What an instance runs; the sample fills the port in.
fn backend() -> Vec<String> {
    let words = ["testbed", "backend", "--listen", "127.0.0.1:{port}", "--name", "shadow"];
    let command = [env!("CARGO_BIN_EXE_foreshadow")].into_iter().chain(words);
    command.map(str::to_owned).collect()
}

fn service(primary: &Backend, provider: &serde_json::Value) -> String {
    format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n    shadows:\n      provider: {provider}\n      pool: {{ shadow: 1, warm: 1, max: 3 }}\n",
        primary.address,
    )
}

/// Instances that were made below `place`, by what the sample tells them.
fn running(place: &Path) -> BTreeSet<i32> {
    let data = format!("DATA={}", place.display());
    support::processes("environ", |variables| {
        variables.contains(&data) && variables.contains("EXAMPLE_INSTANCE=")
    })
}

fn ids(node: &Node) -> BTreeSet<String> {
    shadows(node).iter().map(|shadow| shadow["instance"].to_string()).collect()
}

#[test]
fn a_command_makes_shadows_that_serve_and_outlive_a_crash() {
    let place = tempfile::tempdir().unwrap();
    let mut command = sample("exec.py");
    command.extend([place.path().display().to_string(), "--".to_owned()]);
    command.extend(backend());
    let provider = serde_json::json!({
        "exec": { "command": command, "can": ["freeze"], "stop_timeout": "2s" }
    });
    let mut primary = Backend::start(&[]);
    let mut node = Node::start(&service(&primary, &provider));
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    let (before, names) = (running(place.path()), ids(&node));
    assert_eq!(before.len(), 2);
    node.process.kill();
    node.restart();
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    assert_eq!((running(place.path()), ids(&node)), (before, names), "taken over as they are");
    primary.process.kill();
    eventually("a shadow to answer", || {
        let answer = node.get("/");
        answer.header("x-instance").filter(|name| *name == "shadow").map(|_| ())
    });
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert_eq!(running(place.path()), BTreeSet::new(), "all of them ended with the node");
}

fn server(place: &Path, address: SocketAddr) -> Process {
    let sample = sample("webhook.py");
    let mut command = Command::new(&sample[0]);
    command
        .args(&sample[1..])
        .args([&address.to_string(), &place.display().to_string(), "--"])
        .args(backend())
        .env("PROVIDER_TOKEN", "a-token-of-the-test")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Process::spawn(command)
}

#[test]
fn an_endpoint_that_is_away_harms_nothing_and_is_used_once_it_is_there() {
    let place = tempfile::tempdir().unwrap();
    let address = free_address();
    let provider = serde_json::json!({ "webhook": {
        "url": format!("http://{address}"),
        "token": "a-token-of-the-test",
        "can": ["freeze"],
        "stop_timeout": "2s",
    } });
    let primary = Backend::start(&[]);
    let mut node = Node::start(&service(&primary, &provider));
    assert_eq!(node.get("/").status, 200, "it serves without its provider");
    eventually("the failure with its cause", || {
        let log = node.process.log();
        (log.contains("no connection: Connection refused") && log.contains("the address is right"))
            .then_some(())
    });
    assert!(!node.process.log().contains("a-token-of-the-test"), "{}", node.process.log());
    let config = node.api("/api/v1/config").to_string();
    assert!(!config.contains("a-token-of-the-test"), "{config}");

    let mut server = server(place.path(), address);
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    let before = running(place.path());
    assert_eq!(before.len(), 2);
    // It goes away and comes back: what it made runs on and is not made again.
    server.kill();
    assert_eq!(node.get("/").status, 200);
    drop(server);
    let _server = self::server(place.path(), address);
    settled(&node, &[("shadow", 1), ("warm", 1)]);
    assert_eq!(running(place.path()), before);
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert_eq!(running(place.path()), BTreeSet::new(), "all of them ended with the node");
}
