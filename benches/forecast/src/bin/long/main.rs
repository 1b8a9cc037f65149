//! Long horizons on recorded traces: relative MASE and WQL beside the libraries that people use,
//! on the same windows, and what a refit costs. Prints one JSON object.
#![expect(clippy::print_stdout, reason = "the result is the purpose of this program")]

mod peers;
mod score;
mod windows;

use std::collections::BTreeMap;
use std::time::Instant;

use foreshadow_bench_forecast::{Spent, Trace, load_or_make, thread_cpu_ms};
use foreshadow_predictor::long::{FitError, History, LongSpec, Model};
use serde_json::{Value, json};

use score::{LEVELS, Quantiles, Scores};
use windows::{HORIZONS, LONGEST_HISTORY, Window};

const OURS: &str = "foreshadow";
const BASE: &str = "SeasonalNaive";
/// Windows per series at each horizon.
const WINDOWS: [usize; 2] = [8, 5];
/// Each fit is repeated so many times.
const REPEATS: usize = 31;
const FINER_REPEATS: usize = 9;
/// The bar for each horizon: relative MASE, relative WQL.
const GOALS: [[f64; 2]; 2] = [[0.84, 0.70], [0.90, 0.80]];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (recorded, which) = load_or_make()?;
    let with_peers = !std::env::args().any(|argument| argument == "--no-peers");
    let windows = windows::windows(&windows::hourly(&recorded), WINDOWS);
    let peers = if with_peers { peers::run(&windows)? } else { peers::Outcome::default() };

    let (mut scores, mut milliseconds) = (Scores::default(), BTreeMap::new());
    for window in windows.iter().filter(|window| peers.answered(window.id)) {
        scores.add(window, BASE, &score::seasonal_naive(window));
        let started = Instant::now();
        scores.add(window, OURS, &ours(window)?);
        let spent: &mut Vec<f64> = milliseconds.entry(OURS.to_owned()).or_default();
        spent.push(started.elapsed().as_secs_f64() * 1e3);
    }
    for answer in &peers.answers {
        if let Some(window) = windows.get(answer.id) {
            scores.add(window, &answer.model, &answer.quantiles);
            milliseconds.entry(answer.model.clone()).or_default().push(answer.ms);
        }
    }
    let horizons: Vec<Value> = HORIZONS
        .iter()
        .zip(GOALS)
        .map(|((hours, _), goals)| horizon(&scores, *hours, goals))
        .collect();
    let median = |spent: &mut Vec<f64>| {
        spent.sort_unstable_by(f64::total_cmp);
        spent[spent.len() / 2]
    };
    let cost: BTreeMap<String, f64> =
        milliseconds.iter_mut().map(|(model, spent)| (model.clone(), median(spent))).collect();
    let result = json!({
        "bench": "long",
        "traces": which,
        "long": horizons,
        "windows": peers.note(windows.len()),
        "median_ms_per_forecast": cost,
        "refit_ms_8_weeks_hourly": refit(&windows)?,
        "refit_ms_finer": finer(&recorded)?,
        "peers_missing": peers.missing,
        "peers_failed": peers.failed,
    });
    println!("{}", serde_json::to_string_pretty(&result)?);
    Ok(())
}

/// What a fit costs for histories in minutes and quarters of an hour, with a week ahead, for the
/// first trace that has them.
fn finer(traces: &[Trace]) -> Result<Value, FitError> {
    let Some(trace) = traces.iter().find(|trace| trace.step_ms == 60_000) else {
        return Ok(Value::Null);
    };
    let mut by_step = BTreeMap::new();
    for minutes in [1, 15] {
        let trace = trace.coarser(minutes);
        let history = History {
            start_ms: trace.start_ms.max(0) as u64,
            step_ms: trace.step_ms,
            values: trace.values,
        };
        let spec = LongSpec { horizon_ms: 7 * 24 * 3_600_000, ..LongSpec::default() };
        let mut spent = vec![];
        for _ in 0..FINER_REPEATS {
            let before = thread_cpu_ms();
            std::hint::black_box(Model::fit(&history, &spec, &[], &[])?);
            spent.push(thread_cpu_ms() - before);
        }
        let steps = format!("{} steps of {minutes} min", history.values.len());
        by_step.insert(steps, Spent::of(&spent));
    }
    Ok(json!(by_step))
}

fn horizon(scores: &Scores, hours: usize, [mase, wql]: [f64; 2]) -> Value {
    let models = scores.summaries(hours, BASE);
    let met = models.get(OURS).map(|ours| ours.relative_mase <= mase && ours.relative_wql <= wql);
    json!({"horizon_h": hours, "goal": {"relative_mase": mase, "relative_wql": wql}, "met": met, "models": models})
}

fn history(window: &Window) -> History {
    History { start_ms: window.start_ms, step_ms: window.step_ms, values: window.history.clone() }
}

fn spec(window: &Window) -> LongSpec {
    LongSpec {
        levels: LEVELS.to_vec(),
        horizon_ms: window.horizon as u64 * window.step_ms,
        ..LongSpec::default()
    }
}

fn ours(window: &Window) -> Result<Quantiles, FitError> {
    let model = Model::fit(&history(window), &spec(window), &[], &[])?;
    let forecast = model.forecast(model.origin_ms(), window.horizon);
    let level = |level: usize| forecast.quantiles.iter().map(|row| row[level]).collect();
    Ok((0..LEVELS.len()).map(level).collect())
}

/// What a fit alone costs for the longest histories, in milliseconds of one core: of each series and
/// horizon how its repeats spread, and of all of them. The goal is held against the median of the
/// dearest series.
fn refit(windows: &[Window]) -> Result<Value, FitError> {
    let mut by_series: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for window in windows.iter().filter(|w| w.history.len() == LONGEST_HISTORY) {
        let (history, spec) = (history(window), spec(window));
        let spent = by_series.entry(format!("{} {} h", window.series, window.horizon)).or_default();
        for _ in 0..REPEATS {
            let before = thread_cpu_ms();
            std::hint::black_box(Model::fit(&history, &spec, &[], &[])?);
            spent.push(thread_cpu_ms() - before);
        }
    }
    let all = Spent::of(&by_series.values().flatten().copied().collect::<Vec<f64>>());
    let by_series: BTreeMap<String, Spent> =
        by_series.iter().map(|(series, spent)| (series.clone(), Spent::of(spent))).collect();
    let worst = by_series.values().map(|spent| spent.p50_ms).fold(0.0, f64::max);
    Ok(json!({
        "goal": 1.0,
        "worst_series_p50_ms": worst,
        "met": worst <= 1.0,
        "all": all,
        "by_series": by_series,
    }))
}
