//! What an outside operator sees of the node, kept over the run.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use foreshadow_control::{Health, HorizonView, Role, Tier};
use foreshadow_testbed::load::Totals;
use serde::Serialize;

use super::api::{Decision, Forecasts, Instance, Instances, Page};
use super::scene::SERVICE;
use crate::client::Client;

/// One look at the node.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Unix time of the tick that is shown.
    pub(super) at_ms: u64,
    pub(super) demand_rps: f64,
    pub(super) horizons: Vec<HorizonView>,
    pub(super) instances: Vec<Instance>,
}

/// Looks at the node again and again.
#[derive(Debug)]
pub(super) struct Watcher {
    api: Client,
    pub(super) samples: Vec<Sample>,
    pub(super) decisions: Vec<Decision>,
    pub(super) answers: Answers,
}

/// For each shadow, the time of its newest answer as of each look at which that had changed.
pub(super) type Answers = BTreeMap<String, Vec<u64>>;

impl Watcher {
    pub(super) fn new(api: Client) -> Self {
        Self { api, samples: Vec::new(), decisions: Vec::new(), answers: Answers::new() }
    }

    /// Takes a sample and the decision records that are new.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub(super) async fn look(&mut self) -> anyhow::Result<()> {
        let seen: Instances = self.api.get(&format!("/api/v1/instances?service={SERVICE}")).await?;
        let forecasts: Forecasts = self.api.get("/api/v1/forecast").await?;
        if let Some(forecast) = forecasts.services.into_iter().next() {
            self.samples.push(Sample {
                at_ms: seen.at_ms,
                demand_rps: forecast.demand_rps,
                horizons: forecast.horizons,
                instances: seen.instances,
            });
        }
        self.read_decisions().await
    }

    /// Notes which shadows answered since the last look, as the load generator saw it.
    pub(super) fn note(&mut self, totals: &Totals) {
        let shadows = totals.instances.iter().filter(|(name, _)| name.starts_with("shadow-"));
        for (name, seen) in shadows {
            let stamps = self.answers.entry(name.clone()).or_default();
            if stamps.last() != Some(&seen.last_unix_ms) {
                stamps.push(seen.last_unix_ms);
            }
        }
    }

    /// Reads the records that came since, oldest first. Records of one tick may be written one
    /// after the other, so the last tick is asked for again.
    async fn read_decisions(&mut self) -> anyhow::Result<()> {
        let (since_ms, newest) = self.decisions.last().map_or((0, -1), |d| (d.at_ms, d.id));
        let path = format!("/api/v1/decisions?since_ms={since_ms}&limit=1000");
        let page: Page = self.api.get(&path).await?;
        self.decisions.extend(page.decisions.into_iter().rev().filter(|d| d.id > newest));
        Ok(())
    }
}

impl Sample {
    /// Whether nothing is under way: primaries up, the pool at its targets.
    pub(super) fn is_settled(&self) -> bool {
        let primaries = self.instances.iter().filter(|i| i.role == Role::Primary);
        let mut shadows = self.instances.iter().filter(|i| i.role == Role::Shadow);
        primaries.clone().count() > 0
            && primaries.clone().all(|i| i.health == Health::Up)
            && shadows.all(|i| i.moving_to.is_none())
    }

    /// Instances that could be counted on: everything but what is cold, lost or not answering.
    /// A frozen shadow answers no check and is alive all the same.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|i| match i.role {
            Role::Primary => matches!(i.health, Health::Up | Health::Unknown),
            Role::Shadow => i.tier != Tier::Cold && !matches!(i.health, Health::Down(_)),
        })
    }

    /// Shadows at `tier` with no step under way.
    pub(super) fn resting_at(&self, tier: Tier) -> usize {
        let rests = |i: &&Instance| {
            i.role == Role::Shadow && i.tier == tier && i.moving_to.is_none_or(|to| to == tier)
        };
        self.instances.iter().filter(rests).count()
    }
}

/// Name of an instance in the answers of its backend.
pub(super) fn name_of(instance: &Instance, primaries: &[(String, std::net::SocketAddr)]) -> String {
    let named = primaries.iter().find(|(_, address)| Some(*address) == instance.address);
    match named {
        Some((name, _)) if instance.role == Role::Primary => name.clone(),
        _ => format!("shadow-{}", instance.instance),
    }
}

/// The time in Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
