//! Histories with a known truth.

use foreshadow_predictor::long::{History, LongForecast, LongSpec, Model};

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY: usize = 24;
pub(crate) const WEEK: usize = 7 * DAY;
/// A Thursday's midnight; any moment would do.
pub(crate) const START_MS: u64 = 1_700_000 * HOUR_MS;

/// Numbers in -0.5..0.5 that repeat for the same seed.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }
}

/// Requests per second of a service that sleeps at night and rests at weekends.
pub(crate) fn traffic(hour: usize) -> f64 {
    let of_day = (hour % DAY) as f64 / DAY as f64;
    let day = 60.0 - 50.0 * (std::f64::consts::TAU * of_day).cos();
    if hour % WEEK >= 5 * DAY { 0.5 * day } else { day }
}

/// The same with noise in proportion, for so many hours.
pub(crate) fn noisy(hours: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise(seed);
    (0..hours).map(|hour| traffic(hour) * (1.0 + 0.2 * noise.next())).collect()
}

pub(crate) fn hourly(values: &[f64]) -> History {
    History {
        start_ms: START_MS,
        step_ms: HOUR_MS,
        values: values.iter().copied().map(Some).collect(),
    }
}

pub(crate) fn week_ahead() -> LongSpec {
    LongSpec { horizon_ms: WEEK as u64 * HOUR_MS, ..LongSpec::default() }
}

pub(crate) fn forecast(history: &History, steps: usize) -> LongForecast {
    let model = Model::fit(history, &week_ahead(), &[], &[]).expect("there are values");
    model.forecast(history.end_ms(), steps)
}

pub(crate) fn mean_error(forecast: &[f64], truth: impl Fn(usize) -> f64) -> f64 {
    let errors = forecast.iter().enumerate().map(|(at, value)| (value - truth(at)).abs());
    errors.sum::<f64>() / forecast.len() as f64
}
