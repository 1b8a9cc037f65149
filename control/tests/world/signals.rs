//! Signals told of a service: one that leads demand makes shadows ready earlier, one that lies costs
//! nothing that matters.

use std::collections::BTreeMap;

use foreshadow_control::{
    Controller, Entry, PoolSpec, Recalled, ServiceSpec, SignalState, Tier, replay,
};

use crate::sim::{Nature, Outcome, World, spec};

/// Surges of two minutes, at no regular distance.
const SURGES_S: [u64; 12] =
    [240, 610, 1_130, 1_490, 2_050, 2_420, 2_990, 3_340, 3_910, 4_260, 4_830, 5_300];
const SURGE_S: u64 = 120;
const LEAD_S: u64 = 45;
const END_S: u64 = 5_600;
/// From here on it counts: what came before taught.
const TAUGHT_S: u64 = 2_300;

fn surging(at_s: u64) -> bool {
    SURGES_S.iter().any(|start_s| (*start_s..start_s + SURGE_S).contains(&at_s))
}

/// A provider that needs twenty seconds for a shadow and a pool that keeps none.
fn spec_with(signals: &[&str]) -> ServiceSpec {
    ServiceSpec {
        pool: Some(PoolSpec { shadow: 0, warm: 0, full: 0, max: 4 }),
        signals: signals.iter().map(|name| (*name).to_owned()).collect(),
        ..spec()
    }
}

fn world(signals: &[&str]) -> World {
    let nature = Nature { create_ms: 20_000, warm_ms: 500, ..Nature::default() };
    World::new(nature, spec_with(signals))
}

/// What became of a run: of what counts, requests, seconds of shadows in any tier, and the seconds
/// after which each surge had a shadow serving.
struct Run {
    world: World,
    outcome: Outcome,
    shadow_s: f64,
    ready_s: Vec<u64>,
}

/// Demand that surges, told as `signal` says by second.
fn run(mut world: World, signal: impl Fn(u64) -> Option<f64>) -> Run {
    let full_rps = world.nature.primary_rps();
    let (mut shadow_s, mut ready_s) = (0.0, Vec::new());
    let mut waiting = None;
    for tick in 0..END_S * 10 {
        let at_s = tick / 10;
        if tick == TAUGHT_S * 10 {
            world.outcome = Outcome::default();
        }
        let told = signal(at_s).map(|value| ("campaign".to_owned(), value));
        world.signals = told.into_iter().collect();
        world.step(full_rps * if surging(at_s) { 1.3 } else { 0.4 });
        if at_s < TAUGHT_S {
            continue;
        }
        shadow_s += 0.1 * (world.instances.len() - 2) as f64;
        if tick % 10 == 0 && SURGES_S.contains(&at_s) {
            waiting = Some(at_s);
        }
        if let Some(start_s) = waiting
            && world.serving_shadows() > 0
        {
            ready_s.push(at_s - start_s);
            waiting = None;
        }
    }
    Run { outcome: world.outcome, shadow_s, ready_s, world }
}

fn campaign(at_s: u64) -> f64 {
    if surging(at_s + LEAD_S) { 90_000.0 } else { 20_000.0 }
}

#[test]
fn a_signal_that_leads_demand_makes_shadows_ready_earlier() {
    let without = run(world(&[]), |at_s| Some(campaign(at_s)));
    let with = run(world(&["campaign"]), |at_s| Some(campaign(at_s)));
    assert!(without.ready_s.iter().all(|s| *s >= 15), "{:?}", without.ready_s);
    assert_eq!(with.ready_s, [0; 7], "there before each surge");
    assert!(
        5 * with.outcome.bad() < without.outcome.bad(),
        "{:?} {:?}",
        with.outcome,
        without.outcome
    );
    assert!(with.shadow_s < 1.1 * without.shadow_s, "{} {}", with.shadow_s, without.shadow_s);
    let feedback = with.world.controller.feedback(&spec().name).expect("it is configured");
    let [told] = &feedback.signals[..] else { panic!("{:?}", feedback.signals) };
    assert_eq!(told.state, SignalState::Arriving);
    assert!((40_000..=48_000).contains(&told.lead_ms), "{told:?}");
    let farthest = told.forecasts.last().expect("there are horizons");
    assert!(farthest.heard && farthest.error_rps < farthest.error_without_rps, "{farthest:?}");
}

