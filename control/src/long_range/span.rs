//! Quantiles of mean demand over a minute, taken for means over less.

use serde::{Deserialize, Serialize};

use crate::QuantileSpec;
use crate::demand::DemandHorizon;
use crate::queueing::normal_quantile;

/// What the kept history resolves, in seconds.
const KEPT_S: f64 = 60.0;
/// A forecast at a horizon is of mean demand over this part of it.
const PART: f64 = 0.1;

/// How much chance there is in a mean, and how many standard deviations of it the outer quantiles
/// are from the median.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Chance {
    lower_sigmas: f64,
    upper_sigmas: f64,
    /// Variance of the arrivals relative to their number, at least that of a Poisson process.
    dispersion: f64,
}

impl Chance {
    pub(super) fn new(levels: &QuantileSpec, dispersion: f64) -> Self {
        let sigmas = |level: f64| if level > 0.5 { normal_quantile(level) } else { 0.0 };
        Self {
            lower_sigmas: sigmas(1.0 - levels.commit),
            upper_sigmas: sigmas(levels.prepare),
            dispersion: dispersion.max(1.0),
        }
    }

    /// `told` as a mean over a part of its horizon. One over `s` seconds varies by
    /// `dispersion x mean / s` by chance alone; what it varies more than one over a minute is added to
    /// the variance that the told quantiles stand for. Above, the mean of so few is a whole number of
    /// requests.
    pub(super) fn of_part(&self, told: DemandHorizon) -> DemandHorizon {
        let span_s = (PART * told.horizon_ms as f64 / 1_000.0).max(1.0);
        let median_rps = told.median_rps;
        let more = self.dispersion * median_rps * (1.0 / span_s - 1.0 / KEPT_S);
        if !(more > 0.0 && more.is_finite()) {
            return told;
        }
        let away = |told_rps: f64, sigmas: f64| {
            let away_rps = told_rps - median_rps;
            (away_rps * away_rps + sigmas * sigmas * more).sqrt()
        };
        let lower_rps = (median_rps - away(told.lower_rps, self.lower_sigmas)).max(0.0);
        let upper_rps = median_rps + away(told.upper_rps, self.upper_sigmas);
        let upper_rps = (upper_rps * span_s).ceil() / span_s;
        DemandHorizon { lower_rps, upper_rps: upper_rps.max(told.upper_rps), ..told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: QuantileSpec = QuantileSpec { prepare: 0.99, warm: 0.5, commit: 0.1 };

    fn told(horizon_s: u64, lower_rps: f64, median_rps: f64, upper_rps: f64) -> DemandHorizon {
        DemandHorizon { horizon_ms: horizon_s * 1_000, lower_rps, median_rps, upper_rps }
    }

    #[test]
    fn few_requests_come_one_by_one() {
        // One request in fifty seconds: in six of them one comes in 11 % of the cases, two in 0.7 %.
        let chance = Chance::new(&LEVELS, 1.0);
        let said = chance.of_part(told(60, 0.0, 0.02, 0.075));
        assert!((said.upper_rps - 1.0 / 6.0).abs() < 1e-9 && said.lower_rps == 0.0, "{said:?}");
        // In twelve none in 79 %, one more in 19 %, a third in 0.2 %.
        let said = chance.of_part(told(120, 0.0, 0.02, 0.075));
        assert!((said.upper_rps - 2.0 / 12.0).abs() < 1e-9, "{said:?}");
    }

    #[test]
    fn of_very_many_and_of_minutes_nothing_changes_much() {
        let chance = Chance::new(&LEVELS, 1.0);
        let said = chance.of_part(told(60, 9_000.0, 10_000.0, 11_000.0));
        assert!((11_000.0..11_010.0).contains(&said.upper_rps), "{said:?}");
        assert!((8_990.0..9_000.0).contains(&said.lower_rps), "{said:?}");
        let minutes = told(600, 90.0, 100.0, 110.0);
        assert_eq!(chance.of_part(minutes), minutes);
        for rps in [0.0, f64::MAX, f64::MIN_POSITIVE] {
            let said = chance.of_part(told(10, 0.0, rps, rps));
            assert!(said.lower_rps <= rps && said.upper_rps >= rps, "{said:?}");
        }
    }
}
