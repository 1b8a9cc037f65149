//! A condition ready to be evaluated: its comparisons know where their figures come from.

use serde::{Deserialize, Serialize};

use super::ast::{Comparison, Condition, Scope, When};
use super::metric::Metric;
use super::sample::{Seen, Source};
use super::sight::{FAR_MS, Sight};
use super::track::Track;
use super::view::RuleReading;
use crate::demand::Outlook;
use crate::feedback::Place;
use crate::{HorizonView, InstanceId, QuantileSpec, ServiceSpec};

/// A series that comparisons look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Probe {
    pub(super) source: Source,
    /// Whether every instance has its own.
    pub(super) each: bool,
    /// How far it is forecast; 0 for not at all.
    pub(super) ahead_ms: u64,
}

/// The series of a probe between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Signal {
    pub(super) probe: Probe,
    /// By instance; the service's own has none.
    pub(super) tracks: Vec<(Option<InstanceId>, Track)>,
}

/// A condition whose comparisons know their signals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Test {
    Or(Vec<Test>),
    And(Vec<Test>),
    Is(Box<Check>),
}

/// A comparison that knows its signal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Check {
    comparison: Comparison,
    origin: Origin,
}

/// Where the figures of a comparison come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Origin {
    /// The forecast of demand that the controller's other laws use too, at these levels.
    Demand(QuantileSpec),
    /// A series of its own.
    Probe(Probe),
}

/// What is known of one series for one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    instance: Option<InstanceId>,
    current: Option<f64>,
    predicted: Option<f64>,
    /// What is compared.
    decisive: Option<f64>,
}

impl Test {
    pub(super) fn new(condition: &Condition, spec: &ServiceSpec) -> Self {
        let all = |parts: &[Condition]| parts.iter().map(|part| Self::new(part, spec)).collect();
        match condition {
            Condition::Or(parts) => Self::Or(all(parts)),
            Condition::And(parts) => Self::And(all(parts)),
            Condition::Is(comparison) => Self::Is(Box::new(Check::new(comparison, spec))),
        }
    }

    pub(super) fn checks(&self) -> Vec<&Check> {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().flat_map(Self::checks).collect(),
            Self::Is(check) => vec![check],
        }
    }

    /// How far ahead its farthest comparison looks; 0 for not at all.
    pub(super) fn reach_ms(&self) -> u64 {
        let ahead = |check: &&Check| match check.comparison.when {
            When::Now => 0,
            When::At(ms) | When::Within(ms) => ms,
        };
        self.checks().iter().map(ahead).max().unwrap_or(0)
    }

    /// Whether it holds for what is measured now, by the readings of [`Test::holds`].
    pub(super) fn is_true_now(&self, readings: &mut std::slice::Iter<'_, RuleReading>) -> bool {
        // Every part takes its own readings, whatever the others say.
        let each = |parts: &[Self], readings: &mut std::slice::Iter<'_, RuleReading>| {
            parts.iter().map(|part| part.is_true_now(readings)).collect::<Vec<_>>()
        };
        match self {
            Self::Or(parts) => each(parts, readings).contains(&true),
            Self::And(parts) => !each(parts, readings).contains(&false),
            Self::Is(check) => {
                let current = readings.next().and_then(|reading| reading.current);
                let Comparison { comparator, value, .. } = &check.comparison;
                current.is_some_and(|now| comparator.holds(now * value.unit.factor(), value.base()))
            }
        }
    }

    /// Whether it holds, if that can be said: one part that decides is enough (Kleene's logic).
    pub(super) fn holds(
        &self,
        signals: &[Signal],
        seen: &Seen<'_, '_>,
        readings: &mut Vec<RuleReading>,
    ) -> Option<bool> {
        let (parts, decides) = match self {
            Self::Or(parts) => (parts, true),
            Self::And(parts) => (parts, false),
            Self::Is(check) => {
                let reading = check.read(signals, seen);
                let holds = reading.holds;
                readings.push(reading);
                return holds;
            }
        };
        // Every part is read, so that all figures are told.
        let parts: Vec<_> = parts.iter().map(|part| part.holds(signals, seen, readings)).collect();
        if parts.contains(&Some(decides)) {
            Some(decides)
        } else if parts.contains(&None) {
            None
        } else {
            Some(!decides)
        }
    }
}

