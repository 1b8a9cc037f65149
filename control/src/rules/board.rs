//! All rules of one service, tick by tick.

use serde::{Deserialize, Serialize};

use super::ast::{RuleAction, Until};
use super::check::{Probe, Signal, Test};
use super::claims::{Ask, Claims, What};
use super::hysteresis::{Hysteresis, Time, Turn};
use super::sample::Seen;
use super::track::Track;
use super::view::{RuleReading, RuleState, RuleView};
use super::{Comparison, Condition, MAX_RULES, RuleSpec};
use crate::feedback::AlarmTally;
use crate::scene::Scene;
use crate::{
    AlarmScore, Alert, AlertKind, Law, Observation, Reason, ServiceName, ServiceObservation,
    ServiceSpec,
};

/// Missing figures are told when they have been missing this long.
const TELL_MISSING_MS: u64 = 5_000;

/// The rules of a service and what they remember.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Board {
    rules: Vec<Running>,
    /// Ordered by probe.
    signals: Vec<Signal>,
    seasons_ms: Vec<u64>,
    last_ms: Option<u64>,
    /// What rules of this and other services ask of this one.
    incoming: Vec<Ask>,
    /// What rules of this one ask of others; they hear it in the next tick.
    outgoing: Vec<Ask>,
    /// That of the next series.
    #[serde(default)]
    turn: u64,
}

/// A rule that is evaluated.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Running {
    spec: RuleSpec,
    test: Test,
    until: Option<Test>,
    hysteresis: Hysteresis,
    /// When it fired on a prediction that has not come true yet.
    #[serde(default)]
    foretold_ms: Option<u64>,
    #[serde(default)]
    tally: AlarmTally,
}

/// What the rules said in one tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) views: Vec<RuleView>,
    pub(crate) alerts: Vec<Alert>,
    /// Rules that began to fire or let go.
    pub(crate) reasons: Vec<Reason>,
}

impl Board {
    /// `turn` is another one for each of many services; see [`Forecaster::in_turn`].
    ///
    /// [`Forecaster::in_turn`]: foreshadow_predictor::Forecaster::in_turn
    pub(crate) fn new(spec: &ServiceSpec, turn: u64) -> Self {
        let mut board = Self { turn, ..Self::default() };
        board.configure(spec);
        board
    }

    /// Takes the rules of `spec`; those that stay keep how they stand, and series that are looked at
    /// as before what was learned of them.
    pub(crate) fn configure(&mut self, spec: &ServiceSpec) {
        let mut former = std::mem::take(&mut self.rules);
        let compile = |rule: &RuleSpec| {
            let kept = former.iter().position(|running| running.spec == *rule);
            let kept = kept.map(|kept| former.swap_remove(kept));
            let until = match &rule.rule.until {
                Some(Until::Condition(condition)) => Some(Test::new(condition, spec)),
                Some(Until::Value(comparator, value)) => match &rule.rule.condition {
                    Condition::Is(on) => {
                        let (comparator, value) = (*comparator, *value);
                        let off = Comparison { comparator, value, ..on.clone() };
                        Some(Test::new(&Condition::Is(off), spec))
                    }
                    Condition::Or(_) | Condition::And(_) => None,
                },
                None => None,
            };
            Running {
                test: Test::new(&rule.rule.condition, spec),
                until,
                hysteresis: kept
                    .as_ref()
                    .map_or_else(Hysteresis::new, |kept| kept.hysteresis.clone()),
                foretold_ms: kept.as_ref().and_then(|kept| kept.foretold_ms),
                tally: kept.map(|kept| kept.tally).unwrap_or_default(),
                spec: rule.clone(),
            }
        };
        self.rules = spec.rules.iter().take(MAX_RULES).map(compile).collect();
        if self.seasons_ms != spec.seasons_ms {
            self.seasons_ms.clone_from(&spec.seasons_ms);
            self.signals.clear();
        }
        let tests =
            self.rules.iter().flat_map(|rule| Some(&rule.test).into_iter().chain(&rule.until));
        let mut probes: Vec<Probe> =
            tests.flat_map(Test::checks).filter_map(|check| check.probe().cloned()).collect();
        probes.sort_unstable();
        probes.dedup();
        let mut former = std::mem::take(&mut self.signals);
        self.signals = probes
            .into_iter()
            .map(|probe| match former.iter().position(|signal| signal.probe == probe) {
                Some(kept) => former.swap_remove(kept),
                None => Signal { probe, tracks: Vec::new() },
            })
            .collect();
    }

