//! The demand that weights are set for: real changes of it are followed, chance arrivals are not.

use serde::{Deserialize, Serialize};

use crate::demand::Outlook;

/// Time constant of the slow mean. It tells a lasting change of a few per cent from chance, and is
/// how slowly a fall is followed.
const SLOW_MS: f64 = 3_000.0;
/// A deviation is real beyond so many standard deviations of chance arrivals.
const SIGNIFICANT: f64 = 3.0;
/// After a significant rise every new height is followed for this long.
const RISING_MS: u64 = 2_000;

/// Demand with a dead band as wide as chance: up at once, down slowly.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Steady {
    /// What weights are set for; none before the first tick.
    level_rps: Option<f64>,
    slow_rps: f64,
    rising_until_ms: u64,
    /// Level when the rise that is being followed was last found significant.
    rise_from_rps: f64,
}

impl Steady {
    /// Takes what is asked now, in requests per second, and returns what weights should be set
    /// for. The dead band follows the variance of an exponentially smoothed count: dispersion x
    /// rate / (2 x time constant).
    pub(crate) fn follow(
        &mut self,
        asked_rps: f64,
        outlook: &Outlook,
        now_ms: u64,
        elapsed_ms: u64,
    ) -> f64 {
        let Some(level_rps) = self.level_rps else {
            self.slow_rps = asked_rps;
            return self.set(asked_rps);
        };
        let keep = libm::exp(-(elapsed_ms as f64) / SLOW_MS);
        self.slow_rps = asked_rps + keep * (self.slow_rps - asked_rps);
        let highest_rps = level_rps.max(self.slow_rps);
        let band_rps = SIGNIFICANT * outlook.chance_rps(highest_rps);
        let slow_band_rps = SIGNIFICANT * outlook.chance_over_rps(highest_rps, SLOW_MS);

        if asked_rps > highest_rps + band_rps {
            self.rising_until_ms = now_ms.saturating_add(RISING_MS);
            self.rise_from_rps = asked_rps;
            return self.rise(asked_rps);
        }
        if now_ms < self.rising_until_ms && asked_rps > highest_rps {
            if asked_rps > self.rise_from_rps + band_rps {
                self.rising_until_ms = now_ms.saturating_add(RISING_MS);
                self.rise_from_rps = asked_rps;
            }
            return self.rise(asked_rps);
        }
        if (self.slow_rps - level_rps).abs() > slow_band_rps {
            return self.set(self.slow_rps);
        }
        level_rps
    }

    fn rise(&mut self, rps: f64) -> f64 {
        self.slow_rps = rps;
        self.set(rps)
    }

    fn set(&mut self, rps: f64) -> f64 {
        self.level_rps = Some(rps);
        rps
    }
}
