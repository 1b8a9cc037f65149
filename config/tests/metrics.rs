//! Where metrics come from: what is read, what is refused, what is printed.

use std::time::Duration;

use foreshadow_config::{Config, Errors, Format, LoadReports, SignalSource};

fn read(text: &str, format: Format) -> Result<Config, Errors> {
    foreshadow_config::parse(text, format, "test", &|_: &str| None)
}

fn parsed(metrics: &str) -> Result<Config, Errors> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:8080, routes: [{{ service: shop }}] }}]\n\
         services:\n  shop:\n    primaries: [127.0.0.1:9001]\n{metrics}"
    );
    read(&text, Format::Yaml)
}

fn metrics(text: &str) -> foreshadow_config::Metrics {
    let config = parsed(text).unwrap_or_else(|errors| panic!("{errors}"));
    config.services.values().next().expect("there is one service").metrics.clone()
}

#[test]
fn without_a_word_load_reports_are_taken_and_nobody_is_asked() {
    let metrics = metrics("");
    assert_eq!(metrics.max_age, Duration::from_secs(30));
    assert_eq!(metrics.load_reports, LoadReports::Take);
    assert_eq!(metrics.scrape, None);
}

#[test]
fn scrapes_are_read_in_both_forms() {
    let metrics = metrics(
        "    metrics:\n      load_reports: forward\n      scrape:\n        port: 9100\n        interval: 500ms\n        \
         series:\n          queue_depth: jobs{queue=\"mail\"}\n          \
         cpu: { series: process_cpu_seconds_total, rate: true, scale: 0.25 }\n",
    );
    let scrape = metrics.scrape.unwrap();
    assert_eq!((scrape.path.as_str(), scrape.port), ("/metrics", Some(9100)));
    assert_eq!(
        (scrape.interval, scrape.timeout),
        (Duration::from_millis(500), Duration::from_millis(500))
    );
    let queue = &scrape.series["queue_depth"];
    assert_eq!(queue.series.to_string(), "jobs{queue=\"mail\"}");
    assert_eq!((queue.rate, queue.scale), (false, 1.0));
    assert_eq!((scrape.series["cpu"].rate, scrape.series["cpu"].scale), (true, 0.25));
}

#[test]
fn what_is_printed_is_read_as_the_same() {
    let config = parsed(
        "    metrics:\n      max_age: 1m\n      load_reports: ignore\n      scrape:\n        \
         path: /m?x=1\n        timeout: 200ms\n        series: { a: 'b{c=\"d \\\\ \\\"\"}' }\n",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let printed = serde_json::to_string(&config).unwrap();
    let again = read(&printed, Format::Json);
    assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{printed}")), config);
}

#[test]
fn signals_come_from_files_and_servers() {
    let text = "    signals:\n      campaign: { file: reach.csv, interval: 2s }\n      \
                backlog: { prometheus: 'http://127.0.0.1:9090/x', query: 'sum(jobs)' }\n";
    let config = parsed(text).unwrap_or_else(|errors| panic!("{errors}"));
    let signals = &config.services.values().next().unwrap().signals;
    let campaign = &signals["campaign"];
    assert_eq!(campaign.source, SignalSource::File { file: "reach.csv".into() });
    assert_eq!(
        (campaign.interval, campaign.timeout),
        (Duration::from_secs(2), Duration::from_secs(2))
    );
    let backlog = &signals["backlog"];
    let expected = SignalSource::Prometheus {
        prometheus: "http://127.0.0.1:9090/x".to_owned(),
        query: "sum(jobs)".to_owned(),
    };
    assert_eq!(backlog.source, expected);
    assert_eq!(
        (backlog.interval, backlog.timeout),
        (Duration::from_secs(15), Duration::from_secs(5))
    );
    let printed = serde_json::to_string(&config).unwrap();
    assert_eq!(read(&printed, Format::Json).unwrap_or_else(|e| panic!("{e}\n{printed}")), config);
}

#[test]
fn a_signal_without_one_source_is_refused() {
    let errors = parsed(
        "    metrics: { max_age: 10s, scrape: { interval: 11s, series: { a: b } } }\n    signals:\n      \
         none: {}\n      both: { file: a, query: b }\n      https: { prometheus: 'https://x', query: b }\n      \
         half: { prometheus: 'http://x' }\n      a b: { file: c, interval: 20s }\n",
    )
    .unwrap_err()
    .to_string();
    for expected in [
        "11s, expected at most metrics.max_age, 10s",
        "20s, expected at most metrics.max_age, 10s",
        "found no source, expected either file, or prometheus and query",
        "found file, query, expected",
        "found prometheus, expected",
        "https is not spoken",
        "the name \"a b\"",
    ] {
        assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
    }
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    let errors = parsed(
        "    metrics:\n      max_age: 0s\n      load_reports: taken\n      scrape:\n        port: 0\n        \
         interval: 1s\n        timeout: 2s\n        series:\n          a b: c\n          d: sum(e)\n          \
         f: { series: g, scale: 0 }\n",
    )
    .unwrap_err()
    .to_string();
    for expected in [
        "at least 1s",
        "did you mean",
        "take",
        "found 0, expected at least 1",
        "at most the interval, 1s",
        "the name \"a b\"",
        "labels are compared by = only",
        "a number from 1e-12 to 1e12",
    ] {
        assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
    }
    let empty = parsed("    metrics: { scrape: { series: {} } }\n").unwrap_err().to_string();
    assert!(empty.contains("found 0 series, expected 1 to 32"), "{empty}");
    let none = parsed("    metrics: { scrape: {} }\n").unwrap_err().to_string();
    assert!(none.contains("no \"series\""), "{none}");
}

#[test]
fn demand_is_forecast_with_the_signals_looked_up_or_with_those_listed() {
    let looked_up =
        "    signals:\n      reach: { file: reach.csv }\n      backlog: { file: b.csv }\n";
    let with = |text: &str| {
        let config = parsed(text).unwrap_or_else(|errors| panic!("{errors}"));
        let printed = serde_json::to_string(&config).unwrap();
        let again = read(&printed, Format::Json);
        assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{printed}")), config);
        config.service_specs().remove(0).signals
    };
    assert_eq!(with(looked_up), ["backlog", "reach"]);
    let listed = |names: &str| format!("{looked_up}    forecast: {{ signals: [{names}] }}\n");
    assert_eq!(with(&listed("pushed, reach, pushed")), ["pushed", "reach"]);
    assert_eq!(with(&listed("")), [""; 0]);
    let many = (0..9).map(|n| format!("s{n}")).collect::<Vec<_>>().join(", ");
    for (names, said) in [("'a b'", "the name \"a b\""), (&many, "9 signals")] {
        let errors = parsed(&listed(names)).expect_err("it is refused").to_string();
        assert!(errors.contains(said), "{errors}");
    }
}
