//! Gaps, outages, resets, a clock that is set, and a new regime: nothing poisons what was learned.

use foreshadow_predictor::{Forecaster, SeriesSpec};

use crate::common::{Rng, spec};

/// A day squeezed into two minutes.
const DAY: usize = 1_200;
const AHEAD_MS: u64 = 15_000;

/// A morning rush steeper than the evening's decline.
fn rate(step: usize) -> f64 {
    let phase = (step % DAY) as f64 / DAY as f64;
    let rush = if phase < 0.25 { phase / 0.25 } else { 1.0 - (phase - 0.25) / 0.75 };
    150.0 + 450.0 * rush * rush
}

fn forecaster() -> Forecaster {
    let seasons_ms = vec![DAY as u64 * 100];
    Forecaster::new(SeriesSpec { seasons_ms, ..spec(&[2_000, AHEAD_MS]) })
}

/// Feeds `rates` and returns the mean absolute errors of the forecast and of "same as now" against
/// the true rates `AHEAD_MS` ahead.
fn errors(forecaster: &mut Forecaster, rng: &mut Rng, rates: &[f64]) -> (f64, f64) {
    let ahead = (AHEAD_MS / 100) as usize;
    let (mut ours, mut naive) = (0.0, 0.0);
    for (step, rate) in rates.iter().enumerate() {
        forecaster.observe(rng.observe(*rate));
        if let Some(truth) = rates.get(step + ahead) {
            ours += (forecaster.forecast().horizons[1].mean - truth).abs();
            naive += (forecaster.level() - truth).abs();
        }
    }
    let count = rates.len().saturating_sub(ahead).max(1) as f64;
    (ours / count, naive / count)
}

fn days(from: usize, to: usize) -> Vec<f64> {
    (from * DAY..to * DAY).map(rate).collect()
}

/// One that has seen four days, and the error of the fifth had nothing happened.
fn learned() -> (Forecaster, Rng, f64) {
    let (mut forecaster, mut rng) = (forecaster(), Rng(21));
    errors(&mut forecaster, &mut rng, &days(0, 4));
    let usual = errors(&mut forecaster.clone(), &mut Rng(22), &days(0, 1)).0;
    (forecaster, rng, usual)
}

#[test]
fn an_outage_is_not_taken_for_how_the_day_goes() {
    let (mut forecaster, mut rng, usual) = learned();
    let mut day = days(0, 1);
    day[300..600].fill(0.0);
    errors(&mut forecaster, &mut rng, &day);
    let (ours, naive) = errors(&mut forecaster, &mut rng, &days(0, 1));
    assert!(ours < 3.0 * usual && ours < 0.25 * naive, "{ours:.1}, usually {usual:.1}, {naive:.1}");
}

#[test]
fn a_gap_keeps_the_time_of_day() {
    for gap in [DAY / 2, 5 * DAY + DAY / 2] {
        let (mut forecaster, mut rng, usual) = learned();
        forecaster.observe_gap(gap as u64);
        let after: Vec<f64> = (DAY / 2..2 * DAY).map(rate).collect();
        let (ours, naive) = errors(&mut forecaster, &mut rng, &after);
        assert!(ours < 2.0 * usual && ours < 0.2 * naive, "{ours:.1}, {usual:.1}, {naive:.1}");
    }
}

#[test]
fn values_that_are_none_are_like_a_gap() {
    let (mut forecaster, mut rng, usual) = learned();
    let resets = [-1.0, f64::NAN, -1e18, f64::NEG_INFINITY, f64::INFINITY, 1e300];
    (0..DAY / 2).for_each(|step| forecaster.observe(resets[step % resets.len()]));
    let after: Vec<f64> = (DAY / 2..2 * DAY).map(rate).collect();
    let (ours, naive) = errors(&mut forecaster, &mut rng, &after);
    assert!(ours < 2.0 * usual && ours < 0.2 * naive, "{ours:.1}, {usual:.1}, {naive:.1}");
}

#[test]
fn summer_time_costs_nothing_when_told_and_little_when_not() {
    let shift = DAY / 12;
    let moved = |from: usize, to: usize| -> Vec<f64> {
        (from * DAY..to * DAY).map(|step| rate(step + shift)).collect()
    };
    let (mut told, mut rng, usual) = learned();
    told.shift_clock(shift as i64 * 100);
    let (ours, _) = errors(&mut told, &mut rng, &moved(0, 1));
    assert!(ours < 2.0 * usual, "{ours:.1} when told, usually {usual:.1}");
    let (mut untold, mut rng, _) = learned();
    errors(&mut untold, &mut rng, &moved(0, 4));
    let (ours, naive) = errors(&mut untold, &mut rng, &moved(0, 1));
    assert!(ours < 0.7 * naive, "{ours:.1} against {naive:.1}");
}

#[test]
fn a_new_regime_is_learned() {
    let (mut forecaster, mut rng, usual) = learned();
    let tripled = |from, to| days(from, to).into_iter().map(|rate| 3.0 * rate).collect::<Vec<_>>();
    errors(&mut forecaster, &mut rng, &tripled(0, 2));
    let (ours, naive) = errors(&mut forecaster, &mut rng, &tripled(0, 1));
    assert!(ours < 0.4 * naive, "{ours:.1} against {naive:.1}, before {usual:.1}");
}

#[test]
fn duplicated_and_missing_steps_do_not_break_a_season() {
    let (mut forecaster, mut rng, usual) = learned();
    // One step in fifty comes twice, one in fifty not at all.
    for (step, rate) in days(0, 1).into_iter().enumerate() {
        match step % 50 {
            0 => forecaster.observe_gap(1),
            1 => (0..2).for_each(|_| forecaster.observe(rng.observe(rate))),
            _ => forecaster.observe(rng.observe(rate)),
        }
    }
    let (ours, naive) = errors(&mut forecaster, &mut rng, &days(0, 1));
    assert!(ours < 2.0 * usual && ours < 0.2 * naive, "{ours:.1}, {usual:.1}, {naive:.1}");
}

#[test]
fn a_period_nobody_told_of_is_found() {
    // A job that runs every 43 s for 6 s.
    let surges = |step: usize| if step % 430 < 60 { 900.0 } else { 150.0 };
    let rates: Vec<f64> = (0..20_000).map(surges).collect();
    let mut forecaster = Forecaster::new(spec(&[2_000, AHEAD_MS]));
    let mut rng = Rng(31);
    errors(&mut forecaster, &mut rng, &rates);
    let names = forecaster.expert_names();
    assert!(names.iter().any(|name| name.starts_with("season of 4")), "{names:?}");
    let more: Vec<f64> = (20_000..25_000).map(surges).collect();
    let (ours, naive) = errors(&mut forecaster, &mut rng, &more);
    assert!(ours < 0.5 * naive, "{ours:.1} against {naive:.1}");
}
