//! Several places in which shadows can be made: which is chosen, what stands in for one that fails.

use foreshadow_control::{
    Action, AlertKind, Capacity, Entry, Health, InstanceId, Observation, PlaceName, PlaceSpec,
    Plan, PoolSpec, Role, ServiceSpec, Tier, replay,
};
use proptest::prelude::*;

use crate::sim::{Nature, Site, World, spec};

fn place(name: &str) -> PlaceSpec {
    PlaceSpec::new(PlaceName::from(name))
}

fn world(places: Vec<PlaceSpec>, pool: PoolSpec) -> World {
    let spec = ServiceSpec {
        capacity: Capacity::Pinned(150.0),
        places: places.clone(),
        pool: Some(pool),
        ..spec()
    };
    let mut world = World::new(Nature::default(), spec);
    for spec in places {
        world.sites.insert(spec.name, Site { zone: spec.zone, ..Site::default() });
    }
    world
}

const POOL: PoolSpec = PoolSpec { shadow: 1, warm: 1, full: 0, max: 4 };

/// Where creations of the next `ms` are ordered, with their reasons.
fn creations(world: &mut World, ms: u64, rps: f64) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        for planned in &plan.services[0].actions {
            if let Action::Create { place, .. } = &planned.action {
                found.push((place.to_string(), planned.reason.text.clone()));
            }
        }
    };
    world.run(ms, |_| rps, look);
    found
}

fn names(creations: &[(String, String)]) -> Vec<&str> {
    creations.iter().map(|(place, _)| place.as_str()).collect()
}

#[test]
fn the_cheaper_place_is_chosen_and_the_reason_says_so() {
    let dear = PlaceSpec { cost_per_hour: 0.4, latency_ms: 1.0, ..place("dear") };
    let cheap = PlaceSpec { cost_per_hour: 0.1, latency_ms: 9.0, ..place("cheap") };
    let mut world = world(vec![dear, cheap], POOL);
    let made = creations(&mut world, 5_000, 50.0);
    assert_eq!(names(&made), ["cheap", "cheap"]);
    assert!(made[0].1.contains("made in cheap (0.1 per hour, 9 ms away)"), "{}", made[0].1);
}

#[test]
fn of_places_that_cost_the_same_the_nearer_is_chosen() {
    let far = PlaceSpec { latency_ms: 30.0, ..place("a") };
    let near = PlaceSpec { latency_ms: 2.0, ..place("b") };
    let made = creations(&mut world(vec![far, near], POOL), 5_000, 50.0);
    assert_eq!(names(&made), ["b", "b"]);
}

#[test]
fn the_zone_of_the_primaries_comes_before_the_price_and_that_of_a_lost_one_first() {
    let zoned =
        |name: &str, cost| PlaceSpec { zone: name.to_owned(), cost_per_hour: cost, ..place(name) };
    let places = vec![zoned("west", 0.1), zoned("east", 0.3), zoned("north", 0.2)];
    let mut world = world(places, POOL);
    for (id, zone) in [(1, "north"), (2, "east")] {
        let primary = world.instances.get_mut(&InstanceId(id)).expect("two primaries");
        primary.zone = zone.to_owned();
    }
    let made = creations(&mut world, 5_000, 50.0);
    assert_eq!(names(&made), ["north", "north"], "{made:?}");
    world.kill(InstanceId(2));
    let made = creations(&mut world, 300, 50.0);
    assert_eq!(made.first().map(|(place, _)| place.as_str()), Some("east"), "{made:?}");
}

#[test]
fn a_full_place_is_passed_over_and_said() {
    let cheap = PlaceSpec { max: Some(1), cost_per_hour: 0.1, ..place("cheap") };
    let dear = PlaceSpec { cost_per_hour: 0.4, ..place("dear") };
    let made = creations(&mut world(vec![cheap, dear], POOL), 5_000, 50.0);
    assert_eq!(names(&made), ["cheap", "dear"]);
    let text = &made[1].1;
    assert!(text.contains("in place of another: cheap has 1 shadow and its max is 1"), "{text}");
}