impl Check {
    fn new(comparison: &Comparison, spec: &ServiceSpec) -> Self {
        let source = Source::of(comparison);
        let ahead_ms = match comparison.when {
            When::Now => 0,
            When::At(ms) | When::Within(ms) => ms,
        };
        let QuantileSpec { prepare, commit, .. } = spec.quantiles.levels();
        let foreseen = ahead_ms <= spec.horizon_ms
            && (commit..=prepare).contains(&quantile(comparison))
            && comparison.metric == Metric::Demand;
        let origin = if foreseen {
            Origin::Demand(spec.quantiles.levels())
        } else {
            // What only a curve is asked about needs no forecaster.
            let by_curve = Sight::of(comparison).is_some_and(|sight| sight.ahead_ms > FAR_MS);
            let ahead_ms = if by_curve { 0 } else { ahead_ms };
            Origin::Probe(Probe { source, each: comparison.scope != Scope::Service, ahead_ms })
        };
        Self { comparison: comparison.clone(), origin }
    }

    /// The series it needs; none where the service's own forecast of demand serves.
    pub(super) fn probe(&self) -> Option<&Probe> {
        match &self.origin {
            Origin::Probe(probe) => Some(probe),
            Origin::Demand(_) => None,
        }
    }

    fn read(&self, signals: &[Signal], seen: &Seen<'_, '_>) -> RuleReading {
        let Comparison { comparator, value, scope, .. } = &self.comparison;
        let more = comparator.wants_more();
        // Of any instance the one that comes closest decides, of all of them the one farthest off.
        let closest = |a: f64, b: f64| if (*scope == Scope::All) == more { a < b } else { a > b };
        let known = self.figures(signals, seen);
        let decisive = known.iter().filter(|figures| figures.decisive.is_some());
        let deciding = decisive.reduce(|best, other| match (best.decisive, other.decisive) {
            (Some(a), Some(b)) if closest(b, a) => other,
            _ => best,
        });
        let deciding = deciding.or(known.first());
        let figures = deciding.copied().unwrap_or_default();
        let holds = figures.decisive.map(|left| comparator.holds(left, value.base()));
        let shown = |base: f64| base / value.unit.factor();
        RuleReading {
            comparison: self.comparison.to_string(),
            instance: figures.instance,
            current: figures.current.map(shown),
            predicted: figures.predicted.map(shown),
            unit: value.unit.to_string(),
            holds,
            text: self.text(&figures),
        }
    }

    fn text(&self, figures: &Figures) -> String {
        let Comparison { value, comparator, when, .. } = &self.comparison;
        let of = figures.instance.map_or_else(String::new, |id| format!(" ({id})"));
        let subject = format!("{}{of}", self.comparison.subject());
        let show = |base| value.unit.show(base);
        let limit = format!("{} {value}", comparator.symbol());
        match (figures.current, figures.predicted, when) {
            (None, None, _) => match self.probe().and_then(|probe| probe.source.reported()) {
                Some(name) => format!("{subject} is not known: nothing reports {name:?}"),
                None => format!("{subject} is not known"),
            },
            (Some(now), _, When::Now) => format!("{subject} is {} ({limit})", show(now)),
            (now, Some(then), _) => {
                let now = now.map_or_else(String::new, |now| format!(", now {}", show(now)));
                format!("{subject}{when} is {} ({limit}){now}", show(then))
            }
            (Some(now), None, _)
                if Sight::of(&self.comparison).is_some_and(|s| s.ahead_ms > FAR_MS) =>
            {
                let now = show(now);
                format!("{subject}{when} is not foreseen by any history ({limit}), now {now}")
            }
            (Some(now), None, _) => {
                format!("{subject}{when} is not foreseen yet ({limit}), now {}", show(now))
            }
        }
    }

