//! What real backends and agents report: in answers, by request, to whom asks; and what rules and
//! forecasts make of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Backend, Node, Process, eventually, foreshadow, try_get};

fn services(backends: &[&Backend], more: &str) -> String {
    let list: Vec<String> = backends.iter().map(|b| b.address.to_string()).collect();
    format!("  shop:\n    primaries: [{}]\n{more}", list.join(", "))
}

/// A load generator that runs until the test ends.
fn load(node: &Node, rps: u32) -> Process {
    let mut command = foreshadow();
    let url = format!("http://{}/", node.proxy);
    let profile = format!("hold:{rps}rps:120s");
    command.args(["testbed", "load", "--quiet", "--target", &url, "--profile", &profile]);
    Process::spawn(command)
}

fn instances(node: &Node) -> Vec<Value> {
    node.api("/api/v1/instances?service=shop")["instances"].as_array().unwrap().clone()
}

fn reported(node: &Node) -> Value {
    instances(node)[0]["reported"].clone()
}

/// What is known of a metric of the service, or of its first instance.
fn metric(node: &Node, name: &str, of_instance: bool) -> Option<Value> {
    let all = node.api("/api/v1/services/shop/metrics");
    let is_meant = |m: &&Value| m["metric"] == name && m.get("instance").is_some() == of_instance;
    all["metrics"].as_array().unwrap().iter().find(is_meant).cloned()
}

