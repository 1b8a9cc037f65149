//! Primaries that are scaled while shadows serve: rises, spikes, lies, failures and other hands.

use foreshadow_control::{
    Alert, AlertKind, Capacity, Law, Mode, Observation, Plan, ScalingPhase, ScalingSpec,
    ServiceSpec, Tier,
};

use crate::scaler::{Scaler, Temper};
use crate::sim::{Nature, World, spec};

pub(crate) fn scaled() -> ServiceSpec {
    let scaling = ScalingSpec {
        min: None,
        max: 8,
        target: 0.7,
        lead_time_ms: 20_000,
        stabilisation_ms: 60_000,
        cooldown_ms: 10_000,
        max_step: 4,
        respect_ms: 120_000,
    };
    ServiceSpec { scaling: Some(scaling), ..spec() }
}

/// A world that has seen half a minute of calm, with a scaler that needs 20 s for a primary.
fn calm_world(seed: u64, spec: ServiceSpec) -> World {
    let mut world = World::new(Nature { seed, ..Nature::default() }, spec);
    world.scaler = Some(Scaler::of(&world, 20_000));
    let rps = 0.4 * world.nature.primary_rps();
    world.run(30_000, |_| rps, |_, _, _| {});
    world.outcome = crate::sim::Outcome::default();
    world
}

fn scaler(world: &World) -> &Scaler {
    world.scaler.as_ref().expect("there is one")
}

fn phase(plan: &Plan) -> ScalingPhase {
    plan.services[0].scaling.as_ref().expect("primaries are scaled").phase
}

fn reasons(plan: &Plan) -> impl Iterator<Item = &str> {
    let scale = plan.services[0].reasons.iter().filter(|reason| reason.law == Law::Scale);
    scale.map(|reason| reason.text.as_str())
}

/// Turns of the sequence as they come, each once.
#[derive(Default)]
struct Sequence {
    phases: Vec<ScalingPhase>,
    said: Vec<String>,
    most_serving: usize,
    alerts: Vec<Alert>,
    alerting: bool,
}

impl Sequence {
    fn look(&mut self, world: &World, plan: &Plan) {
        if self.phases.last() != Some(&phase(plan)) {
            self.phases.push(phase(plan));
        }
        self.said.extend(reasons(plan).map(str::to_owned));
        self.most_serving = self.most_serving.max(world.serving_shadows());
        let alerts = &plan.services[0].alerts;
        let failing = alerts.iter().find(|alert| alert.kind == AlertKind::ScalingFailing);
        if let Some(alert) = failing.filter(|_| !self.alerting) {
            self.alerts.push(alert.clone());
        }
        self.alerting = failing.is_some();
    }

    fn says(&self, part: &str) -> bool {
        self.said.iter().any(|text| text.contains(part))
    }
}

fn run(world: &mut World, sequence: &mut Sequence, ms: u64, rps: impl Fn(u64) -> f64) {
    world.run(ms, rps, |world, _: &Observation, plan: &Plan| sequence.look(world, plan));
}

#[test]
fn a_rise_that_stays_is_bridged_by_shadows_until_primaries_are_warm() {
    for (seed, capacity) in (0..3).flat_map(|s| [(s, None), (s, Some(200.0))]) {
        let capacity = capacity.map_or(Capacity::Learned, Capacity::Pinned);
        let mut world = calm_world(seed, ServiceSpec { capacity, ..scaled() });
        let full_rps = world.nature.primary_rps();
        let mut sequence = Sequence::default();
        let start_ms = world.at_ms;
        let rise = |ms: u64| full_rps * (0.4 + 0.8 * (ms as f64 / 30_000.0).min(1.0));
        run(&mut world, &mut sequence, 180_000, rise);
        let who = format!("seed {seed} {capacity:?}: {:#?}", sequence.said);
        assert!(sequence.most_serving >= 1, "{who}");
        // While it rises, it is expected to go on.
        let ready = scaler(&world).ready();
        assert!((4..=6).contains(&ready), "{ready} {who}");
        assert_eq!(world.serving_shadows() + world.shadows_at(Tier::Draining), 0, "{who}");
        for part in ["bridge until", "are ready", "shadows have stepped back"] {
            assert!(sequence.says(part), "{part}: {who}");
        }
        let first_ms = scaler(&world).orders[0].0 - start_ms;
        assert!(first_ms < 45_000, "{first_ms} {who}");
        assert!(world.outcome.bad() * 50 < world.outcome.requests, "{:?} {who}", world.outcome);
        assert!(sequence.alerts.is_empty(), "{:?}", sequence.alerts);
        run(&mut world, &mut sequence, 150_000, |_| 1.2 * full_rps);
        let ready = scaler(&world).ready();
        assert!((4..=5).contains(&ready), "{ready} seed {seed}: {:#?}", sequence.said);
    }
}

