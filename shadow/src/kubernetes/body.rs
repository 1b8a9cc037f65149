//! Settings into the bodies of the API.

use foreshadow_control::{InstanceId, ServiceName};
use serde_json::{Map, Value, json};

use super::size::{self, Size};
use super::spec::{KubernetesSpec, PodImage, PodSource};
use crate::provider::CreateRequest;

/// Whose a pod is: the same text for the life of a state directory, wherever that is.
pub(super) const OWNER: &str = "foreshadow.dev/owner";
pub(super) const SERVICE: &str = "foreshadow.dev/service";
pub(super) const INSTANCE: &str = "foreshadow.dev/instance";
/// Who wanted a pod last and did not get it; a change without effect would not change its version.
const PASSED_OVER: &str = "foreshadow.dev/passed-over";
/// Cluster Autoscaler, "What types of pods can prevent CA from removing a node?".
const MAY_BE_EVICTED: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The condition that a pod is not ready without, for Services of the cluster.
pub(super) const ACTIVE: &str = "foreshadow.dev/active";
/// By which a ReplicaSet knows its own: it would take a pod that has it.
pub(super) const TEMPLATE_HASH: &str = "pod-template-hash";
/// The longest value of a label (Kubernetes, `apimachinery/pkg/util/validation`).
const LONGEST_LABEL: usize = 63;

/// The name of an instance's pod: a namespace has one of that name only.
pub(super) fn pod_name(owner: &str, id: InstanceId) -> String {
    format!("foreshadow-{owner}-{id}")
}

/// The name of what shows who owns the pods of `owner`.
pub(super) fn lease_name(owner: &str) -> String {
    format!("foreshadow-{owner}")
}

/// A selector of what is ours.
pub(super) fn selector(owner: &str) -> String {
    format!("{OWNER}={owner}")
}

/// A service's name as a label may hold it; the annotation has it whole.
fn label(service: &ServiceName) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let short: String = service.as_str().chars().take(LONGEST_LABEL).map(plain).collect();
    short.trim_matches(['-', '_', '.']).to_owned()
}

/// A pod to be made, and what of it must be known later.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) pod: Value,
    /// The container that serves.
    pub(super) container: String,
    pub(super) size: Option<Size>,
}

/// The pod of an instance. `template` is that of the Deployment which is mirrored, as it is now.
pub(super) fn pod(
    spec: &KubernetesSpec,
    owner: &str,
    request: &CreateRequest,
    template: Option<Value>,
) -> Result<Made, String> {
    let (mut pod, fills) = match (&spec.pod, template) {
        (PodSource::Image(image), _) => (json!({ "spec": { "containers": [of(image)] } }), true),
        (PodSource::Template(template), _) => (template.clone(), true),
        (PodSource::Deployment(_), Some(template)) => (template, false),
        (PodSource::Deployment(name) | PodSource::Claim(name), _) => {
            return Err(format!("deployment {name} is not known"));
        }
    };
    let root = pod.as_object_mut().ok_or("its template is not a table")?;
    root.insert("apiVersion".to_owned(), "v1".into());
    root.insert("kind".to_owned(), "Pod".into());
    root.remove("status");
    let name = pod_name(owner, request.id);
    let metadata = table(root, "metadata")?;
    for own in ["generateName", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(own);
    }
    metadata.insert("name".to_owned(), name.into());
    let labels = table(metadata, "labels")?;
    labels.remove(TEMPLATE_HASH);
    let instance = request.id.to_string();
    labels.extend(own_labels(spec, owner, request));
    // Services of charts select by what their own pods have there.
    labels.entry(MANAGED_BY).or_insert_with(|| "foreshadow".into());
    let annotations = table(metadata, "annotations")?;
    annotations.insert(SERVICE.to_owned(), request.service.as_str().into());
    // A bare pod would keep its node from being scaled down.
    annotations.entry(MAY_BE_EVICTED).or_insert_with(|| "true".into());
    let body = table(root, "spec")?;
    // One that was started again would not know of its tier.
    body.insert("restartPolicy".to_owned(), "Never".into());
    let gates = list(body, "readinessGates")?;
    if !gates.iter().any(|gate| gate["conditionType"] == ACTIVE) {
        gates.push(json!({ "conditionType": ACTIVE }));
    }
    let containers = list(body, "containers")?;
    let fill = |text: &str| {
        text.replace("{port}", &spec.port.to_string())
            .replace("{id}", &instance)
            .replace("{service}", request.service.as_str())
    };
    if fills {
        containers.iter_mut().for_each(|one| fill_in(one, &fill));
    }
    let serving = match &spec.container {
        Some(name) => containers.iter_mut().find(|one| one["name"] == name.as_str()),
        None => containers.first_mut(),
    };
    let serving = serving.ok_or_else(|| {
        let wanted = spec.container.as_deref().unwrap_or("at all");
        format!("its template has no container {wanted}")
    })?;
    let serving = serving.as_object_mut().ok_or("a container of its template is not a table")?;
    if fills {
        let env = list(serving, "env")?;
        if !env.iter().any(|one| one["name"] == "PORT") {
            env.push(json!({ "name": "PORT", "value": spec.port.to_string() }));
        }
    }
    let size = size::of(serving);
    let container = serving.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Made { pod, container, size })
}

