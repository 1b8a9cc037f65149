//! Which plan a migration to a place shifts by: a bandit over few plans, on a ladder.
//!
//! *The bandit.* The value of a plan is `safety * (1 - 0.1 * time)`: `time` is what it takes as a part of what
//! the most careful one takes, which is known; `safety` is 0 for a migration that failed, else 1 less the share of
//! requests it harmed, of which 2 % count as all. Of safety an upper confidence bound is taken, that of KL-UCB
//! (Garivier and Cappe 2011, "The KL-UCB algorithm for bounded stochastic bandits and beyond") on discounted
//! counts (Garivier and Moulines 2011, "On upper-confidence bound policies for switching bandit problems"), since
//! places change. Of equal plans the configured one comes first, then the more careful one. No chance is in it.
//!
//! *The ladder.* Optimism alone would try a fast plan again soon after it failed. So no plan is chosen that is
//! faster than the place's rung: the configured plan at first, one slower at once after a failure, one faster only
//! after N successes in a row on the rung, 2N when that one failed before, 4N when twice; after four times as many
//! successes in a row that is halved again. So of T migrations to a place at most `log2(T / N) + 2 + T / 4N` fail
//! on each rung above the most careful one, whatever the place does: [`most_failures`]. Nothing is chosen beyond
//! [`LearningSpec::fastest`](super::LearningSpec::fastest).

use serde::{Deserialize, Serialize};

use super::pace::{Pace, Shift, ShiftOutcome};
use super::{ArmView, LearningSpec, RungView};
use crate::MigrationSpec;

/// What of the value of a migration that went well its time is, at most.
const TIME_PART: f64 = 0.1;
/// This share of harmed requests is as bad as a failure.
const HARM: f64 = 0.02;
/// Each further migration to a place leaves this part of the earlier ones: about the last hundred count.
const KEPT: f64 = 0.99;
/// Factor by which N grows at most, in doublings.
const MOST_DOUBLINGS: u32 = 16;
/// Of so many times the successes that a rung took, half of its failures are forgiven.
const FORGIVING: u32 = 4;

/// What is known of one plan in one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Arm {
    /// Migrations, discounted, and the sum of their safety.
    pulls: f64,
    safety: f64,
    /// Migrations and failures, all of them.
    migrations: u64,
    failed: u64,
    /// How often N was doubled for it.
    doublings: u32,
}

/// What is known of the migrations to one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Shifts {
    arms: [Arm; 3],
    /// The fastest plan that may be chosen; none before a first outcome: the configured one.
    rung: Option<Pace>,
    /// Successes in a row on the rung.
    in_a_row: u32,
}

impl Shifts {
    /// The fastest plan that may be chosen now.
    fn rung(&self, spec: LearningSpec) -> Pace {
        self.rung.unwrap_or_default().min(spec.fastest)
    }

    /// Successes in a row that a plan needs before it is tried.
    fn needed(&self, pace: Pace, spec: LearningSpec) -> u32 {
        spec.successes
            .max(1)
            .saturating_mul(1 << self.arms[pace as usize].doublings.min(MOST_DOUBLINGS))
    }

    /// The upper bound of the value of a plan.
    fn bound(&self, pace: Pace, migration: &MigrationSpec) -> Option<f64> {
        let time = time_part(pace, migration)?;
        let arm = &self.arms[pace as usize];
        let all: f64 = self.arms.iter().map(|arm| arm.pulls).sum();
        let safety = kl_bound(arm.mean(), arm.pulls, libm::log(all.max(1.0)));
        Some(safety * (1.0 - TIME_PART * time))
    }

    /// The plan for the next migration.
    pub(super) fn choose(&self, spec: LearningSpec, migration: &MigrationSpec) -> Shift {
        let rung = self.rung(spec);
        let mut best = (Pace::Careful, f64::NEG_INFINITY);
        // Of equal ones the configured plan, then the more careful one.
        for pace in [Pace::Normal, Pace::Careful, Pace::Brisk] {
            if let Some(bound) = self.bound(pace, migration).filter(|_| pace <= rung)
                && bound > best.1
            {
                best = (pace, bound);
            }
        }
        let (pace, bound) = best;
        let (steps, verify_ms) =
            pace.plan(migration).unwrap_or((migration.steps.clone(), migration.verify_ms));
        let arm = &self.arms[pace as usize];
        let text = format!(
            "the {pace} plan: {} of {} migrations by it went well here, its value is at most {bound:.3}; {}",
            arm.migrations - arm.failed.min(arm.migrations),
            arm.migrations,
            self.rung_text(spec),
        );
        Shift { pace, steps, verify_ms, text }
    }

    fn rung_text(&self, spec: LearningSpec) -> String {
        let rung = self.rung(spec);
        match rung.faster().filter(|faster| *faster <= spec.fastest) {
            Some(faster) => format!(
                "none faster than {rung} until {} in a row went well by it ({} have), then {faster}",
                self.needed(faster, spec),
                self.in_a_row
            ),
            None => format!("none is faster than {rung}"),
        }
    }

