//! The newest of every metric, until it is too old.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use foreshadow_control::{InstanceId, MAX_METRICS, ServiceName, is_metric_name, is_metric_value};

use super::{Report, Subject};

/// Reports taken in one tick. The others wait, and whoever sends more than there is room for is told
/// so: without a bound, a tick would last for as long as somebody keeps sending.
const HEARD_PER_TICK: usize = 256;

/// What was reported last, by whom and name. Only the loop's thread touches it.
#[derive(Debug, Default)]
pub(in crate::node) struct Store {
    instances: BTreeMap<InstanceId, Known>,
    services: BTreeMap<ServiceName, Known>,
}

/// At most [`MAX_METRICS`] metrics of one subject.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Value>);

#[derive(Clone, Copy, Debug)]
struct Value {
    value: f64,
    at_ms: u64,
    /// Whether somebody asked for it, as those of load reports nobody did.
    asked: bool,
}

impl Store {
    /// Takes reports that wait at `now_ms`, the oldest first, up to a bound.
    pub(in crate::node) fn hear_waiting(&mut self, reports: &Receiver<Report>, now_ms: u64) {
        for report in reports.try_iter().take(HEARD_PER_TICK) {
            self.hear(report, now_ms);
        }
    }

    /// Takes a report that arrived at `now_ms`.
    fn hear(&mut self, report: Report, now_ms: u64) {
        let at_ms = now_ms.saturating_sub(report.age_ms);
        let known = match report.of {
            Subject::Instance(id) => self.instances.entry(id).or_default(),
            Subject::Service(name) => self.services.entry(name).or_default(),
        };
        for (name, value) in report.values {
            known.take(name, Value { value, at_ms, asked: true });
        }
    }

    /// Takes what load reports of an instance came to in the tick at `now_ms`.
    pub(in crate::node) fn hear_load(
        &mut self,
        id: InstanceId,
        values: BTreeMap<String, f64>,
        now_ms: u64,
    ) {
        if values.is_empty() {
            return;
        }
        let known = self.instances.entry(id).or_default();
        for (name, value) in values {
            known.take(name, Value { value, at_ms: now_ms, asked: false });
        }
    }

    /// What of an instance is not older than `max_age_ms`.
    pub(in crate::node) fn of_instance(
        &mut self,
        id: InstanceId,
        now_ms: u64,
        max_age_ms: u64,
    ) -> BTreeMap<String, f64> {
        self.instances.get_mut(&id).map_or_else(BTreeMap::new, |k| k.fresh(now_ms, max_age_ms))
    }

    /// What is told of a service as a whole and is not older than `max_age_ms`.
    pub(in crate::node) fn of_service(
        &mut self,
        name: &ServiceName,
        now_ms: u64,
        max_age_ms: u64,
    ) -> BTreeMap<String, f64> {
        self.services.get_mut(name).map_or_else(BTreeMap::new, |k| k.fresh(now_ms, max_age_ms))
    }

    /// Forgets all but these.
    pub(in crate::node) fn retain(
        &mut self,
        instance: impl Fn(InstanceId) -> bool,
        service: impl Fn(&ServiceName) -> bool,
    ) {
        self.instances.retain(|id, _| instance(*id));
        self.services.retain(|name, _| service(name));
    }
}

impl Known {
    /// Keeps a value unless one as new is known. Where there is no place left, what somebody asked
    /// for takes that of what nobody did.
    fn take(&mut self, name: String, new: Value) {
        if !is_metric_name(&name) || !is_metric_value(new.value) {
            return;
        }
        if let Some(known) = self.0.get_mut(&name) {
            if known.at_ms <= new.at_ms {
                *known = new;
            }
            return;
        }
        if self.0.len() >= MAX_METRICS {
            let least = self.0.iter().find(|(_, known)| !known.asked && new.asked);
            let Some(least) = least.map(|(name, _)| name.clone()) else { return };
            self.0.remove(&least);
        }
        self.0.insert(name, new);
    }

    fn fresh(&mut self, now_ms: u64, max_age_ms: u64) -> BTreeMap<String, f64> {
        self.0.retain(|_, known| now_ms.saturating_sub(known.at_ms) <= max_age_ms);
        self.0.iter().map(|(name, known)| (name.clone(), known.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: InstanceId = InstanceId(1);

    fn values(all: &[(&str, f64)]) -> BTreeMap<String, f64> {
        all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    fn report(all: &[(&str, f64)], age_ms: u64) -> Report {
        Report { of: Subject::Instance(ID), age_ms, values: values(all) }
    }

    #[test]
    fn a_flood_is_taken_in_parts_and_in_order() {
        let (send, waiting) = std::sync::mpsc::channel();
        let count = 2 * HEARD_PER_TICK + 1;
        (1..=count).for_each(|nth| send.send(report(&[("cpu", nth as f64)], 0)).unwrap());
        let mut store = Store::default();
        for last in [HEARD_PER_TICK, 2 * HEARD_PER_TICK, count, count] {
            store.hear_waiting(&waiting, 1_000);
            assert_eq!(store.of_instance(ID, 1_000, 1_000), values(&[("cpu", last as f64)]));
        }
    }

    #[test]
    fn the_newest_counts_whatever_the_order_and_ages_out() {
        let mut store = Store::default();
        store.hear(report(&[("cpu", 0.5)], 0), 10_000);
        store.hear(report(&[("cpu", 0.1), ("queue_depth", 3.0)], 5_000), 10_000);
        assert_eq!(
            store.of_instance(ID, 10_000, 30_000),
            values(&[("cpu", 0.5), ("queue_depth", 3.0)])
        );
        store.hear_load(ID, values(&[("cpu", 0.6)]), 11_000);
        assert_eq!(store.of_instance(ID, 35_001, 30_000), values(&[("cpu", 0.6)]));
        assert_eq!(store.of_instance(ID, 41_001, 30_000), values(&[]));
    }

    #[test]
    fn names_are_bounded_and_what_was_asked_for_comes_first() {
        let mut store = Store::default();
        let many: BTreeMap<String, f64> = (0..100).map(|n| (format!("n{n}"), 1.0)).collect();
        store.hear_load(ID, many.clone(), 0);
        assert_eq!(store.of_instance(ID, 0, 1_000).len(), MAX_METRICS);
        store.hear(report(&[("queue_depth", 3.0)], 0), 0);
        let known = store.of_instance(ID, 0, 1_000);
        assert_eq!((known.len(), known["queue_depth"]), (MAX_METRICS, 3.0));
        store.hear(Report { values: many, ..report(&[], 0) }, 0);
        store.hear(report(&[("late", 3.0)], 0), 0);
        assert!(!store.of_instance(ID, 0, 1_000).contains_key("late"));
    }

    #[test]
    fn what_cannot_be_is_left_out_and_what_is_gone_forgotten() {
        let mut store = Store::default();
        let bad =
            [("a", f64::NAN), ("b", -1.0), ("c", 1e300), ("d e", 1.0), ("", 1.0), ("ok", 1.0)];
        store.hear(report(&bad, u64::MAX), 0);
        assert_eq!(store.of_instance(ID, 0, 1_000), values(&[("ok", 1.0)]));
        let shop = ServiceName::from("shop");
        store.hear(Report { of: Subject::Service(shop.clone()), ..report(&bad, 0) }, 0);
        assert_eq!(store.of_service(&shop, 0, 1_000), values(&[("ok", 1.0)]));
        store.retain(|_| false, |_| false);
        assert!(store.instances.is_empty() && store.services.is_empty());
    }
}
