//! A provider that fails for an hour, in each way: few tries, one alert, and recovery by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_control::AlertKind;

use super::life::Life;
use super::nature::{Nature, TICK_MS};
use super::order::disorder;
use super::random::Random;
use super::seams::{Link, locked};
use super::weather::{Trouble, Weather};
use super::world::World;
use crate::backoff::BackoffPolicy;
use crate::error::Cause;

const BEGINS_MS: u64 = 60_000;
const ENDS_MS: u64 = BEGINS_MS + 3_600_000;

/// What an hour came to.
#[derive(Debug)]
struct Hour {
    tries: u64,
    ends: u64,
    alerts_begun: u32,
    alerts_ended: u32,
    recovered_ms: u64,
    trace: String,
}

/// Rounds of tries in an hour by the law: no pause is shorter than half of `base * 2^(n-1)`, and of
/// `max` at last.
fn rounds(policy: &BackoffPolicy, longest: Duration) -> u64 {
    let (mut at, mut rounds) = (Duration::ZERO, 0_u64);
    while at < longest {
        let pause =
            policy.base.saturating_mul(1_u32.checked_shl(rounds as u32).unwrap_or(u32::MAX));
        at += pause.min(policy.max) / 2;
        rounds += 1;
    }
    rounds
}

fn hour_of(trouble: Trouble) -> Hour {
    let dir = super::directory();
    let weather = Weather::of(trouble, BEGINS_MS, ENDS_MS);
    let world = Arc::new(Mutex::new(World::new(Random::seeded(7), weather)));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("threads and descriptors are left").block_on(async {
        let link = Link::new(&world);
        let natures = [Nature::usual("shop")];
        let mut life = Life::start(dir.path(), link, &natures).await.expect("nothing is wrong yet");
        while locked(&world).now_ms < BEGINS_MS {
            life.tick(&natures).await;
        }
        assert_eq!(disorder(&life, &natures), None);
        // All of them are lost with it, so that all must be made again.
        {
            let mut world = life.link.world();
            let ids: Vec<_> = world.running().map(|(id, _)| id).collect();
            ids.into_iter().for_each(|id| world.end_by_itself(id, "out of memory"));
        }
        let before = locked(&world).counts;
        let (mut stood, mut begun, mut ended, mut recovered_ms) = (false, 0, 0, None);
        let mut during = None;
        while recovered_ms.is_none() || locked(&world).now_ms < ENDS_MS + 300_000 {
            life.tick(&natures).await;
            let now_ms = locked(&world).now_ms;
            assert!(now_ms < ENDS_MS + 600_000, "{trouble:?}: {:?}", disorder(&life, &natures));
            let failing =
                |alert: &foreshadow_control::Alert| alert.kind == AlertKind::ProviderFailing;
            let stands = life.alerts.values().flatten().any(failing);
            if stands != stood {
                begun += u32::from(stands);
                ended += u32::from(!stands);
                life.link.world().note(format!("the alert stands: {stands}"));
            }
            stood = stands;
            if now_ms >= ENDS_MS {
                during.get_or_insert(locked(&world).counts);
                let whole = life.manager.snapshot().len() == 2 && {
                    let settled = |one: &crate::ShadowInstance| one.moving_to.is_none();
                    life.manager.snapshot().iter().all(settled)
                };
                if whole {
                    recovered_ms.get_or_insert(now_ms - ENDS_MS);
                }
            }
        }
        assert_eq!(disorder(&life, &natures), None, "{trouble:?}");
        let during = during.expect("the hour has passed");
        Hour {
            tries: during.creates - before.creates,
            ends: during.destroys - before.destroys,
            alerts_begun: begun,
            alerts_ended: ended,
            recovered_ms: recovered_ms.expect("it has"),
            trace: locked(&world).trace(),
        }
    })
}

#[test]
fn an_hour_of_failing_is_few_tries_one_alert_and_recovery_by_itself() {
    let kinds = [
        ("unreachable", Trouble::Away),
        ("silent", Trouble::Silent),
        ("image missing", Trouble::NothingIsMade(Cause::NoImage)),
        ("permission denied", Trouble::NothingIsMade(Cause::Denied)),
        ("disk full", Trouble::NothingIsMade(Cause::DiskFull)),
        ("quota", Trouble::NothingIsMade(Cause::Quota)),
        ("never ready", Trouble::Deaf),
    ];
    let policy = BackoffPolicy::default();
    let longest = policy.max + Duration::from_secs(60) + Duration::from_millis(4 * TICK_MS);
    for (name, trouble) in kinds {
        let hour = hour_of(trouble);
        // Both of the pool are tried in each round.
        let most = 2 * rounds(&policy, Duration::from_secs(3_600));
        println!(
            "{name} for an hour: {} tries (at most {most}), {} alert begun, {} ended, whole again after {:.1} s",
            hour.tries,
            hour.alerts_begun,
            hour.alerts_ended,
            hour.recovered_ms as f64 / 1e3
        );
        assert!((2..=most).contains(&hour.tries), "{name}: {} tries\n{}", hour.tries, hour.trace);
        assert!(hour.ends <= hour.tries + 2_000, "{name}: {} ends", hour.ends);
        assert_eq!((hour.alerts_begun, hour.alerts_ended), (1, 1), "{name}\n{}", hour.trace);
        assert!(hour.recovered_ms <= longest.as_millis() as u64, "{name}\n{}", hour.trace);
    }
}
