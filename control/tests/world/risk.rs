//! Instances that are about to fail, that seem to be, and those that lie about it.

use foreshadow_control::{
    Action, InstanceId, Law, Mode, Observation, Plan, ResourceSample, RiskSignal, Role,
};
use proptest::prelude::*;

use crate::sim::{Nature, Outcome, World, spec};

const LIMIT_BYTES: u64 = 1_000_000_000;

fn world(seed: u64, primaries: u64) -> (World, f64) {
    let world = World::new(Nature { seed, primaries, ..Nature::default() }, spec());
    let rps = 0.35 * world.nature.primary_rps();
    (world, rps)
}

fn memory(share: f64) -> Option<ResourceSample> {
    Some(ResourceSample {
        memory_bytes: Some((LIMIT_BYTES as f64 * share) as u64),
        memory_limit_bytes: Some(LIMIT_BYTES),
        ..ResourceSample::default()
    })
}

fn score(plan: &Plan, id: u64) -> f64 {
    let risk = plan.services[0].risk.iter().find(|risk| risk.instance == InstanceId(id));
    risk.map_or(0.0, |risk| risk.score)
}

fn risk_orders(plan: &Plan) -> usize {
    let orders = plan.services[0].actions.iter().filter(|a| a.reason.law == Law::Risk);
    orders.filter(|a| matches!(a.action, Action::Move { .. })).count()
}

fn weighted_shadow(world: &World) -> bool {
    world.instances.iter().any(|(id, i)| i.role == Role::Shadow && world.weight(*id) > 0)
}

/// What was seen of a leak.
#[derive(Debug, Default)]
struct Leak {
    ordered: bool,
    stood_in: bool,
    named: bool,
    weight_at_death: u32,
    lost: u64,
}

/// One of three primaries leaks from half of its memory to its end within five minutes.
fn leak(seed: u64, mode: Mode) -> Leak {
    let (mut world, rps) = world(seed, 3);
    world.mode = mode;
    world.run(60_000, |_| rps, |_, _, _| {});
    let start_ms = world.at_ms;
    let mut told = Leak::default();
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        let share = 0.5 + (world.at_ms - start_ms) as f64 / 600_000.0;
        if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
            primary.resources = memory(share);
        }
        told.ordered |= risk_orders(plan) > 0;
        let named = |risk: &foreshadow_control::RiskAssessment| {
            risk.instance == InstanceId(1)
                && risk.exhaustion.is_some_and(|e| e.what == RiskSignal::MemoryTrend)
        };
        told.named |= plan.services[0].risk.iter().any(named);
        told.stood_in |= told.ordered && weighted_shadow(world);
    };
    world.run(299_900, |_| rps, look);
    told.weight_at_death = world.weight(InstanceId(1));
    world.outcome = Outcome::default();
    world.kill(InstanceId(1));
    world.run(10_000, |_| rps, |_, _, _| {});
    told.lost = world.outcome.failed;
    told
}

#[test]
fn the_replacement_of_a_leaking_instance_serves_before_its_death() {
    for seed in 1..4 {
        let told = leak(seed, Mode::Act);
        assert!(told.ordered && told.stood_in && told.named, "seed {seed}: {told:?}");
        assert_eq!((told.weight_at_death, told.lost), (0, 0), "seed {seed}: {told:?}");
    }
}

#[test]
fn a_leak_that_is_only_watched_moves_nothing() {
    let told = leak(1, Mode::Observe);
    assert!(told.named && told.weight_at_death > 0 && !told.stood_in, "{told:?}");
}

#[test]
fn one_of_five_that_slows_down_is_seen_and_the_others_are_not() {
    for seed in 1..4 {
        let (mut world, rps) = world(seed, 5);
        world.run(120_000, |_| rps, |_, _, _| {});
        let before = world.weight(InstanceId(3));
        let (mut highest, mut highest_other, mut lowest) = (0.0_f64, 0.0_f64, before);
        let start_ms = world.at_ms;
        let look = |world: &mut World, _: &Observation, plan: &Plan| {
            let minutes = (world.at_ms - start_ms) as f64 / 60_000.0;
            if let Some(primary) = world.instances.get_mut(&InstanceId(3)) {
                primary.slowness = 1.0 + 2.5 * minutes.min(1.0);
            }
            highest = highest.max(score(plan, 3));
            let others = [1, 2, 4, 5].map(|id| score(plan, id));
            highest_other = others.into_iter().fold(highest_other, f64::max);
            lowest = lowest.min(world.weight(InstanceId(3)));
        };
        world.run(90_000, |_| rps, look);
        assert!(highest > 0.5, "seed {seed}: {highest}");
        assert!(highest_other < 0.2, "seed {seed}: {highest_other}");
        assert!(lowest * 2 < before, "seed {seed}: {before} to {lowest}");
    }
}

