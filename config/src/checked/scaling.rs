//! How the primaries of a service are scaled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use foreshadow_control::ScalingSpec;
use serde::Serialize;

use super::{Endpoint, Token};
use crate::units;

/// How primaries are scaled by the service's own means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// What scales them.
    pub by: ScalingBy,
    /// Never fewer; absent: the number found before the first order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Never more; at least `min`.
    pub max: u32,
    /// Share of its capacity that a primary is to be filled to.
    #[serde(serialize_with = "units::percent::serialize")]
    pub target: f64,
    /// From an order to primaries that are ready, until that was seen.
    #[serde(serialize_with = "units::duration::serialize")]
    pub lead_time: Duration,
    /// Fewer must have been needed for this long before one goes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stabilisation: Duration,
    /// Least time between two steps down.
    #[serde(serialize_with = "units::duration::serialize")]
    pub cooldown: Duration,
    /// Most primaries that are added before those asked for are ready.
    pub max_step: u32,
    /// How long a number that somebody else has set is respected.
    #[serde(serialize_with = "units::duration::serialize")]
    pub respect: Duration,
    /// Time between two looks at what there is.
    #[serde(serialize_with = "units::duration::serialize")]
    pub poll: Duration,
}

/// What scales primaries.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalingBy {
    /// An HTTP endpoint.
    Webhook(ScalingWebhook),
    /// A command.
    Exec(ScalingExec),
    /// A workload of a cluster.
    Kubernetes(ScalingKubernetes),
}

/// An HTTP endpoint that scales primaries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingWebhook {
    /// Where it is.
    pub url: Endpoint,
    /// Sent as bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Longest time for one answer.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
}

/// A command that scales primaries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingExec {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Working directory; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Environment variables set beyond Foreshadow's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Longest time for one run.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
}

/// A workload whose ready pods are primaries. Exactly one of `deployment` and `statefulset` is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingKubernetes {
    /// How the cluster is reached; absent: as a pod of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// Absent: the current one. Only with `kubeconfig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace of the workload.
    pub namespace: String,
    /// The Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The StatefulSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<String>,
    /// Where its pods serve; at least 1.
    pub port: u16,
    /// Longest time for one answer of the API server.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
}

impl Scaling {
    /// As the controller knows it.
    #[must_use]
    pub fn spec(&self) -> ScalingSpec {
        ScalingSpec {
            min: self.min,
            max: self.max,
            target: self.target,
            lead_time_ms: units::duration::to_ms(self.lead_time),
            stabilisation_ms: units::duration::to_ms(self.stabilisation),
            cooldown_ms: units::duration::to_ms(self.cooldown),
            max_step: self.max_step,
            respect_ms: units::duration::to_ms(self.respect),
        }
    }

    /// The token that is sent, where there is one.
    pub(crate) fn token(&self) -> Option<&Token> {
        match &self.by {
            ScalingBy::Webhook(webhook) => webhook.token.as_ref(),
            _ => None,
        }
    }
}
