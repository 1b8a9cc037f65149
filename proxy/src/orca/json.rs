//! The report in the JSON of protocol buffers: names in either case, numbers also as texts.

use serde_json::{Map, Value};

use super::Sink;

pub(super) fn read(report: &[u8], sink: &mut Sink<'_>) {
    let Ok(report) = serde_json::from_slice::<Map<String, Value>>(report) else { return };
    for (key, value) in &report {
        let name = match key.as_str() {
            "cpuUtilization" => "cpu_utilization",
            "memUtilization" => "mem_utilization",
            "applicationUtilization" => "application_utilization",
            "rpsFractional" => "rps_fractional",
            "namedMetrics" => "named_metrics",
            "requestCost" => "request_cost",
            name => name,
        };
        match value {
            Value::Object(map) => {
                for (own, value) in map {
                    sink.take(name, own, number(value));
                }
            }
            value => sink.take("", name, number(value)),
        }
    }
}

/// What is no number is not one that is taken.
fn number(value: &Value) -> f64 {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.unwrap_or(f64::NAN)
}
