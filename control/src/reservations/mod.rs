//! What will be needed of each place from when to when, by the curves of hours to a week: for those who book
//! capacity before it is needed. Nothing here decides anything: shadows are made by the laws of the tick.
//!
//! Of each span of a curve the quantiles that start the steps ask for shadows as they do in a tick: what the
//! lower bound asks for will serve, what the median asks for beside that will run warm, what the upper bound
//! asks for beside both will be made, and the pool keeps its reserve besides. They are placed as creations
//! are, by `place`, as if none existed yet and no place had failed lately. What the primaries carry and
//! what a shadow carries are taken to stay as they are.

mod intervals;

use serde::{Deserialize, Serialize};

use crate::announced::Asked;
use crate::place::Places;
use crate::providers::Providers;
use crate::scene::{count, shadows_text};
use crate::sizing::by_primaries;
use crate::supply::Supply;
use crate::{
    InstanceObservation, PlaceName, PoolSpec, QuantileSpec, Role, ServiceObservation, ServiceSpec,
    Tier,
};
use intervals::{Interval, Need, intervals};

/// Intervals of one service, place and tier at most: two a day for a week. What is more is merged.
const MOST_INTERVALS: usize = 14;

/// Demand in one span of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemandSpan {
    /// Its start, Unix time.
    pub from_ms: u64,
    /// Its end.
    pub until_ms: u64,
    /// Requests per second at the quantile that has shadows serve.
    pub commit_rps: f64,
    /// At the one that warms them.
    pub warm_rps: f64,
    /// At the one that makes them.
    pub prepare_rps: f64,
}

/// Shadows that will be needed in a place. Those of one place and tier that overlap add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// Where.
    pub place: PlaceName,
    /// How ready: `full` are those that will serve or are kept at full size.
    pub tier: Tier,
    /// How many, above 0.
    pub count: u32,
    /// From when on, Unix time, to a quarter of an hour.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// Whether it ends only where the curves do.
    pub open: bool,
    /// When they must be ordered there, cold, to be ready at `from_ms`: that less `lead_ms`.
    pub order_by_ms: u64,
    /// What a cold one takes to this tier there: the 90th percentile of what was seen.
    pub lead_ms: u64,
    /// What one costs there per hour, at full size; 0 where nothing is said of it.
    pub cost_per_hour: f64,
    /// The quantile of demand that asks for them, 0 to 1.
    pub quantile: f64,
    /// The figures.
    pub why: ReservationWhy,
}

/// What a reservation was reckoned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservationWhy {
    /// The highest demand within its time at its quantile, requests per second.
    pub highest_rps: f64,
    /// What the primaries carry at target utilisation.
    pub primary_rps: f64,
    /// What one shadow carries.
    pub shadow_rps: f64,
    /// Kept in reserve at this tier by the pool, in all places.
    pub reserve: u32,
    /// The same as a sentence.
    pub text: String,
}

/// Shadows that will be needed and that no place has room for, or the pool none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unplaced {
    /// How many.
    pub count: u32,
    /// From when on, Unix time.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// What keeps them from being made, and what would help.
    pub why: String,
}

/// All that will be needed for a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reserved {
    /// By start.
    pub reservations: Vec<Reservation>,
    /// By start; those that overlap add up.
    pub unplaced: Vec<Unplaced>,
}

/// What is asked of a place by all services together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceSum {
    /// The place, by its name.
    pub place: PlaceName,
    /// How ready.
    pub tier: Tier,
    /// How many, of all services; those of one place and tier that overlap add up.
    pub count: u32,
    /// From when on, Unix time.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// When the first of them must be ordered.
    pub order_by_ms: u64,
}

/// What reservations of a service are reckoned with, beside its curves.
#[derive(Clone, Debug)]
pub struct ReservationBasis {
    supply: Supply,
    pool: PoolSpec,
    /// Shadows of any tier, never fewer.
    least: u32,
    quantiles: QuantileSpec,
    /// By the order in which they are filled; a place may come twice, with and beyond its spare room.
    seats: Vec<(Seat, u32)>,
    /// Why no more can be made once all seats are taken.
    full_text: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Seat {
    place: PlaceName,
    cost_per_hour: f64,
    /// From cold to `shadow`, `warm` and full capacity.
    lead_ms: [u64; 3],
}

/// The tiers that are reserved, least ready first: as in [`Seat::lead_ms`].
const TIERS: [Tier; 3] = [Tier::Shadow, Tier::Warm, Tier::Full];

/// How many shadows are needed in one span, in all places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// At full size, running at all, and existing.
    full: u32,
    running: u32,
    all: u32,
    /// What demand asks for beyond the pool's bound.
    beyond: u32,
}

