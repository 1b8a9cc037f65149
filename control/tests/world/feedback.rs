//! What became of steps is judged, and the thresholds that move with it do no harm.

use foreshadow_control::{
    Controller, Entry, FeedbackView, Law, Mode, Observation, Plan, QuantileSpec, ServiceName,
    ServiceSpec, Step, StepScore, replay,
};
use proptest::prelude::*;

use crate::hostile::{LIES, Lie, liar};
use crate::sim::{Nature, World, spec};

fn feedback(world: &World) -> FeedbackView {
    world.controller.feedback(&ServiceName::from("shop")).expect("it is configured")
}

fn commits(world: &World) -> StepScore {
    let steps = feedback(world).steps;
    steps.into_iter().find(|s| s.step == Step::Commit).expect("every step has a score")
}

#[test]
fn a_ramp_that_is_met_in_time_is_judged_right() {
    let mut world = World::new(Nature::default(), spec());
    let full_rps = world.nature.primary_rps();
    world.run(30_000, |_| 0.4 * full_rps, |_, _, _| {});
    world.run(30_000, |ms| full_rps * (0.4 + ms as f64 / 30_000.0), |_, _, _| {});
    world.run(10_000, |_| 1.4 * full_rps, |_, _, _| {});
    let commits = commits(&world);
    assert!(commits.right > 0 && commits.false_ones == 0, "{commits:?}");
    let lead = commits.lead.expect("lead times are known");
    assert!(lead.p50_ms >= 0, "{lead:?}");
}

#[test]
fn steps_for_demand_that_only_a_forecast_saw_are_judged_false() {
    let mut world = World::new(Nature::default(), spec());
    let rps = 0.4 * world.nature.primary_rps();
    world.run(30_000, |_| rps, |_, _, _| {});
    let before = commits(&world).false_ones;
    let mut tell = liar(Lie::Times(4.0));
    for _ in 0..300 {
        world.step_told(rps, &mut tell);
    }
    assert!(commits(&world).false_ones > before, "{:?}", commits(&world));
    let thresholds = feedback(&world).thresholds;
    assert!(thresholds.iter().all(|t| t.in_force <= t.start), "{thresholds:?}");
}

#[test]
fn jumps_that_nobody_foresees_raise_what_commits() {
    let mut world = World::new(Nature::default(), spec());
    let full_rps = world.nature.primary_rps();
    let mut told = Vec::new();
    for _ in 0..30 {
        let look = |_: &mut World, _: &Observation, plan: &Plan| {
            let reasons = plan.services[0].reasons.iter();
            told.extend(reasons.filter(|r| r.law == Law::Feedback).map(|r| r.text.clone()));
        };
        let jumps = |ms| full_rps * if ms < 20_000 { 0.4 } else { 1.5 };
        world.run(30_000, jumps, look);
    }
    let view = feedback(&world);
    let commit = view.thresholds.iter().find(|t| t.step == Step::Commit).expect("it is told");
    assert!(commit.in_force > commit.start, "{commit:?}");
    assert!(commit.in_force <= commit.most, "{commit:?}");
    assert!(told.iter().any(|text| text.contains("commit quantile")), "{told:?}");
}

#[test]
fn without_feedback_thresholds_stay_where_they_start() {
    let mut world = World::new(Nature::default(), ServiceSpec { feedback: false, ..spec() });
    let full_rps = world.nature.primary_rps();
    for _ in 0..4 {
        world.run(30_000, |ms| full_rps * if ms < 15_000 { 0.4 } else { 1.5 }, |_, _, _| {});
    }
    let view = feedback(&world);
    assert!(!view.moves);
    assert!(view.thresholds.iter().all(|t| t.in_force == t.start), "{:?}", view.thresholds);
    assert!(view.steps.iter().any(|s| s.right + s.early + s.late + s.false_ones > 0));
}

#[test]
fn a_checkpoint_from_before_feedback_is_taken_up() {
    let mut world = World::new(Nature::default(), spec());
    let rps = 0.4 * world.nature.primary_rps();
    world.run(5_000, |_| rps, |_, _, _| {});
    let mut written = serde_json::to_value(&world.controller).expect("plain data");
    let service = &mut written["services"]["shop"];
    let fields = service.as_object_mut().expect("a service has fields");
    assert!(fields.remove("feedback").is_some());
    let spec = service["spec"].as_object_mut().expect("a spec has fields");
    assert!(spec.remove("feedback").is_some());
    let read: Controller = serde_json::from_value(written).expect("it is read");
    let view = read.feedback(&ServiceName::from("shop")).expect("it is configured");
    assert_eq!(view.open_steps, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 4 wherever thresholds stand: their bounds do not matter to it.
    #[test]
    fn no_threshold_makes_a_lie_worse_than_observing_by_more_than_the_bound(
        seed in any::<u64>(),
        lie in 0..LIES.len(),
        levels in prop::collection::vec(0.01f64..0.999, 3),
    ) {
        let mut levels = levels;
        levels.sort_by(f64::total_cmp);
        let quantiles = QuantileSpec { commit: levels[0], warm: levels[1], prepare: levels[2] };
        let run = |mode: Mode, lie: Option<Lie>| {
            let nature = Nature { seed, ..Nature::default() };
            let mut world = World::new(nature, ServiceSpec { quantiles, ..spec() });
            world.mode = mode;
            let full_rps = world.nature.primary_rps();
            let mut tell = lie.map(liar);
            for tick in 0..600 {
                let wave = libm::cos(f64::from(tick) / 300.0 * std::f64::consts::TAU);
                let rps = full_rps * (0.7 - 0.4 * wave);
                match &mut tell {
                    Some(tell) => drop(world.step_told(rps, tell)),
                    None => drop(world.step(rps)),
                }
            }
            world
        };
        let observed = run(Mode::Observe, None).outcome;
        let world = run(Mode::Act, Some(LIES[lie]));
        let bound = observed.bad() + world.outcome.requests / 100;
        prop_assert!(world.outcome.bad() <= bound, "{:?} {:?}", LIES[lie], world.outcome);
        for threshold in feedback(&world).thresholds {
            let bounds = threshold.least - 1e-3..=threshold.most.max(levels[2]) + 1e-3;
            prop_assert!(bounds.contains(&threshold.in_force), "{:?}", threshold);
        }
    }

    /// What was learned is in the checkpoint: a recording cut anywhere replays the same.
    #[test]
    fn a_recording_cut_while_thresholds_move_replays_byte_for_byte(
        seed in any::<u64>(),
        cut in 0u64..900,
    ) {
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
        let full_rps = world.nature.primary_rps();
        let mut lines = Vec::new();
        let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
        for tick in 0..1_000 {
            if tick == cut {
                let controller = Box::new(world.controller.clone());
                lines.push(write(&Entry::Checkpoint { controller }));
            }
            let (observation, plan) =
                world.step(full_rps * if tick / 120 % 2 == 0 { 0.4 } else { 1.5 });
            if tick >= cut {
                let tick = Entry::Tick { observation: Box::new(observation), plan: Box::new(plan) };
                lines.push(write(&tick));
            }
        }
        let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
        let report = replay(lines.iter().map(read));
        prop_assert_eq!(report.ticks, 1_000 - cut);
        prop_assert!(report.divergence.is_none(), "{:?}", report.divergence);
    }
}
