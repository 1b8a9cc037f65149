//! The simulated instances: they take their time from tier to tier, and answer what they can.

use foreshadow_control::{Action, Fact, InstanceId, InstanceWeight, Role, Tier};

use crate::Setup;

/// Part of its capacity that an instance has with its first request.
const COLD_PART: f64 = 0.5;

/// One simulated instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) role: Role,
    pub(crate) tier: Tier,
    /// Where it is going, when it arrives, when it set out.
    pub(crate) moving: Option<(Tier, u64, u64)>,
    /// When it reached its tier.
    pub(crate) reached_ms: u64,
    pub(crate) weight: u32,
    /// What it was given and did in the last tick.
    pub(crate) load: Load,
}

/// Requests of one instance in one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) given: f64,
    pub(crate) done: f64,
    pub(crate) waiting: f64,
}

/// What became of the requests of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Served {
    pub(crate) serving: u32,
    pub(crate) capacity_rps: f64,
    pub(crate) violated: f64,
}

/// All instances, by rising id.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) instances: Vec<Instance>,
    /// Requests that wait.
    backlog: f64,
    next_id: u64,
    /// Capacity of each that serves in this tick, by position.
    able: Vec<(usize, f64)>,
}

impl Fleet {
    pub(crate) fn new(setup: &Setup) -> Self {
        let primary = |id: u64| Instance {
            id: InstanceId(id),
            role: Role::Primary,
            tier: Tier::Serving,
            moving: None,
            reached_ms: 0,
            weight: 1,
            load: Load::default(),
        };
        let primaries = u64::from(setup.primaries);
        Self {
            instances: (1..=primaries).map(primary).collect(),
            backlog: 0.0,
            next_id: primaries + 1,
            able: Vec::new(),
        }
    }

    /// Makes shadows that serve already, up to `instances` in all.
    pub(crate) fn be_ready(&mut self, instances: u32, setup: &Setup) {
        for _ in self.len()..instances {
            self.create(Tier::Serving, 0, setup);
        }
        for instance in &mut self.instances {
            instance.tier = Tier::Serving;
            instance.moving = None;
            instance.weight = 1;
        }
    }

    /// Instances that exist or are being made.
    pub(crate) fn len(&self) -> u32 {
        count(self.instances.iter())
    }

    /// Requests follow the weights; what one cannot do goes to others that have room, as the
    /// two-candidate rule of the data plane sees to. What all cannot do waits or is violated.
    pub(crate) fn serve(
        &mut self,
        arrivals: u64,
        now_ms: u64,
        tick_ms: u64,
        setup: &Setup,
    ) -> Served {
        let tick_s = tick_ms as f64 / 1_000.0;
        let middle_ms = now_ms + tick_ms / 2;
        self.able.clear();
        let mut weights = 0.0;
        for (at, instance) in self.instances.iter_mut().enumerate() {
            instance.load = Load::default();
            if instance.serves() && instance.weight > 0 {
                weights += f64::from(instance.weight);
                self.able.push((at, instance.part(middle_ms, setup) * setup.capacity_rps * tick_s));
            }
        }
        let room: f64 = self.able.iter().map(|(_, room)| room).sum();
        let work = self.backlog + arrivals as f64;
        let done = work.min(room);
        let waits = room / tick_s * setup.wait_ms as f64 / 1_000.0;
        let violated = (work - done - waits).clamp(0.0, arrivals as f64);
        self.backlog = if setup.carry { work - done } else { (work - done).min(waits) };
        self.share_out(arrivals as f64, done, weights);
        Served { serving: count(self.able.iter()), capacity_rps: room / tick_s, violated }
    }

    fn share_out(&mut self, arrivals: f64, done: f64, weights: f64) {
        let mut left = done;
        for &(at, room) in &self.able {
            let instance = &mut self.instances[at];
            let share = f64::from(instance.weight) / weights.max(1.0);
            instance.load = Load {
                given: arrivals * share,
                done: (done * share).min(room),
                waiting: self.backlog * share,
            };
            left -= instance.load.done;
        }
        for &(at, room) in &self.able {
            let load = &mut self.instances[at].load;
            let more = left.min(room - load.done).max(0.0);
            load.done += more;
            load.given += more;
            left -= more;
        }
    }

    /// Lets time pass; returns what was reached by `now_ms`.
    pub(crate) fn advance(&mut self, now_ms: u64) -> Vec<Fact> {
        let mut facts = Vec::new();
        for instance in &mut self.instances {
            let Some((tier, done_ms, begun_ms)) = instance.moving else { continue };
            if done_ms <= now_ms {
                let (from, took_ms) = (instance.tier, done_ms - begun_ms);
                instance.tier = tier;
                instance.moving = None;
                instance.reached_ms = done_ms;
                facts.push(Fact::TierReached { instance: instance.id, from, tier, took_ms });
            }
        }
        facts
    }

    /// Carries out orders. Without weights all that serve share alike.
    pub(crate) fn carry_out(
        &mut self,
        actions: &[Action],
        weights: Option<&[InstanceWeight]>,
        now_ms: u64,
        setup: &Setup,
    ) {
        for action in actions {
            match *action {
                Action::Create { tier, .. } => self.create(tier, now_ms, setup),
                Action::Move { instance, tier } => self.begin(instance, tier, now_ms, setup),
                Action::Destroy { instance } => {
                    self.instances.retain(|i| i.id != instance || i.role == Role::Primary);
                }
            }
        }
        match weights {
            None => self.instances.iter_mut().for_each(|i| i.weight = 1),
            Some(weights) => {
                for instance in &mut self.instances {
                    let at = weights.binary_search_by_key(&instance.id, |w| w.instance);
                    instance.weight = at.map_or(0, |at| weights[at].weight);
                }
            }
        }
    }

    fn create(&mut self, tier: Tier, now_ms: u64, setup: &Setup) {
        if self.len() >= setup.max_instances {
            return;
        }
        let id = InstanceId(self.next_id);
        self.next_id += 1;
        self.instances.push(Instance {
            id,
            role: Role::Shadow,
            tier: Tier::Cold,
            moving: None,
            reached_ms: now_ms,
            weight: 0,
            load: Load::default(),
        });
        self.begin(id, tier, now_ms, setup);
    }

    fn begin(&mut self, id: InstanceId, tier: Tier, now_ms: u64, setup: &Setup) {
        let Ok(at) = self.instances.binary_search_by_key(&id, |i| i.id) else { return };
        let instance = &mut self.instances[at];
        if tier == Tier::Draining {
            instance.tier = tier;
            instance.reached_ms = now_ms;
            return;
        }
        let took_ms = setup.start_up.ms(instance.tier, tier);
        instance.moving = Some((tier, now_ms + took_ms, now_ms));
    }
}

impl Instance {
    pub(crate) fn serves(&self) -> bool {
        self.tier == Tier::Serving && self.moving.is_none()
    }

    /// Part of its capacity it has at a time.
    fn part(&self, at_ms: u64, setup: &Setup) -> f64 {
        if self.role == Role::Primary || setup.warm_up_ms == 0 {
            return 1.0;
        }
        warm_part(at_ms.saturating_sub(self.reached_ms), setup.warm_up_ms)
    }
}

/// Part of its capacity that an instance has after serving for `served_ms`.
pub(crate) fn warm_part(served_ms: u64, warm_up_ms: u64) -> f64 {
    COLD_PART + (1.0 - COLD_PART) * (served_ms as f64 / warm_up_ms as f64).min(1.0)
}

pub(crate) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
