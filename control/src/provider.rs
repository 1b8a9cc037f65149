//! What is known of the provider of one place: lead times, orders to create that are under way, its refusals.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::alerts::Refusal;
use crate::lead_time::LeadTimes;
use crate::{Fact, InstanceId, Tier};

/// An order not seen to have had effect within this multiple of its lead time is taken for lost.
const LOST_AFTER_LEADS: u64 = 3;
const LOST_AFTER_LEAST_MS: u64 = 1_000;
/// A back-off is never taken to be longer.
const LONGEST_BACK_OFF_MS: u64 = 3_600_000;
/// A place where nothing could be made is gone round for this long after its back-off, for twice as long
/// after each further failure in a row: a provider that hangs must not be tried, and waited for, each time.
const FIRST_SHUN_MS: u64 = 10_000;
const MOST_DOUBLINGS: u32 = 6;
/// Orders to create remembered at most.
const MOST_PENDING: usize = 10_000;
/// A failure is forgotten when it was not repeated for this long after its back-off, and for so many
/// times the pause between the last two: a provider that is silent fails only every so often.
const FORGIVEN_AFTER_MS: u64 = 10_000;
const FORGIVEN_AFTER_PAUSES: u64 = 2;
/// However rare they were.
const LONGEST_UNFORGIVEN_MS: u64 = 300_000;
/// Shadows no longer there, or never seen, that are remembered at most.
const MOST_SETTLED: usize = 256;

/// The provider of one service as the controller knows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProviderView {
    pub(crate) leads: LeadTimes,
    /// When each creation that is under way and not visible yet is taken for lost; oldest first.
    pending: VecDeque<u64>,
    /// Creations are refused until then.
    blocked_until_ms: u64,
    failure: Option<Failure>,
    /// Creations that failed in a row, and until when other places come first for it.
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    shunned_until_ms: u64,
    /// Shadows whose creation is no longer under way though they are not there: those that are
    /// gone, and those that failed before they were seen. What comes late about them, or a second
    /// time, settles no other creation.
    #[serde(default)]
    settled: VecDeque<InstanceId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failure {
    to: Tier,
    error: String,
    until_ms: u64,
    #[serde(default)]
    at_ms: u64,
    /// Since the one before.
    #[serde(default)]
    pause_ms: u64,
}

impl ProviderView {
    /// Takes one fact; returns an instance whose steps are refused, and until when. `is_there`
    /// says whether an instance is among those seen.
    pub(crate) fn learn(
        &mut self,
        fact: &Fact,
        now_ms: u64,
        is_there: impl Fn(InstanceId) -> bool,
    ) -> Option<(InstanceId, u64)> {
        match fact {
            Fact::TierReached { from, tier, took_ms, .. } => {
                self.leads.learn(*from, *tier, *took_ms);
                self.failure.take_if(|failure| failure.to == *tier);
                if *from == Tier::Cold {
                    (self.failures, self.shunned_until_ms) = (0, 0);
                }
                None
            }
            Fact::StepFailed { instance, to, error, retry_in_ms, .. } => {
                let until_ms = now_ms.saturating_add((*retry_in_ms).min(LONGEST_BACK_OFF_MS));
                let before = self.failure.take();
                let pause_ms = before.map_or(0, |f| f.pause_ms.max(now_ms.saturating_sub(f.at_ms)));
                let error = error.clone();
                self.failure = Some(Failure { to: *to, error, until_ms, at_ms: now_ms, pause_ms });
                let creating = instance.is_none() || *to == Tier::Shadow;
                if creating {
                    // Those that were under way at the last failure are no further ones.
                    let is_further = now_ms >= self.blocked_until_ms;
                    self.failures = self.failures.saturating_add(u32::from(is_further));
                    self.blocked_until_ms = self.blocked_until_ms.max(until_ms);
                    let doublings = self.failures.saturating_sub(1).min(MOST_DOUBLINGS);
                    self.shunned_until_ms = until_ms.saturating_add(FIRST_SHUN_MS << doublings);
                }
                match instance {
                    None => self.ended_unseen(None),
                    Some(id) if creating && !is_there(*id) => self.ended_unseen(Some(*id)),
                    Some(_) => {}
                }
                instance.map(|id| (id, until_ms))
            }
            Fact::Exited { instance, .. } => {
                if !is_there(*instance) {
                    self.ended_unseen(Some(*instance));
                }
                None
            }
            Fact::Adopted { .. } => None,
        }
    }

    /// A creation came to its end before anybody saw the shadow.
    fn ended_unseen(&mut self, id: Option<InstanceId>) {
        if id.is_none_or(|id| self.remember_settled(id)) {
            self.pending.pop_front();
        }
    }

    /// Remembers a shadow that is not there; false when that was known.
    pub(crate) fn remember_settled(&mut self, id: InstanceId) -> bool {
        if self.settled.contains(&id) {
            return false;
        }
        if self.settled.len() >= MOST_SETTLED {
            self.settled.pop_front();
        }
        self.settled.push_back(id);
        true
    }

