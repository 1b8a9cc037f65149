//! The same inputs give the same outputs, bit for bit.

use foreshadow_predictor::{Forecaster, SeriesSpec};

use crate::common::{Rng, spec};

fn text(state: &impl serde::Serialize) -> String {
    serde_json::to_string(state).expect("plain data serialises")
}

fn run() -> String {
    let spec = SeriesSpec { seasons_ms: vec![30_000], ..spec(&[100, 2_000, 60_000]) };
    let mut forecaster = Forecaster::new(spec);
    let mut rng = Rng(9);
    let mut out = String::new();
    for step in 0..2_000 {
        match step % 97 {
            0 => forecaster.observe_gap(3),
            1 => forecaster.observe(f64::NAN),
            _ => forecaster.observe(rng.observe(100.0 + f64::from(step % 300))),
        }
        if step % 50 == 0 {
            out += &text(forecaster.forecast());
        }
    }
    out + &text(&forecaster)
}

#[test]
fn replays_byte_for_byte() {
    assert_eq!(run(), run());
}

#[test]
fn a_checkpoint_at_every_tenth_step_changes_nothing() {
    let mut rng = Rng(10);
    let mut straight = Forecaster::new(spec(&[1_000, 10_000]));
    let mut stopped = straight.clone();
    for step in 0..600 {
        let value = rng.observe(50.0 + f64::from(step));
        straight.observe(value);
        if step % 10 == 0 {
            let text = serde_json::to_string(&stopped).unwrap();
            stopped = serde_json::from_str(&text).unwrap();
        }
        stopped.observe(value);
        assert_eq!(straight.forecast(), stopped.forecast(), "step {step}");
    }
}