/// How a signal may go wrong once it was believed.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Reversed,
    Always(f64),
    Stops,
    Elsewhere,
    Noise,
}

impl Lie {
    fn tell(self, at_s: u64) -> Option<f64> {
        if at_s < TAUGHT_S {
            return Some(campaign(at_s));
        }
        match self {
            Self::Reversed => Some(110_000.0 - campaign(at_s)),
            Self::Always(value) => Some(value),
            Self::Stops => None,
            Self::Elsewhere => Some(campaign(at_s + 260)),
            Self::Noise => Some((at_s.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as f64),
        }
    }
}

#[test]
fn a_signal_that_was_right_and_then_lies_makes_nothing_worse() {
    assert_harmless(&[Lie::Reversed, Lie::Elsewhere, Lie::Noise]);
}

#[test]
fn a_signal_that_was_right_and_then_says_nothing_makes_nothing_worse() {
    let silent = [20_000.0, f64::NAN, 1e15].map(Lie::Always);
    assert_harmless(&silent);
    assert_harmless(&[Lie::Stops]);
}

/// Against the same world that is told nothing.
fn assert_harmless(lies: &[Lie]) {
    let without = run(world(&[]), |_| None);
    for lie in lies {
        let with = run(world(&["campaign"]), |at_s| lie.tell(at_s));
        let bound = with.outcome.requests / 100;
        assert!(
            with.outcome.bad() <= without.outcome.bad() + bound,
            "{lie:?}: {:?}, without {:?}",
            with.outcome,
            without.outcome
        );
        assert!(
            with.shadow_s <= 1.15 * without.shadow_s,
            "{lie:?}: {:.0} s of shadows, without {:.0}",
            with.shadow_s,
            without.shadow_s
        );
    }
}

#[test]
fn what_signals_told_is_part_of_the_recording_and_of_what_is_kept() {
    let mut world = world(&["campaign"]);
    let full_rps = world.nature.primary_rps();
    let mut lines = Vec::new();
    let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
    for tick in 0..6_600_u64 {
        let at_s = tick / 10;
        world.signals = BTreeMap::from([("campaign".to_owned(), campaign(at_s))]);
        if tick == 5_600 {
            let controller = Box::new(world.controller.clone());
            lines.push(write(&Entry::Checkpoint { controller }));
        }
        let (observation, plan) = world.step(full_rps * if surging(at_s) { 1.3 } else { 0.4 });
        if !lines.is_empty() {
            let (observation, plan) = (Box::new(observation), Box::new(plan));
            lines.push(write(&Entry::Tick { observation, plan }));
        }
    }
    let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
    let report = replay(lines.iter().map(read));
    assert!(report.divergence.is_none(), "{:?}", report.divergence);

    let name = spec().name;
    let memory = || world.controller.memory(&name).expect("it is configured");
    let mut same = Controller::new(vec![spec_with(&["campaign"])]);
    assert_eq!(same.recall(memory(), 1_000), Ok(Recalled::Whole));
    let kept = same.feedback(&name).expect("it is configured").signals;
    assert!(kept[0].correlation > 0.5, "{kept:?}");
    let mut other = Controller::new(vec![spec_with(&["backlog"])]);
    assert_eq!(other.recall(memory(), 1_000), Ok(Recalled::WithoutForecast));
}

#[test]
fn a_checkpoint_from_before_there_were_signals_is_taken_up() {
    let mut world = world(&[]);
    world.run(5_000, |_| 100.0, |_, _, _| {});
    let mut value = serde_json::to_value(&world.controller).expect("plain data");
    let demand = value.pointer_mut("/services/shop/demand").and_then(|d| d.as_object_mut());
    let gone = demand.expect("it is there").remove("signals");
    assert!(gone.is_some(), "a checkpoint holds them");
    let mut controller: Controller = serde_json::from_value(value).expect("it is taken up");
    world.controller = controller.clone();
    world.run(1_000, |_| 100.0, |_, _, _| {});
    // And where signals are asked for since, the forecaster begins anew.
    controller.configure(vec![spec_with(&["campaign"])]);
    world.controller = controller;
    world.signals = BTreeMap::from([("campaign".to_owned(), 1.0)]);
    world.run(1_000, |_| 100.0, |_, _, _| {});
    assert_eq!(world.shadows_at(Tier::Serving), 0);
    assert_eq!(world.controller.feedback(&spec().name).map(|f| f.signals.len()), Some(1));
}
