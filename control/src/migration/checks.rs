//! What a step is held against before the next.

use serde::{Deserialize, Serialize};

use super::tally::{Tally, is_worse};
use crate::fleet::Member;
use crate::verification::Verdict;
use crate::{MigrationCheck, ServiceSpec};

/// Requests that a step must have brought the target to be judged in time.
const ENOUGH: u64 = 50;
/// With fewer it is watched for so many times as long, and then passes if nothing speaks against it.
const MOST_WATCHES: u64 = 4;

/// The check that is waited for and undoes nothing.
pub(super) const SAMPLES: &str = "samples";

/// What was counted of one step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    target: Tally,
    /// The source and its peers meanwhile.
    others: Tally,
    /// The same before this step.
    before: Tally,
    /// Since when the weights of the step are in force.
    there_since_ms: Option<u64>,
    /// Since when they are not.
    lagging_since_ms: Option<u64>,
}

/// What is looked at in one tick.
pub(super) struct Watched<'a> {
    pub(super) member: &'a Member<'a>,
    /// The source's and its peers' counts of this tick.
    pub(super) others: Tally,
    /// Whether the weights of the step are in force and the target is warm.
    pub(super) there: bool,
    pub(super) now_ms: u64,
}

impl Watch {
    pub(super) fn after(before: Tally) -> Self {
        Self { before, ..Self::default() }
    }

    /// The step is watched anew.
    pub(super) fn restart(&mut self) {
        *self = Self::after(self.before);
    }

    /// The source and its peers up to now.
    pub(super) fn source_so_far(&self) -> Tally {
        if self.others.requests >= ENOUGH { self.others } else { self.before.and(&self.others) }
    }

    pub(super) fn observe(&mut self, watched: &Watched<'_>) {
        let mut seen = Tally::default();
        seen.add(&watched.member.seen.meters);
        if !watched.there {
            // A target that warms up answers late, but it fails no more than others.
            (seen.answers, seen.late) = (0, 0);
            self.lagging_since_ms.get_or_insert(watched.now_ms);
            self.there_since_ms = None;
        } else {
            self.lagging_since_ms = None;
            self.there_since_ms.get_or_insert(watched.now_ms);
        }
        self.target = self.target.and(&seen);
        self.others = self.others.and(&watched.others);
    }

    /// How long the step has not been in force.
    pub(super) fn lagging_ms(&self, now_ms: u64) -> u64 {
        self.lagging_since_ms.map_or(0, |since| now_ms.saturating_sub(since))
    }

    fn watched_ms(&self, now_ms: u64) -> u64 {
        self.there_since_ms.map_or(0, |since| now_ms.saturating_sub(since))
    }

    /// Why the step may be passed; none while it is watched. Whether anything speaks against it is not
    /// asked here.
    pub(super) fn verdict(&self, now_ms: u64, verify_ms: u64) -> Option<String> {
        let watched_ms = self.watched_ms(now_ms);
        let requests = self.target.requests;
        if self.there_since_ms.is_none() || watched_ms < verify_ms {
            return None;
        }
        if requests >= ENOUGH {
            return Some(format!("{requests} requests in {watched_ms} ms and no check failed"));
        }
        (watched_ms >= verify_ms.saturating_mul(MOST_WATCHES)).then(|| {
            format!("only {requests} requests in {watched_ms} ms, but nothing speaks against it")
        })
    }

    /// What is waited for.
    pub(super) fn text(&self, now_ms: u64, verify_ms: u64) -> String {
        if self.there_since_ms.is_none() {
            return "the weights are on their way".to_owned();
        }
        format!(
            "watched for {} of {verify_ms} ms, {} requests of at least {ENOUGH}",
            self.watched_ms(now_ms),
            self.target.requests
        )
    }

    /// Every comparison of this tick.
    pub(super) fn checks(
        &self,
        watched: &Watched<'_>,
        spec: &ServiceSpec,
        verify_ms: u64,
    ) -> Vec<MigrationCheck> {
        let check = |name: &str, passed: bool, text: String| MigrationCheck {
            name: name.to_owned(),
            passed,
            text,
        };
        let reference = self.source_so_far();
        let (id, target) = (watched.member.id(), &self.target);
        let share = |of: u64, all: u64| of as f64 * 100.0 / all.max(1) as f64;
        let objective = share_or(spec.objective.error_rate, 0.0);
        let failed = (target.failed, target.ended());
        let others_failed = (reference.failed, reference.ended());
        let errors = format!(
            "{id} failed {} of {} requests ({:.2}%); {:.2}% are allowed and {:.2}% of {} failed \
             elsewhere",
            failed.0,
            failed.1,
            share(failed.0, failed.1),
            objective * 100.0,
            share(others_failed.0, others_failed.1),
            others_failed.1
        );
        let allowed = 1.0 - share_or(spec.objective.latency_quantile, 1.0);
        let latency = format!(
            "{id} answered {} of {} later than {} ms ({:.2}%); {:.2}% may be and {:.2}% of {} were \
             elsewhere",
            target.late,
            target.answers,
            spec.objective.latency_ms,
            share(target.late, target.answers),
            allowed * 100.0,
            share(reference.late, reference.answers),
            reference.answers
        );
        let is_late =
            is_worse(target.late, target.answers, allowed, (reference.late, reference.answers));
        let samples = self.text(watched.now_ms, verify_ms);
        vec![
            check("health", true, format!("{id} is up and may take requests")),
            check("errors", !is_worse(failed.0, failed.1, objective, others_failed), errors),
            check("latency", !is_late, latency),
            check("agreement", watched.member.verdict == Verdict::Fit, agreement(watched.member)),
            check(SAMPLES, target.requests >= ENOUGH, samples),
        ]
    }
}

fn share_or(share: f64, otherwise: f64) -> f64 {
    if share.is_finite() { share.clamp(0.0, 1.0) } else { otherwise }
}

fn agreement(member: &Member<'_>) -> String {
    let id = member.id();
    match (member.verdict, member.seen.mirror) {
        (Verdict::Disagrees(share), _) => {
            format!("{id} agrees on {:.1}% of the mirrored requests", share * 100.0)
        }
        (Verdict::TooSlow(copy_ms, original_ms), _) => {
            format!(
                "{id} takes {copy_ms:.1} ms for mirrored requests, the others {original_ms:.1} ms"
            )
        }
        (Verdict::Fit, Some(mirror)) => {
            format!("{id} agrees on {} of {} mirrored requests", mirror.agreed, mirror.compared)
        }
        (Verdict::Fit, None) => format!("no request was mirrored to {id}"),
    }
}
