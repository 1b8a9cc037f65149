//! Whether a primary was missed once it was gone: requests fail, or come late, soon after a step in.

use serde::{Deserialize, Serialize};

use crate::scene::Scene;
use crate::{Objective, ScalingSpec};

/// So long a step in is watched.
const WATCH_MS: u64 = 60_000;
/// Steps that follow each other within this are not told apart: what is wrong after the last one may be the
/// first one's.
const SERIES_MS: u64 = 20_000;
/// After a step was taken back, what waits from before is no sign of what is usual for so long.
const AFTERMATH_MS: u64 = 30_000;
/// Time constants of what is seen now, and of what was usual before the step.
const NOW_MS: f64 = 5_000.0;
const USUAL_MS: f64 = 60_000.0;
/// Requests and bad ones among them below which nothing is said.
const LEAST_REQUESTS: f64 = 30.0;
const LEAST_BAD: f64 = 5.0;
/// It is worse than before by so many standard deviations of chance and by this factor, and stays so for
/// this long: requests come in bursts.
const SIGNIFICANT: f64 = 3.0;
const WORSE: f64 = 1.5;
const LASTING_MS: u64 = 1_000;
/// What the time without another step in doubles from at least, and where that ends.
const LEAST_REST_MS: u64 = 30_000;
const LONGEST_REST_MS: u64 = 3_600_000;

/// Requests of the service, and the bad ones among them; fading.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counts {
    requests: f64,
    failed: f64,
    answers: f64,
    /// Answers slower than the objective.
    late: f64,
}

/// Something that goes wrong, as shares of all.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Worse {
    what: &'static str,
    now: f64,
    before: f64,
    allowed: f64,
}

/// A step in that is watched.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Step {
    /// The number before it, or before the series that it ends.
    from: u32,
    to: u32,
    at_ms: u64,
    /// What was usual before it.
    usual: Counts,
    /// What came since.
    since: Counts,
    /// Since when it is worse.
    worse_since_ms: Option<u64>,
}

/// A number of primaries that was found to be needed by the lack of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Missed {
    pub(super) number: u32,
    /// Nothing goes before.
    pub(super) until_ms: u64,
    /// Why, with figures.
    pub(super) text: String,
}

/// The memory of steps in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Regret {
    seen_ms: Option<u64>,
    now: Counts,
    usual: Counts,
    step: Option<Step>,
    missed: Option<Missed>,
    /// Steps taken back lately, and when the last one was.
    times: u32,
    last_ms: u64,
}

impl Counts {
    fn of(scene: &Scene<'_>, unserved: u64) -> Self {
        let unserved = unserved as f64;
        let none = Self { requests: unserved, failed: unserved, ..Self::default() };
        scene.members.iter().fold(none, |sum, member| {
            let meters = &member.seen.meters;
            Self {
                requests: sum.requests + meters.requests as f64,
                failed: sum.failed + meters.failed() as f64,
                answers: sum.answers + meters.latency.count as f64,
                late: sum.late + meters.latency.over_objective as f64,
            }
        })
    }

    fn add(&mut self, other: Self, keep: f64) {
        self.requests = self.requests * keep + other.requests;
        self.failed = self.failed * keep + other.failed;
        self.answers = self.answers * keep + other.answers;
        self.late = self.late * keep + other.late;
    }

    /// What goes worse than usual and than is allowed.
    fn worse(&self, usual: &Self, objective: &Objective) -> Option<Worse> {
        let failed = ("failed", self.failed, self.requests, usual.failed, usual.requests);
        let late = ("came late", self.late, self.answers, usual.late, usual.answers);
        let allowed = [objective.error_rate, 1.0 - objective.latency_quantile];
        let kinds = [failed, late].into_iter().zip(allowed);
        let mut worse = kinds.filter_map(|((what, bad, of, usual_bad, usual_of), allowed)| {
            let before = if usual_of > 0.0 { (usual_bad / usual_of).min(1.0) } else { 0.0 };
            let now = (bad / of.max(1.0)).min(1.0);
            let most = before.max(allowed.clamp(0.0, 1.0));
            let chance = (most * (1.0 - most) / of.max(1.0)).sqrt();
            let is_worse = of >= LEAST_REQUESTS
                && bad >= LEAST_BAD
                && now > WORSE * most
                && now - most > SIGNIFICANT * chance;
            is_worse.then_some(Worse { what, now, before, allowed })
        });
        worse.next()
    }
}

