//! Pods of a Kubernetes cluster as written.

use serde_json::Value as Json;

use super::leaf::leaf;
use super::read::table;
use super::{Bytes, Count, Factor, FilePath, List, Map, RawCpu, Read, Text, Time, Word};
use crate::reader::{Problem, Reader, Scalar, quote};
use crate::tree::{Node, Value};

leaf! {
    /// The name of an object of a cluster.
    ObjectName(String), "a name of small letters, digits and -, as a cluster gives them",
    { "type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$|\\$\\{" },
    |scalar| scalar.text().filter(|text| is_object_name(text)).map(str::to_owned)
}

/// Names as an API server takes them (Kubernetes, "Object Names and IDs").
pub(crate) fn is_object_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|b| plain(*b))
            && bytes.last().is_some_and(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || *b == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// What a pod is like, in the words of the cluster's API; only what Foreshadow relies on is checked here,
/// the API server knows the rest.
#[derive(Debug)]
pub(crate) struct PodTemplate(pub(crate) Json);

const TEMPLATE: &str = "a pod template: a table with metadata and spec";

impl Read for PodTemplate {
    fn form() -> String {
        TEMPLATE.to_owned()
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        for entry in r.entries(node, TEMPLATE)? {
            if !["apiVersion", "kind", "metadata", "spec"].contains(&entry.key.as_str()) {
                let found = format!("unknown key {}", quote(&entry.key));
                let problem = Problem::new(found, "metadata or spec");
                let help = "a template is written as below spec.template of a Deployment";
                r.below(&entry.key, &entry.key_span, |r| {
                    r.fault(&entry.key_span, problem.help(help));
                });
            }
        }
        check_spec(node, r);
        json(node, r).map(Self)
    }
}

fn check_spec(node: &Node, r: &mut Reader<'_>) {
    let Some(spec) = value(node, "spec") else {
        return r.fault(&node.span.clone(), Problem::new("no \"spec\"", "a table with containers"));
    };
    if let Some(policy) = value(spec, "restartPolicy")
        && !matches!(&policy.value, Value::Text(text) if text == "Never")
    {
        let problem = Problem::new("another restartPolicy", "restartPolicy: Never, or none");
        r.fault(&policy.span, problem.help("a shadow is never started again; another one is made"));
    }
    let Some(Node { value: Value::List(containers), span }) = value(spec, "containers") else {
        return r.fault(&spec.span, Problem::new("no \"containers\"", "a list of containers"));
    };
    if containers.is_empty() {
        r.fault(span, Problem::new("an empty list", "at least one container"));
    }
    for container in containers {
        for key in ["name", "image"] {
            if !matches!(value(container, key), Some(Node { value: Value::Text(_), .. })) {
                let problem = Problem::new(format!("a container without {key}"), "name and image");
                r.fault(&container.span, problem);
            }
        }
    }
}

fn value<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Table(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

/// A tree of any form; what is nothing is left out.
fn json(node: &Node, r: &mut Reader<'_>) -> Option<Json> {
    match &node.value {
        Value::Table(_) => {
            let mut table = serde_json::Map::new();
            for entry in r.entries(node, "a table")? {
                let read = |r: &mut Reader<'_>| json(&entry.value, r);
                if let Some(value) = r.below(&entry.key, &entry.key_span, read) {
                    table.insert(entry.key.clone(), value);
                }
            }
            Some(Json::Object(table))
        }
        Value::List(items) => {
            let each = items.iter().enumerate().filter_map(|(index, item)| {
                r.below(&format!("[{index}]"), &item.span, |r| json(item, r))
            });
            Some(Json::Array(each.collect()))
        }
        Value::Null => None,
        _ => Some(match r.scalar(node, "a value")? {
            Scalar::Bool(bool) => bool.into(),
            Scalar::Integer(integer) => integer.into(),
            Scalar::Float(float) => float.into(),
            Scalar::Text(text, _) => text.into_owned().into(),
        }),
    }
}

/// Any value of JSON but null.
struct AnyValue;

impl schemars::JsonSchema for AnyValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyValue".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let any = generator.subschema_for::<Self>();
        schemars::json_schema!({
            "type": ["string", "number", "boolean", "array", "object"],
            "items": any,
            "additionalProperties": any,
        })
    }
}

impl schemars::JsonSchema for PodTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let any = generator.subschema_for::<AnyValue>();
        schemars::json_schema!({ "type": "object", "additionalProperties": any })
    }
}

table! {
    /// Pods of a Kubernetes cluster: one each, of an image, a template or the template of a Deployment, or
    /// taken out of a Deployment.
    /// In command, args and values of env of an image or a template, {port}, {id} and {service} stand
    /// for those of the instance.
    RawKubernetes {
        /// The kubeconfig file that says how the cluster is reached. Default: with the account that
        /// Foreshadow has as a pod of the cluster.
        kubeconfig: FilePath,
        /// One of its contexts. Default: the current one.
        context: Word,
        /// The namespace that pods are made in.
        namespace: ObjectName = required,
        /// The image of a pod with one container; or template, mirror or claim.
        image: Text,
        /// Replaces the image's own command. Default: that of the image.
        command: List<Word>,
        /// Added to the image's environment; PORT is always set.
        env: Map<Word>,
        /// What the container asks for and is limited to at full size.
        limits: RawPodLimits,
        /// A pod template as it stands below spec.template of a Deployment; PORT is set in the
        /// container that serves. Instead of image.
        template: PodTemplate,
        /// A Deployment of that namespace: its template, as it is when a pod is made. Instead of image.
        mirror: ObjectName,
        /// A Deployment of that namespace that keeps pods ready, whose template has the readiness gate
        /// foreshadow.dev/active: running pods are taken out of it, and it makes others in their place.
        /// Instead of image.
        claim: ObjectName,
        /// The container that serves, of several. Default: the first.
        container: ObjectName,
        /// The port it serves on.
        port: Count = required,
        /// Added to the labels of pods, such as those that a Service selects by.
        labels: Map<Word>,
        /// How long the lease on this state directory's pods is good for without being renewed, 3s to
        /// 10m. Default: 15s.
        lease: Time,
        /// Longest time for one answer of the API server, 100ms to 1h; ending has stop_timeout on top.
        /// Default: 30s.
        timeout: Time,
        /// Longest time from the order for a pod until its container runs, up to 1h. Default: 2m.
        schedule_timeout: Time,
        /// Longest time from then until its health check passes, up to 1h. Default: 30s.
        start_timeout: Time,
        /// Time between SIGTERM and SIGKILL, up to 1h. Default: 10s.
        stop_timeout: Time,
        /// CPU by tier, where the API server can resize pods (1.33 and newer) and limits has cpus.
        cpu: RawCpu,
    }
}

table! {
    /// What a container asks for, and is limited to. Default: nothing.
    RawPodLimits {
        /// Cores at full size, 0.01 to 1024.
        cpus: Factor,
        /// Memory, 6MiB or more.
        memory: Bytes,
    }
}
