//! Rules that look hours and days ahead, by what history foresees.

use foreshadow_control::{Controller, Foreseen, RuleState};

use crate::rules::{primaries, ruled};
use crate::sharing::observation;

#[test]
fn demand_far_ahead_is_what_history_foresees_or_not_known() {
    let rule = |text: &str| {
        let mut controller = Controller::new(vec![ruled(&[text])]);
        move |tick: u64, foreseen: &[Foreseen]| {
            let mut seen = observation(tick, 5, primaries([None; 2]));
            seen.services[0].foreseen = foreseen.to_vec();
            let plan = controller.tick(&seen).services.remove(0);
            (plan.rules[0].state, plan.rules[0].readings[0].text.clone())
        }
    };
    let told = |ahead_ms, quantile, rps| Foreseen {
        ahead_ms,
        quantile,
        then_rps: rps,
        least_rps: 0.5 * rps,
        most_rps: 2.0 * rps,
    };
    let day = 86_400_000;
    let mut within = rule("p90 of demand > 500rps within 1d -> prepare 1");
    let (state, text) = within(1, &[]);
    assert_eq!(state, RuleState::NoData);
    assert!(text.contains("is not foreseen by any history (> 500rps)"), "{text}");
    for other in [told(day, 50, 900.0), told(2 * day, 90, 900.0), told(day, 90, f64::NAN)] {
        assert_eq!(within(2, &[other]).0, RuleState::NoData, "{other:?}");
    }
    let (state, text) = within(3, &[told(day, 50, 1.0), told(day, 90, 300.0)]);
    assert_eq!(state, RuleState::Firing);
    assert!(text.contains("within 1d is 600 rps (> 500rps), now 50.0 rps"), "{text}");
    assert_eq!(within(4, &[told(day, 90, 200.0)]).0, RuleState::Inactive);

    let mut at = rule("rps < 100rps at 2h -> hold");
    assert_eq!(at(1, &[told(7_200_000, 50, 90.0)]).0, RuleState::Firing);
    assert_eq!(at(2, &[told(7_200_000, 50, 110.0)]).0, RuleState::Inactive);
    // Up to an hour what was just seen says something, too.
    let mut soon = rule("demand > 500rps within 30m -> prepare 1");
    for tick in 1..700 {
        soon(tick, &[]);
    }
    assert_eq!(soon(700, &[]).0, RuleState::Inactive);
    assert_eq!(soon(701, &[told(1_800_000, 50, 300.0)]).0, RuleState::Firing);
}