impl ReservationBasis {
    /// Nothing where the service has no provider of shadows.
    pub(crate) fn of(
        spec: &ServiceSpec,
        seen: &ServiceObservation,
        supply: Supply,
        warm_up_ms: u64,
        providers: &Providers,
    ) -> Option<Self> {
        let is_primary = |i: &&InstanceObservation| i.role == Role::Primary;
        let primaries = count(seen.instances.iter().filter(is_primary));
        let pool = by_primaries(spec.pool?, &spec.sizing, primaries);
        let least = spec.sizing.min.map_or(0, |min| min.of(primaries)).min(pool.max);
        let near = |zone: &str| seen.instances.iter().filter(is_primary).any(|i| i.zone == zone);
        let mut places = Places::ahead(&spec.places, near, providers);
        let mut seats: Vec<(Seat, u32)> = Vec::new();
        for _ in 0..pool.max {
            let Ok(chosen) = places.take() else { break };
            match seats.last_mut().filter(|(seat, _)| seat.place == chosen.place) {
                Some((_, seats)) => *seats += 1,
                None => {
                    let cost = places.get(&chosen.place).map_or(0.0, |s| s.spec.cost_per_hour);
                    let leads = providers.leads(&chosen.place);
                    let lead_ms = [
                        leads.ms(Tier::Cold, Tier::Shadow),
                        leads.ms(Tier::Cold, Tier::Warm),
                        leads.ms(Tier::Cold, Tier::Serving).saturating_add(warm_up_ms),
                    ];
                    seats.push((Seat { place: chosen.place, cost_per_hour: cost, lead_ms }, 1));
                }
            }
        }
        let full_text = places.shortage();
        Some(Self { supply, pool, least, quantiles: spec.quantiles, seats, full_text })
    }

    /// Whether it is known what an instance carries: otherwise only the pool's reserve is reserved.
    #[must_use]
    pub fn is_capacity_known(&self) -> bool {
        self.supply.known
    }

    /// The quantiles that demand is asked for.
    #[must_use]
    pub fn quantiles(&self) -> QuantileSpec {
        self.quantiles
    }

    /// What will be needed for the demand of `spans`, which are ordered and do not overlap. Rates that are
    /// no numbers, or negative, ask for nothing.
    #[must_use]
    pub fn reserve(&self, spans: &[DemandSpan]) -> Reserved {
        let wanted: Vec<Wanted> = spans.iter().map(|span| self.wanted(span)).collect();
        let end_ms = spans.last().map_or(0, |span| span.until_ms);
        let mut reserved = Reserved::default();
        let mut places: Vec<&Seat> = Vec::new();
        for (seat, _) in &self.seats {
            if places.iter().all(|known| known.place != seat.place) {
                places.push(seat);
            }
        }
        for seat in places {
            for nth in 0..TIERS.len() {
                let need = |wanted: &Wanted| {
                    let (first, last) = bounds(*wanted, nth);
                    self.seats_of(&seat.place, last) - self.seats_of(&seat.place, first)
                };
                let found = merged(spans, wanted.iter().map(need));
                let made =
                    found.into_iter().map(|it| self.reservation(seat, nth, it, spans, end_ms));
                reserved.reservations.extend(made);
            }
        }
        reserved.reservations.sort_by(|a, b| {
            (a.from_ms, &a.place, a.tier, b.until_ms)
                .cmp(&(b.from_ms, &b.place, b.tier, a.until_ms))
        });
        let room = self.seats.iter().map(|(_, seats)| *seats).sum::<u32>();
        let short = |w: &Wanted| w.all.saturating_sub(room).saturating_add(w.beyond);
        for Interval { from_ms, until_ms, count } in merged(spans, wanted.iter().map(short)) {
            let why = self.unplaced_text(room);
            reserved.unplaced.push(Unplaced { count, from_ms, until_ms, why });
        }
        reserved
    }

    fn wanted(&self, span: &DemandSpan) -> Wanted {
        let asked = |rps: f64| {
            let rps = if rps.is_finite() && self.supply.known { rps.max(0.0) } else { 0.0 };
            if rps > 0.0 { self.supply.shadows_asked(Asked::of(rps, None)) } else { 0 }
        };
        let max = self.pool.max;
        let [lower, median, upper] = [span.commit_rps, span.warm_rps, span.prepare_rps].map(asked);
        let serving = lower.min(max);
        let reserve = [self.pool.full, self.pool.warm, self.pool.shadow];
        let kept = reserve.iter().fold(0, |sum: u32, kept| sum.saturating_add(*kept));
        let kept = kept.max(self.least.saturating_sub(serving));
        let full = serving.saturating_add(self.pool.full).min(max);
        let running = full.saturating_add(self.pool.warm).max(median).min(max);
        let all = serving.saturating_add(kept).max(upper).max(running).min(max);
        Wanted { full, running, all, beyond: upper.max(median).max(lower).saturating_sub(max) }
    }