#[test]
fn what_has_gone_goes_back_to_the_number_before_and_none_is_lost_by_it() {
    for seed in 0..3 {
        let mut world = calm_world(seed, scaled());
        let full_rps = world.nature.primary_rps();
        let mut sequence = Sequence::default();
        run(&mut world, &mut sequence, 320_000, |_| 1.2 * full_rps);
        let most = scaler(&world).ready();
        assert!(most >= 4, "seed {seed}: {most}");
        let wanted = [
            ScalingPhase::Steady,
            ScalingPhase::ScalingOut,
            ScalingPhase::WarmingUp,
            ScalingPhase::SteppingBack,
            ScalingPhase::Steady,
        ];
        let mut order = sequence.phases.iter();
        let who = format!("seed {seed} {:?} {:#?}", sequence.phases, sequence.said);
        assert!(wanted.iter().all(|w| order.any(|p| p == w)), "{who}");
        assert!(sequence.says("the new primaries are warm"), "{who}");
        world.outcome = crate::sim::Outcome::default();
        let mut sequence = Sequence::default();
        run(&mut world, &mut sequence, 50_000, |_| 0.3 * full_rps);
        // What the rise needed is held for the stabilisation time; one on the edge may go before.
        assert!(scaler(&world).ready() >= 4, "seed {seed}: not before its time");
        run(&mut world, &mut sequence, 190_000, |_| 0.3 * full_rps);
        assert_eq!(scaler(&world).ready(), 2, "seed {seed}: {:#?}", sequence.said);
        assert!(sequence.says("demand has gone"), "seed {seed}: {:#?}", sequence.said);
        assert_eq!(world.outcome.bad(), 0, "seed {seed}");
        let steps: Vec<u32> = scaler(&world).orders.iter().map(|(_, number)| *number).collect();
        let down = steps.windows(2).filter(|pair| pair[1] < pair[0]);
        assert!(down.clone().count() >= 2 && down.clone().all(|p| p[0] - p[1] == 1), "{steps:?}");
    }
}

#[test]
fn what_was_announced_and_did_not_come_is_taken_back() {
    let mut world = calm_world(4, ServiceSpec { capacity: Capacity::Pinned(200.0), ..scaled() });
    let full_rps = world.nature.primary_rps();
    let (starts_ms, ends_ms) = (world.at_ms + 40_000, world.at_ms + 80_000);
    world.events = vec![(starts_ms, ends_ms, 4.0)];
    let mut sequence = Sequence::default();
    run(&mut world, &mut sequence, 80_000, |_| 0.4 * full_rps);
    let (first_ms, most) = scaler(&world).orders[0];
    assert!(first_ms < starts_ms && most > 2, "{first_ms}: {most}, before it starts");
    run(&mut world, &mut sequence, 260_000, |_| 0.4 * full_rps);
    assert_eq!(scaler(&world).ready(), 2, "{:#?}", sequence.said);
    assert!(sequence.says("the demand expected did not come"), "{:#?}", sequence.said);
    assert_eq!(world.outcome.bad(), 0);
}

