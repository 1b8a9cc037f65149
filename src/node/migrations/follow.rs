//! What the law says of migrations from tick to tick: put on record, and carried on where it has ended.

use std::collections::BTreeMap;

use foreshadow_control::{
    InstanceId, Law, MigrationPhase, MigrationView, Observation, Plan, Role, ServiceName,
    ServiceObservation,
};
use serde_json::{Value, json};

use super::record::{Record, Standing, State};
use crate::node::audit::{Actor, Entry, Outcome};
use crate::node::operator::{Order, Orders};

/// Follows migrations from plan to plan.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// What was last said of each; those without a number are the law's own.
    known: BTreeMap<(ServiceName, Option<u64>), MigrationView>,
}

/// What one tick came to.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// What goes on record.
    pub(crate) entries: Vec<Entry>,
    /// Those that are over; they are in the standing orders no more.
    pub(crate) ended: Vec<Record>,
    /// Primaries that are drained for good, with what is said of it.
    pub(crate) drained: Vec<(ServiceName, InstanceId, String)>,
    /// Whether the standing orders have changed.
    pub(crate) has_changed_orders: bool,
}

/// One tick: its number, its time, and that in Unix time.
#[derive(Clone, Copy)]
struct Tick {
    number: u64,
    at_ms: u64,
    now_ms: u64,
}

impl Follower {
    /// Takes what was seen and planned in a tick.
    pub(crate) fn follow(
        &mut self,
        (seen, plan): (&Observation, &Plan),
        orders: &mut Orders,
        now_ms: u64,
    ) -> News {
        let mut news = News::default();
        let tick = Tick { number: plan.tick, at_ms: plan.at_ms, now_ms };
        let mut told = BTreeMap::new();
        for (seen, decided) in seen.services.iter().zip(&plan.services) {
            for view in &decided.migrations {
                let key = (decided.service.clone(), view.id);
                let before = self.known.get(&key);
                // What is over is told once more, and not only to us.
                let is_old = before.is_some_and(|before| before.phase.is_over());
                let is_gone = view.id.is_some_and(|id| !orders.migrations.contains_key(&id));
                if !is_old && !is_gone {
                    turn((seen, view, before), orders, tick, &mut news);
                }
                told.insert(key, view.clone());
            }
        }
        self.known = told;
        unspoken(seen, &self.known, orders, tick, &mut news);
        news
    }
}

/// What is new of one of them.
fn turn(
    (seen, view, before): (&ServiceObservation, &MigrationView, Option<&MigrationView>),
    orders: &mut Orders,
    tick: Tick,
    news: &mut News,
) {
    let service = &seen.service;
    let was = before.map_or(MigrationPhase::Scheduled, |before| before.phase);
    let mut stamp = |action, outcome| {
        news.entries.push(entry((service, view), action, tick).came_to(outcome, &view.text));
    };
    let is_under_way = State::of(view.phase, false) == State::UnderWay;
    if is_under_way && State::of(was, false) != State::UnderWay {
        stamp("migration.begin", Outcome::Done);
    }
    if view.step > before.map_or(0, |before| before.step) {
        stamp("migration.step", Outcome::Done);
    }
    if view.phase == MigrationPhase::RollingBack && was != MigrationPhase::RollingBack {
        stamp("migration.rollback", Outcome::Done);
    }
    if let Some(order) = view.id.and_then(|id| orders.migrations.get_mut(&id))
        && is_under_way
        && order.began_ms.is_none()
    {
        order.began_ms = Some(tick.now_ms);
        // After a restart the same one is moved to the same place.
        if let Some(schedule) = &view.schedule {
            order.instance = Some(schedule.instance);
            order.to = order.to.take().or_else(|| Some(schedule.target.clone()));
        }
        news.has_changed_orders = true;
    }
    if view.phase.is_over() {
        let order = view.id.and_then(|id| orders.migrations.remove(&id));
        end((seen, view), order, orders, tick, news);
    }
}

