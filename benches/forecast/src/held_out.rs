//! Thresholds that are chosen on all series but the one they are tried on: kept as they are, and
//! steered by false alarms as these become known.

use serde::Serialize;

use crate::episodes::{Figures, Matching, figures, quartiles};
use crate::level::AlarmLevel;

/// How far, as a logarithm, a threshold is steered at most.
const LEAST_ADDED: f64 = -1.6;
const MOST_ADDED: f64 = 2.0;

/// Thresholds tried: so many ranks of the highest quarter of all scores.
const LEVELS: usize = 250;

/// What one detector makes of one series.
pub struct Scored<'a> {
    /// One score per step, none where nothing is said.
    pub scores: &'a [Option<f64>],
    /// Labelled spans of steps, first and one past the last.
    pub spans: &'a [(usize, usize)],
    /// Length of a step.
    pub step_ms: u64,
    /// How alarms are matched with labels.
    pub matching: Matching,
}

/// What is found of all series, each at the threshold that finds most in the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// False alarms per series and day that the others were allowed, on average.
    pub wanted_false_per_day: f64,
    /// Labelled spans.
    pub labels: usize,
    /// At that threshold.
    pub kept: Found,
    /// At one that begins there, rises with every false alarm once it is known to be one, and falls
    /// with time.
    pub steered: Found,
}

/// What is found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Labelled spans.
    pub found: usize,
    /// The same of each series.
    pub by_series: Vec<usize>,
    /// False alarms per day, averaged over series.
    pub false_per_day: f64,
    /// The same of each series.
    pub false_per_day_by_series: Vec<f64>,
    /// Quartiles of first step of the label minus first step of the alarm.
    pub lead_s: Option<[f64; 3]>,
}

impl Found {
    fn of(figures: &[Figures]) -> Self {
        let mut leads_s: Vec<f64> = figures.iter().flat_map(|f| f.leads_s.clone()).collect();
        leads_s.sort_by(f64::total_cmp);
        let rates: Vec<f64> = figures.iter().map(|f| f.false_per_day).collect();
        Self {
            found: figures.iter().map(|f| f.found).sum(),
            by_series: figures.iter().map(|f| f.found).collect(),
            false_per_day: rates.iter().sum::<f64>() / rates.len().max(1) as f64,
            false_per_day_by_series: rates,
            lead_s: quartiles(&leads_s),
        }
    }
}

/// Tries a detector on every series at one threshold for all others; at each rate of false alarms.
pub fn held_out(series: &[Scored<'_>], rates: &[f64]) -> Vec<HeldOut> {
    let levels = levels(series);
    let at = |one: &Scored<'_>, level: &f64| {
        figures(one.scores, one.spans, one.step_ms, one.matching, Some(*level))
    };
    let all: Vec<Vec<Figures>> =
        series.iter().map(|one| levels.iter().map(|level| at(one, level)).collect()).collect();
    let at_rate = |rate: &f64| {
        let (mut kept, mut now_steered) = (vec![], vec![]);
        for (held, one) in series.iter().enumerate() {
            let Some(nth) = best_of_others(&all, held, *rate) else { continue };
            kept.push(all[held][nth].clone());
            let steered = steered(one, levels[nth], *rate);
            now_steered.push(figures(&steered, one.spans, one.step_ms, one.matching, Some(1.0)));
        }
        HeldOut {
            wanted_false_per_day: *rate,
            labels: series.iter().map(|one| one.spans.len()).sum(),
            kept: Found::of(&kept),
            steered: Found::of(&now_steered),
        }
    };
    rates.iter().map(at_rate).collect()
}

/// The threshold that finds most in all series but one while their false alarms keep the rate on
/// average; of equals the highest, which alarms least.
fn best_of_others(all: &[Vec<Figures>], held: usize, rate: f64) -> Option<usize> {
    let others = || all.iter().enumerate().filter(|(at, _)| *at != held).map(|(_, one)| one);
    let count = others().count().max(1) as f64;
    let found = |level: usize| others().map(|one| one[level].found).sum::<usize>();
    let false_per_day =
        |level: usize| others().map(|one| one[level].false_per_day).sum::<f64>() / count;
    let levels = 0..all.get(held)?.len();
    let keeps = levels.clone().filter(|level| false_per_day(*level) <= rate);
    let best = keeps.max_by(|a, b| found(*a).cmp(&found(*b)).then(b.cmp(a)));
    best.or(levels.min())
}

