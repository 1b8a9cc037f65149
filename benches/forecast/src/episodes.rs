//! From scores to alarms, and what alarms are worth at a given rate of false ones.

use serde::Serialize;

const DAY_MS: f64 = 86_400_000.0;

/// How alarms are matched with labels, in steps.
#[derive(Clone, Copy, Debug)]
pub struct Matching {
    /// Alarms no farther apart are one.
    pub merge: usize,
    /// An alarm so long before a label is a warning of it.
    pub lead: usize,
    /// An alarm that begins so soon after a label still belongs to it.
    pub after: usize,
}

/// What a detector does on one series at one threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The score from which it alarms; none when no score keeps the rate.
    pub threshold: Option<f64>,
    /// Labelled spans.
    pub labels: usize,
    /// Labelled spans with an alarm in them or shortly before.
    pub found: usize,
    /// The part found.
    pub recall: f64,
    /// Spans with an alarm before their first step.
    pub found_before: usize,
    /// Quartiles of the first step of the label minus that of the alarm, of those found; negative
    /// when the alarm came later.
    pub lead_s: Option<[f64; 3]>,
    /// All of these, smallest first.
    #[serde(skip)]
    pub leads_s: Vec<f64>,
    /// Alarms that belong to no label.
    pub false_alarms: usize,
    /// The same per day of the series.
    pub false_per_day: f64,
    /// Days that were scored.
    pub days: f64,
}

/// The threshold that finds most while false alarms stay at or under `most_per_day`.
pub fn at_rate(
    scores: &[Option<f64>],
    spans: &[(usize, usize)],
    step_ms: u64,
    matching: Matching,
    most_per_day: f64,
) -> Figures {
    let mut levels: Vec<f64> = scores.iter().copied().flatten().filter(|s| s.is_finite()).collect();
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    let mut best = figures(scores, spans, step_ms, matching, None);
    let mut nth = 0;
    // Lower thresholds than that of every fourth score alarm all the time.
    while nth < levels.len().div_ceil(4) {
        let now = figures(scores, spans, step_ms, matching, Some(levels[nth]));
        if now.false_per_day <= most_per_day && now.found > best.found {
            best = now;
        }
        nth += 1 + nth / 25;
    }
    best
}

/// What a threshold finds; without one nothing.
pub fn figures(
    scores: &[Option<f64>],
    spans: &[(usize, usize)],
    step_ms: u64,
    matching: Matching,
    threshold: Option<f64>,
) -> Figures {
    let level = threshold.unwrap_or(f64::INFINITY);
    let episodes = episodes(scores, level, matching.merge);
    let days = scores.iter().flatten().count() as f64 * step_ms as f64 / DAY_MS;
    let mut leads_s: Vec<f64> = vec![];
    let mut found_before = 0;
    let mut used = vec![false; episodes.len()];
    for (start, end) in spans {
        let (from, to) = (start.saturating_sub(matching.lead), end + matching.after);
        let mut first: Option<usize> = None;
        for (episode, used) in episodes.iter().zip(&mut used) {
            // One that began long before is no warning of this.
            if episode.0 >= from && episode.0 < to {
                *used = true;
                first = Some(first.map_or(episode.0, |first| first.min(episode.0)));
            }
        }
        if let Some(first) = first {
            found_before += usize::from(first < *start);
            leads_s.push((*start as f64 - first as f64) * step_ms as f64 / 1_000.0);
        }
    }
    leads_s.sort_by(f64::total_cmp);
    let false_alarms = used.iter().filter(|used| !**used).count();
    Figures {
        threshold,
        labels: spans.len(),
        found: leads_s.len(),
        recall: leads_s.len() as f64 / spans.len().max(1) as f64,
        found_before,
        lead_s: quartiles(&leads_s),
        leads_s,
        false_alarms,
        false_per_day: false_alarms as f64 / days.max(1e-9),
        days,
    }
}

/// Lower quartile, median and upper quartile of sorted values.
pub fn quartiles(sorted: &[f64]) -> Option<[f64; 3]> {
    let last = sorted.len().checked_sub(1)? as f64;
    Some([0.25, 0.5, 0.75].map(|part| sorted[(part * last).round() as usize]))
}

/// First and last steps of alarms.
fn episodes(scores: &[Option<f64>], threshold: f64, merge: usize) -> Vec<(usize, usize)> {
    let mut episodes: Vec<(usize, usize)> = vec![];
    for (at, score) in scores.iter().enumerate() {
        if score.is_none_or(|score| score < threshold) {
            continue;
        }
        match episodes.last_mut() {
            Some((_, last)) if at - *last <= merge => *last = at,
            _ => episodes.push((at, at)),
        }
    }
    episodes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATCHING: Matching = Matching { merge: 1, lead: 2, after: 0 };
    const HOUR_MS: u64 = 3_600_000;

    fn scores(high: &[usize]) -> Vec<Option<f64>> {
        (0..48).map(|at| Some(if high.contains(&at) { 5.0 } else { 1.0 })).collect()
    }

    #[test]
    fn alarms_in_and_shortly_before_labels_count_and_others_are_false() {
        let now =
            figures(&scores(&[3, 4, 20, 40]), &[(22, 25), (30, 31)], HOUR_MS, MATCHING, Some(5.0));
        assert_eq!((now.labels, now.found, now.found_before, now.false_alarms), (2, 1, 1, 2));
        assert_eq!((now.lead_s, now.false_per_day), (Some([7_200.0; 3]), 1.0));
    }

    #[test]
    fn the_rate_is_kept() {
        let spans = [(22, 25)];
        let strict = at_rate(&scores(&[3, 22]), &spans, HOUR_MS, MATCHING, 0.1);
        assert_eq!((strict.found, strict.threshold), (0, None));
        let lenient = at_rate(&scores(&[3, 22]), &spans, HOUR_MS, MATCHING, 0.6);
        assert_eq!((lenient.found, lenient.false_alarms), (1, 1));
    }
}
