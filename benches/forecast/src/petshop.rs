//! Faults injected into an application of 41 components, with the component at fault known.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use foreshadow_control::risk::{Drift, DriftSpec};
use serde::Serialize;

use crate::parse::TraceError;

/// Length of a step.
const STEP_MS: u64 = 300_000;
/// One value at a time against the whole of the recording without faults, whose series have heavy
/// tails and no peers. Half a percent, of latency or of requests, is the least that counts, for the
/// simple detector too.
const SPEC: DriftSpec = DriftSpec { block: 1, past: 600, least_spread: 0.005, heeds_tails: true };
/// Steps of a window: two to know the present level by, and four that are judged.
const LEVEL: usize = 2;
const JUDGED: usize = 4;
/// A tar archive is made of blocks of so many bytes (POSIX.1-1988, ustar).
const TAR_BLOCK: usize = 512;

/// Values of one component's metric by step.
type Metrics = BTreeMap<(String, String), Vec<Option<f64>>>;

/// One fault.
struct Fault {
    scenario: String,
    root: String,
    target: String,
    /// Rows of the recording that are before it.
    before: usize,
    metrics: Metrics,
}

/// What is found of the faults.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PetshopFigures {
    /// Which detector.
    pub detector: &'static str,
    /// Alarms without a fault, per series and day, that are allowed.
    pub false_per_series_day: f64,
    /// The score from which it alarms.
    pub threshold: f64,
    /// Faults in all.
    pub faults: usize,
    /// Faults at which the component at fault alarms.
    pub root_found: usize,
    /// Faults at which the component whose objective is missed alarms.
    pub target_found: usize,
    /// Faults at which the component at fault has the highest, or one of the three highest, scores.
    pub root_first: usize,
    /// One of the three highest.
    pub root_in_three: usize,
    /// Faults of which the component at fault has no metric at all.
    pub root_unseen: usize,
    /// Median time from the fault to the end of the step that alarmed.
    pub median_delay_s: Option<f64>,
}

