//! Ratio to a seasonal profile.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use super::Seen;
use crate::check::{self, Checked};

const MAX_BINS: u64 = 288;
/// Bins are at least this long, so that the noise of fine steps averages out.
const MIN_BIN_MS: u64 = 800;
/// Profiles of fewer bins are read as they are: smoothing would wash their shape out.
const SMOOTHED_BINS: usize = 96;
/// A bin's departure from its past counts for at most this many times the usual departure.
const CLIP_DEPARTURES: f64 = 4.0;
/// Bins that the usual departure remembers.
const DEPARTURE_MEMORY: f64 = 100.0;
/// Less than this share of what is usual there is an outage.
const OUTAGE_SHARE: f64 = 0.02;
/// One departure counts for at most this many times the usual one there, so that the bound grows
/// where what is unusual lasts.
const DEPARTURE_CLIP: f64 = 8.0;
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
/// mean over past cycles with clipped innovations (Gelper, Fried & Croux 2010), and read with linear
/// interpolation, of many bins also with triangular smoothing. A phase
/// not yet seen has ratio 1: "same as now".
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seasonal {
    period_ms: u64,
    step_ms: u64,
    /// Where in the period the newest step is.
    phase_ms: u64,
    profile: Vec<f32>,
    /// Cycles seen per bin, saturating.
    cycles: Vec<u8>,
    bin: usize,
    /// The phase at which the next bin begins.
    bin_end_ms: u64,
    bin_sum: f64,
    bin_steps: u64,
    /// Mean absolute departure of bins from their past.
    departure: f64,
    /// Bins in a row in which next to nothing of the usual came.
    outage_bins: u64,
    /// Largest value of the profile, as of the last time the season began anew.
    peak: f64,
}

impl Seasonal {
    /// The most memory one takes.
    pub(crate) const MAX_BYTES: usize =
        size_of::<Self>() + MAX_BINS as usize * (size_of::<f32>() + size_of::<u8>());

    pub(crate) fn new(step_ms: u64, period_ms: u64) -> Self {
        let steps_per_bin = (MIN_BIN_MS / step_ms).max(1);
        let bins = (period_ms / step_ms / steps_per_bin).clamp(4, MAX_BINS) as usize;
        Self {
            period_ms,
            step_ms,
            phase_ms: 0,
            profile: vec![0.0; bins],
            cycles: vec![0; bins],
            bin: 0,
            bin_end_ms: 0,
            bin_sum: 0.0,
            bin_steps: 0,
            departure: 0.0,
            outage_bins: 0,
            peak: 0.0,
        }
    }

    /// The highest value of the profile in its last full turn.
    pub(crate) fn peak(&self) -> f64 {
        self.peak
    }

    pub(crate) fn observe(&mut self, seen: &Seen) {
        self.skip(1);
        self.bin_sum += seen.value;
        self.bin_steps += 1;
    }

    /// Lets `steps` steps pass unseen.
    pub(crate) fn skip(&mut self, steps: u64) {
        let next_ms = self.phase_ms + self.step_ms;
        if steps == 1 && next_ms < self.bin_end_ms {
            self.phase_ms = next_ms;
            return;
        }
        let passed = steps % self.period_ms * self.step_ms % self.period_ms;
        self.phase_ms = (self.phase_ms + passed) % self.period_ms;
        self.enter_bin();
    }

    /// Closes the bin if the phase has left it, and opens that of the phase.
    fn enter_bin(&mut self) {
        let bins = self.profile.len() as u64;
        let bin = (self.phase_ms * bins / self.period_ms) as usize;
        if bin != self.bin {
            self.close_bin();
            if bin < self.bin {
                self.peak = self.profile.iter().copied().fold(0.0, f32::max).into();
            }
            self.bin = bin;
        }
        self.bin_end_ms = ((bin as u64 + 1) * self.period_ms).div_ceil(bins);
    }

    pub(crate) fn name(&self) -> String {
        format!("season of {} s", self.period_ms as f64 / 1_000.0)
    }

