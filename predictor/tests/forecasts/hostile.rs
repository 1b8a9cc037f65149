//! Whatever comes in, what goes out is finite, not negative and ordered, and memory is bounded.

use foreshadow_predictor::{Forecaster, SeriesSpec};
use proptest::prelude::*;

/// One call on a forecaster.
#[derive(Clone, Copy, Debug)]
enum Input {
    Value(f64),
    Repeat(f64, u16),
    Gap(u64),
    With(f64, [f64; 3]),
    Clock(i64),
}

pub(crate) fn check(forecaster: &Forecaster) {
    let forecast = forecaster.forecast();
    assert!(forecaster.level().is_finite() && forecaster.level() >= 0.0);
    for horizon in &forecast.horizons {
        assert!(horizon.mean.is_finite() && horizon.mean >= 0.0, "{horizon:?}");
        assert_eq!(horizon.quantiles.len(), forecast.levels.len());
        assert!(horizon.quantiles.iter().all(|q| q.is_finite() && *q >= 0.0), "{horizon:?}");
        assert!(horizon.quantiles.is_sorted(), "{horizon:?}");
    }
    let score = forecaster.score();
    let finite = |figures: &[f64]| figures.iter().all(|figure| figure.is_finite());
    for horizon in &score.horizons {
        assert!(horizon.mae.is_finite() && horizon.naive_mae.is_finite(), "{horizon:?}");
        assert!(finite(&horizon.coverage) && finite(&horizon.pinball), "{horizon:?}");
    }
}

fn feed(forecaster: &mut Forecaster, input: Input) {
    match input {
        Input::Value(value) => forecaster.observe(value),
        Input::Repeat(value, times) => (0..times % 300).for_each(|_| forecaster.observe(value)),
        Input::Gap(steps) => forecaster.observe_gap(steps),
        Input::With(value, regressors) => forecaster.observe_with(value, &regressors),
        Input::Clock(by_ms) => forecaster.shift_clock(by_ms),
    }
    check(forecaster);
}

fn value() -> impl Strategy<Value = f64> {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e308,
        -1e308,
        1e9,
        1e9 + 1.0,
        f64::MIN_POSITIVE / 4.0,
        f64::MIN_POSITIVE,
        -0.0,
        0.0,
    ];
    prop_oneof![
        prop::sample::select(odd.to_vec()).boxed(),
        any::<f64>().boxed(),
        (0.0..2e3).boxed()
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => value().prop_map(Input::Value),
        4 => (value(), any::<u16>()).prop_map(|(value, times)| Input::Repeat(value, times)),
        2 => (value(), [value(), value(), value()]).prop_map(|(v, all)| Input::With(v, all)),
        1 => any::<i64>().prop_map(Input::Clock),
        1 => prop_oneof![0..200_u64, Just(u64::MAX), any::<u64>()].prop_map(Input::Gap),
    ]
}

fn any_spec() -> impl Strategy<Value = SeriesSpec> {
    let ms = || prop_oneof![0..20_000_u64, any::<u64>()];
    let level = prop_oneof![0.0..1.0_f64, any::<f64>()];
    let parts = (
        prop_oneof![Just(100), 0..2_000_u64, any::<u64>()],
        prop::collection::vec(ms(), 0..6),
        prop::collection::vec(level, 0..8),
        prop::collection::vec(ms(), 0..3),
    );
    parts.prop_map(|(step_ms, horizons_ms, levels, seasons_ms)| SeriesSpec {
        step_ms,
        horizons_ms,
        levels,
        seasons_ms,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn no_input_breaks_a_forecaster(
        spec in any_spec(),
        regressors in 0..10_usize,
        inputs in prop::collection::vec(input(), 1..40),
    ) {
        let mut forecaster = Forecaster::with_regressors(spec, regressors);
        check(&forecaster);
        let bytes = forecaster.memory_bytes();
        for input in inputs {
            feed(&mut forecaster, input);
        }
        prop_assert_eq!(forecaster.memory_bytes(), bytes);
        prop_assert!(bytes < 600_000, "{} bytes", bytes);
    }

    #[test]
    fn a_checkpoint_continues_identically(
        spec in any_spec(),
        before in prop::collection::vec(input(), 0..20),
        after in prop::collection::vec(input(), 1..20),
    ) {
        let mut original = Forecaster::with_regressors(spec, 2);
        before.into_iter().for_each(|input| feed(&mut original, input));
        let text = serde_json::to_string(&original).unwrap();
        let mut restored: Forecaster = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), text);
        for input in after {
            feed(&mut original, input);
            feed(&mut restored, input);
            prop_assert_eq!(original.forecast(), restored.forecast());
        }
        let (left, right) = (serde_json::to_string(&original), serde_json::to_string(&restored));
        prop_assert_eq!(left.unwrap(), right.unwrap());
    }
}

#[test]
fn a_season_out_of_scale_does_not_promise_the_moon() {
    // The load swings by ten every minute, down to 20 and up to 200. Then, where it should be at
    // its lowest, it is at its highest: times the season's ratio of ten that would be 2,000.
    let spec = SeriesSpec { seasons_ms: vec![60_000], ..crate::common::spec(&[10_000, 30_000]) };
    let mut forecaster = Forecaster::new(spec);
    let swing = |step: u32| 20.0 + 0.6 * f64::from((step % 600).abs_diff(300));
    (0..6_300).for_each(|step| forecaster.observe(swing(step)));
    let mut highest = 0.0_f64;
    for _ in 0..20 {
        forecaster.observe(200.0);
        highest = forecaster.forecast().horizons.iter().map(|h| h.mean).fold(highest, f64::max);
    }
    assert!(highest < 3.0 * 200.0 + 100.0, "{highest}");
}

#[test]
fn a_usual_series_takes_the_memory_the_docs_say() {
    let spec = crate::common::spec(&[1_000, 5_000, 30_000, 120_000]);
    let bytes = Forecaster::new(spec).memory_bytes();
    assert!((25_000..45_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn least_squares_with_regressors_counts_in_the_memory() {
    let bytes = |regressors| {
        let spec = crate::common::spec(&[1_000, 5_000, 30_000, 120_000]);
        Forecaster::with_regressors(spec, regressors).memory_bytes()
    };
    // Four horizons, each with a covariance of some 30 features up to its diagonal.
    let more = bytes(8) - bytes(0);
    assert!(more > 4 * 30 * 31 / 2 * size_of::<f64>(), "{more} bytes");
}

#[test]
fn the_largest_spec_takes_no_more_memory_than_the_docs_say() {
    let spec = SeriesSpec {
        step_ms: 10,
        horizons_ms: (1..=16).map(|tenth| tenth * 37_000).collect(),
        levels: (1..=16).map(|level| f64::from(level) / 17.0).collect(),
        seasons_ms: vec![600_000, 3_600_000, 86_400_000, 604_800_000],
    };
    let bytes = Forecaster::with_regressors(spec, usize::MAX).memory_bytes();
    assert!(bytes < 600_000, "{bytes} bytes");
}
