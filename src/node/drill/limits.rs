//! Who is hurt, and what speaks against it.

use std::time::Duration;

use foreshadow_control::{
    AlertKind, Health, InstanceId, InstanceObservation, Law, MigrationPhase, MigrationView, Role,
    ServiceName, ServiceObservation, ServicePlan, Tier,
};

use super::ask::{Ask, FaultKind};
use super::report::Objection;

/// A service as the last tick saw and planned it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) seen: &'a ServiceObservation,
    pub(super) plan: &'a ServicePlan,
    /// The kill switch.
    pub(super) is_held: bool,
}

impl Scene<'_> {
    pub(super) fn weight(&self, id: InstanceId) -> u32 {
        self.plan.weights.iter().find(|w| w.instance == id).map_or(0, |w| w.weight)
    }

    pub(super) fn find(&self, id: InstanceId) -> Option<&InstanceObservation> {
        self.seen.instances.iter().find(|i| i.instance == id)
    }

    /// Those that carry requests now and are well.
    pub(super) fn carrying(&self) -> impl Iterator<Item = &InstanceObservation> {
        let carries = |i: &&InstanceObservation| {
            self.weight(i.instance) > 0 && i.health == Health::Up && !i.drained
        };
        self.seen.instances.iter().filter(carries)
    }

    /// The instance to hurt where none is named: a shadow before a primary, then the one with the least
    /// weight.
    pub(super) fn choose(&self) -> Option<InstanceId> {
        let order = |i: &&InstanceObservation| {
            (i.role == Role::Primary, self.weight(i.instance), i.instance)
        };
        self.carrying().min_by_key(order).map(|i| i.instance)
    }

    fn capacity(&self, id: InstanceId) -> Option<f64> {
        self.plan.capacity.iter().find(|c| c.instance == id).map(|c| c.rps)
    }

    /// The highest demand expected from now to `ahead`, at the upper quantile, announced events
    /// counted in.
    pub(super) fn demand(&self, ahead: Duration) -> f64 {
        let ahead_ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        let mut horizons: Vec<_> = self.plan.forecast.iter().collect();
        horizons.sort_by_key(|h| h.horizon_ms);
        // The first one that lies beyond it, too: demand is on its way there.
        let within = horizons.iter().take_while(|h| h.horizon_ms < ahead_ms).count() + 1;
        let upper = horizons.iter().take(within).map(|h| h.upper_rps);
        let base = upper.fold(self.plan.demand_rps, f64::max);
        let soon = self.seen.announced.iter().filter(|a| a.starts_in_ms <= ahead_ms);
        let lift = soon.map(|a| a.lift).filter(|lift| lift.is_finite()).fold(1.0, f64::max);
        base * lift
    }
}

/// Everything that speaks against hurting `victim` now.
pub(super) fn objections(scene: &Scene<'_>, victim: InstanceId, ask: &Ask) -> Vec<Objection> {
    let Some(hurt) = scene.find(victim) else {
        let service = &scene.seen.service;
        return vec![Objection::hard(
            "unknown_instance",
            format!("{service} has no instance {victim}"),
            "name one of `GET /api/v1/instances`, or none",
        )];
    };
    let mut all = of_the_service(scene);
    all.extend(of_the_victim(scene, hurt, ask));
    // One that carries nothing takes nothing away.
    if scene.weight(victim) > 0 {
        all.extend(of_the_rest(scene, victim, ask));
    }
    all
}

