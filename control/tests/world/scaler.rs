//! A scaler of the world's primaries: it takes its time, fails, refuses, and others use it, too.

use foreshadow_control::{
    Health, InstanceId, InstanceObservation, Plan, Role, ScaleOrder, ScalingSeen, Tier,
};

use crate::sim::World;

/// How the scaler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Works,
    /// No call comes back with anything but an error.
    Fails,
}

#[derive(Clone, Debug)]
pub(crate) struct Scaler {
    /// From a higher number to primaries that are ready.
    pub(crate) makes_ms: u64,
    /// Primaries are named as leaving for so long before they end.
    pub(crate) notice_ms: u64,
    pub(crate) temper: Temper,
    /// The number wanted there, whoever set it.
    pub(crate) wanted: u32,
    asked: Option<u32>,
    original: Option<u32>,
    /// What is seen is as of the last answer.
    answered: ScalingSeen,
    /// When each primary that is being made will be ready.
    making: Vec<u64>,
    ready: Vec<InstanceId>,
    /// Those it ends, with the time of their end.
    leaving: Vec<(InstanceId, u64)>,
    /// Every order that was taken, with its time.
    pub(crate) orders: Vec<(u64, u32)>,
    pub(crate) refused: u64,
    /// So many of the newest ready ones are not listed for now, which is not believed.
    pub(crate) unlisted: usize,
}

impl Scaler {
    /// One that has made what primaries there are.
    pub(crate) fn of(world: &World, makes_ms: u64) -> Self {
        let ready: Vec<InstanceId> = world.instances.keys().copied().collect();
        Self {
            makes_ms,
            notice_ms: 2_000,
            temper: Temper::Works,
            wanted: u32::try_from(ready.len()).expect("a few"),
            asked: None,
            original: None,
            answered: ScalingSeen::default(),
            making: Vec::new(),
            ready,
            leaving: Vec::new(),
            orders: Vec::new(),
            refused: 0,
            unlisted: 0,
        }
    }

    pub(crate) fn ready(&self) -> u32 {
        u32::try_from(self.ready.len()).expect("a few")
    }

    fn settle(&mut self, world: &mut World) {
        let now_ms = world.at_ms;
        let due = self.making.iter().filter(|at| **at <= now_ms).count();
        self.making.retain(|at| *at > now_ms);
        for _ in 0..due {
            let id = world.join();
            self.ready.push(id);
        }
        self.leaving.retain(|(id, ends_ms)| {
            let ends = *ends_ms <= now_ms;
            if ends {
                world.end_primary(*id);
            }
            !ends
        });
        let there = self.ready.len() + self.making.len();
        let wanted = self.wanted as usize;
        for _ in there..wanted {
            self.making.push(now_ms + self.makes_ms);
        }
        for _ in wanted..there {
            if self.making.pop().is_none() {
                let newest = self.ready.pop().expect("more than are wanted");
                self.leaving.push((newest, now_ms + self.notice_ms));
            }
        }
    }

    /// What is seen of it in this tick.
    pub(crate) fn seen(&mut self, world: &mut World) -> ScalingSeen {
        self.settle(world);
        if self.temper == Temper::Fails {
            let trouble = "asked http://scaler: no connection; it is asked again after a pause";
            self.answered.trouble = Some(trouble.to_owned());
            return self.answered.clone();
        }
        self.answered = ScalingSeen {
            wanted: Some(self.wanted),
            ready: self.ready.clone(),
            leaving: self.leaving.iter().map(|(id, _)| *id).collect(),
            unlisted: self.ready.iter().rev().take(self.unlisted).copied().collect(),
            asked: self.asked,
            original: self.original,
            trouble: None,
        };
        self.answered.clone()
    }

    /// Carries out the order that stands; one that was taken is not given again.
    pub(crate) fn carry_out(&mut self, order: Option<&ScaleOrder>, at_ms: u64) {
        let Some(order) = order else { return };
        if self.temper == Temper::Fails {
            self.refused += 1;
            return;
        }
        if self.orders.last().map(|(_, number)| *number) == Some(order.primaries)
            && self.asked == Some(order.primaries)
        {
            return;
        }
        self.wanted = order.primaries;
        self.asked = Some(order.primaries);
        self.original = Some(order.original);
        self.orders.push((at_ms, order.primaries));
    }
}

impl World {
    /// A primary that was not there before.
    fn join(&mut self) -> InstanceId {
        let id = self.add(Role::Primary, Tier::Serving);
        self.joined.insert(id, self.at_ms);
        id
    }

    /// A primary ends for good; what it still answers is lost.
    fn end_primary(&mut self, id: InstanceId) {
        if let Some(gone) = self.instances.remove(&id) {
            assert_eq!(gone.health, Health::Up);
            self.outcome.failed += gone.pending.len() as u64;
        }
    }

    /// What is seen of the scaler in this tick, where there is one.
    pub(crate) fn look_at_scaler(&mut self) -> Option<ScalingSeen> {
        let mut scaler = self.scaler.take();
        let seen = scaler.as_mut().map(|scaler| scaler.seen(self));
        self.scaler = scaler;
        seen
    }

    /// Says of primaries how long they have been there, and which leave.
    pub(crate) fn mark_joined(
        &self,
        instances: &mut [InstanceObservation],
        scaling: Option<&ScalingSeen>,
    ) {
        for seen in instances {
            seen.joined_ms = self.joined.get(&seen.instance).map(|since| self.at_ms - since);
            seen.leaving = scaling.is_some_and(|s| s.leaving.contains(&seen.instance));
        }
    }

    /// Gives the scaler a turn, where there is one.
    pub(crate) fn scale(&mut self, plan: &Plan) {
        let at_ms = self.at_ms;
        if let Some(scaler) = &mut self.scaler {
            let service = &plan.services[0];
            let order = service.scaling.as_ref().and_then(|scaling| scaling.order.as_ref());
            scaler.carry_out(order.filter(|_| service.act), at_ms);
        }
    }
}
