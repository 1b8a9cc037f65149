//! One service: its state and the order in which the laws are applied to it.

mod blank;
mod migrate;
mod orders;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::blank::empty_plan;
use crate::alerts::{AlertBoard, conditions};
use crate::announced::Announcements;
use crate::clock::Clock;
use crate::demand::{Demand, DemandForecast, Outlook};
use crate::feedback::{Feedback, InForce};
use crate::fleet::{Fleet, Member};
use crate::learning::Learning;
use crate::loss::Losses;
use crate::migration::{Facts, Migration};
use crate::place::Places;
use crate::providers::Providers;
use crate::publish::{Published, Publisher};
use crate::risk::{AtRisk, Risk};
use crate::rollback::Rollback;
use crate::rules::{Board, Claims};
use crate::scaling::Scaling;
use crate::scene::Scene;
use crate::signals::Signalled;
use crate::sizing::Sizing;
use crate::supply::Supply;
use crate::tiers;
use crate::{
    AlertKind, FeedbackView, Mode, Observation, PlaceName, ReservationBasis, RiskAssessment,
    ServiceObservation, ServicePlan, ServiceSpec,
};
use crate::{creation, creation::Creations};

/// Shadows whose mirrored answers are wrong are ended this far apart.
const VERIFICATION_REST_MS: u64 = 10_000;
/// Requests answered by the proxy itself for want of a backend, above this share, mean saturation.
const UNSERVED_SHARE: f64 = 0.01;

/// What is known of one service between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    spec: ServiceSpec,
    clock: Clock,
    demand: Demand,
    fleet: Fleet,
    provider: Providers,
    rollback: Rollback,
    publisher: Publisher,
    /// Shadows lost or ended for a fault, and not made again yet.
    lost_shadows: u32,
    /// What served and was lost last.
    #[serde(default)]
    losses: Losses,
    /// What served and is in the configuration no longer, as of this tick.
    #[serde(default)]
    removed: Option<String>,
    /// Shadows an operator wants serving, and until when.
    operator: Option<(u32, u64)>,
    #[serde(default)]
    announcements: Announcements,
    #[serde(default)]
    alerts: AlertBoard,
    /// No shadow is ended for its mirrored answers before.
    #[serde(default)]
    verify_from_ms: u64,
    #[serde(default)]
    pub(crate) rules: Board,
    #[serde(default)]
    risk: Risk,
    #[serde(default)]
    feedback: Feedback,
    #[serde(default)]
    scaling: Scaling,
    #[serde(default)]
    sizing: Sizing,
    #[serde(default)]
    migration: Migration,
    /// What the instances could carry in the last tick: looked at from outside, and no part of what is
    /// remembered.
    #[serde(skip)]
    last_supply: Option<Supply>,
    #[serde(default, skip_serializing_if = "Learning::is_empty")]
    learning: Learning,
}

impl Service {
    /// `turn` is another one for each of many services, so that the arithmetic of all does not fall
    /// into one tick.
    pub(crate) fn new(spec: ServiceSpec, turn: u64) -> Self {
        Self {
            demand: Demand::new(&spec, turn),
            rules: Board::new(&spec, turn),
            risk: Risk::new(spec.name.as_str()),
            spec,
            clock: Clock::default(),
            fleet: Fleet::default(),
            provider: Providers::default(),
            rollback: Rollback::default(),
            publisher: Publisher::default(),
            lost_shadows: 0,
            losses: Losses::default(),
            removed: None,
            operator: None,
            announcements: Announcements::default(),
            alerts: AlertBoard::default(),
            verify_from_ms: 0,
            feedback: Feedback::default(),
            scaling: Scaling::default(),
            sizing: Sizing::default(),
            last_supply: None,
            migration: Migration::default(),
            learning: Learning::default(),
        }
    }

