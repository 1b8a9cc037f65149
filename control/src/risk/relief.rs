//! The law: the load of an instance that is likely to fail moves away, once others can carry it.
//!
//! An alarm first orders a stand-in, which costs little if it was false. Weight is only taken
//! where evidence measured now speaks against the instance, never on a trend alone, and only as
//! far as the others carry the demand at their target; it comes back by itself when the evidence
//! is gone. Of a service's instances at most a third, and at least one, are relieved at a time.

use serde::{Deserialize, Serialize};

use super::Risk;
use super::evidence::{CLEAR, RAISE};
use super::robust::ramp;
use crate::InstanceId;
use crate::fleet::Member;
use crate::loss::MOST_NAMED;
use crate::scene::{Scene, shadows_text};

/// One of so many instances of a service is relieved at a time, and one of few.
const ONE_IN: usize = 3;
/// Log-odds of evidence measured now that allow weight to be taken: sevenfold odds.
const MEASURED: f64 = 2.0;
/// Part of its requests that an instance keeps so that its recovery can be seen, where only
/// requests show that.
const PROBING: f64 = 0.1;
/// How fast the part falls and rises, per second.
const FALL_PER_S: f64 = 0.5;
const RISE_PER_S: f64 = 0.1;
/// An alarm stands for this long after the score was last above the threshold.
const HOLD_MS: u64 = 15_000;

/// One instance's alarm, and the part of its requests it keeps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Relief {
    /// Scores above the threshold in a row.
    above: u32,
    last_above_ms: u64,
    alarmed: bool,
    /// Whether it is among those the bound allows to relieve.
    chosen: bool,
    kept: f64,
}

impl Default for Relief {
    fn default() -> Self {
        Self { above: 0, last_above_ms: 0, alarmed: false, chosen: false, kept: 1.0 }
    }
}

impl Relief {
    /// Follows the score with hysteresis.
    pub(super) fn follow(&mut self, score: f64, persistent: u32, now_ms: u64) {
        if score >= RAISE {
            self.above = self.above.saturating_add(1);
            self.last_above_ms = now_ms;
            self.alarmed |= self.above >= persistent;
        } else {
            self.above = 0;
            let held_ms = now_ms.saturating_sub(self.last_above_ms);
            self.alarmed &= score >= CLEAR || held_ms < HOLD_MS;
        }
    }

    pub(super) fn is_moving(&self) -> bool {
        self.kept < 1.0
    }

    pub(super) fn is_alarmed(&self) -> bool {
        self.alarmed
    }

    pub(super) fn kept(&self) -> f64 {
        self.kept
    }

    /// One step towards the part wanted; never below `least`, which is needed at once.
    fn step(&mut self, wanted: f64, least: f64, elapsed_s: f64) {
        let bounded =
            wanted.clamp(self.kept - FALL_PER_S * elapsed_s, self.kept + RISE_PER_S * elapsed_s);
        self.kept = ramp(bounded.max(least), 0.0, 1.0);
    }
}

/// What the tiers and the weights must know of alarms.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtRisk {
    /// Primaries that shadows stand in for.
    pub(crate) primaries: u32,
    /// Serving shadows that others stand in for.
    pub(crate) shadows: u32,
    /// What the primaries among them carry at target utilisation.
    pub(crate) primary_rps: f64,
    /// Who, and why: "i3 is likely to fail within 300 s (71%: ...)"; empty when nobody is.
    pub(crate) text: String,
}

impl AtRisk {
    /// Shadows that should serve so that every instance at risk is stood in for.
    pub(crate) fn stand_ins(&self, scene: &Scene<'_>) -> u32 {
        if self.primaries + self.shadows == 0 {
            return 0;
        }
        let supply = &scene.supply;
        let without = supply.shadows_for(scene.outlook.sure_rps + self.primary_rps);
        let stood_in_for = self.primaries.saturating_add(supply.lost_primaries);
        without.max(stood_in_for).saturating_add(self.shadows)
    }

