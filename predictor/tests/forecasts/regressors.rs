//! What regressors are worth, and what they cost when they lie.

use foreshadow_predictor::{Forecaster, SeriesSpec};

use crate::common::{Rng, spec};

const STEPS: usize = 8_000;

/// 200 rps, and 400 more during campaigns that begin by chance and last ten seconds.
fn campaigns(rng: &mut Rng) -> Vec<bool> {
    let mut running = vec![false; STEPS + 200];
    let mut at = 300;
    while at + 100 < running.len() {
        running[at..at + 100].fill(true);
        at += 200 + (rng.observe(50.0) * 2.0) as usize;
    }
    running
}

/// Mean error two seconds ahead over the second half, when told `regressor` of the step asked for.
fn error(regressors: usize, regressor: impl Fn(usize, &[bool]) -> f64) -> f64 {
    let mut rng = Rng(11);
    let running = campaigns(&mut rng);
    let rate = |step: usize| if running[step] { 600.0 } else { 200.0 };
    let seen: Vec<f64> = (0..running.len()).map(|step| rng.observe(rate(step))).collect();
    let spec = SeriesSpec { horizons_ms: vec![2_000], ..spec(&[2_000]) };
    let mut forecaster = Forecaster::with_regressors(spec, regressors);
    let (mut sum, mut count) = (0.0, 0.0);
    for step in 0..STEPS {
        let told = [regressor(step, &running), regressor(step + 20, &running)];
        forecaster.observe_with(seen[step], &told);
        if step > STEPS / 2 {
            let target = forecaster.target_steps(0).expect("there is one horizon");
            let steps = step + *target.start() as usize..=step + *target.end() as usize;
            let truth = seen[steps.clone()].iter().sum::<f64>() / steps.count() as f64;
            sum += (forecaster.forecast().horizons[0].mean - truth).abs();
            count += 1.0;
        }
    }
    sum / count
}

#[test]
fn a_calendar_known_ahead_foresees_what_nothing_else_can() {
    let without = error(0, |_, _| 0.0);
    let with = error(1, |step, running| f64::from(u8::from(running[step])));
    assert!(with < 0.6 * without, "{with:.1} with, {without:.1} without");
}

/// What it is, and what it says at a step.
type Lie = (&'static str, fn(usize) -> f64);

#[test]
fn a_regressor_that_lies_costs_next_to_nothing() {
    let without = error(0, |_, _| 0.0);
    let lies: [Lie; 5] = [
        ("noise", |step| ((step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64),
        ("a constant", |_| 7.0),
        ("no numbers", |_| f64::NAN),
        ("stale", |step| (step.min(900) % 100) as f64),
        ("huge", |step| if step % 2 == 0 { 1e300 } else { -1e11 }),
    ];
    for (what, lie) in lies {
        let with = error(1, |step, _| lie(step));
        assert!(with < 1.05 * without, "{what}: {with:.1} with, {without:.1} without");
    }
}

#[test]
fn one_that_told_the_truth_and_then_lies_loses_its_weight() {
    // True for the first half; then it announces campaigns where there are none, and none where
    // there are.
    let without = error(0, |_, _| 0.0);
    let with = error(1, |step, running| f64::from(u8::from(running[step] != (step > STEPS / 2))));
    assert!(with < 1.15 * without, "{with:.1} with, {without:.1} without");
}
