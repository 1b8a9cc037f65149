//! How far a series has drifted from its own past, in robust standard deviations.
//!
//! Location and spread are median and median absolute deviation (Hampel 1974; Rousseeuw and Croux
//! 1993), so that up to half of the past may be outliers. The newest values are compared by their
//! median, so that a single outlier among them says nothing unless they are one.

use serde::{Deserialize, Serialize};

use super::history::History;
use super::robust::{NORMAL_975, NORMAL_MAD, median};

/// Lengths and resolution of a [`Drift`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftSpec {
    /// Newest values, compared with the past by their median; the past is made of medians of as
    /// many. From 1; 0 counts as 1.
    pub block: usize,
    /// Blocks of the past that are remembered; at least [`DriftSpec::LEAST_PAST`].
    pub past: usize,
    /// Spread below which nothing can be told, in the unit of the values.
    pub least_spread: f64,
    /// Whether rare large deviations of the past widen the spread. They keep a series that is
    /// mostly still, with a pause now and then, from alarming at each, and hide trouble that has
    /// lasted for a twentieth of the past.
    pub heeds_tails: bool,
}

impl DriftSpec {
    /// Blocks of the past below which nothing is said.
    pub const LEAST_PAST: usize = 10;
}

/// One series against its own past, in memory bounded by its [`DriftSpec`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drift {
    spec: DriftSpec,
    newest: History,
    past: History,
    /// Values that are no longer among the newest and not yet past.
    leaving: Vec<f64>,
}

/// What a [`Drift`] says of the newest values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// Newest median minus that of the past, less what is shared, in the unit of the values.
    pub size: f64,
    /// The same in robust standard deviations of the past.
    pub spreads: f64,
    spread: f64,
}

impl Deviation {
    fn of(size: f64, spread: f64) -> Option<Self> {
        let spreads = size / spread;
        (size.is_finite() && !spreads.is_nan()).then_some(Self { size, spreads, spread })
    }

    /// One of its robust standard deviations, in the unit of the values; above 0.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// What is left of it without what has a cause that is not this series' own: what its peers
    /// deviate by, or what was forecast. What is no finite number is no cause.
    #[must_use]
    pub fn beyond(&self, shared: f64) -> Self {
        let rest = Some(self.size - shared).filter(|rest| rest.is_finite());
        rest.and_then(|rest| Self::of(rest, self.spread)).unwrap_or(*self)
    }
}

impl Drift {
    /// A series of which nothing is known.
    #[must_use]
    pub fn new(spec: DriftSpec) -> Self {
        let spec = DriftSpec {
            block: spec.block.max(1),
            past: spec.past.max(DriftSpec::LEAST_PAST),
            ..spec
        };
        Self { spec, newest: History::default(), past: History::default(), leaving: Vec::new() }
    }

    /// Takes the next value; what is no finite number is left out.
    pub fn observe(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.leaving.extend(self.newest.push(value, self.spec.block));
        if self.leaving.len() >= self.spec.block {
            if let Some(block) = median(&mut self.leaving) {
                self.past.push(block, self.spec.past);
            }
            self.leaving.clear();
        }
    }

    /// The median of the past, once enough of it is known.
    #[must_use]
    pub fn usual(&self) -> Option<f64> {
        self.past.median().filter(|_| self.past.len() >= DriftSpec::LEAST_PAST)
    }

    /// How far the newest values are from the past; none before enough is known.
    #[must_use]
    pub fn deviation(&self) -> Option<Deviation> {
        let usual = self.usual()?;
        let newest = self.newest.median().filter(|_| self.newest.len() >= self.spec.block)?;
        let size = newest - usual;
        Deviation::of(size, self.spread(usual)?)
    }

    /// The spread of the past: by the median of distances from its own, or by the distance of one
    /// in twenty where tails are heeded and that is larger; each as of a normal distribution.
    fn spread(&self, usual: f64) -> Option<f64> {
        let mut spread = NORMAL_MAD * self.past.distance(usual, 0.5)?;
        if self.spec.heeds_tails {
            spread = spread.max(self.past.distance(usual, 0.95)? / NORMAL_975);
        }
        Some(spread.max(self.spec.least_spread).max(f64::MIN_POSITIVE))
    }

    /// Drops the newest values: what produced them has been replaced.
    pub fn interrupt(&mut self) {
        self.newest = History::default();
        self.leaving.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: DriftSpec =
        DriftSpec { block: 5, past: 40, least_spread: 0.01, heeds_tails: false };

    fn fed(values: impl IntoIterator<Item = f64>) -> Drift {
        let mut drift = Drift::new(SPEC);
        values.into_iter().for_each(|value| drift.observe(value));
        drift
    }

    fn wave(at: usize) -> f64 {
        [0.0, 0.1, -0.1, 0.05, -0.05, 0.08, -0.02][at % 7]
    }

    #[test]
    fn a_step_is_seen_and_then_becomes_the_past() {
        let calm: Vec<f64> = (0..200).map(wave).collect();
        let deviation = fed(calm.clone()).deviation().unwrap();
        assert!(deviation.spreads.abs() < 3.0, "{deviation:?}");
        let stepped = calm.iter().copied().chain((0..5).map(|at| 1.0 + wave(at)));
        let deviation = fed(stepped.clone()).deviation().unwrap();
        assert!(deviation.spreads > 8.0 && (deviation.size - 1.0).abs() < 0.2, "{deviation:?}");
        let shared = fed(stepped).deviation().unwrap().beyond(1.0);
        assert!(shared.spreads.abs() < 3.0, "{shared:?}");
        let settled = calm.into_iter().chain((0..200).map(|at| 1.0 + wave(at)));
        assert!(fed(settled).deviation().unwrap().spreads.abs() < 3.0);
    }

    #[test]
    fn single_outliers_and_a_short_past_say_nothing() {
        let outliers = (0..300).map(|at| if at % 6 == 5 { 1e9 } else { wave(at) });
        assert!(fed(outliers).deviation().unwrap().spreads.abs() < 5.0);
        assert_eq!(fed((0..50).map(wave)).deviation(), None);
    }

    #[test]
    fn rare_pauses_are_no_drift_where_tails_are_heeded() {
        let spec = DriftSpec { block: 1, past: 60, least_spread: 0.01, heeds_tails: true };
        let spreads = |spec: DriftSpec| {
            let mut drift = Drift::new(spec);
            (0..61).for_each(|at| drift.observe(if at % 6 == 0 { 1.0 } else { 0.0 }));
            drift.deviation().unwrap().spreads
        };
        assert!(spreads(spec) < 2.0 && spreads(DriftSpec { heeds_tails: false, ..spec }) > 50.0);
    }

    #[test]
    fn nonsense_is_left_out_and_memory_is_bounded() {
        let hostile = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 0.0];
        let drift = fed((0..100_000).map(|at| hostile[at % 6]));
        assert!(drift.past.len() <= SPEC.past && drift.newest.len() <= SPEC.block);
        if let Some(deviation) = drift.deviation().map(|d| d.beyond(f64::NAN)) {
            assert!(deviation.size.is_finite() && !deviation.spreads.is_nan());
        }
    }
}
