//! Curves whose needs can be reckoned by hand.

use super::*;
use crate::PlaceSpec;
use crate::lead_time::LeadTimes;

const QUARTER_MS: u64 = 900_000;
const HOUR_MS: u64 = 4 * QUARTER_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const QUANTILES: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

/// Primaries that carry 100, shadows of 50 each.
fn supply() -> Supply {
    Supply::flat(100.0, 50.0)
}

fn seat(place: &str, lead_ms: u64) -> Seat {
    let place = PlaceName::from(place);
    Seat { place, cost_per_hour: 0.5, lead_ms: [lead_ms, 2 * lead_ms, 3 * lead_ms] }
}

fn basis(pool: (u32, u32, u32, u32), seats: &[(&str, u32)]) -> ReservationBasis {
    let (shadow, warm, full, max) = pool;
    ReservationBasis {
        supply: supply(),
        pool: PoolSpec { shadow, warm, full, max },
        least: 0,
        quantiles: QUANTILES,
        seats: seats.iter().map(|(place, seats)| (seat(place, 60_000), *seats)).collect(),
        full_text: "near has 2 shadows and its max is 2".to_owned(),
    }
}

/// Quarters of an hour from the Unix epoch on.
fn curve(quarters: u64, rps: impl Fn(u64) -> f64) -> Vec<DemandSpan> {
    let span = |nth: u64| DemandSpan {
        from_ms: nth * QUARTER_MS,
        until_ms: (nth + 1) * QUARTER_MS,
        commit_rps: rps(nth) * 0.8,
        warm_rps: rps(nth),
        prepare_rps: rps(nth) * 1.2,
    };
    (0..quarters).map(span).collect()
}

/// Place, tier, count, and hours from and until.
fn shown(reserved: &Reserved) -> Vec<(String, Tier, u32, f64, f64)> {
    let hours = |ms: u64| ms as f64 / HOUR_MS as f64;
    let one = |r: &Reservation| {
        (r.place.to_string(), r.tier, r.count, hours(r.from_ms), hours(r.until_ms))
    };
    reserved.reservations.iter().map(one).collect()
}

#[test]
fn flat_demand_is_the_reserve_and_nothing_else() {
    let reserved = basis((1, 2, 0, 8), &[("near", 8)]).reserve(&curve(96, |_| 50.0));
    let here = || "near".to_owned();
    assert_eq!(
        shown(&reserved),
        [(here(), Tier::Shadow, 1, 0.0, 24.0), (here(), Tier::Warm, 2, 0.0, 24.0)]
    );
    assert!(reserved.unplaced.is_empty());
    assert!(reserved.reservations.iter().all(|r| r.open));
}

#[test]
fn a_daily_peak_is_one_interval_a_day() {
    // From eight to twenty 300 rps: 240 at the lower bound, 360 at the upper one.
    let day = |nth: u64| if (32..80).contains(&(nth % 96)) { 300.0 } else { 50.0 };
    let reserved = basis((0, 0, 0, 10), &[("near", 10)]).reserve(&curve(7 * 96, day));
    for (tier, count, quantile) in
        [(Tier::Full, 3, 0.1), (Tier::Warm, 1, 0.5), (Tier::Shadow, 2, 0.95)]
    {
        let of: Vec<&Reservation> =
            reserved.reservations.iter().filter(|r| r.tier == tier).collect();
        assert_eq!(of.len(), 7, "{tier}: {of:?}");
        for (day, r) in (0..).zip(of) {
            assert_eq!((r.count, r.quantile), (count, quantile));
            assert_eq!(r.from_ms, day * DAY_MS + 8 * HOUR_MS);
            assert_eq!(r.until_ms, day * DAY_MS + 20 * HOUR_MS);
            assert!(!r.open);
        }
    }
    let full = reserved.reservations.iter().find(|r| r.tier == Tier::Full).expect("one");
    assert_eq!((full.lead_ms, full.order_by_ms), (180_000, full.from_ms - 180_000));
    assert_eq!(
        (full.why.highest_rps, full.why.primary_rps, full.why.shadow_rps),
        (240.0, 100.0, 50.0)
    );
    assert!(
        full.why.text.starts_with("the 0.1 quantile of demand comes to 240 rps"),
        "{}",
        full.why.text
    );
}

#[test]
fn an_event_lifts_what_is_needed_while_it_lasts() {
    let event = |nth: u64| if (40..44).contains(&nth) { 500.0 } else { 100.0 };
    let reserved = basis((0, 0, 1, 12), &[("near", 12)]).reserve(&curve(96, event));
    let full: Vec<_> = shown(&reserved).into_iter().filter(|(_, t, ..)| *t == Tier::Full).collect();
    let here = || "near".to_owned();
    assert_eq!(full, [(here(), Tier::Full, 1, 0.0, 24.0), (here(), Tier::Full, 6, 10.0, 11.0)]);
}

