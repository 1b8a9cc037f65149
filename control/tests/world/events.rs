//! Announced events: met before they start, held while they may come true, harmless when they lie.

use foreshadow_control::{
    Action, AlertKind, Announced, Capacity, Controller, Entry, Law, Mode, Observation, Plan, Role,
    ServiceSpec, Tier, replay,
};
use proptest::prelude::*;

use crate::failures::calm_world;
use crate::ramps::moves;
use crate::random::Random;
use crate::sim::{Nature, Outcome, World, spec};

const CALM: f64 = 0.4;
const LIFT: f64 = 4.0;
const AHEAD_MS: u64 = 20_000;

/// A provider that takes so long that reacting to a jump comes too late.
fn slow() -> Nature {
    Nature { create_ms: 4_000, warm_ms: 1_500, serve_ms: 500, ..Nature::default() }
}

/// Announces an event to a calm world; returns its calm demand and the start.
fn announce(world: &mut World, lasts_ms: u64, lift: f64) -> (f64, u64) {
    let start_ms = world.at_ms + AHEAD_MS;
    world.events.push((start_ms, start_ms + lasts_ms, lift));
    (CALM * world.nature.primary_rps(), start_ms)
}

/// Half a minute in which demand jumps after twenty seconds, as announced.
fn jump(world: &mut World) -> Outcome {
    let (calm_rps, _) = announce(world, 60_000, LIFT);
    world.run(AHEAD_MS, |_| calm_rps, |_, _, _| {});
    let before = world.outcome;
    world.run(10_000, |_| LIFT * calm_rps, |_, _, _| {});
    assert_eq!(before.bad(), 0, "what is prepared disturbs nobody");
    world.outcome
}

#[test]
fn shadows_serve_before_an_announced_jump() {
    for seed in 0..5 {
        let mut told = World::new(Nature { seed, ..slow() }, spec());
        let calm_rps = CALM * told.nature.primary_rps();
        told.run(60_000, |_| calm_rps, |_, _, _| {});
        told.outcome = Outcome::default();
        let mut untold = told.clone();
        let mut early = told.clone();
        announce(&mut early, 60_000, LIFT);
        let mut first_ms = None;
        let start_ms = early.at_ms + AHEAD_MS;
        let look = |world: &mut World, _: &Observation, _: &Plan| {
            if world.serving_shadows() > 0 {
                first_ms.get_or_insert(start_ms - world.at_ms);
            }
        };
        early.run(AHEAD_MS, |_| calm_rps, look);
        // Of 160 % of what the primaries can carry they take 70 %, and each shadow 35 %.
        assert!(early.serving_shadows() >= 2, "seed {seed}: {}", early.serving_shadows());
        let first_ms = first_ms.expect("shadows serve");
        assert!(first_ms <= 5_000, "seed {seed}: serving {first_ms} ms too early");

        let with = jump(&mut told);
        untold.run(AHEAD_MS, |_| calm_rps, |_, _, _| {});
        untold.run(10_000, |_| LIFT * calm_rps, |_, _, _| {});
        let without = untold.outcome;
        assert!(without.bad() > 50, "seed {seed}: {without:?}");
        assert!(with.bad() * 10 < without.bad(), "seed {seed}: {with:?}, not told {without:?}");
    }
}

#[test]
fn every_step_is_taken_at_its_own_lead_time_and_says_why() {
    let mut world = World::new(slow(), spec());
    let calm_rps = CALM * world.nature.primary_rps();
    world.run(60_000, |_| calm_rps, |_, _, _| {});
    let (_, start_ms) = announce(&mut world, 60_000, LIFT);
    let mut firsts: Vec<(Law, u64)> = Vec::new();
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        for planned in &plan.services[0].actions {
            let reason = &planned.reason;
            if firsts.iter().any(|(law, _)| *law == reason.law) {
                continue;
            }
            firsts.push((reason.law, start_ms - world.at_ms));
            if reason.law != Law::Pool {
                assert!(reason.text.contains("announced event starts in "), "{}", reason.text);
                assert!(reason.text.contains(" s with lift 4.0: "), "{}", reason.text);
            }
        }
    };
    world.run(AHEAD_MS - 100, |_| calm_rps, look);
    let ahead_ms = |wanted| firsts.iter().find(|(law, _)| *law == wanted).map(|(_, ms)| *ms);
    let prepared_ms = ahead_ms(Law::Prepare).expect("a shadow is made for it");
    let committed_ms = ahead_ms(Law::Commit).expect("a shadow serves for it");
    assert!((6_000..10_000).contains(&prepared_ms), "made {prepared_ms} ms ahead");
    assert!((1_000..5_000).contains(&committed_ms), "committed {committed_ms} ms ahead");
    assert!(world.serving_shadows() >= 2);
}

