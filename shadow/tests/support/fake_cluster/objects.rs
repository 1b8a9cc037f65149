//! Selecting and merging objects, as far as the provider and the kubelet of the tests need it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Whether an object has the labels that a query asks for.
pub(super) fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let Some(selector) = query.get("labelSelector") else { return true };
    let labels = &object["metadata"]["labels"];
    selector.split(',').all(|one| match (one.strip_prefix('!'), one.split_once('=')) {
        (Some(absent), _) => labels[absent].is_null(),
        (None, pair) => pair.is_some_and(|(name, value)| labels[name] == value),
    })
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
