//! The law's reasons, in figures.

use super::Foreign;
use super::need::Ground;
use crate::scene::{Scene, shadows_text};

/// "1 primary", "2 primaries".
fn primaries_text(primaries: u32) -> String {
    format!("{primaries} primar{}", if primaries == 1 { "y" } else { "ies" })
}

fn serve_text(scene: &Scene<'_>) -> String {
    match scene.committed() {
        0 => "no shadow serves".to_owned(),
        1 => "1 shadow serves".to_owned(),
        serving => format!("{serving} shadows serve"),
    }
}

pub(super) fn out(
    scene: &Scene<'_>,
    ground: &Ground,
    (known, goal, needed): (u32, u32, Option<u32>),
    lead_ms: u64,
) -> String {
    let expected = scene.outlook.asked(lead_ms, |h| scene.in_force.commit(h).max(h.median_rps)).rps;
    let why = match needed {
        Some(needed) if needed > known => format!(
            "for at least half of the last {} ms demand ({:.0} rps now, {expected:.0} rps expected \
             within the {lead_ms} ms that primaries take) has needed {needed} at {:.0} rps each",
            super::need::sustain_ms(scene, lead_ms),
            scene.outlook.now_rps,
            ground.each_rps
        ),
        _ => "fewer than its least number are wanted".to_owned(),
    };
    format!(
        "primaries {known} to {goal}: {why}; shadows bridge until they are ready and warm, {}",
        serve_text(scene)
    )
}

pub(super) fn again(known: u32, goal: u32, why: &str) -> String {
    format!("primaries {known} to {goal} again: {why}")
}

pub(super) fn back(
    scene: &Scene<'_>,
    (known, goal): (u32, u32),
    held: Option<[u32; 2]>,
    came_true: bool,
) -> String {
    let window_ms = scene.spec.scaling.map_or(0, |spec| spec.stabilisation_ms);
    let [held, measured] = held.unwrap_or_default();
    let what = if came_true { "demand has gone" } else { "the demand expected did not come" };
    format!(
        "primaries {known} to {goal}: {what}: for {window_ms} ms no more than {held} were needed, \
         {measured} by what was measured; demand is {:.0} rps, and {}",
        scene.outlook.now_rps,
        serve_text(scene)
    )
}

pub(super) fn withdrawn(scene: &Scene<'_>, order: u32, known: u32) -> String {
    format!(
        "primaries stay at {known}: {order} are no longer wanted, at {:.0} rps now",
        scene.outlook.now_rps
    )
}

pub(super) fn ready(scene: &Scene<'_>, to: u32, took_ms: u64, lead_ms: u64) -> String {
    format!(
        "{} are ready {took_ms} ms after they were asked for ({lead_ms} ms were allowed for); new \
         ones warm up for {} ms, and {}",
        primaries_text(to),
        scene.warm_up_ms,
        serve_text(scene)
    )
}

pub(super) fn warm(scene: &Scene<'_>) -> String {
    format!(
        "the new primaries are warm: primaries carry {:.0} rps at {:.0}% utilisation, demand is \
         {:.0} rps; shadows step back, weights first, once that has held for {} ms, {}",
        scene.supply.primary_rps,
        scene.supply.target * 100.0,
        scene.outlook.now_rps,
        scene.spec.evaluation_window_ms,
        serve_text(scene)
    )
}

pub(super) fn alone(scene: &Scene<'_>, known: u32) -> String {
    format!(
        "shadows have stepped back: {} carry {:.0} rps at {:.0}% utilisation, demand is {:.0} rps",
        primaries_text(known),
        scene.supply.primary_rps,
        scene.supply.target * 100.0,
        scene.outlook.now_rps
    )
}

pub(super) fn foreign(known: u32, asked: Option<u32>, foreign: Foreign, respect_ms: u64) -> String {
    let Foreign { number, undid, .. } = foreign;
    let what = match asked {
        Some(asked) => {
            format!("{asked} primaries were asked for and taken, and {number} are wanted")
        }
        None => format!("somebody else has changed the primaries from {known} to {number}"),
    };
    let then = if undid {
        "this undoes an order, so scaling stands aside"
    } else {
        "it is the new number to go back to, and none is taken away"
    };
    format!("{what}: {then} for {} s; shadows go on as demand asks", respect_ms / 1_000)
}

pub(super) fn trouble(scene: &Scene<'_>, trouble: &str) -> String {
    format!(
        "primaries cannot be scaled: {trouble}; meanwhile shadows hold as demand asks, {}",
        serve_text(scene)
    )
}

pub(super) fn late(scene: &Scene<'_>, ready: u32, to: u32, waited_ms: u64) -> String {
    format!(
        "{ready} of {to} primaries are ready {:.0} s after they were asked for: see what keeps the \
         others; meanwhile shadows hold as demand asks, {} of {} that there may be",
        waited_ms as f64 / 1_000.0,
        serve_text(scene),
        shadows_text(scene.pool.max)
    )
}
