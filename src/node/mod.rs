//! A running node: data plane, control loop, Shadow Instance Manager and what connects them.

pub(crate) mod activations;
pub(crate) mod alerting;
pub(crate) mod announced;
pub(crate) mod audit;
pub(crate) mod clock;
pub(crate) mod decisions;
pub(crate) mod drill;
pub(crate) mod file;
mod guard;
mod health_log;
pub(crate) mod history;
mod hooks;
pub(crate) mod limits;
pub(crate) mod long;
pub(crate) mod metrics;
pub(crate) mod migrations;
mod observe;
pub(crate) mod operator;
mod private;
mod providers;
mod readiness;
pub(crate) mod recorder;
mod reload;
pub(crate) mod reservations;
mod said;
mod scaling;
pub(crate) mod signals;
mod start;
mod tick;
mod translate;
pub(crate) mod view;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use arc_swap::{ArcSwap, ArcSwapOption};
use foreshadow_config::Config;
use foreshadow_control::{PlaceName, ServiceName};
use foreshadow_ebpf::KernelReport;
use foreshadow_mirror::Mirrorer;
use foreshadow_proxy::{ConnectionCounts, DataPlane, ServiceTotals};
use foreshadow_shadow::{Capabilities, Manager, Scaling};
use tokio::sync::{mpsc, oneshot};

use activations::ActivationLog;
use alerting::Alerting;
use announced::Announcing;
use audit::{Actor, Audit, Entry};
use clock::Clock;
use decisions::DecisionLog;
use drill::Drills;
use history::History;
use long::LongForecasts;
use metrics::Metrics;
use migrations::{DryRun, Migrations};
use operator::{Orders, Request};
use recorder::Recording;
use reservations::Reservations;
use view::{TickStats, View};

pub(crate) use long::read_network;
pub(crate) use start::Node;

/// Name of the state database in the state directory.
pub(crate) const STATE_DB: &str = "foreshadow.db";

/// What the loop, the admin interface and the reloader share. Everything in it is a value that
/// is swapped whole, a counter, or a bounded channel.
pub(crate) struct Shared {
    /// The node's clock.
    pub(crate) clock: Clock,
    /// How the loop does.
    pub(crate) ticks: TickStats,
    /// Decision records.
    pub(crate) decisions: DecisionLog,
    /// The record of activations.
    pub(crate) activations: ActivationLog,
    /// The record of every action.
    pub(crate) audit: Audit,
    /// Failover drills.
    pub(crate) drills: Drills,
    /// What became of migrations.
    pub(crate) migrations: Migrations,
    /// Dry runs of migrations on their way to the loop.
    pub(crate) dry_runs: SyncSender<DryRun>,
    /// What is kept of the past.
    pub(crate) history: History,
    /// Forecasts of an hour, a day and a week.
    pub(crate) long: LongForecasts,
    /// What will be needed of each place.
    pub(crate) reservations: Reservations,
    /// What instances and services report of themselves.
    pub(crate) metrics: Metrics,
    /// Orders to the loop.
    pub(crate) requests: SyncSender<Request>,
    /// Standing orders, as of the last tick.
    pub(crate) orders: ArcSwap<Orders>,
    /// The configuration in force.
    pub(crate) config: ArcSwap<Config>,
    /// How the recording of ticks does.
    pub(crate) recording: Arc<Recording>,
    /// What became of reloads.
    pub(crate) reload: ArcSwap<ReloadStatus>,
    /// What the kernel offers.
    pub(crate) kernel: KernelReport,
    view: ArcSwapOption<View>,
    plane: Arc<DataPlane>,
    manager: Arc<Manager>,
    pub(crate) mirror: Arc<Mirrorer>,
    /// What scales primaries.
    pub(crate) scaling: Scaling,
    reloads: mpsc::Sender<ReloadRequest>,
    draining: AtomicBool,
    /// Who is told of alerts.
    pub(crate) alerting: Alerting,
    /// Changes of the announced events on their way to the loop.
    pub(crate) announcing: Announcing,
}

/// A reload that somebody asks for.
#[derive(Debug)]
struct ReloadRequest {
    by: Actor,
    /// Where the answer goes.
    done: oneshot::Sender<ReloadOutcome>,
}