    /// The clock that the season follows was set forward by `by_ms`, or back.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        let period = self.period_ms.max(1) as i128;
        let shifted = (i128::from(self.phase_ms) + i128::from(by_ms)).rem_euclid(period);
        self.phase_ms = shifted as u64;
        self.enter_bin();
    }

    /// See [`touch`](crate::touch).
    pub(crate) fn touch(&self) {
        black_box((self.profile[self.bin], self.cycles[self.bin]));
    }

    /// Memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.profile) + size_of_val(&*self.cycles)
    }

    fn close_bin(&mut self) {
        if self.bin_steps > 0 && !self.outage() {
            let mean = self.bin_sum / self.bin_steps as f64;
            let cycles = self.cycles[self.bin].saturating_add(1);
            let gain = (1.0 / f64::from(cycles)).max(MIN_GAIN);
            let departure = self.clip(mean - f64::from(self.profile[self.bin]), cycles);
            self.profile[self.bin] += (gain * departure) as f32;
            self.cycles[self.bin] = cycles;
        }
        (self.bin_sum, self.bin_steps) = (0.0, 0);
    }

    /// Whether the bin shows that nothing arrived, not how this hour is: for less than a whole period.
    fn outage(&mut self) -> bool {
        let usual = f64::from(self.profile[self.bin]) * self.bin_steps as f64;
        let out = self.bin_sum < OUTAGE_SHARE * usual;
        self.outage_bins = if out { self.outage_bins.saturating_add(1) } else { 0 };
        out && self.outage_bins < self.profile.len() as u64
    }

    /// What of a bin's departure from its past is learned: an outage or a flash crowd is not how
    /// this hour usually is. What lasts for many bins raises the bound and is learned after all.
    fn clip(&mut self, departure: f64, cycles: u8) -> f64 {
        if cycles <= 1 {
            return departure;
        }
        let usual = self.departure;
        let size = departure.abs();
        if usual <= 0.0 {
            self.departure = size;
            return departure;
        }
        self.departure += (size.min(DEPARTURE_CLIP * usual) - usual) / DEPARTURE_MEMORY;
        departure.clamp(-CLIP_DEPARTURES * usual, CLIP_DEPARTURES * usual)
    }

    /// The level times the ratio of the profile `there` to that `here`.
    pub(crate) fn predict(level: f64, here: f64, there: f64) -> f64 {
        match here > 0.0 {
            true => level * (there / here).clamp(RATIO_RANGE.0, RATIO_RANGE.1),
            false => level,
        }
    }

    /// In which of `parts` equal parts of the period the step `ahead` steps ahead lies.
    pub(crate) fn part(&self, ahead: u64, parts: usize) -> usize {
        let at_ms = self.phase_ms as f64 + ahead as f64 * self.step_ms as f64;
        let share = fraction(at_ms / self.period_ms as f64);
        ((share * parts as f64) as usize).min(parts - 1)
    }

    /// The profile `steps` steps after the newest, or before if negative; none where no cycle was seen.
    pub(crate) fn look(&self, steps: f64) -> Option<f64> {
        self.read(self.phase_ms as f64 + (0.5 + steps) * self.step_ms as f64)
    }

    /// The profile at a phase, which may lie outside the period; none where no cycle was seen.
    fn read(&self, phase_ms: f64) -> Option<f64> {
        let bins = self.profile.len();
        let share = fraction(phase_ms / self.period_ms as f64);
        let position = share * bins as f64 + bins as f64 - 0.5;
        let first = position as usize;
        let share = position - first as f64;
        // Triangular weights (1, 2, 1) around both neighbours of the position.
        let weights = match bins >= SMOOTHED_BINS {
            true => [1.0 - share, 2.0 - share, 1.0 + share, share],
            false => [0.0, 4.0 - 4.0 * share, 4.0 * share, 0.0],
        };
        let (mut sum, mut bin) = (0.0, (first - 1) % bins);
        for weight in weights {
            if weight > 0.0 && self.cycles[bin] == 0 {
                return None;
            }
            sum += weight * f64::from(self.profile[bin]);
            bin = if bin + 1 < bins { bin + 1 } else { 0 };
        }
        Some(sum / 4.0)
    }
}

/// What is left of a number above the next lower whole one.
fn fraction(number: f64) -> f64 {
    let left = number - number as i64 as f64;
    if left < 0.0 { left + 1.0 } else { left }
}

impl Seasonal {
    /// `told` is its period where that is known.
    pub(crate) fn check(&self, step_ms: u64, told: Option<u64>) -> Checked {
        let period_ms = told.unwrap_or(self.period_ms);
        check::same("step_ms", &self.step_ms, &step_ms)?;
        check::same("period_ms", &self.period_ms, &period_ms)?;
        check::count("period_ms", period_ms, step_ms, 1 << 40)?;
        check::count("phase_ms", self.phase_ms, 0, period_ms - 1)?;
        let bins = self.profile.len() as u64;
        check::count("profile.len", bins, 4, MAX_BINS)?;
        check::same("cycles.len", &self.cycles.len(), &self.profile.len())?;
        let profile: Vec<f64> = self.profile.iter().map(|value| f64::from(*value)).collect();
        check::all_within("profile", &profile, 0.0, check::MOST)?;
        check::count("bin", self.bin as u64, 0, bins - 1)?;
        check::count("bin_end_ms", self.bin_end_ms, 0, period_ms)?;
        check::within("bin_sum", self.bin_sum, 0.0, check::MOST)?;
        check::count("bin_steps", self.bin_steps, 0, check::MOST_STEPS)?;
        check::within("departure", self.departure, 0.0, check::MOST)?;
        check::count("outage_bins", self.outage_bins, 0, check::MOST_STEPS)?;
        check::within("peak", self.peak, 0.0, check::MOST)
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
        let ratio = |seasonal: &Seasonal, ahead: f64| {
            let (here, there) = (seasonal.look(0.0), seasonal.look(ahead));
            here.zip(there).map(|(here, there)| Seasonal::predict(100.0, here, there))
        };
        for step in 1..1_800 {
            if step == 500 {
                assert_eq!(ratio(&seasonal, 400.0), None, "nothing known of that phase yet");
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
        assert!((ratio(&seasonal, 300.0).unwrap() - 300.0).abs() < 1.0);
        assert!((ratio(&seasonal, 100.0).unwrap() - 100.0).abs() < 1.0);
        seasonal.skip(u64::MAX / 800 * 800);
        assert!((ratio(&seasonal, 300.0).unwrap() - 300.0).abs() < 1.0);
    }
}
