//! What is told about pods of a service, and how their cluster is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::hash::fnv1a;

/// How pods of a service are made.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesSpec {
    /// How the API server is reached.
    pub access: ClusterAccess,
    /// The namespace that pods are made in, by name.
    pub namespace: String,
    /// What a pod is like.
    pub pod: PodSource,
    /// The container that serves, by name; absent: the first.
    pub container: Option<String>,
    /// The port it serves on.
    pub port: u16,
    /// Added to a pod's labels, such as those that a Service selects by.
    pub labels: BTreeMap<String, String>,
    /// How long the lease on what is ours there is good for without being renewed; whole seconds.
    pub lease: Duration,
    /// Longest time for one answer of the API server; ending has its grace on top.
    pub timeout: Duration,
    /// Longest time from the order for a pod until its container runs.
    pub schedule_timeout: Duration,
}

impl Default for KubernetesSpec {
    /// An image without a name in the namespace `default`, reached as a pod of the cluster; port 8080,
    /// 15 s of lease, 30 s an answer, 2 min until it runs.
    fn default() -> Self {
        Self {
            access: ClusterAccess::InCluster,
            namespace: "default".to_owned(),
            pod: PodSource::Image(PodImage::default()),
            container: None,
            port: 8080,
            labels: BTreeMap::new(),
            lease: Duration::from_secs(15),
            timeout: Duration::from_secs(30),
            schedule_timeout: Duration::from_secs(120),
        }
    }
}

impl KubernetesSpec {
    /// Everything that makes a difference to instances, hashed since it may hold secrets. How the
    /// cluster is reached makes none.
    pub(super) fn fingerprint(&self) -> String {
        let Self { namespace, pod, container, port, labels, .. } = self;
        fnv1a(format!("{namespace:?}{pod:?}{container:?}{port}{labels:?}").into_bytes())
    }
}

/// How an API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterAccess {
    /// With the account that this process has as a pod of the cluster.
    InCluster,
    /// As a file says.
    Kubeconfig {
        /// The file, read anew when the account is not known, nobody answers, or it has changed.
        path: PathBuf,
        /// One of its contexts; absent: the current one.
        context: Option<String>,
    },
}

impl fmt::Display for ClusterAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster => write!(f, "of this pod"),
            Self::Kubeconfig { path, context: None } => write!(f, "of {}", path.display()),
            Self::Kubeconfig { path, context: Some(context) } => {
                write!(f, "of context {context} in {}", path.display())
            }
        }
    }
}

/// What a pod is like.
#[derive(Clone, Debug, PartialEq)]
pub enum PodSource {
    /// One container.
    Image(PodImage),
    /// A `PodTemplateSpec`: `metadata` and `spec`. `{port}`, `{id}` and `{service}` are replaced in
    /// its containers' `command`, `args` and values of `env`.
    Template(serde_json::Value),
    /// As the template of the Deployment of that name is when the pod is made.
    Deployment(String),
    /// Taken out of the Deployment of that name, which keeps its replicas running and makes another in the
    /// place of each. Its template must have the readiness gate `foreshadow.dev/active`.
    Claim(String),
}

/// A pod of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodImage {
    /// The image, as the cluster's nodes pull it.
    pub image: String,
    /// Replaces the image's own command where it is not empty. `{port}`, `{id}` and `{service}` are
    /// replaced in each word; so they are in the values of `env`.
    pub command: Vec<String>,
    /// Added to the image's environment; `PORT` is always set.
    pub env: Vec<(String, String)>,
    /// Processor time at full size, in thousandths of a core: both asked for and the limit. Without
    /// it pods cannot be resized.
    pub cpu_millis: Option<u32>,
    /// Memory, in bytes: both asked for and the limit.
    pub memory_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_instances_differ_is_in_the_fingerprint() {
        let spec = KubernetesSpec::default();
        let path = "/other".into();
        let reached = KubernetesSpec {
            access: ClusterAccess::Kubeconfig { path, context: None },
            timeout: Duration::from_secs(1),
            ..spec.clone()
        };
        assert_eq!(spec.fingerprint(), reached.fingerprint());
        let other = KubernetesSpec { port: 81, ..spec.clone() };
        assert_ne!(spec.fingerprint(), other.fingerprint());
        let pod = PodSource::Deployment("shop".to_owned());
        assert_ne!(spec.fingerprint(), KubernetesSpec { pod, ..spec.clone() }.fingerprint());
    }
}
