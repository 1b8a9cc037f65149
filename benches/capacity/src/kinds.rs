//! The backends that are measured, and the load on each.

use std::time::Duration;

use foreshadow_testbed::backend::{Args, Distribution, FaultKind, FaultSpec};
use foreshadow_testbed::load::{Profile, ProfileError, Step};

use crate::truth::Queue;

/// Time from one low of the load to the next.
const PERIOD_S: f64 = 80.0;
/// Straight pieces that a wave is made of.
const PIECES: u32 = 16;

/// A backend, and what it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) queue: Queue,
    /// Load at its low and at its high, as a share of what is served within the objective.
    pub(crate) load: (f64, f64),
    /// From when on service times are this much longer.
    pub(crate) slower: Option<(Duration, f64)>,
}

/// Service times are so long that the millisecond by which a timer may be late is little.
pub(crate) const KINDS: [Kind; 5] = [
    Kind {
        name: "few-slots",
        queue: Queue {
            slots: 2,
            mean_ms: 40.0,
            distribution: Distribution::Lognormal,
            cv: 0.5,
            objective_ms: 250.0,
        },
        load: (0.2, 0.6),
        slower: None,
    },
    Kind {
        name: "many-slots",
        queue: Queue {
            slots: 32,
            mean_ms: 80.0,
            distribution: Distribution::Lognormal,
            cv: 0.5,
            objective_ms: 250.0,
        },
        load: (0.2, 0.6),
        slower: None,
    },
    Kind {
        name: "constant",
        queue: Queue {
            slots: 8,
            mean_ms: 50.0,
            distribution: Distribution::Constant,
            cv: 0.0,
            objective_ms: 150.0,
        },
        load: (0.2, 0.6),
        slower: None,
    },
    Kind {
        name: "high-variance",
        queue: Queue {
            slots: 8,
            mean_ms: 40.0,
            distribution: Distribution::Lognormal,
            cv: 1.5,
            objective_ms: 400.0,
        },
        load: (0.2, 0.6),
        slower: None,
    },
    Kind {
        name: "slows-down",
        queue: Queue {
            slots: 8,
            mean_ms: 40.0,
            distribution: Distribution::Exponential,
            cv: 1.0,
            objective_ms: 300.0,
        },
        // Once it is slower this is up to 0.7 of what is left.
        load: (0.2, 0.45),
        slower: Some((Duration::from_secs(60), 1.4)),
    },
];

impl Kind {
    /// The backend's command line.
    pub(crate) fn backend(&self) -> Args {
        let slower = self.slower.map(|(after, factor)| FaultSpec {
            factor,
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            ..FaultSpec::new(FaultKind::Slow)
        });
        Args {
            name: Some(self.name.to_owned()),
            concurrency: self.queue.slots,
            service_time: Duration::from_secs_f64(self.queue.mean_ms / 1e3),
            distribution: self.queue.distribution,
            cv: self.queue.cv,
            fault: slower.into_iter().collect(),
            ..Args::default()
        }
    }

    /// The queue as it is configured to be, so long after its start.
    pub(crate) fn queue_at(&self, at: Duration) -> Queue {
        let factor = self.slower.filter(|(after, _)| at > *after).map_or(1.0, |(_, factor)| factor);
        Queue { mean_ms: self.queue.mean_ms * factor, ..self.queue }
    }

    /// A slow wave around the load that is asked, from low to high and back, for `length`.
    ///
    /// # Errors
    /// When it would be longer than a load can be.
    pub(crate) fn profile(
        &self,
        within_rps: f64,
        length: Duration,
    ) -> Result<Profile, ProfileError> {
        let (low, high) = (self.load.0 * within_rps, self.load.1 * within_rps);
        let rate = |piece: u32| {
            let phase = std::f64::consts::TAU * f64::from(piece) / f64::from(PIECES);
            low + (high - low) * (1.0 - phase.cos()) / 2.0
        };
        let duration_s = PERIOD_S / f64::from(PIECES);
        let pieces = (length.as_secs_f64() / duration_s).ceil() as u32;
        let step = |piece| Step { from_rps: rate(piece), to_rps: rate(piece + 1), duration_s };
        Profile::new((0..pieces.max(1)).map(step).collect())
    }
}