#[test]
fn the_readiest_have_the_best_place_and_what_has_none_is_said() {
    let seats = [("near", 2), ("far", 3)];
    // 240 rps: 3 serve; 300: 1 more runs; 360: 2 more exist, and one of them nowhere.
    let reserved = basis((0, 0, 0, 10), &seats).reserve(&curve(8, |_| 300.0));
    let of = |place: &str, tier, count| (place.to_owned(), tier, count, 0.0, 2.0);
    assert_eq!(
        shown(&reserved),
        [
            of("far", Tier::Shadow, 1),
            of("far", Tier::Warm, 1),
            of("far", Tier::Full, 1),
            of("near", Tier::Full, 2)
        ]
    );
    assert_eq!(reserved.unplaced.len(), 1);
    let unplaced = &reserved.unplaced[0];
    assert_eq!((unplaced.count, unplaced.from_ms, unplaced.until_ms), (1, 0, 2 * HOUR_MS));
    assert!(unplaced.why.contains("room for 5 shadows: near has 2"), "{}", unplaced.why);
    let bounded = basis((0, 0, 0, 4), &[("near", 4)]).reserve(&curve(8, |_| 300.0));
    assert_eq!(bounded.unplaced[0].count, 2);
    assert!(bounded.unplaced[0].why.contains("the pool allows 4"), "{}", bounded.unplaced[0].why);
}

#[test]
fn without_a_known_capacity_only_the_reserve_is_needed() {
    let mut unknown = basis((0, 1, 0, 10), &[("near", 10)]);
    unknown.supply.known = false;
    let reserved = unknown.reserve(&curve(4, |_| 1e9));
    assert_eq!(shown(&reserved), [("near".to_owned(), Tier::Warm, 1, 0.0, 1.0)]);
    assert!(!unknown.is_capacity_known());
}

#[test]
fn hostile_rates_ask_for_nothing_or_for_the_bound() {
    for rps in [f64::NAN, f64::NEG_INFINITY, -5.0, 0.0] {
        let reserved = basis((0, 0, 0, 10), &[("near", 10)]).reserve(&curve(4, |_| rps));
        assert_eq!(reserved, Reserved::default(), "{rps}");
    }
    let most = basis((0, 0, 0, 10), &[("near", 10)]).reserve(&curve(4, |_| 1e300));
    assert_eq!(most.reservations.iter().map(|r| r.count).sum::<u32>(), 10);
    assert_eq!(basis((1, 1, 1, 10), &[]).reserve(&[]), Reserved::default());
}

#[test]
fn what_places_are_asked_for_adds_up_over_services() {
    let day =
        |from: u64| move |nth: u64| if (from..from + 16).contains(&nth) { 175.0 } else { 0.0 };
    let shop = basis((0, 0, 0, 10), &[("near", 10)]).reserve(&curve(96, day(32)));
    let cart = basis((0, 0, 0, 10), &[("near", 10)]).reserve(&curve(96, day(40)));
    let sums = by_place(shop.reservations.iter().chain(&cart.reservations));
    let full: Vec<_> = sums.iter().filter(|sum| sum.tier == Tier::Full).collect();
    let hours = |sum: &PlaceSum| (sum.count, sum.from_ms / HOUR_MS, sum.until_ms / HOUR_MS);
    assert_eq!(full.iter().map(|sum| hours(sum)).collect::<Vec<_>>(), [(1, 8, 14), (1, 10, 12)]);
    assert_eq!(full[0].order_by_ms, 8 * HOUR_MS - 180_000);
}

#[test]
fn seats_are_filled_as_creations_are() {
    let mut providers = Providers::default();
    let spec = |name: &str, cost_per_hour, max, spare| PlaceSpec {
        cost_per_hour,
        max,
        spare,
        zone: name.to_owned(),
        ..PlaceSpec::new(PlaceName::from(name))
    };
    let specs = [spec("far", 0.1, None, Some(1)), spec("near", 0.5, Some(2), None)];
    providers.ordered(&PlaceName::from("far"), 0);
    let mut places = Places::ahead(&specs, |zone| zone == "near", &providers);
    let taken: Vec<String> =
        (0..4).filter_map(|_| Some(places.take().ok()?.place.to_string())).collect();
    assert_eq!(
        taken,
        ["near", "near", "far", "far"],
        "zones of primaries, then spare room, then cost"
    );
    assert_eq!(LeadTimes::NONE.ms(Tier::Cold, Tier::Shadow), 2_000);
}
