//! Settings into the bodies of the API.

use foreshadow_control::{InstanceId, ServiceName};
use serde_json::{Map, Value, json};

use super::seen;
use super::spec::{KubernetesSpec, PodImage, PodSource};
use crate::provider::{CpuShare, CreateRequest};

/// Whose a pod is: the same text for the life of a state directory, wherever that is.
pub(super) const OWNER: &str = "foreshadow.dev/owner";
pub(super) const SERVICE: &str = "foreshadow.dev/service";
pub(super) const INSTANCE: &str = "foreshadow.dev/instance";
/// Who wanted a pod last and did not get it; a change without effect would not change its version.
const PASSED_OVER: &str = "foreshadow.dev/passed-over";
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

/// Processor time of a container at full size, in thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Size {
    pub(super) request: u32,
    pub(super) limit: u32,
}

impl Size {
    /// What it is at a share of one core. The two keep their proportion: a pod may not change into
    /// another class of service (Kubernetes, `pkg/apis/core/validation`).
    pub(super) fn at(self, share: CpuShare) -> Self {
        let limit = match share {
            CpuShare::Percent(percent) => percent.saturating_mul(10).clamp(2, self.limit.max(2)),
            CpuShare::Unlimited => return self,
        };
        if self.request == self.limit {
            return Self { request: limit, limit };
        }
        let request = u64::from(limit) * u64::from(self.request) / u64::from(self.limit.max(1));
        // Below the limit, as it was.
        let request = u32::try_from(request).unwrap_or(u32::MAX).min(limit - 1);
        Self { request: if self.request == 0 { 0 } else { request.max(1) }, limit }
    }

    /// The body that gives a container this size.
    pub(super) fn patch(self, container: &str) -> Value {
        let mut resources = json!({ "limits": { "cpu": format!("{}m", self.limit) } });
        if self.request > 0 {
            resources["requests"] = json!({ "cpu": format!("{}m", self.request) });
        }
        json!({ "spec": { "containers": [{ "name": container, "resources": resources }] } })
    }
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
    table(metadata, "annotations")?.insert(SERVICE.to_owned(), request.service.as_str().into());
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
    let size = size(serving);
    let container = serving.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Made { pod, container, size })
}

fn own_labels(spec: &KubernetesSpec, owner: &str, request: &CreateRequest) -> Map<String, Value> {
    let given = spec.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone())));
    let own = [
        (OWNER, owner.to_owned()),
        (SERVICE, label(&request.service)),
        (INSTANCE, request.id.to_string()),
        (MANAGED_BY, "foreshadow".to_owned()),
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

/// The processor time of a container; absent where nothing limits it: then there is no size to go
/// back to, since a limit that was added cannot be taken away again.
pub(super) fn size(container: &Map<String, Value>) -> Option<Size> {
    let resources = container.get("resources")?;
    let amount = |kind: &str| match &resources[kind]["cpu"] {
        Value::String(text) => seen::millis(text),
        Value::Number(number) => seen::millis(&number.to_string()),
        _ => None,
    };
    let limit = amount("limits").filter(|limit| *limit > 0)?;
    // What is not asked for is taken to be the limit (Kubernetes, `pkg/apis/core/v1/defaults`).
    Some(Size { request: amount("requests").unwrap_or(limit), limit })
}

/// The same of a container of a pod's `spec`.
pub(super) fn size_of(spec: &Value, container: &str) -> Option<Size> {
    let mut all = spec.get("containers")?.as_array()?.iter();
    size(all.find(|one| one["name"] == container)?.as_object()?)
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
            "metadata": { "labels": { "app": "shop", "pod-template-hash": "x" }, "creationTimestamp": null },
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
    fn a_share_keeps_the_class_of_service() {
        let equal = Size { request: 2_000, limit: 2_000 };
        assert_eq!(equal.at(CpuShare::Percent(20)), Size { request: 200, limit: 200 });
        assert_eq!(equal.at(CpuShare::Unlimited), equal);
        let less = Size { request: 500, limit: 2_000 };
        assert_eq!(less.at(CpuShare::Percent(20)), Size { request: 50, limit: 200 });
        assert_eq!(less.at(CpuShare::Percent(900)).limit, 2_000, "never above full size");
        let close = Size { request: 1_999, limit: 2_000 };
        let small = close.at(CpuShare::Percent(1));
        assert!(small.request < small.limit && small.request > 0, "{small:?}");
        let none = Size { request: 0, limit: 2_000 };
        assert_eq!(none.at(CpuShare::Percent(20)), Size { request: 0, limit: 200 });
    }

    #[test]
    fn odd_names_of_services_make_good_labels() {
        assert_eq!(label(&ServiceName::from("a b/c")), "a_b_c");
        assert_eq!(label(&ServiceName::from("-x-")), "x");
        assert_eq!(label(&ServiceName::from("x".repeat(200).as_str())).len(), 63);
    }
}
