//! A state whose text was damaged is refused by the name of the field, or goes on without a panic.

use foreshadow_predictor::{Forecaster, SeriesSpec};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{Rng, spec};

fn sound() -> Value {
    let spec = SeriesSpec { seasons_ms: vec![8_000], ..spec(&[100, 2_000]) };
    let mut forecaster = Forecaster::new(spec);
    let mut rng = Rng(5);
    (0..700).for_each(|step| forecaster.observe(rng.observe(100.0 + f64::from(step % 80))));
    serde_json::to_value(&forecaster).expect("plain data")
}

/// Every place in a value that can be damaged, as a JSON pointer.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| places(inner, &format!("{path}/{name}"), found));
        }
        Value::Array(items) => {
            // Rows and profiles are long and alike: the first ones stand for all.
            let few = items.iter().enumerate().take(2);
            few.for_each(|(at, inner)| places(inner, &format!("{path}/{at}"), found));
        }
        _ => {}
    }
}

fn damages(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(_) => [
            json!(null),
            json!(0),
            json!(1),
            json!(-1),
            json!(u64::MAX),
            json!(1e300),
            json!(-1e300),
            json!(1e-300),
            json!(0.5),
            json!(4_000_000_000_u64),
        ]
        .to_vec(),
        Value::Array(items) => {
            let shorter = items.iter().skip(1).cloned().collect::<Vec<_>>();
            let longer = items.iter().chain(items.first()).cloned().collect::<Vec<_>>();
            vec![json!([]), Value::Array(shorter), Value::Array(longer), json!(null)]
        }
        Value::Bool(flag) => vec![json!(!flag)],
        _ => vec![json!(null), json!("")],
    }
}

/// Restores, and if that is allowed goes on for longer than everything that waits takes to come.
fn go_on(text: Value) -> Result<(), String> {
    let mut forecaster: Forecaster =
        serde_json::from_value(text).map_err(|error| error.to_string())?;
    for step in 0..60 {
        forecaster.observe(f64::from(step % 40));
        let forecast = forecaster.forecast();
        assert!(forecast.horizons.iter().all(|horizon| horizon.mean.is_finite()), "{forecast:?}");
        assert!(forecaster.expert_means(0).iter().all(|mean| mean.is_finite()));
    }
    forecaster.observe_gap(7);
    forecaster.observe_gap(1_000_000);
    forecaster.observe(3.0);
    let forecast = forecaster.forecast();
    assert!(forecast.horizons.iter().all(|horizon| horizon.mean.is_finite()), "{forecast:?}");
    Ok(())
}

#[test]
fn every_place_damaged_in_every_way_is_refused_or_survived() {
    let sound = sound();
    go_on(sound.clone()).expect("it is sound");
    let mut all = Vec::new();
    places(&sound, "", &mut all);
    let (mut refused, mut survived) = (0, 0);
    for place in &all {
        for damage in damages(sound.pointer(place).expect("it was found there")) {
            let mut text = sound.clone();
            *text.pointer_mut(place).expect("it was found there") = damage;
            match go_on(text) {
                Ok(()) => survived += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 300 && survived > 100, "{refused} refused, {survived} survived");
}

#[test]
fn a_refusal_names_the_field() {
    for (place, damage, names) in [
        ("/horizons/1/mixture/fast/weights", json!([1.0]), "mixture.fast.weights.len"),
        ("/experts/seasonals/0/cycles", json!([]), "experts.seasonals[0].cycles.len"),
        ("/level/noise/dispersion", json!(-1.0), "level.noise.dispersion"),
        ("/window/head", json!(5_000), "window.head"),
    ] {
        let mut text = sound();
        *text.pointer_mut(place).expect("a field of the state") = damage;
        let error = go_on(text).expect_err(place);
        assert!(error.contains(names), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_damages_at_once_are_refused_or_survived(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 2..6),
    ) {
        let mut text = sound();
        for (place, damage) in picks {
            let mut all = Vec::new();
            places(&text, "", &mut all);
            let place = place.get(&all);
            let value = text.pointer_mut(place).expect("it was found there");
            let damages = damages(value);
            *value = damage.get(&damages).clone();
        }
        // Either is right; a panic is not.
        let _verdict = go_on(text);
    }
}
