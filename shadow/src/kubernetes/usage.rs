//! What pods use, as `metrics.k8s.io` says where a cluster has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::ResourceSample;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use tokio::time::Instant;

use super::body;
use super::cluster::Cluster;
use super::seen;
use crate::provider::Usage;

/// What is known is taken for so long; those who measure do so every 15 s or more seldom.
const FRESH: Duration = Duration::from_secs(10);
/// A cluster that did not say is asked again after this.
const SILENT: Duration = Duration::from_secs(300);
/// Longest time for an answer: there is no hurry.
const PATIENCE: Duration = Duration::from_secs(5);

/// What pods of ours use, as far as it is known.
#[derive(Default)]
pub(super) struct Metrics(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By name.
    usage: BTreeMap<String, Usage>,
    /// When it is to be asked again; absent before the first time.
    due: Option<Instant>,
    asking: bool,
}

impl Metrics {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Named,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
}

impl Cluster {
    /// What a pod uses, for all of its containers together, by what is known now; nothing where the cluster
    /// does not say. What is old is asked for meanwhile, and nobody waits for it.
    pub(super) fn usage(self: &Arc<Self>, pod: &str) -> Usage {
        let mut known = self.metrics.known();
        if !known.asking && known.due.is_none_or(|due| Instant::now() >= due) {
            known.asking = true;
            let cluster = Arc::clone(self);
            tokio::spawn(async move {
                let asked = cluster.measured().await;
                let good = if asked.is_some() { FRESH } else { SILENT };
                *cluster.metrics.known() = Known {
                    usage: asked.unwrap_or_default(),
                    due: Some(Instant::now() + good),
                    asking: false,
                };
            });
        }
        known.usage.get(pod).copied().unwrap_or_default()
    }

    async fn measured(&self) -> Option<BTreeMap<String, Usage>> {
        let path = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods?labelSelector={}%3D{}",
            self.namespace,
            body::OWNER.replace('/', "%2F"),
            self.owner
        );
        let request = hyper::Request::get(path).body(Vec::new()).ok()?;
        let asked =
            self.call(PATIENCE, |client| async move { client.request::<List>(request).await });
        match asked.await {
            Ok(list) => {
                let each = list.items.into_iter();
                Some(each.map(|item| (item.metadata.name, total(&item.containers))).collect())
            }
            Err(trouble) => {
                let error = trouble.told(self.asked("show what our pods use"));
                tracing::debug!(%error, "what pods use is not known");
                None
            }
        }
    }
}

fn total(containers: &[Container]) -> Usage {
    let of = |name: &'static str| containers.iter().filter_map(move |one| one.usage.get(name));
    let cores: Vec<f64> = of("cpu").filter_map(|amount| seen::number(&amount.0)).collect();
    let memory: Vec<u64> = of("memory").filter_map(seen::bytes).collect();
    let sample = ResourceSample {
        cpu_cores: (!cores.is_empty()).then(|| cores.iter().sum()),
        memory_bytes: (!memory.is_empty()).then(|| memory.iter().sum()),
        ..ResourceSample::default()
    };
    Usage { sample, cpu_us: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containers_of_a_pod_use_is_added_up() {
        let item: Item = serde_json::from_str(
            r#"{"metadata": {"name": "p"}, "timestamp": "x", "containers": [
                {"name": "a", "usage": {"cpu": "250000000n", "memory": "64Mi"}},
                {"name": "b", "usage": {"cpu": "10m", "memory": "1Ki"}},
                {"name": "c"}
            ]}"#,
        )
        .unwrap();
        let usage = total(&item.containers);
        assert!((usage.sample.cpu_cores.unwrap() - 0.26).abs() < 1e-9);
        assert_eq!(usage.sample.memory_bytes, Some((64 << 20) + 1_024));
        assert_eq!(total(&[]), Usage::default());
    }
}
