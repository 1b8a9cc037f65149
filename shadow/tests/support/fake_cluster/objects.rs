//! Selecting and merging objects, as far as the provider and the kubelet of the tests need it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Whether an object has the labels that a query asks for.
pub(super) fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let Some(selector) = query.get("labelSelector") else { return true };
    let labels = &object["metadata"]["labels"];
    let is_in = |name: &str, values: &str| {
        let value = labels[name].as_str();
        value.is_some_and(|value| values.trim_matches(['(', ')']).split(',').any(|v| v == value))
    };
    terms(selector).into_iter().all(|one| {
        if let Some(absent) = one.strip_prefix('!') {
            return labels[absent].is_null();
        }
        if let Some((name, values)) = one.split_once(" notin ") {
            return !is_in(name, values);
        }
        if let Some((name, values)) = one.split_once(" in ") {
            return is_in(name, values);
        }
        match one.split_once('=') {
            Some((name, value)) => labels[name] == value,
            None => !labels[one].is_null(),
        }
    })
}

/// What a workload's scale shows (autoscaling/v1).
pub(super) fn scale(object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"].as_object().cloned().unwrap_or_default();
    let terms = labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap()));
    let replicas = &object["spec"]["replicas"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": object["metadata"],
        "spec": { "replicas": replicas },
        "status": { "replicas": replicas, "selector": terms.collect::<Vec<_>>().join(",") },
    })
}

/// A selector at its commas, but for those in braces.
fn terms(selector: &str) -> Vec<&str> {
    let (mut terms, mut begin, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&selector[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[begin..]);
    terms
}

/// A strategic merge: conditions by their type, containers by their name, other lists as a whole.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(key);
            continue;
        }
        let by = match key.as_str() {
            "conditions" => Some("type"),
            "containers" => Some("name"),
            _ => None,
        };
        let slot = &mut target[key];
        match (by, change, slot.as_array_mut()) {
            (Some(by), Value::Array(changes), Some(all)) => {
                for change in changes {
                    match all.iter_mut().find(|one| one[by] == change[by]) {
                        Some(one) => merge(one, change),
                        None => all.push(change.clone()),
                    }
                }
            }
            _ => merge(slot, change),
        }
    }
}
