//! Many series fed in the same tick take turns at their far horizons.

use foreshadow_predictor::Forecaster;

use crate::common::{Rng, spec};

/// Visited at every step, at every second, eighth and thirty-second one.
const HORIZONS_MS: [u64; 4] = [1_000, 5_000, 30_000, 120_000];
const ROUND: usize = 32;

/// How many horizons' forecasts change at each step of a round.
fn changed_per_step(mut series: Vec<Forecaster>) -> Vec<usize> {
    let mut rngs: Vec<Rng> = (0..series.len()).map(|nth| Rng(nth as u64 + 1)).collect();
    let mut step = || {
        let mut changed = 0;
        for (forecaster, rng) in series.iter_mut().zip(&mut rngs) {
            let before = forecaster.forecast().clone();
            forecaster.observe(rng.observe(1_000.0));
            let after = &forecaster.forecast().horizons;
            changed += before.horizons.iter().zip(after).filter(|(old, new)| old != new).count();
        }
        changed
    };
    (0..20 * ROUND).for_each(|_| {
        step();
    });
    (0..ROUND).map(|_| step()).collect()
}

#[test]
fn series_in_turn_make_ticks_alike() {
    let of_turn = |turn| Forecaster::new(spec(&HORIZONS_MS)).in_turn(turn);
    let apart = changed_per_step((0..ROUND as u64).map(of_turn).collect());
    // Each step brings all of the first horizon, half of the second, four and one of the others; a
    // level that happens to change, all of its series'.
    let even = ROUND + ROUND / 2 + 4 + 1;
    assert!(apart.iter().all(|changed| (even..=even + 6).contains(changed)), "{apart:?}");
    let together = changed_per_step((0..ROUND as u64).map(|_| of_turn(0)).collect());
    assert!(together.iter().any(|changed| *changed >= 2 * ROUND), "{together:?}");
}

#[test]
fn a_turn_is_taken_before_anything_is_seen() {
    let of_turn = |turn| {
        let mut forecaster = Forecaster::new(spec(&HORIZONS_MS)).in_turn(turn);
        let mut rng = Rng(5);
        (0..500).for_each(|_| forecaster.observe(rng.observe(300.0)));
        forecaster
    };
    let text = |forecaster: &Forecaster| serde_json::to_string(forecaster).unwrap();
    let first = of_turn(0);
    assert_ne!(text(&of_turn(1)), text(&first));
    assert_eq!(text(&of_turn(ROUND as u64)), text(&first), "after a round it is the first's again");
    assert_eq!(text(&first.clone().in_turn(1)), text(&first), "it goes on as it began");
    let restored: Forecaster = serde_json::from_str(&text(&of_turn(u64::MAX))).unwrap();
    assert_eq!(text(&restored), text(&of_turn(u64::MAX)));
}
