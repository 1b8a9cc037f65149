//! A request at a backend, from its first byte to the end of its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Backend;
use super::outcome::{Answer, Outcome};
use crate::meters::WorkerId;

/// A request in flight. Dropped without [`InFlightGuard::finish`], it counts as given up by the
/// client or taken back from the backend, neither of which says anything of it.
#[derive(Debug)]
#[must_use = "the request counts as in flight until this is finished or dropped"]
pub struct InFlightGuard {
    backend: Arc<Backend>,
    worker: WorkerId,
    started_ms: u64,
    stage: Stage,
    finished: bool,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It may be the client that is awaited.
    Sending,
    /// It is the backend.
    Waiting,
    Answering,
}

impl InFlightGuard {
    pub(super) fn new(backend: Arc<Backend>, worker: WorkerId, now_ms: u64) -> Self {
        let stage = Stage::Sending;
        Self { backend, worker, started_ms: now_ms, stage, finished: false }
    }

    /// The backend the request went to.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Takes note of the end of the request: from now on silence is the backend's.
    pub fn sent(&mut self, now_ms: u64) {
        if self.stage == Stage::Sending {
            self.stage = Stage::Waiting;
            self.backend.load.0.silence.asked(now_ms);
        }
    }

    /// Takes note of the head of the answer; what follows may take as long as it likes.
    pub fn answering(&mut self, now_ms: u64) {
        match std::mem::replace(&mut self.stage, Stage::Answering) {
            Stage::Sending => self.backend.load.0.silence.breaks_off(now_ms),
            Stage::Waiting => self.backend.load.0.silence.heard(now_ms),
            Stage::Answering => {}
        }
    }

    /// Counts how the request ended: in the meters, the latency estimate and the health.
    pub fn finish(mut self, outcome: &Outcome, now_ms: u64) {
        self.finished = true;
        if matches!(outcome.answer, Answer::Status(_)) {
            self.answering(now_ms);
        }
        self.backend.ended(self.worker, outcome, self.started_ms, now_ms);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.backend.load.0.in_flight.fetch_sub(1, Relaxed);
        if self.stage == Stage::Waiting {
            self.backend.load.0.silence.given_up();
        }
        if !self.finished {
            self.backend.meters.aborted(self.worker);
        }
    }
}
