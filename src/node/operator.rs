//! What operators asked for at run time: modes, drains, rules, the kill switch.

use std::collections::{BTreeMap, BTreeSet};

use foreshadow_control::{InstanceId, MAX_RULES, Mode, Rule, RuleSpec, ServiceName, ServiceSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::node::audit::{Actor, Entry, Outcome};
use crate::node::decisions::Event;
use crate::node::migrations::{MOST_STANDING, Standing};

/// Standing orders; kept in the state database, so a restart does not undo them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// All automation is stopped.
    pub(crate) kill_switch: bool,
    /// Modes that replace the configured ones.
    pub(crate) modes: BTreeMap<ServiceName, Mode>,
    /// Instances that take no new requests.
    pub(crate) drained: BTreeSet<InstanceId>,
    /// Rules beside the configured ones, or in place of those of the same name.
    #[serde(default)]
    pub(crate) rules: BTreeMap<ServiceName, BTreeMap<String, Rule>>,
    /// Migrations that were asked for and are not over, by number.
    #[serde(default)]
    pub(crate) migrations: BTreeMap<u64, Standing>,
    /// Primaries that are drained since they were moved, with their services.
    #[serde(default)]
    pub(crate) moved: BTreeMap<InstanceId, ServiceName>,
}

/// A change an operator asks for; carried out at the start of the next tick.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Order {
    /// Stops or resumes all automation.
    KillSwitch(bool),
    /// Replaces a service's mode; `None` returns to the configured one.
    Mode(ServiceName, Option<Mode>),
    /// Drains an instance or takes it back.
    Drain(InstanceId, bool),
    /// Brings this many more shadows into service.
    Activate(ServiceName, u32),
    /// Adds or replaces a service's rule of this name; `None` takes back what was added.
    Rule(ServiceName, String, Option<Box<Rule>>),
    /// Moves an instance, unless too many wait already.
    Migrate(Box<Standing>),
    /// Calls a migration off, for whom.
    CallOff(u64, String),
    /// The announced events have changed: all that have not ended.
    Events(Vec<Event>),
}

impl Orders {
    /// Carries `order` out on the standing orders; true when it changed them.
    pub(crate) fn apply(&mut self, order: &Order) -> bool {
        let before = self.clone();
        match order {
            Order::KillSwitch(on) => self.kill_switch = *on,
            Order::Mode(service, Some(mode)) => {
                self.modes.insert(service.clone(), *mode);
            }
            Order::Mode(service, None) => {
                self.modes.remove(service);
            }
            Order::Drain(instance, true) => {
                self.drained.insert(*instance);
            }
            Order::Drain(instance, false) => {
                self.drained.remove(instance);
                self.moved.remove(instance);
            }
            Order::Rule(service, name, Some(rule)) => {
                let rules = self.rules.entry(service.clone()).or_default();
                rules.insert(name.clone(), Rule::clone(rule));
            }
            Order::Rule(service, name, None) => {
                if let Some(rules) = self.rules.get_mut(service) {
                    rules.remove(name);
                }
                self.rules.retain(|_, rules| !rules.is_empty());
            }
            Order::Migrate(standing) if self.migrations.len() < MOST_STANDING => {
                self.migrations.insert(standing.id, Standing::clone(standing));
            }
            Order::CallOff(id, by) => {
                if let Some(standing) = self.migrations.get_mut(id) {
                    standing.called_off_by.get_or_insert_with(|| by.clone());
                }
            }
            Order::Migrate(_) | Order::Activate(..) | Order::Events(_) => {}
        }
        *self != before
    }

    /// The configured specs with the ordered rules in them.
    pub(crate) fn specs(&self, configured: &[ServiceSpec]) -> Vec<ServiceSpec> {
        let with_rules = |spec: &ServiceSpec| {
            let Some(ordered) = self.rules.get(&spec.name) else { return spec.clone() };
            let mut spec = spec.clone();
            spec.rules.retain(|rule| !ordered.contains_key(&rule.name));
            let room = MAX_RULES.saturating_sub(spec.rules.len());
            let spec_of = |(name, rule): (&String, &Rule)| RuleSpec {
                name: name.clone(),
                rule: rule.clone(),
            };
            spec.rules.extend(ordered.iter().take(room).map(spec_of));
            spec.rules.sort_by(|a, b| a.name.cmp(&b.name));
            spec
        };
        configured.iter().map(with_rules).collect()
    }

