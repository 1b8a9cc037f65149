//! What listeners and services that say little get, and what their switches and names stand for.

use std::time::Duration;

use foreshadow_config::{Config, Errors, Format, RetryOn, Service, parse};

fn config(listener: &str, service: &str) -> Result<Config, Errors> {
    let text = format!(
        "listeners: [{{ address: ':80', routes: [{{ service: s }}], {listener} }}]\n\
         services: {{ s: {{ primaries: ['127.0.0.1:1'], {service} }} }}\n"
    );
    let env = |name: &str| (name == "SWITCH").then(|| "on".to_owned());
    parse(&text, Format::Yaml, "config.yaml", &env)
}

fn read(service: &str) -> Result<Service, Errors> {
    config("", service).map(|config| config.services["s"].clone())
}

#[test]
fn a_listener_bounds_connections_and_waiting() {
    let timeouts = |listener: &str| {
        let timeouts = config(listener, "").unwrap().listeners[0].timeouts;
        [timeouts.client_header, timeouts.client_body, timeouts.idle].map(|time| time.as_secs())
    };
    assert_eq!(timeouts(""), [10, 60, 75]);
    assert_eq!(timeouts("timeouts: { client_body: 5m }"), [10, 300, 75]);
    for (listener, message) in [
        ("timeouts: { client_body: 0s }", "found 0s, expected at least 1ms"),
        ("timeouts: { client_body: 61m }", "expected at most 1h"),
        ("limits: { max_header_size: 32KiB }", "found unknown key \"max_header_size\""),
    ] {
        let errors = config(listener, "").unwrap_err();
        assert_eq!(errors.len(), 1, "{errors}");
        assert!(errors.to_string().contains(message), "{listener}: {errors}");
    }
}

#[test]
fn long_answers_have_their_time_and_silent_instances_do_not() {
    let timeouts = |service: &str| {
        let timeouts = read(service).unwrap().timeouts;
        [timeouts.first_byte, timeouts.stall, timeouts.total].map(|time| time.as_secs())
    };
    assert_eq!(timeouts(""), [15, 60, 3600]);
    assert_eq!(timeouts("timeouts: { stall: 5m }"), [15, 300, 3600]);
    // Defaults give way to a shorter whole.
    assert_eq!(timeouts("timeouts: { total: 10s }"), [10, 10, 10]);
}

#[test]
fn ejection_follows_the_data_plane_unless_it_is_told_otherwise() {
    let ejection = read("").unwrap().ejection;
    assert_eq!((ejection.consecutive_errors, ejection.probation_requests), (5, 3));
    assert_eq!(ejection.base, Duration::from_secs(5));
    assert_eq!(ejection.max, Duration::from_secs(120));
    assert_eq!(ejection.max_ejected, 0.5);

    let written = "ejection: { consecutive_errors: 0, base: 3m, probation_requests: 100 }";
    let ejection = read(written).unwrap().ejection;
    assert_eq!((ejection.consecutive_errors, ejection.probation_requests), (0, 100));
    // A default gives way to a longer base.
    assert_eq!(ejection.max, Duration::from_secs(180));
}

#[test]
fn panic_is_on_or_off() {
    for (written, on) in [
        ("", false),
        ("panic: off", false),
        ("panic: false", false),
        ("panic: on", true),
        ("panic: true", true),
        ("panic: '${SWITCH}'", true),
        ("panic: '${OTHER:-off}'", false),
        ("panic: '${OTHER:-true}'", true),
    ] {
        assert_eq!(read(written).unwrap().panic, on, "{written}");
    }
    for written in ["panic: 1", "panic: 0%", "panic: 'yes'", "panic: 0.0"] {
        let shown = read(written).unwrap_err().to_string();
        assert!(shown.contains("expected on or off"), "{shown}");
    }
}

#[test]
fn retries_know_what_they_answer() {
    assert_eq!(read("").unwrap().retries.on, [RetryOn::ConnectFailure, RetryOn::Reset]);
    let retries = read("retries: { on: [gateway_error, reset, gateway_error] }").unwrap().retries;
    assert_eq!(retries.on, [RetryOn::GatewayError, RetryOn::Reset]);
    let retries = read("retries: { on: [timeout] }").unwrap().retries;
    assert_eq!(retries.on, [RetryOn::Timeout]);
    let shown = read("retries: { on: [5xx] }").unwrap_err().to_string();
    let known = "expected one of connect_failure, reset, gateway_error, timeout";
    assert!(shown.contains(known), "{shown}");
    assert!(shown.contains("use gateway_error for answers of 502, 503 and 504"), "{shown}");
}

