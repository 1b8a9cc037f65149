//! Ramps, steps, spikes, seasons, and silence.

use foreshadow_predictor::{Forecaster, SeriesSpec};

use crate::common::{Rng, Row, coverage, follow, mean, spec};

const HORIZONS_MS: [u64; 3] = [1_000, 2_000, 10_000];
const SEEDS: u64 = 8;

/// `from` for a minute, then linear to `to` within `ramp_s` seconds, then held for a minute.
fn ramp(from: f64, to: f64, ramp_s: usize) -> Vec<f64> {
    let share = |step: usize| ((step as f64 - 600.0) / (ramp_s * 10) as f64).clamp(0.0, 1.0);
    (0..1_200 + ramp_s * 10).map(|step| from + (to - from) * share(step)).collect()
}

/// Rows of each horizon over several seeds, issued in `steps`.
fn all_rows(rates: &[f64], steps: std::ops::Range<usize>) -> [Vec<Row>; 3] {
    let mut all = [vec![], vec![], vec![]];
    for seed in 0..SEEDS {
        let rows = follow(&mut Forecaster::new(spec(&HORIZONS_MS)), rates, seed);
        for (all, rows) in all.iter_mut().zip(rows) {
            all.extend(rows.into_iter().filter(|row| steps.contains(&row.at)));
        }
    }
    all
}

/// The same, of one horizon.
fn rows(horizon_ms: u64, rates: &[f64], steps: std::ops::Range<usize>) -> Vec<Row> {
    let [near, mid, far] = all_rows(rates, steps);
    match horizon_ms {
        1_000 => near,
        2_000 => mid,
        _ => far,
    }
}

fn relative_errors(rows: &[Row]) -> (f64, f64) {
    let ours = mean(rows.iter(), |row| (row.median() - row.rate).abs() / row.rate);
    let naive = mean(rows.iter(), |row| (row.level - row.rate).abs() / row.rate);
    (ours, naive)
}

#[test]
fn a_ramp_is_seen_coming() {
    // From three seconds into the ramp to where the target reaches its end.
    let rows = rows(2_000, &ramp(200.0, 1_000.0, 20), 630..780);
    let (ours, naive) = relative_errors(&rows);
    assert!(ours < 0.5 * naive, "median {ours:.3}, last value {naive:.3}");
    assert!(ours < 0.12, "median {ours:.3}");
}

#[test]
fn the_lower_quantile_climbs_with_the_ramp() {
    let rows = rows(2_000, &ramp(200.0, 1_000.0, 20), 650..780);
    // Two standard deviations of the level, which is a mean over up to two seconds.
    let holds = |row: &Row| row.quantiles[0] >= row.level - 2.0 * (row.level / 2.0).sqrt();
    let share = mean(rows.iter(), |row| f64::from(u8::from(holds(row))));
    assert!(share > 0.9, "in {share:.3} of the steps");
    let lead = mean(rows.iter(), |row| row.quantiles[0] - row.level);
    assert!(lead > 0.0, "0.1 quantile leads the level by {lead:.1} rps on average");
}

#[test]
fn ten_seconds_ahead_a_ramp_still_beats_the_last_value() {
    let (ours, naive) = relative_errors(&rows(10_000, &ramp(200.0, 2_000.0, 60), 700..1_100));
    assert!(ours < 0.5 * naive, "median {ours:.3}, last value {naive:.3}");
}

#[test]
fn a_ramp_out_of_idleness_is_seen_coming() {
    let rows = rows(2_000, &ramp(0.0, 600.0, 20), 630..780);
    let (ours, naive) = relative_errors(&rows);
    assert!(ours < 0.5 * naive, "median {ours:.3}, last value {naive:.3}");
}

#[test]
fn a_steep_ramp_is_told_from_a_jump() {
    let (ours, naive) = relative_errors(&rows(1_000, &ramp(200.0, 1_000.0, 5), 620..650));
    assert!(ours < 0.75 * naive, "median {ours:.3}, last value {naive:.3}");
}

