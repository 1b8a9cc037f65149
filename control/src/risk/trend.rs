//! When a resource is used up, by a robust straight line through what was used lately.
//!
//! The slope is the median of the slopes of all pairs (Theil 1950; Sen 1968), so that a garbage
//! collection now and then does not hide a leak and a single jump does not look like one. Its
//! interval follows from the distribution of Kendall's statistic (Sen 1968, section 4). Samples
//! that follow each other are no independent ones, so the interval is narrower than it claims.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::robust::NORMAL_95;

/// Distance of the samples kept.
const SAMPLE_MS: u64 = 5_000;
/// Samples kept: 200 s, which is told from noise within a horizon of 300 s.
const SAMPLES: usize = 40;
/// Samples below which no trend is told.
const LEAST: usize = 8;

/// Use of one resource over time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trend {
    /// Time and amount used, oldest first.
    samples: VecDeque<(u64, f64)>,
    line: Option<Line>,
}

/// Growth per millisecond and its 90 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// By all pairs, or by the pairs of the newer half if that is less: what levels off is no leak.
    pub slope: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Trend {
    /// Takes the amount used at a time; one in 5 s is kept. What is no finite number, or older
    /// than the last, is left out. An amount halved at once is another instance's: it starts anew.
    pub fn observe(&mut self, at_ms: u64, used: f64) {
        if !used.is_finite() || used < 0.0 {
            return;
        }
        if let Some((last_ms, last)) = self.samples.back().copied() {
            if at_ms < last_ms.saturating_add(SAMPLE_MS) {
                return;
            }
            if used < 0.5 * last {
                self.samples.clear();
            }
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at_ms, used));
        self.line = line(self.samples.make_contiguous());
    }

    /// The line through the samples, once there are eight.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.line
    }
}

fn line(samples: &[(u64, f64)]) -> Option<Line> {
    if samples.len() < LEAST {
        return None;
    }
    let mut all = slopes(samples);
    let mut newer = slopes(&samples[samples.len() / 2..]);
    let n = samples.len() as f64;
    let spread = NORMAL_95 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let pairs = all.len() as f64;
    let lower = ranked(&mut all, (pairs - spread) / 2.0)?;
    let upper = ranked(&mut all, (pairs + spread) / 2.0)?;
    let slope = ranked(&mut all, pairs / 2.0)?;
    let newest = newer.len() as f64 / 2.0;
    let slope = slope.min(ranked(&mut newer, newest)?);
    Some(Line { slope, lower: lower.min(slope), upper: upper.max(slope) })
}

fn slopes(samples: &[(u64, f64)]) -> Vec<f64> {
    let mut slopes = Vec::with_capacity(samples.len() * samples.len() / 2);
    for (at, (from_ms, from)) in samples.iter().enumerate() {
        for (to_ms, to) in &samples[at + 1..] {
            slopes.push((to - from) / (to_ms - from_ms).max(1) as f64);
        }
    }
    slopes
}

fn ranked(values: &mut [f64], rank: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let rank = (rank.max(0.0) as usize).min(last);
    Some(*values.select_nth_unstable_by(rank, f64::total_cmp).1)
}

impl Line {
    /// Time until `left` more is used: by the line, at the soonest and, if that comes at all, at
    /// the latest. None when the line does not rise.
    #[must_use]
    pub fn time_left_ms(&self, left: f64) -> Option<(f64, f64, Option<f64>)> {
        let left = left.max(0.0);
        let time = |slope: f64| (slope > 0.0).then(|| left / slope).filter(|ms| ms.is_finite());
        Some((time(self.slope)?, time(self.upper)?, time(self.lower)))
    }

    /// Part of the interval that uses `left` up within `within_ms`, 0 to 1; 0 where the interval
    /// allows that nothing grows.
    #[must_use]
    pub fn exhausts_within(&self, left: f64, within_ms: f64) -> f64 {
        let needed = left.max(0.0) / within_ms.max(1.0);
        if self.lower.is_nan() || self.lower <= 0.0 {
            return 0.0;
        }
        let width = self.upper - self.lower;
        if width <= f64::MIN_POSITIVE {
            return f64::from(u8::from(self.upper >= needed));
        }
        // The middle counts as half of it, whichever way the interval leans.
        if needed <= self.slope {
            let below = (self.slope - self.lower).max(f64::MIN_POSITIVE);
            0.5 + 0.5 * ((self.slope - needed) / below).clamp(0.0, 1.0)
        } else {
            let above = (self.upper - self.slope).max(f64::MIN_POSITIVE);
            0.5 * ((self.upper - needed) / above).clamp(0.0, 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(samples: u64, used: impl Fn(u64) -> f64) -> Trend {
        let mut trend = Trend::default();
        (0..samples).for_each(|n| trend.observe(n * SAMPLE_MS, used(n)));
        trend
    }

    #[test]
    fn a_leak_under_a_sawtooth_is_found() {
        let line = fed(40, |n| 500.0 + 2.0 * n as f64 + 10.0 * (n % 4) as f64).line().unwrap();
        let per_sample = line.slope * SAMPLE_MS as f64;
        assert!((per_sample - 2.0).abs() < 0.3, "{per_sample}");
        assert!(
            line.lower > 0.0 && line.lower <= line.slope && line.slope < line.upper,
            "{line:?}"
        );
        let (likely, soonest, latest) = line.time_left_ms(100.0).unwrap();
        assert!(soonest < likely && likely <= latest.unwrap());
        assert!((likely - 250_000.0).abs() < 40_000.0, "{likely}");
        assert!(line.exhausts_within(100.0, 2.0 * likely) > 0.9);
        assert!(line.exhausts_within(100.0, 0.5 * likely) < 0.1);
    }

    #[test]
    fn what_levels_off_or_only_wavers_is_no_leak() {
        let levelled = fed(40, |n| 100.0 + 10.0 * n.min(12) as f64).line().unwrap();
        assert_eq!(levelled.time_left_ms(10.0), None);
        let wavering = fed(40, |n| 100.0 + [3.0, -2.0, 1.0, -3.0, 2.0][n as usize % 5]);
        assert_eq!(wavering.line().unwrap().exhausts_within(10.0, 300_000.0), 0.0);
        assert_eq!(fed(7, |n| n as f64).line(), None);
    }

    #[test]
    fn a_restart_begins_a_new_line() {
        assert_eq!(fed(45, |n| if n < 40 { 1e9 + n as f64 * 1e7 } else { 1e6 }).line(), None);
    }

    #[test]
    fn nonsense_is_harmless() {
        let hostile = [f64::NAN, f64::MAX, -1.0, 0.0, f64::INFINITY, f64::MIN_POSITIVE, 1e308];
        let mut trend = fed(1_000, |n| hostile[n as usize % 7]);
        trend.observe(u64::MAX, 1.0);
        trend.observe(0, 1.0);
        if let Some(line) = trend.line() {
            assert!((0.0..=1.0).contains(&line.exhausts_within(f64::NAN, 1.0)));
        }
        assert!(trend.samples.len() <= SAMPLES);
    }
}
