//! What speaks against a drill, and what is seen of one, on plain data.

use std::time::Duration;

use foreshadow_control::{
    Announced, Health, InstanceId, InstanceObservation, Mode, Role, ServiceObservation,
    ServicePlan, Tier,
};
use serde_json::{Value, json};

use super::ask::{Ask, FaultKind};
use super::follow::Follower;
use super::limits::{Scene, objections};
use super::report::Times;

fn seen(instances: Vec<InstanceObservation>) -> ServiceObservation {
    ServiceObservation { instances, ..ServiceObservation::quiet("shop".into(), Mode::Act) }
}

fn primary(id: u64) -> InstanceObservation {
    InstanceObservation::idle(InstanceId(id), Role::Primary, Tier::Serving)
}

fn shadow(id: u64, tier: Tier) -> InstanceObservation {
    InstanceObservation::idle(InstanceId(id), Role::Shadow, tier)
}

/// A plan with these weights, each instance of which can carry `rps`, where that is known.
fn plan(weights: &[(u64, u32)], rps: Option<f64>) -> ServicePlan {
    let weight = |(id, weight): &(u64, u32)| json!({ "instance": id, "weight": weight });
    let capacity = |(id, _): &(u64, u32)| json!({ "instance": id, "rps": rps, "lower_rps": rps, "pinned": true });
    let horizon = |ms: u64, rps: f64| json!({ "horizon_ms": ms, "lower_rps": rps, "median_rps": rps, "upper_rps": rps });
    let capacities: Vec<Value> = weights.iter().filter(|_| rps.is_some()).map(capacity).collect();
    let plan = json!({
        "service": "shop", "mode": "act", "act": true, "demand_rps": 50.0,
        "weights": weights.iter().map(weight).collect::<Vec<_>>(),
        "forecast": [horizon(60_000, 400.0), horizon(5_000, 80.0), horizon(20_000, 120.0)],
        "capacity": capacities,
    });
    serde_json::from_value(plan).unwrap()
}

fn against(seen: &ServiceObservation, plan: &ServicePlan, victim: u64, ask: &Ask) -> Vec<String> {
    let scene = Scene { seen, plan, is_held: false };
    let all = objections(&scene, InstanceId(victim), ask);
    let mark = |forced| if forced { "?" } else { "!" };
    all.iter().map(|o| format!("{}{}", o.what, mark(o.may_be_forced))).collect()
}

#[test]
fn the_rest_must_carry_what_is_forecast_for_the_time() {
    let (seen, ask) = (seen(vec![primary(1), primary(2)]), Ask::default());
    let even = [(1, 5_000), (2, 5_000)];
    assert_eq!(against(&seen, &plan(&even, Some(130.0)), 1, &ask), [""; 0]);
    // 10 s lie between the horizons of 5 s and 20 s.
    assert_eq!(against(&seen, &plan(&even, Some(119.0)), 1, &ask), ["redundancy?"]);
    let long = Ask { for_ms: 60_000, ..Ask::default() };
    assert_eq!(against(&seen, &plan(&even, Some(130.0)), 1, &long), ["redundancy?"]);
    assert_eq!(against(&seen, &plan(&even, None), 1, &ask), ["redundancy?"]);
    let few = plan(&even, Some(119.0));
    let scene = Scene { seen: &seen, plan: &few, is_held: false };
    let text = &objections(&scene, InstanceId(1), &ask)[0].text;
    assert!(text.contains("can carry 119 rps") && text.contains("120 rps are expected"), "{text}");
}

#[test]
fn announced_events_are_counted_in() {
    let mut seen = seen(vec![primary(1), primary(2)]);
    let sale = Announced { starts_in_ms: 9_000, ends_in_ms: 90_000, lift: 2.0 };
    seen.announced = vec![sale];
    let plan = plan(&[(1, 5_000), (2, 5_000)], Some(130.0));
    assert_eq!(against(&seen, &plan, 1, &Ask::default()), ["redundancy?"]);
    seen.announced = vec![Announced { starts_in_ms: 11_000, ..sale }];
    assert_eq!(against(&seen, &plan, 1, &Ask::default()), [""; 0]);
}

