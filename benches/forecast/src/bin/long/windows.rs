//! The windows that every model is asked about: hourly history, and what followed.

use foreshadow_bench_forecast::Trace;
use serde::Serialize;

const HOUR_MS: u64 = 3_600_000;
/// Steps of the season that scores are relative to.
pub(crate) const DAY: usize = 24;
/// History a model sees at most: eight weeks.
pub(crate) const LONGEST_HISTORY: usize = 8 * 7 * DAY;
/// Horizons in hours, and the history a window must have at least: a day is asked of those who saw
/// a week, a week of those who saw two.
pub(crate) const HORIZONS: [(usize, usize); 2] = [(DAY, 7 * DAY), (7 * DAY, 14 * DAY)];

/// One question.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Window {
    pub(crate) id: usize,
    #[serde(skip)]
    pub(crate) series: String,
    pub(crate) start_ms: u64,
    pub(crate) step_ms: u64,
    pub(crate) season: usize,
    pub(crate) horizon: usize,
    pub(crate) history: Vec<Option<f64>>,
    #[serde(skip)]
    pub(crate) actual: Vec<Option<f64>>,
}

/// The traces that can be hourly, as such.
pub(crate) fn hourly(traces: &[Trace]) -> Vec<Trace> {
    let divides =
        |trace: &&Trace| trace.step_ms <= HOUR_MS && HOUR_MS.is_multiple_of(trace.step_ms);
    let coarse = |trace: &Trace| trace.coarser((HOUR_MS / trace.step_ms) as usize);
    traces.iter().filter(divides).map(coarse).collect()
}

/// Up to so many windows per series and horizon, evenly spread; the first window of every series
/// comes before the second of any.
pub(crate) fn windows(traces: &[Trace], per_series: [usize; 2]) -> Vec<Window> {
    let mut rounds: Vec<(usize, Window)> = vec![];
    for trace in traces {
        for ((horizon, least), wanted) in HORIZONS.into_iter().zip(per_series) {
            let Some(room) = trace.values.len().checked_sub(least + horizon) else { continue };
            // At least half a day apart, so that short series do not repeat themselves.
            let count = wanted.min(room / (DAY / 2) + 1);
            for round in 0..count {
                let origin = least + (room * (round + 1)).div_ceil(count).min(room);
                rounds.push((round, window(trace, origin, horizon)));
            }
        }
    }
    rounds.sort_by_key(|(round, _)| *round);
    let numbered = rounds.into_iter().enumerate();
    numbered.map(|(id, (_, window))| Window { id, ..window }).collect()
}

fn window(trace: &Trace, origin: usize, horizon: usize) -> Window {
    let first = origin.saturating_sub(LONGEST_HISTORY);
    Window {
        id: 0,
        series: trace.name.clone(),
        start_ms: trace.start_ms.max(0) as u64 + first as u64 * trace.step_ms,
        step_ms: trace.step_ms,
        season: DAY,
        horizon,
        history: trace.values[first..origin].to_vec(),
        actual: trace.values[origin..origin + horizon].to_vec(),
    }
}