    /// Whether a shadow seen for the first time is one whose creation was under way.
    pub(crate) fn was_awaited(&self, id: InstanceId) -> bool {
        !self.settled.contains(&id)
    }

    /// Creations that became visible, or never will, are no longer under way.
    pub(crate) fn settle(&mut self, new_shadows: u32, now_ms: u64) {
        for _ in 0..new_shadows {
            self.pending.pop_front();
        }
        while self.pending.front().is_some_and(|expires_ms| *expires_ms <= now_ms) {
            self.pending.pop_front();
        }
    }

    /// A creation was ordered.
    pub(crate) fn ordered(&mut self, now_ms: u64) {
        if self.pending.len() < MOST_PENDING {
            self.pending.push_back(self.expiry_ms(Tier::Cold, Tier::Shadow, now_ms));
        }
    }

    /// When an order for a step given now is taken for lost.
    pub(crate) fn expiry_ms(&self, from: Tier, to: Tier, now_ms: u64) -> u64 {
        now_ms + LOST_AFTER_LEADS * self.leads.done_ms(from, to) + LOST_AFTER_LEAST_MS
    }

    /// Whether a creation is under way and not visible yet.
    pub(crate) fn awaits(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn pending(&self) -> u32 {
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    /// Whether nothing could be made here lately, so that other places come first.
    pub(crate) fn is_shunned(&self, now_ms: u64) -> bool {
        now_ms < self.shunned_until_ms
    }

    /// How long no creation may be asked for.
    pub(crate) fn blocked_ms(&self, now_ms: u64) -> u64 {
        self.blocked_until_ms.saturating_sub(now_ms)
    }

    /// The failure that still holds: until its back-off is over, or a step like it succeeds.
    pub(crate) fn refusal(&self, now_ms: u64) -> Option<Refusal<'_>> {
        let failure = self.failure.as_ref()?;
        Some(Refusal {
            error: &failure.error,
            to: failure.to,
            left_ms: failure.until_ms.saturating_sub(now_ms),
        })
    }

    /// Forgets a failure that was not repeated long after its back-off, unless what it is about is being
    /// tried.
    pub(crate) fn forgive(&mut self, now_ms: u64, tries: bool) {
        self.failure.take_if(|failure| {
            let pauses_ms = failure.pause_ms.saturating_mul(FORGIVEN_AFTER_PAUSES);
            let quiet_ms = pauses_ms.clamp(FORGIVEN_AFTER_MS, LONGEST_UNFORGIVEN_MS);
            !tries && failure.until_ms.saturating_add(quiet_ms) < now_ms
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(id: u64, to: Tier) -> Fact {
        Fact::StepFailed {
            instance: Some(InstanceId(id)),
            to,
            error: "out of memory".to_owned(),
            retry_in_ms: 300,
            place: crate::PlaceName::default(),
        }
    }

    #[test]
    fn a_creation_that_fails_unseen_is_under_way_no_longer() {
        let mut provider = ProviderView::default();
        provider.ordered(0);
        provider.learn(&failed(7, Tier::Shadow), 100, |_| false);
        provider.settle(0, 500);
        assert_eq!(provider.pending(), 0);
        assert_eq!(
            (provider.blocked_ms(399), provider.blocked_ms(400)),
            (1, 0),
            "the back-off holds"
        );
    }

    #[test]
    fn one_failure_settles_one_creation() {
        let mut provider = ProviderView::default();
        provider.ordered(0);
        provider.ordered(0);
        provider.learn(&failed(7, Tier::Shadow), 100, |_| false);
        provider.learn(&failed(7, Tier::Shadow), 200, |_| false);
        assert_eq!(provider.pending(), 1, "told twice");
        provider.learn(&failed(8, Tier::Shadow), 300, |id| id == InstanceId(8));
        assert_eq!(provider.pending(), 1, "one that is there is counted as seen");
        provider.remember_settled(InstanceId(9));
        let exit =
            Fact::Exited { instance: InstanceId(9), tier: Tier::Warm, detail: String::new() };
        provider.learn(&exit, 400, |_| false);
        provider.learn(&failed(9, Tier::Shadow), 400, |_| false);
        assert_eq!(provider.pending(), 1, "one that was there is, too");
        assert!(!provider.was_awaited(InstanceId(7)), "when it shows up it is not another");
    }

    #[test]
    fn a_failure_stands_while_it_is_tried_and_for_as_long_as_it_comes_again() {
        let mut provider = ProviderView::default();
        let fail = |provider: &mut ProviderView, at_ms| {
            provider.learn(&failed(at_ms, Tier::Shadow), at_ms, |_| true);
        };
        fail(&mut provider, 0);
        provider.forgive(30_000, true);
        assert!(provider.refusal(30_000).is_some(), "one more is being made");
        fail(&mut provider, 40_000);
        provider.forgive(120_000, false);
        assert!(provider.refusal(120_000).is_some(), "the last ones were 40 s apart");
        provider.forgive(120_301, false);
        assert!(provider.refusal(120_301).is_none());
        fail(&mut provider, 200_000);
        provider.forgive(210_301, false);
        assert!(provider.refusal(210_301).is_none(), "a single one");
    }
}
