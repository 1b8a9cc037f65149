//! Migrations in a tick: when they may begin, what became of them, who could move.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreshadow_control::{MigrationsSeen, Observation, Plan, ServiceName};

use super::Loop;
use crate::node::decisions::{Decision, Kind};
use crate::node::migrations::DryRun;

impl Loop {
    /// What the law is told of migrations, by service.
    pub(super) fn migrations_due(&mut self, now_ms: u64) -> BTreeMap<ServiceName, MigrationsSeen> {
        let mut all = BTreeMap::new();
        for (service, wired) in &self.wiring.services {
            let configured = wired.migration.as_ref();
            let is_ordered = self.orders.migrations.values().any(|o| o.service == *service)
                || self.orders.moved.values().any(|moved| moved == service);
            if !is_ordered && configured.is_none_or(|migration| migration.risk.is_none()) {
                continue;
            }
            let is_drilled = self.shared.is_drilled(service);
            let told = self.due.seen((service, configured), &self.orders, is_drilled, now_ms);
            all.insert(service.clone(), told);
        }
        all
    }

    /// Puts what is new of migrations on record, and carries on where one has ended.
    pub(super) fn follow_migrations(
        &mut self,
        observation: &Observation,
        plan: &Plan,
        now_ms: u64,
    ) {
        let news = self.migrations.follow((observation, plan), &mut self.orders, now_ms);
        for entry in news.entries {
            self.shared.audit.record(entry);
        }
        for (service, _, text) in &news.drained {
            self.shared.decisions.record(Decision {
                at_ms: now_ms,
                tick: plan.tick,
                service: service.to_string(),
                kind: Kind::Operator,
                laws: vec![foreshadow_control::Law::Migrate],
                summary: vec![text.clone()],
                alerts: Vec::new(),
                observation: None,
                plan: None,
            });
        }
        let has_changed = !news.ended.is_empty() || news.has_changed_orders;
        for record in news.ended {
            let (service, state, text) = (record.service.as_str(), record.state, &record.text);
            tracing::info!(
                service,
                id = record.id,
                state = state.as_str(),
                "migration over: {text}"
            );
            self.shared.migrations.ended(record);
        }
        if has_changed {
            self.shared.orders.store(Arc::new(self.orders.clone()));
            self.shared.migrations.keep();
        }
    }

    /// Answers who could move, and where to.
    pub(super) fn try_migrations(&self, observation: &Observation) {
        while let Ok(DryRun { service, done }) = self.inboxes.dry_runs.try_recv() {
            // Whoever asked may have gone away.
            done.send(self.controller.migration_choices(observation, &service)).ok();
        }
    }
}
