//! How curves did once the truth was known, by how far ahead they had looked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Reach;
use super::curve::Curve;
use super::heard::{Claim, Heard};

/// Truths that running means remember.
const MEMORY: u64 = 200;
/// Spans that may wait for their truth when a record is taken up: more than any reach has.
const MOST_OPEN: usize = 10_000;

/// Means over the last truths at one distance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeadScore {
    /// How far ahead.
    pub(crate) lead_ms: u64,
    /// Truths compared so far.
    pub(crate) scored: u64,
    /// Mean absolute error of the expected demand, in requests per second.
    pub(crate) mae_rps: f64,
    /// The same of "as in the last span".
    pub(crate) naive_mae_rps: f64,
    /// Share of truths between the 5 % and the 95 % quantile; ideally 0.9.
    pub(crate) coverage_90: f64,
}

/// What was said of spans whose truth is not known yet, and the record so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Scores {
    leads: Vec<LeadScore>,
    /// By start of the span.
    open: BTreeMap<u64, Vec<Said>>,
    /// How what signals said turned out.
    #[serde(default)]
    pub(super) heard: Heard,
}

/// What one curve said of one span.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    lead: usize,
    mean_rps: f64,
    low_rps: f64,
    high_rps: f64,
    naive_rps: f64,
}

impl Scores {
    pub(super) fn new(reach: Reach) -> Self {
        // Four distances: a twelfth, a quarter, half, and all of it.
        let leads = [12, 4, 2, 1]
            .map(|part| LeadScore { lead_ms: reach.ms() / part, ..LeadScore::default() });
        Self { leads: leads.to_vec(), open: BTreeMap::new(), heard: Heard::default() }
    }

    /// As it is kept for the next start.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(super) fn written(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// What was [`written`](Self::written) of curves of this reach.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn restored(reach: Reach, written: &str) -> anyhow::Result<Self> {
        let read: Self = serde_json::from_str(written)?;
        let fresh = Self::new(reach);
        let same = |(a, b): (&LeadScore, &LeadScore)| a.lead_ms == b.lead_ms;
        anyhow::ensure!(
            read.leads.len() == fresh.leads.len() && read.leads.iter().zip(&fresh.leads).all(same),
            "it is of other distances"
        );
        let waiting = read.open.values().flatten();
        anyhow::ensure!(waiting.clone().count() <= MOST_OPEN, "too much waits for its truth");
        let known = waiting.clone().all(|said| said.lead < fresh.leads.len());
        anyhow::ensure!(known, "something waits for no distance that there is");
        anyhow::ensure!(read.heard.is_bounded(), "too much waits of what signals said");
        Ok(read)
    }

    /// Remembers what `curve` says, and the signals of it, for when the truth comes; `last_rps` is the
    /// newest truth.
    pub(super) fn note(&mut self, curve: &Curve, claims: &[Claim], last_rps: f64) {
        let nth = |lead_ms: u64| {
            let spans = usize::try_from(lead_ms / curve.step_ms.max(1)).unwrap_or(usize::MAX);
            spans.saturating_sub(1)
        };
        let nths: Vec<usize> = self.leads.iter().map(|score| nth(score.lead_ms)).collect();
        self.heard.note(claims, &nths, curve.start_ms, curve.step_ms);
        for (lead, nth) in nths.into_iter().enumerate() {
            let (Some(mean_rps), Some(row)) = (curve.mean.get(nth), curve.quantiles.get(nth))
            else {
                continue;
            };
            let (Some(low_rps), Some(high_rps)) = (at(curve, row, 0.05), at(curve, row, 0.95))
            else {
                continue;
            };
            let start_ms = curve.start_ms + curve.step_ms * nth as u64;
            let said = Said { lead, mean_rps: *mean_rps, low_rps, high_rps, naive_rps: last_rps };
            let open = self.open.entry(start_ms).or_default();
            // Of several curves that look at the same span from the same distance, the first.
            if open.iter().all(|other| other.lead != lead) {
                open.push(said);
            }
        }
    }

    /// Compares with what came; `truth` is the rate of the span that starts at a time, where it
    /// was observed, and everything that ends by `known_until_ms` is known by now.
    pub(super) fn settle(
        &mut self,
        known_until_ms: u64,
        step_ms: u64,
        truth: impl Fn(u64) -> Option<f64>,
    ) {
        self.heard.settle(known_until_ms, step_ms, &truth);
        while let Some(entry) = self.open.first_entry() {
            if entry.key().saturating_add(step_ms) > known_until_ms {
                return;
            }
            let start_ms = *entry.key();
            let said = entry.remove();
            let Some(truth_rps) = truth(start_ms) else { continue };
            said.iter().for_each(|said| self.leads[said.lead].add(said, truth_rps));
        }
    }

    /// The record so far.
    pub(super) fn read(&self) -> Vec<LeadScore> {
        self.leads.clone()
    }
}

impl LeadScore {
    #[expect(clippy::cast_precision_loss, reason = "at most 200")]
    fn add(&mut self, said: &Said, truth_rps: f64) {
        self.scored = self.scored.saturating_add(1);
        let rate = 1.0 / self.scored.min(MEMORY) as f64;
        let follow = |mean: &mut f64, value: f64| *mean += rate * (value - *mean);
        follow(&mut self.mae_rps, (truth_rps - said.mean_rps).abs());
        follow(&mut self.naive_mae_rps, (truth_rps - said.naive_rps).abs());
        let inside = said.low_rps <= truth_rps && truth_rps <= said.high_rps;
        follow(&mut self.coverage_90, f64::from(u8::from(inside)));
    }
}

fn at(curve: &Curve, row: &[f64], level: f64) -> Option<f64> {
    let nth = curve.levels.iter().position(|known| (known - level).abs() < 1e-9)?;
    row.get(nth).copied()
}