fn own_labels(spec: &KubernetesSpec, owner: &str, request: &CreateRequest) -> Map<String, Value> {
    let given = spec.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone())));
    let own = [
        (OWNER, owner.to_owned()),
        (SERVICE, label(&request.service)),
        (INSTANCE, request.id.to_string()),
    ];
    given.chain(own.map(|(key, value)| (key.to_owned(), value.into()))).collect()
}

/// The body that makes a pod of a Deployment ours, if it is as it was seen.
pub(super) fn claim(
    spec: &KubernetesSpec,
    owner: &str,
    request: &CreateRequest,
    uid: &str,
    version: &str,
) -> Value {
    let mut labels = own_labels(spec, owner, request);
    labels.insert(TEMPLATE_HASH.to_owned(), Value::Null);
    json!({ "metadata": {
        "uid": uid,
        "resourceVersion": version,
        "labels": labels,
        "annotations": { SERVICE: request.service.as_str() },
    } })
}

/// The body that gives a pod which was not taken another version, and changes nothing else that counts.
pub(super) fn pass_over(uid: &str, version: &str, by: InstanceId) -> Value {
    let nonce = format!("{by}-{:08x}", rand::random::<u32>());
    json!({ "metadata": {
        "uid": uid,
        "resourceVersion": version,
        "annotations": { PASSED_OVER: nonce },
    } })
}

fn of(image: &PodImage) -> Value {
    let mut container = json!({ "name": "shadow", "image": image.image });
    if !image.command.is_empty() {
        container["command"] = image.command.clone().into();
    }
    let env = image.env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    container["env"] = env.collect();
    let mut amounts = Map::new();
    if let Some(cpu) = image.cpu_millis {
        amounts.insert("cpu".to_owned(), format!("{cpu}m").into());
    }
    if let Some(memory) = image.memory_bytes {
        amounts.insert("memory".to_owned(), memory.to_string().into());
    }
    if !amounts.is_empty() {
        container["resources"] = json!({ "requests": amounts, "limits": amounts });
    }
    container
}

/// Replaces the placeholders in what a container is told.
fn fill_in(container: &mut Value, fill: &impl Fn(&str) -> String) {
    let change = |value: &mut Value| {
        if let Value::String(text) = value {
            *text = fill(text);
        }
    };
    for key in ["command", "args"] {
        container.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    }
    let env = container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten();
    env.filter_map(|one| one.get_mut("value")).for_each(change);
}

fn table<'a>(
    of: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, String> {
    let value = of.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| format!("{key} of its template is not a table"))
}

fn list<'a>(of: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, String> {
    let value = of.entry(key).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| format!("{key} of its template is not a list"))
}

/// The body that opens or closes the gate of a pod. `now` is a time as the API writes it.
pub(super) fn gate(active: bool, now: &str) -> Value {
    let (status, reason) = if active { ("True", "Activated") } else { ("False", "Parked") };
    let condition = json!({
        "type": ACTIVE, "status": status, "reason": reason, "lastTransitionTime": now,
    });
    json!({ "status": { "conditions": [condition] } })
}

#[cfg(test)]
mod tests {
    use foreshadow_control::Tier;

    use super::*;

    fn request() -> CreateRequest {
        let service = ServiceName::from("shop");
        CreateRequest { id: InstanceId(7), service, tier: Tier::Warm, from: None }
    }

    fn made(spec: &KubernetesSpec, template: Option<Value>) -> Made {
        pod(spec, "0a1b", &request(), template).unwrap()
    }

