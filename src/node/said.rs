//! What an operator is told of the plans: only what is new, and what matters in the log.

use foreshadow_control::{Action, InstanceWeight, ServiceName, ServicePlan};

use super::alerting::{Turn, Turns};

/// What was last recorded of each service, so that standing alerts and repeated advice are
/// recorded once.
#[derive(Default)]
pub(super) struct Said {
    services: std::collections::BTreeMap<ServiceName, SaidOfService>,
    turns: Vec<(ServiceName, Turn)>,
}

#[derive(Default)]
struct SaidOfService {
    alerts: Turns,
    advice: Vec<Action>,
    advised: Vec<InstanceWeight>,
}

impl Said {
    /// Forgets the services that `known` does not know; their alerts are over.
    pub(super) fn retain(&mut self, now_ms: u64, known: impl Fn(&ServiceName) -> bool) {
        for (service, gone) in self.services.extract_if(.., |service, _| !known(service)) {
            let over = gone.alerts.end(now_ms);
            self.turns.extend(over.into_iter().map(|turn| (service.clone(), turn)));
        }
    }

    /// Alerts that began or ended since they were taken last.
    pub(super) fn take_turns(&mut self) -> Vec<(ServiceName, Turn)> {
        std::mem::take(&mut self.turns)
    }

    /// One sentence for everything that is new in `plan`; nothing when nothing is.
    pub(super) fn news(
        &mut self,
        (tick, now_ms): (u64, u64),
        plan: &ServicePlan,
    ) -> Option<Vec<String>> {
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
        let turns = before.alerts.follow(tick, now_ms, &plan.alerts);
        news.extend(turns.iter().map(turn_text));
        self.turns.extend(turns.into_iter().map(|turn| (plan.service.clone(), turn)));
        (!news.is_empty()).then_some(news)
    }
}

fn turn_text(turn: &Turn) -> String {
    let kind = turn.kind.as_str();
    match (&turn.begins, &turn.rule) {
        (Some(text), _) => format!("alert {kind}: {text}"),
        (None, Some(rule)) => format!("alert {kind} of rule {rule} is over"),
        (None, None) => format!("alert {kind} is over"),
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
