//! What an operator is told of the plans: only what is new, and what matters in the log.

use foreshadow_control::{Action, Alert, AlertKind, InstanceWeight, ServiceName, ServicePlan};

/// What was last recorded of each service, so that standing alerts and repeated advice are
/// recorded once.
#[derive(Default)]
pub(super) struct Said {
    services: std::collections::BTreeMap<ServiceName, SaidOfService>,
}

/// Ticks an alert must be gone before it is said to be over: demand close to a limit would
/// otherwise raise and end it several times a second. The API shows each tick as it is.
const OVER_AFTER_TICKS: u64 = 100;

#[derive(Default)]
struct SaidOfService {
    /// Alerts that were said to stand, those of rules by rule, with the last tick that had them.
    alerts: Vec<(AlertKind, Option<String>, u64)>,
    advice: Vec<Action>,
    advised: Vec<InstanceWeight>,
}

impl Said {
    /// Forgets the services that `known` does not know.
    pub(super) fn retain(&mut self, known: impl Fn(&ServiceName) -> bool) {
        self.services.retain(|service, _| known(service));
    }

    /// One sentence for everything that is new in `plan`; nothing when nothing is.
    pub(super) fn news(&mut self, tick: u64, plan: &ServicePlan) -> Option<Vec<String>> {
        let before = self.services.entry(plan.service.clone()).or_default();
        let mut news: Vec<String> = plan.reasons.iter().map(|reason| reason.text.clone()).collect();
        let actions: Vec<_> = plan.actions.iter().map(|a| a.action.clone()).collect();
        if plan.act || actions != before.advice {
            let verb = if plan.act { "" } else { "advice: " };
            news.extend(plan.actions.iter().map(|a| format!("{verb}{}", a.reason.text)));
        }
        if plan.act {
            before.advised.clear();
        } else if before.advised != plan.advised {
            before.advised.clone_from(&plan.advised);
            if !plan.advised.is_empty() {
                news.push("advice: other weights than those in force".to_owned());
            }
        }
        before.advice = actions;
        news.extend(before.alert_news(tick, &plan.alerts));
        (!news.is_empty()).then_some(news)
    }
}

impl SaidOfService {
    fn alert_news(&mut self, tick: u64, alerts: &[Alert]) -> Vec<String> {
        let mut news = Vec::new();
        for alert in alerts {
            let same = |(kind, rule, _): &&mut (AlertKind, Option<String>, u64)| {
                *kind == alert.kind && *rule == alert.rule
            };
            match self.alerts.iter_mut().find(same) {
                Some((.., seen)) => *seen = tick,
                None => {
                    self.alerts.push((alert.kind, alert.rule.clone(), tick));
                    news.push(format!("alert {}: {}", alert.kind.as_str(), alert.text));
                }
            }
        }
        self.alerts.retain(|(kind, rule, seen)| {
            let over = tick.saturating_sub(*seen) >= OVER_AFTER_TICKS;
            if over {
                let of = rule.as_ref().map_or_else(String::new, |rule| format!(" of rule {rule}"));
                news.push(format!("alert {}{of} is over", kind.as_str()));
            }
            !over
        });
        news
    }
}

/// Logs what an operator would want to find in the log: actions and alerts, not each weight.
pub(super) fn tell(plan: &ServicePlan, summary: &[String]) {
    let service = plan.service.as_str();
    for line in summary {
        if line.starts_with("alert ") {
            tracing::warn!(service, "{line}");
        } else if plan.actions.is_empty() {
            tracing::debug!(service, "{line}");
        } else {
            tracing::info!(service, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_that_comes_and_goes_is_said_once() {
        let shortage =
            [Alert { kind: AlertKind::Shortage, text: "too little".to_owned(), rule: None }];
        let mut said = SaidOfService::default();
        let mut news = Vec::new();
        for tick in 0..1000 {
            let alerts: &[Alert] = if tick < 500 && tick % 3 == 0 { &shortage } else { &[] };
            news.extend(said.alert_news(tick, alerts).into_iter().map(|text| (tick, text)));
        }
        let raised = (0, "alert shortage: too little".to_owned());
        let over = (498 + OVER_AFTER_TICKS, "alert shortage is over".to_owned());
        assert_eq!(news, [raised, over]);
    }
}