#[test]
fn services_of_one_host_are_one_group_unless_they_are_given_another() {
    let text = "\
listeners:
  - address: ':80'
    routes:
      - { match: { host: shop.example.com }, service: shop }
      - { match: { host: shop.example.com, path: { prefix: /api } }, service: api }
      - { match: { host: '*.example.com' }, service: rest }
      - { match: { host: a.example.com }, service: both }
      - { match: { host: b.example.com }, service: both }
      - { service: any }
services:
  shop: { primaries: ['127.0.0.1:1'] }
  api: { group: backend, primaries: [{ address: '127.0.0.1:2', zone: b }, { address: '127.0.0.1:3', zone: a }] }
  rest: { primaries: [{ address: '127.0.0.1:4', zone: a }, { address: '127.0.0.1:5', zone: a }, '127.0.0.1:9'] }
  both: { primaries: ['127.0.0.1:6'] }
  any: { primaries: ['127.0.0.1:7'] }
";
    let config = parse(text, Format::Yaml, "config.yaml", &|_: &str| None).unwrap();
    let group = |name: &str| config.services[name].group.as_deref();
    assert_eq!(group("shop"), Some("shop.example.com"));
    assert_eq!(group("rest"), Some("*.example.com"));
    assert_eq!((group("api"), group("both"), group("any")), (Some("backend"), None, None));
    let zones = |name: &str| config.services[name].zones().collect::<Vec<_>>();
    assert_eq!((zones("api"), zones("rest")), (vec!["b", "a"], vec!["a"]));
    assert!(zones("any").is_empty());
    // What is printed is a configuration that means the same.
    let printed = parse(&config.to_yaml().unwrap(), Format::Yaml, "printed", &|_: &str| None);
    assert_eq!(printed.unwrap().services, config.services);
    assert!(read("group: ''").is_err());
}

#[test]
fn history_is_kept_by_resolution_unless_it_is_turned_off() {
    let history = |written: &str| {
        let text = format!(
            "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ primaries: ['127.0.0.1:1'] }} }}\n{written}\n"
        );
        parse(&text, Format::Yaml, "config.yaml", &|_| None).map(|config| config.history)
    };
    let days = |time: Duration| time.as_secs() / 86_400;
    let kept = history("").unwrap();
    assert!(kept.enabled);
    assert_eq!(
        [kept.keep_1s, kept.keep_1m, kept.keep_15m, kept.keep_1h].map(days),
        [1, 14, 90, 730]
    );
    assert_eq!(kept.max_size, 1 << 30);
    assert_eq!((kept.snapshot_interval.as_secs(), days(kept.snapshot_max_age)), (30, 7));
    assert!(!history("history: { enabled: off }").unwrap().enabled);
    assert_eq!(days(history("history: { keep_1m: 30d }").unwrap().keep_1m), 30);
    for (written, message) in [
        ("history: { keep_1s: 5m }", "found 5m, expected at least 10m"),
        ("history: { max_size: 1MiB }", "found 1MiB, expected at least 16MiB"),
        ("history: { keep: 1d }", "found unknown key \"keep\""),
    ] {
        let errors = history(written).unwrap_err();
        assert!(errors.to_string().contains(message), "{written}: {errors}");
    }
}

#[test]
fn the_audit_is_kept_for_a_year_and_its_key_comes_from_a_file() {
    let audit = |written: &str| {
        let text = format!(
            "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ primaries: ['127.0.0.1:1'] }} }}\naudit: {{ {written} }}\n"
        );
        parse(&text, Format::Yaml, "config.yaml", &|_| None).map(|config| config.audit)
    };
    let kept = audit("").unwrap();
    assert_eq!((kept.keep.as_secs() / 86_400, kept.max_size, &kept.key), (400, 1 << 30, &None));
    assert_eq!(kept.checkpoint_interval.as_secs(), 3_600);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let with_key = || audit(&format!("key_file: '{}'", path.display()));
    assert!(with_key().unwrap_err().to_string().contains("which cannot be read"));
    std::fs::write(&path, "too-short\n").unwrap();
    let short = with_key().unwrap_err().to_string();
    assert!(short.contains("with 9 bytes") && short.contains("at least 32"), "{short}");
    assert!(!short.contains("too-short"), "{short}");
    std::fs::write(&path, format!(" {}\n", "k".repeat(32))).unwrap();
    let key = with_key().unwrap().key.unwrap();
    assert_eq!(key.secret.expose(), "k".repeat(32));
    for (written, message) in [
        ("keep: 1h", "found 1h, expected at least 1d"),
        ("max_size: 1KiB", "expected at least 1MiB"),
        ("checkpoint_interval: 1s", "expected at least 1m"),
    ] {
        let errors = audit(written).unwrap_err();
        assert!(errors.to_string().contains(message), "{written}: {errors}");
    }
}

