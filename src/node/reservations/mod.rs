//! What will be needed of each place in the hours and days to come: reckoned from curves and announced events,
//! shown, and put on record when it changes. Nothing here waits for the loop, or the loop for it.

mod news;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foreshadow_control::{PlaceSum, Reservation, ServiceName, Unplaced, by_place};
use serde::Serialize;

use super::Shared;
use super::long::{LongForecasts, Reach, Unseen};

pub(crate) use task::start;

/// As far as anybody looks.
pub(crate) const FARTHEST_MS: u64 = 7 * 86_400_000;
/// And as far where nothing is said.
pub(crate) const DEFAULT_MS: u64 = 86_400_000;
/// Events named beside a reservation.
const MOST_NAMED: usize = 8;

/// What the task keeps for whoever looks.
#[derive(Default)]
pub(crate) struct Reservations {
    /// A week of every service, as it was last reckoned.
    pub(crate) last: ArcSwap<BTreeMap<ServiceName, Arc<Expected>>>,
    /// Changes since start.
    pub(crate) changes: std::sync::atomic::AtomicU64,
}

/// What will be needed for a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Expected {
    /// By start.
    pub(crate) reservations: Vec<Named>,
    /// What no place has room for.
    pub(crate) unplaced: Vec<Unplaced>,
    /// Up to when curves say what comes, Unix time; absent where none does.
    pub(crate) seen_until_ms: Option<u64>,
    /// Of which part of the time nothing is known, and why.
    pub(crate) missing: Vec<Missing>,
}

/// A reservation with the announced events within its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Named {
    #[serde(flatten)]
    pub(crate) reservation: Reservation,
    /// Names of the soonest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<String>,
}

/// What keeps reservations from being known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Missing {
    /// A curve.
    Curve(Unseen),
    /// Something else.
    Other { why: String },
}

/// What will be needed within `within_ms`, for one service or all. Blocks on the disk.
pub(crate) fn expected(
    shared: &Shared,
    only: Option<&ServiceName>,
    (now_ms, within_ms): (u64, u64),
) -> BTreeMap<ServiceName, Expected> {
    let config = shared.config.load_full();
    let names = config.services.keys().filter(|name| only.is_none_or(|only| only == *name));
    names.map(|name| (name.clone(), of_one(shared, name, (now_ms, within_ms)))).collect()
}

/// What all of it asks of each place.
pub(crate) fn of_places<'a>(all: impl Iterator<Item = &'a Expected>) -> Vec<PlaceSum> {
    by_place(all.flat_map(|one| one.reservations.iter().map(|named| &named.reservation)))
}

fn of_one(shared: &Shared, service: &ServiceName, (now_ms, within_ms): (u64, u64)) -> Expected {
    let nothing = |why: &str| Expected {
        reservations: Vec::new(),
        unplaced: Vec::new(),
        seen_until_ms: None,
        missing: vec![Missing::Other { why: why.to_owned() }],
    };
    let config = shared.config.load();
    let configured = config.services.get(service);
    if configured.is_none_or(|configured| configured.shadows.is_none()) {
        return nothing("the service has no provider of shadows");
    }
    let Some(view) = shared.view() else { return nothing("the first tick has not finished") };
    let Some(basis) = view.bases.get(service) else {
        return nothing("the service has not been seen yet; ask again in a second");
    };
    let until_ms = now_ms.saturating_add(within_ms.min(FARTHEST_MS));
    let (spans, unseen) =
        LongForecasts::demand(shared, service, &basis.quantiles(), (now_ms, until_ms));
    let reserved = basis.reserve(&spans);
    let mut missing: Vec<Missing> = unseen.into_iter().map(Missing::Curve).collect();
    if !basis.is_capacity_known() {
        let why = "what an instance carries is not known yet, so that only the pool's reserve is counted: \
                   it is learned under load, or given by `capacity`";
        missing.push(Missing::Other { why: why.to_owned() });
    }
    let events = match LongForecasts::events(shared, service, now_ms) {
        Ok(events) => events,
        Err(error) => {
            let why = format!("announced events cannot be read: {error:#}");
            missing.push(Missing::Other { why });
            Vec::new()
        }
    };
    let named = |reservation: Reservation| {
        let within = events.iter().filter(|event| {
            event.start_ms < reservation.until_ms && event.end_ms > reservation.from_ms
        });
        let mut names: Vec<String> = Vec::new();
        for event in within {
            if !names.contains(&event.kind) && names.len() < MOST_NAMED {
                names.push(event.kind.clone());
            }
        }
        Named { reservation, events: names }
    };
    Expected {
        reservations: reserved.reservations.into_iter().map(named).collect(),
        unplaced: reserved.unplaced,
        seen_until_ms: spans.last().map(|span| span.until_ms),
        missing,
    }
}

/// How far a text such as `24h` looks.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn within(text: &str) -> Result<u64, String> {
    let parsed = humantime::parse_duration(text);
    let time =
        parsed.map_err(|error| format!("within is {text:?}: {error}; write 6h, 24h or 7d"))?;
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 || ms > FARTHEST_MS {
        let farthest = Reach::Week.as_str();
        return Err(format!(
            "within is {text:?}: curves look at most {farthest} ahead; write 6h, 24h or 7d"
        ));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_is_written_as_times_are() {
        assert_eq!(within("24h"), Ok(DEFAULT_MS));
        assert_eq!(within("7d"), Ok(FARTHEST_MS));
        assert_eq!(within("1w"), Ok(FARTHEST_MS));
        for text in ["", "soon", "0s", "8d", "-1h", "24"] {
            let refused = within(text).unwrap_err();
            assert!(refused.contains("write 6h, 24h or 7d"), "{refused}");
        }
    }
}
