//! A recording whose checkpoint or ticks were damaged replays or is refused; it never panics.

use foreshadow_control::{Controller, DemandHorizon, Entry, Mode, ServiceSpec};
use serde_json::{Value, json};

use crate::random::Random;
use crate::rules::rules;
use crate::scaler::Scaler;
use crate::scaling::scaled;
use crate::sim::{Nature, World};

const RULES: [&str; 3] = [
    "p90 of demand > 80rps within 2m for 3 ticks -> activate 2",
    "any instance rps > 60rps at 3s until < 40rps clear after 2s -> warm 2, hold",
    "latency_p90 > 40ms within 5s -> alert \"slow\"",
];

/// A checkpoint of a controller with much on its mind, and the ticks after it.
fn recording() -> Vec<Value> {
    let signals = vec!["campaign".to_owned()];
    let spec = ServiceSpec { rules: rules(&RULES), horizon_ms: 1_000, signals, ..scaled() };
    let mut world = World::new(Nature::default(), spec);
    world.scaler = Some(Scaler::of(&world, 2_000));
    let mut random = Random::seeded(11);
    let mut lines = Vec::new();
    let write = |entry: &Entry| serde_json::to_value(entry).expect("plain data");
    for tick in 0..230_u64 {
        if tick == 210 {
            let controller = Box::new(world.controller.clone());
            lines.push(write(&Entry::Checkpoint { controller }));
        }
        world.mode = Mode::Act;
        world.signals = [("campaign".to_owned(), 5.0 * random.unit())].into();
        world.events = vec![(22_000, 30_000, 2.0)];
        let told = |horizon_ms| DemandHorizon {
            horizon_ms,
            lower_rps: 80.0,
            median_rps: 100.0,
            upper_rps: 150.0,
        };
        world.long_range = [0, 1_000, 60_000, 300_000].map(told).to_vec();
        if tick == 100 {
            let shadow = world.instances.keys().copied().nth(2);
            shadow.into_iter().for_each(|id| world.kill(id));
        }
        let (observation, plan) = world.step(150.0 + 150.0 * random.unit());
        if tick >= 210 {
            let (observation, plan) = (observation.into(), plan.into());
            lines.push(write(&Entry::Tick { observation, plan }));
        }
    }
    lines
}

/// Every place of a value that can be damaged, as a JSON pointer.
fn places(value: &Value, path: &str, few: usize, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(name, inner)| places(inner, &format!("{path}/{name}"), few, found));
        }
        Value::Array(items) => {
            let first = items.iter().enumerate().take(few);
            first.for_each(|(at, inner)| places(inner, &format!("{path}/{at}"), few, found));
        }
        _ => {}
    }
}

fn damages(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(_) => [
            json!(null),
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!(u32::MAX),
            json!(1e300),
            json!(-1e300),
            json!(1e-300),
        ]
        .to_vec(),
        Value::Array(items) => {
            let shorter = items.iter().skip(1).cloned().collect();
            let longer = items.iter().chain(items.first()).cloned().collect();
            vec![json!([]), Value::Array(shorter), Value::Array(longer), json!(null)]
        }
        Value::Bool(flag) => vec![json!(!flag)],
        Value::Null => vec![json!(0), json!(u64::MAX), json!(1e300), json!(-1.0)],
        _ => vec![json!(null), json!("")],
    }
}

fn read(line: &Value) -> Option<Entry> {
    serde_json::from_value(line.clone()).ok()
}

/// Whatever it makes of a recording, it comes back. Not by `replay`, which ends at the first plan
/// that differs.
fn run(entries: impl Iterator<Item = Entry>) {
    let mut running = Controller::default();
    for entry in entries {
        match entry {
            Entry::Checkpoint { controller } => running = *controller,
            Entry::Configure { specs } => running.configure(specs),
            Entry::Tick { observation, .. } => drop(running.tick(&observation)),
        }
    }
    serde_json::to_string(&running).expect("plain data");
}

/// Damages every place of one line; how many were refused, and how many survived.
fn damage_each(line: usize, few: usize, leave_out: &str) -> (u32, u32) {
    let sound = &recording()[..3];
    let entries: Vec<Entry> = sound.iter().map(|line| read(line).expect("it is sound")).collect();
    run(entries.iter().cloned());
    let mut all = Vec::new();
    places(&sound[line], "", few, &mut all);
    all.retain(|place| !place.contains(leave_out));
    let (mut refused, mut survived) = (0, 0);
    for (at, place) in all.iter().enumerate() {
        let all_ways = damages(sound[line].pointer(place).expect("it was found there"));
        // All of them everywhere take minutes: another third of them at each place.
        for damage in all_ways.into_iter().skip(at % 3).step_by(3) {
            let mut damaged = sound[line].clone();
            *damaged.pointer_mut(place).expect("it was found there") = damage;
            let Some(damaged) = read(&damaged) else {
                refused += 1;
                continue;
            };
            let (before, after) = (&entries[..line], &entries[line + 1..]);
            let damaged = std::slice::from_ref(&damaged);
            run(before.iter().chain(damaged).chain(after).cloned());
            survived += 1;
        }
    }
    (refused, survived)
}

#[test]
fn a_checkpoint_damaged_anywhere_is_refused_or_survived() {
    // What a forecaster holds is damaged in the tests of its own crate.
    let (refused, survived) = damage_each(0, 1, "/forecaster/");
    assert!(refused > 100 && survived > 100, "{refused} refused, {survived} survived");
}

#[test]
fn a_tick_damaged_anywhere_is_refused_or_survived() {
    let (refused, survived) = damage_each(1, 2, "/plan/");
    assert!(refused > 50 && survived > 50, "{refused} refused, {survived} survived");
}

#[test]
fn a_damaged_forecaster_in_a_checkpoint_is_named() {
    let mut checkpoint = recording().swap_remove(0);
    let service = checkpoint.pointer_mut("/controller/services/shop").expect("its only service");
    let fast = &mut service["demand"]["forecaster"]["horizons"][0]["mixture"]["fast"];
    assert!(fast["weights"].is_array(), "{service}");
    fast["weights"] = json!([0.5, 0.5]);
    let error = serde_json::from_value::<Entry>(checkpoint).expect_err("it lacks weights");
    assert!(error.to_string().contains("horizons[0].mixture.fast.weights.len is 2"), "{error}");
}
