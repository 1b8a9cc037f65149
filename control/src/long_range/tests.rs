//! What is made of what history tells.

use super::*;
use crate::awaited::MOST_PENDING;

const QUANTILES: QuantileSpec = QuantileSpec { prepare: 0.9, warm: 0.5, commit: 0.1 };

fn point(horizon_ms: u64, rps: f64) -> DemandHorizon {
    DemandHorizon { horizon_ms, lower_rps: 0.9 * rps, median_rps: rps, upper_rps: 1.1 * rps }
}

fn near(horizon_ms: u64, rps: f64) -> HorizonView {
    HorizonView { horizon_ms, lower_rps: rps, median_rps: rps, upper_rps: rps }
}

/// A listener after `seconds` of constant demand, told `told` a minute ahead all the time.
fn after(seconds: u64, rps: f64, told: f64) -> LongRange {
    let mut long = LongRange::default();
    for tick in 0..10 * seconds {
        long.observe(tick * 100, rps, 100, &[point(0, rps), point(60_000, told)], &QUANTILES);
    }
    long
}

fn lower_at_a_minute(long: &mut LongRange, short_rps: f64) -> Option<f64> {
    let mut horizons = vec![near(30_000, short_rps)];
    long.extend(&mut horizons);
    horizons.last().filter(|h| h.horizon_ms == 60_000).map(|h| h.lower_rps)
}

#[test]
fn without_a_record_it_prepares_and_does_not_commit() {
    let mut long = after(30, 100.0, 180.0);
    let mut horizons = vec![near(30_000, 100.0)];
    long.extend(&mut horizons);
    assert_eq!(horizons.iter().map(|h| h.lower_rps).collect::<Vec<_>>(), [100.0, 100.0]);
    assert!(horizons.iter().all(|h| (h.median_rps - 180.0).abs() < 1.0), "{horizons:?}");
    assert!(horizons[1].upper_rps > horizons[1].median_rps);
}

#[test]
fn what_is_told_alone_of_few_requests_leaves_room_for_one_more() {
    let few = |horizon_ms| DemandHorizon {
        horizon_ms,
        lower_rps: 0.0,
        median_rps: 0.02,
        upper_rps: 0.06,
    };
    let mut long = LongRange::default();
    long.observe(0, 0.02, 100, &[few(60_000), few(600_000)], &QUANTILES);
    long.vary(&QUANTILES, 1.0);
    let mut horizons = Vec::new();
    long.extend(&mut horizons);
    let upper =
        |horizon_ms| horizons.iter().find(|h| h.horizon_ms == horizon_ms).map(|h| h.upper_rps);
    // Of six seconds one request; of a minute what was told.
    assert_eq!((upper(60_000), upper(600_000)), (Some(1.0 / 6.0), Some(0.06)), "{horizons:?}");
}

#[test]
fn a_lie_loses_its_voice_and_a_truth_gains_it() {
    assert_eq!(lower_at_a_minute(&mut after(600, 100.0, 180.0), 100.0), None);
    let heard = lower_at_a_minute(&mut after(600, 100.0, 100.0), 100.0).expect("it was right");
    assert!((heard - 95.0).abs() < 0.5, "{heard}");
    // A point that is not reached in the forecaster's own time raises that, too.
    let mut horizons = vec![near(1_000, 10.0), near(30_000, 10.0)];
    after(600, 100.0, 100.0).extend(&mut horizons);
    assert_eq!(horizons[0].lower_rps, horizons[1].lower_rps);
    assert!((horizons[0].lower_rps - 90.0).abs() < 0.5, "{horizons:?}");
}

#[test]
fn a_record_is_kept_however_far_ticks_are_apart() {
    let mut long = LongRange::default();
    long.set(18_700, false);
    for tick in 0..100_u64 {
        let told = [point(0, 100.0), point(60_000, 100.0)];
        long.observe(tick * 18_700, 100.0, 18_700, &told, &QUANTILES);
    }
    let [score] = long.scores()[..] else { panic!("one horizon: {:?}", long.scores()) };
    assert!(score.scored > 90, "{score:?}");
}