#[test]
fn what_does_not_come_true_is_taken_back_within_the_evaluation_window() {
    for (seed, lasts_ms) in (0..5).map(|seed| (seed, if seed < 3 { 7_200_000 } else { 5_000 })) {
        let mut world = calm_world(seed, CALM);
        let (calm_rps, start_ms) = announce(&mut world, lasts_ms, LIFT);
        world.run(AHEAD_MS, |_| calm_rps, |_, _, _| {});
        let served = world.serving_shadows();
        assert!(served >= 2, "seed {seed}");
        let (mut first_ms, mut back_ms, mut recommitted) = (None, None, 0);
        let look = |world: &mut World, _: &Observation, plan: &Plan| {
            let after_ms = world.at_ms - start_ms;
            if moves(plan, Tier::Draining) > 0 {
                first_ms.get_or_insert(after_ms);
            }
            recommitted += usize::from(first_ms.is_some()) * moves(plan, Tier::Serving);
            if world.serving_shadows() + world.shadows_at(Tier::Draining) == 0 {
                back_ms.get_or_insert(after_ms);
            }
        };
        world.run(40_000, |_| calm_rps, look);
        let (first_ms, back_ms) = (first_ms.expect("one goes"), back_ms.expect("all go"));
        // The window of 10 s, then one after the other: weight by slew, drain.
        assert!((9_500..12_500).contains(&first_ms), "seed {seed}: {first_ms}");
        assert!(back_ms <= 12_500 + 2_000 * served as u64, "seed {seed}: {back_ms}");
        assert_eq!(recommitted, 0, "seed {seed}");
    }
}

#[test]
fn a_shadow_lost_while_the_event_may_come_true_is_replaced() {
    let mut world = calm_world(2, CALM);
    let (calm_rps, _) = announce(&mut world, 60_000, LIFT);
    world.run(AHEAD_MS + 300, |_| calm_rps, |_, _, _| {});
    let served = world.serving_shadows();
    let lost =
        world.instances.iter().find(|(_, i)| i.tier == Tier::Serving && i.role == Role::Shadow);
    let lost = *lost.expect("a shadow serves").0;
    world.kill(lost);
    let mut texts = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        texts.extend(plan.services[0].actions.iter().map(|a| a.reason.text.clone()));
    };
    world.run(4_000, |_| calm_rps, look);
    assert_eq!(world.serving_shadows(), served);
    let runs = |text: &String| text.contains("announced event runs with lift 4.0 over ");
    assert!(texts.iter().any(runs), "{texts:?}");
}

#[test]
fn what_comes_true_is_held_through_a_dip() {
    // Where what is learned of capacity lies at the border between two numbers of shadows, one of
    // them may have been on its way back before the dip.
    let mut changed = 0;
    for seed in 1..=9 {
        let mut world = calm_world(seed, CALM);
        let (calm_rps, _) = announce(&mut world, 600_000, LIFT);
        world.run(AHEAD_MS, |_| calm_rps, |_, _, _| {});
        world.run(60_000, |_| LIFT * calm_rps, |_, _, _| {});
        let served = world.serving_shadows();
        assert!(served >= 3, "seed {seed}: {served}");
        world.run(8_000, |_| calm_rps, |_, _, _| {});
        changed += usize::from(world.serving_shadows() != served);
        world.run(60_000, |_| calm_rps, |_, _, _| {});
        assert_eq!(world.serving_shadows(), 0, "seed {seed}: a dip much longer ends it");
    }
    assert!(changed <= 1, "a dip shorter than the window changed {changed} of 9");
}

#[test]
fn an_event_that_lowers_demand_changes_nothing() {
    let mut world = World::new(Nature::default(), spec());
    let rps = 0.9 * world.nature.primary_rps();
    world.run(10_000, |_| 0.5 * rps, |_, _, _| {});
    world.run(40_000, |_| rps, |_, _, _| {});
    assert!(world.serving_shadows() > 0);
    let mut same = world.clone();
    world.events.push((world.at_ms + 2_000, world.at_ms + 60_000, 0.1));
    for _ in 0..300 {
        let (_, plan) = world.step(rps);
        let (_, expected) = same.step(rps);
        assert_eq!(plan, expected);
    }
}

#[test]
fn of_two_announcements_the_larger_counts_and_not_the_product() {
    let mut once = calm_world(1, CALM);
    let mut twice = once.clone();
    let (calm_rps, start_ms) = announce(&mut once, 60_000, LIFT);
    announce(&mut twice, 60_000, LIFT);
    twice.events.push((start_ms, start_ms + 30_000, 2.0));
    for _ in 0..AHEAD_MS / 100 + 50 {
        assert_eq!(once.step(calm_rps).1, twice.step(calm_rps).1);
    }
}

#[test]
fn a_pool_too_small_for_an_event_is_told_long_before() {
    let mut world = calm_world(5, CALM);
    let calm_rps = CALM * world.nature.primary_rps();
    let shortage = |plan: &Plan| {
        let mut alerts = plan.services[0].alerts.iter();
        alerts.find(|a| a.kind == AlertKind::Shortage).map(|a| a.text.clone())
    };
    assert_eq!(shortage(&world.step(calm_rps).1), None);
    world.events.push((world.at_ms + 1_800_000, world.at_ms + 3_600_000, 20.0));
    world.run(500, |_| calm_rps, |_, _, plan| assert!(plan.services[0].actions.is_empty()));
    let (_, plan) = world.step(calm_rps);
    let text = shortage(&plan).expect("it is told");
    assert!(text.starts_with("announced event starts in 1799."), "{text}");
    assert!(text.contains("with lift 20.0: demand of "), "{text}");
    assert!(plan.services[0].actions.is_empty(), "half an hour ahead nothing is done yet");
}

