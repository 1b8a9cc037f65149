//! Cost of forecasting many series in one tick on one core, as JSON on standard output.
//!
//! 5,000 series of 100 ms steps, 4 horizons, 5 levels and a daily season each; every tick feeds all
//! of them and reads one quantile of each. The time is that of the thread's processor, so that other
//! work of the machine is not counted; the time that passed stands beside it.
#![expect(clippy::print_stdout, reason = "the figures are the purpose of this program")]

use std::hint::black_box;
use std::time::Instant;

use foreshadow_bench_forecast::{Spent, thread_cpu_ms};
use foreshadow_predictor::{Forecaster, SeriesSpec};
use serde_json::json;

const SERIES: usize = 5_000;
/// So many are fed until everything that fills up is full, each on its own; all others begin as one of
/// them.
const MODELS: usize = 100;
const WARM_UP_TICKS: usize = 6_000;
const TICKS: usize = 400;
const MOST_P99_MS: f64 = 25.0;

fn main() {
    let spec = SeriesSpec {
        step_ms: 100,
        horizons_ms: vec![1_000, 5_000, 30_000, 120_000],
        levels: vec![0.05, 0.25, 0.5, 0.75, 0.95],
        seasons_ms: vec![86_400_000],
    };
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 57) as f64 * 10.0
    };
    // As the controller makes them for its services: each with another turn.
    let of_turn = |turn| Forecaster::new(spec.clone()).in_turn(turn);
    let mut models: Vec<Forecaster> = (0..MODELS as u64).map(of_turn).collect();
    for model in &mut models {
        (0..WARM_UP_TICKS).for_each(|_| model.observe(next()));
    }
    let mut series: Vec<Forecaster> = models.iter().cycle().take(SERIES).cloned().collect();
    let (mut cpu_ms, mut wall_ms) = (vec![], vec![]);
    for _ in 0..TICKS {
        let (started, cpu_before) = (Instant::now(), thread_cpu_ms());
        for forecaster in &mut series {
            forecaster.observe(next());
            black_box(forecaster.forecast().quantile(2_000, 0.5));
        }
        cpu_ms.push(thread_cpu_ms() - cpu_before);
        wall_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = Spent::of(&cpu_ms);
    let figures = json!({
        "bench": "scale",
        "series": SERIES,
        "horizons": 4,
        "tick_cpu": cpu,
        "tick_wall": Spent::of(&wall_ms),
        "us_per_series_p50": cpu.p50_ms * 1e3 / SERIES as f64,
        "bytes_per_series": series[0].memory_bytes(),
        "targets": [{
            "what": "p99 of a tick in ms of one core",
            "wanted": format!("at most {MOST_P99_MS}"),
            "is": cpu.p99_ms,
            "met": cpu.p99_ms <= MOST_P99_MS,
        }],
    });
    println!("{figures:#}");
}