#[test]
fn a_perfectly_even_load_is_followed_like_a_noisy_one() {
    let mut forecaster = Forecaster::new(spec(&[2_000]));
    for (step, rate) in ramp(100.0, 600.0, 20).iter().enumerate() {
        forecaster.observe(*rate);
        if (650..780).contains(&step) {
            let (now, ahead) = (*rate, forecaster.forecast().quantile(2_000, 0.5));
            // Twenty steps of 2.5 rps ahead.
            assert!((ahead - (now + 50.0)).abs() < 25.0, "{ahead:.0} ahead of {now:.0}, {step}");
        }
    }
}

#[test]
fn the_end_of_a_ramp_is_noticed() {
    let rows = rows(2_000, &ramp(200.0, 1_000.0, 20), 860..1_300);
    let (ours, _) = relative_errors(&rows);
    assert!(ours < 0.06, "{ours:.3} off on the plateau");
}

#[test]
fn a_step_is_followed_within_four_steps() {
    let mut rng = Rng(1);
    let mut forecaster = Forecaster::new(spec(&[500, 2_000]));
    (0..600).for_each(|_| forecaster.observe(rng.observe(200.0)));
    (0..4).for_each(|_| forecaster.observe(rng.observe(800.0)));
    assert!((forecaster.level() - 800.0).abs() < 200.0, "{}", forecaster.level());
    let ahead = forecaster.forecast().quantile(500, 0.9);
    assert!(ahead > 600.0, "{ahead}");
}

#[test]
fn repeated_steps_are_no_worse_than_last_value_by_much() {
    let rates: Vec<f64> =
        (0..5_400).map(|step| if step / 450 % 2 == 0 { 200.0 } else { 600.0 }).collect();
    let (ours, naive) = relative_errors(&rows(2_000, &rates, 900..5_400));
    assert!(ours < 1.2 * naive, "median {ours:.3}, last value {naive:.3}");
}

#[test]
fn a_spike_leaves_no_trace_after_a_while() {
    let mut rng = Rng(2);
    let mut forecaster = Forecaster::new(spec(&[1_000, 10_000]));
    let spike = |step: usize| if (600..615).contains(&step) { 3_000.0 } else { 200.0 };
    for step in 0..1_000 {
        forecaster.observe(rng.observe(spike(step)));
        if step == 630 {
            assert!((forecaster.level() - 200.0).abs() < 60.0, "{}", forecaster.level());
        }
    }
    for horizon in &forecaster.forecast().horizons {
        assert!((horizon.mean - 200.0).abs() < 60.0, "{horizon:?}");
        assert!(horizon.quantiles[4] < 600.0, "bands shrink back: {horizon:?}");
    }
}

#[test]
fn bands_hold_what_they_say_on_stationary_demand() {
    for rate in [20.0, 300.0] {
        let all = all_rows(&[rate; 3_000], 600..3_000);
        for (horizon_ms, rows) in HORIZONS_MS.iter().zip(all) {
            let covered = coverage(rows.iter());
            assert!((covered - 0.8).abs() < 0.06, "{covered:.3} at {rate} rps, {horizon_ms} ms");
        }
    }
}

#[test]
fn bands_hold_what_they_say_on_ramps() {
    let triangle = |step: usize| (step % 1_200).abs_diff(600) as f64;
    let rates: Vec<f64> = (0..6_000).map(|step| 800.0 - triangle(step)).collect();
    for (horizon_ms, rows) in HORIZONS_MS.iter().zip(all_rows(&rates, 1_200..6_000)) {
        let covered = coverage(rows.iter());
        assert!((covered - 0.8).abs() < 0.06, "{covered:.3} at {horizon_ms} ms");
    }
}

