//! An expert from outside: heard when right, weighed down when wrong, left out when it fails.

use foreshadow_predictor::long::{Extra, Model};

use crate::common::{DAY, hourly, mean_error, week_ahead};

/// What a test needs an expert to say.
struct Says<F>(F);

impl<F: Fn(&[f64]) -> Result<Vec<f64>, String>> Extra for Says<F> {
    fn ahead(&self, past: &[f64]) -> Result<Vec<f64>, String> {
        (self.0)(past)
    }
}

/// A series that no season explains: a sawtooth whose teeth grow longer.
fn odd(at: usize) -> f64 {
    let tooth = (at as f64).sqrt();
    10.0 + 90.0 * (tooth - tooth.floor())
}

fn history() -> Vec<f64> {
    (0..40 * DAY).map(odd).collect()
}

#[test]
fn one_that_knows_is_believed() {
    let values = history();
    let typical = values.iter().sum::<f64>() / values.len() as f64;
    let knows = Says(|past: &[f64]| {
        let from = past.len();
        Ok((from..from + 7 * DAY).map(|at| odd(at) / typical).collect())
    });
    let fit = |extra: Option<&dyn Extra>| {
        Model::fit_with(&hourly(&values), &week_ahead(), &[], &[], extra).unwrap()
    };
    let (plain, with) = (fit(None), fit(Some(&knows)));
    assert_eq!(plain.extra(), None);
    assert!(with.extra().unwrap().unwrap() > 0.5, "{:?}", with.extra());
    let error = |model: &Model| {
        let ahead = model.forecast(model.origin_ms(), 7 * DAY);
        mean_error(&ahead.mean, |at| odd(values.len() + at))
    };
    assert!(error(&with) < 0.6 * error(&plain), "{} against {}", error(&with), error(&plain));
}

#[test]
fn one_that_talks_nonsense_costs_next_to_nothing() {
    let nonsense = Says(|past: &[f64]| Ok(vec![past.len() as f64 % 17.0; DAY]));
    let values = crate::common::noisy(30 * DAY, 3);
    let fit = |extra: Option<&dyn Extra>| {
        Model::fit_with(&hourly(&values), &week_ahead(), &[], &[], extra).unwrap()
    };
    let (plain, with) = (fit(None), fit(Some(&nonsense)));
    assert!(with.extra().unwrap().unwrap() < 0.01, "{:?}", with.extra());
    let ahead = |model: &Model| model.forecast(model.origin_ms(), 7 * DAY).mean;
    for (with, plain) in ahead(&with).iter().zip(ahead(&plain)) {
        assert!((with - plain).abs() < 0.02 * plain.max(1.0), "{with} against {plain}");
    }
}

#[test]
fn one_that_fails_is_left_out_and_says_why() {
    let values = crate::common::noisy(30 * DAY, 4);
    let plain = Model::fit(&hourly(&values), &week_ahead(), &[], &[]).unwrap();
    let bad: [(Vec<f64>, &str); 4] = [
        (vec![1.0, f64::NAN], "step 1 of its answer is NaN"),
        (vec![f64::INFINITY], "is inf times"),
        (vec![1.0, 1.0, 1e300], "step 2"),
        (vec![], "its answer is empty"),
    ];
    for (answer, why) in bad {
        let says = Says(|past: &[f64]| match past.len() > 600 {
            true => Ok(answer.clone()),
            false => Ok(vec![1.0; DAY]),
        });
        let with = Model::fit_with(&hourly(&values), &week_ahead(), &[], &[], Some(&says)).unwrap();
        let said = with.extra().unwrap().unwrap_err();
        assert!(said.contains(why), "{said}");
        let ahead = |model: &Model| model.forecast(model.origin_ms(), 7 * DAY);
        assert_eq!(ahead(&with), ahead(&plain));
    }
}

#[test]
fn a_model_with_one_survives_being_written_down() {
    let values = crate::common::noisy(20 * DAY, 5);
    let steady = Says(|_: &[f64]| Ok(vec![1.0; DAY]));
    let with = Model::fit_with(&hourly(&values), &week_ahead(), &[], &[], Some(&steady)).unwrap();
    let text = serde_json::to_string(&with).unwrap();
    let read: Model = serde_json::from_str(&text).unwrap();
    assert_eq!(read, with);
}
