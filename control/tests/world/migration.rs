//! Instances that move elsewhere: what goes well, what is chosen, what is refused.

use foreshadow_control::{
    Action, Capacity, InstanceId, Law, MigrationOrder, MigrationPhase, MigrationSpec,
    MigrationView, Mode, Observation, PlaceName, PlaceSpec, Plan, PoolSpec, Role, ServiceSpec,
    Tier,
};

use crate::sim::{Nature, Outcome, Site, World, spec};

pub(crate) const STEPS: [f64; 4] = [0.05, 0.25, 0.5, 1.0];

pub(crate) fn order(id: u64) -> MigrationOrder {
    MigrationOrder { id, instance: None, to: None, begins_in_ms: 0, cancelled: false }
}

pub(crate) fn place(name: &str) -> PlaceSpec {
    PlaceSpec::new(PlaceName::from(name))
}

pub(crate) fn migrating() -> ServiceSpec {
    ServiceSpec {
        capacity: Capacity::Pinned(150.0),
        pool: Some(PoolSpec { shadow: 1, warm: 1, full: 0, max: 6 }),
        places: vec![PlaceSpec { cost_per_hour: 0.1, ..place("east") }, place("west")],
        migration: MigrationSpec {
            steps: STEPS.to_vec(),
            verify_ms: 3_000,
            ready_ms: 20_000,
            drain_ms: 5_000,
            risk: None,
        },
        ..spec()
    }
}

pub(crate) fn world_of(nature: Nature, spec: ServiceSpec) -> World {
    let places = spec.places.clone();
    let mut world = World::new(nature, spec);
    for spec in places {
        world.sites.insert(spec.name, Site { zone: spec.zone, ..Site::default() });
    }
    world
}

/// Primaries that carry what they should, and a pool that is complete.
pub(crate) fn settled(primaries: u64, rps: f64) -> World {
    let mut world = world_of(Nature { primaries, ..Nature::default() }, migrating());
    world.run(15_000, |_| rps, |_, _, _| {});
    world.outcome = Outcome::default();
    world
}

/// What a migration went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) phases: Vec<MigrationPhase>,
    pub(crate) last: Option<MigrationView>,
    pub(crate) reasons: Vec<String>,
    pub(crate) actions: Vec<(Action, Law)>,
}

impl Told {
    pub(crate) fn take(&mut self, id: Option<u64>, plan: &Plan) {
        let service = &plan.services[0];
        for view in service.migrations.iter().filter(|view| view.id == id) {
            if self.phases.last() != Some(&view.phase) {
                self.phases.push(view.phase);
            }
            self.last = Some(view.clone());
        }
        let said = service.reasons.iter().filter(|r| r.law == Law::Migrate);
        self.reasons.extend(said.map(|r| r.text.clone()));
        self.actions.extend(service.actions.iter().map(|a| (a.action.clone(), a.reason.law)));
    }

    pub(crate) fn view(&self) -> &MigrationView {
        self.last.as_ref().expect("it was told")
    }

    pub(crate) fn text(&self) -> &str {
        self.last.as_ref().map_or("", |view| &view.text)
    }

    pub(crate) fn created(&self, by: Law) -> usize {
        let created =
            |(action, law): &&(Action, Law)| matches!(action, Action::Create { .. }) && *law == by;
        self.actions.iter().filter(created).count()
    }
}

/// Runs until the migration is over, at most so long; `look` sees every tick.
pub(crate) fn follow(
    world: &mut World,
    id: Option<u64>,
    (ms, rps): (u64, f64),
    mut look: impl FnMut(&mut World, &Observation, &Plan),
) -> Told {
    let mut told = Told::default();
    let begin_ms = world.at_ms;
    while world.at_ms < begin_ms + ms {
        let (observation, plan) = world.step(rps);
        told.take(id, &plan);
        look(world, &observation, &plan);
        if told.last.as_ref().is_some_and(|view| view.phase.is_over()) {
            break;
        }
    }
    told
}