    /// Goes on after time in which nothing was seen.
    pub(crate) fn rest(&mut self) {
        self.rules.iter_mut().for_each(|rule| rule.hysteresis.interrupt());
    }

    /// Evaluates every rule, and leaves in `scene` what they ask for.
    pub(crate) fn tick(
        &mut self,
        scene: &mut Scene<'_>,
        service: &ServiceObservation,
        observation: &Observation,
    ) -> Told {
        let (told, claims) = self.evaluate(&Seen {
            service,
            members: &scene.members,
            outlook: scene.outlook,
            capacity_known: scene.supply.known,
            interval_ms: observation.interval_ms,
            at_ms: observation.at_ms,
            now_ms: scene.now_ms,
        });
        scene.claims = claims;
        told
    }

    fn evaluate(&mut self, seen: &Seen<'_, '_>) -> (Told, Claims) {
        let mut told = Told::default();
        if self.rules.is_empty() && self.incoming.is_empty() {
            return (told, Claims::default());
        }
        self.observe(seen);
        let time = Time { now_ms: seen.now_ms, at_ms: seen.at_ms };
        self.outgoing.clear();
        let mut own = Vec::new();
        for running in &mut self.rules {
            let mut readings = Vec::new();
            let holds = running.test.holds(&self.signals, seen, &mut readings);
            let ends = running.until.as_ref().map(|until| {
                // Of what ends it, the figures of its condition are told.
                until.holds(&self.signals, seen, &mut Vec::new())
            });
            let turn = running.hysteresis.step(&running.spec.rule, holds, ends, time);
            running.score(turn, &readings, seen.now_ms);
            let figures = running.figures(&readings);
            if let Some(turn) = turn {
                let verb = if turn == Turn::Fires { "fires" } else { "clears" };
                let text = format!("rule {} {verb}: {figures}", running.spec.name);
                told.reasons.push(Reason { law: Law::Rule, text });
            }
            told.alerts.extend(running.alerts(&figures, &readings, seen.now_ms));
            for ask in running.asks(seen, &figures) {
                let kept =
                    if ask.of == seen.service.service { &mut own } else { &mut self.outgoing };
                kept.push(ask);
            }
            told.views.push(running.view(readings));
        }
        (told, Claims::of(own.iter().chain(&self.incoming)))
    }

    /// What became of what rules foretold, for those that look ahead.
    pub(crate) fn scores(&self) -> Vec<AlarmScore> {
        let ahead = self.rules.iter().filter(|running| running.test.reach_ms() > 0);
        ahead.map(|running| running.tally.score(Some(&running.spec.name))).collect()
    }

    /// What the rules ask of other services, of which each is to hear its own.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.outgoing)
    }

    /// Takes what rules of all services ask in the next tick, and keeps what is asked of `own`.
    pub(crate) fn hear(&mut self, own: &ServiceName, asks: &[Ask]) {
        self.incoming = asks.iter().filter(|ask| ask.of == *own).cloned().collect();
    }

    fn observe(&mut self, seen: &Seen<'_, '_>) {
        let passed_ms =
            self.last_ms.map_or(seen.interval_ms, |last_ms| seen.now_ms.saturating_sub(last_ms));
        self.last_ms = Some(seen.now_ms);
        let able = seen.members.iter().filter(|member| member.able);
        let mut able: Vec<_> = able.map(|member| (Some(member.id()), member)).collect();
        able.sort_unstable_by_key(|(id, _)| *id);
        for Signal { probe, tracks } in &mut self.signals {
            let (source, grain) = (&probe.source, probe.source.grain());
            let mut fresh = || {
                let turn = self.turn;
                self.turn = turn.wrapping_add(1);
                Track::new(probe.ahead_ms, &self.seasons_ms, turn)
            };
            if !probe.each {
                if tracks.is_empty() {
                    tracks.push((None, fresh()));
                }
                let sample = source.of_service(seen);
                for (_, track) in tracks {
                    track.observe(sample, grain, seen.now_ms, passed_ms);
                }
                continue;
            }
            let mut former = std::mem::take(tracks).into_iter().peekable();
            for (id, member) in &able {
                while former.next_if(|(known, _)| known < id).is_some() {}
                let kept = former.next_if(|(known, _)| known == id);
                let (_, mut track) = kept.unwrap_or_else(|| (*id, fresh()));
                let sample = source.of_instance(member, seen);
                track.observe(sample, grain, seen.now_ms, passed_ms);
                tracks.push((*id, track));
            }
        }
    }
}