#[test]
fn a_service_in_trouble_is_not_hurt_further() {
    let ask = Ask::default();
    let good = plan(&[(1, 5_000), (2, 5_000)], Some(1_000.0));
    let mut one_down = seen(vec![primary(1), primary(2), primary(3)]);
    one_down.instances[2].health = Health::Down("refused".to_owned());
    assert_eq!(against(&one_down, &good, 1, &ask), ["failover!"]);
    let alone = plan(&[(1, 10_000), (2, 0)], Some(1_000.0));
    assert_eq!(against(&seen(vec![primary(1), primary(2)]), &alone, 1, &ask), ["no_redundancy!"]);
    let mut short = good.clone();
    let alert = json!([{ "kind": "shortage", "text": "2 more are wanted" }]);
    short.alerts = serde_json::from_value(alert).unwrap();
    let both = seen(vec![primary(1), primary(2)]);
    assert_eq!(against(&both, &short, 1, &ask), ["shortage!"]);
    let alert = json!([{ "kind": "reserve_short", "text": "1 more is wanted" }]);
    short.alerts = serde_json::from_value(alert).unwrap();
    assert_eq!(against(&both, &short, 1, &ask), ["reserve?"], "what is demanded is carried");
    let held = Scene { seen: &both, plan: &good, is_held: true };
    assert_eq!(objections(&held, InstanceId(1), &ask)[0].what, "kill_switch");
    let drains = seen(vec![primary(1), primary(2), shadow(3, Tier::Draining)]);
    assert_eq!(against(&drains, &good, 1, &ask), ["rollback?"]);
}

#[test]
fn what_nobody_would_replace_is_not_killed() {
    let all = seen(vec![primary(1), shadow(2, Tier::Serving)]);
    let mut watching = plan(&[(1, 5_000), (2, 5_000)], Some(1_000.0));
    watching.act = false;
    assert_eq!(against(&all, &watching, 2, &Ask::default()), ["mode!"]);
    assert_eq!(against(&all, &watching, 1, &Ask::default()), ["mode?"]);
    let hang = Ask { fault: FaultKind::Hang, ..Ask::default() };
    assert_eq!(against(&all, &watching, 2, &hang), ["mode?"]);
}

#[test]
fn one_that_waits_can_be_killed_and_no_more() {
    let all = seen(vec![primary(1), shadow(2, Tier::Warm), shadow(3, Tier::Cold)]);
    let plan = plan(&[(1, 10_000), (2, 0)], Some(1.0));
    assert_eq!(against(&all, &plan, 2, &Ask::default()), [""; 0]);
    let hang = Ask { fault: FaultKind::Hang, ..Ask::default() };
    assert_eq!(against(&all, &plan, 2, &hang), ["idle!"]);
    assert_eq!(against(&all, &plan, 3, &Ask::default()), ["idle!"]);
    assert_eq!(against(&all, &plan, 9, &Ask::default()), ["unknown_instance!"]);
}

#[test]
fn shadows_go_before_primaries_and_small_before_large() {
    let all = seen(vec![primary(1), shadow(2, Tier::Serving), shadow(3, Tier::Serving)]);
    let chosen = |weights: &[(u64, u32)]| {
        let plan = plan(weights, None);
        Scene { seen: &all, plan: &plan, is_held: false }.choose().map(|id| id.0)
    };
    assert_eq!(chosen(&[(1, 10), (2, 6_000), (3, 3_990)]), Some(3));
    assert_eq!(chosen(&[(1, 10_000), (2, 0), (3, 0)]), Some(1));
    assert_eq!(chosen(&[]), None);
}

/// Ticks of 100 ms from a fault at 1,000 ms.
struct Play {
    follower: Follower,
    times: Times,
    at_ms: u64,
}

impl Play {
    fn tick(&mut self, all: Vec<InstanceObservation>, weights: &[(u64, u32)]) {
        self.at_ms += 100;
        let (seen, plan) = (seen(all), plan(weights, None));
        let scene = Scene { seen: &seen, plan: &plan, is_held: false };
        self.follower.see(&scene, self.at_ms, &mut self.times);
    }
}