#[test]
fn what_was_wrong_is_forgiven_once_it_is_right() {
    let mut long = after(600, 100.0, 180.0);
    let mut heard_after_s = None;
    for tick in 6_000..60_000_u64 {
        let told = [point(0, 100.0), point(60_000, 100.0)];
        long.observe(tick * 100, 100.0, 100, &told, &QUANTILES);
        if lower_at_a_minute(&mut long, 100.0).is_some() {
            heard_after_s.get_or_insert(tick / 10 - 600);
        }
    }
    let heard_after_s = heard_after_s.expect("it is heard again");
    assert!((60..3_600).contains(&heard_after_s), "{heard_after_s}");
}

#[test]
fn a_record_outlasts_a_restart_and_a_time_in_which_nothing_is_told() {
    for (told, is_heard) in [(100.0, true), (180.0, false)] {
        let mut long = after(600, 100.0, told);
        long.rest();
        for tick in 0..36_000_u64 {
            long.observe(900_000 + tick * 100, 100.0, 100, &[], &QUANTILES);
        }
        assert_eq!(lower_at_a_minute(&mut long, 100.0), None, "nothing is told");
        let points = [point(0, 100.0), point(60_000, 100.0)];
        long.observe(4_600_000, 100.0, 100, &points, &QUANTILES);
        assert_eq!(lower_at_a_minute(&mut long, 100.0).is_some(), is_heard);
        assert!(long.scores().iter().all(|score| score.scored > 12));
    }
}

#[test]
fn nonsense_is_not_heard() {
    for rps in [f64::NAN, f64::INFINITY, -1.0] {
        let mut long = after(60, 100.0, rps);
        assert_eq!(lower_at_a_minute(&mut long, 100.0), None, "{rps}");
    }
    let mut horizons = vec![near(30_000, 100.0)];
    after(60, 100.0, 1e300).extend(&mut horizons);
    assert!(horizons[1].upper_rps <= 210.0, "{horizons:?}");
}

#[test]
fn no_record_lifts_a_bound_above_what_is_credible() {
    let mut long = LongRange::default();
    for tick in 0..12_000_u64 {
        // Far too little is told, so that the upper bound is moved up.
        long.observe(tick * 100, 100.0, 100, &[point(60_000, 10.0)], &QUANTILES);
    }
    long.observe(1_200_000, 100.0, 100, &[point(60_000, 180.0)], &QUANTILES);
    let upper_rps = long.told[0].upper_rps;
    assert!((upper_rps - 210.0).abs() < 0.1, "{upper_rps}, not above twice the peak and ten");
}

#[test]
fn a_day_above_the_expected_lifts_the_next_minutes_most() {
    let mut long = LongRange::default();
    let told = [point(0, 100.0), point(60_000, 100.0), point(3_600_000, 100.0)];
    for tick in 0..6_000_u64 {
        long.observe(tick * 100, 150.0, 100, &told, &QUANTILES);
    }
    let [soon, later] = [long.told[0].median_rps, long.told[1].median_rps];
    assert!((140.0..150.0).contains(&soon), "{soon}");
    assert!((105.0..115.0).contains(&later), "{later}");
}

#[test]
fn memory_is_bounded_whatever_is_told() {
    let mut long = LongRange::default();
    for tick in 0..20_000_u64 {
        let told: Vec<_> = (0..100).map(|n| point((tick * 7 + n * n) % 90_000, 50.0)).collect();
        long.observe(tick * 100, 50.0, 100, &told, &QUANTILES);
    }
    let pending: usize = long.tracks.iter().map(|t| t.pending.len()).sum();
    for horizon_ms in 1..100 {
        long.extend(&mut vec![near(horizon_ms, 50.0)]);
    }
    assert!(long.merges.len() <= MOST_POINTS, "{}", long.merges.len());
    assert!(long.tracks.len() <= MOST_POINTS, "{}", long.tracks.len());
    assert!(pending as u64 <= MOST_POINTS as u64 * (MOST_PENDING + 2), "{pending}");
}
