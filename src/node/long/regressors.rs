//! Signals as what moves with demand: their past as it was kept, their future where a table has it.

use std::collections::BTreeMap;

use foreshadow_control::ServiceName;
use foreshadow_predictor::long::Regressor;

use super::Reach;
use crate::node::Shared;
use crate::node::history::{Reported, ReportedQuery, Resolution};
use crate::node::metrics::Rows;

/// The signals of a service that are named, from `from_ms` to as far ahead as a curve looks. One of which
/// what was kept cannot be read is left out.
pub(super) fn regressors(
    shared: &Shared,
    service: &ServiceName,
    names: &[String],
    reach: Reach,
    (from_ms, now_ms): (u64, u64),
) -> Vec<Regressor> {
    let resolution = reach.resolution();
    let tables = shared.metrics.tables();
    let mut regressors = Vec::new();
    for name in names {
        let kept = shared.history.reported(&ReportedQuery {
            service: service.clone(),
            instance: 0,
            metric: name.clone(),
            resolution,
            from_ms,
            until_ms: resolution.start_ms(now_ms),
            limit: u32::MAX,
        });
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                let reach = reach.as_str();
                tracing::warn!(%service, signal = name, reach, "a fit does without: {error:#}");
                continue;
            }
        };
        let table = tables.get(&(service.clone(), name.clone()));
        let until_ms = now_ms.saturating_add(2 * reach.ms());
        let values = values(&kept, table, resolution, (from_ms, now_ms, until_ms));
        if values.iter().any(Option::is_some) {
            let start_ms = resolution.start_ms(from_ms);
            regressors.push(Regressor { name: name.clone(), start_ms, values });
        }
    }
    regressors
}

/// Of each span the mean that was kept of it, else what the table says: of the past before the signal was
/// looked up, and of the time to come as far as it has rows. What is kept comes first, since it is what
/// was said at the time.
fn values(
    kept: &[Reported],
    table: Option<&Rows>,
    resolution: Resolution,
    (from_ms, now_ms, until_ms): (u64, u64, u64),
) -> Vec<Option<f64>> {
    let step_ms = resolution.step_ms();
    let kept: BTreeMap<u64, f64> = kept.iter().map(|span| (span.at_ms, span.mean)).collect();
    // Where the last row has begun, nothing is known of what comes after it.
    let known_ms = table.map_or(0, Rows::last_ms).saturating_add(step_ms);
    let planned_ms = if known_ms > now_ms.saturating_add(step_ms) { known_ms } else { now_ms };
    let until_ms = until_ms.min(planned_ms);
    let mut values = Vec::new();
    let mut at_ms = resolution.start_ms(from_ms);
    while at_ms < until_ms {
        let told = || table.and_then(|rows| rows.mean(at_ms, at_ms + step_ms));
        values.push(kept.get(&at_ms).copied().or_else(told));
        at_ms += step_ms;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn the_past_is_what_was_kept_and_the_future_what_the_table_says() {
        let start_ms = 500_000 * HOUR_MS;
        let at = |hour: u64| start_ms + hour * HOUR_MS;
        let rows =
            Rows::of(&[(at(0), Some(1.0)), (at(2), Some(9.0)), (at(5), Some(3.0)), (at(7), None)]);
        let kept = [Reported { at_ms: at(2), ticks: 1, mean: 2.0, least: 2.0, most: 2.0 }];
        let read = |table: Option<&Rows>, until| {
            values(&kept, table, Resolution::Hour, (at(0) + 5, at(4) + 60_000, at(until)))
        };
        let told = read(Some(&rows), 30);
        let expected = [1.0, 1.0, 2.0, 9.0, 9.0, 3.0, 3.0].map(Some);
        assert_eq!(told, [&expected[..], &[None]].concat());
        assert_eq!(read(Some(&rows), 6).len(), 6);
        assert_eq!(read(None, 30), [None, None, Some(2.0), None, None]);
        let over = Rows::of(&[(at(0), Some(1.0)), (at(3), Some(2.0))]);
        assert_eq!(read(Some(&over), 30).len(), 5, "what it was last is no plan");
    }
}