    /// Forgets instances that do not exist any more; true when there were such.
    pub(crate) fn retain(&mut self, exists: impl Fn(InstanceId) -> bool) -> bool {
        let before = self.drained.len();
        self.drained.retain(|instance| exists(*instance));
        self.moved.retain(|instance, _| exists(*instance));
        self.drained.len() != before
    }
}

impl Order {
    /// The instance it concerns, if it is one.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Drain(instance, _) => Some(*instance),
            Self::Migrate(standing) => standing.instance,
            _ => None,
        }
    }

    /// The service it concerns, if it is one.
    pub(crate) fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Mode(service, _) | Self::Activate(service, _) | Self::Rule(service, ..) => {
                Some(service)
            }
            Self::Migrate(standing) => Some(&standing.service),
            Self::KillSwitch(_) | Self::Drain(..) | Self::CallOff(..) | Self::Events(_) => None,
        }
    }
}

impl Order {
    /// The order as it is put on record, time and service left to whoever carries it out; announced
    /// events are recorded one by one, by those who announce them.
    pub(crate) fn entry(&self, before: &Orders, after: &Orders, by: Actor) -> Option<Entry> {
        let both = |of: &dyn Fn(&Orders) -> Value| (of(before), of(after));
        let (action, (was, is)) = match self {
            Self::KillSwitch(_) => {
                ("order.kill_switch", both(&|orders| json!({ "engaged": orders.kill_switch })))
            }
            Self::Mode(service, _) => {
                ("order.mode", both(&|orders| json!({ "mode": orders.modes.get(service) })))
            }
            Self::Drain(instance, _) => {
                let of = |orders: &Orders| json!({ "drained": orders.drained.contains(instance) });
                ("order.drain", both(&of))
            }
            Self::Rule(service, name, _) => {
                let of = |orders: &Orders| {
                    let rule = orders.rules.get(service).and_then(|rules| rules.get(name));
                    json!({ "name": name, "rule": rule })
                };
                ("order.rule", both(&of))
            }
            Self::Activate(_, count) => {
                ("order.activate", (Value::Null, json!({ "count": count })))
            }
            Self::Migrate(standing) => ("migration.ask", (Value::Null, json!(standing))),
            Self::CallOff(id, _) => {
                let after = json!({ "migration": id });
                ("migration.call_off", (Value::Null, after))
            }
            Self::Events(_) => return None,
        };
        let outcome = match self {
            Self::Activate(..) | Self::CallOff(..) => Outcome::Asked,
            Self::Migrate(standing) if after.migrations.contains_key(&standing.id) => {
                Outcome::Asked
            }
            Self::Migrate(_) => Outcome::Failed,
            _ => Outcome::Done,
        };
        let called_off = match self {
            Self::CallOff(id, _) => before.migrations.get(id).map(|standing| &standing.service),
            _ => None,
        };
        let service = self.service().or(called_off).map_or("", ServiceName::as_str);
        let entry = Entry::new(0, by, action).of(service).changed(was, is).came_to(outcome, "");
        Some(Entry { instance: self.instance(), ..entry })
    }
}

