//! The routes, the judgement of answers, and that the published description says the same.

use hyper::body::Bytes;
use serde_json::Value;

use super::*;
use crate::remote::contract::{Condition, Listed};

const ALL: [Operation; 8] = [
    Operation::Create,
    Operation::List,
    Operation::Freeze,
    Operation::Thaw,
    Operation::Resize,
    Operation::Snapshot,
    Operation::Discard,
    Operation::Destroy,
];

fn description() -> Value {
    let text = include_str!("../../../../docs/provider.openapi.json");
    serde_json::from_str(text).unwrap()
}

fn names(value: &Value) -> Vec<String> {
    let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

fn full() -> Request {
    let text = || Some("x".to_owned());
    Request {
        owner: "o".to_owned(),
        instance: text(),
        service: text(),
        tier: text(),
        snapshot: text(),
        cpu_percent: Some(1),
        concurrency: Some(1),
        grace_ms: Some(1),
        known: text(),
        wait_ms: Some(1),
        primaries: None,
    }
}

#[test]
fn the_description_has_these_operations_and_no_others() {
    let document = description();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut described: Vec<(String, String, String)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method != "parameters" {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                described.push((id, method.clone(), path.clone()));
            }
        }
    }
    let mut ours: Vec<_> = ALL
        .iter()
        .map(|operation| {
            let (method, path) = route(*operation);
            (operation.word().to_owned(), method.as_str().to_lowercase(), path.to_owned())
        })
        .collect();
    described.sort();
    ours.sort();
    assert_eq!(described, ours);
}

#[test]
fn the_description_has_the_fields_that_are_sent_and_read() {
    let document = description();
    let schemas = &document["components"]["schemas"];
    let body =
        serde_json::to_value(Request { grace_ms: None, known: None, wait_ms: None, ..full() });
    assert_eq!(names(&schemas["Request"]["properties"]), names(&body.unwrap()));
    assert_eq!(query(&full()), "?known=x&wait_ms=1&grace_ms=1");
    let mut in_query = Vec::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "query" {
                    in_query.push(parameter["name"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    in_query.sort();
    assert_eq!(in_query, ["grace_ms", "known", "wait_ms"]);

    // Each described field is read, and no value but those described.
    let instance = &schemas["Instance"];
    let fields = ["address", "detail", "instance", "log", "pid", "service", "state"];
    assert_eq!(names(&instance["properties"]), fields);
    assert_eq!(instance["required"], serde_json::json!(["instance"]));
    let example: Listed = serde_json::from_value(instance["example"].clone()).unwrap();
    assert!(example.address.is_some() && example.pid.is_some() && example.detail.is_some());
    assert!(example.service.is_some() && !example.log.is_empty() && example.id().is_some());
    for state in instance["properties"]["state"]["enum"].as_array().unwrap() {
        serde_json::from_value::<Condition>(state.clone()).unwrap();
    }
    assert_eq!(instance["properties"]["state"]["enum"].as_array().unwrap().len(), 4);
    assert_eq!(names(&schemas["List"]["properties"]), ["instances", "version"]);
    let failure = &schemas["Failure"]["properties"]["error"]["properties"];
    assert_eq!(names(failure), ["kind", "message"]);
    for kind in failure["kind"]["enum"].as_array().unwrap() {
        let told = serde_json::json!({ "error": { "kind": kind, "message": "" } });
        let told: Failure = serde_json::from_value(told).unwrap();
        assert!(told.error.cause().is_some(), "{kind}");
    }
    assert_eq!(failure["kind"]["enum"].as_array().unwrap().len(), 6);
}

fn answer(status: u16, body: &str, retry_after: Option<u64>) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: retry_after.map(Duration::from_secs),
        body: Bytes::from(body.to_owned()),
    }
}

#[test]
fn answers_are_judged_by_what_they_say_and_then_by_their_status() {
    let of = |status, body: &str| {
        judged(Operation::Create, &answer(status, body, None)).err().map(|r| (r.cause, r.passes))
    };
    assert_eq!(of(200, "{}"), None);
    assert_eq!(of(204, ""), None);
    assert_eq!(of(200, "<html>"), Some((Cause::Malformed, false)));
    assert_eq!(of(401, ""), Some((Cause::Denied, false)));
    assert_eq!(of(404, ""), Some((Cause::Failed, false)));
    assert_eq!(of(429, ""), Some((Cause::Busy, true)));
    assert_eq!(of(500, "oops"), Some((Cause::Failed, true)));
    assert_eq!(of(503, ""), Some((Cause::Busy, true)));
    assert_eq!(of(507, ""), Some((Cause::DiskFull, false)));
    let quota = r#"{"error": {"kind": "quota", "message": "4 of 4"}}"#;
    assert_eq!(of(429, quota), Some((Cause::Quota, false)));
    for operation in [Operation::Destroy, Operation::Discard] {
        assert!(judged(operation, &answer(404, "x", None)).is_ok());
        assert!(judged(operation, &answer(410, "", None)).is_ok());
    }
    let busy = judged(Operation::Thaw, &answer(429, quota, Some(7))).err().unwrap();
    assert_eq!(busy.after, Some(Duration::from_secs(7)));
    let text = "429 Too Many Requests: 4 of 4, to be asked again after 7 s";
    assert_eq!(busy.came_back, text);
}

#[test]
fn a_version_of_any_text_survives_the_query() {
    assert_eq!(escaped("a/b c&d=é"), "a%2Fb%20c%26d%3D%C3%A9");
}