fn of_the_service(scene: &Scene<'_>) -> Vec<Objection> {
    let service: &ServiceName = &scene.seen.service;
    let mut all = Vec::new();
    if scene.is_held {
        let help = "release the kill switch first";
        let text = "the kill switch is engaged: nothing would be replaced";
        all.push(Objection::hard("kill_switch", text, help));
    }
    for alert in &scene.plan.alerts {
        if matches!(alert.kind, AlertKind::Shortage | AlertKind::NoCapacity) {
            let help = "wait until the alert is over, or give the service more room";
            let text = format!("alert {}: {}", alert.kind.as_str(), alert.text);
            all.push(Objection::hard("shortage", text, help));
        } else if alert.kind == AlertKind::ReserveShort {
            // What is demanded is carried: a drill finds less of a reserve than is asked for, which may be
            // what it is to show.
            let help = "give the service's places more room";
            let text = format!("alert {}: {}", alert.kind.as_str(), alert.text);
            all.push(Objection::soft("reserve", text, help));
        }
    }
    let lost = scene.seen.instances.iter().filter(|i| {
        let counts = i.role == Role::Primary || scene.weight(i.instance) > 0;
        counts && matches!(i.health, Health::Down(_) | Health::Ejected)
    });
    let lost: Vec<String> = lost.map(|i| i.instance.to_string()).collect();
    if !lost.is_empty() {
        let text =
            format!("{} of {service} failed already: a failover is under way", lost.join(", "));
        let help = "repair it, or wait until it is replaced";
        all.push(Objection::hard("failover", text, help));
    }
    let moves = |m: &&MigrationView| !m.phase.is_over() && m.phase != MigrationPhase::Scheduled;
    if let Some(moving) = scene.plan.migrations.iter().find(moves) {
        let text = format!("a migration is under way: {}", moving.text);
        let help = "wait until it is over, or call it off (`foreshadow migrate --list`)";
        all.push(Objection::hard("migration", text, help));
    }
    let moves_back = scene.plan.actions.iter().any(|a| a.reason.law == Law::Rollback);
    let drains = |i: &&InstanceObservation| {
        i.role == Role::Shadow && (i.tier == Tier::Draining || i.moving_to == Some(Tier::Draining))
    };
    if let Some(draining) = scene.seen.instances.iter().find(drains) {
        let text = format!("a rollback is under way: {} drains", draining.instance);
        all.push(Objection::soft("rollback", text, "wait until it is over"));
    } else if moves_back {
        let text = "a rollback is under way";
        all.push(Objection::soft("rollback", text, "wait until it is over"));
    }
    all
}

fn of_the_victim(scene: &Scene<'_>, hurt: &InstanceObservation, ask: &Ask) -> Vec<Objection> {
    let id = hurt.instance;
    let mut all = Vec::new();
    if !scene.plan.act {
        let text = format!(
            "{} is in mode {}: nothing would be done about it",
            scene.seen.service, scene.plan.mode
        );
        let help = "set the mode `act`";
        // What ends by itself is met by retries and ejection all the same.
        let is_passive = ask.fault != FaultKind::Kill || hurt.role == Role::Primary;
        all.push(if is_passive {
            Objection::soft("mode", text, help)
        } else {
            Objection::hard("mode", text, help)
        });
    }
    if let Some(to) = hurt.moving_to {
        let text = format!("{id} is on its way from {} to {to}", hurt.tier);
        all.push(Objection::hard("moving", text, "wait until it is there"));
    }
    if hurt.drained {
        let text = format!("{id} is drained by an operator");
        all.push(Objection::hard("drained", text, "take it back, or name another"));
    }
    let is_idle = scene.weight(id) == 0;
    let made = hurt.role == Role::Shadow && hurt.tier >= Tier::Shadow;
    if is_idle && (ask.fault != FaultKind::Kill || !made) {
        let text = format!("{id} carries no requests: nothing could be seen");
        let help = "name one that has a weight, or none";
        all.push(Objection::hard("idle", text, help));
    }
    if !is_idle && hurt.health != Health::Up {
        let text = format!("{id} is not known to be well");
        all.push(Objection::hard("unwell", text, "wait for its health check, or name another"));
    }
    all
}

/// Whether what is left could carry what is expected.
fn of_the_rest(scene: &Scene<'_>, victim: InstanceId, ask: &Ask) -> Option<Objection> {
    let rest: Vec<_> = scene.carrying().filter(|i| i.instance != victim).collect();
    if rest.is_empty() {
        let text = format!("nothing but {victim} serves {} now", scene.seen.service);
        let help = "bring a shadow into service first: `POST /api/v1/services/NAME/activate`";
        return Some(Objection::hard("no_redundancy", text, help));
    }
    let demand = scene.demand(Duration::from_millis(ask.for_ms));
    let capacities: Option<Vec<f64>> = rest.iter().map(|i| scene.capacity(i.instance)).collect();
    let help = "activate shadows first, ask when demand is lower, or pin capacities that are known";
    let Some(capacities) = capacities else {
        let text = format!(
            "what the {} others can carry is not known yet; {demand:.0} rps are expected",
            rest.len()
        );
        return Some(Objection::soft("redundancy", text, help));
    };
    let room: f64 = capacities.iter().sum();
    (room < demand).then(|| {
        let text = format!(
            "the {} others can carry {room:.0} rps by what is known; up to {demand:.0} rps are \
             expected within {} s",
            rest.len(),
            ask.for_ms.div_ceil(1000)
        );
        Objection::soft("redundancy", text, help)
    })
}
