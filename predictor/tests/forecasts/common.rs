//! Synthetic series under simulated time, from a seeded generator.

use foreshadow_predictor::{Forecaster, SeriesSpec};

/// Steps per second of every series here.
pub(crate) const STEPS_PER_S: usize = 10;

/// SplitMix64 (Steele, Lea & Flood 2014).
pub(crate) struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A Poisson count: arrivals with exponential gaps until the time is over.
    fn poisson(&mut self, mean: f64) -> f64 {
        let mut time = 0.0;
        let mut count = 0.0;
        loop {
            time -= (1.0 - self.next()).ln();
            if time > mean {
                return count;
            }
            count += 1.0;
        }
    }

    /// What a step of 100 ms sees when requests arrive at `rate` per second, as a rate.
    pub(crate) fn observe(&mut self, rate: f64) -> f64 {
        self.poisson(rate / STEPS_PER_S as f64) * STEPS_PER_S as f64
    }
}

pub(crate) fn spec(horizons_ms: &[u64]) -> SeriesSpec {
    SeriesSpec {
        step_ms: 100,
        horizons_ms: horizons_ms.to_vec(),
        levels: vec![0.1, 0.25, 0.5, 0.75, 0.9],
        seasons_ms: vec![],
    }
}

/// One issued forecast at one horizon beside what came.
pub(crate) struct Row {
    pub(crate) at: usize,
    /// The true rate at the horizon, without noise.
    pub(crate) rate: f64,
    /// The rate seen over the second centred on the horizon: what the quantiles are about.
    pub(crate) seen: f64,
    pub(crate) level: f64,
    pub(crate) quantiles: [f64; 5],
}

impl Row {
    pub(crate) fn median(&self) -> f64 {
        self.quantiles[2]
    }
}

/// Feeds `rates` with Poisson noise; returns one row per step and horizon, [horizon][step].
pub(crate) fn follow(forecaster: &mut Forecaster, rates: &[f64], seed: u64) -> Vec<Vec<Row>> {
    let mut rng = Rng(seed);
    let seen: Vec<f64> = rates.iter().map(|rate| rng.observe(*rate)).collect();
    let horizons_ms = forecaster.spec().horizons_ms.clone();
    let mut rows: Vec<Vec<Row>> = horizons_ms.iter().map(|_| Vec::new()).collect();
    for (at, value) in seen.iter().enumerate() {
        forecaster.observe(*value);
        for (index, horizon_ms) in horizons_ms.iter().enumerate() {
            let horizon = *horizon_ms as usize / 100;
            let window = (horizon / 10).max(STEPS_PER_S);
            let start = at + horizon.saturating_sub((window - 1) / 2).max(1);
            let Some(target) = seen.get(start..start + window) else { continue };
            let forecast = &forecaster.forecast().horizons[index];
            rows[index].push(Row {
                at,
                rate: rates[start + window / 2],
                seen: target.iter().sum::<f64>() / window as f64,
                level: forecaster.level(),
                quantiles: std::array::from_fn(|level| forecast.quantiles[level]),
            });
        }
    }
    rows
}

/// Share of rows whose 0.1..0.9 band holds what was seen.
pub(crate) fn coverage<'a>(rows: impl Iterator<Item = &'a Row>) -> f64 {
    let (mut inside, mut all) = (0.0, 0.0);
    for row in rows {
        all += 1.0;
        inside += f64::from(u8::from(row.seen > row.quantiles[0] && row.seen <= row.quantiles[4]));
    }
    inside / all
}

/// Mean of a figure over rows.
pub(crate) fn mean<'a>(rows: impl Iterator<Item = &'a Row>, figure: impl Fn(&Row) -> f64) -> f64 {
    let (mut sum, mut all) = (0.0, 0.0);
    for row in rows {
        all += 1.0;
        sum += figure(row);
    }
    sum / all
}
