//! One series that a rule looks at: what is measured, smoothed, and forecast.

use foreshadow_predictor::{Forecast, Forecaster, MAX_HORIZON_MS, SeriesSpec};
use serde::{Deserialize, Serialize};

use super::sample::Sample;

/// Time constant of the smoothed figure.
const SMOOTHING_MS: f64 = 1_000.0;
/// A figure that was not renewed for this long is none any more.
const STALE_MS: u64 = 10_000;
/// Step of a forecaster that looks at most [`MAX_HORIZON_MS`] ahead.
const STEP_MS: u64 = 100;
/// Steps a forecaster must have seen before it is asked.
const LEAST_STEPS: u64 = 20;
/// Quantile levels of every forecast; those between are on a straight line, so that a rule with
/// another quantile needs no other forecaster.
const LEVELS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/// Horizons looked at before the farthest, as its parts.
const NEARER: [u64; 3] = [27, 9, 3];

/// A series between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Track {
    sum: f64,
    weight: f64,
    seen_ms: Option<u64>,
    ahead: Option<Box<Ahead>>,
}

/// The forecaster of a series.
///
/// A forecaster sees [`MAX_HORIZON_MS`] of its own time ahead at most. To look farther it is given
/// a slower clock: its step stands for `pace` times as long, and so does everything it remembers,
/// which is what a farther horizon asks for anyway.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ahead {
    pace: u64,
    forecaster: Forecaster,
    steps: u64,
    /// Of the step under way: its samples, and the time that has passed.
    sum: f64,
    weight: f64,
    passed_ms: u64,
}

impl Track {
    /// A series of which nothing is known; forecast as far as `ahead_ms`, unless that is 0. `turn` is
    /// another one for each of many; see [`Forecaster::in_turn`].
    pub(super) fn new(ahead_ms: u64, seasons_ms: &[u64], turn: u64) -> Self {
        let ahead = (ahead_ms > 0).then(|| Box::new(Ahead::new(ahead_ms, seasons_ms, turn)));
        Self { sum: 0.0, weight: 0.0, seen_ms: None, ahead }
    }

    /// Lets `passed_ms` pass, at whose end `sample` was taken, in `grain`s.
    pub(super) fn observe(
        &mut self,
        sample: Option<Sample>,
        grain: f64,
        now_ms: u64,
        passed_ms: u64,
    ) {
        // Implicit Euler in place of an exponential: no function that differs between machines.
        let keep = SMOOTHING_MS / (SMOOTHING_MS + passed_ms as f64);
        self.sum *= keep;
        self.weight *= keep;
        if let Some(Sample { value, weight }) = sample {
            if self.seen_ms.is_none_or(|seen_ms| now_ms.saturating_sub(seen_ms) > STALE_MS) {
                (self.sum, self.weight) = (0.0, 0.0);
            }
            self.sum += value * weight;
            self.weight += weight;
            self.seen_ms = Some(now_ms);
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.observe(sample.map(|s| Sample { value: s.value * grain, ..s }), passed_ms);
        }
    }

    /// The smoothed figure, unless nothing was seen for too long.
    pub(super) fn now(&self, now_ms: u64) -> Option<f64> {
        let fresh = self.seen_ms.is_some_and(|seen| now_ms.saturating_sub(seen) <= STALE_MS);
        (fresh && self.weight > 0.0).then(|| self.sum / self.weight)
    }

    /// What is predicted at `quantile`, by increasing horizon in milliseconds; empty while too
    /// little is known.
    pub(super) fn predicted(&self, quantile: f64, grain: f64) -> Vec<(u64, f64)> {
        let Some(ahead) = &self.ahead else { return Vec::new() };
        if ahead.steps < LEAST_STEPS {
            return Vec::new();
        }
        let forecast: &Forecast = ahead.forecaster.forecast();
        let at = |horizon_ms: u64| {
            let value = forecast.quantile(horizon_ms, quantile) / grain;
            (horizon_ms.saturating_mul(ahead.pace), value)
        };
        let known = forecast.horizons.iter().map(|h| at(h.horizon_ms));
        known.filter(|(_, value)| value.is_finite()).collect()
    }
}

