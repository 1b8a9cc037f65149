//! Reloading the built command: by signal, by file, by request; good and bad.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{self, Backend, Node, eventually, free_address, try_get};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn reloads_under_load_lose_no_request() {
    let backends: Vec<Backend> =
        (0..3).map(|_| Backend::start(&["--service-time", "3ms"])).collect();
    let services = |members: &[&Backend]| {
        let list: Vec<String> = members.iter().map(|b| b.address.to_string()).collect();
        format!("  shop:\n    primaries: [{}]\n", list.join(", "))
    };
    let node = Node::start(&services(&[&backends[0], &backends[1]]));
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done, proxy) = (Arc::clone(&stop), Arc::clone(&done), node.proxy);
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match try_get(proxy, "/") {
                        Ok(answer) if answer.status == 200 => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failures.push(answer.head),
                        Err(error) => failures.push(error.to_string()),
                    }
                }
                failures
            })
        })
        .collect();
    for round in 0..6 {
        let members = [&backends[round % 3], &backends[(round + 1) % 3]];
        node.rewrite(&services(&members));
        node.process.signal(Signal::HUP);
        let wanted: std::collections::BTreeSet<String> =
            members.iter().map(|b| b.address.to_string()).collect();
        eventually("the new members to be in force", || {
            let view = node.api("/api/v1/services/shop");
            let instances = view["instances"].as_array()?;
            let now = instances.iter().filter_map(|i| i["address"].as_str().map(str::to_owned));
            (now.collect::<std::collections::BTreeSet<_>>() == wanted).then_some(())
        });
        let so_far = done.load(Ordering::Relaxed);
        eventually("requests to go on", || {
            (done.load(Ordering::Relaxed) > so_far + 50).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let failures = client.join().unwrap();
        assert!(failures.is_empty(), "{} requests failed, first: {}", failures.len(), failures[0]);
    }
}

#[test]
fn a_bad_file_changes_nothing_and_is_reported_everywhere() {
    let backend = Backend::start(&[]);
    let good = format!("  shop:\n    primaries: [{}]\n", backend.address);
    let node = Node::start(&good);
    node.rewrite("  shop:\n    primaries: [nonsense]\n");
    node.process.signal(Signal::HUP);
    eventually("the refusal to be counted", || {
        (node.api("/api/v1/status")["reloads"]["refused"].as_u64()? > 0).then_some(())
    });
    let status = node.api("/api/v1/status");
    let error = status["reloads"]["last"]["error"].as_str().unwrap();
    assert!(error.contains("nonsense") && error.contains("foreshadow.yaml:"), "{error}");
    eventually("the refusal to be in the log", || {
        node.process.log().contains("nonsense").then_some(())
    });
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_config_good 0"), "{metrics}");
    assert_eq!(node.get("/").status, 200);
    node.rewrite(&good);
    let (status, answer) = node.post("/api/v1/reload", &json!({}));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_config_good 1"), "{metrics}");
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let (a, b) = (Backend::start(&["--name", "a"]), Backend::start(&["--name", "b"]));
    let node = Node::start(&format!("  shop:\n    primaries: [{}]\n", a.address));
    assert_eq!(node.get("/").header("x-instance"), Some("a"));
    node.rewrite(&format!("  shop:\n    primaries: [{}]\n", b.address));
    eventually("the other backend to answer", || {
        (node.get("/").header("x-instance") == Some("b")).then_some(())
    });
}

/// Makes `link` lead to `target`, in one step where it was there before.
fn relink(link: &Path, target: &str) {
    let aside = link.with_file_name("aside");
    symlink(target, &aside).unwrap();
    std::fs::rename(&aside, link).unwrap();
}

/// Replaces the configuration that `node` was started on by `change`, and waits for `name` to answer.
fn answers(node: &Node, name: &str, change: impl FnOnce()) {
    change();
    eventually(&format!("{name} to answer"), || {
        (node.get("/").header("x-instance") == Some(name)).then_some(())
    });
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_config_good 1"), "{metrics}");
}

#[test]
fn a_configuration_behind_links_is_followed_wherever_they_lead() {
    let [a, b, c] = ["a", "b", "c"].map(|name| Backend::start(&["--name", name]));
    let dir = tempfile::tempdir().unwrap();
    let (root, proxy, admin) = (dir.path().to_owned(), free_address(), free_address());
    // What a config map is mounted as, and a link to it from the directory of the node.
    let map = root.join("map");
    let version = |nth: u32, backend: &Backend| {
        let dir = map.join(format!("..v{nth}"));
        std::fs::create_dir_all(&dir).unwrap();
        let services = format!("  shop:\n    primaries: [{}]\n", backend.address);
        support::write_config(&dir, proxy, admin, &services);
    };
    version(1, &a);
    relink(&map.join("..data"), "..v1");
    symlink("..data/foreshadow.yaml", map.join("foreshadow.yaml")).unwrap();
    symlink("map/foreshadow.yaml", support::config_path(&root)).unwrap();
    let node = Node { process: Node::launch(&root), proxy, admin, dir };
    node.wait_ready();
    answers(&node, "a", || {});
    for (nth, name, backend) in [(2, "b", &b), (3, "c", &c), (4, "a", &a)] {
        answers(&node, name, || {
            version(nth, backend);
            relink(&map.join("..data"), &format!("..v{nth}"));
            std::fs::remove_dir_all(map.join(format!("..v{}", nth - 1))).unwrap();
        });
    }
    answers(&node, "b", || version(4, &b));
    // A plain link to a file elsewhere, which is then edited there.
    let elsewhere = root.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let edit = |backend: &Backend| {
        let services = format!("  shop:\n    primaries: [{}]\n", backend.address);
        support::write_config(&elsewhere, proxy, admin, &services);
    };
    answers(&node, "c", || {
        edit(&c);
        relink(&node.config(), "elsewhere/foreshadow.yaml");
    });
    answers(&node, "a", || edit(&a));
    answers(&node, "b", || edit(&b));
}

#[test]
fn a_busy_directory_starves_no_reload() {
    let (a, b) = (Backend::start(&["--name", "a"]), Backend::start(&["--name", "b"]));
    let services = |backend: &Backend| format!("  shop:\n    primaries: [{}]\n", backend.address);
    let node = Node::start(&services(&a));
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let noise = {
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        let path = node.dir.path().join("noise");
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::fs::write(&path, "x").unwrap();
                written.fetch_add(1, Ordering::Relaxed);
                // Far less than a file must be left alone to be read.
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
        })
    };
    let goes_on = |what: &str| {
        let before = written.load(Ordering::Relaxed);
        eventually(what, || (written.load(Ordering::Relaxed) > before + 20).then_some(()));
    };
    let applied = || node.api("/api/v1/status")["reloads"]["applied"].as_u64().unwrap();
    goes_on("the noise before a signal");
    // The file is the same, so that it is the signal that is counted, not the file.
    node.process.signal(Signal::HUP);
    eventually("the signal to be heeded", || (applied() == 1).then_some(()));
    goes_on("the noise before a request");
    let (status, answer) = node.post("/api/v1/reload", &json!({}));
    assert_eq!((status, applied()), (200, 2), "{answer}");
    goes_on("the noise before a change");
    node.rewrite(&services(&b));
    eventually("the changed file to be noticed", || {
        (node.get("/").header("x-instance") == Some("b")).then_some(())
    });
    goes_on("the noise to the end");
    stop.store(true, Ordering::Relaxed);
    noise.join().unwrap();
}

