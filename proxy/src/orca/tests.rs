use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn reported(fields: &[(&'static str, &[u8])]) -> Vec<(String, f64)> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    assert!(is_reported(&headers));
    let mut all = Vec::new();
    read(&headers, |name, value| all.push((name.to_text().into_string(), value)));
    all
}

fn owned(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

#[test]
fn text_is_read_with_either_sign_and_without_its_prefix() {
    let expected = owned(&[
        ("cpu", 0.7),
        ("application_utilization", 1.2),
        ("queue.mail", 12.0),
        ("disk", 0.5),
        ("request_cost.db", 3.0),
    ]);
    let report = "cpu_utilization=0.7, application_utilization=1.2,named_metrics.queue.mail=12,\
                  utilization.disk=0.5,request_cost.db=3,unknown=4,also.unknown=4,,=,eps=";
    let prefixed = format!("TEXT {report}");
    assert_eq!(reported(&[("endpoint-load-metrics", prefixed.as_bytes())]), expected);
    assert_eq!(reported(&[("endpoint-load-metrics", report.as_bytes())]), expected);
    let colons = report.replace('=', ":");
    assert_eq!(reported(&[("endpoint-load-metrics", colons.as_bytes())]), expected);
}

#[test]
fn json_is_read_in_either_case() {
    let report = br#"JSON {"cpuUtilization":0.7,"mem_utilization":"0.5","rps":100,"eps":null,
        "namedMetrics":{"a":1,"b":"NaN","c":[2]},"utilization":{"disk":0.25},"x":{"y":1}}"#;
    let mut all =
        reported(&[("endpoint-load-metrics", &report.map(|b| if b == b'\n' { b' ' } else { b }))]);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let expected =
        [("a", 1.0), ("cpu", 0.7), ("disk", 0.25), ("memory", 0.5), ("rps_fractional", 100.0)];
    assert_eq!(all, owned(&expected));
    let own = reported(&[("endpoint-load-metrics-json", br#"{"eps":2.5}"#)]);
    assert_eq!(own, owned(&[("eps", 2.5)]));
}

/// CPU 0.5, memory 0.25, request cost "db" 3, named metric "queue" 12 and application utilization
/// 0.75, as the wire format has them.
const MESSAGE: &[u8] = b"\x09\x00\x00\x00\x00\x00\x00\xe0\x3f\x11\x00\x00\x00\x00\x00\x00\xd0\x3f\
    \x22\x0d\x0a\x02db\x11\x00\x00\x00\x00\x00\x00\x08\x40\
    \x42\x10\x0a\x05queue\x11\x00\x00\x00\x00\x00\x00\x28\x40\
    \x49\x00\x00\x00\x00\x00\x00\xe8\x3f";

#[test]
fn messages_are_read_padded_and_not() {
    let expected = owned(&[
        ("cpu", 0.5),
        ("memory", 0.25),
        ("request_cost.db", 3.0),
        ("queue", 12.0),
        ("application_utilization", 0.75),
    ]);
    let encoded = base64::engine::general_purpose::STANDARD.encode(MESSAGE);
    assert_eq!(reported(&[("endpoint-load-metrics-bin", encoded.as_bytes())]), expected);
    let bare = encoded.trim_end_matches('=');
    assert_eq!(reported(&[("endpoint-load-metrics", format!("BIN {bare}").as_bytes())]), expected);
    // Cut off anywhere, it gives what was whole, and nothing else.
    for end in 0..MESSAGE.len() {
        let mut all = Vec::new();
        let mut each = |name: Name<'_>, value| all.push((name.to_text().into_string(), value));
        proto::read(&MESSAGE[..end], &mut Sink(&mut each));
        assert!(expected.starts_with(&all), "{end}: {all:?}");
    }
}

#[test]
fn what_cannot_be_is_left_out() {
    let long = "n".repeat(64);
    let report = format!(
        "TEXT cpu_utilization=NaN,mem_utilization=-1,eps=inf,rps_fractional=1e308,\
         named_metrics.=1,named_metrics.a b=1,named_metrics.\u{e9}=1,named_metrics.{long}=1,\
         request_cost.{}=1,named_metrics.ok=1e15",
        &long[..60]
    );
    let all = reported(&[("endpoint-load-metrics", report.as_bytes())]);
    assert_eq!(all, owned(&[("ok", 1e15)]));
    let huge = format!("TEXT named_metrics.a=1,{}", "x".repeat(LONGEST));
    assert_eq!(reported(&[("endpoint-load-metrics", huge.as_bytes())]), []);
}

proptest! {
    #[test]
    fn any_bytes_are_harmless(
        prefix in prop_oneof![Just("TEXT "), Just("JSON "), Just("BIN "), Just("")],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let report = [prefix.as_bytes(), &bytes].concat();
        let mut each = |name: Name<'_>, value: f64| {
            assert!(is_metric_name(&name.to_text()) && is_metric_value(value));
        };
        proto::read(&report, &mut Sink(&mut each));
        text::read(&report, &mut Sink(&mut each));
        if let Ok(value) = HeaderValue::from_bytes(&report) {
            let mut headers = HeaderMap::new();
            for name in FIELDS {
                headers.insert(name, value.clone());
            }
            read(&headers, each);
        }
    }
}