#[test]
fn spare_room_comes_first_and_what_is_beyond_it_last() {
    let cheap = PlaceSpec { spare: Some(1), cost_per_hour: 0.1, ..place("cheap") };
    let dear = PlaceSpec { spare: Some(1), cost_per_hour: 0.4, ..place("dear") };
    let pool = PoolSpec { shadow: 3, ..POOL };
    let made = creations(&mut world(vec![cheap, dear], pool), 5_000, 50.0);
    assert_eq!(names(&made), ["cheap", "dear", "cheap", "cheap"]);
    assert!(made[2].1.contains("beyond its spare room for 1"), "{}", made[2].1);
}

#[test]
fn a_place_that_fails_is_stood_in_for_at_once_alerted_once_and_tried_again_later() {
    let cheap = PlaceSpec { cost_per_hour: 0.1, ..place("cheap") };
    let dear = PlaceSpec { cost_per_hour: 0.4, ..place("dear") };
    let mut world = world(vec![cheap.clone(), dear], POOL);
    world.sites.get_mut(&cheap.name).expect("its site").fails = Some(500);
    let mut alerts = Vec::new();
    let mut tries = 0;
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        let service = &plan.services[0];
        let of_cheap =
            |a: &Action| matches!(a, Action::Create { place, .. } if *place == cheap.name);
        tries += service.actions.iter().filter(|a| of_cheap(&a.action)).count();
        alerts.extend(service.alerts.iter().map(|alert| (alert.kind, alert.text.clone())));
    };
    world.run(20_000, |_| 50.0, look);
    let ready = world.shadows_at(Tier::Shadow) + world.shadows_at(Tier::Warm);
    assert_eq!(ready, 2, "the pool is whole");
    assert!(
        world.instances.values().all(|i| i.role == Role::Primary || i.place.as_str() == "dear")
    );
    assert_eq!(tries, 2, "both of the first tick; then it is gone round");
    assert!(alerts.iter().all(|(kind, _)| *kind == AlertKind::ProviderFailing), "{alerts:?}");
    let (_, text) = alerts.first().expect("it is told");
    assert!(text.contains("in cheap") && text.contains("out of memory"), "{text}");
    assert!(text.contains("what is needed meanwhile is made in dear"), "{text}");

    world.sites.get_mut(&cheap.name).expect("its site").fails = None;
    let shadows: Vec<InstanceId> = world
        .instances
        .iter()
        .filter_map(|(id, i)| (i.role == Role::Shadow).then_some(*id))
        .collect();
    shadows.into_iter().for_each(|id| world.kill(id));
    let made = creations(&mut world, 5_000, 50.0);
    assert_eq!(names(&made), ["cheap", "cheap"], "it is asked again: {made:?}");
}

#[test]
fn where_no_place_can_make_one_those_that_exist_are_made_readier() {
    let mut world =
        world(vec![place("a"), place("b")], PoolSpec { shadow: 2, warm: 0, full: 0, max: 4 });
    world.run(5_000, |_| 50.0, |_, _, _| {});
    assert_eq!(world.shadows_at(Tier::Shadow), 2);
    for site in world.sites.values_mut() {
        site.fails = Some(60_000);
    }
    // A primary falls out: one shadow serves for it, and what should be made in its place cannot be.
    let lost = world.instances.get_mut(&InstanceId(1)).expect("a primary");
    lost.health = Health::Down("refused".to_owned());
    let mut texts = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        let service = &plan.services[0];
        let standing_in = |text: &&String| text.contains("made readier");
        texts.extend(service.actions.iter().map(|a| &a.reason.text).filter(standing_in).cloned());
        let alerted = service.alerts.iter().map(|a| &a.text).filter(standing_in);
        texts.extend(alerted.map(|text| format!("alert {text}")));
    };
    world.run(8_000, |_| 50.0, look);
    assert_eq!(world.shadows_at(Tier::Shadow), 0, "none is left asleep");
    let warmed: Vec<_> = texts.iter().filter(|text| !text.starts_with("alert")).collect();
    assert_eq!(warmed.len(), 1, "{texts:?}");
    assert!(
        warmed[0].contains("a is not asked for") && warmed[0].contains("b is not"),
        "{texts:?}"
    );
    assert!(texts.iter().any(|text| text.starts_with("alert")), "and it is told: {texts:?}");
}

