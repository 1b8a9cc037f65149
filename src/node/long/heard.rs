//! How what signals said of the time to come turned out, signal by signal: one that made curves worse
//! is not heard until what it says would have made them better.

use std::collections::BTreeMap;

use foreshadow_predictor::long::Regressor;
use serde::{Deserialize, Serialize};

/// Truths that running means remember.
const MEMORY: u32 = 200;
/// Truths before a record counts.
const LEAST: u32 = 8;
/// A signal that changes a forecast by less than this share says nothing of it.
const CLEARLY: f64 = 0.05;
/// Spans that may wait for their truth, of all signals: more than eight of any reach have.
const MOST_OPEN: usize = 20_000;
/// Signals a record is kept of.
const MOST_SIGNALS: usize = 64;

/// What is known of signals beforehand, to fit with.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// With their past, and their future where that is known.
    pub(super) regressors: Vec<Regressor>,
    /// Names of those whose record speaks against them.
    pub(super) unheard: Vec<String>,
}

/// What a curve is with a signal and what it is without, the others as they are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claim {
    pub(super) signal: String,
    pub(super) with_rps: Vec<f64>,
    pub(super) without_rps: Vec<f64>,
}

/// A signal that a curve was fitted with, as people read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SignalPart {
    pub(crate) signal: String,
    /// Factor on demand of one standard deviation of the signal.
    pub(crate) effect: f64,
    /// The same at the moment of the season at which it is least, and most.
    pub(crate) least_effect: f64,
    pub(crate) most_effect: f64,
    /// By how long it goes ahead of demand; 0 where it is known ahead itself.
    pub(crate) lead_ms: u64,
    /// Whether the curve has its effect.
    pub(crate) heard: bool,
    /// Truths where it had said something, and mean absolute errors with it and without.
    pub(crate) scored: u32,
    pub(crate) mae_rps: f64,
    pub(crate) mae_without_rps: f64,
}

/// The record of all signals of one curve.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Heard {
    records: BTreeMap<String, Record>,
    /// By start of the span.
    open: BTreeMap<u64, Vec<Said>>,
}

/// Means over the last truths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) scored: u32,
    pub(super) mae_rps: f64,
    pub(super) mae_without_rps: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    signal: String,
    nth: usize,
    with_rps: f64,
    without_rps: f64,
}

impl Heard {
    /// Whether the record of a signal speaks against it.
    pub(super) fn is_against(&self, signal: &str) -> bool {
        let record = self.of(signal);
        record.scored >= LEAST && record.mae_rps > record.mae_without_rps
    }

    /// The record of a signal so far.
    pub(super) fn of(&self, signal: &str) -> Record {
        self.records.get(signal).copied().unwrap_or_default()
    }

    /// Remembers what is claimed of the spans `nths` of a curve that starts at `start_ms`.
    pub(super) fn note(&mut self, claims: &[Claim], nths: &[usize], start_ms: u64, step_ms: u64) {
        for claim in claims {
            for nth in nths {
                let (Some(with_rps), Some(without_rps)) =
                    (claim.with_rps.get(*nth), claim.without_rps.get(*nth))
                else {
                    continue;
                };
                if (with_rps - without_rps).abs() <= CLEARLY * without_rps.abs() {
                    continue;
                }
                let open = self.open.entry(start_ms + step_ms * *nth as u64).or_default();
                // Of several curves that look at a span from the same distance, the first.
                if open.iter().all(|said| said.signal != claim.signal || said.nth != *nth) {
                    let (signal, nth) = (claim.signal.clone(), *nth);
                    let (with_rps, without_rps) = (*with_rps, *without_rps);
                    open.push(Said { signal, nth, with_rps, without_rps });
                }
            }
        }
    }

    /// Compares with what came, as [`Scores::settle`](super::score::Scores::settle) does.
    pub(super) fn settle(
        &mut self,
        known_until_ms: u64,
        step_ms: u64,
        truth: impl Fn(u64) -> Option<f64>,
    ) {
        while let Some(entry) = self.open.first_entry() {
            if entry.key().saturating_add(step_ms) > known_until_ms {
                return;
            }
            let truth = truth(*entry.key());
            for said in entry.remove() {
                let Some(truth_rps) = truth else { continue };
                if self.records.len() < MOST_SIGNALS || self.records.contains_key(&said.signal) {
                    self.records.entry(said.signal).or_default().add(
                        (truth_rps - said.with_rps).abs(),
                        (truth_rps - said.without_rps).abs(),
                    );
                }
            }
        }
    }

    /// Forgets signals that demand is not forecast with any more.
    pub(super) fn retain(&mut self, is_named: impl Fn(&str) -> bool) {
        self.records.retain(|signal, _| is_named(signal));
    }

    /// Whether as much waits as can, from what was kept.
    pub(super) fn is_bounded(&self) -> bool {
        let waiting: usize = self.open.values().map(Vec::len).sum();
        waiting <= MOST_OPEN && self.records.len() <= MOST_SIGNALS
    }
}

impl Record {
    fn add(&mut self, error: f64, error_without: f64) {
        self.scored = self.scored.saturating_add(1);
        let rate = 1.0 / f64::from(self.scored.min(MEMORY));
        self.mae_rps += rate * (error - self.mae_rps);
        self.mae_without_rps += rate * (error_without - self.mae_without_rps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_lies_is_not_heard_and_one_that_says_nothing_is_not_judged() {
        let claim = |signal: &str, with_rps| Claim {
            signal: signal.to_owned(),
            with_rps: vec![with_rps; 4],
            without_rps: vec![100.0; 4],
        };
        let mut heard = Heard::default();
        let claims = [claim("true", 150.0), claim("lie", 200.0), claim("idle", 101.0)];
        for minute in 0..20 {
            heard.note(&claims, &[0, 3, 9], minute * 60_000, 60_000);
            heard.settle((minute + 1) * 60_000, 60_000, |_| Some(140.0));
        }
        assert_eq!(
            ["true", "lie", "idle", "none"].map(|signal| heard.is_against(signal)),
            [false, true, false, false]
        );
        assert_eq!((heard.of("idle").scored, heard.of("true").mae_rps), (0, 10.0));
        assert_eq!(heard.of("lie").mae_without_rps, 40.0);
        // It is won back by what it would have been right about.
        for minute in 20..400 {
            heard.note(&claims, &[0, 3], minute * 60_000, 60_000);
            heard.settle((minute + 1) * 60_000, 60_000, |_| Some(190.0));
        }
        assert!(!heard.is_against("lie"));
        let kept = serde_json::to_string(&heard).unwrap();
        let read: Heard = serde_json::from_str(&kept).unwrap();
        assert!(read.is_bounded() && read.of("lie") == heard.of("lie"));
        heard.retain(|signal| signal == "true");
        assert_eq!(heard.of("lie"), Record::default());
    }
}