impl Running {
    /// Holds a firing that looks ahead against what is measured within its horizon, and a tick
    /// more.
    fn score(&mut self, turn: Option<Turn>, readings: &[RuleReading], now_ms: u64) {
        let reach_ms = self.test.reach_ms();
        if reach_ms == 0 {
            return;
        }
        let is_true = self.test.is_true_now(&mut readings.iter());
        if turn == Some(Turn::Fires) && !is_true {
            self.foretold_ms.get_or_insert(now_ms);
        }
        let Some(foretold_ms) = self.foretold_ms else { return };
        let after_ms = now_ms.saturating_sub(foretold_ms);
        if is_true {
            self.tally.came_true(after_ms);
            self.foretold_ms = None;
        } else if after_ms > reach_ms {
            self.tally.came_to_nothing(false);
            self.foretold_ms = None;
        }
    }

    /// The comparisons that hold, or all of them when it does not fire.
    fn figures(&self, readings: &[RuleReading]) -> String {
        let firing = self.hysteresis.state == RuleState::Firing;
        let holding = readings.iter().any(|reading| reading.holds == Some(true));
        let told = readings.iter().filter(|r| !(firing && holding) || r.holds == Some(true));
        told.map(|reading| reading.text.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn alerts(&self, figures: &str, readings: &[RuleReading], now_ms: u64) -> Vec<Alert> {
        let name = &self.spec.name;
        let alert = |kind, text| Alert { kind, text, rule: Some(name.clone()) };
        match self.hysteresis.state {
            RuleState::Firing => {
                let texts = self.spec.rule.actions.iter().filter_map(|action| match action {
                    RuleAction::Alert(text) => Some(text),
                    _ => None,
                });
                let told = |text| alert(AlertKind::Rule, format!("rule {name}: {text}: {figures}"));
                texts.map(told).collect()
            }
            RuleState::NoData => {
                let missing_ms = now_ms.saturating_sub(self.hysteresis.since_ms);
                let unreported =
                    readings.iter().zip(self.test.checks()).find(|(reading, check)| {
                        let reported = check.probe().is_some_and(|p| p.source.reported().is_some());
                        reported && reading.current.is_none()
                    });
                let Some((reading, _)) = unreported else { return Vec::new() };
                let text = format!(
                    "rule {name} cannot be evaluated: {}; it stays silent until something does",
                    reading.text
                );
                let told =
                    (missing_ms >= TELL_MISSING_MS).then(|| alert(AlertKind::RuleNoData, text));
                told.into_iter().collect()
            }
            RuleState::Inactive | RuleState::Pending => Vec::new(),
        }
    }

    fn asks(&self, seen: &Seen<'_, '_>, figures: &str) -> Vec<Ask> {
        if self.hysteresis.state != RuleState::Firing {
            return Vec::new();
        }
        let ask = |action: &RuleAction| {
            let what = match action {
                RuleAction::Activate(count, _) => What::Activate(*count),
                RuleAction::Warm(count, _) => What::Warm(*count),
                RuleAction::Prepare(count, _) => What::Prepare(*count),
                RuleAction::Hold(_) => What::Hold,
                RuleAction::Alert(_) => return None,
            };
            let own = &seen.service.service;
            let of = action.service().unwrap_or(own);
            let by = if of == own { String::new() } else { format!(" of {own}") };
            Some(Ask {
                of: of.clone(),
                what,
                weight: self.spec.rule.weight,
                priority: self.spec.rule.priority,
                text: format!("rule {}{by}: {figures}", self.spec.name),
            })
        };
        self.spec.rule.actions.iter().filter_map(ask).collect()
    }

    fn view(&self, readings: Vec<RuleReading>) -> RuleView {
        RuleView {
            name: self.spec.name.clone(),
            rule: self.spec.rule.to_string(),
            state: self.hysteresis.state,
            since_ms: self.hysteresis.since_at_ms,
            readings,
        }
    }
}
