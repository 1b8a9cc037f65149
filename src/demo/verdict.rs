//! Whether the acts really happened as promised.

use serde::Serialize;

use super::acts::Take;
use super::figures::{Figures, Kill, Ramp, Spike};
use super::script::EVALUATION_WINDOW_MS;

const LEAST_LEAD_S: f64 = 1.0;
const WEIGHT_ZERO_MS: u64 = 200;
const TAKEOVER_MS: u64 = 500;
const RECREATION_MS: u64 = 10_000;
/// For weights to return at the default slew of 50% per second, once the window has passed.
const WEIGHTS_MS: u64 = 2_000;
/// For shadows to drain and step down one after the other, on top.
const TIERS_MS: u64 = 3_000;
/// Seconds beyond the objective that acting may leave: the machine has other work, too.
const MOST_SECONDS_BEYOND: usize = 2;

/// A promise and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) act: &'static str,
    pub(super) promise: String,
    pub(super) figure: String,
    pub(super) ok: bool,
}

type Run = (Figures, Take);

/// Compares figures and promises.
pub(super) fn judge(act: &Run, observe: Option<&Run>) -> Vec<Check> {
    let (figures, take) = act;
    let mut checks = vec![of_ramp(&figures.ramp)];
    checks.extend(of_kill(&figures.kill));
    checks.extend(of_spike(&figures.spike));
    checks.push(of_comparison(figures, observe.map(|(figures, _)| figures)));
    checks.push(of_end(take));
    checks
}

fn ms(value: Option<u64>) -> String {
    value.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"))
}

fn within(value: Option<u64>, limit_ms: u64) -> bool {
    value.is_some_and(|ms| ms <= limit_ms)
}

fn of_ramp(ramp: &Ramp) -> Check {
    let since = |at_ms: Option<u64>| {
        at_ms.map_or_else(
            || "never".to_owned(),
            |at| format!("{:+.1} s", (at as f64 - ramp.began_at_ms as f64) / 1e3),
        )
    };
    let answered = match (ramp.first_answer_at_ms, ramp.saturation_at_ms) {
        (Some(answered), Some(saturated)) => answered < saturated,
        _ => false,
    };
    let lead = ramp.lead_s.map_or_else(|| "none".to_owned(), |s| format!("{s:.1} s"));
    Check {
        act: "1 ramp",
        promise: format!("a shadow serves at least {LEAST_LEAD_S} s before the primaries saturate"),
        figure: format!(
            "lead {lead}; {} shadows served before; since the ramp began: weight {}, answer {}, \
             saturation {}",
            ramp.serving_before,
            since(ramp.activation_at_ms),
            since(ramp.first_answer_at_ms),
            since(ramp.saturation_at_ms)
        ),
        ok: ramp.serving_before == 0 && answered && ramp.lead_s.is_some_and(|s| s >= LEAST_LEAD_S),
    }
}

fn of_kill(kill: &Kill) -> [Check; 4] {
    let act = "2 kill -9";
    // Shadows that serve already and have room take over at once; a further one need not.
    let takeover_ms = kill.further_shadow_ms.into_iter().chain(kill.carried_ms).min();
    [
        Check {
            act,
            promise: "no idempotent request fails from the kill until 5 s after".to_owned(),
            figure: format!("{} failed", kill.failed),
            ok: kill.failed == 0,
        },
        Check {
            act,
            promise: format!("its weight is 0 within {WEIGHT_ZERO_MS} ms"),
            figure: ms(kill.weight_zero_ms),
            ok: within(kill.weight_zero_ms, WEIGHT_ZERO_MS),
        },
        Check {
            act,
            promise: format!("shadows serve in its place within {TAKEOVER_MS} ms"),
            figure: format!(
                "{} shadows served before; they carry its share after {}, a further one has \
                 weight after {} and answers after {}",
                kill.shadows_serving,
                ms(kill.carried_ms),
                ms(kill.further_shadow_ms),
                ms(kill.further_answer_ms)
            ),
            ok: within(takeover_ms, TAKEOVER_MS),
        },
        Check {
            act,
            promise: format!("the lost instance is recreated within {} s", RECREATION_MS / 1_000),
            figure: format!(
                "{} instances live again after {}",
                kill.alive_before,
                ms(kill.recreated_ms)
            ),
            ok: within(kill.recreated_ms, RECREATION_MS),
        },
    ]
}

fn of_spike(spike: &Spike) -> [Check; 3] {
    let act = "3 spike";
    let added = spike.serving_most.saturating_sub(spike.serving_before);
    let weights_ms = EVALUATION_WINDOW_MS + WEIGHTS_MS;
    let tiers_ms = weights_ms + TIERS_MS;
    let s = |ms: u64| ms as f64 / 1e3;
    [
        Check {
            act,
            promise: "shadows are added for the spike".to_owned(),
            figure: format!(
                "{} with weight before, {} at most",
                spike.serving_before, spike.serving_most
            ),
            ok: added > 0,
        },
        Check {
            act,
            promise: format!(
                "weights are back within the evaluation window and {} s to move them: {} s",
                s(WEIGHTS_MS),
                s(weights_ms)
            ),
            figure: format!("{} after the spike", ms(spike.weights_back_ms)),
            ok: added > 0 && within(spike.weights_back_ms, weights_ms),
        },
        Check {
            act,
            promise: format!(
                "tiers are back within that and {} s more to drain: {} s",
                s(TIERS_MS),
                s(tiers_ms)
            ),
            figure: format!("{} after the spike", ms(spike.tiers_back_ms)),
            ok: added > 0 && within(spike.tiers_back_ms, tiers_ms),
        },
    ]
}

fn of_comparison(act: &Figures, observe: Option<&Figures>) -> Check {
    let promise = format!(
        "no request fails and at most {MOST_SECONDS_BEYOND} seconds are beyond the objective; \
         without acting, the same load does damage"
    );
    let Some(observe) = observe else {
        let figure = "left out by --fast".to_owned();
        return Check { act: "compare", promise, figure, ok: false };
    };
    Check {
        act: "compare",
        promise,
        figure: format!(
            "seconds beyond the objective {} against {}, failed requests {} against {}",
            act.seconds_beyond, observe.seconds_beyond, act.failed, observe.failed
        ),
        ok: act.failed == 0
            && act.seconds_beyond <= MOST_SECONDS_BEYOND
            && act.seconds_beyond < observe.seconds_beyond
            && observe.failed > 0
            && observe.ramp.first_answer_at_ms.is_none(),
    }
}

fn of_end(take: &Take) -> Check {
    Check {
        act: "end",
        promise: "the node leaves no process behind".to_owned(),
        figure: match take.orphans.len() {
            0 => "none left".to_owned(),
            left => format!("{left} left, ended by the demo"),
        },
        ok: take.orphans.is_empty(),
    }
}