    #[test]
    fn a_pod_of_an_image_is_labelled_gated_told_its_port_and_never_started_by_others() {
        let image = PodImage {
            image: "shop:1".to_owned(),
            command: vec!["./shop".to_owned(), "--port={port}".to_owned()],
            env: vec![("NAME".to_owned(), "{service}-{id}".to_owned())],
            cpu_millis: Some(1_500),
            memory_bytes: Some(64 << 20),
        };
        let labels = [("app".to_owned(), "shop".to_owned())].into();
        let spec = KubernetesSpec { pod: PodSource::Image(image), labels, ..Default::default() };
        let Made { pod, container, size } = made(&spec, None);
        assert_eq!(pod["metadata"]["name"], "foreshadow-0a1b-i7");
        let labels = json!({
            OWNER: "0a1b", SERVICE: "shop", INSTANCE: "i7", MANAGED_BY: "foreshadow", "app": "shop",
        });
        assert_eq!(pod["metadata"]["labels"], labels);
        assert_eq!(pod["metadata"]["annotations"][MAY_BE_EVICTED], "true");
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["readinessGates"], json!([{ "conditionType": ACTIVE }]));
        let one = &pod["spec"]["containers"][0];
        assert_eq!(one["command"], json!(["./shop", "--port=8080"]));
        let env = json!([{"name": "NAME", "value": "shop-i7"}, {"name": "PORT", "value": "8080"}]);
        assert_eq!(one["env"], env);
        let amounts = json!({ "cpu": "1500m", "memory": "67108864" });
        assert_eq!(one["resources"], json!({ "requests": amounts, "limits": amounts }));
        assert_eq!((container.as_str(), size.unwrap().limit), ("shadow", 1_500));
    }

    #[test]
    fn a_mirrored_template_stays_as_it_is_but_for_what_makes_it_ours() {
        let template = json!({
            "metadata": {
                "labels": {
                    "app": "shop", "pod-template-hash": "x", "app.kubernetes.io/managed-by": "Helm",
                },
                "annotations": { "cluster-autoscaler.kubernetes.io/safe-to-evict": "false" },
                "creationTimestamp": null,
            },
            "spec": {
                "restartPolicy": "Always",
                "newerThanWeAre": { "a": 1 },
                "containers": [
                    { "name": "side", "image": "side:1" },
                    { "name": "main", "image": "shop:2", "args": ["{port}"],
                      "resources": { "limits": { "cpu": "2" }, "requests": { "cpu": "500m" } } },
                ],
            },
        });
        let spec = KubernetesSpec {
            pod: PodSource::Deployment("shop".to_owned()),
            container: Some("main".to_owned()),
            ..Default::default()
        };
        let Made { pod, container, size } = made(&spec, Some(template));
        assert_eq!(pod["spec"]["newerThanWeAre"]["a"], 1);
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["containers"][1]["args"], json!(["{port}"]));
        assert_eq!(pod["spec"]["containers"][1].get("env"), None);
        let labels = &pod["metadata"]["labels"];
        assert_eq!((&labels["app"], labels.get("pod-template-hash")), (&"shop".into(), None));
        assert_eq!(labels[MANAGED_BY], "Helm");
        assert_eq!(pod["metadata"]["annotations"][MAY_BE_EVICTED], "false");
        assert_eq!(container, "main");
        assert_eq!(size, Some(Size { request: 500, limit: 2_000 }));
    }

    #[test]
    fn templates_that_are_none_are_refused_in_words() {
        let of = |template: Value| {
            let pod = PodSource::Template(template);
            super::pod(&KubernetesSpec { pod, ..Default::default() }, "o", &request(), None)
                .unwrap_err()
        };
        assert_eq!(of(json!([])), "its template is not a table");
        assert_eq!(of(json!({ "spec": 1 })), "spec of its template is not a table");
        assert_eq!(of(json!({ "spec": {} })), "its template has no container at all");
        assert_eq!(
            of(json!({ "spec": { "containers": {} } })),
            "containers of its template is not a list"
        );
    }

    #[test]
    fn odd_names_of_services_make_good_labels() {
        assert_eq!(label(&ServiceName::from("a b/c")), "a_b_c");
        assert_eq!(label(&ServiceName::from("-x-")), "x");
        assert_eq!(label(&ServiceName::from("x".repeat(200).as_str())).len(), 63);
    }
}
