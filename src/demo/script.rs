//! What happens when: the load over time, the kill, and what to look for.

use std::time::Duration;

use foreshadow_testbed::load::{Profile, ProfileError, Step};
use serde::Serialize;

/// Requests one backend serves at the same time.
pub(super) const CONCURRENCY: u32 = 8;
/// Mean service time of one request on a warm backend.
pub(super) const SERVICE_TIME_MS: u32 = 20;
/// Primaries at the start.
pub(super) const PRIMARIES: u32 = 2;
/// 99th percentile promised to clients.
pub(super) const OBJECTIVE_MS: u64 = 150;
/// How long demand must stay low before anything is taken back.
pub(super) const EVALUATION_WINDOW_MS: u64 = 5_000;

const LEARN_RPS: f64 = 400.0;
const CALM_RPS: f64 = 200.0;
const LOW_RPS: f64 = 250.0;
const PEAK_RPS: f64 = 1_000.0;
const SPIKE_RPS: f64 = 900.0;

/// One stretch of the run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Act {
    /// Short name for tables.
    pub(super) name: &'static str,
    /// What to look for.
    pub(super) look_for: &'static str,
    /// Start, from the start of the load.
    pub(super) from_s: f64,
    /// End, likewise.
    pub(super) to_s: f64,
}

/// The run, the same for both modes.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) profile: Profile,
    pub(super) acts: Vec<Act>,
    pub(super) ramp_from: Duration,
    pub(super) kill_at: Duration,
    pub(super) spike_from: Duration,
    pub(super) spike_to: Duration,
}

/// What one backend serves at most: slots over mean service time (Little's law).
pub(super) fn backend_capacity_rps() -> f64 {
    f64::from(CONCURRENCY) * 1_000.0 / f64::from(SERVICE_TIME_MS)
}

/// What the primaries serve together at most.
pub(super) fn primaries_capacity_rps() -> f64 {
    f64::from(PRIMARIES) * backend_capacity_rps()
}

impl Script {
    /// The run that `foreshadow demo` shows.
    ///
    /// # Errors
    /// Only when the rates above were changed to ones that cannot be offered.
    pub(super) fn new() -> Result<Self, ProfileError> {
        let step = |from_rps, to_rps, duration_s| Step { from_rps, to_rps, duration_s };
        let steps = vec![
            step(100.0, LEARN_RPS, 3.0),
            step(LEARN_RPS, LEARN_RPS, 3.0),
            step(LEARN_RPS, CALM_RPS, 1.0),
            step(CALM_RPS, CALM_RPS, 8.0),
            step(CALM_RPS, PEAK_RPS, 16.0),
            step(PEAK_RPS, PEAK_RPS, 7.0),
            step(PEAK_RPS, PEAK_RPS, 7.0),
            step(PEAK_RPS, LOW_RPS, 3.0),
            step(LOW_RPS, LOW_RPS, 11.0),
            step(LOW_RPS, SPIKE_RPS, 1.0),
            step(SPIKE_RPS, SPIKE_RPS, 2.0),
            step(SPIKE_RPS, LOW_RPS, 0.5),
            step(LOW_RPS, LOW_RPS, 10.5),
        ];
        let mut ends_s = Vec::new();
        let mut end_s = 0.0;
        for step in &steps {
            end_s += step.duration_s;
            ends_s.push(end_s);
        }
        let at = Duration::from_secs_f64;
        let act = |name, look_for, from_s, to_s| Act { name, look_for, from_s, to_s };
        let acts = vec![
            act(
                "learn",
                "nothing is known yet: the capacity of the primaries is learned, shadows help out",
                0.0,
                ends_s[1],
            ),
            act(
                "calm",
                "the primaries are known to suffice: shadows go back",
                ends_s[1],
                ends_s[3],
            ),
            act(
                "1 ramp",
                "the forecast band rises ahead of demand; shadows get weight before the primaries are full",
                ends_s[3],
                ends_s[5],
            ),
            act(
                "2 kill -9",
                "primary-1 was killed: its weight is 0 at once, a shadow takes over, no request fails",
                ends_s[5],
                ends_s[6],
            ),
            act("down", "demand falls: weights return, then tiers step down", ends_s[6], ends_s[8]),
            act(
                "3 spike",
                "demand jumps and does not stay: what was added is taken back",
                ends_s[8],
                ends_s[12],
            ),
        ];
        Ok(Self {
            profile: Profile::new(steps)?,
            acts,
            ramp_from: at(ends_s[3]),
            kill_at: at(ends_s[5]),
            spike_from: at(ends_s[8]),
            spike_to: at(ends_s[11]),
        })
    }

    /// The act that is on at `offset`; the last one after the end.
    pub(super) fn act_at(&self, offset: Duration) -> &Act {
        let now_s = offset.as_secs_f64();
        let on = self.acts.iter().find(|act| now_s < act.to_s);
        on.or(self.acts.last()).expect("a script has acts")
    }

    /// When the offered rate first crosses `capacity_rps`, to the millisecond.
    pub(super) fn crossing(&self, capacity_rps: f64) -> Option<Duration> {
        let end_ms = u64::try_from(self.profile.duration().as_millis()).unwrap_or(u64::MAX);
        (0..end_ms).map(Duration::from_millis).find(|at| self.profile.rate_at(*at) > capacity_rps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_crosses_the_primaries_before_the_kill_and_fits_the_clock() {
        let script = Script::new().unwrap();
        let crossing = script.crossing(primaries_capacity_rps()).unwrap();
        assert!(script.ramp_from < crossing && crossing < script.kill_at);
        assert!(script.spike_from < script.spike_to);
        assert!(script.profile.duration() <= Duration::from_secs(75));
        assert_eq!(script.crossing(1e9), None);
    }

    #[test]
    fn acts_follow_one_another_without_gaps() {
        let script = Script::new().unwrap();
        assert!(script.acts.windows(2).all(|pair| pair[0].to_s == pair[1].from_s));
        assert_eq!(script.act_at(Duration::ZERO).name, "learn");
        assert_eq!(script.act_at(script.kill_at).name, "2 kill -9");
        assert_eq!(script.act_at(Duration::from_secs(999)).name, "3 spike");
    }
}
