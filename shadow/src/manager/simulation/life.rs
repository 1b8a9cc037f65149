//! One life of a Foreshadow: a manager and a controller in their loop, from a start to a crash, a stop
//! or the end of the schedule.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{
    Action, Alert, Controller, Health, InstanceId, InstanceObservation, Meters, Mode, Observation,
    Role, ServiceName, ServiceObservation, Tier,
};
use tokio::time::Instant;

use super::nature::{CAPACITY_RPS, Nature, TICK_MS};
use super::seams::{Checks, Link};
use super::weather::Trouble;
use crate::error::ShadowError;
use crate::manager::{Leaving, Manager, start};
use crate::remote::Places;
use crate::settings::{ManagerSettings, ShadowInstance};

/// Primaries of each service.
const PRIMARIES: u64 = 2;
/// Ids of primaries, which no shadow ever gets.
const FIRST_PRIMARY: u64 = 1 << 60;

/// A manager, a controller, and what is remembered between ticks.
pub(super) struct Life {
    pub(super) manager: Manager,
    pub(super) link: Arc<Link>,
    places: Places,
    controller: Controller,
    tick: u64,
    began_ms: u64,
    weights: BTreeMap<ServiceName, BTreeMap<InstanceId, u32>>,
    leaving: Vec<(Instant, Leaving)>,
    /// Of the last plan, by service.
    pub(super) alerts: BTreeMap<ServiceName, Vec<Alert>>,
    /// What a service is asked for, requests per second, and activations by hand.
    pub(super) demand_rps: BTreeMap<&'static str, f64>,
    pub(super) activate: BTreeMap<&'static str, u32>,
    pub(super) mode: Mode,
}

/// A manager in that directory.
async fn manager(
    dir: &Path,
    link: &Arc<Link>,
    places: &Places,
    natures: &[Nature],
) -> Result<Manager, ShadowError> {
    let present = natures.iter().filter(|nature| nature.present);
    let settings = ManagerSettings {
        state_dir: dir.to_owned(),
        services: present.map(|nature| nature.shadows(link, places)).collect(),
        janitors: Vec::new(),
        concurrent_creates: 4,
    };
    let inner = start::start(settings, Arc::new(Checks(Arc::clone(link))), link.ground()).await?;
    Ok(Manager { inner })
}

impl Life {
    /// Starts on what is there.
    pub(super) async fn start(
        dir: &Path,
        link: Arc<Link>,
        natures: &[Nature],
    ) -> Result<Self, ShadowError> {
        let places = Places::default();
        let manager = manager(dir, &link, &places, natures).await?;
        let began_ms = link.world().now_ms;
        let mut life = Self {
            manager,
            link,
            places,
            controller: Controller::default(),
            tick: 0,
            began_ms,
            weights: BTreeMap::new(),
            leaving: Vec::new(),
            alerts: BTreeMap::new(),
            demand_rps: BTreeMap::new(),
            activate: BTreeMap::new(),
            mode: Mode::Act,
        };
        life.learn(natures);
        Ok(life)
    }

    fn learn(&mut self, natures: &[Nature]) {
        let present = natures.iter().filter(|nature| nature.present);
        self.controller.configure(present.map(Nature::spec).collect());
    }

    /// Takes other settings, as a reload does.
    pub(super) fn reconfigure(&mut self, natures: &[Nature]) {
        let present = natures.iter().filter(|nature| nature.present);
        let services = present.map(|nature| nature.shadows(&self.link, &self.places)).collect();
        let leaving = self.manager.reconfigure(services);
        let drained = |one: Leaving| (Instant::now() + one.stop_timeout, one);
        self.leaving.extend(leaving.into_iter().map(drained));
        self.learn(natures);
    }

