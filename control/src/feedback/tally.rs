//! Counts of verdicts, with the lead times of the newest.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::view::{AlarmScore, LeadTime, StepScore};
use super::{Step, Verdict};

/// Lead times remembered.
const NEWEST: usize = 64;

/// What became of the steps of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct StepTally {
    right: u64,
    early: u64,
    late: u64,
    falses: u64,
    leads: Leads,
}

impl StepTally {
    pub(super) fn add(&mut self, verdict: Verdict, lead_ms: Option<i64>) {
        let count = match verdict {
            Verdict::Right => &mut self.right,
            Verdict::Early => &mut self.early,
            Verdict::Late => &mut self.late,
            Verdict::False => &mut self.falses,
        };
        *count = count.saturating_add(1);
        lead_ms.into_iter().for_each(|lead_ms| self.leads.add(lead_ms));
    }

    pub(super) fn score(&self, step: Step) -> StepScore {
        let Self { right, early, late, falses, .. } = *self;
        StepScore { step, right, early, late, false_ones: falses, lead: self.leads.summary() }
    }
}

/// What became of alarms: of risk, or of a rule that looks ahead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlarmTally {
    right: u64,
    falses: u64,
    averted: u64,
    missed: u64,
    leads: Leads,
}

impl AlarmTally {
    /// It came true, so long after the alarm.
    pub(crate) fn came_true(&mut self, after_ms: u64) {
        self.right = self.right.saturating_add(1);
        self.leads.add(i64::try_from(after_ms).unwrap_or(i64::MAX));
    }

    /// It did not come true in its time. Where something was done against it, nobody can tell
    /// whether it would have.
    pub(crate) fn came_to_nothing(&mut self, was_acted_on: bool) {
        let count = if was_acted_on { &mut self.averted } else { &mut self.falses };
        *count = count.saturating_add(1);
    }

    /// It happened without an alarm.
    pub(crate) fn missed(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    pub(crate) fn score(&self, name: Option<&str>) -> AlarmScore {
        AlarmScore {
            name: name.map(ToOwned::to_owned),
            right: self.right,
            false_ones: self.falses,
            averted: self.averted,
            missed: self.missed,
            lead: self.leads.summary(),
        }
    }
}

/// The newest lead times, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Leads {
    newest_ms: VecDeque<i64>,
}

impl Leads {
    fn add(&mut self, lead_ms: i64) {
        if self.newest_ms.len() == NEWEST {
            self.newest_ms.pop_front();
        }
        self.newest_ms.push_back(lead_ms);
    }

    fn summary(&self) -> Option<LeadTime> {
        let mut sorted: Vec<i64> = self.newest_ms.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |tenths: usize| sorted[last * tenths / 10];
        Some(LeadTime { p10_ms: at(1), p50_ms: at(5), p90_ms: at(9) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lead_times_count() {
        let mut tally = StepTally::default();
        for lead_ms in 0..1_000 {
            tally.add(Verdict::Right, Some(lead_ms));
        }
        let score = tally.score(Step::Commit);
        assert_eq!(score.right, 1_000);
        let lead = score.lead.expect("there are some");
        assert!(lead.p10_ms >= 936 && lead.p90_ms <= 999, "{lead:?}");
    }
}
