//! How instances are moved elsewhere: steps that rise to all, windows that come.

use super::range::{self, DAY_MS, HOUR_MS, SECOND_MS};
use crate::raw::{List, RawMigration, RawWindow, Share};
use crate::reader::{At, Field, Problem, Reader};
use crate::units;
use crate::{Migration, MigrationWindow, RecurringEvent};
use foreshadow_control::MigrationSpec;

/// Steps of one migration: more of them are no safer.
const MOST_STEPS: usize = 20;
/// Windows of one service.
const MOST_WINDOWS: usize = 32;

pub(super) fn migration(
    field: Field<RawMigration>,
    has_shadows: bool,
    r: &mut Reader<'_>,
) -> Option<Migration> {
    let At { value: raw, place } = field.given()?;
    if !has_shadows {
        let problem = Problem::new("a migration without shadows", "shadows beside it");
        r.report(&place, problem.help("an instance moves to a shadow: say where those are made"));
    }
    let usual = MigrationSpec::default();
    Some(Migration {
        steps: steps(raw.steps, usual.steps, r),
        verify: range::time(raw.verify, SECOND_MS..=HOUR_MS, usual.verify_ms, r),
        ready: range::time(raw.ready, SECOND_MS..=HOUR_MS, usual.ready_ms, r),
        drain: range::time(raw.drain, SECOND_MS..=HOUR_MS, usual.drain_ms, r),
        risk: match raw.risk.is_absent() {
            true => None,
            false => Some(range::share(raw.risk, 0.01..=0.99, 0.5, r)),
        },
        windows: windows(raw.windows, r),
    })
}

fn steps(field: Field<List<Share>>, usual: Vec<f64>, r: &mut Reader<'_>) -> Vec<f64> {
    let Some(At { value: List(items), place }) = field.given() else { return usual };
    if items.is_empty() || items.len() > MOST_STEPS {
        let expected = format!("1 to {MOST_STEPS} steps, such as [5%, 25%, 50%, 100%]");
        r.report(&place, Problem::new(format!("{} steps", items.len()), expected));
        return usual;
    }
    let mut steps: Vec<f64> = Vec::with_capacity(items.len());
    for At { value: Share(share), place } in items {
        let found = units::percent::format(share);
        if let Some(before) = steps.last().filter(|before| share <= **before) {
            let expected =
                format!("more than the step before, {}", units::percent::format(*before));
            r.report(&place, Problem::new(found, expected));
            return usual;
        }
        if !(0.001..=1.0).contains(&share) {
            r.report(&place, Problem::new(found, "a share of 0.1% to 100%"));
            return usual;
        }
        steps.push(share);
    }
    if let Some(last) = steps.last().filter(|last| **last < 1.0) {
        let found = format!("a last step of {}", units::percent::format(*last));
        let problem = Problem::new(found, "100% as the last step");
        r.report(&place, problem.help("an instance that keeps some of its requests cannot end"));
    }
    steps
}

fn windows(field: Field<List<RawWindow>>, r: &mut Reader<'_>) -> Vec<MigrationWindow> {
    let Some(At { value: List(items), place }) = field.given() else { return Vec::new() };
    if items.is_empty() || items.len() > MOST_WINDOWS {
        let expected = format!("1 to {MOST_WINDOWS} windows, or none of the key");
        r.report(&place, Problem::new(format!("{} windows", items.len()), expected));
    }
    let mut windows = Vec::with_capacity(items.len());
    for At { value: raw, place } in items {
        let duration = range::time(raw.duration, SECOND_MS..=31 * DAY_MS, HOUR_MS, r);
        let Some(start) = raw.start.value().map(|start| start.0) else { continue };
        let timezone = raw.timezone.value().map_or_else(|| "UTC".to_owned(), |zone| zone.0);
        let rule = raw.rule.value().map(|rule| rule.0);
        let when = (start.as_str(), timezone.as_str());
        match RecurringEvent::of_rule(("window", 1.0, duration), when, rule.as_deref()) {
            Ok(event) => windows.push(MigrationWindow { start, timezone, rule, duration, event }),
            Err(error) => {
                let expected = "a start, a timezone and a rule such as FREQ=WEEKLY;BYDAY=SU";
                let found = format!("a window that never is ({error})");
                r.report(&place, Problem::new(found, expected));
            }
        }
    }
    windows
}