#[test]
fn events_come_from_rules_and_calendar_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sales.ics");
    let event = "BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:sale\r\n\
                 DTSTART:20261023T100000Z\r\nDTEND:20261023T120000Z\r\nEND:VEVENT\r\n";
    let calendar = |event: &str| {
        format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\n{event}END:VCALENDAR\r\n")
    };
    std::fs::write(&file, calendar(event)).unwrap();
    let written = format!(
        "forecast: {{ calendars: [{{ file: {file:?}, lift: 3 }}], events: [{{ name: opening, \
         start: '2026-10-23T09:00:00', timezone: Europe/Berlin, rule: FREQ=DAILY, lift: 1.5 }}] }}"
    );
    let forecast = read(&written).unwrap().forecast;
    // 2026-10-23 in UTC.
    let day_ms = 1_792_713_600_000;
    let found = forecast.occurrences(day_ms, day_ms + 86_400_000);
    let told: Vec<_> = found
        .iter()
        .map(|o| {
            (
                o.name.as_str(),
                (o.start_ms - day_ms) / 60_000,
                (o.end_ms - o.start_ms) / 60_000,
                o.lift,
            )
        })
        .collect();
    assert_eq!(told, [("opening", 420, 60, 1.5), ("sale", 600, 120, 3.0)]);

    let large = dir.path().join("large.ics");
    std::fs::write(&large, calendar(&event.repeat((4 << 20) / event.len() + 1))).unwrap();
    std::fs::write(&file, calendar("BEGIN:VEVENT\r\nSUMMARY:when?\r\nEND:VEVENT\r\n")).unwrap();
    let kept = read(&format!("forecast: {{ calendars: [{file:?}] }}")).unwrap().forecast;
    let warnings: Vec<String> = kept.calendars[0].warnings().collect();
    let warning = "sales.ics:4: the event \"when?\" is left out: DTSTART is missing";
    assert!(warnings.len() == 1 && warnings[0].ends_with(warning), "{warnings:?}");
    std::fs::write(&file, calendar("BEGIN:VEVENT\r\n")).unwrap();
    for (written, message) in [
        (format!("forecast: {{ calendars: [{file:?}] }}"), "sales.ics that cannot be used"),
        (format!("forecast: {{ calendars: [{large:?}] }}"), "it is larger than 4194304 bytes"),
        ("forecast: { calendars: [/nowhere.ics] }".to_owned(), "/nowhere.ics that cannot be used"),
        ("forecast: { events: [{ name: x, start: soon }] }".to_owned(), "not a time such as"),
        (
            "forecast: { events: [{ name: x, start: '2026-10-23T09:00:00', \
             rule: 'FREQ=MINUTELY;COUNT=300000' }] }"
                .to_owned(),
            "it repeats more than 200000 times",
        ),
        (
            "forecast: { events: [{ name: x, start: '2026-10-23T09:00:00', lift: 0 }] }".to_owned(),
            "expected a number above 0, up to 100",
        ),
    ] {
        let errors = read(&written).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors}");
        assert!(errors.to_string().contains(message), "{written}: {errors}");
    }
}

#[test]
fn a_network_needs_a_build_that_can_run_one() {
    let errors = read("forecast: { onnx: /no/such/model.onnx }").unwrap_err().to_string();
    let expected = match cfg!(feature = "onnx") {
        true => "/no/such/model.onnx, which is no file that can be read",
        false => "or a build by `cargo build --release --features onnx`",
    };
    assert!(errors.contains(expected), "{errors}");
    assert_eq!(read("").unwrap().forecast.onnx, None);
}