    /// Lets a tick pass, and does what the controller decides.
    pub(super) async fn tick(&mut self, natures: &[Nature]) {
        tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
        self.link.world().befall(TICK_MS);
        let now = Instant::now();
        for (_, leaving) in self.leaving.extract_if(.., |(at, _)| *at <= now) {
            self.manager.end_leaving(&leaving);
        }
        self.tick += 1;
        let observation = self.observe(natures);
        let plan = self.controller.tick(&observation);
        for service in plan.services {
            let weights = service.weights.iter().map(|w| (w.instance, w.weight)).collect();
            self.weights.insert(service.service.clone(), weights);
            self.alerts.insert(service.service.clone(), service.alerts);
            if !service.act {
                continue;
            }
            for planned in &service.actions {
                let (action, reason) = (&planned.action, &planned.reason.text);
                self.link
                    .world()
                    .note(format!("plan for {}: {action:?}: {reason}", service.service));
            }
            let actions: Vec<Action> =
                service.actions.into_iter().map(|planned| planned.action).collect();
            if !actions.is_empty() {
                self.manager.apply(&service.service, &actions);
            }
        }
    }

    fn observe(&mut self, natures: &[Nature]) -> Observation {
        let mut facts = BTreeMap::<ServiceName, Vec<_>>::new();
        for (service, fact) in self.manager.take_facts() {
            self.link.world().note(format!("fact of {service}: {fact:?}"));
            facts.entry(service).or_default().push(fact);
        }
        let shadows = self.manager.snapshot();
        let mut services: Vec<ServiceObservation> = natures
            .iter()
            .filter(|nature| nature.present)
            .map(|nature| {
                let name = nature.service();
                let rps = self.demand_rps.get(nature.name).copied().unwrap_or(20.0);
                let mut instances = self.shadows_of(&name, &shadows);
                instances.extend(self.primaries_of(nature));
                self.share_out(&name, rps, &mut instances);
                ServiceObservation {
                    arrivals: (rps * TICK_MS as f64 / 1e3) as u64,
                    facts: facts.remove(&name).unwrap_or_default(),
                    activate: self.activate.remove(nature.name).unwrap_or_default(),
                    instances,
                    ..ServiceObservation::quiet(name, self.mode)
                }
            })
            .collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let at_ms = 1_000_000 + self.began_ms + self.tick * TICK_MS;
        Observation { tick: self.tick, at_ms, interval_ms: TICK_MS, kill_switch: false, services }
    }

    fn shadows_of(
        &self,
        service: &ServiceName,
        shadows: &[ShadowInstance],
    ) -> Vec<InstanceObservation> {
        let world = self.link.world();
        let health = |one: &ShadowInstance| match one.address {
            Some(address) if one.tier >= Tier::Warm => match world.answers(address.port()) {
                Ok(()) => Health::Up,
                Err(why) => Health::Down(why),
            },
            _ => Health::Unknown,
        };
        let of = shadows.iter().filter(|one| one.service == *service);
        of.map(|one| InstanceObservation {
            moving_to: one.moving_to,
            tier_age_ms: one.tier_age_ms,
            outdated: one.outdated,
            health: health(one),
            ..InstanceObservation::idle(one.id, Role::Shadow, one.tier)
        })
        .collect()
    }

    fn primaries_of(&self, nature: &Nature) -> Vec<InstanceObservation> {
        let down = self.link.world().has(Trouble::PrimariesDown);
        let first = FIRST_PRIMARY + nature.name.len() as u64 * PRIMARIES;
        (first..first + PRIMARIES)
            .map(|id| {
                let health =
                    if down { Health::Down("connection refused".to_owned()) } else { Health::Up };
                let id = InstanceId(id);
                InstanceObservation {
                    health,
                    tier_age_ms: self.tick * TICK_MS,
                    ..InstanceObservation::idle(id, Role::Primary, Tier::Serving)
                }
            })
            .collect()
    }

    /// Requests follow the last weights; what is down refuses them.
    fn share_out(&self, service: &ServiceName, rps: f64, instances: &mut [InstanceObservation]) {
        let Some(weights) = self.weights.get(service) else { return };
        let total: u32 = weights.values().sum();
        for one in instances.iter_mut() {
            let weight = weights.get(&one.instance).copied().unwrap_or(0);
            let share = f64::from(weight) / f64::from(total.max(1));
            let requests = (rps.min(CAPACITY_RPS * 10.0) * share * TICK_MS as f64 / 1e3) as u64;
            let up = one.health == Health::Up;
            one.meters = Meters {
                requests,
                ok: if up { requests } else { 0 },
                connect_errors: if up { 0 } else { requests },
                ..Meters::default()
            };
        }
        instances.sort_by_key(|one| one.instance);
    }
}
