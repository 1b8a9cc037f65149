//! What an operator is told of the plans: only what is new, and what matters in the log.

use foreshadow_control::{Action, Alert, AlertKind, InstanceWeight, ServiceName, ServicePlan};

/// What was last recorded of each service, so that standing alerts and repeated advice are
/// recorded once.
#[derive(Default)]
pub(super) struct Said {
    services: std::collections::BTreeMap<ServiceName, SaidOfService>,
}

#[derive(Default)]
struct SaidOfService {
    alerts: Vec<AlertKind>,
    advice: Vec<Action>,
    advised: Vec<InstanceWeight>,
}

impl Said {
    /// Forgets the services that `known` does not know.
    pub(super) fn retain(&mut self, known: impl Fn(&ServiceName) -> bool) {
        self.services.retain(|service, _| known(service));
    }

    /// One sentence for everything that is new in `plan`; nothing when nothing is.
    pub(super) fn news(&mut self, plan: &ServicePlan) -> Option<Vec<String>> {
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
        news.extend(before.alert_news(&plan.alerts));
        (!news.is_empty()).then_some(news)
    }
}

impl SaidOfService {
    fn alert_news(&mut self, alerts: &[Alert]) -> Vec<String> {
        let raised = alerts.iter().filter(|a| !self.alerts.contains(&a.kind));
        let mut news: Vec<String> =
            raised.map(|a| format!("alert {:?}: {}", a.kind, a.text)).collect();
        let ended = self.alerts.iter().filter(|kind| !alerts.iter().any(|a| a.kind == **kind));
        news.extend(ended.map(|kind| format!("alert {kind:?} is over")));
        self.alerts = alerts.iter().map(|a| a.kind).collect();
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
