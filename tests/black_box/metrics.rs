//! `/metrics` of the built command, read as strictly as the format is written.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Backend, Node, eventually, exchange, try_get};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn scrape(node: &Node) -> String {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: application/openmetrics-text\r\n\
         Connection: close\r\n\r\n",
        node.admin
    );
    let answer = exchange(node.admin, request.as_bytes()).unwrap();
    assert_eq!(answer.header("content-type"), Some(OPENMETRICS));
    answer.text()
}

/// Samples by name and labels; fails where the text is not OpenMetrics 1.0.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.strip_suffix("# EOF\n").expect("the end is marked");
    let (mut families, mut found) = (BTreeSet::new(), BTreeMap::new());
    let (mut family, mut kind, mut help) = ("", "", "");
    for line in lines.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, text] => {
                assert!(families.insert(name), "{name} stands in two places");
                assert!(text.ends_with('.'), "{line}");
                (family, kind, help) = (name, "", name);
            }
            ["#", "TYPE", name, is] => {
                assert_eq!((name, help), (family, name), "a type without its help: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&is), "{line}");
                assert!(is != "counter" || !name.ends_with("_total"), "{line}");
                kind = is;
            }
            ["#", "UNIT", name, unit] => {
                assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
                let name = sample.split('{').next().unwrap();
                let suffix = name.strip_prefix(family).expect("a sample stands in its family");
                let right: &[&str] = match kind {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_count", "_sum"],
                    _ => &[""],
                };
                assert!(right.contains(&suffix), "{line}");
                let before = found.insert(sample.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{sample} is there twice");
            }
        }
    }
    found
}

#[test]
fn the_text_is_openmetrics_and_tells_who_answered_and_how_fast() {
    let backend = Backend::start(&[]);
    let shop = format!("  shop:\n    primaries: [{}]\n", backend.address);
    let node = Node::start(&format!("{shop}  idle:\n    primaries: [127.0.0.1:1]\n"));
    for _ in 0..5 {
        assert_eq!(node.get("/").status, 200);
    }
    drop(backend);
    eventually("an answer of the proxy's own for want of a backend", || {
        (node.get("/").status == 503).then_some(())
    });
    let responses = |class: &str, origin: &str| {
        format!(
            "foreshadow_responses_total{{service=\"shop\",class=\"{class}\",origin=\"{origin}\"}}"
        )
    };
    let counted = eventually("both to be counted", || {
        let counted = samples(&scrape(&node));
        let own = counted[&responses("5xx", "proxy")];
        let timed = counted["foreshadow_latency_seconds_count{service=\"shop\"}"];
        let served = counted[&responses("2xx", "backend")];
        (served == 5.0 && timed == 5.0 && own >= 1.0).then_some(counted)
    });
    assert_eq!(counted[&responses("5xx", "backend")], 0.0);
    assert_eq!(counted[&responses("2xx", "proxy")], 0.0);
    let idle = "foreshadow_responses_total{service=\"idle\",class=\"5xx\",origin=\"proxy\"}";
    assert_eq!(counted[idle], 0.0);
    let shop = node.api("/api/v1/services/shop");
    let id = &shop["instances"][0]["instance"];
    for labels in [format!("service=\"shop\",instance=\"i{id}\""), "service=\"shop\"".to_owned()] {
        let of = if labels.contains("instance") { "instance_latency" } else { "latency" };
        let name = format!("foreshadow_{of}_seconds");
        let buckets: Vec<f64> = ["0.0005", "0.01", "1.0", "10.0", "+Inf"]
            .iter()
            .map(|bound| counted[&format!("{name}_bucket{{le=\"{bound}\",{labels}}}")])
            .collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
        assert_eq!(buckets[4], 5.0, "{name}");
        assert_eq!(counted[&format!("{name}_count{{{labels}}}")], 5.0);
        assert!(counted[&format!("{name}_sum{{{labels}}}")] > 0.0);
    }
}

#[test]
fn those_that_do_not_ask_for_openmetrics_get_the_form_that_everything_reads() {
    let node = Node::start("  shop:\n    primaries: [127.0.0.1:1]\n");
    let answer = try_get(node.admin, "/metrics").unwrap();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    assert!(text.contains("# TYPE foreshadow_ticks_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let families = |text: &str| text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(families(&text), families(&scrape(&node)));
}
