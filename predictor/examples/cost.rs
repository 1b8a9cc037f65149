//! What one step of one series costs: `cargo run --release -p foreshadow-predictor --example cost`.
#![expect(clippy::print_stdout, reason = "the figures are the purpose of this program")]
#![expect(
    clippy::disallowed_methods,
    reason = "the cost of the pure code is measured from outside"
)]

use std::time::Instant;

use foreshadow_predictor::{Forecaster, SeriesSpec};

const SERIES: usize = 1_000;
const STEPS: usize = 300;

fn main() {
    let spec = SeriesSpec {
        step_ms: 100,
        horizons_ms: vec![1_000, 5_000, 30_000, 120_000],
        levels: vec![0.1, 0.25, 0.5, 0.75, 0.9],
        seasons_ms: vec![86_400_000],
    };
    let mut series = vec![Forecaster::new(spec); SERIES];
    let mut state = 1_u64;
    let mut sum = 0.0;
    let started = Instant::now();
    for _ in 0..STEPS {
        for forecaster in &mut series {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            forecaster.observe((state >> 57) as f64 * 10.0);
            sum += forecaster.forecast().quantile(2_000, 0.5);
        }
    }
    let each_us = started.elapsed().as_secs_f64() * 1e6 / (SERIES * STEPS) as f64;
    println!("{each_us:.2} us per step and series of 4 horizons and 5 levels");
    println!("{} bytes per series", series[0].memory_bytes());
    println!("(mean median {:.1} rps)", sum / (SERIES * STEPS) as f64);
}
