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

/// Hours that swing up or down as two others did before them: no season, trend or average knows them,
/// since to everything linear they look like noise. 31 and 28 hours back make a sequence that repeats
/// only after 2^31 - 1 hours (its polynomial, x^31 + x^28 + 1, is primitive).
fn products(hours: usize) -> Vec<f64> {
    let mut state = 0x2f1b_6c35_u32;
    let mut next = || {
        let bit = (state >> 30 ^ state >> 27) & 1;
        state = (state << 1 | bit) & 0x7fff_ffff;
        bit
    };
    // Of two swings of one unit the product is their exclusive or, turned round.
    (0..hours)
        .map(|_| if next() == 1 { -1.0 } else { 1.0 })
        .map(|swing| 100.0 + 40.0 * swing)
        .collect()
}

fn history(values: &[f64]) -> History {
    let values = values.iter().copied().map(Some).collect();
    History { start_ms: 480_000 * HOUR_MS, step_ms: HOUR_MS, values }
}

/// Mean absolute error of the day after the history.
fn miss(model: &Model, truth: &[f64]) -> f64 {
    let said = model.forecast(model.origin_ms(), DAY).mean;
    said.iter().zip(truth).map(|(said, truth)| (said - truth).abs()).sum::<f64>() / DAY as f64
}

#[test]
fn a_fit_hears_a_network_that_knows_what_no_other_expert_can() {
    let all = products(31 * DAY);
    let (past, truth) = all.split_at(30 * DAY);
    // Its swings are of 0.4 about one: 0.4 x 0.4 is to be 0.4 again.
    let mut network = Network::product(168, DAY as i64, [31, 28]);
    network.matrices[0].3.iter_mut().for_each(|weight| *weight *= 2.5);
    let expert = OnnxExpert::read(&network.bytes()).unwrap();
    let with = |extra: Option<&dyn Extra>| {
        Model::fit_with(&history(past), &LongSpec::default(), &[], &[], extra).unwrap()
    };
    let (without, model) = (with(None), with(Some(&expert)));
    assert!(model.extra().unwrap().unwrap() > 0.9, "{:?}", model.extra());
    assert!(miss(&without, truth) > 25.0, "{}", miss(&without, truth));
    assert!(miss(&model, truth) < 5.0, "{}", miss(&model, truth));
    assert_eq!(model, with(Some(&expert)));
    // The same network where it knows nothing: a day like any other.
    let daily: Vec<f64> = (0..30 * DAY).map(|hour| [20.0, 80.0][hour / 12 % 2]).collect();
    let model =
        Model::fit_with(&history(&daily), &LongSpec::default(), &[], &[], Some(&expert)).unwrap();
    assert!(model.extra().unwrap().unwrap() < 0.004, "{:?}", model.extra());
    assert!(miss(&model, &daily) < 1.0);
}

/// What PyTorch says of one series.
#[derive(serde::Deserialize)]
struct Answers {
    past: Vec<f64>,
    lstm: Vec<f64>,
    transformer: Vec<f64>,
}

/// The networks were trained on pulses that come back after 29, 37 and 43 hours, whatever their phases.
fn pulses(hours: usize) -> Vec<f64> {
    let on = |hour: usize, (period, phase)| f64::from(u8::from((hour + phase) % period < 4));
    let value =
        |hour| [(29, 5), (37, 20), (43, 31)].map(|pulse| on(hour, pulse)).iter().sum::<f64>();
    (0..hours).map(|hour| 60.0 + 120.0 * value(hour)).collect()
}

#[test]
fn exported_networks_say_what_they_said_where_they_were_trained_and_are_heard() {
    let answers: Answers = serde_json::from_str(include_str!("models/answers.json")).unwrap();
    let networks: [(&[u8], &[f64]); 2] = [
        (include_bytes!("models/lstm.onnx"), &answers.lstm),
        (include_bytes!("models/transformer.onnx"), &answers.transformer),
    ];
    let all = pulses(57 * DAY);
    let (past, truth) = all.split_at(56 * DAY);
    let fit = |extra: Option<&dyn Extra>| {
        Model::fit_with(&history(past), &LongSpec::default(), &[], &[], extra).unwrap()
    };
    let without = miss(&fit(None), truth);
    for (file, expected) in networks {
        let expert = OnnxExpert::read(file).unwrap();
        assert_eq!(expert.steps(), 168);
        let said = expert.ahead(&answers.past).unwrap();
        assert_eq!(said.len(), DAY);
        let apart = |(one, other): (&f64, &f64)| (one - other).abs();
        let most = said.iter().zip(expected).map(apart).fold(0.0, f64::max);
        assert!(most < 1e-4, "{most}");
        let model = fit(Some(&expert));
        assert!(model.extra().unwrap().unwrap() > 0.5, "{:?}", model.extra());
        assert!(miss(&model, truth) < 0.5 * without, "{} of {without}", miss(&model, truth));
    }
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
fn what_a_file_lacks_is_named() {
    let elsewhere = Network { elsewhere: Some("model.onnx.data"), ..echo(1.0) };
    let error = OnnxExpert::read(&elsewhere.bytes()).unwrap_err();
    assert_eq!(error, OnnxError::Elsewhere { file: "model.onnx.data".to_owned() });
    assert!(error.to_string().contains("external_data=False"), "{error}");
    let mut strange = echo(1.0);
    strange.operators[0].0 = "MyMatMul";
    let error = OnnxExpert::read(&strange.bytes()).unwrap_err();
    assert_eq!(error, OnnxError::Operators(vec!["MyMatMul".to_owned()]));
    let mut apart = echo(1.0);
    apart.matrices[0].1 = 12;
    apart.matrices[0].3.truncate(12 * DAY);
    let error = OnnxExpert::read(&apart.bytes()).unwrap_err();
    assert!(matches!(error, OnnxError::Prepare(_)), "{error}");
    let error = OnnxExpert::read(b"").unwrap_err();
    assert!(error.to_string().contains("it holds no network"), "{error}");
    let error = OnnxExpert::read(b"<!DOCTYPE html>").unwrap_err();
    assert!(matches!(error, OnnxError::Read(_)), "{error}");
}

#[test]
fn what_takes_too_long_is_refused() {
    let error = OnnxExpert::read(&vec![0; OnnxExpert::MAX_BYTES + 1]).unwrap_err();
    assert_eq!(error, OnnxError::Large { bytes: OnnxExpert::MAX_BYTES + 1 });
    let again = Network::linear(1_000, 1_000, |_, _| 0.001).repeated(60);
    let error = OnnxExpert::read(&again.bytes()).unwrap_err();
    assert!(matches!(error, OnnxError::Slow { operations } if operations > 50_000_000), "{error}");
}

#[test]
fn a_small_file_that_says_vast_things_is_refused_before_they_are_worked_out() {
    let mut network = echo(1.0);
    let inputs = ["column", "row"].map(str::to_owned).to_vec();
    network.operators.push(("MatMul", inputs, "vast".to_owned()));
    network.matrices.push(("column", 20_000, 1, vec![1.0; 20_000]));
    network.matrices.push(("row", 1, 20_000, vec![1.0; 20_000]));
    let error = OnnxExpert::read(&network.bytes()).unwrap_err();
    assert_eq!(error, OnnxError::Slow { operations: 400_000_000 });
    let mut network = echo(1.0);
    network.matrices.push(("block", 1_000, 1_000, vec![1.0; 1_000_000]));
    for nth in 0..300 {
        network.operators.push(("Neg", vec!["block".to_owned()], format!("negative{nth}")));
    }
    let error = OnnxExpert::read(&network.bytes()).unwrap_err();
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
