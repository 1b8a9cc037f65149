//! How good the forecasts were, horizon by horizon, once the truth was known.

use serde::{Deserialize, Serialize};

/// Truths needed at a horizon before its figures mean anything.
pub const MIN_SCORED: u64 = 30;

/// Truths the running figures remember: their weight falls to 1/e over this many.
const MEMORY: u64 = 512;
/// A point forecast this much worse than "same as now" is not worth acting on.
const WORST_MAE_RATIO: f64 = 1.25;
/// A level whose coverage is off by more than this does not mean what it says.
const WORST_COVERAGE_GAP: f64 = 0.2;

/// The track record of a [`Forecaster`](crate::Forecaster).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The quantile levels, in the order of the per-level figures.
    pub levels: Vec<f64>,
    /// One entry per horizon, nearest first.
    pub horizons: Vec<HorizonScore>,
}

/// The track record at one horizon: exponentially weighted means over the last truths (about
/// 512), plain means before that.
///
/// Coverage and pinball loss: Gneiting & Raftery 2007, "Strictly Proper Scoring Rules", JASA 102.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HorizonScore {
    /// How far ahead, in milliseconds.
    pub horizon_ms: u64,
    /// Truths compared so far.
    pub scored: u64,
    /// Mean absolute error of the point forecast, in the unit of the series.
    pub mae: f64,
    /// Mean absolute error of "same as now" ([`level`](crate::Forecaster::level) held), likewise.
    pub naive_mae: f64,
    /// Per level, the share of truths at or below the quantile; ideally the level itself.
    pub coverage: Vec<f64>,
    /// Per level, the mean pinball loss, in the unit of the series.
    pub pinball: Vec<f64>,
}

impl Score {
    /// Whether decisions may lean on the forecast.
    ///
    /// True when the nearest horizon has [`MIN_SCORED`] truths and no horizon with that many is
    /// [`misleading`](HorizonScore::misleading).
    pub fn usable(&self) -> bool {
        usable(self.horizons.iter(), &self.levels)
    }
}

/// See [`Score::usable`]; on the running figures, without copying them.
pub(crate) fn usable<'a>(
    mut horizons: impl Iterator<Item = &'a HorizonScore> + Clone,
    levels: &[f64],
) -> bool {
    horizons.clone().next().is_some_and(|nearest| nearest.scored >= MIN_SCORED)
        && !horizons.any(|horizon| horizon.misleading(levels))
}

impl HorizonScore {
    pub(crate) fn new(horizon_ms: u64, levels: &[f64]) -> Self {
        Self {
            horizon_ms,
            coverage: levels.to_vec(),
            pinball: vec![0.0; levels.len()],
            ..Self::default()
        }
    }

    /// Whether, with [`MIN_SCORED`] truths seen, the mean is over a quarter worse than "same as
    /// now" or a level's coverage is off by more than 0.2.
    pub fn misleading(&self, levels: &[f64]) -> bool {
        let off = |(coverage, level): (&f64, &f64)| (coverage - level).abs() > WORST_COVERAGE_GAP;
        self.scored >= MIN_SCORED
            && (self.mae > WORST_MAE_RATIO * self.naive_mae
                || self.coverage.iter().zip(levels).any(off))
    }

    /// Adds one truth; `quantiles` has one value per level.
    pub(crate) fn add(
        &mut self,
        truth: f64,
        mean: f64,
        naive: f64,
        levels: &[f64],
        quantiles: impl Iterator<Item = f64>,
    ) {
        self.scored = self.scored.saturating_add(1);
        let rate = 1.0 / self.scored.min(MEMORY) as f64;
        self.mae += rate * ((truth - mean).abs() - self.mae);
        self.naive_mae += rate * ((truth - naive).abs() - self.naive_mae);
        for (index, (level, quantile)) in levels.iter().zip(quantiles).enumerate() {
            let covered = f64::from(u8::from(truth <= quantile));
            let short = truth - quantile;
            let loss = if short > 0.0 { level * short } else { (level - 1.0) * short };
            self.coverage[index] += rate * (covered - self.coverage[index]);
            self.pinball[index] += rate * (loss - self.pinball[index]);
        }
    }
}
