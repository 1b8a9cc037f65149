//! Demand that comes out of idleness, and idleness itself.

use foreshadow_predictor::{Forecaster, HorizonForecast, MIN_SCORED, SeriesSpec};

use crate::common::Rng;

const SEEDS: u64 = 5;
/// Quiet steps before the five seconds that each history begins with.
const QUIET_STEPS: [usize; 3] = [0, 100, 600];

/// The rate at a step, linear between the points before and after it.
type History = [(usize, f64)];

/// A jump out of idleness, a calm, a ramp.
const JUMP: [(usize, f64); 6] =
    [(0, 0.0), (50, 0.0), (50, 200.0), (170, 200.0), (370, 1_000.0), (500, 1_000.0)];
/// A ramp out of idleness, a fall, a calm, a ramp.
const RAMP: [(usize, f64); 7] =
    [(0, 0.0), (20, 0.0), (100, 400.0), (100, 200.0), (200, 200.0), (400, 1_000.0), (500, 1_000.0)];

fn rate(history: &History, step: usize) -> f64 {
    let next = history.partition_point(|(at, _)| *at <= step);
    let ((from, low), (to, high)) = match history.get(next) {
        Some(after) => (history[next - 1], *after),
        None => return history[history.len() - 1].1,
    };
    low + (high - low) * (step - from) as f64 / (to - from) as f64
}

fn spec() -> SeriesSpec {
    SeriesSpec {
        step_ms: 100,
        horizons_ms: vec![300, 1_000, 3_000, 10_000],
        levels: vec![0.1, 0.5, 0.95],
        seasons_ms: vec![],
    }
}

/// Calls `look` with the step, the true rates now and at the horizon, the level and the forecast.
fn follow(history: &History, mut look: impl FnMut(usize, f64, f64, f64, &HorizonForecast)) {
    for (seed, quiet) in (1..=SEEDS).flat_map(|seed| QUIET_STEPS.map(|quiet| (seed, quiet))) {
        let mut rng = Rng(seed);
        let mut forecaster = Forecaster::new(spec());
        (0..quiet).for_each(|_| forecaster.observe(0.0));
        for step in 0..history[history.len() - 1].0 {
            forecaster.observe(rng.observe(rate(history, step)));
            for ahead in &forecaster.forecast().horizons {
                let truth = rate(history, step + ahead.horizon_ms as usize / 100);
                look(step, rate(history, step), truth, forecaster.level(), ahead);
            }
        }
    }
}

#[test]
fn bands_are_of_use_five_seconds_after_a_jump_out_of_idleness() {
    let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
    follow(&JUMP, |step, rate, _, _, ahead| {
        if (100..170).contains(&step) {
            lowest = lowest.min(ahead.quantiles[0] / rate);
            highest = highest.max(ahead.quantiles[2] / rate);
        }
    });
    assert!(lowest >= 0.45, "0.1 quantile at {lowest:.2} of the rate");
    assert!(highest <= 2.0, "0.95 quantile at {highest:.2} of the rate");
}

#[test]
fn bands_are_of_use_in_a_ramp_that_follows() {
    for (history, begin, end) in [(&JUMP[..], 170, 370), (&RAMP[..], 200, 400)] {
        let (mut lows, mut highest) = (vec![], 0.0_f64);
        follow(history, |step, _, truth, level, ahead| {
            if (begin + 40..end).contains(&step) && ahead.horizon_ms == 3_000 {
                lows.push(ahead.quantiles[0] / level);
                highest = highest.max(ahead.quantiles[2] / truth);
            }
        });
        assert!(highest <= 2.0, "0.95 quantile at {highest:.2} of the rate");
        lows.sort_unstable_by(f64::total_cmp);
        let (lowest, low) = (lows[0], lows[lows.len() / 20]);
        assert!(lowest >= 0.4 && low >= 0.75, "0.1 quantile at {lowest:.2}, {low:.2} of the level");
    }
}

#[test]
fn a_ramp_out_of_idleness_leaves_no_band_far_beyond_what_was_seen() {
    let mut highest = 0.0_f64;
    follow(&RAMP, |step, _, _, _, ahead| {
        if (150..200).contains(&step) {
            highest = highest.max(ahead.quantiles[2]);
        }
    });
    // Twice the 400 rps at the top of the ramp would be a lot; most of it was over 2,000 once.
    assert!(highest < 650.0, "0.95 quantile at {highest:.0}");
}

/// Whether the track record ever spoke against a series of `rate`, and what came of it.
fn doubted(rate: impl Fn(usize) -> f64, seed: u64) -> Option<String> {
    let mut rng = Rng(seed);
    let mut forecaster = Forecaster::new(spec());
    for step in 0..3_000 {
        forecaster.observe(rng.observe(rate(step)));
        let score = forecaster.score();
        let mut scored = score.horizons.iter().filter(|horizon| horizon.scored >= MIN_SCORED);
        let high = |coverage: &[f64]| coverage[0] > score.levels[0] + 0.4;
        if let Some(bad) = scored.find(|horizon| high(&horizon.coverage) || horizon.misleading()) {
            return Some(format!("at step {step}: {bad:?}"));
        }
    }
    None
}