/// Those that the law says nothing of and that can come to nothing: called off before they began, or of
/// a service that is gone.
fn unspoken(
    seen: &Observation,
    told: &BTreeMap<(ServiceName, Option<u64>), MigrationView>,
    orders: &mut Orders,
    tick: Tick,
    news: &mut News,
) {
    let has_service = |order: &Standing| seen.services.iter().any(|s| s.service == order.service);
    let waits = |order: &Standing| {
        let view = told.get(&(order.service.clone(), Some(order.id)));
        order.began_ms.is_none() && view.is_none_or(|v| v.phase == MigrationPhase::Scheduled)
    };
    let is_idle =
        |order: &Standing| !has_service(order) || (order.called_off_by.is_some() && waits(order));
    let over: Vec<u64> =
        orders.migrations.values().filter(|order| is_idle(order)).map(|order| order.id).collect();
    for order in over.iter().filter_map(|id| orders.migrations.remove(id)) {
        let (state, text) = match &order.called_off_by {
            _ if !has_service(&order) => {
                (State::Refused, format!("the service {} is configured no more", order.service))
            }
            Some(by) => (State::CalledOff, format!("called off by {by} before it began")),
            None => (State::CalledOff, "called off before it began".to_owned()),
        };
        let record =
            Record { state, text: text.clone(), ended_ms: Some(tick.now_ms), ..Record::of(&order) };
        let entry = Entry::new(tick.now_ms, Actor::Node, "migration.end");
        let entry = entry.of(order.service.as_str()).came_to(Outcome::Failed, text);
        let after = json!({ "migration": order.id, "state": state });
        let entry = entry.changed(Value::Null, after);
        news.entries.push(Entry { tick: tick.number, instance: order.instance, ..entry });
        news.ended.push(record);
    }
}

/// The end of one that the law has told.
fn end(
    (seen, view): (&ServiceObservation, &MigrationView),
    order: Option<Standing>,
    orders: &mut Orders,
    tick: Tick,
    news: &mut News,
) {
    let service = &seen.service;
    let asked = order.as_ref().map_or_else(|| Record::of_law(service), Record::of);
    let has_begun = asked.began_ms.is_some();
    let mut record = asked.told(view, tick.at_ms, tick.now_ms);
    record.ended_ms = Some(tick.now_ms);
    let moved = view.schedule.as_ref().map(|s| s.instance).or(record.instance);
    let found = moved.and_then(|id| seen.instances.iter().find(|i| i.instance == id));
    // Begun before a restart and finished by what was written down then: nobody is left to move.
    if record.state == State::Refused && has_begun && moved.is_some() && found.is_none() {
        record.state = State::Done;
        record.text = format!("finished over a restart: {}", record.text);
    }
    if record.state == State::Done {
        record.then = moved.map(|id| match found {
            Some(found) if found.role == Role::Primary => {
                drain(service, id, (record.id, orders), tick, news);
                format!(
                    "{id} is drained for good and may be switched off; take it out of \
                     `services.{service}.primaries`, or give it requests again: `POST \
                     /api/v1/instances/{id}/drain` with {{\"drained\": false}}"
                )
            }
            _ => format!("{id} was a shadow and has ended"),
        });
    }
    let outcome = if record.state == State::Done { Outcome::Done } else { Outcome::Failed };
    let entry = entry((service, view), "migration.end", tick).came_to(outcome, &record.text);
    let mut after = entry.after.clone();
    after["state"] = json!(record.state);
    news.entries.push(entry.changed(Value::Null, after));
    news.ended.push(record);
}

/// A primary that was moved keeps taking no requests, over restarts too.
fn drain(
    service: &ServiceName,
    instance: InstanceId,
    (id, orders): (Option<u64>, &mut Orders),
    tick: Tick,
    news: &mut News,
) {
    let before = orders.clone();
    let order = Order::Drain(instance, true);
    orders.moved.insert(instance, service.clone());
    if !orders.apply(&order) {
        return;
    }
    let why = match id {
        Some(id) => format!("migration {id} is done"),
        None => "its migration is done".to_owned(),
    };
    if let Some(entry) = order.entry(&before, orders, Actor::Law(Law::Migrate)) {
        let entry = entry.of(service.as_str()).came_to(Outcome::Done, &why);
        news.entries.push(Entry { at_ms: tick.now_ms, tick: tick.number, ..entry });
    }
    news.drained.push((service.clone(), instance, format!("{instance} drained for good: {why}")));
}

/// What the law does, as it is put on record.
fn entry(
    (service, view): (&ServiceName, &MigrationView),
    action: &'static str,
    tick: Tick,
) -> Entry {
    let schedule = view.schedule.as_ref();
    let after = json!({
        "migration": view.id,
        "to": schedule.map(|schedule| &schedule.target),
        "target": view.target,
        "phase": view.phase,
        "step": view.step,
        "moved": view.moved,
        "checks": view.checks,
    });
    Entry {
        tick: tick.number,
        instance: schedule.map(|schedule| schedule.instance),
        ..Entry::new(tick.now_ms, Actor::Law(Law::Migrate), action)
            .of(service.as_str())
            .changed(Value::Null, after)
    }
}
