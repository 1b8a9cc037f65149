//! How many shadows the pool keeps: shares of the primaries, the least there may be, and shrinking.

use foreshadow_control::{
    Capacity, Foreseen, Kept, Observation, Plan, PoolSpec, Role, ServiceSpec, SizingSpec, Tier,
};

use crate::sim::{Nature, World, spec};

const POOL: PoolSpec = PoolSpec { shadow: 1, warm: 2, full: 0, max: 6 };

fn world(sizing: SizingSpec, primaries: u64) -> World {
    let capacity = Capacity::Pinned(150.0);
    let spec = ServiceSpec { capacity, pool: Some(POOL), sizing, ..spec() };
    World::new(Nature { primaries, ..Nature::default() }, spec)
}

fn foresee(world: &mut World, most_rps: f64) {
    let sizing = SizingSpec { min: Some(Kept::Count(1)), ..SizingSpec::default() };
    let sight = sizing.sight().expect("its size looks ahead");
    world.foreseen = vec![Foreseen {
        ahead_ms: sight.ahead_ms,
        quantile: sight.quantile,
        then_rps: 50.0,
        least_rps: 40.0,
        most_rps,
    }];
}

fn shadows(world: &World) -> usize {
    world.instances.values().filter(|i| i.role == Role::Shadow).count()
}

#[test]
fn a_share_of_the_primaries_follows_them() {
    let half = SizingSpec { warm_share: Some(0.5), ..SizingSpec::default() };
    for (primaries, warm) in [(1, 1), (2, 1), (3, 2), (5, 3)] {
        let mut world = world(half, primaries);
        world.run(8_000, |_| 40.0, |_, _, _| {});
        assert_eq!(world.shadows_at(Tier::Warm), warm, "{primaries} primaries");
    }
}

#[test]
fn there_are_never_fewer_than_the_least() {
    let sizing = SizingSpec { min: Some(Kept::Count(5)), ..SizingSpec::default() };
    let mut world = world(sizing, 2);
    world.run(8_000, |_| 40.0, |_, _, _| {});
    assert_eq!(shadows(&world), 5);
    foresee(&mut world, 60.0);
    let mut fewest = usize::MAX;
    let look = |world: &mut World, _: &Observation, _: &Plan| fewest = fewest.min(shadows(world));
    world.run(700_000, |_| 40.0, look);
    assert_eq!(fewest, 5);
    assert_eq!(
        (world.shadows_at(Tier::Shadow), world.shadows_at(Tier::Warm)),
        (5, 0),
        "all paused"
    );
}

#[test]
fn the_reserve_shrinks_while_nothing_comes_and_is_back_before_a_peak() {
    let sizing = SizingSpec { min: Some(Kept::Count(1)), ..SizingSpec::default() };
    let mut world = world(sizing, 2);
    foresee(&mut world, 60.0);
    world.run(500_000, |_| 40.0, |_, _, _| {});
    assert_eq!((shadows(&world), world.shadows_at(Tier::Warm)), (3, 2), "not at the first sign");
    let mut said = Vec::new();
    let mut look = |_: &mut World, _: &Observation, plan: &Plan| {
        let texts = plan.services[0].reasons.iter().map(|reason| reason.text.clone());
        said.extend(texts.filter(|text| text.starts_with("the pool keeps")));
    };
    world.run(200_000, |_| 40.0, &mut look);
    assert_eq!((shadows(&world), world.shadows_at(Tier::Shadow)), (1, 1));
    foresee(&mut world, 900.0);
    world.run(8_000, |_| 40.0, &mut look);
    assert_eq!((shadows(&world), world.shadows_at(Tier::Warm)), (3, 2), "hours before it comes");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("its least") && said[1].contains("warm 2"), "{said:?}");
}

#[test]
fn without_a_curve_or_without_a_least_nothing_shrinks() {
    let least = SizingSpec { min: Some(Kept::Count(1)), ..SizingSpec::default() };
    for (sizing, foreseen) in [(least, false), (SizingSpec::default(), true)] {
        let mut world = world(sizing, 2);
        if foreseen {
            foresee(&mut world, 60.0);
        }
        world.run(800_000, |_| 40.0, |_, _, _| {});
        assert_eq!((shadows(&world), world.shadows_at(Tier::Warm)), (3, 2));
    }
}

#[test]
fn an_announced_event_keeps_the_reserve() {
    let sizing = SizingSpec { min: Some(Kept::Count(1)), ..SizingSpec::default() };
    let mut world = world(sizing, 2);
    foresee(&mut world, 60.0);
    world.events = vec![(9_000_000, 9_600_000, 20.0)];
    world.run(800_000, |_| 40.0, |_, _, _| {});
    assert_eq!(shadows(&world), 3, "the calendar is not in the curve");
}