#[test]
fn a_killed_shadow_is_followed_until_as_many_are_there_again() {
    let before = seen(vec![primary(1), shadow(2, Tier::Serving), shadow(3, Tier::Warm)]);
    let weights = plan(&[(1, 5_000), (2, 5_000), (3, 0)], None);
    let scene = Scene { seen: &before, plan: &weights, is_held: false };
    let follower = Follower::new(&scene, InstanceId(2), true, 1_000);
    let times = Times { over_ms: Some(0), ..Times::default() };
    let mut play = Play { follower, times, at_ms: 1_000 };
    play.tick(vec![primary(1), shadow(2, Tier::Serving)], &[(1, 5_000), (2, 5_000)]);
    assert_eq!(play.times.weight_zero_ms, None);
    let mut busy = primary(1);
    (busy.meters.requests, busy.meters.ok, busy.meters.retries) = (9, 9, 1);
    play.tick(vec![busy.clone(), shadow(3, Tier::Warm)], &[(1, 10_000), (3, 0)]);
    assert_eq!(
        (play.times.weight_zero_ms, play.times.carried_elsewhere_ms),
        (Some(200), Some(200))
    );
    play.tick(vec![busy.clone(), shadow(3, Tier::Serving)], &[(1, 5_000), (3, 5_000)]);
    assert_eq!((play.times.replaced_ms, play.times.replaced_by), (Some(300), Some(InstanceId(3))));
    assert_eq!((play.times.recreated_ms, play.times.normal_ms), (None, None));
    let whole = [busy, shadow(3, Tier::Serving), shadow(4, Tier::Shadow)];
    for _ in 0..10 {
        assert!(!play.follower.is_settled(&play.times));
        play.tick(whole.to_vec(), &[(1, 5_000), (3, 5_000), (4, 0)]);
    }
    assert!(play.follower.is_settled(&play.times));
    assert_eq!((play.times.recreated_ms, play.times.normal_ms), (Some(400), Some(400)));
}

#[test]
fn one_that_comes_back_and_fails_again_is_not_as_before() {
    let before = seen(vec![primary(1), primary(2)]);
    let even = [(1, 5_000), (2, 5_000)];
    let weights = plan(&even, None);
    let scene = Scene { seen: &before, plan: &weights, is_held: false };
    let follower = Follower::new(&scene, InstanceId(2), false, 1_000);
    let mut play = Play { follower, times: Times::default(), at_ms: 1_000 };
    play.tick(vec![primary(1), primary(2)], &even);
    assert_eq!(play.times.normal_ms, None, "the fault is not over");
    play.times.over_ms = Some(150);
    play.tick(vec![primary(1), primary(2)], &even);
    assert_eq!(play.times.normal_ms, Some(200));
    let mut down = primary(2);
    down.health = Health::Ejected;
    play.tick(vec![primary(1), down.clone()], &even);
    assert_eq!(play.times.normal_ms, None);
    assert_eq!(play.follower.other_failed(&scene), None, "the victim is no other");
    let mut both = before.clone();
    both.instances[0].health = Health::Down("gone".to_owned());
    let worse = Scene { seen: &both, plan: &weights, is_held: false };
    assert_eq!(play.follower.other_failed(&worse), Some(InstanceId(1)));
}

#[test]
fn the_health_check_says_how_long_an_end_may_go_unseen() {
    let text = "listeners: [{ address: 127.0.0.1:1, routes: [{ service: shop }] }]\n\
                services: { shop: { primaries: [127.0.0.1:2], \
                health: { path: /, interval: 1s, timeout: 500ms, fall: 2 } } }";
    let format = foreshadow_config::Format::Yaml;
    let config = foreshadow_config::parse(text, format, "test", &|_| None).unwrap();
    let health = &config.services["shop"].health;
    assert_eq!(super::goals::detection_ms(health), 2 * (1_100 + 500) + 1_000);
    assert_eq!(health.interval, Duration::from_secs(1));
}
