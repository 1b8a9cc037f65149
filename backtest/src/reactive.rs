//! Target tracking of measured demand, as a Kubernetes HorizontalPodAutoscaler does it.
//!
//! Every `sync_s` the mean demand since the last time asks for `ceil(demand / (target x
//! capacity))` instances. Within `tolerance` of the target nothing changes; more are started at
//! once; fewer remain when nothing more was asked for in the last `window_s` (the HPA's
//! stabilisation window for scaling down, 300 s by default). Its limits on the pace of scaling up
//! are left out, and demand is measured as requests, which do not saturate: both to its advantage.

use std::collections::VecDeque;
use std::fmt;

use foreshadow_control::{Action, Role, Tier};
use serde::Serialize;

use crate::fleet::{Fleet, Instance};
use crate::policy::{Orders, Seen, within};

/// Parameters of target tracking; the defaults are those of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReactiveSpec {
    /// Utilisation aimed at, 0 to 1.
    pub target: f64,
    /// Time between two looks.
    pub sync_s: f64,
    /// Time for which nothing more must have been asked before less remains.
    pub window_s: f64,
    /// Relative deviation from the target that changes nothing.
    pub tolerance: f64,
}

impl Default for ReactiveSpec {
    fn default() -> Self {
        Self { target: 0.7, sync_s: 15.0, window_s: 300.0, tolerance: 0.1 }
    }
}

impl ReactiveSpec {
    pub(crate) fn with(mut self, settings: Vec<(&str, f64)>) -> Result<Self, String> {
        for (key, value) in settings {
            match key {
                "target" => self.target = within(key, value, 0.01..=1.0)?,
                "sync" => self.sync_s = within(key, value, 0.1..=3_600.0)?,
                "window" => self.window_s = within(key, value, 0.0..=86_400.0)?,
                "tolerance" => self.tolerance = within(key, value, 0.0..=1.0)?,
                _ => {
                    return Err(format!(
                        "no setting {key:?}; there are target, sync, window, tolerance"
                    ));
                }
            }
        }
        Ok(self)
    }
}

impl fmt::Display for ReactiveSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, sync_s, window_s, tolerance } = *self;
        if (Self { target, ..Self::default() }) == *self {
            return write!(f, "reactive:{target}");
        }
        write!(f, "reactive:target={target},sync={sync_s},window={window_s},tolerance={tolerance}")
    }
}

/// Target tracking at work.
pub(crate) struct Reactive {
    spec: ReactiveSpec,
    looked_at_tick: usize,
    /// When, and how many were asked for; oldest first.
    asked: VecDeque<(u64, u32)>,
}

impl Reactive {
    pub(crate) fn new(spec: ReactiveSpec) -> Self {
        Self { spec, looked_at_tick: 0, asked: VecDeque::new() }
    }

    pub(crate) fn decide(&mut self, seen: &Seen<'_>) -> Orders {
        let passed_ms = (seen.ticks - self.looked_at_tick) as u64 * seen.trace.tick_ms;
        if (passed_ms as f64) < self.spec.sync_s * 1_000.0 {
            return Orders::default();
        }
        let rps = seen.trace.mean_rps(self.looked_at_tick, seen.ticks).unwrap_or(0.0);
        self.looked_at_tick = seen.ticks;
        let per_instance = self.spec.target * seen.setup.capacity_rps;
        let now = seen.fleet.len();
        let off = rps / (per_instance * f64::from(now.max(1))) - 1.0;
        let asked = if off.abs() <= self.spec.tolerance {
            now
        } else {
            seen.setup.instances_for(rps / self.spec.target)
        };
        let window_ms = (self.spec.window_s * 1_000.0) as u64;
        self.asked.push_back((seen.now_ms, asked));
        while self.asked.front().is_some_and(|(at_ms, _)| at_ms + window_ms < seen.now_ms) {
            self.asked.pop_front();
        }
        let wanted = self.asked.iter().map(|(_, asked)| *asked).max().unwrap_or(asked);
        // More at once; less only when the window asked for no more than that.
        let actions = resize(seen.fleet, if asked > now { asked } else { wanted.min(now) });
        Orders { actions, ..Orders::default() }
    }
}

/// Orders that make the fleet `wanted` strong: new instances go straight to serving, the youngest
/// end first.
pub(crate) fn resize(fleet: &Fleet, wanted: u32) -> Vec<Action> {
    let now = fleet.len();
    let surplus = now.saturating_sub(wanted) as usize;
    let shadow = |i: &&Instance| i.role == Role::Shadow;
    let ends = fleet.instances.iter().rev().filter(shadow).take(surplus);
    let ends = ends.map(|i| Action::Destroy { instance: i.id });
    let begins = (now..wanted).map(|_| Action::create(Tier::Serving));
    ends.chain(begins).collect()
}
