//! What was expected, and the verdict.

use std::time::Duration;

use foreshadow_config::Health;
use foreshadow_control::Role;

use super::ask::FaultKind;
use super::report::{Goal, Report};

/// Added to what the health check takes: ticks, and a machine that is busy.
const SLACK: Duration = Duration::from_secs(1);

/// How long it may take to see that an instance is gone or silent, by its health check: as many
/// checks as it takes, each a tenth late and at its timeout.
pub(super) fn detection_ms(health: &Health) -> u64 {
    let checks = (health.interval.mul_f64(1.1) + health.timeout) * health.fall;
    u64::try_from((checks + SLACK).as_millis()).unwrap_or(u64::MAX)
}

/// Every goal with what was found.
pub(super) fn judge(report: &Report, detection_ms: u64) -> Vec<Goal> {
    let (asked, times) = (&report.asked, &report.times);
    let failed = report.figures.during.failed + report.figures.after.failed;
    let mut goals = vec![goal(
        "failed requests",
        format!("at most {}", asked.max_failed),
        failed.to_string(),
        failed <= asked.max_failed,
    )];
    let carried = report.victim.weight > 0;
    // One that is slow is not taken out as a rule.
    if carried && asked.fault != FaultKind::Slow || asked.weight_zero_within_ms.is_some() {
        let bound = asked.weight_zero_within_ms.unwrap_or(detection_ms);
        let whence = match asked.weight_zero_within_ms {
            Some(_) => "",
            None => ", by the health check",
        };
        goals.push(within("weight zero", bound, whence, times.weight_zero_ms));
    }
    let is_gone = asked.fault == FaultKind::Kill && report.victim.role == Role::Shadow;
    let bound = asked.for_ms + asked.settle_ms;
    if is_gone {
        goals.push(within("made again", bound, "", times.recreated_ms));
    }
    goals.push(within("put right", bound, "", times.put_right_ms));
    goals.push(within("as before", bound, "", times.normal_ms));
    goals
}

fn within(what: &str, bound_ms: u64, whence: &str, found_ms: Option<u64>) -> Goal {
    goal(
        what,
        format!("within {bound_ms} ms{whence}"),
        found_ms.map_or_else(|| "not seen".to_owned(), |found_ms| format!("{found_ms} ms")),
        found_ms.is_some_and(|found_ms| found_ms <= bound_ms),
    )
}

fn goal(what: &str, expected: String, found: String, met: bool) -> Goal {
    Goal { what: what.to_owned(), expected, found, met }
}