    pub(crate) fn reservation_basis(&self, seen: &ServiceObservation) -> Option<ReservationBasis> {
        let warm_up_ms = self.fleet.warm_up.ms(self.spec.warm_up_ms);
        ReservationBasis::of(&self.spec, seen, self.last_supply?, warm_up_ms, &self.provider)
    }

    pub(crate) fn spec(&self) -> &ServiceSpec {
        &self.spec
    }

    /// Takes another spec; `turn` as in [`new`](Self::new).
    pub(crate) fn configure(&mut self, spec: ServiceSpec, turn: u64) {
        if self.demand.must_restart_for(&spec) {
            self.demand = Demand::new(&spec, turn);
        }
        if self.spec.evaluation_window_ms != spec.evaluation_window_ms {
            self.rollback.restart();
        }
        if spec.pool.is_none() {
            self.alerts.forget(AlertKind::ProviderFailing);
        }
        if (self.spec.pool, self.spec.sizing) != (spec.pool, spec.sizing) {
            self.sizing.restart();
        }
        self.rules.configure(&spec);
        self.scaling.configure(self.spec.scaling.as_ref(), spec.scaling.as_ref());
        if spec.scaling.is_none() {
            self.alerts.forget(AlertKind::ScalingFailing);
        }
        if !spec.learning.outcomes {
            self.provider.forget_failed();
        }
        self.learning.configure(&spec.learning);
        self.spec = spec;
    }

    /// Goes on after `gap_ms` in which nothing was seen, such as a restart.
    pub(crate) fn resume(&mut self, gap_ms: u64) {
        self.clock.resume(gap_ms);
        self.demand.rest(gap_ms);
        self.fleet.rest(gap_ms);
        self.rules.rest();
        self.risk.rest();
        self.rollback.restart();
        self.feedback.rest();
        self.scaling.rest();
        self.migration.rest();
    }

    pub(crate) fn feedback(&self) -> FeedbackView {
        let (forecasts, long_range) = self.demand.scores();
        FeedbackView {
            forecasts,
            long_range,
            signals: self.demand.signals(),
            rules: self.rules.scores(),
            risk: self.risk.score(),
            learning: self.learning.view(&self.spec, &self.provider, &self.fleet.warm_up),
            ..self.feedback.view(&self.spec)
        }
    }

    /// Whether its forecaster would begin anew under `spec`.
    pub(crate) fn must_restart_for(&self, spec: &ServiceSpec) -> bool {
        self.demand.must_restart_for(spec)
    }

    pub(crate) fn tick(
        &mut self,
        observation: &Observation,
        seen: &ServiceObservation,
        tell: &mut dyn FnMut(DemandForecast) -> DemandForecast,
    ) -> ServicePlan {
        let act = seen.mode == Mode::Act && !observation.kill_switch;
        self.observe(observation, seen);
        let mut outlook = self.demand.outlook(&tell(self.demand.forecast(&self.spec.quantiles)));
        let window_ms = self.spec.evaluation_window_ms;
        let now_ms = self.clock.now_ms();
        outlook.events = self.announcements.observe(&seen.announced, &outlook, now_ms, window_ms);
        let in_force = self.feedback.in_force(&self.spec);
        self.publisher.follow(act, &mut self.fleet.known);
        let mut plan = self.decide(seen, &outlook, in_force, observation, act);
        plan.demand_rps = (outlook.now_rps * 1_000.0).round() / 1_000.0;
        plan.risk = self.assessments(&outlook);
        plan.forecast = outlook.horizons;
        plan.act = act;
        plan.thresholds = Some(in_force.into());
        if let Some((place, outcome)) = self.migration.take_outcome() {
            self.learning.learn_shift(&place, outcome, &self.spec);
        }
        if act {
            self.remember(seen, &plan.actions);
        }
        plan
    }