#[test]
fn a_spike_is_left_to_shadows() {
    for seed in 0..5 {
        let mut world = calm_world(seed, scaled());
        let full_rps = world.nature.primary_rps();
        let mut sequence = Sequence::default();
        run(&mut world, &mut sequence, 4_000, |_| 1.1 * full_rps);
        run(&mut world, &mut sequence, 120_000, |_| 0.4 * full_rps);
        assert!(sequence.most_serving >= 1, "seed {seed}");
        let orders = &scaler(&world).orders;
        assert!(orders.is_empty(), "seed {seed}: {orders:?} {:#?}", sequence.said);
    }
}

#[test]
fn a_capacity_that_lies_moves_primaries_within_their_bounds_only() {
    // Pinned at a tenth of what it is, and at five times.
    let low = ServiceSpec { capacity: Capacity::Pinned(20.0), ..scaled() };
    let mut world = calm_world(1, low);
    let full_rps = world.nature.primary_rps();
    let mut sequence = Sequence::default();
    run(&mut world, &mut sequence, 300_000, |_| 0.8 * full_rps);
    assert!(scaler(&world).orders.iter().all(|(_, number)| *number <= 8));
    assert_eq!(scaler(&world).ready(), 8);
    let in_steps = scaler(&world).orders[0].1;
    assert!(in_steps <= 2 + 4, "{in_steps} at once");
    let high = ServiceSpec { capacity: Capacity::Pinned(1_000.0), ..scaled() };
    let mut world = calm_world(1, high);
    run(&mut world, &mut Sequence::default(), 120_000, |_| 1.2 * full_rps);
    // It never scales for what it does not see, and shadows serve since instances are full.
    assert!(world.serving_shadows() >= 1);
    assert!(scaler(&world).orders.iter().all(|(_, number)| *number <= 8));
}

#[test]
fn a_scaler_that_fails_for_an_hour_is_one_alert_and_shadows_hold() {
    let mut world = calm_world(2, scaled());
    let full_rps = world.nature.primary_rps();
    world.scaler.as_mut().expect("there is one").temper = Temper::Fails;
    let mut sequence = Sequence::default();
    let demand = |_: u64| 1.1 * full_rps;
    run(&mut world, &mut sequence, 60_000, demand);
    world.outcome = crate::sim::Outcome::default();
    let mut least = usize::MAX;
    world.run(3_540_000, demand, |world, _, plan| {
        sequence.look(world, plan);
        least = least.min(world.serving_shadows());
    });
    assert!(least >= 1, "shadows hold");
    assert_eq!(sequence.alerts.len(), 1, "{:?}", sequence.alerts);
    let text = &sequence.alerts[0].text;
    assert!(text.contains("no connection") && text.contains("hold as demand asks"), "{text}");
    assert!(scaler(&world).orders.is_empty() && scaler(&world).refused > 0);
    assert!(world.outcome.bad() * 50 < world.outcome.requests, "{:?}", world.outcome);
    world.scaler.as_mut().expect("there is one").temper = Temper::Works;
    run(&mut world, &mut sequence, 120_000, demand);
    assert!(!sequence.alerting, "it is over by itself");
    assert!(scaler(&world).ready() >= 4);
    assert_eq!(world.serving_shadows(), 0, "{:#?}", sequence.said);
}

#[test]
fn shadows_stand_in_for_primaries_that_are_not_listed_any_longer() {
    let mut world = calm_world(2, ServiceSpec { capacity: Capacity::Pinned(200.0), ..scaled() });
    let rps = 0.4 * world.nature.primary_rps();
    assert_eq!(world.serving_shadows(), 0);
    world.scaler.as_mut().expect("there is one").unlisted = 2;
    let mut most = 0;
    let mut told = String::new();
    world.run(
        20_000,
        |_| rps,
        |world, _, plan| {
            most = most.max(world.serving_shadows());
            let stand_ins = plan.services[0].actions.iter().map(|planned| &planned.reason);
            for reason in stand_ins.filter(|reason| reason.law == Law::Risk) {
                told.clone_from(&reason.text);
            }
        },
    );
    assert_eq!(most, 2, "{told}");
    assert!(
        told.contains("what scales primaries does not list i1 and 1 more any longer"),
        "{told}"
    );
    world.scaler.as_mut().expect("there is one").unlisted = 0;
    world.run(60_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 0, "they step back once all are listed again");
    assert_eq!(world.outcome.bad(), 0);
}

