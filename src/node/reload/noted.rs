//! What became of a reload, for those who ask, the decision records and the audit.

use std::sync::Arc;

use foreshadow_config::Config;
use serde_json::{Value, json};

use super::Reloader;
use crate::node::audit::{Actor, Entry, Outcome};
use crate::node::decisions::{Decision, Kind};
use crate::node::file::Fingerprint;
use crate::node::{ReloadOutcome, ReloadStatus};

/// The files that a configuration names: of the one in force, and of the one read last.
pub(super) struct Files {
    pub(super) in_force: Vec<Value>,
    pub(super) seen: Vec<Value>,
}

impl Files {
    /// Those of each that the other has not, or not so.
    fn differing(&self) -> (Vec<&Value>, Vec<&Value>) {
        let before = self.in_force.iter().filter(|file| !self.seen.contains(file));
        let after = self.seen.iter().filter(|file| !self.in_force.contains(file));
        (before.collect(), after.collect())
    }
}

impl Reloader {
    /// Puts on record what became of the configuration with the digest `found`.
    pub(super) fn note(
        &self,
        (why, by): (&str, Actor),
        (before, found): (Fingerprint, Fingerprint),
        outcome: &ReloadOutcome,
    ) {
        let at_ms = self.shared.clock.now_ms();
        let mut status = ReloadStatus::clone(&self.shared.reload.load());
        let tick = self.shared.view().map_or(0, |view| view.plan.tick);
        let entry = Entry { tick, ..Entry::new(at_ms, by, "config.reload") };
        let (was, is) = (before.to_string(), found.to_string());
        let (summary, entry) = match outcome {
            ReloadOutcome::Applied { changes } => {
                status.applied += 1;
                let (files_before, files) = self.files.differing();
                let after = json!({ "sha256": is, "changes": changes, "files": files });
                let before = json!({ "sha256": was, "files": files_before });
                let entry = entry.changed(before, after);
                (changes.clone(), entry.came_to(Outcome::Done, why))
            }
            ReloadOutcome::Refused { error } => {
                status.refused += 1;
                let after = json!({ "sha256": was, "refused_sha256": is, "for": why });
                let entry = entry.changed(json!({ "sha256": was }), after);
                let summary = vec![format!("reload refused: {error}")];
                (summary, entry.came_to(Outcome::Failed, error))
            }
        };
        status.last = Some((at_ms, outcome.clone()));
        self.shared.reload.store(Arc::new(status));
        self.shared.audit.record(entry);
        self.shared.decisions.record(Decision {
            at_ms,
            tick,
            service: String::new(),
            kind: Kind::Reload,
            laws: Vec::new(),
            summary,
            alerts: Vec::new(),
            observation: None,
            plan: None,
        });
    }
}

/// What differs, a line each, with what only a restart changes named as such.
pub(super) fn differences(before: &Config, now: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, service) in &now.services {
        match before.services.get(name) {
            None => lines.push(format!("service {name} added")),
            Some(old) if old != service => lines.push(format!("service {name} changed")),
            Some(_) => {}
        }
    }
    let gone = before.services.keys().filter(|name| !now.services.contains_key(*name));
    lines.extend(gone.map(|name| format!("service {name} removed")));
    if before.listeners != now.listeners {
        lines.push("listeners changed".to_owned());
    }
    let fixed = [
        ("admin", before.admin != now.admin),
        ("state_dir", before.state_dir != now.state_dir),
        ("workers", before.workers != now.workers),
        ("log", before.log != now.log),
        ("recording", before.recording != now.recording),
        ("history", before.history != now.history),
        ("audit", before.audit != now.audit),
        ("reload", before.reload != now.reload),
        ("drain_timeout", before.drain_timeout != now.drain_timeout),
    ];
    let waiting = fixed.into_iter().filter(|(_, changed)| *changed);
    lines
        .extend(waiting.map(|(name, _)| format!("{name} changed: takes effect at the next start")));
    if lines.is_empty() {
        lines.push("nothing changed".to_owned());
    }
    lines
}
