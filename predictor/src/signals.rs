//! Regressors from outside: put on one scale, and doubted when they stop moving.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::experts::MAX_FEATURES;

/// Most regressors a [`Forecaster`](crate::Forecaster) takes.
pub const MAX_REGRESSORS: usize = 8;

/// Features of each regressor: its value now, and what it will change until the target.
pub(crate) const SIGNAL_FEATURES: usize = 2;
/// Steps that mean and departure of a regressor remember.
const MEMORY: u64 = 2_000;
/// Standardised values stay within this.
const RANGE: f64 = 4.0;
/// Values beyond this are no measurements.
const MAX_VALUE: f64 = 1e12;
/// A regressor that stood still this many times longer than ever before has stopped arriving.
const STALE_FACTOR: u64 = 4;
/// Standing still for fewer steps than this says nothing.
const MIN_STALE_STEPS: u64 = 50;

/// The regressors of one series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Signals {
    channels: Vec<Channel>,
    /// Standardised values now; zero where unknown.
    now: Vec<f64>,
    /// Standardised changes until each horizon's target, horizon by horizon.
    changes: Vec<f64>,
}

/// One regressor: its running mean and mean absolute departure, and how long it has stood still.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Channel {
    mean: f64,
    departure: f64,
    seen: u64,
    last: f64,
    still_steps: u64,
    longest_still_steps: u64,
}

impl Signals {
    pub(crate) fn new(regressors: usize, horizons: usize) -> Self {
        let count = regressors.min(MAX_REGRESSORS);
        Self {
            channels: vec![Channel::default(); count],
            now: vec![0.0; count],
            changes: vec![0.0; count * horizons],
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.channels.len()
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.channels) + size_of_val(&*self.now) + size_of_val(&*self.changes)
    }

    /// Takes the values of one step: those now, then optionally those at each horizon.
    pub(crate) fn observe(&mut self, values: &[f64]) {
        let count = self.channels.len();
        self.changes.fill(0.0);
        for (index, channel) in self.channels.iter_mut().enumerate() {
            let now = values.get(index).copied().filter(|value| value.abs() <= MAX_VALUE);
            if let Some(value) = now {
                channel.take(value);
            }
            let trusted = now.is_some() && !channel.stale();
            self.now[index] = if trusted { channel.standard(channel.last) } else { 0.0 };
            let ahead = values.get(count..).unwrap_or_default().iter().skip(index).step_by(count);
            let slots = self.changes.iter_mut().skip(index).step_by(count);
            for (slot, value) in slots.zip(ahead).filter(|_| trusted) {
                if value.abs() <= MAX_VALUE {
                    *slot = channel.standard(*value) - self.now[index];
                }
            }
        }
    }

    /// Nothing is known of this step.
    pub(crate) fn forget(&mut self) {
        self.now.fill(0.0);
        self.changes.fill(0.0);
    }

    /// Fills `out` with what is known for the target of a horizon.
    pub(crate) fn features(&self, horizon: usize, out: &mut [f64]) {
        let count = self.channels.len();
        let changes = self.changes.get(horizon * count..).unwrap_or_default();
        let pairs = out.chunks_exact_mut(SIGNAL_FEATURES);
        for (pair, (now, change)) in pairs.zip(self.now.iter().zip(changes)) {
            (pair[0], pair[1]) = (*now, change.clamp(-RANGE, RANGE));
        }
    }
}

impl Channel {
    fn take(&mut self, value: f64) {
        self.seen += 1;
        let still = self.seen > 1 && value.to_bits() == self.last.to_bits();
        if still {
            self.still_steps = self.still_steps.saturating_add(1);
        } else {
            self.longest_still_steps = self.longest_still_steps.max(self.still_steps);
            self.still_steps = 0;
        }
        self.last = value;
        if self.stale() {
            return;
        }
        let gain = 1.0 / self.seen.min(MEMORY) as f64;
        self.mean += gain * (value - self.mean);
        self.departure += gain * ((value - self.mean).abs() - self.departure);
    }

    /// Whether it moved before and has stood still for far longer than it ever did.
    fn stale(&self) -> bool {
        let usual = self.longest_still_steps.max(MIN_STALE_STEPS);
        self.departure > 0.0 && self.still_steps > STALE_FACTOR * usual
    }

    /// Zero for what never moves.
    fn standard(&self, value: f64) -> f64 {
        let least = 1e-9 * (1.0 + self.mean.abs());
        if self.departure <= least {
            return 0.0;
        }
        ((value - self.mean) / (2.0 * self.departure)).clamp(-RANGE, RANGE)
    }
}

/// The regressors' features fit beside all others.
const _: () = assert!(MAX_REGRESSORS * SIGNAL_FEATURES + 18 <= MAX_FEATURES);

impl Signals {
    pub(crate) fn check(&self, horizons: usize) -> Checked {
        let count = self.channels.len();
        check::count("channels.len", count as u64, 0, MAX_REGRESSORS as u64)?;
        check::same("now.len", &self.now.len(), &count)?;
        check::same("changes.len", &self.changes.len(), &(count * horizons))?;
        check::all_within("now", &self.now, -RANGE, RANGE)?;
        check::all_within("changes", &self.changes, -2.0 * RANGE, 2.0 * RANGE)?;
        for (at, channel) in self.channels.iter().enumerate() {
            let within = |value, least| {
                check::within(format_args!("channels[{at}]"), value, least, check::MOST)
            };
            within(channel.mean, -check::MOST)?;
            within(channel.departure, 0.0)?;
            within(channel.last, -check::MOST)?;
            check::count("seen", channel.seen, 0, check::MOST_STEPS)?;
            check::count("still_steps", channel.still_steps, 0, check::MOST_STEPS)?;
            check::count("longest_still_steps", channel.longest_still_steps, 0, check::MOST_STEPS)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(signals: &Signals, horizon: usize) -> Vec<f64> {
        let mut out = vec![9.0; signals.count() * SIGNAL_FEATURES];
        signals.features(horizon, &mut out);
        out
    }

    #[test]
    fn values_ahead_belong_to_their_horizon() {
        let mut signals = Signals::new(2, 2);
        let swing = |step: u32| f64::from(step % 2);
        for step in 0..100 {
            signals.observe(&[swing(step), 5.0]);
        }
        signals.observe(&[0.0, 5.0, 0.0, 5.0, 1.0, 5.0]);
        assert_eq!(features(&signals, 0)[1], 0.0);
        assert!(features(&signals, 1)[1] > 0.5, "rises until the second horizon");
        assert_eq!(features(&signals, 1)[2..], [0.0, 0.0], "what never moves says nothing");
        signals.observe(&[f64::NAN]);
        assert_eq!(features(&signals, 0), [0.0; 4]);
    }

    #[test]
    fn one_that_stops_arriving_is_no_longer_heard() {
        let mut signals = Signals::new(1, 1);
        (0..100).for_each(|step| signals.observe(&[f64::from(step % 3)]));
        (0..100).for_each(|_| signals.observe(&[2.0]));
        assert!(features(&signals, 0)[0] > 0.0);
        (0..200).for_each(|_| signals.observe(&[2.0]));
        assert_eq!(features(&signals, 0)[0], 0.0);
        signals.observe(&[0.0]);
        assert!(features(&signals, 0)[0] < 0.0, "heard again when it moves");
    }
}