/// An announcement from where numbers break.
fn wild(random: &mut Random) -> Announced {
    let mut time_ms = || match random.below(5) {
        0 => 0,
        1 => u64::MAX,
        2 => random.next(),
        _ => random.below(5_000),
    };
    let (starts_in_ms, ends_in_ms) = (time_ms(), time_ms());
    let lift = match random.below(8) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 0.0,
        4 => -3.0,
        5 => 1e308,
        6 => f64::from_bits(random.next()),
        _ => 5.0 * random.unit(),
    };
    Announced { starts_in_ms, ends_in_ms, lift }
}

fn check(plan: &Plan) -> Result<(), TestCaseError> {
    let service = &plan.services[0];
    prop_assert!(service.weights.iter().any(|w| w.weight > 0));
    let texts = service.actions.iter().map(|a| &a.reason.text);
    let texts = texts.chain(service.reasons.iter().map(|r| &r.text));
    for text in texts.chain(service.alerts.iter().map(|a| &a.text)) {
        prop_assert!(!text.contains("NaN") && !text.contains("inf"), "{}", text);
        prop_assert!(!text.contains("-0 "), "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wild_announcements_cost_a_pool_of_shadows_at_most(seed in any::<u64>()) {
        let mut random = Random::seeded(seed);
        let pinned = ServiceSpec { capacity: Capacity::Pinned(200.0), ..spec() };
        let mut world = World::new(Nature { seed, ..Nature::default() }, pinned);
        let rps = CALM * world.nature.primary_rps();
        world.run(10_000, |_| rps, |_, _, _| {});
        let mut announced = Vec::new();
        for tick in 0..200 {
            let mut observation = world.observe(rps);
            if tick % 20 == 0 || random.below(10) == 0 {
                let events = if tick == 100 { 10_000 } else { random.below(6) };
                announced = (0..events).map(|_| wild(&mut random)).collect();
            }
            for event in &mut announced {
                event.starts_in_ms = event.starts_in_ms.saturating_sub(100);
                event.ends_in_ms = event.ends_in_ms.saturating_sub(100);
            }
            observation.services[0].announced = announced.clone();
            let plan = world.controller.tick(&observation);
            world.carry_out(&plan);
            check(&plan)?;
            prop_assert!(world.instances.len() <= 2 + 4);
        }
        let written = serde_json::to_string(&world.controller).expect("plain data");
        let read: Result<Controller, _> = serde_json::from_str(&written);
        prop_assert!(read.is_ok(), "{:?}", read.err());
        // Nothing of it lasts: two windows later the pool is as it was.
        world.run(60_000, |_| rps, |_, _, _| {});
        prop_assert_eq!(world.serving_shadows(), 0);
        let outcome = world.outcome;
        prop_assert!(outcome.bad() * 100 <= outcome.requests, "{:?}", outcome);
    }

    /// The state that events need is in the checkpoint: a recording cut in one replays the same.
    #[test]
    fn a_recording_cut_within_an_event_replays_byte_for_byte(seed in any::<u64>(), cut in 0u64..150) {
        let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
        let calm_rps = CALM * world.nature.primary_rps();
        world.run(10_000, |_| calm_rps, |_, _, _| {});
        let now_ms = world.at_ms;
        world.events.push((now_ms + 4_000, now_ms + 9_000, 1.5 + (seed % 5) as f64));
        world.events.push((now_ms + 7_000, now_ms + 30_000, 2.5));
        let mut lines = Vec::new();
        for tick in 0..250 {
            if tick == cut {
                let controller = Box::new(world.controller.clone());
                lines.push(write(&Entry::Checkpoint { controller }));
            }
            let lift = if seed % 2 == 0 && tick >= 40 { 2.0 } else { 1.0 };
            let (observation, plan) = world.step(lift * calm_rps);
            if tick >= cut {
                let tick = Entry::Tick { observation: Box::new(observation), plan: Box::new(plan) };
                lines.push(write(&tick));
            }
        }
        let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
        let report = replay(lines.iter().map(read));
        prop_assert_eq!(report.ticks, 250 - cut);
        prop_assert!(report.divergence.is_none(), "{:?}", report.divergence);
    }
}

#[test]
fn advice_counts_with_events_as_acting_does() {
    let mut world = calm_world(6, CALM);
    world.mode = Mode::Advise;
    let (calm_rps, _) = announce(&mut world, 60_000, LIFT);
    let mut advised = 0;
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        let serve = |a: &Action| matches!(a, Action::Move { tier: Tier::Serving, .. });
        advised += plan.services[0].actions.iter().filter(|a| serve(&a.action)).count();
    };
    world.run(AHEAD_MS, |_| calm_rps, look);
    assert!(advised > 0);
    assert_eq!(world.serving_shadows(), 0);
}
