//! Series that go ahead of another: by how much is found, and nothing else of them is used.

use foreshadow_predictor::long::{Model, Regressor};

use crate::common::{
    HOUR_MS, Noise, START_MS, WEEK, hourly, mean_error, noisy, traffic, week_ahead,
};

const HOURS: usize = 6 * WEEK;

/// A backlog that rises at random and is worked off a day later.
fn backlog() -> Vec<f64> {
    let mut noise = Noise(33);
    let bursts: Vec<f64> =
        (0..HOURS / 6 + 1).map(|_| f64::from(u8::from(noise.next() > 0.3))).collect();
    (0..HOURS).map(|hour| bursts[hour / 6]).collect()
}

fn regressor(values: &[f64]) -> Regressor {
    Regressor {
        name: "backlog".to_owned(),
        start_ms: START_MS,
        values: values.iter().copied().map(Some).collect(),
    }
}

#[test]
fn a_signal_without_a_future_tells_as_far_ahead_as_it_leads() {
    const LEAD: usize = 24;
    let backlog = backlog();
    let mut values = noisy(HOURS, 31);
    for (hour, value) in values.iter_mut().enumerate().skip(LEAD) {
        *value *= 1.0 + backlog[hour - LEAD];
    }
    let history = hourly(&values);
    let model = Model::fit(&history, &week_ahead(), &[regressor(&backlog)], &[]).unwrap();
    assert_eq!(model.regressors().count(), 1);
    assert_eq!(model.lead_ms("backlog"), LEAD as u64 * HOUR_MS);
    let truth = |at: usize| traffic(HOURS + at) * (1.0 + backlog[HOURS + at - LEAD]);
    let error = |model: &Model| {
        let ahead = model.forecast(history.end_ms(), LEAD).mean;
        mean_error(&ahead, truth)
    };
    let plain = Model::fit(&history, &week_ahead(), &[], &[]).unwrap();
    assert!(error(&model) < 0.6 * error(&plain), "{} of {}", error(&model), error(&plain));
    // Beyond its lead it is as usual again.
    let far = model.forecast(history.end_ms(), WEEK).mean;
    let mut muted = model.clone();
    muted.mute(|_| true);
    let without = muted.forecast(history.end_ms(), WEEK).mean;
    assert!(far[..LEAD] != without[..LEAD]);
    for (far, without) in far.iter().zip(&without).skip(LEAD + 48) {
        assert!((far / without - 1.0).abs() < 0.02, "{far} {without}");
    }
    muted.mute(|_| false);
    assert_eq!(muted, model);
}

#[test]
fn one_that_only_mirrors_the_series_is_left_out() {
    let backlog = backlog();
    let mut values = noisy(HOURS, 32);
    for (value, backlog) in values.iter_mut().zip(&backlog) {
        *value *= 1.0 + backlog;
    }
    let history = hourly(&values);
    let plain = Model::fit(&history, &week_ahead(), &[], &[]).unwrap();
    let model = Model::fit(&history, &week_ahead(), &[regressor(&backlog)], &[]).unwrap();
    assert_eq!(model, plain);
}
