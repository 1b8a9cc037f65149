//! Shapes that a forecast must see.

use foreshadow_predictor::long::{FitError, History, LongSpec, Model};

use crate::common::{DAY, HOUR_MS, WEEK, forecast, hourly, mean_error, noisy, traffic, week_ahead};

#[test]
fn days_and_weeks_are_repeated() {
    let hours = 6 * WEEK + 3 * DAY;
    let history = hourly(&noisy(hours, 1));
    let model = Model::fit(&history, &week_ahead(), &[], &[]).unwrap();
    assert_eq!(model.seasons_ms(), [DAY, WEEK].map(|steps| steps as u64 * HOUR_MS));
    let ahead = model.forecast(history.end_ms(), WEEK);
    let naive: Vec<f64> = (0..WEEK).map(|at| traffic(hours - DAY + at % DAY)).collect();
    let (ours, naives) = (
        mean_error(&ahead.mean, |at| traffic(hours + at)),
        mean_error(&naive, |at| traffic(hours + at)),
    );
    assert!(ours < 3.0 && ours < 0.4 * naives, "{ours} against {naives}");
}

#[test]
fn intervals_hold_as_often_as_they_say() {
    let values = noisy(12 * WEEK, 2);
    let (mut inside, mut all) = (0.0, 0.0);
    for origin in (6 * WEEK..11 * WEEK).step_by(31) {
        let ahead = forecast(&hourly(&values[..origin]), WEEK);
        for (row, truth) in ahead.quantiles.iter().zip(&values[origin..]) {
            inside += f64::from(u8::from(row[0] <= *truth && *truth <= row[2]));
            all += 1.0;
        }
    }
    let coverage = inside / all;
    assert!((0.74..=0.92).contains(&coverage), "80 % nominal covered {coverage}");
}

#[test]
fn a_second_morning_is_foreseen() {
    // One day and a night.
    let hours = DAY + 6;
    let ahead = forecast(&hourly(&noisy(hours, 3)), 12);
    let (now, noon) = (ahead.mean[0], ahead.mean[6]);
    assert!(noon > 85.0 && noon > 1.4 * now, "{:?}", ahead.mean);
}

#[test]
fn hours_of_history_give_a_level() {
    let quarter = |minutes: u64| History {
        start_ms: 5,
        step_ms: minutes * 60_000,
        values: (0..20).map(|at| Some(40.0 + f64::from(at % 3))).collect(),
    };
    for history in [quarter(15), quarter(1)] {
        let ahead = forecast(&history, 200);
        assert!(ahead.mean.iter().all(|value| (value - 41.0).abs() < 2.5), "{:?}", ahead.mean);
        assert!(ahead.quantiles.iter().all(|row| row[0] > 25.0 && row[2] < 60.0));
    }
}

#[test]
fn a_season_of_no_calendar_is_found() {
    // Every 70 minutes a batch of 10.
    let load = |minute: usize| if minute % 70 < 10 { 90.0 } else { 10.0 };
    let history = History {
        start_ms: 0,
        step_ms: 60_000,
        values: (0..900).map(|minute| Some(load(minute))).collect(),
    };
    let model = Model::fit(&history, &LongSpec::default(), &[], &[]).unwrap();
    assert_eq!(model.seasons_ms(), [70 * 60_000]);
    let ahead = model.forecast(history.end_ms(), 140);
    assert!(mean_error(&ahead.mean, |at| load(900 + at)) < 3.0, "{:?}", ahead.mean);
}

#[test]
fn seasons_given_are_used() {
    // A day in a minute, a week in seven.
    let history = History { step_ms: 2_500, ..hourly(&noisy(3 * WEEK, 4)) };
    let spec =
        LongSpec { seasons_ms: vec![60_000, 420_000], horizon_ms: 420_000, ..LongSpec::default() };
    let model = Model::fit(&history, &spec, &[], &[]).unwrap();
    assert_eq!(model.seasons_ms(), [60_000, 420_000]);
    let ahead = model.forecast(history.end_ms(), WEEK);
    assert!(mean_error(&ahead.mean, |at| traffic(3 * WEEK + at)) < 6.0);
}

#[test]
fn a_new_level_is_followed() {
    let hours = 6 * WEEK;
    let mut values = noisy(hours, 5);
    values[hours - 3 * DAY..].iter_mut().for_each(|value| *value *= 3.0);
    let ahead = forecast(&hourly(&values), DAY);
    let truth: f64 = (0..DAY).map(|at| 3.0 * traffic(hours + at)).sum();
    let ratio = ahead.mean.iter().sum::<f64>() / truth;
    assert!((0.7..1.3).contains(&ratio), "{ratio}");
}

#[test]
fn outages_spikes_and_gaps_in_the_past_change_little() {
    let values = noisy(6 * WEEK, 6);
    let undisturbed = forecast(&hourly(&values), WEEK);
    let mut outage = values.clone();
    outage[5 * WEEK + 30..5 * WEEK + 40].fill(0.0);
    let mut spike = values.clone();
    spike[5 * WEEK + 50] *= 50.0;
    let mut gaps = hourly(&values);
    gaps.values[4 * WEEK + 20..4 * WEEK + 80].fill(None);
    for disturbed in [hourly(&outage), hourly(&spike), gaps] {
        let ahead = forecast(&disturbed, WEEK);
        let moved = mean_error(&ahead.mean, |at| undisturbed.mean[at]);
        assert!(moved < 3.0, "moved by {moved}");
        let widest = |rows: &[Vec<f64>]| rows.iter().map(|row| row[2] - row[0]).sum::<f64>();
        let wider = widest(&ahead.quantiles) / widest(&undisturbed.quantiles);
        assert!((0.6..1.6).contains(&wider), "wider by {wider}");
    }
}

#[test]
fn a_constant_stays() {
    let ahead = forecast(&hourly(&[7.0; 500]), WEEK);
    assert!(
        ahead.mean.iter().chain(ahead.quantiles.iter().flatten()).all(|v| (v - 7.0).abs() < 1e-3)
    );
    let zero = forecast(&hourly(&[0.0; 500]), WEEK);
    assert!(zero.mean.iter().all(|value| *value == 0.0));
}

#[test]
fn time_is_that_of_the_history() {
    let history = hourly(&noisy(3 * WEEK, 7));
    let model = Model::fit(&history, &week_ahead(), &[], &[]).unwrap();
    let (all, later) =
        (model.forecast(0, 30), model.forecast(history.end_ms() + 4 * HOUR_MS + 1, 25));
    assert_eq!(all.start_ms, history.end_ms());
    assert_eq!(later.start_ms, history.end_ms() + 5 * HOUR_MS);
    for (one, other) in all.mean[5..].iter().zip(&later.mean) {
        assert!((one - other).abs() < 1e-9 * one.abs().max(1.0), "{one} {other}");
    }
    assert_eq!(model.forecast(u64::MAX, 3).mean.len(), 3);
}

#[test]
fn nothing_to_learn_from_is_said() {
    let empty = History { values: vec![None, Some(f64::NAN)], ..hourly(&[]) };
    let fit = |history: &History| Model::fit(history, &LongSpec::default(), &[], &[]);
    assert_eq!(fit(&empty), Err(FitError::Empty { steps: 2 }));
    assert_eq!(fit(&History { step_ms: 0, ..hourly(&[1.0]) }), Err(FitError::Step));
}
