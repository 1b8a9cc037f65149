//! The curves of a service laid end to end: the shortest that reaches so far says what comes.

use foreshadow_control::{DemandSpan, QuantileSpec, ServiceName};
use serde::Serialize;

use super::curve::Curve;
use super::{LongForecasts, Reach};
use crate::node::Shared;
use crate::node::history::Query;

/// A part of the time to come of which no curve says anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unseen {
    /// The curve that is missing: `1h`, `1d` or `1w`.
    pub(crate) curve: &'static str,
    /// Why.
    pub(crate) why: String,
    /// When there is history enough for it, Unix time, at the earliest; absent where that is not known.
    pub(crate) known_at_ms: Option<u64>,
}

impl LongForecasts {
    /// Demand from `now_ms` until `until_ms` as far as curves say it, and what is missing. Blocks on the disk
    /// where something is.
    pub(crate) fn demand(
        shared: &Shared,
        service: &ServiceName,
        quantiles: &QuantileSpec,
        (now_ms, until_ms): (u64, u64),
    ) -> (Vec<DemandSpan>, Vec<Unseen>) {
        let (mut spans, mut unseen) = (Vec::new(), Vec::new());
        let mut shorter_ms = 0;
        for reach in Reach::ALL {
            if now_ms.saturating_add(shorter_ms) >= until_ms {
                break;
            }
            shorter_ms = reach.ms();
            let end_ms = until_ms.min(now_ms.saturating_add(reach.ms()));
            let long = &shared.long;
            match long.curve(service, reach) {
                Some(curve) if !curve.is_stale(now_ms) => {
                    let before = spans.len();
                    curve.lay(&mut spans, quantiles, (now_ms, end_ms));
                    if spans.len() == before {
                        let why =
                            "it has been wrong by more than \"as in the last span\"".to_owned();
                        unseen.push(Unseen { curve: reach.as_str(), why, known_at_ms: None });
                    }
                }
                Some(_) => {
                    let why = "the curve is too old: nothing was fitted since".to_owned();
                    unseen.push(Unseen { curve: reach.as_str(), why, known_at_ms: None });
                }
                None => unseen.push(missing(shared, service, reach, now_ms)),
            }
        }
        (spans, unseen)
    }

    /// Has the curves of a service fitted anew: it is known of an event that they have not in them.
    pub(crate) fn renew(&self, service: &ServiceName) {
        super::lock(&self.renewed).insert(service.clone());
    }

    /// The services whose curves are to be fitted anew.
    pub(super) fn take_renewed(&self) -> std::collections::BTreeSet<ServiceName> {
        std::mem::take(&mut super::lock(&self.renewed))
    }
}

/// Why there is no curve, and from when on there may be one.
fn missing(shared: &Shared, service: &ServiceName, reach: Reach, now_ms: u64) -> Unseen {
    let of = |why, known_at_ms| Unseen { curve: reach.as_str(), why, known_at_ms };
    if let Some(failure) = shared.long.failure(service, reach) {
        return of(format!("no curve was fitted: {failure}"), None);
    }
    if !shared.history.is_kept() {
        return of("no history is kept: enable history".to_owned(), None);
    }
    let least = reach.least_spans();
    let resolution = reach.resolution();
    let kept = shared.history.spans(&Query {
        service: service.clone(),
        instance: 0,
        resolution,
        from_ms: 0,
        until_ms: resolution.start_ms(now_ms),
        limit: u32::try_from(least).unwrap_or(u32::MAX),
    });
    match kept {
        Ok(kept) => {
            let left = u64::try_from(least.saturating_sub(kept.len())).unwrap_or(u64::MAX);
            let known_at_ms = resolution
                .start_ms(now_ms)
                .saturating_add(resolution.step_ms().saturating_mul(left))
                .max(now_ms);
            let name = resolution.as_str();
            let why = format!("{} of {least} spans of {name} of history are there", kept.len());
            of(why, Some(known_at_ms))
        }
        Err(error) => of(format!("history cannot be read: {error:#}"), None),
    }
}

impl Curve {
    /// Adds what it says from the end of `spans` on, and from `now_ms` on, until `end_ms`.
    fn lay(
        &self,
        spans: &mut Vec<DemandSpan>,
        quantiles: &QuantileSpec,
        (now_ms, end_ms): (u64, u64),
    ) {
        let mut laid_ms = spans.last().map_or(now_ms, |span| span.until_ms);
        for (nth, row) in (0..).zip(&self.quantiles) {
            let from_ms = self.start_ms.saturating_add(self.step_ms.saturating_mul(nth));
            let until_ms = from_ms.saturating_add(self.step_ms);
            if until_ms <= laid_ms {
                continue;
            }
            if from_ms >= end_ms {
                return;
            }
            if self.misleads(from_ms.saturating_sub(now_ms)) {
                continue;
            }
            let at = |level: f64| self.at(row, level).or(row.last().copied());
            let [Some(commit_rps), Some(warm_rps), Some(prepare_rps)] =
                [quantiles.commit, quantiles.warm, quantiles.prepare].map(at)
            else {
                continue;
            };
            let from_ms = from_ms.max(laid_ms);
            spans.push(DemandSpan { from_ms, until_ms, commit_rps, warm_rps, prepare_rps });
            laid_ms = until_ms;
        }
    }
}
