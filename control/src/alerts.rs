//! Conditions an operator should know of, with figures and what would help.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::announced::Asked;
use crate::scene::{Scene, count, shadows_text};
use crate::{Alert, AlertKind, PlaceName, Tier};

/// An announced event that the pool is too small for is told this long before, which is enough to
/// change the configuration.
const SHORTAGE_AHEAD_MS: u64 = 3_600_000;

/// A condition must hold this long to be told; that nothing can serve is told at once.
const RAISE_MS: u64 = 500;
/// What was told stands until it has not held for this long, so that demand on the edge of a
/// shortage is one alert.
const CLEAR_MS: u64 = 4_000;

/// What is told, and what holds and may be told soon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AlertBoard {
    conditions: BTreeMap<AlertKind, Condition>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Condition {
    since_ms: u64,
    held_ms: u64,
    raised: bool,
    text: String,
}

impl AlertBoard {
    /// Forgets what can no longer be.
    pub(crate) fn forget(&mut self, kind: AlertKind) {
        self.conditions.remove(&kind);
    }

    /// Takes the conditions that hold now and returns the alerts that stand.
    pub(crate) fn follow(&mut self, holding: Vec<Alert>, now_ms: u64) -> Vec<Alert> {
        let is_none_left = holding.iter().any(|alert| alert.kind == AlertKind::NoCapacity);
        for Alert { kind, text, .. } in holding {
            let condition = self.conditions.entry(kind).or_insert_with(|| Condition {
                since_ms: now_ms,
                held_ms: now_ms,
                raised: false,
                text: String::new(),
            });
            (condition.held_ms, condition.text) = (now_ms, text);
            condition.raised |= kind == AlertKind::NoCapacity
                || now_ms.saturating_sub(condition.since_ms) >= RAISE_MS;
        }
        self.conditions.retain(|kind, condition| {
            // Too little is no news where nothing is left: what does not hold gives way at once.
            let is_little = matches!(kind, AlertKind::Shortage | AlertKind::ReserveShort);
            let outdone = is_none_left && is_little;
            let missing_ms = now_ms.saturating_sub(condition.held_ms);
            missing_ms == 0 || (condition.raised && !outdone && missing_ms < CLEAR_MS)
        });
        let raised = self.conditions.iter().filter(|(_, condition)| condition.raised);
        raised.map(|(kind, c)| Alert { kind: *kind, text: c.text.clone(), rule: None }).collect()
    }
}

/// The provider's last failure, while it asks not to be asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) error: &'a str,
    pub(crate) to: Tier,
    pub(crate) left_ms: u64,
}

/// All conditions that hold now; `missing` shadows are wanted that no place makes.
pub(crate) fn conditions(
    scene: &Scene<'_>,
    arrivals: u64,
    missing: u32,
    saturated: bool,
) -> Vec<Alert> {
    let has_provider = scene.spec.pool.is_some();
    let mut alerts = Vec::new();
    let mut alert = |kind, text| alerts.push(Alert { kind, text, rule: None });
    let serving = scene.members.iter().filter(|m| m.eligible).count();
    if serving == 0 && (arrivals > 0 || !scene.members.is_empty()) {
        let none = match scene.members.len() {
            0 => "the service has no instances".to_owned(),
            1 => "the only instance cannot take requests".to_owned(),
            n => format!("none of {n} instances can take requests"),
        };
        let remedy = "check that the primaries run and answer their health checks";
        alert(AlertKind::NoCapacity, format!("{none}: {remedy}"));
    }
    let asked = soon_asked(scene);
    let wanted = scene.supply.shadows_asked(asked);
    // Without a provider nothing but the primaries can help, and that alert is raised already.
    let is_said = serving == 0 && !has_provider;
    // More than was ever asked is no shortage as long as nobody knows where the limit is, unless
    // part of what carried it is lost.
    let is_whole = scene.supply.lost_primaries == 0;
    let is_guess = is_whole && !scene.supply.measured && !saturated && asked.event.is_none();
    if wanted > scene.pool.max && !is_said && !is_guess {
        let remedy = if has_provider {
            format!("the pool allows {}; raise its max or add primaries", scene.pool.max)
        } else {
            "the service has no provider for shadows; add one or add primaries".to_owned()
        };
        let event = asked.event.map_or_else(String::new, |event| format!("{event}: "));
        let text = format!(
            "{event}demand of {:.0} rps needs {} beside primaries that carry {:.0} rps at {:.0}% \
             utilisation: {remedy}",
            asked.rps,
            shadows_text(wanted),
            scene.supply.primary_rps,
            scene.supply.target * 100.0
        );
        alert(AlertKind::Shortage, text);
    }
    // What a provider refused before it was taken away concerns nobody any more.
    let refused = has_provider.then(|| refused_text(scene)).flatten();
    let lasting = scene.shortage.filter(|_| missing > 0 && has_provider);
    let instead = lasting.map_or_else(String::new, |_| format!("; {}", scene.shortage_text()));
    match refused {
        Some(text) => alert(AlertKind::ProviderFailing, text + &instead),
        None if lasting.is_some() && wanted <= scene.pool.max => {
            let remedy = "raise the max of a place, or add one";
            let exist = count(scene.shadows().filter(|m| m.heading.is_some() && !m.is_lost()));
            let kind = if is_whole && wanted <= exist {
                AlertKind::ReserveShort
            } else {
                AlertKind::Shortage
            };
            alert(kind, format!("{}: {remedy}", scene.shortage_text()));
        }
        None => {}
    }
    if let Some(why) = scene.outlook.distrust {
        let text = format!(
            "the forecast is not used, since {why}; shadows start only when measured demand or \
             an announced event asks for them: a lower target utilisation gives them more time"
        );
        alert(AlertKind::ForecastUnusable, text);
    }
    alerts
}

