//! From the three quantiles that are forecast to the one a threshold asks for.

use crate::{HorizonView, QuantileSpec};

/// Levels are kept this far from 0 and 1, where log-odds have no end.
const EDGE: f64 = 0.001;

/// Where a level lies among the three that demand is forecast at.
///
/// Between them demand goes on straight lines over the level's standard normal score, so that a
/// normal distribution is met exactly; beyond the outer ones the nearest line goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    /// Between the median and the upper one, or beyond it.
    above: bool,
    /// Share of the way from the lower of the two to the higher.
    share: f64,
}

impl Place {
    pub(crate) fn of(level: f64, levels: &QuantileSpec) -> Self {
        let above = level >= levels.warm;
        let (low, high) =
            if above { (levels.warm, levels.prepare) } else { (levels.commit, levels.warm) };
        let is = |known: f64| (known - level).abs() < 1e-9;
        let span = normal_score(high) - normal_score(low);
        let share = match (is(low), is(high)) {
            (true, _) => 0.0,
            (_, true) => 1.0,
            _ if span < 1e-6 => 1.0,
            _ => (normal_score(level) - normal_score(low)) / span,
        };
        Self { above, share }
    }

    /// Demand there, never below 0.
    pub(crate) fn demand_rps(self, view: &HorizonView) -> f64 {
        let (low, high) = match self.above {
            true => (view.median_rps, view.upper_rps),
            false => (view.lower_rps, view.median_rps),
        };
        // To the bit where a forecast level is asked for.
        if self.share == 0.0 {
            low
        } else if self.share == 1.0 {
            high
        } else {
            (low + self.share * (high - low)).max(0.0)
        }
    }
}

/// The standard normal quantile, to a hundredth: Tukey's lambda distribution with 0.14 (Joiner and
/// Rosenblatt 1971).
fn normal_score(level: f64) -> f64 {
    let level = level.clamp(EDGE, 1.0 - EDGE);
    4.91 * (libm::pow(level, 0.14) - libm::pow(1.0 - level, 0.14))
}

/// The logarithm of a level's odds.
pub(super) fn log_odds(level: f64) -> f64 {
    let level = level.clamp(EDGE, 1.0 - EDGE);
    libm::log(level / (1.0 - level))
}

/// The level of such odds.
pub(super) fn level_of(log_odds: f64) -> f64 {
    (1.0 / (1.0 + libm::exp(-log_odds))).clamp(EDGE, 1.0 - EDGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

    fn view() -> HorizonView {
        // A normal distribution with mean 100 and deviation 10.
        HorizonView { horizon_ms: 1_000, lower_rps: 87.18, median_rps: 100.0, upper_rps: 116.45 }
    }

    fn at(view: &HorizonView, level: f64) -> f64 {
        Place::of(level, &LEVELS).demand_rps(view)
    }

    #[test]
    fn quantiles_of_a_normal_distribution_are_met() {
        for (level, rps) in [(0.1, 87.18), (0.25, 93.26), (0.75, 106.74), (0.9, 112.82)] {
            assert!((at(&view(), level) - rps).abs() < 0.3, "{level}");
        }
        assert!((at(&view(), 0.99) - 123.26).abs() < 0.6);
    }

    #[test]
    fn it_never_falls_with_the_level_nor_below_zero() {
        let steep = HorizonView { lower_rps: 0.0, median_rps: 90.0, ..view() };
        let mut last = 0.0;
        for step in 1..1_000 {
            let rps = at(&steep, f64::from(step) / 1_000.0);
            assert!(rps >= last, "{step}: {rps}");
            last = rps;
        }
    }

    #[test]
    fn odds_and_levels_are_two_ways_to_say_the_same() {
        for level in [0.01, 0.3, 0.5, 0.9, 0.99] {
            assert!((level_of(log_odds(level)) - level).abs() < 1e-12);
        }
    }
}
