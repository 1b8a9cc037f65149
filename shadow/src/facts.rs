//! What happened since the last tick, in a bounded queue.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use foreshadow_control::{Fact, ServiceName};

/// Facts kept until the next tick takes them; with one tick each 100 ms this is never reached
/// unless the loop has stalled.
const LIMIT: usize = 4_096;

/// Filled by the manager, drained by the tick. The lock is held for a push or a swap only and is
/// never touched by a request.
#[derive(Default)]
pub(crate) struct Facts {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    facts: VecDeque<(ServiceName, Fact)>,
    dropped: u64,
}

impl Facts {
    /// Adds a fact; when the queue is full the oldest is dropped, since the newest say what is.
    pub(crate) fn push(&self, service: &ServiceName, fact: Fact) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.facts.len() == LIMIT {
            queue.facts.pop_front();
            queue.dropped += 1;
        }
        queue.facts.push_back((service.clone(), fact));
    }

    /// Takes everything, oldest first.
    pub(crate) fn take(&self) -> Vec<(ServiceName, Fact)> {
        let taken = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *queue)
        };
        if taken.dropped > 0 {
            tracing::warn!(
                dropped = taken.dropped,
                "facts about shadows were dropped: the control loop did not take them for a while"
            );
        }
        taken.facts.into()
    }
}

#[cfg(test)]
mod tests {
    use foreshadow_control::{InstanceId, Tier};

    use super::*;

    #[test]
    fn the_queue_is_bounded_and_keeps_the_newest() {
        let facts = Facts::default();
        let shop = ServiceName::from("shop");
        for id in 0..10_000 {
            facts.push(&shop, Fact::Adopted { instance: InstanceId(id), tier: Tier::Warm });
        }
        let taken = facts.take();
        assert_eq!(taken.len(), LIMIT);
        let last = Fact::Adopted { instance: InstanceId(9_999), tier: Tier::Warm };
        assert_eq!(taken.last().unwrap().1, last);
        assert!(facts.take().is_empty());
    }
}
