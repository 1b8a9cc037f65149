//! How safely a real service can be mirrored: by its traffic and by what its shadow answers.

use crate::support::{Backend, Node, Process, eventually, foreshadow, try_get};
use serde_json::Value;

/// A service with one warm shadow that gets a copy of every request that may be copied; `shadow`
/// is what its command has in addition.
fn services(primary: &Backend, shadow: &str) -> String {
    format!(
        "  shop:\n    primaries: [{}]\n    mode: act\n    capacity: 10000rps\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n    shadows:\n      mirror: {{ share: 100% }}\n      provider:\n        process:\n          command: [{:?}, testbed, backend, --listen, \"{{address}}\", --service-time, 2ms{shadow}]\n          stop_timeout: 2s\n      pool: {{ shadow: 0, warm: 1, max: 2 }}\n",
        primary.address,
        env!("CARGO_BIN_EXE_foreshadow"),
    )
}

/// A load generator that runs until the test ends.
fn load(node: &Node, options: &[&str]) -> Process {
    let mut command = foreshadow();
    let url = format!("http://{}/", node.proxy);
    let whole = ["testbed", "load", "--quiet", "--profile", "hold:100rps:60s", "--target", &url];
    command.args(whole).args(options);
    Process::spawn(command)
}

fn fitness(node: &Node) -> Value {
    node.api("/api/v1/services/shop/fitness")
}

/// What the score is, once it has a verdict.
fn judged(node: &Node, verdict: &str) -> Value {
    eventually(&format!("verdict {verdict}"), || {
        let fitness = fitness(node);
        (fitness["verdict"] == verdict).then_some(fitness)
    })
}

/// What the command prints.
fn told(node: &Node, more: &[&str]) -> String {
    let admin = format!("http://{}", node.admin);
    let output = foreshadow().args(["fitness", "--admin", &admin]).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn reading_is_good_to_mirror_and_writes_limit_it() {
    let primary = Backend::start(&["--service-time", "2ms"]);
    let node = Node::start(&services(&primary, ""));
    let unseen = fitness(&node);
    assert_eq!((&unseen["verdict"], &unseen["score"]), (&"unknown".into(), &0.0.into()));
    let _reads = load(&node, &[]);
    let good = judged(&node, "good");
    assert_eq!(good["shares"]["copyable"], 1.0, "{good}");
    assert_eq!(good["shares"]["agreement"], 1.0, "{good}");
    let _writes = load(&node, &["--method", "POST", "--header", "Cookie: id=1"]);
    let _more_writes = load(&node, &["--method", "POST", "--seed", "2"]);
    let limited = judged(&node, "limited");
    assert!(limited["score"].as_f64() < good["score"].as_f64(), "{limited}");
    let text = eventually("sessions to be told by the command", || {
        let text = told(&node, &[]);
        text.contains("sessions may live in the instance").then_some(text)
    });
    assert!(text.contains("\nshop     limited"), "{text}");
    assert!(text.contains("% of requests have a method such as POST: none of them"), "{text}");
    let json: Value = serde_json::from_str(&told(&node, &["shop", "--json"])).unwrap();
    assert_eq!(json[0]["reasons"][0]["what"], "other_methods", "{json}");
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("foreshadow_service_fitness{service=\"shop\"} 0."), "{metrics}");
}

#[test]
fn a_shadow_that_answers_differently_lowers_it() {
    let primary = Backend::start(&["--service-time", "2ms"]);
    let node = Node::start(&services(&primary, ", --fault, errors"));
    let _reads = load(&node, &[]);
    let poor = judged(&node, "poor");
    assert_eq!(poor["reasons"][0]["what"], "disagreement", "{poor}");
    assert_eq!(poor["shares"]["copyable"], 1.0, "the traffic is none the worse: {poor}");
    assert!(told(&node, &["shop"]).contains("mirrored answers differed in status class"));
}

#[test]
fn the_command_says_what_it_was_refused() {
    let primary = Backend::start(&[]);
    let node = Node::start(&format!("  shop:\n    primaries: [{}]\n", primary.address));
    let admin = format!("http://{}", node.admin);
    let output = foreshadow().args(["fitness", "shp", "--admin", &admin]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no service \"shp\"; known: shop"), "{said}");
    let alone = told(&node, &["shop"]);
    assert!(alone.contains("give the service shadows"), "{alone}");
}