    fn observe(&mut self, observation: &Observation, seen: &ServiceObservation) {
        let interval_ms = observation.interval_ms.min(crate::clock::LONGEST_STEP_MS);
        let passed_ms = self.clock.advance(observation.at_ms, interval_ms);
        let now_ms = self.clock.now_ms();
        let missing_ms = passed_ms.saturating_sub(interval_ms);
        let signals = Signalled { now: &seen.signals, planned: &seen.planned };
        self.demand.observe(seen.arrivals, interval_ms, missing_ms, &signals);
        self.demand.hear(&seen.long_range, now_ms, passed_ms, &self.spec);

        let sighted = self.fleet.observe(&self.spec, seen, now_ms, interval_ms);
        let adopted = self.learn_facts(seen, &sighted, now_ms);
        self.learn_outcomes(seen, now_ms, interval_ms);
        self.risk.observe(seen, now_ms, interval_ms, self.spec.objective.error_rate);
        self.losses.observe(&sighted.lost_serving, seen, now_ms);
        self.removed = crate::loss::removed_text(&sighted.removed_serving);
        let mut visible: BTreeMap<PlaceName, u32> = BTreeMap::new();
        for (id, place) in sighted.new_shadows {
            if !adopted.contains(&id) && self.provider.was_awaited(&place, id) {
                *visible.entry(place).or_default() += 1;
            }
        }
        self.provider.settle(&visible, now_ms);
        self.provider.retain(&self.spec.places, &seen.instances);
        self.provider.forgive(now_ms, &seen.instances);
        self.operator = self.operator.filter(|(_, until_ms)| now_ms < *until_ms);
    }

    fn decide(
        &mut self,
        seen: &ServiceObservation,
        outlook: &Outlook,
        in_force: InForce,
        observation: &Observation,
        act: bool,
    ) -> ServicePlan {
        let now_ms = self.clock.now_ms();
        let mut members = self.fleet.members(&self.spec, &seen.instances, now_ms);
        let vacant = self.migration.mark(&mut members, &self.spec, seen, act, &self.fleet.known);
        let capacity = self.fleet.views(&members);
        let saturated = self.is_saturated(seen);
        let supply = Supply::of(&members, &self.spec, self.fleet.typical_rps, outlook, vacant);
        let supply = *self.last_supply.insert(supply);
        let at_risk = self.relieve(&mut members, &supply, outlook, seen, observation.interval_ms);
        let mut size = self.sizing.size(&self.spec, seen, (&supply, outlook), now_ms);
        size.leave_out(self.migration.beside(&members));
        let mut scene = Scene {
            spec: &self.spec,
            pool: size.pool,
            least: size.least,
            shortage: self.sizing.shortage(now_ms),
            now_ms,
            warm_up_ms: self.fleet.warm_up.ms(self.spec.warm_up_ms),
            outlook,
            in_force,
            places: Places::of(&self.spec.places, &members, &self.provider, now_ms)
                .knowing(&self.learning, &self.fleet.warm_up),
            providers: &self.provider,
            supply,
            members,
            loss: if self.losses.is_fresh(now_ms) { self.losses.text() } else { "" },
            lost_now: self.losses.is_new(now_ms),
            removed: self.removed.take(),
            claims: Claims::default(),
            at_risk,
            shift: None,
            actions: Vec::new(),
        };
        let told = self.rules.tick(&mut scene, seen, observation);
        let activate = by_hand(&mut self.operator, &scene, seen.activate);
        let floor = tiers::floor(&scene, saturated, activate);
        let lost = end_faulty(&mut scene, &mut self.verify_from_ms, act);
        self.lost_shadows = self.lost_shadows.saturating_add(lost).min(scene.pool.max);
        let (known, returning) = (&self.fleet.known, self.rollback.returning);
        let facts = Facts { seen, observation, act, known, risk: &self.risk, floor, returning };
        let moved = self.migration.step(&mut scene, &facts);
        tiers::raise(&mut scene, floor);
        self.rollback.step(&mut scene, floor, |id| known.get(&id).is_some_and(|k| k.share > 0.0));
        let pending = self.provider.pending().saturating_sub(self.migration.pending(now_ms));
        let creations = Creations { pending, lost: self.lost_shadows };
        let missing = creation::create(&mut scene, floor, creations);
        self.sizing.note_short(missing, now_ms);
        let scaled = self.scaling.tick(&scene, seen, saturated);
        let interval_ms = observation.interval_ms;
        let learned = self.feedback.follow(&scene, creations.pending, saturated, interval_ms, act);
        let (known, returning) = (&mut self.fleet.known, self.rollback.returning);
        let Published { weights, advised, mut reasons } =
            self.publisher.publish(&scene, known, returning, interval_ms);
        let mut holding = conditions(&scene, seen.arrivals, missing, saturated);
        holding.extend(scaled.alert);
        let mut alerts = self.alerts.follow(holding, now_ms);
        alerts.extend(told.alerts);
        reasons.extend(told.reasons.into_iter().chain(learned).chain(scaled.reasons));
        reasons.extend(size.reason.into_iter().chain(moved.reasons));
        ServicePlan {
            weights,
            advised,
            actions: scene.actions,
            alerts,
            reasons,
            capacity,
            rules: told.views,
            scaling: scaled.view,
            migrations: moved.views,
            ..empty_plan(seen)
        }
    }