#[test]
fn a_number_that_another_hand_sets_is_said_and_respected() {
    let mut world = calm_world(3, scaled());
    let full_rps = world.nature.primary_rps();
    let mut sequence = Sequence::default();
    // More, which nobody needs: it is a floor, and the number to go back to.
    world.scaler.as_mut().expect("there is one").wanted = 5;
    run(&mut world, &mut sequence, 300_000, |_| 0.4 * full_rps);
    assert!(sequence.says("somebody else has changed the primaries from 2 to 5"));
    assert_eq!(scaler(&world).ready(), 5);
    assert!(scaler(&world).orders.is_empty(), "{:#?}", sequence.said);
    // Demand that needs more, and another hand that takes it back at once.
    let mut sequence = Sequence::default();
    let start_ms = world.at_ms;
    world.run(
        400_000,
        |_| 2.4 * full_rps,
        |world, _, plan| {
            sequence.look(world, plan);
            world.scaler.as_mut().expect("there is one").wanted = 5;
        },
    );
    assert!(sequence.says("undoes an order, so scaling stands aside"), "{:#?}", sequence.said);
    assert!(sequence.phases.contains(&ScalingPhase::StandingAside), "{:?}", sequence.phases);
    let orders: Vec<u64> = scaler(&world).orders.iter().map(|(at, _)| at - start_ms).collect();
    assert!((1..=3).contains(&orders.len()), "{orders:?}");
    // The time of standing aside doubles: 120 s, then 240 s.
    assert!(orders.windows(2).all(|pair| pair[1] - pair[0] >= 120_000), "{orders:?}");
}

#[test]
fn nothing_is_asked_of_the_scaler_unless_it_is_to_act() {
    for (mode, kill_switch) in [(Mode::Advise, false), (Mode::Observe, false), (Mode::Act, true)] {
        let mut world = calm_world(1, scaled());
        (world.mode, world.kill_switch) = (mode, kill_switch);
        let full_rps = world.nature.primary_rps();
        let mut sequence = Sequence::default();
        run(&mut world, &mut sequence, 90_000, |_| 1.1 * full_rps);
        assert!(scaler(&world).orders.is_empty(), "{mode:?}");
        let out = sequence.said.iter().filter(|text| text.contains("bridge until")).count();
        assert!((1..=3).contains(&out), "{mode:?}: advised, and not over and over: {out}");
    }
}

#[test]
fn without_a_scaler_nothing_is_said_of_primaries() {
    let mut world = calm_world(1, spec());
    world.scaler = None;
    let full_rps = world.nature.primary_rps();
    world.run(
        60_000,
        |_| 1.2 * full_rps,
        |_, _, plan| {
            assert!(plan.services[0].scaling.is_none());
            assert_eq!(reasons(plan).count(), 0);
        },
    );
}

#[test]
fn a_restart_in_the_middle_goes_on_with_what_was_asked() {
    let mut world = calm_world(1, scaled());
    let full_rps = world.nature.primary_rps();
    let mut sequence = Sequence::default();
    run(&mut world, &mut sequence, 40_000, |_| 1.2 * full_rps);
    let asked = scaler(&world).orders.len();
    assert!(asked >= 1, "{:#?}", sequence.said);
    // Nothing is remembered but what the scaler's side keeps.
    world.controller = foreshadow_control::Controller::new(vec![scaled()]);
    run(&mut world, &mut sequence, 150_000, |_| 1.2 * full_rps);
    assert!(!sequence.says("somebody else"), "{:#?}", sequence.said);
    let most = scaler(&world).ready();
    assert!((4..=5).contains(&most), "{most}");
    run(&mut world, &mut sequence, 260_000, |_| 0.3 * full_rps);
    assert_eq!(scaler(&world).ready(), 2, "the number before is known: {:#?}", sequence.said);
}
