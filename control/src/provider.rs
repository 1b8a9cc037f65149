//! What is known of the provider: lead times, orders to create that are under way, its refusals.

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
/// Orders to create remembered at most.
const MOST_PENDING: usize = 10_000;

/// The provider of one service as the controller knows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProviderView {
    pub(crate) leads: LeadTimes,
    /// When each creation that is under way and not visible yet is taken for lost; oldest first.
    pending: VecDeque<u64>,
    /// Creations are refused until then.
    blocked_until_ms: u64,
    failure: Option<Failure>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failure {
    to: Tier,
    error: String,
    until_ms: u64,
}

impl ProviderView {
    /// Takes one fact; returns an instance whose steps are refused, and until when.
    pub(crate) fn learn(&mut self, fact: &Fact, now_ms: u64) -> Option<(InstanceId, u64)> {
        match fact {
            Fact::TierReached { from, tier, took_ms, .. } => {
                self.leads.learn(*from, *tier, *took_ms);
                self.failure.take_if(|failure| failure.to == *tier);
                None
            }
            Fact::StepFailed { instance, to, error, retry_in_ms } => {
                let until_ms = now_ms.saturating_add((*retry_in_ms).min(LONGEST_BACK_OFF_MS));
                self.failure = Some(Failure { to: *to, error: error.clone(), until_ms });
                let creating = instance.is_none() || *to == Tier::Shadow;
                if creating {
                    self.blocked_until_ms = self.blocked_until_ms.max(until_ms);
                }
                if instance.is_none() {
                    self.pending.pop_front();
                }
                instance.map(|id| (id, until_ms))
            }
            Fact::Exited { .. } | Fact::Adopted { .. } => None,
        }
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
        now_ms + LOST_AFTER_LEADS * self.leads.ms(from, to) + LOST_AFTER_LEAST_MS
    }

    pub(crate) fn pending(&self) -> u32 {
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_blocked(&self, now_ms: u64) -> bool {
        now_ms < self.blocked_until_ms
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

    /// Forgets a failure that was not repeated long after its back-off.
    pub(crate) fn forgive(&mut self, now_ms: u64) {
        self.failure.take_if(|failure| failure.until_ms.saturating_add(10_000) < now_ms);
    }
}
