//! Places that fail, and places that become slow: what is made of it.

use foreshadow_control::{
    Action, Capacity, Entry, InstanceId, LearningSpec, Observation, PlaceName, PlaceSpec,
    PlaceView, Plan, PoolSpec, Role, ServiceName, ServiceSpec, Tier, replay,
};

use crate::sim::{Nature, Site, World, spec};

const ON: LearningSpec = LearningSpec {
    outcomes: true,
    steps: false,
    fastest: foreshadow_control::Pace::Normal,
    successes: LearningSpec::SUCCESSES,
};
const POOL: PoolSpec = PoolSpec { shadow: 1, warm: 0, full: 0, max: 8 };

fn world(places: &[PlaceSpec], learning: LearningSpec) -> World {
    let spec = ServiceSpec {
        capacity: Capacity::Pinned(150.0),
        places: places.to_vec(),
        pool: Some(POOL),
        learning,
        ..spec()
    };
    let mut world = World::new(Nature::default(), spec);
    for place in places {
        world.sites.insert(place.name.clone(), Site::default());
    }
    world
}

fn place(name: &str, cost_per_hour: f64) -> PlaceSpec {
    PlaceSpec { cost_per_hour, ..PlaceSpec::new(PlaceName::from(name)) }
}

fn site<'a>(world: &'a mut World, name: &str) -> &'a mut Site {
    world.sites.get_mut(&PlaceName::from(name)).expect("its site")
}

fn known(world: &World, name: &str) -> Option<PlaceView> {
    let view = world.controller.feedback(&ServiceName::from("shop")).expect("it is configured");
    view.learning.places.into_iter().find(|place| place.place.as_str() == name)
}

/// Kills all shadows every so often, so that new ones are made, and returns where and why.
fn churn(world: &mut World, times: u32, every_ms: u64) -> Vec<(String, String)> {
    let mut made = Vec::new();
    for _ in 0..times {
        let is_made = |(id, i): (&InstanceId, &crate::instance::Instance)| {
            (i.role == Role::Shadow && i.tier > Tier::Cold).then_some(*id)
        };
        let shadows: Vec<InstanceId> = world.instances.iter().filter_map(is_made).collect();
        shadows.into_iter().for_each(|id| world.kill(id));
        let look = |_: &mut World, _: &Observation, plan: &Plan| {
            for planned in &plan.services[0].actions {
                if let Action::Create { place, .. } = &planned.action {
                    made.push((place.to_string(), planned.reason.text.clone()));
                }
            }
        };
        world.run(every_ms, |_| 50.0, look);
    }
    made
}

#[test]
fn a_place_that_fails_two_of_five_is_known_for_it_and_asked_earlier() {
    let mut world = world(&[place("a", 0.1)], ON);
    churn(&mut world, 20, 5_000);
    let before = known(&world, "a").expect("it was seen");
    assert_eq!((before.created.failed, before.expected_tries), (0.0, 1.0), "{before:?}");
    site(&mut world, "a").flaky = 0.4;
    let made = churn(&mut world, 60, 8_000);
    let after = known(&world, "a").expect("it was seen");
    assert!((0.2..0.6).contains(&after.created.fails), "{after:?}");
    assert!(after.created.fails_at_least < 0.4 && 0.4 < after.created.fails_at_most, "{after:?}");
    assert!((1.2..2.5).contains(&after.expected_tries), "{after:?}");
    assert!(made.iter().any(|(_, why)| why.contains("tries are reckoned with")), "{made:?}");
    site(&mut world, "a").flaky = 0.0;
    churn(&mut world, 80, 5_000);
    let mended = known(&world, "a").expect("it was seen");
    assert!(mended.created.fails < 0.1, "{mended:?}");
}

#[test]
fn a_place_that_fails_often_comes_after_a_dearer_one() {
    let of = |learning| {
        let mut world = world(&[place("cheap", 0.1), place("dear", 0.2)], learning);
        site(&mut world, "cheap").flaky = 0.8;
        let made = churn(&mut world, 60, 20_000);
        (known(&world, "cheap"), made)
    };
    let asked = |made: &[(String, String)]| made.iter().filter(|(at, _)| at == "cheap").count();
    let (known_on, on) = of(ON);
    let (known_off, off) = of(LearningSpec::default());
    assert!(known_on.is_some_and(|known| known.created.fails > 0.4));
    assert_eq!(known_off, None, "nothing is remembered");
    assert!(asked(&on) > 0 && asked(&on) * 2 < asked(&off), "{} {}", asked(&on), asked(&off));
    assert!(on.iter().any(|(_, why)| why.contains("cheap: of ")), "{on:?}");
}

