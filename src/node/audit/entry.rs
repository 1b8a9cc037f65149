//! One entry of the audit: who did what to what, what it was before and after, and what came of it.

use foreshadow_config::Role;
use foreshadow_control::{InstanceId, Law};
use serde_json::Value;

/// Longest text of a state and of a cause that is kept, in bytes.
const MOST_STATE: usize = 8 * 1024;
const MOST_CAUSE: usize = 2 * 1024;
/// Longest name of anything.
const MOST_NAME: usize = 256;

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Somebody at the admin interface; without a role where no token is asked for.
    Caller {
        /// Name of the token.
        name: String,
        /// What it may do.
        role: Option<Role>,
        /// Where the request came from.
        peer: String,
    },
    /// A law of the controller.
    Law(Law),
    /// The Shadow Instance Manager, on its own or as it was told.
    Manager,
    /// The node itself.
    Node,
    /// A signal to the process.
    Signal,
    /// A changed file.
    File,
}

impl Actor {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Caller { .. } => "caller",
            Self::Law(_) => "law",
            Self::Manager => "manager",
            Self::Node => "node",
            Self::Signal => "signal",
            Self::File => "file",
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Caller { name, .. } => name,
            Self::Law(law) => law.as_str(),
            Self::Signal => "SIGHUP",
            Self::Manager | Self::Node | Self::File => "",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was handed on; what came of it is an entry of its own.
    Asked,
    /// It is so.
    Done,
    /// It is not so; the cause says why.
    Failed,
    /// It was not allowed.
    Denied,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Denied => "denied",
        }
    }
}

/// Something that was done, on its way to the record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Unix time.
    pub(crate) at_ms: u64,
    /// The tick it was decided or seen in; 0 where there is none.
    pub(crate) tick: u64,
    /// Who did it.
    pub(crate) actor: Actor,
    /// What was done, such as `instance.thaw`.
    pub(crate) action: &'static str,
    /// The service it was done to; empty for the whole node.
    pub(crate) service: String,
    /// The instance, where it was done to one.
    pub(crate) instance: Option<InstanceId>,
    /// What was so before; null where that says nothing.
    pub(crate) before: Value,
    /// What is so after it.
    pub(crate) after: Value,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// Why it was done, or why it failed.
    pub(crate) cause: String,
}

impl Entry {
    /// Something that was done to the whole node, with nothing more to say of it.
    pub(crate) fn new(at_ms: u64, actor: Actor, action: &'static str) -> Self {
        Self {
            at_ms,
            tick: 0,
            actor,
            action,
            service: String::new(),
            instance: None,
            before: Value::Null,
            after: Value::Null,
            outcome: Outcome::Done,
            cause: String::new(),
        }
    }

    /// With what came of it, and why.
    pub(crate) fn came_to(mut self, outcome: Outcome, cause: impl Into<String>) -> Self {
        self.outcome = outcome;
        self.cause = cause.into();
        self
    }

    /// With what was so before and is so after it.
    pub(crate) fn changed(mut self, before: Value, after: Value) -> Self {
        (self.before, self.after) = (before, after);
        self
    }

    /// With the service it was done to.
    pub(crate) fn of(mut self, service: &str) -> Self {
        service.clone_into(&mut self.service);
        self
    }

    /// As it is stored: nothing of it is a secret, and nothing is too long.
    pub(super) fn texts(&self) -> Texts {
        let (role, peer) = match &self.actor {
            Actor::Caller { role, peer, .. } => (role.map_or("", Role::as_str), peer.as_str()),
            _ => ("", ""),
        };
        Texts {
            kind: self.actor.kind().to_owned(),
            actor: clean(self.actor.name(), MOST_NAME),
            role: role.to_owned(),
            peer: clean(peer, MOST_NAME),
            action: self.action.to_owned(),
            // By these an entry is found: a short secret that is part of a name tells nothing.
            service: bounded(self.service.replace('\0', "\u{fffd}"), MOST_NAME),
            instance: self.instance.map(|id| id.to_string()).unwrap_or_default(),
            before: self.state(&self.before),
            after: self.state(&self.after),
            outcome: self.outcome.as_str().to_owned(),
            cause: clean(&self.cause, MOST_CAUSE),
        }
    }

    /// Numbers and hashes that the record itself stands on hold nothing of anybody's.
    fn state(&self, value: &Value) -> String {
        if value.is_null() {
            return String::new();
        }
        let text = value.to_string();
        if self.action.starts_with("audit.") {
            return text;
        }
        let covered = crate::secrets::cover(&text).into_owned();
        if covered.len() > MOST_STATE {
            return serde_json::json!({ "left_out_bytes": covered.len() }).to_string();
        }
        covered
    }
}

/// The texts of an entry, in the order in which they are hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) kind: String,
    pub(crate) actor: String,
    pub(crate) role: String,
    pub(crate) peer: String,
    pub(crate) action: String,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) outcome: String,
    pub(crate) cause: String,
}

impl Texts {
    /// All of them, in order.
    pub(crate) fn all(&self) -> [&str; 11] {
        [
            &self.kind,
            &self.actor,
            &self.role,
            &self.peer,
            &self.action,
            &self.service,
            &self.instance,
            &self.before,
            &self.after,
            &self.outcome,
            &self.cause,
        ]
    }
}

/// Without secrets, without what no text of SQLite should hold, and cut where it is too long.
fn clean(text: &str, most: usize) -> String {
    bounded(crate::secrets::cover(text).replace('\0', "\u{fffd}"), most)
}

fn bounded(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = text.floor_char_boundary(most - '…'.len_utf8());
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = "ä".repeat(5_000);
        let entry = Entry::new(1, Actor::Node, "node.start")
            .changed(Value::Null, json!({ "long": long }))
            .came_to(Outcome::Failed, long.clone());
        let texts = entry.texts();
        assert_eq!(texts.before, "");
        assert_eq!(texts.after, json!({ "left_out_bytes": 10_011 }).to_string());
        assert!(texts.cause.len() <= MOST_CAUSE && texts.cause.ends_with("ä…"), "{}", texts.cause);
    }
}
