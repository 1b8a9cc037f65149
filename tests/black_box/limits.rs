//! The built command with few descriptors, and more clients than they suffice for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use crate::support::{
    self, Backend, Node, PATIENCE, Process, eventually, free_address, try_get, write_config,
};

/// More than a limit of 1024 open files allows.
const CLIENTS: usize = 1100;

/// A node that the shell's `ulimit` was told `limit` for.
fn limited(limit: &str, backends: &[&Backend]) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let (proxy, admin) = (free_address(), free_address());
    let list: Vec<String> = backends.iter().map(|b| b.address.to_string()).collect();
    let services = format!(
        "  shop:\n    primaries: [{}]\n    health: {{ interval: 100ms, fall: 2 }}\n",
        list.join(", ")
    );
    write_config(dir.path(), proxy, admin, &services);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_foreshadow"))
        .args(["run", "--log-format", "text", "-c"])
        .arg(support::config_path(dir.path()));
    let node = Node { process: Process::spawn(command), proxy, admin, dir };
    node.wait_ready();
    eventually("every backend to be found up", || all_up(&node).then_some(()));
    node
}

/// Lets this process have all the clients of a test.
fn have_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn listener(node: &Node) -> Value {
    node.api("/api/v1/status")["listeners"][0].clone()
}

fn all_up(node: &Node) -> bool {
    let shop = node.api("/api/v1/services/shop");
    shop["instances"].as_array().unwrap().iter().all(|i| i["health"] == "up")
}

/// Sends a request on a connection that stays open; its status.
fn ask(client: &mut TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    let count = client.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_thousand_idle_connections_are_no_burden_where_the_soft_limit_is_1024() {
    have_descriptors();
    let a = Backend::start(&[]);
    let node = limited("-Sn 1024", &[&a]);
    assert!(
        node.process.log().contains("raised the limit on open files"),
        "{}",
        node.process.log()
    );
    let idle = connect(node.proxy, CLIENTS);
    eventually("all connections to be accepted", || {
        (listener(&node)["active"].as_u64()? >= CLIENTS as u64).then_some(())
    });
    for _ in 0..50 {
        assert_eq!(node.get("/").status, 200);
    }
    assert!(all_up(&node));
    drop(idle);
    eventually("the connections to be gone", || {
        (listener(&node)["active"].as_u64()? < 10).then_some(())
    });
}

#[test]
fn more_clients_than_descriptors_cost_neither_backends_nor_served_clients() {
    have_descriptors();
    let (a, b) = (Backend::start(&[]), Backend::start(&[]));
    let node = limited("-n 1024", &[&a, &b]);
    let log = node.process.log();
    assert!(log.contains("the limit on open files is too low"), "{log}");
    let mut served = connect(node.proxy, 20);
    for client in &mut served {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ask(client), "HTTP/1.1 200 OK");
    }
    let idle = connect(node.proxy, CLIENTS);
    eventually("every connection to be taken or refused", || {
        let counts = listener(&node);
        let refused = counts["refused"].as_u64()?;
        let all = counts["accepted"].as_u64()? + refused;
        (all >= CLIENTS as u64 + 20 && refused > 0).then_some(())
    });
    // Longer than the checks would take to bring a backend down.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while std::time::Instant::now() < until {
        for client in &mut served {
            assert_eq!(ask(client), "HTTP/1.1 200 OK");
        }
        assert!(all_up(&node), "{}", node.process.log());
    }
    let log = node.process.log();
    for bad in ["cannot accept", "backend is down", "no_capacity", "could not be made"] {
        assert!(!log.contains(bad), "{log}");
    }
    drop(idle);
    eventually("new clients to be served again", || {
        (try_get(node.proxy, "/").ok()?.status == 200).then_some(())
    });
}

#[test]
fn silent_admin_connections_take_a_bounded_share_and_are_closed() {
    have_descriptors();
    let a = Backend::start(&[]);
    let node = limited("-n 1024", &[&a]);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", node.process.pid())).unwrap().count();
    let before = open();
    let mut silent = connect(node.admin, 100);
    for _ in 0..50 {
        assert_eq!(node.get("/").status, 200);
    }
    assert!(open() < before + 90, "{before} {}", open());
    // The silent give way to it.
    assert_eq!(try_get(node.admin, "/readyz").unwrap().status, 200);
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent[0].read(&mut [0; 64]).unwrap(), 0);
}