impl Ahead {
    fn new(ahead_ms: u64, seasons_ms: &[u64], turn: u64) -> Self {
        let pace = ahead_ms.div_ceil(MAX_HORIZON_MS).max(1);
        let farthest_ms = ahead_ms / pace;
        let mut horizons_ms: Vec<u64> = NEARER.iter().map(|part| farthest_ms / part).collect();
        horizons_ms.push(farthest_ms);
        let forecaster = Forecaster::new(SeriesSpec {
            step_ms: STEP_MS,
            horizons_ms,
            levels: LEVELS.to_vec(),
            seasons_ms: seasons_ms.iter().map(|ms| ms / pace).collect(),
        });
        let forecaster = forecaster.in_turn(turn);
        Self { pace, forecaster, steps: 0, sum: 0.0, weight: 0.0, passed_ms: 0 }
    }

    fn observe(&mut self, sample: Option<Sample>, passed_ms: u64) {
        if let Some(Sample { value, weight }) = sample {
            self.sum += value * weight;
            self.weight += weight;
        }
        self.passed_ms = self.passed_ms.saturating_add(passed_ms);
        let step_ms = STEP_MS * self.pace;
        let steps = self.passed_ms / step_ms;
        if steps == 0 {
            return;
        }
        self.passed_ms %= step_ms;
        self.forecaster.observe_gap(steps - 1);
        let known = self.weight > 0.0;
        // What is no number counts as missing.
        self.forecaster.observe(if known { self.sum / self.weight } else { f64::NAN });
        self.steps = self.steps.saturating_add(u64::from(known));
        (self.sum, self.weight) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(track: &mut Track, from: u64, ticks: u64, value: impl Fn(u64) -> Option<f64>) {
        for tick in from..from + ticks {
            let sample = value(tick).map(|value| Sample { value, weight: 100.0 });
            track.observe(sample, 1e4, tick * 100, 100);
        }
    }

    #[test]
    fn a_ramp_of_a_share_is_foreseen_at_every_pace() {
        for ahead_ms in [30_000_u64, 600_000, 1_800_000] {
            let mut track = Track::new(ahead_ms, &[], 0);
            // Rises by a tenth of its first value over the time looked ahead, several times over.
            let ticks = ahead_ms / 100 * 3;
            let share = |tick: u64| 0.2 + 0.2 * tick as f64 / ticks as f64;
            fed(&mut track, 0, ticks, |tick| Some(share(tick)));
            let now = track.now(ticks * 100).unwrap();
            assert!((now - 0.4).abs() < 0.01, "{now}");
            let (horizon_ms, median) = *track.predicted(0.5, 1e4).last().unwrap();
            let truth = share(ticks + ahead_ms / 100);
            assert!(horizon_ms.abs_diff(ahead_ms) <= 3_000, "{horizon_ms}");
            assert!((median - truth).abs() < 0.5 * (truth - now), "{ahead_ms}: {median} {truth}");
        }
    }

    #[test]
    fn a_figure_that_is_not_renewed_is_none() {
        let mut track = Track::new(10_000, &[], 0);
        fed(&mut track, 0, 50, |_| Some(0.5));
        assert_eq!(track.now(5_000), Some(0.5));
        fed(&mut track, 50, 99, |_| None);
        assert_eq!(track.now(14_800), Some(0.5));
        assert_eq!(track.now(15_000), None);
        fed(&mut track, 200, 1, |_| Some(0.9));
        assert_eq!(track.now(20_000), Some(0.9), "what is stale does not count");
    }

    #[test]
    fn tracks_look_far_ahead_in_turn() {
        let mut tracks: Vec<Track> = (0..8).map(|turn| Track::new(60_000, &[], turn)).collect();
        let far = |track: &Track| track.predicted(0.9, 1e4).last().copied();
        let mut together = Vec::new();
        for tick in 0..600 {
            let moved = tracks.iter_mut().filter_map(|track| {
                let before = far(track);
                fed(track, tick, 1, |tick| Some(0.5 + 0.01 * (tick % 7) as f64));
                (far(track) != before).then_some(())
            });
            together.push(moved.count());
        }
        // Sixteen ticks from one look to the next.
        let late = &together[200..];
        assert!(late.iter().all(|moved| *moved <= 1), "{late:?}");
        assert!(late.iter().sum::<usize>() > 100, "{late:?}");
    }

    #[test]
    fn too_little_is_not_forecast() {
        let mut track = Track::new(10_000, &[], 0);
        fed(&mut track, 0, 100, |_| None);
        fed(&mut track, 100, 19, |_| Some(0.5));
        assert!(track.predicted(0.5, 1e4).is_empty());
        fed(&mut track, 119, 1, |_| Some(0.5));
        assert_eq!(track.predicted(0.5, 1e4).len(), 4);
    }
}