#[test]
fn a_standing_order_outlasts_a_configuration_without_its_service() {
    let backend = Backend::start(&[]);
    let shop = format!("  shop:\n    primaries: [{}]\n", backend.address);
    let both = format!("{shop}  other:\n    primaries: [{}]\n", backend.address);
    let mut node = Node::start(&both);
    let (status, answer) = node.post("/api/v1/services/other/mode", &json!({ "mode": "observe" }));
    assert_eq!((status, &answer["kept"]), (200, &json!(true)), "{answer}");
    for services in [&shop, &both] {
        node.rewrite(services);
        let (status, answer) = node.post("/api/v1/reload", &json!({}));
        assert_eq!(status, 200, "{answer}");
    }
    let is_observing = |node: &Node| {
        eventually("the order to be in force", || {
            (node.api("/api/v1/services/other")["mode"] == "observe").then_some(())
        });
    };
    is_observing(&node);
    node.process.kill();
    node.restart();
    is_observing(&node);
}

#[test]
fn a_reload_onto_a_busy_port_is_refused_whole() {
    let backend = Backend::start(&[]);
    let node = Node::start(&format!("  shop:\n    primaries: [{}]\n", backend.address));
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = holder.local_addr().unwrap();
    support::write_config(
        node.dir.path(),
        busy,
        node.admin,
        &format!("  shop:\n    primaries: [{}]\n", backend.address),
    );
    let (status, answer) = node.post("/api/v1/reload", &json!({}));
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains(&busy.to_string()), "{answer}");
    assert_eq!(node.get("/").status, 200);
}

#[test]
fn a_listener_can_be_added_and_taken_away() {
    let backend = Backend::start(&[]);
    let node = Node::start(&format!("  shop:\n    primaries: [{}]\n", backend.address));
    let second = free_address();
    let write = |listeners: &str| {
        let text = format!(
            "listeners:\n{listeners}services:\n  shop:\n    primaries: [{}]\nadmin:\n  address: {}\nstate_dir: {}\n",
            backend.address,
            node.admin,
            node.dir.path().join("state").display()
        );
        std::fs::write(node.config(), text).unwrap();
        let (status, answer) = node.post("/api/v1/reload", &json!({}));
        assert_eq!(status, 200, "{answer}");
    };
    let listener =
        |address| format!("  - {{ address: \"{address}\", routes: [{{ service: shop }}] }}\n");
    write(&(listener(node.proxy) + &listener(second)));
    assert_eq!(try_get(second, "/").unwrap().status, 200);
    write(&listener(node.proxy));
    eventually("the second listener to be closed", || try_get(second, "/").err());
    assert_eq!(node.get("/").status, 200);
}

#[test]
fn sigterm_lets_requests_finish() {
    let backend = Backend::start(&["--service-time", "700ms", "--distribution", "constant"]);
    let mut node = Node::start(&format!("  shop:\n    primaries: [{}]\n", backend.address));
    let request = node.request_in_flight();
    node.process.signal(Signal::TERM);
    let answer = request.join().unwrap().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
}

#[test]
fn a_half_sent_admin_request_does_not_keep_the_process_alive() {
    let backend = Backend::start(&[]);
    let mut node = Node::start(&format!("  shop:\n    primaries: [{}]\n", backend.address));
    let mut half = std::net::TcpStream::connect(node.admin).unwrap();
    half.write_all(b"GET /api/v1/weights HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    drop(half);
}
