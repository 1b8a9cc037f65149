//! Shadows: places that can be told apart, pools that fit.

use foreshadow_control::{Kept, PlaceName, PoolSpec, SizingSpec};

use super::range::{self, HOUR_MS, MINUTE_MS};
use super::{is_name, providers};
use crate::raw::{
    Amount, Count, KeptCount, Map, RawPlace, RawPool, RawProvider, RawRetry, RawShadows, Read,
};
use crate::reader::{At, Field, Place as Position, Problem, Reader, quote};
use crate::{Mirror, OnExit, Place, Retry, Shadows, units};

/// Most places of a service: each has a provider with tasks and lists of its own.
const MOST_PLACES: usize = 16;
/// The longest pause after failures unless the file says one.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);
/// A larger amount is a slip of the pen.
const MOST_COST: f64 = 1e9;

/// Checks the shadows of a service with so many `primaries`; `at` is where they stand.
pub(super) fn shadows(
    raw: RawShadows,
    primaries: u32,
    at: Option<&Position>,
    r: &mut Reader<'_>,
) -> Shadows {
    let are_named = !raw.places.is_absent();
    let room = room(&raw.places);
    let (pool, sizing) = pool(raw.pool, primaries, room, r);
    if let (Field::Given(places), false) = (&raw.places, raw.provider.is_absent()) {
        let problem = Problem::new("places beside provider", "one of the two");
        r.report(&places.place, problem.help("write the provider into a place"));
    }
    if let (Field::Given(zone), true) = (&raw.zone, are_named) {
        let problem = Problem::new("zone beside places", "a zone in each place");
        r.report(&zone.place, problem);
    }
    if let (Field::Given(retry), true) = (&raw.retry, are_named) {
        let problem = Problem::new("retry beside places", "a retry in each place");
        r.report(&retry.place, problem);
    }
    let places = match raw.places {
        Field::Absent => vec![only_place((raw.provider, raw.zone, raw.retry), pool, at, r)],
        Field::Given(At { value, place }) => named_places(value, &place, pool, r),
        Field::Invalid => Vec::new(),
    };
    let mirror = raw.mirror.value().unwrap_or_default();
    Shadows {
        places,
        are_named,
        pool,
        sizing,
        mirror: Mirror {
            share: range::share(mirror.share, 0.0..=1.0, 0.05, r),
            max_in_flight: range::size(mirror.max_in_flight, 0..=65_536, 16, r),
        },
        on_exit: raw.on_exit.value().map_or(OnExit::Destroy, |on_exit| on_exit.0),
    }
}

/// What all places have room for together; nothing where one of them has no bound.
fn room(places: &Field<Map<RawPlace>>) -> Option<u32> {
    let Field::Given(places) = places else { return None };
    let max = |place: &Field<RawPlace>| match place {
        Field::Given(At { value: RawPlace { max: Field::Given(max), .. }, .. }) => {
            u32::try_from(max.value.0).ok()
        }
        _ => None,
    };
    let all = places.value.0.iter().map(|(_, place)| max(place));
    all.sum::<Option<u32>>().filter(|_| !places.value.0.is_empty())
}

/// The one place of shadows that have a provider and no places.
fn only_place(
    (provider, zone, again): (Field<RawProvider>, Field<crate::raw::Text>, Field<RawRetry>),
    pool: PoolSpec,
    at: Option<&Position>,
    r: &mut Reader<'_>,
) -> Place {
    if let (true, Some(at)) = (provider.is_absent(), at) {
        let problem = Problem::new("no \"provider\"", RawProvider::form());
        r.report(at, problem.help("or several of them, by name, under places"));
    }
    Place {
        name: PlaceName::default(),
        provider: providers::provider(provider.value().unwrap_or_default(), pool, r),
        zone: zone.value().map_or_else(String::new, |zone| zone.0),
        max: None,
        spare: None,
        retry: retry(again, r),
        cost_per_hour: None,
        latency: std::time::Duration::ZERO,
    }
}

fn named_places(
    map: Map<RawPlace>,
    at: &Position,
    pool: PoolSpec,
    r: &mut Reader<'_>,
) -> Vec<Place> {
    if map.0.is_empty() || map.0.len() > MOST_PLACES {
        let expected = format!("1 to {MOST_PLACES} places");
        r.report(at, Problem::new(format!("{} places", map.0.len()), expected));
    }
    let mut places: Vec<Place> = Vec::new();
    for (name, raw) in map.0 {
        if !is_name(&name.value) {
            let found = format!("the name {}", quote(&name.value));
            let expected = "1 to 63 letters, digits, -, _ or ., beginning with a letter or digit";
            r.report(&name.place, Problem::new(found, expected));
        }
        let Some(raw) = raw.value() else { continue };
        places.push(named_place(&name.value, raw, pool, r));
    }
    places.sort_by(|a, b| a.name.cmp(&b.name));
    places
}