/// Both detectors at each rate of false alarms; empty without the archive.
///
/// # Errors
///
/// [`TraceError`] when the archive is there and cannot be read.
pub fn petshop(dir: &Path, rates: &[f64]) -> Result<Vec<PetshopFigures>, TraceError> {
    let path = dir.join("petshop.tar.gz");
    if !path.is_file() {
        return Ok(vec![]);
    }
    let failed = |source| TraceError::Read { path: path.clone(), source };
    let mut bytes = vec![];
    let file = std::fs::File::open(&path).map_err(failed)?;
    GzDecoder::new(file).read_to_end(&mut bytes).map_err(failed)?;
    let files = untar(&bytes);
    let quiet = quiet(&files);
    let (faults, pasts) = (faults(&files), pasts(&quiet));
    let detectors: [(&'static str, Score); 3] =
        [("control_chart", level_score), ("live_past_only", drift_score), ("live", change_score)];
    let mut all = vec![];
    for (name, score) in detectors {
        let calm = calm_scores(&quiet, score);
        for rate in rates {
            all.push(found(name, *rate, &calm, &faults, &pasts, score));
        }
    }
    Ok(all)
}

fn untar(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + TAR_BLOCK) {
        let text = |from: usize, to: usize| {
            let field = header[from..to].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap_or(0);
        let body = bytes.get(at + TAR_BLOCK..at + TAR_BLOCK + size).unwrap_or_default();
        let name = text(0, 100);
        files.insert(name, String::from_utf8_lossy(body).into_owned());
        at += TAR_BLOCK * (1 + size.div_ceil(TAR_BLOCK));
    }
    files
}

/// The metrics that tell of failures, larger being worse: latencies, and what is unavailable.
fn metrics(text: &str) -> (Vec<f64>, Metrics) {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let mut metrics = Metrics::new();
    let Some((head, rows)) = lines.split_at_checked(3) else { return (vec![], metrics) };
    let rows: Vec<&Vec<&str>> = rows.iter().filter(|row| row[0].parse::<f64>().is_ok()).collect();
    let times = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    for (column, kind) in head[1].iter().enumerate() {
        let statistic = head[2].get(column).copied().unwrap_or_default();
        let worse: fn(f64) -> f64 = match (*kind, statistic) {
            ("latency", "Average" | "p90") => |v| (v.max(0.0) + 1e-4).ln(),
            ("availability", _) => |v| (100.0 - v).max(0.0) / 100.0,
            _ => continue,
        };
        let value = |row: &&Vec<&str>| row.get(column)?.parse().ok().map(worse);
        let name = (head[0][column].to_owned(), format!("{kind} {statistic}"));
        metrics.insert(name, rows.iter().map(value).collect());
    }
    (times, metrics)
}

fn scenario(path: &str) -> Option<&str> {
    path.trim_start_matches("./").split('/').nth(1)
}

/// Recordings without faults, by scenario.
fn quiet(files: &BTreeMap<String, String>) -> BTreeMap<String, Metrics> {
    let quiet = files.iter().filter(|(path, _)| path.ends_with("noissue/metrics.csv"));
    quiet.filter_map(|(path, text)| Some((scenario(path)?.to_owned(), metrics(text).1))).collect()
}

fn faults(files: &BTreeMap<String, String>) -> Vec<Fault> {
    let mut faults = vec![];
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with("target.json")) {
        let recording = files.get(&path.replace("target.json", "metrics.csv"));
        let told: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let (Some(recording), Some(told)) = (recording, told) else { continue };
        let (times, metrics) = metrics(recording);
        let at_s = told["target"]["timestamp"].as_f64().unwrap_or(0.0);
        // A step is named by its start: the one the fault falls into is the first that has it.
        let before = times.iter().filter(|time| **time + STEP_MS as f64 / 1_000.0 <= at_s).count();
        let name = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        faults.push(Fault {
            scenario: scenario(path).unwrap_or_default().to_owned(),
            root: name(&told["root_cause"]["node"]),
            target: name(&told["target"]["node"]),
            before,
            metrics,
        });
    }
    faults
}

/// What is known of a series without faults, to both detectors.
struct Past {
    drift: Drift,
    mean: f64,
    deviation: f64,
}

impl Past {
    fn of(values: &[f64]) -> Self {
        let mut drift = Drift::new(SPEC);
        values.iter().for_each(|value| drift.observe(*value));
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        Self { drift, mean, deviation: variance.sqrt().max(SPEC.least_spread) }
    }
}

/// Scores of a window's judged steps.
type Score = fn(past: &Past, level: &[f64], judged: &[Option<f64>]) -> Vec<f64>;
/// The past of every series, by scenario.
type Pasts = BTreeMap<String, BTreeMap<(String, String), Past>>;

/// Scenarios that have no recording without faults are judged by those of the others.
const OTHERS: &str = "";

fn pasts(quiet: &BTreeMap<String, Metrics>) -> Pasts {
    let known = |values: &[Option<f64>]| values.iter().copied().flatten().collect::<Vec<f64>>();
    let mut pasts = Pasts::new();
    let mut all: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for (scenario, metrics) in quiet {
        for (name, values) in metrics {
            let values = known(values);
            all.entry(name.clone()).or_default().extend(&values);
            let own = pasts.entry(scenario.clone()).or_default();
            own.insert(name.clone(), Past::of(&values));
        }
    }
    let others = all.into_iter().map(|(name, values)| (name, Past::of(&values)));
    pasts.insert(OTHERS.to_owned(), others.collect());
    pasts
}

/// The live detector.
fn drift_score(past: &Past, _level: &[f64], judged: &[Option<f64>]) -> Vec<f64> {
    spreads(past, 0.0, judged)
}

/// The same, less what the level just before differs from the past by.
fn change_score(past: &Past, level: &[f64], judged: &[Option<f64>]) -> Vec<f64> {
    let mut level = level.to_vec();
    level.sort_by(f64::total_cmp);
    let usual = past.drift.usual().unwrap_or(0.0);
    let shift = level.get(level.len() / 2).map_or(0.0, |now| now - usual);
    spreads(past, shift, judged)
}

fn spreads(past: &Past, shared: f64, judged: &[Option<f64>]) -> Vec<f64> {
    let score = |value: &Option<f64>| {
        let mut drift = past.drift.clone();
        drift.observe((*value)?);
        Some(drift.deviation()?.beyond(shared).spreads)
    };
    judged.iter().map(|value| score(value).unwrap_or(0.0)).collect()
}

/// The simple one: standard deviations above the mean of the past.
fn level_score(past: &Past, _level: &[f64], judged: &[Option<f64>]) -> Vec<f64> {
    let score = |value: f64| (value - past.mean) / past.deviation;
    judged.iter().map(|value| value.map_or(0.0, score)).collect()
}

/// The highest score of every window without a fault, over all series: the first half of each is
/// the past, the second is judged.
fn calm_scores(quiet: &BTreeMap<String, Metrics>, score: Score) -> Vec<f64> {
    let mut highest = vec![];
    for values in quiet.values().flat_map(BTreeMap::values) {
        let (past, later) = values.split_at(values.len() / 2);
        let past = Past::of(&past.iter().copied().flatten().collect::<Vec<f64>>());
        for window in later.chunks_exact(LEVEL + JUDGED) {
            let level: Vec<f64> = window[..LEVEL].iter().copied().flatten().collect();
            let scores = score(&past, &level, &window[LEVEL..]);
            highest.push(scores.into_iter().fold(0.0, f64::max));
        }
    }
    highest.sort_by(|a, b| b.total_cmp(a));
    highest
}

fn found(
    detector: &'static str,
    rate: f64,
    calm: &[f64],
    faults: &[Fault],
    pasts: &Pasts,
    score: Score,
) -> PetshopFigures {
    let windows_a_day = 86_400_000.0 / ((LEVEL + JUDGED) as f64 * STEP_MS as f64);
    let allowed = (rate / windows_a_day * calm.len() as f64) as usize;
    let threshold = calm.get(allowed).copied().unwrap_or(0.0).max(f64::MIN_POSITIVE);
    let mut figures = PetshopFigures {
        detector,
        false_per_series_day: rate,
        threshold,
        faults: faults.len(),
        root_found: 0,
        target_found: 0,
        root_first: 0,
        root_in_three: 0,
        root_unseen: 0,
        median_delay_s: None,
    };
    let mut delays_s = vec![];
    for fault in faults {
        let scores = component_scores(fault, pasts, score);
        let alarm = |name: &str| {
            scores.get(name).and_then(|steps| steps.iter().position(|score| *score > threshold))
        };
        figures.target_found += usize::from(alarm(&fault.target).is_some());
        if let Some(step) = alarm(&fault.root) {
            figures.root_found += 1;
            delays_s.push((step + 1) as f64 * STEP_MS as f64 / 1_000.0);
        }
        let Some(own) = scores.get(&fault.root).map(|steps| highest(steps)) else {
            figures.root_unseen += 1;
            continue;
        };
        let above = scores.values().filter(|steps| highest(steps) > own).count();
        figures.root_first += usize::from(above == 0 && own > 0.0);
        figures.root_in_three += usize::from(above < 3 && own > 0.0);
    }
    delays_s.sort_by(f64::total_cmp);
    figures.median_delay_s = delays_s.get(delays_s.len() / 2).copied();
    figures
}

fn highest(steps: &[f64]) -> f64 {
    steps.iter().copied().fold(0.0, f64::max)
}

/// Scores by step since the fault of every component: the highest of its metrics.
fn component_scores(fault: &Fault, pasts: &Pasts, score: Score) -> BTreeMap<String, Vec<f64>> {
    let mut components: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let Some(own) = pasts.get(&fault.scenario).or_else(|| pasts.get(OTHERS)) else {
        return components;
    };
    for (name, values) in &fault.metrics {
        let Some(past) = own.get(name) else { continue };
        let (before, after) = values.split_at(fault.before.min(values.len()));
        let level: Vec<f64> = before.iter().copied().flatten().collect();
        let level = &level[level.len().saturating_sub(LEVEL)..];
        let judged = &after[..after.len().min(JUDGED)];
        let scores = score(past, level, judged);
        let steps = components.entry(name.0.clone()).or_default();
        steps.resize(steps.len().max(scores.len()), 0.0);
        steps.iter_mut().zip(scores).for_each(|(step, score)| *step = step.max(score));
    }
    components
}
