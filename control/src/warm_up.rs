//! How long an instance needs from its first request to its usual speed, learned from those seen.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{InstanceObservation, Meters, PlaceName, PlaceSpec, Role};

/// Parts per assumed warm-up time, and assumed warm-up times watched: what is looked at at most.
const PARTS_PER_PRIOR: u64 = 4;
const PARTS: usize = 20;
/// The last parts say what the usual speed is.
const SETTLED_PARTS: usize = 5;
/// Answers a part needs; with fewer the instance was given too little to tell.
const LEAST_ANSWERS: u64 = 10;
/// A part is warm when its mean latency is within this of the usual.
const WARM: f64 = 1.2;
const SAMPLES: usize = 8;
/// What the service as a whole says of a place weighs as much as so many instances seen there.
const POOLED: u64 = 2;

/// Latency of one instance since it began to serve, part by part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Warming {
    /// Answers and the sum of their latencies.
    parts: Vec<(u64, f64)>,
}

impl Warming {
    /// Takes one tick of an instance that has served for `served_ms`; once enough was seen,
    /// returns how long it took to warm up, given that `prior_ms` was assumed.
    pub(crate) fn observe(
        &mut self,
        meters: &Meters,
        served_ms: u64,
        prior_ms: u64,
    ) -> Option<u64> {
        let part_ms = (prior_ms / PARTS_PER_PRIOR).max(1);
        let part = usize::try_from(served_ms / part_ms).unwrap_or(PARTS);
        if part >= PARTS {
            let parts = std::mem::take(&mut self.parts);
            return warm_part(&parts).map(|part| part as u64 * part_ms);
        }
        if self.parts.len() <= part {
            self.parts.resize(part + 1, (0, 0.0));
        }
        if (0.0..1e15).contains(&meters.latency.sum_ms) {
            self.parts[part].0 = self.parts[part].0.saturating_add(meters.latency.count);
            self.parts[part].1 += meters.latency.sum_ms;
        }
        None
    }
}

/// The first part from which on latency is as usual.
fn warm_part(parts: &[(u64, f64)]) -> Option<usize> {
    if parts.len() < PARTS || parts.iter().any(|(count, _)| *count < LEAST_ANSWERS) {
        return None;
    }
    let mean = |parts: &[(u64, f64)]| {
        let (count, sum) = parts.iter().fold((0, 0.0), |(n, ms), part| (n + part.0, ms + part.1));
        sum / count as f64
    };
    let usual_ms = mean(&parts[PARTS - SETTLED_PARTS..]);
    (0..PARTS - SETTLED_PARTS).find(|at| mean(&parts[*at..=at + 1]) <= WARM * usual_ms)
}

/// Warm-up times seen lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WarmUp {
    took_ms: VecDeque<u64>,
    /// The same by place, where places are told apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    places: BTreeMap<PlaceName, VecDeque<u64>>,
}

fn push(samples: &mut VecDeque<u64>, took_ms: u64) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(took_ms);
}

impl WarmUp {
    /// Takes one sample, of a place where places are told apart.
    pub(crate) fn learn(&mut self, took_ms: u64, place: Option<&PlaceName>) {
        push(&mut self.took_ms, took_ms);
        if let Some(place) = place {
            push(self.places.entry(place.clone()).or_default(), took_ms);
        }
    }

    /// The longest of the last few; `prior_ms` until one was seen.
    pub(crate) fn ms(&self, prior_ms: u64) -> u64 {
        self.took_ms.iter().copied().max().unwrap_or(prior_ms)
    }

    /// That of a place: between the longest of the last few there and that of the service, the nearer to its
    /// own the more were seen there (partial pooling: Efron and Morris 1975, "Data analysis using Stein's
    /// estimator and its generalizations").
    pub(crate) fn ms_in(&self, place: &PlaceName, prior_ms: u64) -> u64 {
        let of_all_ms = self.ms(prior_ms);
        let here = self.places.get(place);
        let Some((here, own_ms)) = here.and_then(|here| Some((here, *here.iter().max()?))) else {
            return of_all_ms;
        };
        let seen = here.len() as u64;
        let sum = own_ms.saturating_mul(seen).saturating_add(of_all_ms.saturating_mul(POOLED));
        sum / (seen + POOLED)
    }

    /// That of an instance: what is known of primaries is what is known of all.
    pub(crate) fn of(&self, seen: &InstanceObservation, prior_ms: u64) -> u64 {
        match seen.role {
            Role::Primary => self.ms(prior_ms),
            Role::Shadow => self.ms_in(&seen.place, prior_ms),
        }
    }

    /// Forgets places that are not configured, and all of them where places are not told apart.
    pub(crate) fn retain(&mut self, places: &[PlaceSpec], apart: bool) {
        self.places.retain(|name, _| apart && places.iter().any(|place| place.name == *name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LatencySummary;

    fn learned(latency_ms: impl Fn(u64) -> f64, count: u64) -> Option<u64> {
        let mut warming = Warming::default();
        (0..60).find_map(|tick| {
            let latency = LatencySummary {
                count,
                sum_ms: count as f64 * latency_ms(tick * 100),
                ..Default::default()
            };
            warming.observe(&Meters { latency, ..Meters::default() }, tick * 100, 1_000)
        })
    }

    #[test]
    fn the_time_until_the_usual_speed_is_found() {
        let took_ms = learned(|ms| if ms < 2_000 { 40.0 } else { 20.0 }, 20);
        assert_eq!(took_ms, Some(2_000));
        assert_eq!(learned(|_| 20.0, 20), Some(0));
    }

    #[test]
    fn little_traffic_says_nothing() {
        assert_eq!(learned(|_| 20.0, 1), None);
    }

    #[test]
    fn the_longest_lately_counts() {
        let mut warm_up = WarmUp::default();
        assert_eq!(warm_up.ms(1_000), 1_000);
        warm_up.learn(300, None);
        warm_up.learn(200, None);
        assert_eq!(warm_up.ms(1_000), 300);
        for _ in 0..SAMPLES {
            warm_up.learn(100, None);
        }
        assert_eq!(warm_up.ms(1_000), 100);
    }

    #[test]
    fn a_place_has_its_own_as_far_as_it_was_seen_and_that_of_all_until_then() {
        let (near, far) = (PlaceName::from("near"), PlaceName::from("far"));
        let mut warm_up = WarmUp::default();
        warm_up.learn(9_000, Some(&far));
        assert_eq!(warm_up.ms_in(&near, 1_000), 9_000, "never seen");
        warm_up.learn(300, Some(&near));
        assert_eq!(warm_up.ms_in(&near, 1_000), (300 + 2 * 9_000) / 3);
        for _ in 0..SAMPLES {
            warm_up.learn(300, Some(&near));
        }
        assert_eq!(warm_up.ms(1_000), 300, "the service has forgotten the one far away");
        assert_eq!(warm_up.ms_in(&near, 1_000), 300);
        assert_eq!(warm_up.ms_in(&far, 1_000), (9_000 + 2 * 300) / 3, "its place has not");
        warm_up.retain(&[PlaceSpec::new(near.clone())], true);
        assert_eq!(warm_up.ms_in(&far, 1_000), 300);
        warm_up.retain(&[PlaceSpec::new(near)], false);
        assert!(warm_up.places.is_empty());
    }
}