/// An order on its way to the tick, which answers with the standing orders after it.
#[derive(Debug)]
pub(crate) struct Request {
    /// What is asked.
    pub(crate) order: Order,
    /// Who asks.
    pub(crate) by: Actor,
    /// Where the answer goes.
    pub(crate) done: oneshot::Sender<Orders>,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KillSwitch(true) => {
                f.write_str("kill switch engaged: nothing is started, moved or stopped")
            }
            Self::KillSwitch(false) => f.write_str("kill switch released"),
            Self::Mode(service, Some(mode)) => write!(f, "mode of {service} set to {mode}"),
            Self::Mode(service, None) => {
                write!(f, "mode of {service} returns to the configured one")
            }
            Self::Drain(instance, true) => write!(f, "{instance} drained"),
            Self::Drain(instance, false) => write!(f, "{instance} no longer drained"),
            Self::Activate(service, count) => {
                write!(f, "activation of {count} of {service} asked for")
            }
            Self::Rule(service, name, Some(rule)) => {
                write!(f, "rule {name} of {service} set to: {rule}")
            }
            Self::Rule(service, name, None) => write!(f, "rule {name} of {service} taken back"),
            Self::Migrate(standing) => {
                let Standing { id, service, instance, to, .. } = &**standing;
                write!(f, "migration {id} of {service} asked for: ")?;
                match instance {
                    Some(instance) => write!(f, "{instance}")?,
                    None => f.write_str("whoever is chosen")?,
                }
                match to {
                    Some(place) => write!(f, " to {place}"),
                    None => f.write_str(" to the place that is chosen"),
                }
            }
            Self::CallOff(id, by) => write!(f, "migration {id} called off by {by}"),
            Self::Events(events) => write!(f, "{} announced events", events.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_of_what_is_gone_are_forgotten() {
        let mut orders = Orders::default();
        orders.apply(&Order::Drain(InstanceId(3), true));
        orders.apply(&Order::Drain(InstanceId(4), true));
        assert!(orders.retain(|id| id == InstanceId(4)));
        assert!(!orders.retain(|id| id == InstanceId(4)));
        assert_eq!(orders.drained, BTreeSet::from([InstanceId(4)]));
    }

    #[test]
    fn ordered_rules_stand_beside_the_configured_and_replace_their_namesakes() {
        let shop = ServiceName::from("shop");
        let rule = |text: &str| text.parse::<Rule>().unwrap();
        let order = |name: &str, text: &str| {
            Order::Rule(shop.clone(), name.to_owned(), Some(Box::new(rule(text))))
        };
        let mut orders = Orders::default();
        assert!(orders.apply(&order("b", "cpu > 2% -> hold")));
        assert!(!orders.apply(&order("b", "cpu>2%->hold")), "the same rule, written otherwise");
        assert!(orders.apply(&order("c", "cpu > 3% -> hold")));
        let kept = serde_json::to_string(&orders).unwrap();
        assert_eq!(serde_json::from_str::<Orders>(&kept).unwrap(), orders);
        let older = r#"{"kill_switch":false,"modes":{},"drained":[]}"#;
        assert_eq!(serde_json::from_str::<Orders>(older).unwrap(), Orders::default());

        let mut spec = spec(&shop);
        for (name, text) in [("b", "cpu > 9% -> hold"), ("a", "cpu > 1% -> hold")] {
            spec.rules.push(RuleSpec { name: name.to_owned(), rule: rule(text) });
        }
        let specs = orders.specs(&[spec.clone()]);
        let told: Vec<String> =
            specs[0].rules.iter().map(|r| format!("{}: {}", r.name, r.rule)).collect();
        assert_eq!(told, ["a: cpu > 1% -> hold", "b: cpu > 2% -> hold", "c: cpu > 3% -> hold"]);
        for name in ["b", "c"] {
            assert!(orders.apply(&Order::Rule(shop.clone(), name.to_owned(), None)));
        }
        assert_eq!(orders, Orders::default());
        assert_eq!(orders.specs(&[spec.clone()]), [spec]);
    }

    fn spec(name: &ServiceName) -> ServiceSpec {
        let text = "listeners: [{ address: 127.0.0.1:1, routes: [{ service: shop }] }]\n\
                    services: { shop: { primaries: [127.0.0.1:2] } }";
        let format = foreshadow_config::Format::Yaml;
        let config = foreshadow_config::parse(text, format, "test", &|_| None).unwrap();
        config.services[name.as_str()].spec(name.clone())
    }

    #[test]
    fn orders_say_whether_they_changed_anything() {
        let mut orders = Orders::default();
        let shop = ServiceName::from("shop");
        assert!(orders.apply(&Order::Mode(shop.clone(), Some(Mode::Observe))));
        assert!(!orders.apply(&Order::Mode(shop.clone(), Some(Mode::Observe))));
        assert!(orders.apply(&Order::Mode(shop.clone(), None)));
        assert!(!orders.apply(&Order::Activate(shop, 2)));
        assert!(orders.apply(&Order::Drain(InstanceId(3), true)));
        assert!(orders.apply(&Order::Drain(InstanceId(3), false)));
        assert_eq!(orders, Orders::default());
    }
}