fn named_place(name: &str, raw: RawPlace, pool: PoolSpec, r: &mut Reader<'_>) -> Place {
    let mut bound =
        |field: Field<Count>| (!field.is_absent()).then(|| range::count(field, 0..=1000_u32, 0, r));
    let (max, spare) = (bound(raw.max), bound(raw.spare));
    // Of the pool as far as it can be in this place.
    let here = PoolSpec { max: pool.max.min(max.unwrap_or(pool.max)), ..pool };
    Place {
        name: PlaceName::from(name),
        provider: providers::provider(raw.provider.value().unwrap_or_default(), here, r),
        zone: raw.zone.value().map_or_else(String::new, |zone| zone.0),
        max,
        spare,
        retry: retry(raw.retry, r),
        cost_per_hour: (!raw.cost_per_hour.is_absent()).then(|| amount(raw.cost_per_hour, 0.0, r)),
        latency: range::time(raw.latency, 0..=10 * MINUTE_MS, 0, r),
    }
}

fn retry(field: Field<RawRetry>, r: &mut Reader<'_>) -> Retry {
    let raw = field.value().unwrap_or_default();
    let first = range::time(raw.first, 50..=HOUR_MS, 200, r);
    let usual = LONGEST_PAUSE.max(first);
    let place = position(&raw.most);
    let most = range::time(raw.most, 50..=HOUR_MS, units::duration::to_ms(usual), r);
    if let Some(place) = place.filter(|_| most < first) {
        let expected = format!("at least first, {}", units::duration::format(first));
        r.report(&place, Problem::new(units::duration::format(most), expected));
    }
    Retry { first, most }
}

/// An amount of money, above `least` where that is not 0.
pub(super) fn amount(field: Field<Amount>, least: f64, r: &mut Reader<'_>) -> f64 {
    let Some(at) = field.given() else { return least };
    let amount = at.value.0;
    if amount < least || amount > MOST_COST {
        let expected = format!("{least} to {MOST_COST}");
        r.report(&at.place, Problem::new(amount.to_string(), expected));
        return least;
    }
    amount
}

fn pool(
    field: Field<RawPool>,
    primaries: u32,
    room: Option<u32>,
    r: &mut Reader<'_>,
) -> (PoolSpec, SizingSpec) {
    let raw = field.value().unwrap_or_default();
    let place = match &raw.max {
        Field::Given(at) => Some(at.place.clone()),
        _ => None,
    };
    let given = |field: &Field<KeptCount>| match field {
        Field::Given(at) => at.value.0.of(primaries),
        _ => 0,
    };
    let wanted = [&raw.shadow, &raw.warm, &raw.full].map(given);
    let wanted = wanted.into_iter().fold(0, u32::saturating_add);
    let (least, min_place) = (given(&raw.min), position(&raw.min));
    let kept_place = [&raw.shadow, &raw.warm, &raw.full].into_iter().rev().find_map(position);
    // What was not written is no more than the places allow.
    let usual = wanted.max(least).max(room.map_or(4, |room| room.clamp(1, 4)));
    let max = range::count(raw.max, 1..=1000, usual.min(1000), r);
    let most = room.map_or(max, |room| room.min(max));
    // Defaults give way to a small bound; only figures that were written can exceed it.
    let spare = most.saturating_sub(wanted);
    let warm_default = if raw.warm.is_absent() { spare.min(1) } else { 0 };
    let shadow_default = (spare - warm_default).min(1);
    let (shadow, shadow_share) = kept(raw.shadow, shadow_default, primaries, r);
    let (warm, warm_share) = kept(raw.warm, warm_default, primaries, r);
    let (full, full_share) = kept(raw.full, 0, primaries, r);
    let min = raw.min.given().map(|at| at.value.0);
    let all = shadow.saturating_add(warm).saturating_add(full);
    if let Some(place) = place
        && max < all
    {
        let expected = format!("at least {all}: shadow {shadow} + warm {warm} + full {full}");
        r.report(&place, Problem::new(max.to_string(), expected));
    }
    if let Some(place) = min_place.as_ref().filter(|_| least > max) {
        let found = format!("{least} for {primaries} primaries");
        r.report(place, Problem::new(found, format!("at most the pool's max, {max}")));
    }
    if let Some(room) = room {
        let help = "raise the max of a place, or add one";
        let expected = format!("at most {room}, the max of all places together");
        if let Some(place) = kept_place.filter(|_| all > room) {
            let found = format!("{all} in reserve: shadow {shadow} + warm {warm} + full {full}");
            r.report(&place, Problem::new(found, expected.clone()).help(help));
        }
        if let Some(place) = min_place.filter(|_| least > room && least <= max) {
            let found = format!("{least} for {primaries} primaries");
            r.report(&place, Problem::new(found, expected).help(help));
        }
    }
    let sizing = SizingSpec { min, shadow_share, warm_share, full_share };
    (PoolSpec { shadow, warm, full, max }, sizing)
}

fn position<T>(field: &Field<T>) -> Option<Position> {
    match field {
        Field::Given(at) => Some(at.place.clone()),
        _ => None,
    }
}

/// How many are kept for so many primaries, and the share of them where it is one.
fn kept(
    field: Field<KeptCount>,
    default: u32,
    primaries: u32,
    r: &mut Reader<'_>,
) -> (u32, Option<f64>) {
    let Some(at) = field.given() else { return (default, None) };
    let kept = at.value.0;
    let count = kept.of(primaries);
    if count > 1000 {
        r.report(&at.place, Problem::new(count.to_string(), "at most 1000"));
        return (default, None);
    }
    match kept {
        Kept::Count(_) => (count, None),
        Kept::Share(share) => (count, Some(share)),
    }
}