#[test]
fn idle_and_slow_series_keep_a_good_record() {
    for rps in [0.0, 0.02, 0.1, 1.0, 3.0] {
        for seed in 1..=SEEDS {
            let doubt = doubted(|_| rps, seed);
            assert!(doubt.is_none(), "{rps} rps, {}", doubt.unwrap_or_default());
            let doubt = doubted(|step| if step % 600 == 599 { 600.0 * rps } else { 0.0 }, seed);
            assert!(doubt.is_none(), "{rps} rps in bursts, {}", doubt.unwrap_or_default());
        }
    }
}

#[test]
fn silence_wears_no_band_away() {
    let mut rng = Rng(1);
    let mut forecaster = Forecaster::new(spec());
    (0..50).for_each(|_| forecaster.observe(0.0));
    for ahead in &forecaster.forecast().horizons {
        let [low, _, high] = ahead.quantiles[..] else { panic!("{ahead:?}") };
        assert!(low == 0.0 && (0.5..4.0).contains(&high), "of five seconds: {ahead:?}");
    }
    (0..36_000).for_each(|_| forecaster.observe(0.0));
    for ahead in &forecaster.forecast().horizons {
        assert_eq!(ahead.quantiles, [0.0; 3], "of an hour: {ahead:?}");
    }
    (0..10).for_each(|_| forecaster.observe(rng.observe(200.0)));
    for ahead in &forecaster.forecast().horizons {
        assert!(
            ahead.quantiles[2] > ahead.mean + 15.0,
            "one sigma of the coming second: {ahead:?}"
        );
    }
}

/// Levels at which instances are made where capacity is given.
fn strict() -> SeriesSpec {
    SeriesSpec {
        levels: vec![0.5, 0.985, 0.99],
        horizons_ms: vec![1_000, 10_000, 600_000],
        ..spec()
    }
}

#[test]
fn after_ten_minutes_without_a_request_none_is_prepared_for() {
    for steps_per_s in [10, 1] {
        let step_ms = 1_000 / steps_per_s;
        for busy_rps in [0.0, 3.0, 40.0] {
            let mut rng = Rng(1);
            let mut forecaster = Forecaster::new(SeriesSpec { step_ms, ..strict() });
            (0..300 * steps_per_s).for_each(|_| forecaster.observe(rng.observe(busy_rps)));
            for minute in 1..=20 {
                (0..60 * steps_per_s).for_each(|_| forecaster.observe(0.0));
                let [near, mid, far] = &forecaster.forecast().horizons[..] else {
                    panic!("three horizons")
                };
                let most = |ahead: &HorizonForecast| ahead.quantiles[2];
                if minute >= 10 {
                    assert_eq!(most(near), 0.0, "{busy_rps} rps, minute {minute}");
                }
                if minute >= 12 {
                    assert!(most(mid) < 0.5 && most(far) < 0.5, "{busy_rps}: {mid:?} {far:?}");
                }
            }
        }
    }
}

#[test]
fn however_long_the_silence_the_first_second_of_a_rush_is_believed() {
    for silent_s in [10, 600, 36_000] {
        let mut rng = Rng(1);
        let mut forecaster = Forecaster::new(strict());
        (0..silent_s * 10).for_each(|_| forecaster.observe(0.0));
        (0..10).for_each(|_| forecaster.observe(rng.observe(200.0)));
        for ahead in &forecaster.forecast().horizons {
            assert!(ahead.quantiles[2] > 180.0, "after {silent_s} s: {ahead:?}");
        }
    }
}

#[test]
fn seldom_requests_are_within_their_bands_and_bands_not_far_beyond_them() {
    for (rps, most) in [(0.1, 2.0), (0.5, 3.5), (1.0, 4.5), (2.0, 7.0)] {
        let mut rng = Rng(1);
        let mut forecaster = Forecaster::new(strict());
        let seen: Vec<f64> = (0..36_000).map(|_| rng.observe(rps)).collect();
        let (mut above, mut sum, mut all) = (0.0, 0.0, 0.0);
        for (step, value) in seen.iter().enumerate() {
            forecaster.observe(*value);
            // A second ahead means the second in the middle of which that is.
            let Some(target) = seen.get(step + 6..step + 16) else { continue };
            if step < 6_000 {
                continue;
            }
            let upper = forecaster.forecast().horizons[0].quantiles[2];
            let came = target.iter().sum::<f64>() / 10.0;
            above += f64::from(u8::from(came > upper + 1e-9));
            sum += upper;
            all += 1.0;
        }
        assert!(above / all < 0.02, "{rps} rps: {} above", above / all);
        assert!(sum / all < most, "{rps} rps: {}", sum / all);
    }
}