fn rule_state(node: &Node) -> String {
    node.api("/api/v1/rules")["rules"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn load_reports_in_answers_are_known_forecast_and_kept_from_clients() {
    for format in ["text", "json"] {
        let options = ["--load-report", format, "--concurrency", "2", "--service-time", "40ms"];
        let backend = Backend::start(&options);
        let rule = "    rules:\n      busy: any instance cpu > 20% within 1m for 3 ticks -> alert \"busy\"\n";
        let node = Node::start(&services(&[&backend], rule));
        assert_eq!(reported(&node), json!({}), "nothing is known before the first answer");
        // 25 requests of 40 ms per second fill one of two slots.
        let _load = load(&node, 25);
        let cpu = eventually("the load to be known", || {
            reported(&node)["cpu"].as_f64().filter(|cpu| *cpu > 0.3)
        });
        assert!(cpu < 0.8, "{cpu}");
        assert!(reported(&node)["queue_depth"].is_number(), "{}", reported(&node));
        assert_eq!(node.get("/").header("endpoint-load-metrics"), None, "it is not for clients");
        eventually("the rule to fire", || (rule_state(&node) == "firing").then_some(()));
        let ahead = eventually("a forecast", || {
            let known = metric(&node, "cpu", true)?;
            known["ahead"].as_array().filter(|ahead| !ahead.is_empty()).cloned()
        });
        let median = ahead[0]["median"].as_f64().unwrap();
        assert!((0.2..1.0).contains(&median), "{ahead:?}");
        assert!(metric(&node, "queue_depth", false).is_some());
    }
}

#[test]
fn load_reports_are_passed_on_or_left_alone_where_told_so() {
    let header = "endpoint-load-metrics: TEXT named_metrics.jobs=7";
    let backend = Backend::start(&["--header", header]);
    let node = Node::start(&services(&[&backend], "    metrics: { load_reports: forward }\n"));
    let told = node.get("/").header("endpoint-load-metrics").map(str::to_owned);
    assert_eq!(told.as_deref(), Some("TEXT named_metrics.jobs=7"));
    eventually("the report to be known", || (reported(&node)["jobs"] == 7.0).then_some(()));
    node.rewrite(&services(&[&backend], "    metrics: { load_reports: ignore, max_age: 1s }\n"));
    assert_eq!(node.post("/api/v1/reload", &json!({})).0, 200);
    eventually("the report to be too old", || (reported(&node) == json!({})).then_some(()));
    assert!(node.get("/").header("endpoint-load-metrics").is_some());
    let tick = node.api("/api/v1/plan")["tick"].as_u64().unwrap();
    eventually("some ticks", || {
        (node.api("/api/v1/plan")["tick"].as_u64()? > tick + 3).then_some(())
    });
    assert_eq!(reported(&node), json!({}), "it is not read");
}

#[test]
fn a_hostile_report_is_harmless() {
    let many: Vec<String> = (0..300).map(|n| format!("named_metrics.n{n}=1")).collect();
    let report = format!(
        "endpoint-load-metrics: TEXT cpu_utilization=NaN,mem_utilization=-1,eps=1e308,\
         rps_fractional=inf,named_metrics.{}=1,{}",
        "x".repeat(500),
        many.join(",")
    );
    let garbage = "endpoint-load-metrics-bin: /////////w==";
    let backend = Backend::start(&["--header", &report, "--header", garbage]);
    let node = Node::start(&services(&[&backend], ""));
    let known = eventually("some of it to be known", || {
        let answer = node.get("/");
        assert_eq!(answer.status, 200);
        assert!(answer.header("endpoint-load-metrics-bin").is_none(), "{}", answer.head);
        reported(&node).as_object().filter(|all| !all.is_empty()).cloned()
    });
    assert!(known.len() <= 32, "{known:?}");
    assert!(known.iter().all(|(name, value)| name.starts_with('n') && *value == 1.0), "{known:?}");
}

#[test]
fn agents_push_metrics_and_signals_and_rules_see_them_until_they_are_too_old() {
    let backend = Backend::start(&[]);
    let more = "    metrics: { max_age: 1s }\n    rules:\n      deep: queue_depth > 300 -> alert \"deep\"\n";
    let node = Node::start(&services(&[&backend], more));
    let id = instances(&node)[0]["instance"].as_u64().unwrap();
    let path = format!("/api/v1/services/shop/instances/i{id}/metrics");
    let at_address = format!("/api/v1/services/shop/instances/{}/metrics", backend.address);
    let pushed = json!({ "metrics": { "cpu": 0.7, "queue_depth": 12 } });
    for path in [&path, &at_address] {
        let (status, answer) = node.post(path, &pushed);
        assert_eq!((status, &answer["taken"]), (200, &json!(2)), "{answer}");
    }
    eventually("what was pushed to be known", || {
        let expected = json!({ "cpu": 0.7, "queue_depth": 12.0 });
        // Pushed again: it may have been too old by the time it is looked at.
        node.post(&path, &pushed);
        (reported(&node) == expected).then_some(())
    });
    eventually("the rule to see it", || {
        node.post(&path, &pushed);
        (rule_state(&node) == "inactive").then_some(())
    });
    let signals = json!({ "signals": { "queue_depth": 700 } });
    eventually("the rule to see what is told of the service", || {
        assert_eq!(node.post("/api/v1/services/shop/signals", &signals).0, 200);
        (rule_state(&node) == "firing").then_some(())
    });
    eventually("all of it to be too old", || {
        (reported(&node) == json!({}) && rule_state(&node) == "no_data").then_some(())
    });

    let refused = |path: &str, body: Value, status: u16, why: &str| {
        let (got, answer) = node.post(path, &body);
        assert_eq!(got, status, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{body}: {answer}");
    };
    let many: Value =
        (0..33).map(|n| (format!("n{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
    refused(&path, json!({ "metrics": {} }), 422, "0 values; send 1 to 32");
    refused(&path, json!({ "metrics": many }), 422, "33 values");
    refused(&path, json!({ "metrics": { "a b": 1 } }), 422, "the name \"a b\"");
    refused(&path, json!({ "metrics": { "a": -1 } }), 422, "a is -1; values are from 0 to 1e15");
    refused(&path, json!({ "metrics": { "a": "1" } }), 422, "invalid type");
    refused(&path, json!({ "metrics": { "a": 1 }, "at_ms": 1000 }), 422, "known no more");
    let far = json!({ "metrics": { "a": 1 }, "at_ms": 99_999_999_999_999_u64 });
    refused(&path, far, 422, "ahead of this clock");
    let one = || json!({ "metrics": { "a": 1 } });
    refused(
        "/api/v1/services/shop/instances/i99999/metrics",
        one(),
        404,
        "there is no instance of shop",
    );
    refused("/api/v1/services/mall/instances/1/metrics", one(), 404, "there is no service");
}

#[test]
fn backends_are_asked_for_metrics_and_one_that_does_not_answer_is_told_once() {
    let options = ["--concurrency", "2", "--service-time", "40ms"];
    let (backend, silent) = (Backend::start(&options), Backend::start(&["--fault", "errors"]));
    let scrape = "    metrics:\n      scrape:\n        path: /_testbed/metrics\n        interval: 500ms\n        \
        series:\n          queue_depth: testbed_queue_length\n          \
        cpu: { series: testbed_busy_seconds_total, rate: true, scale: 0.5 }\n          \
        answers: 'testbed_answers_total{result=\"ok\"}'\n";
    let mut node = Node::start(&services(&[&backend], scrape));
    let _load = load(&node, 25);
    let known = eventually("metrics to be known", || {
        let known = reported(&node);
        known["cpu"].as_f64().filter(|cpu| *cpu > 0.3).map(|_| known)
    });
    assert!(known["cpu"].as_f64().unwrap() < 0.8, "{known}");
    assert!(known["answers"].as_f64().unwrap() >= 1.0, "{known}");
    assert!(known["queue_depth"].is_number(), "{known}");
    let all = node.api("/api/v1/services/shop/metrics");
    assert!(all["scrapes"]["good"].as_u64().unwrap() > 1, "{all}");
    assert_eq!(all["scrapes"]["failed"], 0, "{all}");

    // Another path, at another backend, which has nothing there.
    node.rewrite(&services(&[&silent], &scrape.replace("/_testbed/metrics", "/nothing")));
    assert_eq!(node.post("/api/v1/reload", &json!({})).0, 200);
    eventually("failures to be counted", || {
        let all = node.api("/api/v1/services/shop/metrics");
        (all["scrapes"]["failed"].as_u64()? >= 3).then_some(())
    });
    assert_eq!(node.get("/").status, 500, "requests are none of its business");
    node.process.signal(rustix::process::Signal::TERM);
    assert_eq!(node.process.wait(), Some(0));
    let log = node.process.log();
    assert_eq!(log.matches("no metrics: it answers 500").count(), 1, "{log}");
}

/// A small server that speaks the format of Prometheus' `/api/v1/query_range`; it is not
/// Prometheus. Two series of 300 each, up to the end that is asked for.
fn query_range_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            assert!(request.starts_with("GET /prom/api/v1/query_range?query=sum%28jobs%29&"));
            let end: f64 =
                request.split("end=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
            let series = json!({ "metric": {}, "values": [[end - 15.0, "1"], [end, "300"]] });
            let body = json!({ "status": "success",
                "data": { "resultType": "matrix", "result": [series, series] } });
            let body = body.to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    address
}

#[test]
fn signals_are_looked_up_in_tables_and_on_a_prometheus_server() {
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let reach = dir.path().join("reach.csv");
    std::fs::write(&reach, "time,reach\n2020-01-01T00:00:00Z,7\n2120-01-01T00:00:00Z,9\n").unwrap();
    let more = format!(
        "    signals:\n      campaign: {{ file: {}, interval: 1s }}\n      backlog:\n        \
         prometheus: http://{}/prom\n        query: sum(jobs)\n        interval: 1s\n    \
         rules:\n      deep: backlog > 500 and campaign >= 7 -> alert \"deep\"\n",
        reach.display(),
        query_range_server(),
    );
    let mut node = Node::start(&services(&[&backend], &more));
    eventually("the rule to fire", || (rule_state(&node) == "firing").then_some(()));
    let current = |name: &str| metric(&node, name, false).and_then(|m| m["current"].as_f64());
    eventually("both to be known", || {
        (current("backlog") == Some(600.0) && current("campaign") == Some(7.0)).then_some(())
    });
    let metrics = try_get(node.admin, "/metrics").unwrap().text();
    assert!(
        metrics.contains("foreshadow_signal{service=\"shop\",signal=\"backlog\"} 600"),
        "{metrics}"
    );
    let feedback = node.api("/api/v1/services/shop/feedback");
    let told = feedback["feedback"]["signals"].as_array().unwrap();
    let names: Vec<&Value> = told.iter().map(|signal| &signal["signal"]).collect();
    assert_eq!(names, ["backlog", "campaign"], "demand is forecast with both: {feedback}");
    assert!(told.iter().all(|signal| signal["state"] == "arriving"), "{feedback}");
    std::fs::write(&reach, "2020-01-01T00:00:00Z,2\n").unwrap();
    eventually("the rule to let go", || (rule_state(&node) == "inactive").then_some(()));
    std::fs::remove_file(&reach).unwrap();
    let told = |what: &str| node.process.log().contains(what).then_some(());
    eventually("the loss of the table to be told", || told("signal campaign of shop"));

    // Minutes that are not over are kept when the node ends.
    std::fs::write(&reach, "2020-01-01T00:00:00Z,2\n").unwrap();
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    node.restart();
    let past = |query: &str| node.api(&format!("/api/v1/services/shop/metrics/history{query}"));
    let kept = past("")["metrics"].clone();
    let expected = json!([{ "metric": "backlog" }, { "metric": "campaign" }]);
    assert_eq!(kept, expected);
    let backlog = past("?metric=backlog&resolution=1h&limit=5");
    assert_eq!(backlog["spans"][0]["mean"], 600.0, "{backlog}");
    assert_eq!(backlog["next_until_ms"], Value::Null);
    let campaign = past("?metric=campaign&resolution=1h&limit=1");
    assert_eq!(campaign["spans"][0]["most"], 7.0, "{campaign}");
    assert_eq!(campaign["next_until_ms"], campaign["spans"][0]["at_ms"]);
    let refused =
        try_get(node.admin, "/api/v1/services/shop/metrics/history?metric=a&resolution=1s");
    assert_eq!(refused.unwrap().status, 400);
    assert_eq!(past("?metric=unknown")["spans"], json!([]));
}
