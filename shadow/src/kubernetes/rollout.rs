//! Deployments that are mirrored or taken from: what they are now, and whether an instance is of an older
//! template.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;
use tokio::time::Instant;

use super::spec::PodSource;
use super::told::Trouble;
use super::{KubernetesProvider, State};
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::provider::Handle;

/// How long it is taken to have the template that it had.
const LOOK: Duration = Duration::from_secs(30);
/// Longest time for an answer: there is no hurry.
const PATIENCE: Duration = Duration::from_secs(5);

/// A Deployment as it is.
pub(super) struct Found {
    pub(super) template: Value,
    pub(super) whole: DynamicObject,
}

/// Which template a Deployment had when it was looked at last, hashed since it may hold secrets; absent
/// where it did not say.
#[derive(Default)]
pub(super) struct Rollout(tokio::sync::Mutex<Option<(Instant, Option<String>)>>);

pub(super) fn print(template: &Value) -> String {
    fnv1a(template.to_string().into_bytes())
}

impl KubernetesProvider {
    /// A Deployment, untyped: what is newer than this program is passed on as it is.
    pub(super) async fn deployment(&self, name: &str) -> Result<Found, ProviderError> {
        let cluster = &self.cluster;
        let found = cluster.call(self.spec.timeout, |client| async move {
            let resource = ApiResource::erase::<Deployment>(&());
            let all: Api<DynamicObject> =
                Api::namespaced_with(client, &cluster.namespace, &resource);
            all.get(name).await
        });
        let asked = || cluster.asked(format_args!("show deployment {name}"));
        let whole = found.await.map_err(|trouble| trouble.told(asked()))?;
        let template = whole.data.pointer("/spec/template").cloned();
        template.map(|template| Found { template, whole }).ok_or_else(|| {
            Trouble::Told(Cause::Malformed, "a deployment without a template".to_owned())
                .told(asked())
        })
    }

    /// Whether its Deployment has another template by now than the one it was made of; not where that is
    /// not known.
    pub(super) async fn is_of_older(&self, handle: &Handle) -> bool {
        let (PodSource::Deployment(name) | PodSource::Claim(name)) = &self.spec.pod else {
            return false;
        };
        let Ok(State { template: Some(made_of), .. }) = Self::state(handle) else { return false };
        let mut known = self.rollout.0.lock().await;
        if known.as_ref().is_none_or(|(at, _)| at.elapsed() > LOOK) {
            let found = tokio::time::timeout(PATIENCE, self.deployment(name)).await;
            let now = found.ok().and_then(Result::ok).map(|found| print(&found.template));
            *known = Some((Instant::now(), now));
        }
        let now = known.as_ref().and_then(|(_, now)| now.as_ref());
        now.is_some_and(|now| *now != made_of)
    }
}
