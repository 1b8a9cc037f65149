//! Rules that look farther ahead than any curve yet: that they cannot fire has to be said.

use std::collections::BTreeMap;

use foreshadow_config::Config;
use foreshadow_control::{Rule, ServiceName, sights};

use super::{LongForecasts, Reach};
use crate::node::operator::Orders;

/// Up to here rules have a forecaster of their own where there is no curve.
const FAR_MS: u64 = 3_600_000;

impl Reach {
    /// What the curve takes, for whoever misses it.
    pub(crate) fn takes(self) -> String {
        format!(
            "it takes {} spans of {} of history, and history must be enabled",
            self.least_spans(),
            self.resolution().as_str()
        )
    }
}

impl LongForecasts {
    /// Why a rule of `service` cannot fire for how far ahead it looks; nothing where it can.
    pub(crate) fn unforeseen(
        &self,
        service: &ServiceName,
        rule: &Rule,
        at_ms: u64,
    ) -> Option<String> {
        let mut sights = sights([rule]);
        sights.retain(|sight| sight.ahead_ms > FAR_MS);
        let missing = sights
            .into_iter()
            .find(|sight| self.foreseen(service, std::slice::from_ref(sight), at_ms).is_empty())?;
        let hours = missing.ahead_ms / 3_600_000;
        let Some(reach) = Reach::ALL.into_iter().find(|reach| reach.ms() >= missing.ahead_ms)
        else {
            return Some(format!("it looks {hours} h ahead, and no curve farther than a week"));
        };
        let curve = format!("it looks {hours} h ahead, and the curve of {}", reach.as_str());
        Some(match (self.curve(service, reach), self.failure(service, reach)) {
            (_, Some(failure)) => format!("{curve} cannot be fitted: {failure}"),
            (None, None) => format!("{curve} is not there yet: {}", reach.takes()),
            (Some(_), None) => format!(
                "{curve} is too old, has been wrong by more than \"as in the last span\", or does not \
                 reach to p{}",
                missing.quantile
            ),
        })
    }
}

/// What was said of rules, so that it is said once.
#[derive(Default)]
pub(super) struct Unforeseen(BTreeMap<(ServiceName, String), String>);

impl Unforeseen {
    /// Says of which rules something is new.
    pub(super) fn tell(
        &mut self,
        config: &Config,
        orders: &Orders,
        long: &LongForecasts,
        at_ms: u64,
    ) {
        let mut now = BTreeMap::new();
        for (service, configured) in &config.services {
            let of_file = configured.rules.iter().map(|spec| (&spec.name, &spec.rule));
            let ordered = orders.rules.get(service).into_iter().flatten();
            for (name, rule) in of_file.chain(ordered) {
                if let Some(why) = long.unforeseen(service, rule, at_ms) {
                    now.insert((service.clone(), name.clone()), why);
                }
            }
        }
        for ((service, rule), why) in &now {
            let key = (service.clone(), rule.clone());
            if self.0.get(&key) != Some(why) {
                tracing::warn!(%service, rule, "a rule cannot fire: {why}");
            }
        }
        for (service, rule) in self.0.keys().filter(|key| !now.contains_key(*key)) {
            tracing::info!(%service, rule, "the rule is not without a curve any more");
        }
        self.0 = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_looks_farther_than_any_curve_is_told_what_is_missing() {
        let (long, service) = (LongForecasts::default(), ServiceName::from("shop"));
        let why = |rule: &str| long.unforeseen(&service, &rule.parse().unwrap(), 1_000);
        let day = why("demand > 100rps within 6h -> activate 1").unwrap();
        assert!(day.contains("6 h ahead") && day.contains("1d is not there yet"), "{day}");
        assert!(day.contains("16 spans of 15m"), "{day}");
        let week = why("demand > 100rps at 100h -> activate 1").unwrap();
        assert!(week.contains("curve of 1w"), "{week}");
        assert_eq!(why("demand > 100rps within 45m -> activate 1"), None);
        assert_eq!(why("cpu > 80% within 6h -> activate 1"), None);
    }
}