#[test]
fn a_reserve_without_room_is_another_alert_than_too_little_for_demand() {
    let only = PlaceSpec { max: Some(1), ..place("only") };
    let kinds = |rps: f64| {
        let mut world = world(vec![only.clone()], POOL);
        let mut kinds = Vec::new();
        let look = |_: &mut World, _: &Observation, plan: &Plan| {
            kinds.extend(plan.services[0].alerts.iter().map(|alert| alert.kind));
        };
        world.run(10_000, |_| rps, look);
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds(50.0), [AlertKind::ReserveShort]);
    assert!(kinds(600.0).contains(&AlertKind::Shortage), "{:?}", kinds(600.0));
}

#[test]
fn a_slow_place_is_prepared_for_earlier_than_a_fast_one() {
    // The first creation of a rise waits until the forecaster of ten seconds sees it, whatever a place takes.
    let second_creation = |create_ms: u64| {
        let pool = PoolSpec { shadow: 0, warm: 0, full: 0, max: 4 };
        let mut world =
            world(vec![place("here"), PlaceSpec { max: Some(0), ..place("there") }], pool);
        let site = world.sites.get_mut(&PlaceName::from("here")).expect("its site");
        site.create_ms = Some(create_ms);
        // It is seen how long the place takes, and all of it goes back.
        world.run(60_000, |ms| if ms < 15_000 { 400.0 } else { 100.0 }, |_, _, _| {});
        world.run(60_000, |_| 100.0, |_, _, _| {});
        let mut creations = Vec::new();
        let look = |world: &mut World, _: &Observation, plan: &Plan| {
            let creates = |a: &Action| matches!(a, Action::Create { .. });
            if plan.services[0].actions.iter().any(|a| creates(&a.action)) {
                creations.push(world.at_ms);
            }
        };
        world.run(60_000, |ms| 100.0 + ms as f64 / 200.0, look);
        *creations.get(1).expect("demand outgrows the primaries and one shadow")
    };
    let (slow_ms, fast_ms) = (second_creation(12_000), second_creation(300));
    assert!(slow_ms + 2_000 < fast_ms, "{slow_ms} and {fast_ms}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever fails where: no place holds more than its max, the pool no more than its own, and a
    /// recording replays to the same plans.
    #[test]
    fn bounds_hold_and_recordings_replay_whatever_fails(
        seed in any::<u64>(),
        faults in proptest::collection::vec((0..3_usize, prop::option::of(100_u64..4_000)), 20),
    ) {
        let names = ["a", "b", "c"];
        let places = vec![
            PlaceSpec { max: Some(1), ..place("a") },
            PlaceSpec { max: Some(2), cost_per_hour: 0.5, ..place("b") },
            PlaceSpec { spare: Some(1), cost_per_hour: 0.1, ..place("c") },
        ];
        let mut world = world(places, POOL);
        world.nature.seed = seed;
        let mut entries = vec![Entry::Checkpoint { controller: Box::new(world.controller.clone()) }];
        for (at, fails) in faults {
            world.sites.get_mut(&PlaceName::from(names[at])).expect("its site").fails = fails;
            let rps = 100.0 + (seed % 7) as f64 * 60.0;
            for _ in 0..15 {
                let (observation, plan) = world.step(rps);
                let at_place = |name: &str| {
                    let here = |i: &&crate::instance::Instance| {
                        i.role == Role::Shadow && i.place.as_str() == name
                    };
                    world.instances.values().filter(here).count()
                };
                prop_assert!(at_place("a") <= 1 && at_place("b") <= 2);
                prop_assert!(at_place("a") + at_place("b") + at_place("c") <= 4);
                entries.push(Entry::Tick {
                    observation: Box::new(observation),
                    plan: Box::new(plan),
                });
            }
        }
        let read = |entry: &Entry| {
            let line = serde_json::to_string(entry).expect("plain values have a form in JSON");
            serde_json::from_str::<Entry>(&line).expect("and are read back")
        };
        let report = replay(entries.iter().map(read));
        prop_assert!(report.divergence.is_none(), "{report:?}");
    }
}