    /// Takes what became of one migration.
    pub(super) fn learn(&mut self, outcome: ShiftOutcome, spec: LearningSpec) {
        for arm in &mut self.arms {
            arm.pulls *= KEPT;
            arm.safety *= KEPT;
        }
        let harmed = if outcome.harmed.is_finite() { outcome.harmed.max(0.0) } else { 1.0 };
        let safety = if outcome.completed { 1.0 - (harmed / HARM).min(1.0) } else { 0.0 };
        // So much harm is a failure, whatever the checks said.
        let failed = !outcome.completed || safety <= 0.0;
        let arm = &mut self.arms[outcome.pace as usize];
        arm.pulls += 1.0;
        arm.safety += safety;
        arm.migrations = arm.migrations.saturating_add(1);
        arm.failed = arm.failed.saturating_add(u64::from(failed));
        if failed {
            arm.doublings = (arm.doublings + 1).min(MOST_DOUBLINGS);
            self.rung = Some(self.rung(spec).min(outcome.pace.slower()));
            self.in_a_row = 0;
        } else {
            self.climb(outcome.pace, spec);
        }
    }

    fn climb(&mut self, pace: Pace, spec: LearningSpec) {
        let rung = self.rung(spec);
        if pace < rung {
            // By a slower plan nothing is shown for a faster one than the rung's.
            return;
        }
        self.rung = Some(rung);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let forgiven = FORGIVING.saturating_mul(self.needed(rung, spec));
        // What went well on a rung speaks for the slower ones, too.
        let trusted = &mut self.arms[..=rung as usize];
        if self.in_a_row >= forgiven && trusted.iter().any(|arm| arm.doublings > 0) {
            trusted.iter_mut().for_each(|arm| arm.doublings = arm.doublings.saturating_sub(1));
            self.in_a_row = 0;
        }
        let faster = rung.faster().filter(|faster| *faster <= spec.fastest);
        if let Some(faster) = faster.filter(|faster| self.in_a_row >= self.needed(*faster, spec)) {
            self.rung = Some(faster);
            self.in_a_row = 0;
        }
    }

    /// How it stands.
    pub(super) fn view(&self, spec: LearningSpec, migration: &MigrationSpec) -> RungView {
        let to_a_thousandth = |figure: f64| (figure * 1_000.0).round() / 1_000.0;
        let arm = |pace: Pace| {
            let arm = &self.arms[pace as usize];
            let (steps, verify_ms) = pace.plan(migration)?;
            Some(ArmView {
                pace,
                steps,
                verify_ms,
                allowed: pace <= self.rung(spec),
                migrations: arm.migrations,
                failed: arm.failed,
                pulls: to_a_thousandth(arm.pulls),
                mean: (arm.pulls > 0.0).then(|| {
                    let time = time_part(pace, migration).unwrap_or(0.0);
                    to_a_thousandth(arm.mean() * (1.0 - TIME_PART * time))
                }),
                bound: to_a_thousandth(self.bound(pace, migration).unwrap_or(0.0)),
            })
        };
        RungView {
            next: self.choose(spec, migration),
            arms: Pace::ALL.into_iter().filter_map(arm).collect(),
        }
    }
}

impl Arm {
    fn mean(&self) -> f64 {
        if self.pulls > 0.0 { self.safety / self.pulls } else { 1.0 }
    }
}

/// What a plan takes as a part of what the most careful one takes.
fn time_part(pace: Pace, migration: &MigrationSpec) -> Option<f64> {
    let takes = |pace: Pace| pace.plan(migration).map(|(steps, ms)| steps.len() as f64 * ms as f64);
    Some((takes(pace)? / takes(Pace::Careful)?.max(1.0)).clamp(0.0, 1.0))
}

/// The largest mean that is as far from the one seen, in relative entropy, as `room / pulls` allows.
fn kl_bound(mean: f64, pulls: f64, room: f64) -> f64 {
    if pulls <= 0.0 {
        return 1.0;
    }
    let mean = mean.clamp(0.0, 1.0);
    let (mut low, mut high) = (mean, 1.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if pulls * relative_entropy(mean, middle) <= room { low = middle } else { high = middle }
    }
    low
}

/// Of two coins.
fn relative_entropy(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| {
        if p <= 0.0 {
            0.0
        } else if q <= 0.0 {
            f64::INFINITY
        } else {
            p * libm::log(p / q)
        }
    };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// Of so many migrations to one place at most these fail on one rung above the most careful one, with `successes`
/// as in [`LearningSpec`](super::LearningSpec).
#[must_use]
pub fn most_failures(migrations: u32, successes: u32) -> f64 {
    let (all, each) = (f64::from(migrations), f64::from(successes.max(1)));
    libm::log2((all / each).max(1.0)) + 2.0 + all / (f64::from(FORGIVING) * each)
}