    /// Relieves instances that are likely to fail, as far as the others carry what is asked soon.
    fn relieve(
        &mut self,
        members: &mut [Member<'_>],
        supply: &Supply,
        outlook: &Outlook,
        seen: &ServiceObservation,
        interval_ms: u64,
    ) -> AtRisk {
        let lead_ms = self.spec.warm_up_ms.max(1_000);
        let asked_rps = outlook.asked(lead_ms, |h| h.median_rps).rps.max(outlook.now_rps);
        let target = supply.target;
        let at_risk = self.risk.relieve(members, target, asked_rps, supply.known, interval_ms);
        let unlisted = seen.scaling.as_ref().map_or(&[][..], |scaling| &scaling.unlisted);
        at_risk.with_unlisted(members, target, unlisted)
    }

    fn assessments(&self, outlook: &Outlook) -> Vec<RiskAssessment> {
        let horizon_ms = RiskAssessment::HORIZON_MS;
        let demand_rps = outlook.confirmed(horizon_ms, |h| h.median_rps).rps.max(outlook.now_rps);
        let share = |id| self.fleet.known.get(&id).map_or(0.0, |known| known.share);
        self.risk.assessments(|id| share(id) * demand_rps)
    }

    fn is_saturated(&self, seen: &ServiceObservation) -> bool {
        let refused = seen.unserved as f64 > UNSERVED_SHARE * seen.arrivals as f64;
        let full = |id| self.fleet.known.get(id).is_some_and(|k| k.capacity.is_saturated());
        (refused && seen.arrivals > 0)
            || seen
                .instances
                .iter()
                .any(|i| crate::fleet::may_take_requests(i) && full(&i.instance))
    }
}

/// Shadows that an operator wants to serve; `activate` more of them are asked for now.
fn by_hand(operator: &mut Option<(u32, u64)>, scene: &Scene<'_>, activate: u32) -> u32 {
    if activate > 0 {
        let until_ms = scene.now_ms.saturating_add(scene.spec.evaluation_window_ms);
        *operator = Some((scene.committed().saturating_add(activate), until_ms));
    }
    operator.map_or(0, |(shadows, _)| shadows)
}

/// Ends shadows that cannot be used and returns how many; those that disagree with the originals
/// not before `verify_from_ms`.
fn end_faulty(scene: &mut Scene<'_>, verify_from_ms: &mut u64, act: bool) -> u32 {
    let culled = tiers::cull(scene, *verify_from_ms);
    if culled.unfit > 0 && act {
        *verify_from_ms = scene.now_ms.saturating_add(VERIFICATION_REST_MS);
    }
    culled.dead.saturating_add(culled.unfit)
}
