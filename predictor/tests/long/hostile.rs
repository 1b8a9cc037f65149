//! Whatever comes in, what goes out is finite, sorted, bounded and the same each time.

use foreshadow_predictor::long::{Event, History, LongForecast, LongSpec, Model, Regressor};
use proptest::prelude::*;

use crate::common::{DAY, WEEK, forecast, hourly, noisy, week_ahead};

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => (0.0..1_000.0).prop_map(Some),
        1 => Just(None),
        1 => prop::sample::select(vec![
            0.0, -0.0, -5.0, 1e-300, 5e-324, 1e300, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY,
            f64::NEG_INFINITY,
        ]).prop_map(Some),
    ]
}

/// Stretches of equal values among arbitrary ones, so that levels, outages and constants occur.
fn values() -> impl Strategy<Value = Vec<Option<f64>>> {
    let stretch = (value(), 1_usize..40, prop::collection::vec(value(), 0..40)).prop_map(
        |(value, length, others)| {
            let mut stretch = vec![value; length];
            stretch.extend(others);
            stretch
        },
    );
    prop::collection::vec(stretch, 0..8).prop_map(|stretches| stretches.concat())
}

fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..400 * 3_600_000, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn event() -> impl Strategy<Value = Event> {
    let lift = prop::option::of(prop::sample::select(vec![0.0, -1.0, 2.0, 1e308, f64::NAN]));
    ("[ab]", moment(), moment(), lift).prop_map(|(kind, start_ms, end_ms, expected_lift)| Event {
        kind,
        start_ms,
        end_ms,
        expected_lift,
    })
}

fn step_ms() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 1, 7, 60_000, 900_000, 3_600_000, 86_400_000, u64::MAX])
}

fn spec() -> impl Strategy<Value = LongSpec> {
    let levels = prop::collection::vec(
        prop_oneof![(0.0..1.0), Just(f64::NAN), Just(-1.0), Just(1.0), Just(1e9)],
        0..5,
    );
    let seasons = prop::collection::vec(
        prop::sample::select(vec![0, 1, 420_000, 3_600_000, 86_400_000, 604_800_000, u64::MAX]),
        0..3,
    );
    let horizon = prop::sample::select(vec![0, 1, 3_600_000, 604_800_000, u64::MAX]);
    (levels, seasons, horizon, any::<(bool, bool)>()).prop_map(
        |(levels, seasons_ms, horizon_ms, (non_negative, interactions))| LongSpec {
            levels,
            seasons_ms,
            horizon_ms,
            non_negative,
            interactions,
        },
    )
}

fn check(
    forecast: &LongForecast,
    history: &History,
    non_negative: bool,
) -> Result<(), TestCaseError> {
    let finite = |value: &&Option<f64>| value.is_some_and(f64::is_finite);
    let largest = history
        .values
        .iter()
        .filter(finite)
        .flatten()
        .map(|value| if non_negative { value.max(0.0) } else { value.abs() })
        .fold(0.0, f64::max);
    let bound = 5.001 * largest.min(1e300);
    for (row, mean) in forecast.quantiles.iter().zip(&forecast.mean) {
        prop_assert_eq!(row.len(), forecast.levels.len());
        for value in row.iter().chain([mean]) {
            prop_assert!(value.is_finite());
            prop_assert!(!non_negative || *value >= 0.0);
            prop_assert!(value.abs() <= bound, "{} above {}", value, bound);
        }
        prop_assert!(row.is_sorted(), "{:?}", row);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn any_history_is_harmless(
        values in values(),
        (start_ms, step_ms) in (moment(), step_ms()),
        spec in spec(),
        events in prop::collection::vec(event(), 0..12),
        regressor in prop::collection::vec(value(), 0..300),
        (regressor_ms, from_ms) in (moment(), moment()),
    ) {
        let history = History { start_ms, step_ms, values };
        let regressors =
            [Regressor { name: "r".to_owned(), start_ms: regressor_ms, values: regressor }];
        let Ok(mut model) = Model::fit(&history, &spec, &regressors, &events) else {
            let known = history.values.iter().flatten().any(|value| value.is_finite());
            prop_assert!(history.step_ms == 0 || !known);
            return Ok(());
        };
        prop_assert!(Model::fit(&history, &spec, &regressors, &events) == Ok(model.clone()));
        for from_ms in [history.end_ms(), from_ms] {
            check(&model.forecast(from_ms, 60), &history, spec.non_negative)?;
        }
        for event in &events {
            model.announce(event);
        }
        check(&model.forecast(history.end_ms(), 200), &history, spec.non_negative)?;
    }
}

#[test]
fn scale_does_not_matter() {
    let values = noisy(3 * WEEK, 31);
    let usual = forecast(&hourly(&values), DAY);
    for factor in [1e-200, 1e-9, 1e9, 1e200] {
        let scaled: Vec<f64> = values.iter().map(|value| value * factor).collect();
        let scaled = forecast(&hourly(&scaled), DAY);
        for (one, other) in usual.quantiles.iter().flatten().zip(scaled.quantiles.iter().flatten())
        {
            assert!((one - other / factor).abs() < 1e-6 * one.max(1.0), "{one} {other}");
        }
    }
}

#[test]
fn a_million_events_and_values_are_bounded() {
    let mut values = noisy(40_000, 32);
    values.push(f64::NAN);
    let history = hourly(&values);
    let event = |at: u64| Event {
        kind: format!("kind {}", at % 1_000),
        start_ms: history.start_ms + at * 100_000,
        end_ms: history.start_ms + at * 100_000 + 50_000,
        expected_lift: Some(2.0),
    };
    let events: Vec<Event> = (0..1_000_000).map(event).collect();
    let model = Model::fit(&history, &week_ahead(), &[], &events).unwrap();
    let size = serde_json::to_string(&model).unwrap().len();
    assert!(size < 600_000, "{size} bytes");
    check(&model.forecast(history.end_ms(), usize::MAX), &history, true).unwrap();
    assert_eq!(model.forecast(history.end_ms(), usize::MAX).mean.len(), Model::MAX_STEPS);
}

#[test]
fn a_lift_below_one_over_all_of_the_history_lifts_no_bound() {
    let history = hourly(&[100.0; 150]);
    let event = Event {
        kind: "closed".to_owned(),
        start_ms: 0,
        end_ms: history.end_ms(),
        expected_lift: Some(0.01),
    };
    let spec = LongSpec { non_negative: false, ..week_ahead() };
    let model = Model::fit(&history, &spec, &[], &[event]).unwrap();
    check(&model.forecast(history.end_ms(), 200), &history, false).unwrap();
}

#[test]
fn a_model_survives_being_stored() {
    let history = hourly(&noisy(5 * WEEK, 33));
    let model = Model::fit(&history, &week_ahead(), &[], &[]).unwrap();
    let stored: Model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    let from_ms = history.end_ms();
    for (one, other) in
        model.forecast(from_ms, WEEK).mean.iter().zip(stored.forecast(from_ms, WEEK).mean)
    {
        assert!((one - other).abs() <= 1e-9 * one.abs(), "{one} {other}");
    }
}
