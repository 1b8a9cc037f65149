//! Which alerts stand, and what is told when one begins or is over.

use foreshadow_control::{Alert, AlertKind, ServiceName};

use super::{News, State};

/// Ticks an alert must be gone before it is said to be over: demand close to a limit would
/// otherwise raise and end it several times a second. The API shows each tick as it is.
pub(in crate::node) const OVER_AFTER_TICKS: u64 = 100;

/// The alerts of a service that were said to stand.
#[derive(Default)]
pub(in crate::node) struct Turns {
    standing: Vec<Standing>,
}

struct Standing {
    kind: AlertKind,
    rule: Option<String>,
    /// The last tick that had it, and when it began, milliseconds since 1970.
    seen: u64,
    since_ms: u64,
}

/// An alert that begins or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Turn {
    pub(in crate::node) kind: AlertKind,
    pub(in crate::node) rule: Option<String>,
    /// Its text where it begins.
    pub(in crate::node) begins: Option<String>,
    since_ms: u64,
    at_ms: u64,
}

impl Turns {
    /// Takes the alerts of one tick, those of rules by rule.
    pub(in crate::node) fn follow(
        &mut self,
        tick: u64,
        now_ms: u64,
        alerts: &[Alert],
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        for alert in alerts {
            let same = |known: &&mut Standing| known.kind == alert.kind && known.rule == alert.rule;
            if let Some(known) = self.standing.iter_mut().find(same) {
                known.seen = tick;
                continue;
            }
            let (kind, rule) = (alert.kind, alert.rule.clone());
            self.standing.push(Standing { kind, rule: rule.clone(), seen: tick, since_ms: now_ms });
            let begins = Some(alert.text.clone());
            turns.push(Turn { kind, rule, begins, since_ms: now_ms, at_ms: now_ms });
        }
        let over = |known: &mut Standing| tick.saturating_sub(known.seen) >= OVER_AFTER_TICKS;
        turns.extend(self.standing.extract_if(.., over).map(|known| known.ends(now_ms)));
        turns
    }

    /// Nothing is said of the service any more: all that stands is over.
    pub(in crate::node) fn end(self, now_ms: u64) -> Vec<Turn> {
        self.standing.into_iter().map(|known| known.ends(now_ms)).collect()
    }
}

impl Standing {
    fn ends(self, now_ms: u64) -> Turn {
        let Self { kind, rule, since_ms, .. } = self;
        Turn { kind, rule, begins: None, since_ms, at_ms: now_ms }
    }
}

impl Turn {
    /// What an endpoint is told of it.
    pub(in crate::node) fn news(&self, service: &ServiceName) -> News {
        let rule = self.rule.as_ref().map_or_else(String::new, |rule| format!("/{rule}"));
        let text = self.begins.as_deref().unwrap_or("it is over");
        News {
            id: format!("{service}/{}{rule}/{}", self.kind.as_str(), self.since_ms),
            alert: self.kind,
            state: if self.begins.is_some() { State::Begins } else { State::Ends },
            service: service.to_string(),
            rule: self.rule.clone(),
            text: crate::secrets::cover(text).into_owned(),
            since_ms: self.since_ms,
            at_ms: self.at_ms,
        }
    }
}