#[test]
fn a_primary_moves_step_by_step_and_a_shadow_stands_for_it_ever_after() {
    let mut world = settled(2, 100.0);
    let moves =
        MigrationOrder { instance: Some(InstanceId(1)), to: Some("west".into()), ..order(7) };
    world.migrations.orders.push(moves);
    let mut parts: Vec<f64> = Vec::new();
    let told = follow(&mut world, Some(7), (120_000, 100.0), |world, _, plan| {
        let view = plan.services[0].migrations.first().expect("it is told in every tick");
        if let Some(target) = view.target {
            let (from, to) = (world.weight(InstanceId(1)), world.weight(target));
            parts.push(f64::from(to) / f64::from(from + to).max(1.0));
        }
    });
    use MigrationPhase::{Done, Draining, Preparing, Shifting};
    assert_eq!(told.phases, [Preparing, Shifting, Draining, Done], "{told:#?}");
    for step in STEPS {
        let held = parts.iter().filter(|part| (**part - step).abs() < 0.02).count();
        assert!(held >= 30, "{step} was in force in {held} ticks: {}", told.text());
    }
    assert_eq!(world.outcome.failed, 0, "no request is lost");
    let target = told.view().target.expect("it has one");
    assert_eq!(world.instances[&target].place.as_str(), "west");
    // It is told again while the order is, and nothing begins anew.
    let (_, plan) = world.step(100.0);
    assert_eq!(plan.services[0].migrations[0].phase, Done);
    world.migrations.orders.clear();
    world.run(2_000, |_| 100.0, |world, _, _| assert_eq!(world.weight(InstanceId(1)), 0));
    // The node drains it for good; without any demand the shadow stays, and is filled like a primary.
    world.instances.get_mut(&InstanceId(1)).expect("the primary").drained = true;
    world.run(90_000, |_| 60.0, |_, _, _| {});
    let ratio = f64::from(world.weight(target)) / f64::from(world.weight(InstanceId(2)));
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
    world.run(90_000, |_| 0.0, |_, _, _| {});
    assert!(world.weight(target) > 0, "it stands for a primary");
    // Taken back by the operator, it is a shadow like any other.
    world.instances.get_mut(&InstanceId(1)).expect("the primary").drained = false;
    world.run(90_000, |_| 60.0, |_, _, _| {});
    assert!(world.weight(InstanceId(1)) > 0 && world.weight(target) == 0);
}

#[test]
fn a_serving_shadow_moves_and_ends_and_the_pool_makes_none_in_its_place() {
    let mut world = settled(1, 170.0);
    world.run(20_000, |_| 170.0, |_, _, _| {});
    let serving = |world: &World| -> Vec<InstanceId> {
        let serves =
            |i: &crate::instance::Instance| i.role == Role::Shadow && i.tier == Tier::Serving;
        world.instances.iter().filter(|(_, i)| serves(i)).map(|(id, _)| *id).collect()
    };
    let before = serving(&world);
    let source = before[0];
    let from = world.instances[&source].place.clone();
    let to = if from.as_str() == "east" { "west" } else { "east" };
    world.outcome = Outcome::default();
    world.migrations.orders.push(MigrationOrder {
        instance: Some(source),
        to: Some(to.into()),
        ..order(1)
    });
    let told = follow(&mut world, Some(1), (120_000, 170.0), |_, _, _| {});
    assert_eq!(told.view().phase, MigrationPhase::Done, "{told:#?}");
    assert!(told.actions.contains(&(Action::Destroy { instance: source }, Law::Migrate)));
    assert_eq!(world.outcome.failed, 0);
    world.migrations.orders.clear();
    let mut later = Told::default();
    world.run(20_000, |_| 170.0, |_, _, plan| later.take(None, plan));
    assert!(!world.instances.contains_key(&source));
    assert!(serving(&world).contains(&told.view().target.expect("a target")));
    assert_eq!(later.created(Law::Recreate), 0, "{later:#?}");
    assert_eq!(serving(&world).len(), before.len());
}

