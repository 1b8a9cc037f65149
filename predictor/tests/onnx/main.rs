//! Networks as experts: `make test-onnx`. The networks are written here, byte by byte.
#![cfg(feature = "onnx")]

mod bytes;

use bytes::Network;
use foreshadow_predictor::long::{Extra, History, LongSpec, Model};
use foreshadow_predictor::onnx::{OnnxError, OnnxExpert};

const DAY: usize = 24;
const HOUR_MS: u64 = 3_600_000;

/// Says that the day ahead is the day behind times `factor`.
fn echo(factor: f32) -> Network {
    let weight = |from: usize, to: usize| if from == to { factor } else { 0.0 };
    Network::linear(DAY as i64, DAY as i64, weight)
}

#[test]
fn a_network_answers_in_the_units_it_is_asked_in() {
    let expert = OnnxExpert::read(&echo(2.0).bytes()).unwrap();
    assert_eq!(expert.steps(), DAY);
    let past: Vec<f64> = (0..100).map(f64::from).collect();
    let ahead = expert.ahead(&past).unwrap();
    let expected: Vec<f64> = (76..100).map(|value| 2.0 * f64::from(value)).collect();
    assert_eq!(ahead, expected);
    // What is missing in front is the mean of what there is.
    let short = expert.ahead(&[1.0, 3.0]).unwrap();
    assert_eq!((short[0], short[22], short[23]), (4.0, 2.0, 6.0));
    assert!(expert.ahead(&[]).is_err() || expert.ahead(&[]).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn a_named_batch_is_one_and_a_third_dimension_of_one_is_allowed() {
    let named = Network { batch: None, ..echo(1.0) };
    assert_eq!(OnnxExpert::read(&named.bytes()).unwrap().steps(), DAY);
}

#[test]
fn a_fit_hears_a_network() {
    // Every day is like the one before, but for the noise: the echo is as good as a season of a day.
    let values =
        (0..30 * DAY).map(|hour| Some([20.0, 80.0][hour / 12 % 2] + (hour * 7 % 5) as f64));
    let history =
        History { start_ms: 480_000 * HOUR_MS, step_ms: HOUR_MS, values: values.collect() };
    let expert = OnnxExpert::read(&echo(1.0).bytes()).unwrap();
    let fit = || Model::fit_with(&history, &LongSpec::default(), &[], &[], Some(&expert)).unwrap();
    let model = fit();
    assert!(model.extra().unwrap().unwrap() > 0.001, "{:?}", model.extra());
    assert_eq!(model, fit());
}

#[test]
fn answers_that_are_not_finite_are_refused_when_read() {
    let error = OnnxExpert::read(&echo(f32::NAN).bytes()).unwrap_err();
    assert!(matches!(&error, OnnxError::Run(why) if why.contains("NaN")), "{error}");
}

#[test]
fn answers_that_overflow_later_are_left_out_of_the_fit() {
    let expert = OnnxExpert::read(&echo(1e37).bytes()).unwrap();
    assert!(expert.ahead(&[1e3; DAY]).unwrap_err().contains("inf"));
    let values = vec![Some(5.0); 30 * DAY];
    let history = History { start_ms: 0, step_ms: HOUR_MS, values };
    let model = Model::fit_with(&history, &LongSpec::default(), &[], &[], Some(&expert)).unwrap();
    assert!(model.extra().unwrap().is_err());
    assert!((model.forecast(0, 1).mean[0] - 5.0).abs() < 0.1);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let wide = Network { input_tail: vec![2], ..echo(1.0) };
    let open = Network { steps: None, ..echo(1.0) };
    let scalar = Network { rank_one: true, ..echo(1.0) };
    let long = Network::linear(20_000, 1, |_, _| 0.0);
    for network in [wide, open, scalar, long] {
        let error = OnnxExpert::read(&network.bytes()).unwrap_err();
        assert!(matches!(error, OnnxError::Shape { what: "the input", .. }), "{error}");
        assert!(error.to_string().contains("must be [batch, steps]"), "{error}");
    }
}

#[test]
fn what_takes_too_long_is_refused() {
    let error = OnnxExpert::read(&vec![0; OnnxExpert::MAX_BYTES + 1]).unwrap_err();
    assert_eq!(error, OnnxError::Large { bytes: OnnxExpert::MAX_BYTES + 1 });
    let again = Network { times: 4_000, ..Network::linear(120, 120, |_, _| 0.001) };
    let error = OnnxExpert::read(&again.bytes()).unwrap_err();
    assert!(matches!(error, OnnxError::Slow { operations } if operations > 50_000_000), "{error}");
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = echo(1.0).bytes();
    for cut in (0..whole.len()).step_by(7) {
        assert!(OnnxExpert::read(&whole[..cut]).is_err(), "{cut} bytes");
    }
    for at in (0..whole.len()).step_by(3) {
        let mut broken = whole.clone();
        broken[at] ^= 0x55;
        // Whether a changed weight or name can be read does not matter; only that it ends.
        drop(OnnxExpert::read(&broken));
    }
}
