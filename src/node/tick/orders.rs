//! Orders of operators, taken at the start of a tick.

use std::sync::Arc;

use foreshadow_control::{InstanceId, Observation, ServiceName, ServiceObservation};
use tokio::sync::oneshot;

use super::Loop;
use crate::node::audit::Entry;
use crate::node::decisions::{Decision, Kind};
use crate::node::operator::{Order, Orders, Request};

impl Loop {
    pub(super) fn take_orders(
        &mut self,
        now_ms: u64,
        tick: u64,
    ) -> Vec<(oneshot::Sender<Orders>, Orders)> {
        let mut answers = Vec::new();
        while let Ok(Request { order, by, done }) = self.inboxes.requests.try_recv() {
            let before = self.orders.clone();
            let changed = self.orders.apply(&order);
            match &order {
                Order::Activate(service, count) => self.observer.activate(service, *count),
                Order::Events(events) => self.observer.announce(events),
                Order::Rule(..) if changed => self.configure(),
                _ => {}
            }
            let service = self.service_of(&order, &before);
            if let Some(entry) = order.entry(&before, &self.orders, by) {
                let entry = Entry { at_ms: now_ms, tick, ..entry.of(&service) };
                self.shared.audit.record(entry);
            }
            if changed || matches!(order, Order::Activate(..) | Order::Events(_)) {
                tracing::info!("operator: {order}");
                self.shared.decisions.record(Decision {
                    at_ms: now_ms,
                    tick,
                    service,
                    kind: Kind::Operator,
                    laws: Vec::new(),
                    summary: vec![order.to_string()],
                    alerts: Vec::new(),
                    observation: None,
                    plan: None,
                });
            }
            self.shared.orders.store(Arc::new(self.orders.clone()));
            answers.push((done, self.orders.clone()));
        }
        answers
    }

    /// The service an order is about; empty for the whole node.
    fn service_of(&self, order: &Order, before: &Orders) -> String {
        let called_off = match order {
            Order::CallOff(id, _) => before.migrations.get(id).map(|order| order.service.clone()),
            _ => None,
        };
        let named = order.service().cloned().or(called_off).or_else(|| {
            let instance = order.instance()?;
            owner(&self.shared.view()?.observation, instance).cloned()
        });
        named.map(|service| service.to_string()).unwrap_or_default()
    }

    /// Forgets orders about instances that are gone; ids are never given twice, so they would
    /// only pile up.
    pub(super) fn forget_gone(&mut self, observation: &Observation) {
        if self.orders.retain(|id| owner(observation, id).is_some()) {
            self.shared.orders.store(Arc::new(self.orders.clone()));
        }
    }
}

fn owner(observation: &Observation, instance: InstanceId) -> Option<&ServiceName> {
    let owns = |s: &&ServiceObservation| s.instances.iter().any(|i| i.instance == instance);
    observation.services.iter().find(owns).map(|s| &s.service)
}
