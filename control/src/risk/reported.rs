//! Metrics that instances report of themselves, whatever they mean: one that is far from its own past
//! while the peers' are not is evidence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resources;
use super::robust::medians_of_others;
use super::surprise::{Surprise, Surprised};
use crate::is_metric_value;

/// Metrics of one instance that are followed; which, is decided by name when they first come.
const MOST: usize = 8;
/// A value that stays the same is taken this often: it may be an old one, shown again.
const SAME_MS: u64 = 15_000;

/// What one instance reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reported {
    metrics: BTreeMap<String, Metric>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Metric {
    surprise: Surprise,
    last: f64,
    taken_ms: u64,
}

/// The metric that surprises most.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Odd {
    pub(super) name: String,
    pub(super) surprised: Surprised,
}

impl Reported {
    /// Takes what is reported now; what is no longer reported is forgotten.
    pub(super) fn observe(&mut self, reported: &BTreeMap<String, f64>, now_ms: u64) {
        self.metrics.retain(|name, _| reported.contains_key(name));
        for (name, value) in reported {
            let is_followed = self.metrics.contains_key(name);
            let may_follow = self.metrics.len() < MOST && !resources::NAMES.contains(&&**name);
            if !is_metric_value(*value) || !(is_followed || may_follow) {
                continue;
            }
            let new = || Metric { surprise: Surprise::default(), last: f64::NAN, taken_ms: 0 };
            let metric = self.metrics.entry(name.clone()).or_insert_with(new);
            let is_due = now_ms.saturating_sub(metric.taken_ms) >= SAME_MS;
            if metric.last != *value || is_due {
                metric.surprise.observe(*value, None);
                (metric.last, metric.taken_ms) = (*value, now_ms);
            }
        }
    }

    /// Drops what belongs to the values just before.
    pub(super) fn interrupt(&mut self) {
        self.metrics.values_mut().for_each(|metric| metric.surprise.interrupt());
    }
}

/// Of each instance the metric that surprises most beyond the median of its peers' in the same
/// direction; none where nothing is reported or known.
pub(super) fn oddest(all: &[&Reported]) -> Vec<Option<Odd>> {
    let mut odd: Vec<Option<Odd>> = vec![None; all.len()];
    if all.iter().all(|one| one.metrics.is_empty()) {
        return odd;
    }
    let mut names: Vec<&String> = all.iter().flat_map(|one| one.metrics.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let now: Vec<Option<Surprised>> =
            all.iter().map(|one| one.metrics.get(name)?.surprise.now()).collect();
        let signed = |now: &Surprised| if now.rises { now.size } else { -now.size };
        let own: Vec<Option<f64>> = now.iter().map(|now| now.as_ref().map(signed)).collect();
        let shared = medians_of_others(&own);
        for ((now, shared), odd) in now.into_iter().zip(shared).zip(&mut odd) {
            let Some(now) = now else { continue };
            let shared = shared.map_or(0.0, |shared| if now.rises { shared } else { -shared });
            let surprised = now.beyond(shared.max(0.0));
            if odd.as_ref().is_none_or(|odd| surprised.spreads > odd.surprised.spreads) {
                *odd = Some(Odd { name: name.clone(), surprised });
            }
        }
    }
    odd
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    /// Three instances whose queues waver; the newest values are those told.
    fn queues(newest: [f64; 3]) -> Vec<Option<Odd>> {
        let mut all = [Reported::default(), Reported::default(), Reported::default()];
        for at in 0..200 {
            for (nth, one) in all.iter_mut().enumerate() {
                let wavers = 50.0 + ((at * 7 + nth as u64 * 3) % 11) as f64;
                one.observe(&told(&[("queue", wavers), ("steady", 4.0)]), at * 1_000);
            }
        }
        for (one, value) in all.iter_mut().zip(newest) {
            one.observe(&told(&[("queue", value), ("steady", 4.0)]), 200_000);
        }
        oddest(&all.each_ref())
    }

    #[test]
    fn a_metric_that_jumps_in_one_instance_is_odd_and_in_all_is_not() {
        let alone = queues([200.0, 55.0, 52.0]);
        let first = alone[0].as_ref().unwrap();
        assert!(first.name == "queue" && first.surprised.rises, "{first:?}");
        assert!(first.surprised.spreads > 8.0, "{first:?}");
        assert!(alone[1].as_ref().unwrap().surprised.spreads < 4.0, "{alone:?}");
        let together = queues([200.0, 210.0, 205.0]);
        assert!(together.iter().flatten().all(|odd| odd.surprised.spreads < 4.0), "{together:?}");
    }

    #[test]
    fn a_single_low_value_is_nothing() {
        let odd = queues([0.0, 55.0, 52.0]);
        assert!(odd[0].as_ref().unwrap().surprised.spreads < 4.0, "{odd:?}");
    }

    #[test]
    fn what_is_no_longer_reported_is_forgotten_and_no_more_than_eight_are_followed() {
        let mut one = Reported::default();
        let names: Vec<String> = (0..30).map(|n| format!("m{n:02}")).collect();
        one.observe(&names.iter().map(|name| (name.clone(), 1.0)).collect(), 0);
        assert_eq!(one.metrics.len(), MOST);
        one.observe(&told(&[("memory", 0.5), ("z", 1.0)]), 1_000);
        assert_eq!(one.metrics.keys().collect::<Vec<_>>(), ["z"]);
    }

    proptest! {
        #[test]
        fn no_report_harms(
            values in prop::collection::vec(prop_oneof![any::<f64>(), Just(0.0), 0.0..1e3], 0..400),
        ) {
            let mut one = Reported::default();
            for (at, value) in values.iter().enumerate() {
                one.observe(&told(&[("a", *value)]), at as u64 * 1_000);
                for odd in oddest(&[&one]).into_iter().flatten() {
                    prop_assert!(odd.surprised.spreads >= 0.0);
                    prop_assert!((0.0..=6.5).contains(&odd.surprised.log_odds()));
                }
            }
        }
    }
}