impl Regret {
    /// A step in was taken.
    pub(super) fn begin(&mut self, from: u32, to: u32, at_ms: u64) {
        let series = self.step.filter(|step| at_ms.saturating_sub(step.at_ms) < SERIES_MS);
        let from = series.map_or(from, |step| step.from);
        // What an earlier step does already is not usual.
        let usual = self.step.map_or(self.usual, |step| step.usual);
        let since = Counts::default();
        self.step = Some(Step { from, to, at_ms, usual, since, worse_since_ms: None });
    }

    /// The number is not ours any more, or time passed unseen.
    pub(super) fn end(&mut self) {
        (self.step, self.seen_ms) = (None, None);
    }

    /// Somebody else has set the number: what is respected now.
    pub(super) fn yield_to_others(&mut self) {
        self.end();
        self.missed = None;
    }

    /// Takes the requests of one tick.
    pub(super) fn look(&mut self, scene: &Scene<'_>, spec: &ScalingSpec, unserved: u64) {
        let now_ms = scene.now_ms;
        let elapsed_ms = now_ms.saturating_sub(self.seen_ms.unwrap_or(now_ms)) as f64;
        self.seen_ms = Some(now_ms);
        self.missed.take_if(|missed| now_ms >= missed.until_ms);
        if self.times > 0 && now_ms.saturating_sub(self.last_ms) > 2 * LONGEST_REST_MS {
            self.times = 0;
        }
        let counts = Counts::of(scene, unserved);
        self.now.add(counts, libm::exp(-elapsed_ms / NOW_MS));
        self.step.take_if(|step| now_ms.saturating_sub(step.at_ms) > WATCH_MS);
        if self.times == 0 || now_ms.saturating_sub(self.last_ms) > AFTERMATH_MS {
            self.usual.add(counts, libm::exp(-elapsed_ms / USUAL_MS));
        }
        let Some(step) = &mut self.step else { return };
        step.since.add(counts, 1.0);
        let objective = &scene.spec.objective;
        let worse = self.now.worse(&step.usual, objective);
        let Some(worse) = worse.or_else(|| step.since.worse(&step.usual, objective)) else {
            step.worse_since_ms = None;
            return;
        };
        let since_ms = *step.worse_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) >= LASTING_MS {
            let step = *step;
            self.take_back(spec, step, worse, now_ms);
        }
    }

    fn take_back(&mut self, spec: &ScalingSpec, step: Step, worse: Worse, now_ms: u64) {
        self.times = self.times.saturating_add(1);
        self.last_ms = now_ms;
        let times = 1_u64 << self.times.min(10);
        let longest_ms = LONGEST_REST_MS.max(spec.cooldown_ms);
        let rest_ms = spec.cooldown_ms.max(LEAST_REST_MS).saturating_mul(times).min(longest_ms);
        let Worse { what, now, before, allowed } = worse;
        let text = format!(
            "{:.1}% of requests {what} within {:.1} s of the step from {} to {} ({:.1}% before, {:.1}% \
             allowed): the step is taken back, and none goes for {} s",
            now * 100.0,
            now_ms.saturating_sub(step.at_ms) as f64 / 1_000.0,
            step.from,
            step.to,
            before * 100.0,
            allowed * 100.0,
            rest_ms / 1_000
        );
        self.step = None;
        self.missed =
            Some(Missed { number: step.from, until_ms: now_ms.saturating_add(rest_ms), text });
    }

    /// Whether no primary may go: one was missed lately, or may be now.
    pub(super) fn is_uneasy(&self) -> bool {
        self.missed.is_some() || self.step.is_some_and(|step| step.worse_since_ms.is_some())
    }

    /// What was missed lately.
    pub(super) fn missed(&self) -> Option<&Missed> {
        self.missed.as_ref()
    }
}
