//! From the three quantiles that are forecast to the one a threshold asks for.

use crate::{HorizonView, QuantileSpec};

/// Levels are kept this far from 0 and 1, where log-odds have no end.
const EDGE: f64 = 0.001;

/// Demand at `level`, on straight lines through the quantiles of `view`, which stand at `levels`;
/// never below 0.
///
/// The lines are straight over the level's standard normal score, so that a normal distribution is
/// met exactly; beyond the outer levels the nearest line goes on.
pub(crate) fn demand_at(view: &HorizonView, level: f64, levels: &QuantileSpec) -> f64 {
    let low = (levels.commit, view.lower_rps);
    let middle = (levels.warm, view.median_rps);
    let high = (levels.prepare, view.upper_rps);
    let ((x0, y0), (x1, y1)) = if level < levels.warm { (low, middle) } else { (middle, high) };
    let exact = [low, middle, high].into_iter().find(|(known, _)| (known - level).abs() < 1e-9);
    if let Some((_, rps)) = exact {
        return rps;
    }
    let span = normal_score(x1) - normal_score(x0);
    if span < 1e-6 {
        return y1;
    }
    let share = (normal_score(level) - normal_score(x0)) / span;
    (y0 + share * (y1 - y0)).max(0.0)
}

/// The standard normal quantile, to a hundredth: Tukey's lambda distribution with 0.14 (Joiner and
/// Rosenblatt 1971).
fn normal_score(level: f64) -> f64 {
    let level = level.clamp(EDGE, 1.0 - EDGE);
    4.91 * (level.powf(0.14) - (1.0 - level).powf(0.14))
}

/// The logarithm of a level's odds.
pub(super) fn log_odds(level: f64) -> f64 {
    let level = level.clamp(EDGE, 1.0 - EDGE);
    (level / (1.0 - level)).ln()
}

/// The level of such odds.
pub(super) fn level_of(log_odds: f64) -> f64 {
    (1.0 / (1.0 + (-log_odds).exp())).clamp(EDGE, 1.0 - EDGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

    fn view() -> HorizonView {
        // A normal distribution with mean 100 and deviation 10.
        HorizonView { horizon_ms: 1_000, lower_rps: 87.18, median_rps: 100.0, upper_rps: 116.45 }
    }

    #[test]
    fn quantiles_of_a_normal_distribution_are_met() {
        for (level, rps) in [(0.1, 87.18), (0.25, 93.26), (0.75, 106.74), (0.9, 112.82)] {
            assert!((demand_at(&view(), level, &LEVELS) - rps).abs() < 0.3, "{level}");
        }
        assert!((demand_at(&view(), 0.99, &LEVELS) - 123.26).abs() < 0.6);
    }

    #[test]
    fn it_never_falls_with_the_level_nor_below_zero() {
        let steep = HorizonView { lower_rps: 0.0, median_rps: 90.0, ..view() };
        let mut last = 0.0;
        for step in 1..1_000 {
            let rps = demand_at(&steep, f64::from(step) / 1_000.0, &LEVELS);
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