#[test]
fn what_can_never_be_is_refused_and_what_can_be_later_waits() {
    let mut world = settled(2, 100.0);
    let reserve = world.instances.iter().find(|(_, i)| i.tier == Tier::Warm).map(|(id, _)| *id);
    let orders = [
        MigrationOrder { instance: Some(InstanceId(999)), ..order(1) },
        MigrationOrder { to: Some("moon".into()), ..order(2) },
        MigrationOrder { instance: reserve, ..order(3) },
        MigrationOrder { begins_in_ms: 60_000, ..order(4) },
        MigrationOrder { cancelled: true, ..order(5) },
    ];
    world.migrations.orders.extend(orders);
    let (observation, plan) = world.step(100.0);
    let of = |plan: &Plan, id| {
        let found = plan.services[0].migrations.iter().find(|view| view.id == Some(id));
        found.cloned().expect("every order is told")
    };
    let refused = [(1, "no instance i999"), (2, "no place moon"), (3, "carries nothing")];
    for (id, why) in refused {
        let view = of(&plan, id);
        assert_eq!(view.phase, MigrationPhase::Refused, "{view:?}");
        assert!(view.text.contains(why), "{view:?}");
    }
    let waits = of(&plan, 4);
    assert_eq!(waits.phase, MigrationPhase::Scheduled);
    let schedule = waits.schedule.expect("who and where is known");
    assert_eq!(schedule.start_ms, observation.at_ms + 60_000);
    assert!(schedule.estimated_duration_ms > 4 * 3_000);
    assert_eq!(of(&plan, 5).phase, MigrationPhase::RolledBack);
    // Two at once: one goes first. Outside mode act: none.
    world.migrations.orders = vec![order(6), order(7)];
    world.mode = Mode::Advise;
    let (_, plan) = world.step(100.0);
    assert!(of(&plan, 6).text.contains("mode advise"), "{:?}", of(&plan, 6));
    world.mode = Mode::Act;
    let (_, plan) = world.step(100.0);
    assert_eq!(of(&plan, 6).phase, MigrationPhase::Preparing);
    assert_eq!(of(&plan, 7).phase, MigrationPhase::Scheduled);
    assert!(of(&plan, 7).text.contains("one moves at a time"));
}

#[test]
fn a_dry_run_tells_what_would_be_chosen_and_changes_nothing() {
    let mut world = settled(2, 100.0);
    let (observation, _) = world.step(100.0);
    let before = serde_json::to_string(&world.controller).expect("plain");
    let service = observation.services[0].service.clone();
    let choices = world.controller.migration_choices(&observation, &service);
    assert_eq!(serde_json::to_string(&world.controller).expect("plain"), before);
    assert_eq!(choices.len(), 4, "two primaries, two places: {choices:#?}");
    let best = choices[0].clone();
    assert_eq!(best.schedule.target.as_str(), "west", "it costs nothing: {choices:#?}");
    assert!(best.objections.is_empty() && best.load_rps > 30.0, "{best:?}");
    world.migrations.orders.push(order(1));
    let told = follow(&mut world, Some(1), (200, 100.0), |_, _, _| {});
    let schedule = told.view().schedule.clone().expect("it began");
    assert_eq!(
        (schedule.instance, schedule.target),
        (best.schedule.instance, best.schedule.target)
    );
}

#[test]
fn one_that_is_likely_to_fail_moves_by_itself_within_a_window() {
    for window_in_ms in [Some(0), Some(60_000), None] {
        let mut spec = migrating();
        spec.migration.risk = Some(0.5);
        let nature = Nature { primaries: 3, ..Nature::default() };
        let mut world = world_of(nature, spec);
        world.migrations.window_in_ms = window_in_ms;
        world.run(60_000, |_| 150.0, |_, _, _| {});
        let start_ms = world.at_ms;
        let told = follow(&mut world, None, (280_000, 150.0), |world, _, _| {
            let share = 0.5 + (world.at_ms - start_ms) as f64 / 600_000.0;
            if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
                primary.resources = Some(foreshadow_control::ResourceSample {
                    memory_bytes: Some((1e9 * share) as u64),
                    memory_limit_bytes: Some(1_000_000_000),
                    ..foreshadow_control::ResourceSample::default()
                });
            }
        });
        if window_in_ms == Some(0) {
            assert_eq!(told.view().phase, MigrationPhase::Done, "{told:#?}");
            let schedule = told.view().schedule.clone().expect("it began");
            assert_eq!(schedule.instance, InstanceId(1));
            assert!(told.reasons[0].contains("has been above 50% for 5 s"), "{}", told.reasons[0]);
        } else {
            assert!(told.last.is_none(), "{told:#?}");
        }
    }
}