#[test]
fn a_place_that_slows_down_is_asked_as_much_earlier() {
    let mut world = world(&[place("a", 0.1)], ON);
    site(&mut world, "a").create_ms = Some(2_000);
    churn(&mut world, 12, 6_000);
    let lead = |world: &World| known(world, "a").and_then(|known| known.created.lead_p90_ms);
    assert_eq!(lead(&world), Some(2_000));
    site(&mut world, "a").create_ms = Some(20_000);
    churn(&mut world, 5, 25_000);
    assert_eq!(lead(&world), Some(20_000), "after five");
}

#[test]
fn creations_that_are_called_off_count_as_at_least_that_long() {
    let mut world = world(&[place("a", 0.1)], ON);
    let slow = site(&mut world, "a");
    (slow.create_ms, slow.flaky) = (Some(60_000), 1.0);
    let mut lead_ms = 0;
    let service = ServiceName::from("shop");
    for _ in 0..1_300 {
        world.step(50.0);
        let thresholds = world.controller.feedback(&service).expect("configured").thresholds;
        lead_ms = thresholds[0].lead_ms;
    }
    assert!(lead_ms > 60_000, "{lead_ms}: longer than any was waited for");
}

#[test]
fn where_demand_needs_them_more_are_begun_than_would_do() {
    let mut world = world(&[place("a", 0.1)], ON);
    site(&mut world, "a").flaky = 0.4;
    churn(&mut world, 40, 8_000);
    let mut covered = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        let texts = plan.services[0].actions.iter().map(|planned| &planned.reason.text);
        covered.extend(texts.filter(|text| text.contains("some may fail")).cloned());
    };
    world.run(20_000, |ms| 50.0 + ms as f64 / 20.0, look);
    assert!(!covered.is_empty());
    let shadows = world.instances.values().filter(|i| i.role == Role::Shadow).count();
    assert!(shadows <= POOL.max as usize, "{shadows}");
}

/// A run in which nothing fails, as it is recorded: plans, one a line.
fn plans(learning: LearningSpec) -> Vec<String> {
    let mut world = world(&[place("a", 0.1)], learning);
    let mut plans = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        plans.push(serde_json::to_string(plan).expect("a plan has a form in JSON"));
    };
    world.run(60_000, |ms| 100.0 + 250.0 * libm::sin(ms as f64 / 9_000.0).max(0.0), look);
    plans
}

#[test]
fn where_nothing_failed_learning_decides_nothing_otherwise() {
    assert!(plans(ON) == plans(LearningSpec::default()), "plans differ");
}

#[test]
fn what_was_learned_is_kept_forgotten_when_it_is_switched_off_and_replays_the_same() {
    let mut world = world(&[place("a", 0.1), place("b", 0.1)], ON);
    site(&mut world, "a").flaky = 0.4;
    churn(&mut world, 20, 8_000);
    let service = ServiceName::from("shop");
    let memory = world.controller.memory(&service).expect("it is configured");
    let json = serde_json::to_string(&memory).expect("it has a form in JSON");
    let before = known(&world, "a").expect("it was seen");
    let mut entries = vec![Entry::Checkpoint { controller: Box::new(world.controller.clone()) }];
    let look = |_: &mut World, observation: &Observation, plan: &Plan| {
        let (observation, plan) = (Box::new(observation.clone()), Box::new(plan.clone()));
        entries.push(Entry::Tick { observation, plan });
    };
    world.run(30_000, |ms| 50.0 + ms as f64 / 100.0, look);
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| serde_json::to_string(entry).expect("it has a form in JSON"))
        .collect();
    let read = lines.iter().map(|line| serde_json::from_str(line).expect("it was written so"));
    let report = replay(read);
    assert!(report.divergence.is_none() && report.ticks == 300, "{:?}", report.divergence);

    let memory = serde_json::from_str(&json).expect("it was written so");
    world.controller.recall(memory, 0).expect("it is configured");
    assert_eq!(known(&world, "a"), Some(before));
    let specs = [LearningSpec::default(), ON].map(|learning| ServiceSpec {
        capacity: Capacity::Pinned(150.0),
        places: vec![place("a", 0.1), place("b", 0.1)],
        pool: Some(POOL),
        learning,
        ..spec()
    });
    for spec in specs {
        world.controller.configure(vec![spec]);
        assert_eq!(known(&world, "a"), None);
    }
}
