//! What a service that says little gets, and what its switches and names stand for.

use std::time::Duration;

use foreshadow_config::{Errors, Format, RetryOn, Service, parse};

fn read(more: &str) -> Result<Service, Errors> {
    let text = format!(
        "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
         services: {{ s: {{ primaries: ['127.0.0.1:1'], {more} }} }}\n"
    );
    let env = |name: &str| (name == "SWITCH").then(|| "on".to_owned());
    parse(&text, Format::Yaml, "config.yaml", &env).map(|config| config.services["s"].clone())
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
    let shown = read("retries: { on: [5xx] }").unwrap_err().to_string();
    assert!(shown.contains("expected one of connect_failure, reset, gateway_error"), "{shown}");
    assert!(shown.contains("use gateway_error for answers of 502, 503 and 504"), "{shown}");
}
