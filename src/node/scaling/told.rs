//! Orders to scale primaries, and what came of them, as entries of the audit.

use foreshadow_control::{Law, Plan, ServiceName, ServicePlan};
use foreshadow_shadow::ScaleEvent;
use serde_json::{Value, json};

use crate::node::audit::{Actor, Entry, Outcome};

/// Orders that this plan gives and the one before did not.
pub(in crate::node) fn ordered(plan: &Plan, before: Option<&Plan>, now_ms: u64) -> Vec<Entry> {
    let number = |service: &ServicePlan| {
        let order = service.scaling.as_ref()?.order.as_ref().filter(|_| service.act)?;
        Some(order.primaries)
    };
    let former = |name: &ServiceName| {
        let found = before?.services.iter().find(|service| service.service == *name)?;
        number(found)
    };
    let entry = |service: &ServicePlan| {
        let order = service.scaling.as_ref()?.order.as_ref().filter(|_| service.act)?;
        if former(&service.service) == Some(order.primaries) {
            return None;
        }
        let entry = Entry::new(now_ms, Actor::Law(Law::Scale), "service.scale")
            .of(service.service.as_str())
            .changed(json!({ "primaries": order.was }), json!({ "primaries": order.primaries }))
            .came_to(Outcome::Asked, &order.text);
        Some(Entry { tick: plan.tick, ..entry })
    };
    plan.services.iter().filter_map(entry).collect()
}

/// What came of orders, and of looking at what there is; the log has it as well.
pub(in crate::node) fn entries(
    events: Vec<(ServiceName, ScaleEvent)>,
    tick: u64,
    now_ms: u64,
) -> Vec<Entry> {
    events.into_iter().map(|(service, event)| entry(&service, event, tick, now_ms)).collect()
}

fn entry(service: &ServiceName, event: ScaleEvent, tick: u64, now_ms: u64) -> Entry {
    let stamp =
        |action| Entry { tick, ..Entry::new(now_ms, Actor::Manager, action).of(service.as_str()) };
    match event {
        ScaleEvent::Taken { before, asked, wanted } => {
            tracing::info!(%service, asked, wanted, "an order for primaries was taken");
            stamp("service.scale").changed(
                json!({ "primaries": before }),
                json!({ "primaries": wanted, "asked": asked }),
            )
        }
        ScaleEvent::Failed { asked, error } => stamp("service.scale")
            .changed(Value::Null, json!({ "asked": asked }))
            .came_to(Outcome::Failed, error),
        ScaleEvent::Recovered { failures } => {
            tracing::info!(%service, failures, "what scales primaries answers again");
            stamp("service.scale")
                .changed(json!({ "failures": failures }), Value::Null)
                .came_to(Outcome::Done, "what scales primaries answers again")
        }
        ScaleEvent::Joined(id, address) => {
            tracing::info!(%service, instance = %id, %address, "a primary is there that was not");
            let after = json!({ "address": address });
            Entry { instance: Some(id), ..stamp("instance.join").changed(Value::Null, after) }
        }
        ScaleEvent::Turnover { joined, left } => {
            tracing::warn!(
                %service, joined, left,
                "more primaries come and go than are told one by one: see what scales them"
            );
            stamp("instance.join")
                .changed(Value::Null, json!({ "joined": joined, "left": left }))
                .came_to(Outcome::Done, "more than are told one by one")
        }
        ScaleEvent::Left(id, address) => {
            tracing::info!(%service, instance = %id, %address, "a primary is gone");
            let before = json!({ "address": address });
            Entry { instance: Some(id), ..stamp("instance.leave").changed(before, Value::Null) }
        }
    }
}