    /// How many of the first `taken` shadows are in a place.
    fn seats_of(&self, place: &PlaceName, taken: u32) -> u32 {
        let mut left = taken;
        let mut here = 0;
        for (seat, seats) in &self.seats {
            let used = left.min(*seats);
            left -= used;
            here += if seat.place == *place { used } else { 0 };
        }
        here
    }

    fn reservation(
        &self,
        seat: &Seat,
        nth: usize,
        Interval { from_ms, until_ms, count }: Interval,
        spans: &[DemandSpan],
        end_ms: u64,
    ) -> Reservation {
        let (quantile, rps, reserve): (f64, fn(&DemandSpan) -> f64, u32) = match nth {
            0 => (self.quantiles.prepare, |span| span.prepare_rps, self.pool.shadow),
            1 => (self.quantiles.warm, |span| span.warm_rps, self.pool.warm),
            _ => (self.quantiles.commit, |span| span.commit_rps, self.pool.full),
        };
        let within = spans.iter().filter(|s| s.from_ms < until_ms && s.until_ms > from_ms);
        let highest_rps = within.map(rps).filter(|rps| rps.is_finite()).fold(0.0, f64::max);
        let Supply { primary_rps, shadow_rps, target, .. } = self.supply;
        let text = format!(
            "the {quantile} quantile of demand comes to {highest_rps:.0} rps at most, primaries carry \
             {primary_rps:.0} rps at {:.0}% utilisation and a shadow {shadow_rps:.0} rps; the pool keeps \
             {} of this tier in reserve",
            target * 100.0,
            shadows_text(reserve),
        );
        let lead_ms = seat.lead_ms[nth];
        Reservation {
            place: seat.place.clone(),
            tier: TIERS[nth],
            count,
            from_ms,
            until_ms,
            open: until_ms >= end_ms,
            order_by_ms: from_ms.saturating_sub(lead_ms),
            lead_ms,
            cost_per_hour: seat.cost_per_hour,
            quantile,
            why: ReservationWhy { highest_rps, primary_rps, shadow_rps, reserve, text },
        }
    }

    fn unplaced_text(&self, room: u32) -> String {
        if room < self.pool.max {
            return format!(
                "the places have room for {}: {}; raise the max of a place, or add one",
                shadows_text(room),
                self.full_text
            );
        }
        format!("the pool allows {}; raise its max or add primaries", shadows_text(self.pool.max))
    }
}

/// Which of the shadows of a span, by the order in which they are placed, stand at the `nth` tier: from the
/// first to before the last. The readiest have the best places.
fn bounds(wanted: Wanted, nth: usize) -> (u32, u32) {
    match nth {
        0 => (wanted.running, wanted.all),
        1 => (wanted.full, wanted.running),
        _ => (0, wanted.full),
    }
}

fn merged(spans: &[DemandSpan], counts: impl Iterator<Item = u32>) -> Vec<Interval> {
    let need = |(span, count): (&DemandSpan, u32)| Need {
        from_ms: span.from_ms,
        until_ms: span.until_ms,
        count,
    };
    intervals(&spans.iter().zip(counts).map(need).collect::<Vec<_>>(), MOST_INTERVALS)
}

/// What all services ask of each place together.
#[must_use]
pub fn by_place<'a>(reservations: impl Iterator<Item = &'a Reservation>) -> Vec<PlaceSum> {
    let mut all: Vec<&Reservation> = reservations.collect();
    all.sort_by(|a, b| (&a.place, a.tier, a.from_ms).cmp(&(&b.place, b.tier, b.from_ms)));
    let mut sums = Vec::new();
    for same in all.chunk_by(|a, b| (&a.place, a.tier) == (&b.place, b.tier)) {
        let Some(first) = same.first() else { continue };
        let lead_ms = same.iter().map(|r| r.lead_ms).max().unwrap_or(0);
        let mut edges: Vec<u64> = same.iter().flat_map(|r| [r.from_ms, r.until_ms]).collect();
        edges.sort_unstable();
        edges.dedup();
        let needs = edges.windows(2).map(|edge| {
            let covers = |r: &&&Reservation| r.from_ms <= edge[0] && r.until_ms >= edge[1];
            let count = same.iter().filter(covers).fold(0_u32, |n, r| n.saturating_add(r.count));
            Need { from_ms: edge[0], until_ms: edge[1], count }
        });
        let found = intervals(&needs.collect::<Vec<_>>(), MOST_INTERVALS);
        sums.extend(found.into_iter().map(|Interval { from_ms, until_ms, count }| PlaceSum {
            place: first.place.clone(),
            tier: first.tier,
            count,
            from_ms,
            until_ms,
            order_by_ms: from_ms.saturating_sub(lead_ms),
        }));
    }
    sums
}

#[cfg(test)]
mod tests;