    /// The same, with primaries of which what scales them says no more that they are there.
    pub(crate) fn with_unlisted(
        mut self,
        members: &[Member<'_>],
        target: f64,
        unlisted: &[InstanceId],
    ) -> Self {
        let is_unlisted =
            |m: &&Member<'_>| m.eligible && m.is_primary() && unlisted.contains(&m.id());
        let mut names = Vec::new();
        for member in members.iter().filter(is_unlisted) {
            self.primaries = self.primaries.saturating_add(1);
            self.primary_rps += target * member.trust.part * member.rps;
            names.push(member.id().to_string());
        }
        if let Some(first) = names.first() {
            let more = match names.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let text = format!("what scales primaries does not list {first}{more} any longer");
            self.text = if self.text.is_empty() { text } else { format!("{}, {text}", self.text) };
        }
        self
    }

    pub(crate) fn floor_text(&self, shadows: u32, committed: u32) -> String {
        format!("{}: {} should serve, {committed} do", self.text, shadows_text(shadows))
    }
}

impl Risk {
    /// Chooses who is relieved and how far, sets the members' kept parts, and says what is needed.
    ///
    /// `asked_rps` is the demand that the others must carry at their target before any weight is
    /// taken: it holds weight where it is, however wrong it is.
    pub(crate) fn relieve(
        &mut self,
        members: &mut [Member<'_>],
        target: f64,
        asked_rps: f64,
        known: bool,
        elapsed_ms: u64,
    ) -> AtRisk {
        let chosen = self.choose(members);
        for (id, watch) in &mut self.watches {
            watch.relief.chosen = chosen.contains(id);
        }
        let is_chosen = |m: &Member<'_>| chosen.contains(&m.id());
        let carried = |m: &Member<'_>| {
            let kept = self.watches.get(&m.id()).map_or(1.0, |watch| watch.relief.kept);
            // One that is chosen can always be given all of its load again.
            let kept = if is_chosen(m) { 1.0 } else { kept };
            target * m.rps * m.ramp * m.trust.part * kept
        };
        let sum = |wanted: bool| -> f64 {
            let counts = |m: &&Member<'_>| m.eligible && !m.is_on_trial();
            let counted = members.iter().filter(counts).filter(|m| is_chosen(m) == wanted);
            counted.map(carried).sum()
        };
        let (others_rps, chosen_rps) = (sum(false), sum(true));
        let lacking = ramp((asked_rps - others_rps) / chosen_rps.max(1e-3), 0.0, 1.0);
        let nobody_else = others_rps <= 0.0 || !known || asked_rps.is_nan();
        let least = if nobody_else { 1.0 } else { lacking };
        let elapsed_s = elapsed_ms.min(1_000) as f64 / 1_000.0;
        let mut at_risk = AtRisk::default();
        let mut named: Vec<String> = Vec::new();
        for member in members.iter_mut() {
            let Some(watch) = self.watches.get_mut(&member.id()) else { continue };
            let chosen = watch.relief.chosen;
            let may_move = chosen && watch.measured >= MEASURED;
            let wanted = match (may_move, watch.seen_idle) {
                (true, true) => 0.0,
                (true, false) => PROBING,
                (false, _) => 1.0,
            };
            watch.relief.step(wanted, if chosen { least } else { 0.0 }, elapsed_s);
            member.kept = watch.relief.kept;
            if !chosen {
                continue;
            }
            if member.is_primary() {
                at_risk.primaries += 1;
                at_risk.primary_rps += target * member.trust.part * member.rps;
            } else {
                at_risk.shadows += 1;
            }
            named.extend(watch.assessment.as_ref().map(alarm_text));
        }
        at_risk.text = named.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
        if named.len() > MOST_NAMED {
            at_risk.text.push_str(&format!(" and {} more", named.len() - MOST_NAMED));
        }
        at_risk
    }

    /// Those with an alarm, as many as the bound allows: first those already chosen, then the
    /// likeliest to fail.
    fn choose(&self, members: &[Member<'_>]) -> Vec<InstanceId> {
        let able = members.iter().filter(|m| m.eligible).count();
        let mut alarmed: Vec<(bool, f64, InstanceId)> = members
            .iter()
            .filter(|m| m.eligible)
            .filter_map(|m| {
                let watch = self.watches.get(&m.id())?;
                let score = watch.assessment.as_ref()?.score;
                watch.relief.alarmed.then_some((watch.relief.chosen, score, m.id()))
            })
            .collect();
        alarmed.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        // Those whose load is still on its way back take up their place.
        let is_returning = |m: &&Member<'_>| {
            let relief = self.watches.get(&m.id()).map(|watch| watch.relief);
            m.eligible && relief.is_some_and(|relief| !relief.alarmed && relief.is_moving())
        };
        let returning = members.iter().filter(is_returning).count();
        let most = (able / ONE_IN).max(1).saturating_sub(returning);
        alarmed.into_iter().take(most).map(|(_, _, id)| id).collect()
    }
}

fn alarm_text(assessment: &crate::RiskAssessment) -> String {
    let first = assessment.contributors.first();
    format!(
        "{} fails within {} s with a probability of {:.0}% ({})",
        assessment.instance,
        assessment.horizon_ms / 1_000,
        assessment.score * 100.0,
        first.map_or("several signs", |contributor| &contributor.evidence)
    )
}
