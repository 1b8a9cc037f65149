//! Pods of a Kubernetes cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::CpuShare;
use crate::units;

/// Instances as pods of a Kubernetes cluster. Exactly one of `image`, `template`, `mirror` and
/// `claim` is there.
///
/// `command` and the values of `env` may hold `{port}`, `{id}` and `{service}`, here and in a template.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KubernetesProvider {
    /// How the cluster is reached; absent: as a pod of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// Absent: the current one. Only with `kubeconfig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace of pods.
    pub namespace: String,
    /// Of a pod with one container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Empty: the image's own. Only with `image`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Added to the image's environment; only with `image`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What the container asks for and is limited to; only with `image`.
    #[serde(skip_serializing_if = "PodLimits::is_empty")]
    pub limits: PodLimits,
    /// A `PodTemplateSpec` with at least one container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<serde_json::Value>,
    /// A Deployment whose template is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// A Deployment whose pods are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The container that serves; absent: the first. Never with `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Where it serves; at least 1.
    pub port: u16,
    /// Added to the labels of pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long the lease is good for without being renewed.
    #[serde(serialize_with = "units::duration::serialize")]
    pub lease: Duration,
    /// Longest time for one answer of the API server.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// Longest time from the order for a pod until its container runs.
    #[serde(serialize_with = "units::duration::serialize")]
    pub schedule_timeout: Duration,
    /// Longest time from then until its health check passes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub start_timeout: Duration,
    /// Time between the polite signal and the last one.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stop_timeout: Duration,
    /// CPU by tier.
    pub cpu: CpuShare,
}

/// What a container asks for and is limited to; absent: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PodLimits {
    /// Cores at full size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::size::optional")]
    pub memory: Option<u64>,
}

impl PodLimits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