/// What became of one reload.
#[derive(Clone, Debug)]
pub(crate) enum ReloadOutcome {
    /// The new configuration is in force.
    Applied {
        /// What differs from the one before, a line each.
        changes: Vec<String>,
    },
    /// The configuration before stays in force.
    Refused {
        /// Why.
        error: String,
    },
}

/// What became of reloads since start.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReloadStatus {
    /// Reloads that took effect.
    pub(crate) applied: u64,
    /// Reloads that did not.
    pub(crate) refused: u64,
    /// The newest, with its time.
    pub(crate) last: Option<(u64, ReloadOutcome)>,
}

impl ReloadStatus {
    /// Whether the file on disk is not the configuration in force.
    pub(crate) fn last_refused(&self) -> bool {
        matches!(self.last, Some((_, ReloadOutcome::Refused { .. })))
    }
}

impl Shared {
    /// The last tick; absent before the first.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    /// How many backends seem to fail on purpose now.
    pub(crate) fn injected(&self) -> usize {
        self.plane.injected().len()
    }

    /// The places of a service, each with the kind of its provider and what that can do.
    pub(crate) fn places(
        &self,
        service: &ServiceName,
    ) -> Vec<(PlaceName, &'static str, Capabilities)> {
        self.manager.places(service)
    }

    /// Connections by listener.
    pub(crate) fn listeners(&self) -> Vec<ConnectionCounts> {
        self.plane.connections()
    }

    /// Requests and answers since start, by service and instance.
    pub(crate) fn totals(&self) -> Vec<ServiceTotals> {
        self.plane.totals()
    }

    /// What is wrong with the loop, if it has ended or does not tick any more.
    pub(crate) fn loop_trouble(&self) -> Option<String> {
        let last_ms = self.view().map(|view| view.plan.at_ms);
        stalled(self.ticks.ended(), last_ms, self.clock.steady_ms())
    }

    /// Puts on record what became of shadows since the last tick, and the end, and ends the record.
    fn close_audit(&self) {
        let now_ms = self.clock.now_ms();
        for (service, fact) in self.manager.take_facts() {
            self.audit.fact(&service, fact, 0, now_ms);
        }
        self.audit.record(Entry::new(now_ms, Actor::Node, "node.stop"));
        self.audit.close();
    }

    /// Whether the node is on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Reads the configuration again now and says what became of it.
    pub(crate) async fn reload_now(&self, by: Actor) -> ReloadOutcome {
        let (done, outcome) = oneshot::channel();
        let gone = || ReloadOutcome::Refused { error: "the node is shutting down".to_owned() };
        if self.reloads.send(ReloadRequest { by, done }).await.is_err() {
            return gone();
        }
        outcome.await.unwrap_or_else(|_| gone())
    }
}

/// A loop whose last tick is older than this does not tick any more.
const STALLED_MS: u64 = 5_000;

fn stalled(ended: bool, last_ms: Option<u64>, now_ms: u64) -> Option<String> {
    let age_ms = last_ms.map(|last_ms| now_ms.saturating_sub(last_ms));
    let last = age_ms.map_or_else(
        || "it has never ticked".to_owned(),
        |age_ms| format!("last tick {} s ago", age_ms / 1000),
    );
    if ended {
        return Some(format!("the control loop has ended: {last}; see the log and restart"));
    }
    (age_ms > Some(STALLED_MS))
        .then(|| format!("the control loop has stalled: {last}; see the log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_told_from_one_that_ticks() {
        assert_eq!(stalled(false, None, 90_000), None, "not started yet");
        assert_eq!(stalled(false, Some(90_000), 95_000), None);
        let stood = stalled(false, Some(90_000), 97_500).unwrap();
        assert!(stood.contains("has stalled: last tick 7 s ago"), "{stood}");
        let ended = stalled(true, Some(90_000), 90_100).unwrap();
        assert!(ended.contains("has ended: last tick 0 s ago"), "{ended}");
        let at_once = stalled(true, None, 90_100).unwrap();
        assert!(at_once.contains("has ended: it has never ticked"), "{at_once}");
    }
}
