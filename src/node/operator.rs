//! What operators asked for at run time: modes, drains, the kill switch.

use std::collections::{BTreeMap, BTreeSet};

use foreshadow_control::{InstanceId, Mode, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::node::decisions::Event;

/// Standing orders; kept in the state database, so a restart does not undo them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// All automation is stopped.
    pub(crate) kill_switch: bool,
    /// Modes that replace the configured ones.
    pub(crate) modes: BTreeMap<ServiceName, Mode>,
    /// Instances that take no new requests.
    pub(crate) drained: BTreeSet<InstanceId>,
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
            }
            Order::Activate(..) | Order::Events(_) => {}
        }
        *self != before
    }

    /// Forgets instances that do not exist any more; true when there were such.
    pub(crate) fn retain(&mut self, exists: impl Fn(InstanceId) -> bool) -> bool {
        let before = self.drained.len();
        self.drained.retain(|instance| exists(*instance));
        self.drained.len() != before
    }
}

impl Order {
    /// The instance it concerns, if it is one.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Drain(instance, _) => Some(*instance),
            _ => None,
        }
    }

    /// The service it concerns, if it is one.
    pub(crate) fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Mode(service, _) | Self::Activate(service, _) => Some(service),
            Self::KillSwitch(_) | Self::Drain(..) | Self::Events(_) => None,
        }
    }
}

/// An order on its way to the tick, which answers with the standing orders after it.
#[derive(Debug)]
pub(crate) struct Request {
    /// What is asked.
    pub(crate) order: Order,
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
