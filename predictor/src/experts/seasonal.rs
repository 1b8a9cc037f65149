//! Ratio to a seasonal profile.

use serde::{Deserialize, Serialize};

use super::{Now, Seen};
use crate::check::{self, Checked};

const MAX_BINS: u64 = 288;
const MIN_STEPS_PER_BIN: u64 = 8;
/// A new cycle weighs at least this much in a bin.
const MIN_GAIN: f64 = 0.25;
const RATIO_RANGE: (f64, f64) = (0.1, 10.0);

/// Level now times the ratio of the season's profile at the target to the profile now.
///
/// ```text
/// forecast = level x clamp(p(phase + k) / p(phase - lag), 1/10, 10)
/// ```
///
/// This is the seasonal relative of Holt & Winters' multiplicative method (Winters 1960,
/// "Forecasting Sales by Exponentially Weighted Moving Averages", Management Science 6): taking
/// the ratio of two points of the profile, rather than a point of it, keeps today's level and
/// needs no deseasonalised one. `p` is held in at most 288 bins, each the exponentially weighted
/// mean over past cycles, and read with triangular smoothing and linear interpolation. A phase
/// not yet seen has ratio 1: "same as now".
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seasonal {
    period_ms: u64,
    step_ms: u64,
    /// Where in the period the newest step is.
    phase_ms: u64,
    profile: Vec<f64>,
    /// Cycles seen per bin, saturating.
    cycles: Vec<u8>,
    bin: usize,
    bin_sum: f64,
    bin_steps: u64,
}

impl Seasonal {
    pub(crate) fn new(step_ms: u64, period_ms: u64) -> Self {
        let bins = (period_ms / step_ms / MIN_STEPS_PER_BIN).clamp(4, MAX_BINS) as usize;
        Self {
            period_ms,
            step_ms,
            phase_ms: 0,
            profile: vec![0.0; bins],
            cycles: vec![0; bins],
            bin: 0,
            bin_sum: 0.0,
            bin_steps: 0,
        }
    }

    pub(crate) fn observe(&mut self, seen: &Seen) {
        self.skip(1);
        self.bin_sum += seen.value;
        self.bin_steps += 1;
    }

    /// Lets `steps` steps pass unseen.
    pub(crate) fn skip(&mut self, steps: u64) {
        let passed = steps % self.period_ms * self.step_ms % self.period_ms;
        self.phase_ms = (self.phase_ms + passed) % self.period_ms;
        let bin = (self.position(self.phase_ms as f64) as usize).min(self.profile.len() - 1);
        if bin != self.bin {
            self.close_bin();
            self.bin = bin;
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("season of {} s", self.period_ms as f64 / 1_000.0)
    }

    /// Memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.profile) + size_of_val(&*self.cycles)
    }

    fn close_bin(&mut self) {
        if self.bin_steps > 0 {
            let mean = self.bin_sum / self.bin_steps as f64;
            let cycles = self.cycles[self.bin].saturating_add(1);
            let gain = (1.0 / f64::from(cycles)).max(MIN_GAIN);
            self.profile[self.bin] += gain * (mean - self.profile[self.bin]);
            self.cycles[self.bin] = cycles;
        }
        (self.bin_sum, self.bin_steps) = (0.0, 0);
    }

    pub(crate) fn predict(&self, now: Now, ahead: u64) -> f64 {
        let phase = self.phase_ms as f64;
        let here = self.read(phase - now.lag * self.step_ms as f64);
        let there = self.read(phase + ahead as f64 * self.step_ms as f64);
        match (here, there) {
            (Some(here), Some(there)) if here > 0.0 => {
                now.level * (there / here).clamp(RATIO_RANGE.0, RATIO_RANGE.1)
            }
            _ => now.level,
        }
    }

    /// The profile at a phase, which may lie outside the period; none where no cycle was seen.
    fn read(&self, phase_ms: f64) -> Option<f64> {
        let bins = self.profile.len();
        let position = self.position(phase_ms) + bins as f64 - 0.5;
        let first = position as usize;
        let share = position - first as f64;
        // Triangular weights (1, 2, 1) around both neighbours of the position.
        let weights = [1.0 - share, 2.0 - share, 1.0 + share, share];
        let mut sum = 0.0;
        for (offset, weight) in weights.into_iter().enumerate() {
            let bin = (first + bins + offset - 1) % bins;
            if self.cycles[bin] == 0 {
                return None;
            }
            sum += weight * self.profile[bin];
        }
        Some(sum / 4.0)
    }

    /// A phase in bins, inside `0..bins`.
    fn position(&self, phase_ms: f64) -> f64 {
        let period = self.period_ms as f64;
        let share = phase_ms / period;
        (share - share.floor()) * self.profile.len() as f64
    }
}

impl Seasonal {
    pub(crate) fn check(&self, step_ms: u64, period_ms: u64) -> Checked {
        check::same("step_ms", &self.step_ms, &step_ms)?;
        check::same("period_ms", &self.period_ms, &period_ms)?;
        check::count("phase_ms", self.phase_ms, 0, period_ms - 1)?;
        let bins = self.profile.len() as u64;
        check::count("profile.len", bins, 1, MAX_BINS)?;
        check::same("cycles.len", &self.cycles.len(), &self.profile.len())?;
        check::all_within("profile", &self.profile, 0.0, check::MOST)?;
        check::count("bin", self.bin as u64, 0, bins - 1)?;
        check::within("bin_sum", self.bin_sum, 0.0, check::MOST)?;
        check::count("bin_steps", self.bin_steps, 0, check::MOST_STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(step: u64) -> f64 {
        if step % 800 < 400 { 100.0 } else { 300.0 }
    }

    #[test]
    fn foresees_the_edge_of_a_square_wave() {
        let mut seasonal = Seasonal::new(100, 80_000);
        let now = Now { level: 100.0, lag: 0.0 };
        for step in 1..1_800 {
            if step == 500 {
                assert_eq!(seasonal.predict(now, 400), 100.0, "nothing known of that phase yet");
            }
            let value = shape(step);
            seasonal.observe(&Seen {
                value,
                level: value,
                level_steps: 3,
                changed: false,
                waking: false,
                sigma: 1.0,
            });
        }
        assert!((seasonal.predict(now, 300) - 300.0).abs() < 1.0);
        assert!((seasonal.predict(now, 100) - 100.0).abs() < 1.0);
        seasonal.skip(u64::MAX / 800 * 800);
        assert!((seasonal.predict(now, 300) - 300.0).abs() < 1.0);
    }
}