#[test]
fn when_all_slow_down_together_nobody_is_blamed() {
    for seed in 1..4 {
        let (mut world, rps) = world(seed, 5);
        world.run(120_000, |_| rps, |_, _, _| {});
        let mut highest = 0.0_f64;
        let start_ms = world.at_ms;
        let look = |world: &mut World, _: &Observation, plan: &Plan| {
            let minutes = (world.at_ms - start_ms) as f64 / 60_000.0;
            for primary in world.instances.values_mut().filter(|i| i.role == Role::Primary) {
                primary.slowness = 1.0 + minutes.min(1.0);
            }
            highest = (1..=5).map(|id| score(plan, id)).fold(highest, f64::max);
            assert_eq!(risk_orders(plan), 0, "seed {seed}");
        };
        world.run(90_000, |_| rps, look);
        assert!(highest < 0.5, "seed {seed}: {highest}");
    }
}

#[test]
fn a_false_alarm_costs_no_request_and_is_rolled_back() {
    let (mut world, rps) = world(2, 3);
    world.run(60_000, |_| rps, |_, _, _| {});
    world.outcome = Outcome::default();
    let start_ms = world.at_ms;
    let mut ordered = 0;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        // Grows like a leak for three minutes, and is then collected.
        let passed_ms = world.at_ms - start_ms;
        let share = if passed_ms < 180_000 { 0.5 + passed_ms as f64 / 450_000.0 } else { 0.3 };
        if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
            primary.resources = memory(share);
        }
        ordered += risk_orders(plan);
    };
    world.run(180_000, |_| rps, look);
    assert!(ordered > 0);
    assert!(world.serving_shadows() >= 1, "a stand-in serves");
    if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
        primary.resources = memory(0.3);
    }
    world.run(120_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 0, "the stand-in has gone back");
    assert!(world.weight(InstanceId(1)) > 2_500, "{}", world.weight(InstanceId(1)));
    assert_eq!(world.outcome.failed, 0);
}

/// A minute and a half of instances that say of themselves what `tell` says.
fn lied_to(
    mode: Mode,
    seed: u64,
    tell: impl Fn(u64, u64) -> Option<ResourceSample>,
) -> (Outcome, bool) {
    let (mut world, _) = world(seed, 3);
    world.mode = mode;
    let rps = 0.6 * world.nature.primary_rps();
    let mut ever_weightless = false;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        let at_ms = world.at_ms;
        for (id, instance) in &mut world.instances {
            instance.resources = tell(id.0, at_ms);
        }
        ever_weightless |= plan.services[0].weights.iter().all(|w| w.weight == 0);
        // Three primaries and at most four shadows: a third is two.
        let relieved = plan.services[0].risk.iter().filter(|risk| risk.kept < 1.0).count();
        assert!(relieved <= 2, "{relieved} are relieved");
        for risk in &plan.services[0].risk {
            assert!((0.0..=1.0).contains(&risk.score) && (0.0..=1.0).contains(&risk.kept));
            assert!(risk.predicted_load_rps.is_finite());
        }
    };
    world.run(90_000, |_| rps, look);
    (world.outcome, ever_weightless)
}

#[test]
fn all_saying_that_they_are_about_to_die_costs_nothing() {
    let dying = |_: u64, at_ms: u64| memory(0.9 + at_ms as f64 / 1e6);
    let (observed, _) = lied_to(Mode::Observe, 3, |_, _| None);
    let (told, weightless) = lied_to(Mode::Act, 3, dying);
    assert!(!weightless);
    assert!(told.bad() <= observed.bad() + told.requests / 100, "{told:?}, {observed:?}");
}

fn number() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(None), any::<f64>().prop_map(Some), (0.0..2.0).prop_map(Some)]
}

fn bytes() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), any::<u64>().prop_map(Some), (0..2_000u64).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 4 for what instances say of themselves.
    #[test]
    fn no_report_makes_it_worse_by_more_than_the_bound(
        seed in 0u64..1_000,
        amounts in prop::collection::vec(bytes(), 4..9),
        shares in prop::collection::vec(number(), 4..9),
        growth in 0u64..100_000_000,
        rhythm in 1u64..20_000,
    ) {
        let tell = |id: u64, at_ms: u64| {
            let nth = |n: u64| (id + at_ms / rhythm + n) as usize;
            let amount = |n: u64| amounts[nth(n) % amounts.len()];
            let share = |n: u64| shares[nth(n) % shares.len()];
            Some(ResourceSample {
                memory_bytes: amount(0).map(|bytes| bytes.saturating_add(growth * (at_ms / 1_000))),
                memory_limit_bytes: amount(1),
                disk_bytes: amount(2),
                disk_limit_bytes: amount(3),
                cpu_cores: share(0),
                cpu_limit_cores: share(1),
                cpu_some_share: share(2),
                memory_some_share: share(3),
                memory_full_share: share(4),
                io_some_share: share(5),
                io_full_share: share(6),
            })
        };
        let (observed, _) = lied_to(Mode::Observe, seed, |_, _| None);
        let (told, weightless) = lied_to(Mode::Act, seed, tell);
        prop_assert!(!weightless);
        prop_assert!(told.bad() <= observed.bad() + told.requests / 100, "{told:?}, {observed:?}");
    }
}
