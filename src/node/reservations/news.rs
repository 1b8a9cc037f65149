//! Whether reservations are other ones than those that were told: curves move a little with every fit, and
//! time goes on; neither is news.

use foreshadow_control::{PlaceName, Reservation, Tier};
use serde_json::{Value, json};

use super::Expected;

/// Edges that moved by less are where they were.
const SAME_MS: u64 = 1_800_000;
/// So many are named on record, the soonest.
const MOST_TOLD: usize = 40;

/// What a reservation was told as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    place: PlaceName,
    tier: Tier,
    count: u32,
    /// 0 where it has begun.
    from_ms: u64,
    /// The largest number where it ends only with the curves.
    until_ms: u64,
}

/// What is there to be told at a time, less what is over.
pub(super) fn told(expected: &Expected, now_ms: u64) -> Vec<Told> {
    let reservations = expected.reservations.iter().map(|named| &named.reservation);
    let mut told: Vec<Told> =
        reservations.filter(|r| r.until_ms > now_ms).map(|r| of(r, now_ms)).collect();
    sort(&mut told);
    told
}

fn of(r: &Reservation, now_ms: u64) -> Told {
    Told {
        place: r.place.clone(),
        tier: r.tier,
        count: r.count,
        from_ms: if r.from_ms <= now_ms { 0 } else { r.from_ms },
        until_ms: if r.open { u64::MAX } else { r.until_ms },
    }
}

fn sort(told: &mut [Told]) {
    told.sort_by(|a, b| {
        let key = |t: &Told| (t.place.clone(), t.tier, t.count, t.from_ms, t.until_ms);
        key(a).cmp(&key(b))
    });
}

/// Whether `new` is news to whoever was told `old` earlier. What comes into sight at the far end is news when
/// it is not what stood there the day before: a new peak at the end of the week is.
pub(super) fn is_news(old: &[Told], new: &[Told], now_ms: u64) -> bool {
    let mut old: Vec<Told> = old.iter().filter(|t| t.until_ms > now_ms).cloned().collect();
    for told in &mut old {
        if told.from_ms <= now_ms.saturating_add(SAME_MS) {
            told.from_ms = 0;
        }
    }
    let mut new = new.to_vec();
    for told in &mut new {
        if told.from_ms <= now_ms.saturating_add(SAME_MS) {
            told.from_ms = 0;
        }
    }
    sort(&mut old);
    sort(&mut new);
    let close = |a: u64, b: u64| a.abs_diff(b) <= SAME_MS;
    let same = |(a, b): (&Told, &Told)| {
        (&a.place, a.tier, a.count) == (&b.place, b.tier, b.count)
            && close(a.from_ms, b.from_ms)
            && close(a.until_ms, b.until_ms)
    };
    old.len() != new.len() || !old.iter().zip(&new).all(same)
}

/// For the record.
pub(super) fn shown(told: &[Told]) -> Value {
    let mut told: Vec<&Told> = told.iter().collect();
    told.sort_by_key(|t| (t.from_ms, t.until_ms));
    let left_out = told.len().saturating_sub(MOST_TOLD);
    let one = |t: &&Told| {
        json!({
            "place": t.place,
            "tier": t.tier,
            "count": t.count,
            "from_ms": (t.from_ms > 0).then_some(t.from_ms),
            "until_ms": (t.until_ms < u64::MAX).then_some(t.until_ms),
        })
    };
    let all: Vec<Value> = told.iter().take(MOST_TOLD).map(one).collect();
    json!({ "reservations": all, "left_out": left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn one(count: u32, from_h: u64, until_h: u64) -> Told {
        Told {
            place: PlaceName::from("near"),
            tier: Tier::Full,
            count,
            from_ms: from_h * HOUR_MS,
            until_ms: if until_h == 0 { u64::MAX } else { until_h * HOUR_MS },
        }
    }

    #[test]
    fn small_moves_and_the_going_of_time_are_no_news() {
        let old = [one(1, 0, 0), one(2, 8, 20)];
        let mut moved = old.clone();
        moved[1].from_ms += 1_800_000;
        assert!(!is_news(&old, &moved, HOUR_MS));
        let begun = [one(1, 0, 0), one(2, 0, 20)];
        assert!(!is_news(&old, &begun, 9 * HOUR_MS), "it has begun as was told");
        assert!(!is_news(&old, &old[..1], 21 * HOUR_MS), "it is over as was told");
    }

    #[test]
    fn another_number_another_time_and_another_place_are_news() {
        let old = [one(2, 8, 20)];
        assert!(is_news(&old, &[one(3, 8, 20)], 0));
        assert!(is_news(&old, &[one(2, 9, 20)], 0));
        assert!(is_news(&old, &[], 0) && is_news(&[], &old, 0));
        let elsewhere = [Told { place: PlaceName::from("far"), ..one(2, 8, 20) }];
        assert!(is_news(&old, &elsewhere, 0));
    }
}
