//! Primaries scaled by the samples of the examples while shadows bridge, under real traffic.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::providers::python;
use crate::support::{self, Backend, Node, Process, eventually, foreshadow, free_address, try_get};

/// Clients that ask at a steady rate together; none may be answered with anything but 200.
struct Rate {
    stop: Arc<AtomicBool>,
    per_s: Arc<AtomicU64>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

const CLIENTS: u64 = 12;

impl Rate {
    fn start(proxy: SocketAddr, per_s: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let per_s = Arc::new(AtomicU64::new(per_s));
        let served = Arc::new(AtomicU64::new(0));
        let client = |n: u64| {
            let (stop, per_s) = (Arc::clone(&stop), Arc::clone(&per_s));
            let served = Arc::clone(&served);
            std::thread::spawn(move || {
                let pause = |per_s: u64| Duration::from_secs_f64(CLIENTS as f64 / per_s as f64);
                let mut due = Instant::now() + pause(per_s.load(Ordering::Relaxed)) * n as u32 / 12;
                while !stop.load(Ordering::Relaxed) {
                    let now = Instant::now();
                    if now < due {
                        std::thread::park_timeout((due - now).min(Duration::from_millis(50)));
                        continue;
                    }
                    let answer = try_get(proxy, "/").unwrap();
                    assert_eq!(answer.status, 200, "client {n}: {}", answer.text());
                    served.fetch_add(1, Ordering::Relaxed);
                    due = due.max(now) + pause(per_s.load(Ordering::Relaxed));
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, per_s, served, clients }
    }

    fn set(&self, per_s: u64) {
        self.per_s.store(per_s, Ordering::Relaxed);
    }

    /// Ends it; how many requests were served, all of them well.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        self.served.load(Ordering::Relaxed)
    }
}

/// What a primary runs: it takes a second until it listens.
fn primary() -> Vec<String> {
    let exe = env!("CARGO_BIN_EXE_foreshadow");
    let script =
        format!("sleep 1; exec {exe} testbed backend --listen 127.0.0.1:$PORT --name primary");
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

fn sample(name: &str, place: &Path, options: &[&str]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/scaling").join(name);
    let mut command = vec![python(), "-SE".to_owned(), path.display().to_string()];
    command.extend(options.iter().map(|option| (*option).to_owned()));
    command.extend(["--notice", "1", "--most", "6"].map(str::to_owned));
    command.extend([place.display().to_string(), "--".to_owned()]);
    command.extend(primary());
    command
}

/// An instance carries 28 rps at its target.
fn service(primaries: &[SocketAddr], by: &Value, pool: &str) -> String {
    let primaries: Vec<String> = primaries.iter().map(ToString::to_string).collect();
    format!(
        "  shop:\n    primaries: {primaries:?}\n    mode: act\n    capacity: 40rps\n    \
         target_utilisation: 70%\n    warm_up: 500ms\n    forecast: {{ evaluation_window: 1s, quantiles: {{ commit: 25%, warm: 50%, prepare: 90% }} }}\n    \
         health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n    scaling:\n      by: {by}\n      max: 5\n      \
         lead_time: 2s\n      stabilisation: 4s\n      cooldown: 500ms\n      poll: 200ms\n    shadows:\n      provider:\n        process:\n          \
         command: [{:?}, testbed, backend, --listen, \"{{address}}\", --name, \"shadow-{{id}}\"]\n          stop_timeout: 2s\n      pool: {pool}\n",
        env!("CARGO_BIN_EXE_foreshadow"),
    )
}

fn view(node: &Node) -> Value {
    node.api("/api/v1/services/shop")
}

/// Requests sent to the primary that was there first.
fn total_of_first(view: &Value) -> u64 {
    let mut primaries = view["instances"].as_array().unwrap().iter();
    let first = primaries.find(|instance| instance["role"] == "primary").unwrap();
    first["totals"]["requests"].as_u64().unwrap()
}

fn serving(view: &Value) -> u64 {
    view["shadow_tiers"]["serving"].as_u64().unwrap_or(0)
}

/// Follows a rise of demand until shadows have stepped back for primaries, then its end, and prints it.
fn rise_and_fall(node: &Node, name: &str, first: u64) {
    let rate = Rate::start(node.proxy, 10);
    eventually("a calm start", || {
        let view = view(node);
        let scaling = &view["scaling"];
        let calm = scaling["ready"] == first && scaling["phase"] == "steady";
        (calm && serving(&view) == 0).then_some(())
    });
    let before = total_of_first(&view(node));
    let start = Instant::now();
    rate.set(80);
    let bridged_ms = eventually("shadows to serve", || {
        (serving(&view(node)) > 0).then(|| start.elapsed().as_millis())
    });
    let asked_ms = eventually("primaries to be asked for", || {
        (view(node)["scaling"]["asked"].as_u64() > Some(first)).then(|| start.elapsed().as_millis())
    });
    let mut most_serving = 0;
    let (ready, back_ms) = eventually("shadows to have stepped back", || {
        let view = view(node);
        most_serving = most_serving.max(serving(&view));
        let scaling = &view["scaling"];
        let calm = serving(&view) == 0 && scaling["phase"] == "steady";
        let ready = scaling["ready"].as_u64().filter(|ready| calm && *ready > first)?;
        Some((ready, start.elapsed().as_millis()))
    });
    assert!(most_serving >= 1);
    assert!(total_of_first(&view(node)) > before, "its counters go on while others join");
    rate.set(5);
    let fell = Instant::now();
    let down_ms = eventually("primaries to be as many as before", || {
        let scaling = &view(node)["scaling"];
        let back = scaling["ready"] == first && scaling["leaving"] == 0;
        back.then(|| fell.elapsed().as_millis())
    });
    let served = rate.end();
    println!(
        "{name}: {served} requests, 0 failed; shadows served after {bridged_ms} ms, up to \
         {most_serving} of them; primaries {first} to {ready} asked for after {asked_ms} ms; shadows \
         back after {back_ms} ms; primaries back to {first} {down_ms} ms after the fall"
    );
}

/// What there is to be read of it afterwards.
fn is_on_record(node: &Node) {
    let decisions = node.api("/api/v1/decisions?law=scale&limit=50").to_string();
    for part in ["bridge until", "are ready", "shadows have stepped back", "no more than"] {
        assert!(decisions.contains(part), "{part}: {decisions}");
    }
    let explained = foreshadow()
        .args(["explain", "--law", "scale", "--state-dir"])
        .arg(node.dir.path().join("state"))
        .output()
        .unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("bridge until"), "{explained}");
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    for line in [
        "foreshadow_primaries_ready{service=\"shop\"} 1",
        "foreshadow_scaling_phase{service=\"shop\",phase=\"steady\"} 1",
        "foreshadow_scaling_calls_total{service=\"shop\"}",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    eventually("the audit to have it", || {
        let text = node.api("/api/v1/audit?action=service.scale&limit=100").to_string();
        (text.contains("\"asked\"") && text.contains("bridge until")).then_some(())
    });
    for action in ["instance.join", "instance.leave"] {
        let page = node.api(&format!("/api/v1/audit?action={action}&limit=100"));
        assert!(!page["entries"].as_array().unwrap().is_empty(), "{page}");
    }
}

/// Ends what the sample made.
struct Primaries(String);

impl Drop for Primaries {
    fn drop(&mut self) {
        let place = self.0.clone();
        let mine = support::processes("environ", |text| {
            text.contains("EXAMPLE_PRIMARY=") && text.contains(&place)
        });
        for pid in mine.into_iter().filter_map(Pid::from_raw) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// A place for the sample, whose name every primary has in its environment.
fn place() -> (tempfile::TempDir, Primaries) {
    let place = tempfile::tempdir().unwrap();
    let name = format!("SCALED_IN={}", place.path().display());
    (place, Primaries(name))
}

#[test]
fn a_command_scales_primaries_and_shadows_bridge_and_step_back() {
    let (place, _primaries) = place();
    let command = sample("exec.py", place.path(), &["--first", "1"]);
    let by = json!({ "exec": {
        "command": command,
        "env": { "SCALED_IN": place.path().display().to_string() },
    } });
    // No primary is configured: all are found.
    let mut node = Node::start(&service(&[], &by, "{ shadow: 0, warm: 2, max: 3 }"));
    eventually("a primary to be found", || {
        (try_get(node.proxy, "/").ok()?.status == 200).then_some(())
    });
    eventually("shadows to be warm", || (view(&node)["shadow_tiers"]["warm"] == 2).then_some(()));
    rise_and_fall(&node, "exec", 1);
    is_on_record(&node);
    // After a crash the primary is there before anybody was asked.
    node.process.kill();
    node.restart();
    assert_eq!(node.get("/").status, 200);
    eventually("what was asked to be known", || {
        let scaling = view(&node)["scaling"].clone();
        (scaling["asked"] == 1 && scaling["wanted"] == 1).then_some(())
    });
    let view = view(&node);
    assert_eq!(view["scaling"]["set_by"], "foreshadow", "{view}");
    assert_eq!(view["scaling"]["primaries"][0]["joined_ms"], Value::Null, "{view}");
}

#[test]
fn an_endpoint_that_is_away_is_one_alert_and_scales_once_it_is_there() {
    let (place, _primaries) = place();
    let address = free_address();
    let by = json!({ "webhook": {
        "url": format!("http://{address}"),
        "token": "a-token-of-the-test",
        "timeout": "2s",
    } });
    let primary = Backend::start(&["--name", "configured"]);
    let node = Node::start(&service(&[primary.address], &by, "{ shadow: 0, warm: 1, max: 3 }"));
    assert_eq!(node.get("/").status, 200, "it serves without its scaler");
    let alert = eventually("the alert", || {
        let view = view(&node);
        let alerts = view["alerts"].as_array()?;
        alerts.iter().find(|alert| alert["kind"] == "scaling_failing").cloned()
    });
    let text = alert["text"].as_str().unwrap();
    assert!(text.contains("Connection refused") && text.contains("asked again"), "{text}");
    let scaling = view(&node)["scaling"].clone();
    assert!(scaling["failures"].as_u64() >= Some(1), "{scaling}");
    assert!(!node.process.log().contains("a-token-of-the-test"), "{}", node.process.log());
    let config = node.api("/api/v1/config").to_string();
    assert!(!config.contains("a-token-of-the-test"), "{config}");

    let words =
        sample("webhook.py", place.path(), &["--first", "1", "--listen", &address.to_string()]);
    let mut server = Command::new(&words[0]);
    server
        .args(&words[1..])
        .env("SCALER_TOKEN", "a-token-of-the-test")
        .env("SCALED_IN", place.path())
        .stdin(Stdio::null());
    let _server = Process::spawn(server);
    rise_and_fall(&node, "webhook", 1);
    is_on_record(&node);
    let alerts = view(&node)["alerts"].clone();
    assert_eq!(alerts, json!([]), "{alerts}");
    // The one of the configuration is none of the scaler's, and still there.
    let instances = view(&node)["instances"].as_array().unwrap().clone();
    let primaries = instances.iter().filter(|instance| instance["role"] == "primary");
    assert_eq!(primaries.count(), 2);
    // Without the scaler those of the configuration are left, and nobody sees the others go.
    let rate = Rate::start(node.proxy, 20);
    let plain = service(&[primary.address], &by, "{ shadow: 0, warm: 1, max: 3 }");
    let (before, rest) = plain.split_once("    scaling:\n").unwrap();
    let (_, shadows) = rest.split_once("    shadows:\n").unwrap();
    node.rewrite(&format!("{before}    shadows:\n{shadows}"));
    eventually("the reload", || {
        let view = view(&node);
        let primaries = view["primaries"].as_u64();
        (view["scaling"].is_null() && primaries == Some(1)).then_some(())
    });
    let served = || rate.served.load(Ordering::Relaxed);
    let goal = served() + 30;
    eventually("requests after the reload", || (served() >= goal).then_some(()));
    println!("reload: {} requests, 0 failed", rate.end());
}