/// Scores relative to a threshold that is steered. Whether an alarm was false is known when the time is
/// over in which a failure would have made it true.
fn steered(one: &Scored<'_>, threshold: f64, rate: f64) -> Vec<Option<f64>> {
    let mut level = AlarmLevel::new(LEAST_ADDED, MOST_ADDED);
    let Matching { merge, lead, after } = one.matching;
    let is_true = |alarm: usize| {
        one.spans.iter().any(|(start, end)| alarm + lead >= *start && alarm < end + after)
    };
    let mut relative = vec![];
    let (mut last, mut open) = (None::<usize>, std::collections::VecDeque::<usize>::new());
    for (at, score) in one.scores.iter().enumerate() {
        while open.front().is_some_and(|alarm| at > alarm + lead + after) {
            if open.pop_front().is_some_and(|alarm| !is_true(alarm)) {
                level.false_alarm();
            }
        }
        let now = score.map(|score| score / (threshold * level.added().exp()));
        if now.is_some() {
            level.pass(one.step_ms, rate);
        }
        if now.is_some_and(|now| now >= 1.0) {
            if last.is_none_or(|last| at - last > merge) {
                open.push_back(at);
            }
            last = Some(at);
        }
        relative.push(now);
    }
    relative
}

/// Ranks of all scores of all series, the highest first and the closer to each other.
fn levels(series: &[Scored<'_>]) -> Vec<f64> {
    let mut scores: Vec<f64> =
        series.iter().flat_map(|one| one.scores).flatten().copied().collect();
    scores.retain(|score| score.is_finite());
    scores.sort_by(|a, b| b.total_cmp(a));
    let last = (scores.len() / 4) as f64;
    let rank = |nth: usize| (last.powf(nth as f64 / LEVELS as f64) - 1.0) as usize;
    let mut levels: Vec<f64> =
        (0..=LEVELS).filter_map(|nth| scores.get(rank(nth))).copied().collect();
    levels.dedup();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_never_sees_the_series_it_is_tried_on() {
        let matching = Matching { merge: 1, lead: 2, after: 0 };
        // Failures at 30 in both; in the second everything is ten times as loud.
        let scores = |factor: f64| -> Vec<Option<f64>> {
            let score = |at: usize| factor * if at == 30 { 5.0 } else { 1.0 + at as f64 / 100.0 };
            (0..48).map(|at| Some(score(at))).collect()
        };
        let (quiet, loud, spans) = (scores(1.0), scores(10.0), [(30, 31)]);
        let one = |scores| Scored { scores, spans: &spans, step_ms: 3_600_000, matching };
        let same = &held_out(&[one(&quiet), one(&quiet)], &[0.1])[0];
        assert_eq!((same.kept.found, same.labels, same.kept.false_per_day), (2, 2, 0.0));
        let differing = &held_out(&[one(&quiet), one(&loud)], &[0.1])[0];
        assert_eq!(differing.kept.by_series[0], 0, "{differing:?}");
    }

    #[test]
    fn a_steered_threshold_rises_with_false_alarms() {
        let matching = Matching { merge: 1, lead: 2, after: 0 };
        let scores: Vec<Option<f64>> =
            (0..400).map(|at| Some(if at % 10 == 0 { 2.0 } else { 0.0 })).collect();
        let one = Scored { scores: &scores, spans: &[], step_ms: 3_600_000, matching };
        let relative = steered(&one, 1.0, 0.1);
        let alarms = relative.iter().flatten().filter(|now| **now >= 1.0).count();
        // Of 40 in 17 days three are allowed, and so many are needed to raise it beyond 2.
        assert!((3..=6).contains(&alarms), "{alarms}");
    }
}