#[test]
fn a_known_season_beats_the_last_value() {
    // A day squeezed into two minutes, with a morning rush steeper than the evening's decline.
    let shape = |step: usize| {
        let phase = (step % 1_200) as f64 / 1_200.0;
        let rush = if phase < 0.25 { phase / 0.25 } else { 1.0 - (phase - 0.25) / 0.75 };
        150.0 + 450.0 * rush * rush
    };
    let rates: Vec<f64> = (0..9_600).map(shape).collect();
    let seasonal = SeriesSpec { seasons_ms: vec![120_000], ..spec(&[10_000, 30_000]) };
    let mut errors = [[0.0; 2]; 2];
    for (which, spec) in [seasonal, spec(&[10_000, 30_000])].into_iter().enumerate() {
        let mut forecaster = Forecaster::new(spec);
        for (index, rows) in follow(&mut forecaster, &rates, 3).into_iter().enumerate() {
            let late: Vec<Row> = rows.into_iter().filter(|row| row.at > 4_800).collect();
            let (ours, naive) = relative_errors(&late);
            errors[which][index] = ours;
            assert!(which == 1 || ours < 0.5 * naive, "{ours:.3} against {naive:.3}");
        }
    }
    assert!(errors[0][1] < errors[1][1], "knowing the season helps: {errors:?}");
}

#[test]
fn least_squares_learns_a_swing_nobody_told_of() {
    // A minute up, a minute down: half a swing ahead, high is low and low is high.
    let triangle = |step: usize| (step % 1_200).abs_diff(600) as f64;
    let rates: Vec<f64> = (0..9_000).map(|step| 200.0 + triangle(step)).collect();
    let mut forecaster = Forecaster::new(spec(&[60_000]));
    let rows = follow(&mut forecaster, &rates, 6).swap_remove(0);
    let late: Vec<Row> = rows.into_iter().filter(|row| row.at > 4_500).collect();
    let (ours, naive) = relative_errors(&late);
    assert!(ours < 0.3 * naive, "median {ours:.3}, last value {naive:.3}");
}

#[test]
fn a_good_track_record_is_usable_and_says_why() {
    let mut rng = Rng(4);
    let mut forecaster = Forecaster::new(spec(&[1_000, 5_000]));
    assert!(!forecaster.usable(), "nothing is known yet");
    (0..1_500).for_each(|_| forecaster.observe(rng.observe(400.0)));
    let score = forecaster.score();
    assert!(score.usable() && forecaster.usable(), "{score:?}");
    for horizon in &score.horizons {
        assert!(horizon.mae < horizon.naive_mae, "{horizon:?}");
        assert!(horizon.pinball.iter().all(|loss| *loss > 0.0), "{horizon:?}");
        assert!((horizon.coverage[4] - 0.9).abs() < 0.06, "{horizon:?}");
    }
    assert!((forecaster.weights(0).iter().sum::<f64>() - 1.0).abs() < 1e-6);
}

#[test]
fn slow_steps_are_smoothed_too() {
    let slow = SeriesSpec { step_ms: 60_000, horizons_ms: vec![60_000, 300_000], ..spec(&[]) };
    let mut forecaster = Forecaster::new(slow);
    (0..200_u32).for_each(|step| forecaster.observe(if step % 2 == 0 { 99.0 } else { 101.0 }));
    assert!((forecaster.level() - 100.0).abs() < 0.5, "{}", forecaster.level());
    (0..3).for_each(|_| forecaster.observe(500.0));
    assert_eq!(forecaster.level(), 500.0);
}

#[test]
fn silence_and_low_demand_stay_low() {
    let mut forecaster = Forecaster::new(spec(&[1_000, 60_000]));
    (0..3_000).for_each(|_| forecaster.observe(0.0));
    assert_eq!(forecaster.level(), 0.0);
    for horizon in &forecaster.forecast().horizons {
        assert!(horizon.mean < 0.1 && horizon.quantiles[4] < 1.0, "{horizon:?}");
    }
}

#[test]
fn a_gap_holds_the_level_and_is_not_learned_from() {
    let mut rng = Rng(5);
    let mut forecaster = Forecaster::new(spec(&[1_000, 10_000]));
    (0..900).for_each(|_| forecaster.observe(rng.observe(300.0)));
    let (level, scored) = (forecaster.level(), forecaster.score().horizons[0].scored);
    forecaster.observe_gap(50);
    (0..20).for_each(|_| forecaster.observe(f64::NAN));
    assert_eq!(forecaster.level(), level);
    assert!(forecaster.score().horizons[0].scored < scored + 15);
    forecaster.observe_gap(1_000_000);
    (0..20).for_each(|_| forecaster.observe(rng.observe(900.0)));
    assert!((forecaster.level() - 900.0).abs() < 100.0, "{}", forecaster.level());
}
