//! Events and regressors: learned from repeats, believed as far as they prove true.

use foreshadow_predictor::long::{Event, Model, Regressor};

use crate::common::{DAY, HOUR_MS, Noise, START_MS, WEEK, hourly, noisy, traffic, week_ahead};

const HOURS: usize = 6 * WEEK;

fn event(kind: &str, hour: usize, hours: usize) -> Event {
    Event {
        kind: kind.to_owned(),
        start_ms: START_MS + hour as u64 * HOUR_MS,
        end_ms: START_MS + (hour + hours) as u64 * HOUR_MS,
        expected_lift: None,
    }
}

/// Sales that triple traffic for five hours, never at the same time of the week.
fn with_sales() -> (Vec<f64>, Vec<Event>) {
    let mut values = noisy(HOURS, 11);
    let starts = [WEEK + 10, 2 * WEEK + 40, 3 * WEEK + 90, 4 * WEEK + 62, 5 * WEEK + 115];
    let mut events = vec![];
    for start in starts {
        values[start..start + 5].iter_mut().for_each(|value| *value *= 3.0);
        events.push(event("sale", start, 5));
    }
    (values, events)
}

#[test]
fn a_lift_learned_over_repeats_comes_before_the_next_event() {
    let (values, mut events) = with_sales();
    events.push(event("sale", HOURS + 33, 4));
    let history = hourly(&values);
    let model = Model::fit(&history, &week_ahead(), &[], &events).unwrap();
    let lift = &model.lifts()[0];
    assert_eq!((lift.kind.as_str(), lift.repeats), ("sale", 5));
    assert!((2.4..3.3).contains(&lift.ratio), "{lift:?}");
    let ahead = model.forecast(history.end_ms(), 2 * DAY);
    for hour in 0..2 * DAY {
        let during = (33..37).contains(&hour);
        let usual = traffic(HOURS + hour);
        let ratio = ahead.mean[hour] / usual;
        let expected = if during { 2.2..3.4 } else { 0.7..1.35 };
        assert!(expected.contains(&ratio), "hour {hour}: {ratio}");
        assert!(!during || ahead.quantiles[hour][2] > 2.2 * usual);
    }
}

#[test]
fn events_may_be_announced_after_the_fit() {
    let (values, events) = with_sales();
    let history = hourly(&values);
    let mut model = Model::fit(&history, &week_ahead(), &[], &events).unwrap();
    let before = model.forecast(history.end_ms(), DAY);
    model.announce(&event("sale", HOURS + 8, 2));
    model.announce(&Event { expected_lift: Some(2.0), ..event("launch", HOURS + 14, 2) });
    model.announce(&event("unheard of", HOURS + 18, 2));
    let after = model.forecast(history.end_ms(), DAY);
    let ratio = |hour: usize| after.mean[hour] / before.mean[hour];
    assert!(ratio(8) > 2.3 && ratio(9) > 2.3);
    assert!((ratio(14) - 2.0).abs() < 1e-9);
    assert_eq!((ratio(7), ratio(10), ratio(18)), (1.0, 1.0, 1.0));
}

#[test]
fn a_short_high_event_is_no_spike() {
    let mut values = noisy(HOURS, 15);
    let at = [WEEK + 12, 3 * WEEK + 61, 5 * WEEK + 37];
    at.iter().for_each(|hour| values[*hour] *= 8.0);
    let events = at.map(|hour| event("draw", hour, 1));
    let model = Model::fit(&hourly(&values), &week_ahead(), &[], &events).unwrap();
    assert!((5.0..9.0).contains(&model.lifts()[0].ratio), "{:?}", model.lifts());
}

#[test]
fn past_events_do_not_colour_ordinary_days() {
    let (values, events) = with_sales();
    let history = hourly(&values);
    let error = |events: &[Event]| {
        let model = Model::fit(&history, &week_ahead(), &[], events).unwrap();
        let ahead = model.forecast(history.end_ms(), WEEK);
        crate::common::mean_error(&ahead.mean, |at| traffic(HOURS + at))
    };
    let (told, untold) = (error(&events), error(&[]));
    assert!(told < untold, "{told} against {untold}");
}

/// A campaign that runs on random days, known a week ahead.
fn campaign() -> Regressor {
    let mut noise = Noise(21);
    let days: Vec<f64> =
        (0..(HOURS + WEEK) / DAY).map(|_| f64::from(u8::from(noise.next() > 0.1))).collect();
    Regressor {
        name: "campaign".to_owned(),
        start_ms: START_MS,
        values: (0..HOURS + WEEK).map(|hour| Some(days[hour / DAY])).collect(),
    }
}

#[test]
fn a_regressor_that_goes_with_the_series_is_used() {
    let regressor = campaign();
    let on = |hour: usize| regressor.values[hour].unwrap();
    let mut values = noisy(HOURS, 12);
    for (hour, value) in values.iter_mut().enumerate() {
        *value *= 1.0 + 0.8 * on(hour);
    }
    let history = hourly(&values);
    let error = |regressors: &[Regressor]| {
        let model = Model::fit(&history, &week_ahead(), regressors, &[]).unwrap();
        assert_eq!(model.regressors().count(), regressors.len());
        let ahead = model.forecast(history.end_ms(), WEEK);
        let truth = |at: usize| traffic(HOURS + at) * (1.0 + 0.8 * on(HOURS + at));
        crate::common::mean_error(&ahead.mean, truth)
    };
    let (told, untold) = (error(std::slice::from_ref(&regressor)), error(&[]));
    assert!(told < 0.6 * untold, "{told} against {untold}");
}

#[test]
fn a_regressor_that_says_nothing_or_stopped_being_true_has_no_weight() {
    let regressor = campaign();
    let values = noisy(HOURS, 13);
    let history = hourly(&values);
    let plain = Model::fit(&history, &week_ahead(), &[], &[]).unwrap();
    let unrelated = Model::fit(&history, &week_ahead(), std::slice::from_ref(&regressor), &[]);
    assert_eq!(unrelated.unwrap(), plain);

    let mut once = values;
    for (hour, value) in once.iter_mut().enumerate().take(HOURS / 2) {
        *value *= 1.0 + 0.8 * regressor.values[hour].unwrap();
    }
    let lapsed = Model::fit(&hourly(&once), &week_ahead(), &[regressor], &[]).unwrap();
    assert_eq!(lapsed.regressors().count(), 0);
}

#[test]
fn where_a_regressor_is_unknown_the_forecast_is_as_usual() {
    let mut regressor = campaign();
    let mut values = noisy(HOURS, 14);
    for (hour, value) in values.iter_mut().enumerate() {
        *value *= 1.0 + 0.8 * regressor.values[hour].unwrap();
    }
    regressor.values.truncate(HOURS);
    let history = hourly(&values);
    let model = Model::fit(&history, &week_ahead(), &[regressor], &[]).unwrap();
    let ahead = model.forecast(history.end_ms(), WEEK);
    for (at, mean) in ahead.mean.iter().enumerate() {
        let ratio = mean / traffic(HOURS + at);
        assert!((0.8..2.0).contains(&ratio), "{at}: {ratio}");
    }
}