    /// What is known of every series it is about.
    fn figures(&self, signals: &[Signal], seen: &Seen<'_, '_>) -> Vec<Figures> {
        let more = self.comparison.comparator.wants_more();
        let extreme = |values: &mut dyn Iterator<Item = f64>| {
            values.reduce(if more { f64::max } else { f64::min })
        };
        let level = quantile(&self.comparison);
        let probe = match &self.origin {
            Origin::Demand(levels) => {
                let place = Place::of(level, levels);
                let of = |h: &HorizonView| place.demand_rps(h);
                let predicted = demand_ahead(seen.outlook, self.comparison.when, more, of);
                return vec![self.decide(None, Some(seen.outlook.now_rps), predicted)];
            }
            Origin::Probe(probe) => probe,
        };
        let Ok(position) = signals.binary_search_by(|signal| signal.probe.cmp(probe)) else {
            return Vec::new();
        };
        let grain = probe.source.grain();
        let tracks = signals[position].tracks.iter();
        let by_curve = self.by_curve(seen, more);
        tracks
            .map(|(instance, track)| {
                if let Some(predicted) = by_curve {
                    return self.decide(*instance, track.now(seen.now_ms), predicted);
                }
                let ahead = track.predicted(level, grain);
                let predicted = match self.comparison.when {
                    When::Now => None,
                    _ if probe.source.metric == Metric::Demand => {
                        // Announced events are laid over this forecast as over the other.
                        let outlook = Outlook { horizons: views(&ahead), ..seen.outlook.clone() };
                        demand_ahead(&outlook, self.comparison.when, more, |h| h.median_rps)
                    }
                    When::At(_) => ahead.last().map(|(_, value)| *value),
                    When::Within(_) => extreme(&mut ahead.iter().map(|(_, value)| *value)),
                };
                self.decide(*instance, track.now(seen.now_ms), predicted)
            })
            .collect()
    }

    /// What curves fitted to kept history say, where they are asked: nothing inside where it is for them
    /// alone to say and they do not.
    fn by_curve(&self, seen: &Seen<'_, '_>, more: bool) -> Option<Option<f64>> {
        let sight = Sight::of(&self.comparison)?;
        let Some(foreseen) = sight.find(&seen.service.foreseen) else {
            return (sight.ahead_ms > FAR_MS).then_some(None);
        };
        // The next minutes are known better from what was just seen, and what was announced since the
        // curve was fitted is not in it.
        let near = demand_ahead(seen.outlook, self.comparison.when, more, |h| h.median_rps);
        let near = near.filter(|_| self.comparison.metric == Metric::Demand);
        Some(Some(match self.comparison.when {
            When::Within(_) if more => near.map_or(foreseen.most_rps, |n| n.max(foreseen.most_rps)),
            When::Within(_) => near.map_or(foreseen.least_rps, |n| n.min(foreseen.least_rps)),
            When::At(_) | When::Now => foreseen.then_rps,
        }))
    }

    fn decide(
        &self,
        instance: Option<InstanceId>,
        current: Option<f64>,
        predicted: Option<f64>,
    ) -> Figures {
        let Comparison { comparator, value, when, .. } = &self.comparison;
        // A series that has stopped is not foreseen either.
        let predicted = predicted.filter(|_| current.is_some());
        let decisive = match (when, current, predicted) {
            (When::Now, current, _) => current,
            (When::At(_), _, predicted) => predicted,
            (When::Within(_), Some(now), Some(then)) => {
                Some(if comparator.wants_more() { now.max(then) } else { now.min(then) })
            }
            (When::Within(_), now, _) => now.filter(|now| comparator.holds(*now, value.base())),
        };
        Figures { instance, current, predicted, decisive }
    }
}

/// The quantile that is asked for, 0 to 1.
fn quantile(comparison: &Comparison) -> f64 {
    f64::from(comparison.quantile.unwrap_or(50)) / 100.0
}

fn views(ahead: &[(u64, f64)]) -> Vec<HorizonView> {
    let view = |(horizon_ms, rps): &(u64, f64)| HorizonView {
        horizon_ms: *horizon_ms,
        lower_rps: *rps,
        median_rps: *rps,
        upper_rps: *rps,
    };
    ahead.iter().map(view).collect()
}

/// Demand at a time or up to it; none when nothing is foreseen.
fn demand_ahead(
    outlook: &Outlook,
    when: When,
    more: bool,
    of: impl Fn(&HorizonView) -> f64,
) -> Option<f64> {
    let ahead_ms = match when {
        When::Now => return None,
        When::At(ms) | When::Within(ms) => ms,
    };
    let asked = outlook.asked(ahead_ms, &of);
    if outlook.horizons.is_empty() && asked.event.is_none() {
        return None;
    }
    let then = outlook.at(ahead_ms, &of);
    Some(match when {
        When::Within(_) if more => asked.rps,
        When::Within(_) => {
            let nearer = outlook.horizons.iter().filter(|h| h.horizon_ms < ahead_ms);
            nearer.map(&of).fold(then, f64::min)
        }
        _ => then,
    })
}
