//! How good the forecasts were, horizon by horizon, once the truth was known.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};

/// Truths needed at a horizon before its figures mean anything.
pub const MIN_SCORED: u64 = 30;

/// Truths the running figures remember: their weight falls to 1/e over this many.
const MEMORY: u64 = 512;
/// Forecasts this much worse than "same as now" are not worth acting on.
const WORST_RATIO: f64 = 1.25;
/// Losses this much larger, in requests per second, mislead no one: a series without demand, that
/// "same as now" forecasts perfectly, may still be thought to wake.
const HARMLESS: f64 = 0.25;

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
    /// Per level, the share of truths at or below the quantile; ideally the level itself. Where
    /// both are zero the quantile is right by definition, however often: counted as the level.
    pub coverage: Vec<f64>,
    /// Per level, the mean pinball loss, in the unit of the series.
    pub pinball: Vec<f64>,
    /// The same of "same as now" taken for every quantile.
    pub naive_pinball: Vec<f64>,
}

impl Score {
    /// Whether decisions may lean on the forecast.
    ///
    /// True when the nearest horizon has [`MIN_SCORED`] truths and no horizon with that many is
    /// [`misleading`](HorizonScore::misleading).
    pub fn usable(&self) -> bool {
        usable(self.horizons.iter())
    }
}

/// See [`Score::usable`]; on the running figures, without copying them.
pub(crate) fn usable<'a>(mut horizons: impl Iterator<Item = &'a HorizonScore> + Clone) -> bool {
    horizons.clone().next().is_some_and(|nearest| nearest.scored >= MIN_SCORED)
        && !horizons.any(HorizonScore::misleading)
}

impl HorizonScore {
    pub(crate) fn new(horizon_ms: u64, levels: &[f64]) -> Self {
        Self {
            horizon_ms,
            coverage: levels.to_vec(),
            pinball: vec![0.0; levels.len()],
            naive_pinball: vec![0.0; levels.len()],
            ..Self::default()
        }
    }

    /// Whether, with [`MIN_SCORED`] truths seen, acting on the forecast is worse than acting on "same
    /// as now": by over a quarter in pinball loss summed over the levels.
    ///
    /// What is acted on are quantiles, so their loss counts; the absolute error of the mean would speak
    /// against it wherever demand is skewed, as bursts out of silence are.
    /// Pinball loss punishes both bands that miss and bands too wide to be of use; coverage alone
    /// would condemn a forecast that foresees a ramp and is a little late.
    pub fn misleading(&self) -> bool {
        let total = |losses: &[f64]| losses.iter().sum::<f64>();
        self.scored >= MIN_SCORED
            && total(&self.pinball) > WORST_RATIO * total(&self.naive_pinball) + HARMLESS
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
            let tied = truth <= 0.0 && quantile <= 0.0;
            let covered = if tied { *level } else { f64::from(u8::from(truth <= quantile)) };
            self.coverage[index] += rate * (covered - self.coverage[index]);
            self.pinball[index] += rate * (pinball(truth - quantile, *level) - self.pinball[index]);
            let naive_loss = pinball(truth - naive, *level);
            self.naive_pinball[index] += rate * (naive_loss - self.naive_pinball[index]);
        }
    }
}

/// Loss of a quantile that fell `short` of the truth (negative when it lay above).
fn pinball(short: f64, level: f64) -> f64 {
    if short > 0.0 { level * short } else { (level - 1.0) * short }
}

impl HorizonScore {
    pub(crate) fn check(&self, levels: usize) -> Checked {
        check::within("mae", self.mae, 0.0, check::MOST)?;
        check::within("naive_mae", self.naive_mae, 0.0, check::MOST)?;
        let per_level = [
            ("coverage", &self.coverage),
            ("pinball", &self.pinball),
            ("naive_pinball", &self.naive_pinball),
        ];
        per_level.into_iter().try_for_each(|(name, figures)| {
            check::part(name, check::same("len", &figures.len(), &levels))?;
            check::all_within(name, figures, 0.0, check::MOST)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A score of one median after `truths`, each forecast as `forecast` where now was `naive`.
    fn scored(truths: &[f64], forecast: f64, naive: f64) -> HorizonScore {
        let mut score = HorizonScore::new(1_000, &[0.5]);
        let once = |truth: &f64| score.add(*truth, forecast, naive, &[0.5], [forecast].into_iter());
        truths.iter().for_each(once);
        score
    }

    #[test]
    fn figures_are_plain_means_at_first() {
        let score = scored(&[8.0, 12.0, 13.0], 12.0, 10.0);
        assert!((score.mae - 5.0 / 3.0).abs() < 1e-12);
        assert!((score.naive_mae - 7.0 / 3.0).abs() < 1e-12);
        assert!((score.coverage[0] - 2.0 / 3.0).abs() < 1e-12);
        assert!((score.pinball[0] - 2.5 / 3.0).abs() < 1e-12);
        assert!((score.naive_pinball[0] - 3.5 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_forecast_worse_than_doing_nothing_is_misleading_once_that_is_sure() {
        assert!(!scored(&[10.0; 29], 15.0, 11.0).misleading());
        assert!(scored(&[10.0; 30], 15.0, 11.0).misleading());
        assert!(!scored(&[10.0; 30], 10.5, 11.0).misleading());
        let of = |horizons| Score { levels: vec![0.5], horizons };
        let (good, bad) = (scored(&[10.0; 30], 10.5, 11.0), scored(&[10.0; 30], 15.0, 11.0));
        assert!(of(vec![good.clone()]).usable());
        assert!(!of(vec![good, bad]).usable());
        assert!(!Score::default().usable());
    }
}