/// What providers could not do, and where shadows are made meanwhile.
fn refused_text(scene: &Scene<'_>) -> Option<String> {
    let refusals: Vec<_> = scene.places.refusals().collect();
    let one = |(place, refusal): &(&PlaceName, &Refusal<'_>)| {
        let next = match refusal.left_ms {
            0..50 => "may follow at once".to_owned(),
            left_ms => format!("is in {:.1} s at the earliest", left_ms as f64 / 1_000.0),
        };
        let of_place = if scene.places.are_many() { format!(" in {place}") } else { String::new() };
        let (to, error) = (refusal.to, refusal.error);
        format!(
            "the provider{of_place} could not bring a shadow to {to}: {error}; the next try {next}"
        )
    };
    let all: Vec<String> = refusals.iter().map(one).collect();
    if all.is_empty() {
        return None;
    }
    let mut text = all.join("; ");
    let able = scene.places.able();
    let others = able.into_iter().filter(|name| refusals.iter().all(|(p, _)| p.as_str() != *name));
    let others: Vec<&str> = others.collect();
    if scene.places.are_many() {
        text += &match others[..] {
            [] => "; no other place has room".to_owned(),
            [..] => format!("; what is needed meanwhile is made in {}", others.join(", ")),
        };
    }
    Some(text + ": check the provider and the shadow's own log")
}

/// Demand that must be carried soon, or when an event of the next hour starts.
fn soon_asked(scene: &Scene<'_>) -> Asked {
    let asked = scene.commit_asked(Tier::Warm);
    let ahead = scene.outlook.confirmed(SHORTAGE_AHEAD_MS, |h| h.lower_rps);
    if ahead.event.is_some() && ahead.rps > asked.rps { ahead } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raises and clearings of a shortage that holds as `holds` says, tick by tick.
    fn turns(ticks: u64, holds: impl Fn(u64) -> bool) -> Vec<(u64, bool)> {
        let mut board = AlertBoard::default();
        let mut turns = Vec::new();
        for tick in 0..ticks {
            let alert =
                Alert { kind: AlertKind::Shortage, text: "too little".to_owned(), rule: None };
            let holding = if holds(tick) { vec![alert] } else { Vec::new() };
            let stands = !board.follow(holding, tick * 100).is_empty();
            if stands != turns.last().is_some_and(|(_, stood)| *stood) {
                turns.push((tick, stands));
            }
        }
        turns
    }

    #[test]
    fn a_condition_on_the_edge_is_one_alert() {
        assert_eq!(turns(300, |tick| tick < 10 || tick % 15 < 5), [(5, true)]);
        assert_eq!(turns(300, |tick| tick % 15 < 5), [], "never for half a second");
        assert_eq!(turns(100, |tick| tick < 20), [(5, true), (59, false)]);
    }

    #[test]
    fn that_nothing_can_serve_is_told_at_once_and_outdoes_a_shortage() {
        let mut board = AlertBoard::default();
        let alert = |kind| vec![Alert { kind, text: "figures".to_owned(), rule: None }];
        for tick in 0..6 {
            board.follow(alert(AlertKind::Shortage), tick * 100);
        }
        assert_eq!(board.follow(alert(AlertKind::NoCapacity), 600), alert(AlertKind::NoCapacity));
    }
}
