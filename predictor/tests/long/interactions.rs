//! Effects that depend on the moment: found where there are any, and no harm where there are none.

use foreshadow_predictor::long::{Event, LongSpec, Model, Regressor};

use crate::common::{
    DAY, HOUR_MS, Noise, START_MS, WEEK, hourly, mean_error, noisy, traffic, week_ahead,
};

const HOURS: usize = 8 * WEEK;

/// What a campaign multiplies demand by.
type Lift = fn(usize) -> f64;

fn evening(hour: usize) -> f64 {
    if (16..23).contains(&(hour % DAY)) { 2.6 } else { 1.1 }
}

fn weekend(hour: usize) -> f64 {
    if hour % WEEK >= 5 * DAY { 2.4 } else { 1.2 }
}

fn always(_: usize) -> f64 {
    1.7
}

/// So much more at any time, which is a smaller part of it the busier it is.
fn added(hour: usize) -> f64 {
    1.0 + 60.0 / traffic(hour)
}

/// Whole days on which it runs, known a week ahead; about every third.
fn days(seed: u64) -> Vec<bool> {
    let mut noise = Noise(seed);
    (0..(HOURS + WEEK) / DAY).map(|_| noise.next() > 0.15).collect()
}

fn truth(hour: usize, days: &[bool], lift: Lift) -> f64 {
    traffic(hour) * if days[hour / DAY] { lift(hour) } else { 1.0 }
}

fn history(seed: u64, days: &[bool], lift: Lift) -> Vec<f64> {
    let mut values = noisy(HOURS, seed);
    for (hour, value) in values.iter_mut().enumerate() {
        *value *= truth(hour, days, lift) / traffic(hour);
    }
    values
}

fn as_regressor(days: &[bool]) -> Regressor {
    let on = |hour: usize| Some(f64::from(u8::from(days[hour / DAY])));
    let values = (0..HOURS + WEEK).map(on).collect();
    Regressor { name: "campaign".to_owned(), start_ms: START_MS, values }
}

fn as_events(days: &[bool]) -> Vec<Event> {
    let at = |day: usize| START_MS + (day * DAY) as u64 * HOUR_MS;
    let on = days.iter().enumerate().filter(|(_, on)| **on);
    let event = |(day, _): (usize, &bool)| Event {
        kind: "campaign".to_owned(),
        start_ms: at(day),
        end_ms: at(day + 1),
        expected_lift: None,
    };
    on.map(event).collect()
}

/// Error of the week ahead, and whether any dependence on the moment was found.
fn error(seed: u64, lift: Lift, by_events: bool, interactions: bool) -> (f64, bool) {
    let days = days(seed);
    let values = history(seed + 100, &days, lift);
    let spec = LongSpec { interactions, ..week_ahead() };
    let (regressors, events) =
        if by_events { (vec![], as_events(&days)) } else { (vec![as_regressor(&days)], vec![]) };
    let model =
        Model::fit(&hourly(&values), &spec, &regressors, &events).expect("there are values");
    let ranges = model.lifts().iter().map(foreshadow_predictor::long::Lift::range);
    let ranges: Vec<_> = ranges.chain(model.effect_range("campaign")).collect();
    let ahead = model.forecast(model.origin_ms(), WEEK);
    let error = mean_error(&ahead.mean, |at| truth(HOURS + at, &days, lift));
    (error, ranges.iter().any(|(least, most)| most - least > 1e-9))
}

/// Errors with and without interactions over some worlds, and in how many one was found.
fn both(lift: Lift, by_events: bool) -> (f64, usize) {
    let (mut with, mut without, mut found) = (0.0, 0.0, 0);
    for seed in 1..=8 {
        let (error, is_found) = self::error(seed, lift, by_events, true);
        let (plain, never) = self::error(seed, lift, by_events, false);
        assert!(!never);
        with += error;
        without += plain;
        found += usize::from(is_found);
    }
    (with / without, found)
}

#[test]
fn a_signal_that_lifts_the_evening_more_than_the_night_is_forecast_so() {
    let (ratio, found) = both(evening, false);
    assert!(ratio < 0.6 && found >= 6, "{ratio} {found}");
    let (ratio, found) = both(weekend, false);
    assert!(ratio < 0.9 && found >= 6, "{ratio} {found}");
    let (ratio, found) = both(added, false);
    assert!(ratio < 0.9 && found >= 6, "{ratio} {found}");
}

#[test]
fn events_that_lift_the_evening_more_than_the_night_are_forecast_so() {
    let (ratio, found) = both(evening, true);
    assert!(ratio < 0.75 && found == 8, "{ratio} {found}");
}

#[test]
fn where_there_is_no_interaction_none_does_harm() {
    for by_events in [false, true] {
        let (ratio, found) = both(always, by_events);
        assert!(ratio <= 1.02, "{ratio} {found}");
    }
}

#[test]
fn the_lift_of_a_moment_is_what_was_seen_at_such_moments() {
    let days = days(3);
    let values = history(103, &days, evening);
    let model = Model::fit(&hourly(&values), &week_ahead(), &[], &as_events(&days)).unwrap();
    let lift = &model.lifts()[0];
    let at = |hour: u64| lift.at(START_MS + hour * HOUR_MS, HOUR_MS);
    assert!((1.9..3.3).contains(&at(20)) && (0.8..1.45).contains(&at(4)), "{} {}", at(20), at(4));
    let (least, most) = lift.range();
    assert!(least < lift.ratio && lift.ratio < most);
    let stored: Model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert!((stored.lifts()[0].at(START_MS, HOUR_MS) / at(0) - 1.0).abs() < 1e-9);
}
